"""Requests of the data plane to one bucket: where they go, and whose signature they carry. Sends nothing."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Self
from urllib.parse import urlsplit

import trio

from storage.blocking import Pool
from storage.s3.settings import S3Settings
from storage.transfer.origin import Origin
from storage.transfer.signing import UNSIGNED_PAYLOAD, Credentials, Pairs, Signer, target_of

# botocore refreshes what expires 10 to 15 minutes before, so what it gave is good for longer than this.
_KEPT_S: Final = 60.0


class KeptCredentials:
    """The credentials of now, kept for 60 s: asking their source takes a thread and may take the network."""

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
    """How a bucket is reached; `path` is plain text, empty or from a slash on, and ends before the slash of the key."""

    origin: Origin
    path: str

    @classmethod
    def of(cls, endpoint_url: str, settings: S3Settings) -> Self:
        """The bucket at an endpoint, in its own host or below its own path; ValueError for what is no address."""
        parts = urlsplit(endpoint_url)
        origin = Origin.parse(f"{parts.scheme}://{parts.netloc}")
        path = parts.path.rstrip("/")
        if parts.query or parts.fragment:
            raise ValueError(f"malformed endpoint {endpoint_url[:80]!r}: expected http(s)://host[:port]")
        if settings.addressing == "virtual":
            return cls(replace(origin, host=f"{settings.bucket}.{origin.host}"), path)
        return cls(origin, f"{path}/{settings.bucket}")

    def path_of(self, key: str) -> str:
        """The path of an object, plain text."""
        return f"{self.path}/{key}"


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
        headers = self._signer.headers(
            credentials,
            method,
            self._address.origin.authority,
            path,
            query,
            sha256=sha256 or UNSIGNED_PAYLOAD,
            extra=extra,
        )
        return Request(method, self._address.origin, target_of(path, query), headers)

    async def presigned(self, key: str, *, expires_s: int, endpoint_url: str | None = None) -> str:
        """An address for GET at this endpoint, by default the bucket's own."""
        address = self._address if endpoint_url is None else Address.of(endpoint_url, self._settings)
        credentials = await self._credentials.now()
        return self._signer.presign(credentials, "GET", address.origin, address.path_of(key), expires_s=expires_s)

    def forget_credentials(self) -> None:
        """See `KeptCredentials.forget`."""
        self._credentials.forget()
