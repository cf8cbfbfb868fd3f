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


def test_the_same_credential_is_known_again() -> None:
    """Wherever it is stored; another name, secret or secret key makes another fingerprint, which shows neither."""

    def stored(by: UpstreamCredentials, username: str, secret: str, place: int = 0) -> str:
        return by.open(by.seal(Credential(username, secret), 7, place), 7, place).fingerprint

    known = stored(OURS, "ci", SECRET)
    others = {
        stored(OURS, "ci", "wrong"),
        stored(OURS, "c", f"i{SECRET}"),
        stored(OURS, "", SECRET),
        stored(UpstreamCredentials(Sealer(b"x" * 32)), "ci", SECRET),
    }

    assert known == stored(OURS, "ci", SECRET, place=3)
    assert len(others) == 4
    assert known not in others
    assert len(known) == 32
    assert known not in repr(OURS.open(OURS.seal(Credential("ci", SECRET), 7, 0), 7, 0))


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
