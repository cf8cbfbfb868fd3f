"""Requests of the data plane to one bucket: where they go, and whose signature they carry. Sends nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import quote, urlsplit

import trio

from storage.blocking import Pool
from storage.s3_settings import S3Settings
from storage.transfer.client import Origin
from storage.transfer.signing import Credentials, Signer

# botocore refreshes what expires 10 to 15 minutes before, so what it gave is good for longer than this.
_KEPT_S: Final = 60.0

Pairs = Sequence[tuple[str, str]]


class KeptCredentials:
    """The credentials of now. Asking their source takes a thread and may take the network, so they are kept for 60 s."""

    def __init__(self, fetch: Callable[[], Credentials], *, pool: Pool) -> None:
        self._fetch = fetch
        self._pool = pool
        self._kept: Credentials | None = None
        self._good_until = 0.0
        self._one_at_a_time = trio.Lock()

    async def now(self) -> Credentials:
        """Credentials that are good for some minutes; raises `Unreached` when their source gives none."""
        if self._kept is not None and trio.current_time() < self._good_until:
            return self._kept
        async with self._one_at_a_time:  # held while fetching, so that a hundred requests ask the source once
            if self._kept is None or trio.current_time() >= self._good_until:
                self._kept = await self._pool.run(self._fetch)
                self._good_until = trio.current_time() + _KEPT_S
            return self._kept

    def forget(self) -> None:
        """Fetch anew next time: the store said that these have expired."""
        self._good_until = 0.0


@dataclass(frozen=True, slots=True)
class Address:
    """How a bucket is reached: `path` is encoded, begins with a slash and ends before the key's slash."""

    origin: Origin
    path: str

    @classmethod
    def of(cls, endpoint_url: str, settings: S3Settings) -> Self:
        """The bucket at an endpoint, in its own host or below its own path; ValueError for what is no address."""
        parts = urlsplit(endpoint_url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.username:
            raise ValueError(f"malformed endpoint {endpoint_url[:80]!r}: expected http(s)://host[:port]")
        path = quote(parts.path.rstrip("/"), safe="/-._~")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        if settings.addressing == "virtual":
            return cls(Origin(parts.scheme, f"{settings.bucket}.{parts.hostname}", port), path)
        return cls(Origin(parts.scheme, parts.hostname, port), f"{path}/{settings.bucket}")

    def path_of(self, key: str) -> str:
        """The encoded path of an object (RFC 3986: all but unreserved characters and slashes; SigV4 wants the same)."""
        return f"{self.path}/{quote(key, safe='/-._~')}"

    @property
    def host(self) -> str:
        """The Host header."""
        host = f"[{self.origin.host}]" if ":" in self.origin.host else self.origin.host
        return (
            host if self.origin.port == {"http": 80, "https": 443}[self.origin.scheme] else f"{host}:{self.origin.port}"
        )


@dataclass(frozen=True, slots=True)
class Request:
    """What goes on the wire, but the body."""

    method: str
    origin: Origin
    target: str
    headers: list[tuple[str, str]]


class Requests:
    """Makes signed requests for the objects of one bucket."""

    def __init__(self, settings: S3Settings, *, endpoint_url: str, credentials: KeptCredentials) -> None:
        self._settings = settings
        self._endpoint_url = endpoint_url
        self._address = Address.of(endpoint_url, settings)
        self._credentials = credentials
        self._signer = Signer(settings.region)

    async def signed(
        self, method: str, key: str, query: Pairs = (), *, sha256: str | None = None, extra: Pairs = ()
    ) -> Request:
        """A request for an object; `sha256` (hex) of the body is signed if given, else the body is not."""
        path = self._address.path_of(key)
        credentials = await self._credentials.now()
        payload = {} if sha256 is None else {"sha256": sha256}
        headers = self._signer.headers(credentials, method, self._address.host, path, query, **payload, extra=extra)
        return Request(method, self._address.origin, _target(path, query), headers)

    async def presigned(self, key: str, *, expires_s: int, endpoint_url: str | None = None) -> str:
        """An address for GET at this endpoint, by default the bucket's own."""
        address = self._address if endpoint_url is None else Address.of(endpoint_url, self._settings)
        credentials = await self._credentials.now()
        return self._signer.presign(credentials, "GET", address.origin, address.path_of(key), expires_s=expires_s)

    def forget_credentials(self) -> None:
        """See `KeptCredentials.forget`."""
        self._credentials.forget()


def _target(path: str, query: Pairs) -> str:
    if not query:
        return path
    return path + "?" + "&".join(f"{quote(name, safe='-._~')}={quote(value, safe='-._~')}" for name, value in query)
