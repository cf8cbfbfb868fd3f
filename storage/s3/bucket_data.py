"""The data plane: GET, HEAD, PUT and UploadPart by our own client, signed here. See `bucket_objects.DataPlane`.

Measured (docs/decisions/0011, 0012): a small object costs a fifth of what it costs by boto3, and a transfer holds one
chunk and no thread.
"""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import Final, Self

from storage.blobstore import Span
from storage.s3.bucket_objects import Download, ObjectInfo, UploadPart, range_of, total_of, unquoted
from storage.s3.failures import ERROR_BODY_BYTES, Refused, Trouble, Unreached, parse_refusal
from storage.s3.requests import Request, Requests
from storage.transfer.client import Client
from storage.transfer.errors import ConnectFailed, TooLarge, TransferError
from storage.transfer.payload import Payload
from storage.transfer.response import Response

_OK: Final = 200
_PARTIAL: Final = 206
_NOT_FOUND: Final = 404


class OwnPlane:
    """See the module docstring. Owns its client; for one event loop."""

    verifies = True

    def __init__(self, requests: Requests, *, client: Client) -> None:
        self._requests = requests
        self._client = client

    async def aclose(self) -> None:
        """Close idle connections."""
        await self._client.aclose()

    async def put(
        self,
        key: str,
        payload: Payload,
        *,
        part: UploadPart | None = None,
        sha256: str | None = None,
        if_absent: bool = False,
    ) -> str:
        """See `DataPlane.put`."""
        query = [] if part is None else [("partNumber", str(part.number)), ("uploadId", part.upload_id)]
        extra = [("if-none-match", "*")] if if_absent else []
        request = await self._requests.signed("PUT", key, query, sha256=sha256, extra=extra)
        async with self._answer(request, payload) as response:
            await response.read(ERROR_BODY_BYTES)
            return unquoted(response.header("etag"))

    @asynccontextmanager
    async def get(self, key: str, span: Span | None) -> AsyncIterator[Download]:
        """See `DataPlane.get`; leaving it before the end closes the connection at once."""
        extra = [] if span is None else [("range", range_of(span))]
        request = await self._requests.signed("GET", key, extra=extra)
        async with self._answer(request) as response:
            yield _download(response, span)

    async def head(self, key: str) -> ObjectInfo:
        """See `DataPlane.head`. The answer to HEAD has no body that says what is absent, so GET is asked then."""
        request = await self._requests.signed("HEAD", key)
        try:
            async with self._answer(request) as response:
                return _info(key, response, _number(response.header("content-length")))
        except Refused as refused:
            if refused.status != _NOT_FOUND:
                raise
        async with self._answer(await self._requests.signed("GET", key)) as response:
            return _info(key, response, response.size_bytes)

    @asynccontextmanager
    async def _answer(self, request: Request, payload: Payload = b"") -> AsyncIterator[Response]:
        """The answer, if it is a success; anything else is raised as `Trouble`."""
        try:
            async with self._client.request(
                request.method, request.origin, request.target, request.headers, payload
            ) as response:
                if response.status not in {_OK, _PARTIAL}:
                    raise await self._refusal(response)
                yield response
        except TransferError as error:
            raise trouble_of(error) from error

    async def _refusal(self, response: Response) -> Refused:
        try:
            body = await response.read(ERROR_BODY_BYTES)
        except TooLarge:
            body = b""
        refused = parse_refusal(response.status, body, region=response.header("x-amz-bucket-region"))
        if refused.has_old_credentials:
            self._requests.forget_credentials()
        return refused


class _Chunks:
    """The body of an answer, with the client's errors in our words."""

    __slots__ = ("_chunks",)

    def __init__(self, response: Response) -> None:
        self._chunks = response.chunks()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._chunks)
        except TransferError as error:
            raise trouble_of(error) from error


def trouble_of(error: TransferError) -> Trouble:
    """What an error of the client means to who may ask again."""
    return Unreached(str(error), passes=error.retryable, nothing_sent=isinstance(error, ConnectFailed))


def _download(response: Response, span: Span | None) -> Download:
    size_bytes = response.size_bytes
    if size_bytes is None:
        raise Unreached("the store does not say how long its answer is")
    total = total_of(response.header("content-range")) if response.status == _PARTIAL else size_bytes
    if total is None or (span is not None and response.status != _PARTIAL and span != Span(0, size_bytes)):
        raise Unreached("the store answers a range with something else; it is none that Sluice can use", passes=False)
    return Download(_Chunks(response), size_bytes=size_bytes, total_bytes=total, etag=unquoted(response.header("etag")))


def _info(key: str, response: Response, size_bytes: int | None) -> ObjectInfo:
    if size_bytes is None:
        raise Unreached(f"the store does not say how long {key} is")
    try:
        modified_at = int(parsedate_to_datetime(response.header("last-modified")).timestamp())
    except ValueError as error:
        raise Unreached(f"the store does not say when {key} was written") from error
    return ObjectInfo(key, size_bytes, unquoted(response.header("etag")), modified_at)


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None  # noqa: PLR2004 - 2**63 has 19


def own_client(ca_file: str | None, *, connections: int) -> Client:
    """A client that trusts what is in the PEM file, or what the system trusts. Reads files: call it in a pool."""
    return Client(tls=ssl.create_default_context(cafile=ca_file), connections=connections)
