"""Any registry that runs already, known by its URL: loaded, but not started, looked into or stopped."""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from bench.contenders.contender import ContenderFailed, Endpoint, Server, Start, Trait
from bench.contenders.setup import TokenRealm, ask, put_blob, put_manifest
from bench.content import Blob, Document


@dataclass(frozen=True, slots=True)
class Url:
    """A registry at `url` (`http://HOST:PORT` or `https://...`), with a user who may push below `prefix`."""

    url: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    name: str = "url"
    prefix: str = "bench/load"
    certificate: Path | None = None
    """PEM to trust instead of the system's, with https."""

    @property
    def traits(self) -> frozenset[Trait]:
        """All that a registry does; cases with TLS are none of it, since it speaks what it speaks."""
        return frozenset({Trait.PUSH, Trait.TOKENS, Trait.LISTS})

    def missing(self) -> str | None:
        """Nothing is started, so nothing is missing."""
        return None

    def start(self, how: Start) -> Server:
        """Look whether it answers."""
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ContenderFailed(f"{self.url} is not http://HOST:PORT or https://HOST:PORT")
        secure = parts.scheme == "https"
        if how.setting.tls and not secure:
            raise ContenderFailed(f"{self.url} does not speak TLS")
        certificate = (self.certificate or _system_certificates()) if secure else None
        endpoint = Endpoint(parts.hostname, parts.port or (443 if secure else 80), certificate, parts.netloc)
        try:
            answer = ask(endpoint, "GET", "/v2/")
        except OSError as error:
            raise ContenderFailed(f"{self.url} does not answer: {error}") from error
        if answer.status not in {200, 401}:
            raise ContenderFailed(f"{self.url}/v2/ answers {answer.status}; a registry says 200 or 401")
        return UrlServer(endpoint, self)


class UrlServer:
    """A registry that runs elsewhere."""

    def __init__(self, endpoint: Endpoint, recipe: Url) -> None:
        self.endpoint = endpoint
        self.processes = None
        self._recipe = recipe

    @property
    def version(self) -> str:
        """Where it is; registries do not tell what they are."""
        return self._recipe.url

    def name(self, image: str) -> str:
        """Below the prefix."""
        return f"{self._recipe.prefix}/{image}"

    def authorization(self, *names: str, push: bool = False) -> str | None:
        """What its challenge asks for."""
        return TokenRealm(self.endpoint, self._recipe.user, self._recipe.password).authorization(names, push=push)

    def put_blob(self, name: str, blob: Blob) -> None:
        """Push it."""
        put_blob(self.endpoint, name, blob, self.authorization(name, push=True))

    def put_manifest(self, name: str, manifest: Document, *tags: str) -> None:
        """Push it."""
        put_manifest(self.endpoint, name, manifest, [manifest.digest, *tags], self.authorization(name, push=True))

    def files_of(self, blob: Blob) -> Sequence[Path]:  # noqa: ARG002 - its files are not ours to see
        """Nobody knows."""
        return []

    def stop(self) -> None:
        """Nothing: it is not ours."""


def _system_certificates() -> Path:
    return Path(ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt")
