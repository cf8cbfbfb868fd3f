"""What one S3 service can do beyond the least, found out by trying.

Written by `Bucket.open`, read by who could use an ability. Knows nothing of how requests are made.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Abilities:
    """What was probed; all False before. `notes` say what is missing and what that costs, one per line of a log."""

    conditional_put: bool = False
    verifies_sha256: bool = False
    lifecycle: bool = False
    batch_delete: bool = False
    notes: tuple[str, ...] = ()
