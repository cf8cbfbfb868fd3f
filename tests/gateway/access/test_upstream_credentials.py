"""Credentials for other registries: sealed for one row, opened there and nowhere else."""

import pytest

from gateway.access.sealing import Sealer
from gateway.access.upstream_credentials import UpstreamCredentials
from gateway.upstream.http import Credential
from storage import Unavailable

OURS = UpstreamCredentials(Sealer(bytes(32)))
SECRET = "hush-hush"


def test_a_credential_opens_in_its_place() -> None:
    """With its name and its secret, which do not stand in what is stored."""
    sealed = OURS.seal(Credential("ci", SECRET), 7, 1)

    assert OURS.open(sealed, 7, 1) == Credential("ci", SECRET)
    assert SECRET.encode() not in sealed


@pytest.mark.parametrize(("repository_id", "position"), [(8, 1), (7, 0), (71, 0)])
def test_a_credential_opens_nowhere_else(repository_id: int, position: int) -> None:
    """A row that was copied to another repository is trouble, and the message has no secret."""
    sealed = OURS.seal(Credential("ci", SECRET), 7, 1)

    with pytest.raises(Unavailable, match="enter it again") as caught:
        OURS.open(sealed, repository_id, position)
    assert SECRET not in str(caught.value)


def test_another_secret_key_opens_nothing() -> None:
    """It is said what to do."""
    sealed = UpstreamCredentials(Sealer(b"x" * 32)).seal(Credential("ci", SECRET), 7, 1)

    with pytest.raises(Unavailable, match="another secret key"):
        OURS.open(sealed, 7, 1)
