"""What an operator says about one bucket: plain values, checked for what would otherwise fail late and obscurely.

Knows no configuration file and no S3. Secrets are never part of a representation.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

MIB: Final = 1 << 20
LEAST_PART_BYTES: Final = 5 * MIB  # what every S3 demands of each part but the last
_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")  # wider than AWS's rule: Ceph allows more
_PREFIX: Final = re.compile(r"[A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+)*/?")
_MOST_PREFIX_CHARACTERS: Final = 512  # a key has at most 1024 bytes; ours take fewer than 200


@dataclass(frozen=True, slots=True)
class S3Settings:
    """One bucket, the part of it below `prefix`, and how to speak to it. ValueError for what cannot work.

    `endpoint_url` None means AWS in `region`. Without `access_key_id`, credentials come from where AWS's tools find
    them: environment, `profile`, web identity, container or instance role. `public_endpoint_url` is what clients see
    in presigned addresses. `ca_file` (PEM) replaces the system's certificates.
    """

    bucket: str
    prefix: str = ""
    endpoint_url: str | None = None
    region: str = "us-east-1"
    addressing: Literal["path", "virtual"] = "path"
    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    profile: str | None = None
    ca_file: Path | None = None
    data_plane: Literal["own", "boto3"] = "own"  # boto3: up to twice the CPU, for what our client cannot speak to
    part_bytes: int = 8 * MIB
    parts_in_flight: int = 4
    parallel_get: int = 1  # more helps only where the store limits each connection; see docs/decisions/0012
    parallel_range_bytes: int = 4 * MIB
    window_bytes: int = 8 * MIB
    public_endpoint_url: str | None = None
    redirect_lifetime_s: int = 60
    lifecycle_days: int = 7
    connections: int = 64

    def __post_init__(self) -> None:
        if not _BUCKET.fullmatch(self.bucket):
            raise ValueError(f"malformed bucket name {self.bucket[:80]!r}")
        if self.prefix and (len(self.prefix) > _MOST_PREFIX_CHARACTERS or not _PREFIX.fullmatch(self.prefix)):
            raise ValueError(f"malformed prefix {self.prefix[:80]!r}: expected words of [A-Za-z0-9._-] between slashes")
        if any(part in {".", ".."} for part in self.prefix.split("/")):
            raise ValueError(f"malformed prefix {self.prefix[:80]!r}: '.' and '..' are no words")
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ValueError("access_key_id and secret_access_key belong together: give both or none")
        self._check_sizes()

    def _check_sizes(self) -> None:
        if self.part_bytes < LEAST_PART_BYTES:
            raise ValueError(f"part_bytes is {self.part_bytes}: S3 takes no parts below {LEAST_PART_BYTES}")
        for name in ("parts_in_flight", "parallel_get", "lifecycle_days", "connections", "redirect_lifetime_s"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: at least 1")
        for name in ("parallel_range_bytes", "window_bytes"):
            if getattr(self, name) < MIB:
                raise ValueError(f"{name} is {getattr(self, name)}: at least {MIB}, or requests outweigh bytes")

    @property
    def root(self) -> str:
        """What every key begins with: empty, or the prefix with one slash at its end."""
        return f"{self.prefix.rstrip('/')}/" if self.prefix else ""
