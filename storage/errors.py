"""Everything that storage can raise. Each class says whether the same call may succeed later.

Says *what* happened and to which object; the HTTP status is decided in `gateway.edge.failures`.
Never raise `NotFound` for trouble: only the store's own "no such object" may become it.
"""


class StorageError(Exception):
    """Root of the family. `retryable`: the same call may succeed later without anybody changing the request."""

    retryable = False


class Unavailable(StorageError):
    """The database or the store did not answer as it should (I/O error, lock, lost connection)."""

    retryable = True


class StorageFull(StorageError):
    """No space left (disk, quota of the file system, database file). Nothing was acknowledged or damaged."""

    retryable = True


class Busy(StorageError):
    """Somebody else holds what can be held once: a staging area, a lease. Retry after they are done."""

    retryable = True


class NotFound(StorageError):
    """The object does not exist, as the store or database itself said."""


class BlobUnknown(NotFound):
    """No such stored object."""


class UploadUnknown(NotFound):
    """No such upload session: never begun, finished, cancelled or expired."""


class Conflict(StorageError):
    """A row with this name exists already, or a referenced row does not; the message names it."""


class DigestMismatch(StorageError):
    """The bytes have another digest than the one claimed; nothing was published."""

    def __init__(self, *, claimed: str, actual: str) -> None:
        super().__init__(f"content has digest {actual}, not {claimed}")
        self.claimed = claimed
        self.actual = actual


class Damaged(StorageError):
    """Stored bytes are not what their row says (size or digest). Needs an operator: `sluice fsck`."""
