"""Two gateways that are attacked all the time, one plain with two workers and one inside TLS, and two impatient ones.

Each is started once, and shown to be unshaken when everything is over.
"""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

from tests.security.wire.fortress import Fortress, impatient

PATIENT_S = 5.0
"""Waiting time of the gateways that are attacked by bytes: below the 10 s that nothing may take."""
ONE = ("--workers", "1")
IMPATIENT_S = 1.0
"""Waiting time of those that are attacked by slowness."""


@pytest.fixture(params=["plain", "tls"])
def door(request: pytest.FixtureRequest) -> str:
    """Whether the attack comes as it is or inside TLS."""
    return str(request.param)


@pytest.fixture
def fortress(door: str, request: pytest.FixtureRequest) -> Iterator[Fortress]:
    """The patient gateway behind that door; it must stand after each test."""
    fortress: Fortress = request.getfixturevalue(f"{door}_fortress")
    yield fortress
    fortress.assert_stands()


@pytest.fixture
def impatient_fortress(door: str, request: pytest.FixtureRequest) -> Iterator[Fortress]:
    """The impatient gateway behind that door; it must stand after each test."""
    fortress: Fortress = request.getfixturevalue(f"{door}_impatient")
    yield fortress
    fortress.assert_stands()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], ssl.SSLContext]:
    """A certificate as settings, and a client's context that trusts it."""
    folder = tmp_path_factory.mktemp("certificate")
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    chain, key = folder / "chain.pem", folder / "key.pem"
    issued.private_key_pem.write_to_path(key)
    for number, blob in enumerate(issued.cert_chain_pems):
        blob.write_to_path(chain, append=number > 0)
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    return {"SLUICE_SERVER__TLS_CERTIFICATE": str(chain), "SLUICE_SERVER__TLS_KEY": str(key)}, trust


@contextmanager
def attacked(fortress: Fortress) -> Iterator[Fortress]:
    """Start a gateway; at the end it must be unshaken and stop well."""
    with fortress:
        fortress.settle()
        yield fortress
        fortress.assert_unshaken()
        assert fortress.stop() == 0


@pytest.fixture(scope="session")
def plain_fortress(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fortress]:
    """A plain port, two workers."""
    folder = tmp_path_factory.mktemp("plain")
    with attacked(Fortress(folder, environment=impatient(PATIENT_S), arguments=("--workers", "2"))) as fortress:
        yield fortress


@pytest.fixture(scope="session")
def tls_fortress(
    tmp_path_factory: pytest.TempPathFactory, certificate: tuple[dict[str, str], ssl.SSLContext]
) -> Iterator[Fortress]:
    """A port with TLS, one worker."""
    with attacked(_encrypted(tmp_path_factory.mktemp("tls"), certificate, seconds=PATIENT_S)) as fortress:
        yield fortress


@pytest.fixture(scope="session")
def plain_impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fortress]:
    """A plain port, one worker, short timeouts."""
    with attacked(
        Fortress(tmp_path_factory.mktemp("hurry"), environment=impatient(IMPATIENT_S), arguments=ONE)
    ) as fortress:
        yield fortress


@pytest.fixture(scope="session")
def tls_impatient(
    tmp_path_factory: pytest.TempPathFactory, certificate: tuple[dict[str, str], ssl.SSLContext]
) -> Iterator[Fortress]:
    """A port with TLS, one worker, short timeouts."""
    with attacked(_encrypted(tmp_path_factory.mktemp("tls-hurry"), certificate, seconds=IMPATIENT_S)) as fortress:
        yield fortress


@pytest.fixture
def harbour(door: str, tmp_path: Path, certificate: tuple[dict[str, str], ssl.SSLContext]) -> Iterator[Fortress]:
    """A gateway of one worker for one test, behind that door; it must stand at the end and stop well."""
    plain = Fortress(tmp_path, environment=impatient(PATIENT_S), arguments=ONE)
    with plain if door == "plain" else _encrypted(tmp_path, certificate, seconds=PATIENT_S) as fortress:
        fortress.settle()
        yield fortress
        fortress.assert_stands()
        assert fortress.complaints() == []
        assert fortress.stop() == 0


def _encrypted(folder: Path, certificate: tuple[dict[str, str], ssl.SSLContext], *, seconds: float) -> Fortress:
    files, trust = certificate
    return Fortress(folder, environment={**impatient(seconds), **files}, arguments=ONE, trust=trust)
