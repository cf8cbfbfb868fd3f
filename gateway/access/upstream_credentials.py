"""What we log in with at other registries, on its way into a row and out of it: sealed for its very place."""

import json
from typing import Final

from gateway.access.sealing import SealBroken, Sealer
from gateway.upstream.http import Credential
from storage import Unavailable

_COLUMN: Final = "upstream_credentials.sealed"


class UpstreamCredentials:
    """Seals and opens them with the installation's key. Immutable; safe for any number of tasks and threads."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def seal(self, credential: Credential, repository_id: int, position: int) -> bytes:
        """The bytes for the row of that repository and position; they open nowhere else."""
        value = json.dumps({"username": credential.username, "secret": credential.secret}).encode()
        return self._sealer.seal(value, column=_COLUMN, row=_row(repository_id, position))

    def open(self, sealed: bytes, repository_id: int, position: int) -> Credential:
        """What was sealed for that place. Raises `Unavailable`, without the value, if it cannot be opened."""
        try:
            value = json.loads(self._sealer.open(sealed, column=_COLUMN, row=_row(repository_id, position)))
            username, secret = value["username"], value["secret"]
            whole = json.dumps(["upstream credential", username, secret]).encode()
            return Credential(username, secret, self._sealer.fingerprint(whole))
        except (SealBroken, ValueError, KeyError) as error:
            raise Unavailable(
                f"a credential of repository {repository_id} for its upstream does not open: enter it again ({error})"
            ) from None


def _row(repository_id: int, position: int) -> str:
    return f"{repository_id}/{position}"
