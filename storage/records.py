"""Frozen rows as the rest of Sluice sees them. No behaviour beyond what a row says of itself."""

from dataclasses import dataclass, field
from enum import StrEnum

from storage.blobstore import StoredObject
from storage.digest import Digest


@dataclass(frozen=True, slots=True)
class ProjectRecord:
    """A project: the first segment of a full image name."""

    id: int
    name: str
    description: str
    created_at: int


@dataclass(frozen=True, slots=True)
class RepositoryRecord:
    """A repository and its settings. `immutable_tags` are globs over tag names.

    `redirect_pulls`: clients may be sent to the store itself for its blobs, where the store and their network allow it.
    `settings`: the JSON object of what only some types have, as it is in the row; nothing in `storage` reads it.
    """

    id: int
    project_id: int
    project: str
    name: str
    description: str
    format: str
    repository_type: str
    storage_id: int
    storage: str
    flat_alias_prefix: str | None
    is_catch_all: bool
    anonymous_read: bool
    immutable_tags: tuple[str, ...]
    created_at: int
    updated_at: int
    redirect_pulls: bool = False
    settings: str = "{}"

    @property
    def full_name(self) -> str:
        """Project and repository, as the first two segments of an image's full name."""
        return f"{self.project}/{self.name}"


@dataclass(frozen=True, slots=True)
class Door:
    """By which address a request came in. What is None was not said, or means nothing here.

    `host`: in small letters, with its port unless that is the scheme's own. `repository`: `project/repository`, of a
    path that leads to one. `namespace`: the registry that the client wants a mirror of (containerd's `ns`).
    """

    host: str | None = None
    repository: str | None = None
    namespace: str | None = None


FRONT_DOOR = Door()
"""The way in to everything, by full names."""


class AddressKind(StrEnum):
    """What an address is. A host is the one or the other, of one repository."""

    HOST = "host"
    """Every name there is an image of the repository."""
    CATCH_ALL = "catch_all"
    """The repository has the names there that no other one serves."""
    NAMESPACE = "namespace"
    """The repository is a mirror of the registry of that name."""


@dataclass(frozen=True, slots=True)
class MemberRecord:
    """A member of a virtual repository. `include`, `exclude`: globs over image names; an empty `include` is all."""

    repository: RepositoryRecord
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    is_default: bool


@dataclass(frozen=True, slots=True)
class BudgetRecord:
    """What an upstream has said of how often it may be asked. Times are Unix seconds.

    `allowed` requests in `window_s` seconds, of which `remaining` were left at `observed_at`; not before `retry_at`.
    """

    name: str
    allowed: int | None
    remaining: int | None
    window_s: int | None
    observed_at: int
    retry_at: int | None


@dataclass(frozen=True, slots=True)
class CheckRecord:
    """When an upstream was last asked about a cached tag (Unix seconds), and the entity tag that it gave."""

    checked_at: int
    etag: str | None


@dataclass(frozen=True, slots=True)
class ColdManifest:
    """A manifest of a cache that no index there names. Times are Unix seconds; `pulled_at` None: never since it came.

    `used_at`: when it, or a manifest that it names, last came or was pulled.
    """

    manifest_id: int
    image_id: int
    image: str
    digest: Digest
    pushed_at: int
    pulled_at: int | None
    used_at: int


@dataclass(frozen=True, slots=True)
class WarmUpRecord:
    """How far a list of images is that is fetched ahead. `failures`: images and why they could not be fetched.

    `state`: running, done (some may have failed), stopped (its worker ended). Times are Unix seconds.
    """

    id: int
    repository_id: int
    state: str
    images: int
    images_done: int
    blobs: int
    fetched_bytes: int
    failures: tuple[tuple[str, str], ...]
    begun_at: int
    updated_at: int


@dataclass(frozen=True, slots=True)
class AccountRecord:
    """A user or robot. `epoch` is raised to end every token issued before; never carries the password hash."""

    id: int
    name: str
    kind: str
    description: str
    is_admin: bool
    is_auditor: bool
    is_enabled: bool
    epoch: int
    project_id: int | None
    expires_at: int | None
    created_at: int
    updated_at: int


@dataclass(frozen=True, slots=True)
class GrantRecord:
    """A role of one account on one project or one repository (exactly one of the two ids is set)."""

    id: int
    account_id: int
    project_id: int | None
    repository_id: int | None
    role: str
    created_at: int


@dataclass(frozen=True, slots=True)
class CredentialRecord:
    """A random secret's row, without the secret. `limits` is JSON that `gateway.access` reads."""

    id: int
    account_id: int
    kind: str
    label: str
    limits: str | None
    service: str | None
    parent_id: int | None
    created_at: int
    expires_at: int | None
    last_used_at: int | None


@dataclass(frozen=True, slots=True)
class SigningKeyRecord:
    """A token key, still sealed."""

    kid: str
    algorithm: str
    sealed_key: bytes
    created_at: int
    signs_from: int
    signs_until: int
    verifies_until: int


@dataclass(frozen=True, slots=True)
class BlobRecord:
    """One stored copy of one byte sequence in one storage."""

    id: int
    storage_id: int
    stored: StoredObject
    condemned_at: int | None
    damaged_at: int | None


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """An image name that holds at least one blob or manifest, or once did."""

    id: int
    repository_id: int
    name: str
    full_name: str


@dataclass(frozen=True, slots=True)
class UploadRecord:
    """An open upload session. `offset_bytes` and `digest_so_far` describe the end of the last finished request.

    `boot` names the machine's boot that wrote them: bytes that were not fsynced can differ after another one.
    """

    id: str
    repository_id: int
    image: str
    storage_id: int
    account_id: int
    algorithm: str
    offset_bytes: int
    digest_so_far: Digest | None
    boot: str
    created_at: int
    touched_at: int


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest as it was pushed: its exact bytes and the media type it was pushed with."""

    digest: Digest
    media_type: str
    content: bytes
    image_id: int | None = field(default=None, compare=False)
    """The image that it was found in; None for one on its way in."""

    @property
    def size_bytes(self) -> int:
        """Length of the manifest."""
        return len(self.content)


@dataclass(frozen=True, slots=True)
class ManifestRecord:
    """What is known of a stored manifest without reading its bytes. `annotations` is JSON or null."""

    id: int
    digest: Digest
    media_type: str
    artifact_type: str | None
    subject: Digest | None
    annotations: str | None
    size_bytes: int
    pushed_at: int
    deleted_at: int | None


@dataclass(frozen=True, slots=True)
class ReferenceRecord:
    """One thing a manifest needs. `role`: config, layer or child.

    `blob_id` is None for children and for foreign layers that were never pushed.
    """

    role: str
    digest: Digest
    size_bytes: int
    blob_id: int | None


@dataclass(frozen=True, slots=True)
class TagRecord:
    """A tag and what it points at."""

    name: str
    manifest_id: int
    digest: Digest
    created_at: int
    moved_at: int
    moved_by: int | None
    media_type: str
