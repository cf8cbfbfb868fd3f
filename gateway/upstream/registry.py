"""Another registry, as a repository works with it: its manifests, blobs, tags and referrers.

Everything that comes back was checked as far as it can be without knowing rows. Knows no repositories and keeps
nothing; what may be served without asking is decided in `gateway.repositories`.

All methods that ask raise `UpstreamError` (see `gateway.upstream.errors`): `UpstreamUnknown` only where the upstream
said so itself, `UpstreamBusy` also where our own budget there is spent. Several addresses are tried in turn; one that
is in trouble is left alone for a while, so failing takes no time then.
"""

from gateway.oci.names import Reference
from gateway.oci.referrers import Referrer
from gateway.upstream.answers import FetchedManifest, ManifestHead, NotModified, TagListing, UpstreamStatus
from gateway.upstream.settings import UpstreamSettings
from storage import Digest, Source


class UpstreamRegistry:
    """One upstream with its credentials. Made by `Upstreams.of`; safe for any number of tasks.

    `image` is always the name as the repository here has it.
    """

    settings: UpstreamSettings

    def upstream_name(self, image: str) -> str:
        """What the image is called there; for messages and for the patterns of the settings."""
        raise NotImplementedError

    def allows(self, image: str) -> bool:
        """Whether the settings let the upstream be asked for the image at all. To be asked first; nothing else does."""
        raise NotImplementedError

    def is_troubled(self) -> bool:
        """Whether the last question to every address was in vain: who has a copy need not wait for another try."""
        raise NotImplementedError

    async def head(self, image: str, reference: Reference, *, etag: str | None = None) -> ManifestHead | NotModified:
        """Look at a manifest without fetching it: free on Docker Hub."""
        raise NotImplementedError

    async def manifest(self, image: str, reference: Reference) -> FetchedManifest:
        """Fetch a manifest: a counted pull."""
        raise NotImplementedError

    async def blob_size(self, image: str, digest: Digest) -> int:
        """How large the upstream says the blob is, in bytes."""
        raise NotImplementedError

    def blob(self, image: str, digest: Digest, size_bytes: int) -> Source:
        """The blob, to be read (and resumed) from the upstream; asks for nothing yet."""
        raise NotImplementedError

    async def tags(self, image: str) -> TagListing:
        """All tags there."""
        raise NotImplementedError

    async def referrers(self, image: str, subject: Digest) -> list[Referrer]:
        """What refers to `subject` there."""
        raise NotImplementedError

    def status(self) -> UpstreamStatus:
        """A snapshot for the API and metrics."""
        raise NotImplementedError
