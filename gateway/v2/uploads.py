"""Upload sessions: POST, PATCH, PUT, GET and DELETE (rows UP and MT). One file, because it is one machine.

| state     | POST                     | PATCH            | PUT ?digest=          | GET | DELETE    |
|-----------|--------------------------|------------------|-----------------------|-----|-----------|
| (none)    | open 202, mounted 201    | 404              | 404                   | 404 | 404       |
| open      |                          | append, 202      | right: stored, 201    | 204 | ended 204 |
|           |                          | gap: 416, open   | gap: 416, open        |     |           |
|           |                          | short: 400, open | bad digest text: open |     |           |
|           |                          |                  | other bytes: ended 400|     |           |
| ended     |                          | 404              | 404                   | 404 | 404       |

A session belongs to one image and one account; for everybody else it does not exist (row ACC-06). One request holds it
at a time, over all workers. What arrived before a client left is kept and reported; what broke its own promise
(Content-Range) is forgotten. POST with digest= is a session of one request: it leaves a blob or nothing.
"""

import re
from collections.abc import Sequence
from typing import Final

from quart import Response
from quart.wrappers import Request

from gateway.access.actions import Action
from gateway.edge.absorbing import absorb_body, can_absorb
from gateway.edge.call import Call
from gateway.edge.guard import repository_scope
from gateway.edge.streams import read_chunks
from gateway.oci import paths
from gateway.oci.errors import (
    Code,
    RegistryError,
    blob_upload_unknown,
    digest_invalid,
    size_invalid,
    too_large,
)
from gateway.oci.names import parse_digest, parse_name
from gateway.oci.ranges import parse_content_range
from gateway.repositories.routing import VIRTUAL, Place, sources
from gateway.v2.answers import created, empty, session_headers
from gateway.v2.services import V2
from gateway.v2.writing import writable
from storage import CANONICAL, HEX_LENGTHS, Busy, Digest, Upload, UploadRecord

_ALGORITHM: Final = re.compile(r"[a-z0-9]{1,20}")


async def begin(v2: V2, call: Call, target: paths.Uploads, request: Request) -> Response:  # noqa: ARG001  # one shape for all handlers
    """Open a session; or mount a blob; or take the whole blob in this one request (rows UP-01, UP-05, MT)."""
    writable(v2, call)
    if "mount" in request.args:
        mounted = parse_digest(request.args["mount"])
        if await _mount(v2, call, mounted, request.args.get("from", "")):
            return created(call.path(f"blobs/{mounted}"), mounted)
    digest = _digest_asked(request) if "digest" in request.args else None
    algorithm = _algorithm_asked(request)
    record = await v2.content.begin(call.repository, call.image, account_id=_account(call), algorithm=algorithm)
    if digest is None:
        return empty(202, session_headers(call, record.id, 0))
    async with v2.content.resume(record, keep=False) as upload:  # nobody else ever hears of this session
        await _receive(v2, upload, request, None, digest=digest)
        return await _commit(v2, call, upload, digest)


async def append(v2: V2, call: Call, target: paths.Upload, request: Request) -> Response:
    """Take the next bytes, streamed or as a chunk with Content-Range (rows UP-06 to UP-12)."""
    writable(v2, call)
    async with v2.content.resume(await _session(v2, call, target)) as upload:
        await _receive(v2, upload, request, call)
        await v2.content.save(upload)
        return empty(202, session_headers(call, target.upload_id, upload.offset))


async def finish(v2: V2, call: Call, target: paths.Upload, request: Request) -> Response:
    """Take the last bytes, if any, and store the blob (rows UP-04, UP-14 to UP-17, UP-21)."""
    writable(v2, call)
    record = await _session(v2, call, target)
    digest = _digest_asked(request)
    async with v2.content.resume(record) as upload:
        await _receive(v2, upload, request, call, digest=digest)
        return await _commit(v2, call, upload, digest)


async def status(v2: V2, call: Call, target: paths.Upload, request: Request) -> Response:  # noqa: ARG001  # one shape for all handlers
    """How far the session came (row UP-13)."""
    record = await _session(v2, call, target)
    try:
        async with v2.content.resume(record) as upload:
            offset = upload.offset
    except Busy:  # a PATCH is running: what it brings is not ours to report yet
        offset = record.offset_bytes
    return empty(204, session_headers(call, target.upload_id, offset))


async def cancel(v2: V2, call: Call, target: paths.Upload, request: Request) -> Response:  # noqa: ARG001  # one shape for all handlers
    """End the session and free its bytes (row UP-20)."""
    writable(v2, call)
    async with v2.content.resume(await _session(v2, call, target)) as upload:
        await v2.content.cancel(upload)
    return empty(204)


async def _session(v2: V2, call: Call, target: paths.Upload) -> UploadRecord:
    if not paths.is_upload_id(target.upload_id):
        raise blob_upload_unknown()
    return await v2.content.session(
        target.upload_id, repository_id=call.repository.id, image=call.image, account_id=_account(call)
    )


async def _receive(
    v2: V2, upload: Upload, request: Request, call: Call | None, *, digest: Digest | None = None
) -> None:
    """Append the request's body. With a Content-Range it must be exactly that chunk, at exactly this place.

    `call` is whose client goes on after a gap; None if the session ends with this request. `digest` is what the
    session's bytes shall have at the end of this body.
    """
    expected = _expected_bytes(upload, request, call)
    if expected is None:
        if not await _receive_verified(v2, upload, request, digest):
            await _append_all(v2, upload, request)
        return
    mark = await upload.mark()
    try:
        await _append_all(v2, upload, request, promised=mark.offset + expected)
        if upload.offset - mark.offset != expected:
            raise size_invalid(f"Content-Range promises {expected} bytes, {upload.offset - mark.offset} came")
    except RegistryError:
        await upload.rollback(mark)
        raise


def _expected_bytes(upload: Upload, request: Request, call: Call | None) -> int | None:
    header = request.headers.get("Content-Range")
    if header is None:
        return None
    first, last = parse_content_range(header)
    if first != upload.offset:
        raise RegistryError(
            Code.BLOB_UPLOAD_INVALID,
            f"the chunk starts at {first}, but {upload.offset} bytes are here: continue there",
            status=416,
            headers=session_headers(call, upload.record.id, upload.offset) if call else None,
        )
    expected = last - first + 1
    if request.content_length is not None and request.content_length != expected:
        raise size_invalid(f"Content-Range says {expected} bytes, Content-Length {request.content_length}")
    return expected


async def _receive_verified(v2: V2, upload: Upload, request: Request, digest: Digest | None) -> bool:
    """Take the body as the whole blob, where the store can check that it is; whether it was taken so."""
    size_bytes = request.content_length
    if digest is None or size_bytes is None or not upload.verifies(digest, size_bytes):
        return False
    if size_bytes > v2.limits.blob_bytes:
        raise too_large(v2.limits.blob_bytes)
    async with read_chunks(request, idle_s=v2.body_idle_s) as chunks:
        await v2.content.receive(upload, digest, size_bytes, chunks)
    return True


async def _append_all(v2: V2, upload: Upload, request: Request, *, promised: int | None = None) -> None:
    """Append the body. Raises as soon as the session would be longer than allowed, or than `promised`.

    In the server's threads where server and store both can, so that no byte passes the event loop; else in chunks.
    """
    limit = v2.limits.blob_bytes

    def check(more_bytes: int) -> None:
        if upload.offset + more_bytes > limit:
            raise too_large(limit)
        if promised is not None and upload.offset + more_bytes > promised:
            raise size_invalid(f"Content-Range promises that the upload ends at {promised} bytes, more came")

    check(0 if request.content_length is None else request.content_length)
    writer = await upload.writer() if can_absorb(request) else None
    if writer is None:
        async with read_chunks(request, idle_s=v2.body_idle_s) as chunks:
            async for chunk in chunks:
                check(len(chunk))
                await upload.append(chunk)
        return

    def take(parts: Sequence[memoryview]) -> None:
        check(sum(map(len, parts)))
        writer.write(parts)

    await absorb_body(request, take, idle_s=v2.body_idle_s, gate=writer)


async def _commit(v2: V2, call: Call, upload: Upload, digest: Digest) -> Response:
    confirm = v2.guard.confirmation(call, Action.PUSH)
    await v2.content.commit(upload, digest, repository=call.repository, confirm=confirm)
    return created(call.path(f"blobs/{digest}"), digest)


async def _mount(v2: V2, call: Call, digest: Digest, source_text: str) -> bool:
    """Link the blob from where the caller may pull it. False: the client has to send it (rows MT-01 to MT-08).

    Without a source, from anywhere that the caller may pull it (row MT-04).

    A caller who may not pull the source learns nothing: a token that never asked for it is told to ask (401 with both
    scopes), everybody else gets the same session as for a blob that does not exist (security.md 3.1).
    """
    if not source_text:
        return await writable(v2, call).share_blob(call.image, digest) is not None
    try:
        source_name = parse_name(source_text)
    except RegistryError:
        return False
    source = await v2.guard.also(call, source_name, Action.PULL)
    if source is None:
        if await v2.guard.never_asked_for(call, source_name):
            scope = f"{repository_scope(call.token_name, Action.PUSH)} {repository_scope(source_name, Action.PULL)}"
            raise v2.guard.insufficient(call.visit, call.principal, scope)
        return False
    for place in await _places(v2, source):
        if await v2.content.mount(
            digest,
            source_repository_id=place.record.id,
            source_image=place.image,
            repository=call.repository,
            image=call.image,
        ):
            return True
    return False


async def _places(v2: V2, source: Call) -> list[Place]:
    """Where the source of a mount has its blobs: a virtual repository in those members that the caller may pull."""
    if source.repository.repository_type != VIRTUAL:
        return [Place(source.repository, source.image)]
    return await v2.database.read(sources, source.repository, source.image, source.caller.may_pull)


def _digest_asked(request: Request) -> Digest:
    asked = request.args.getlist("digest")
    if len(asked) != 1:
        raise digest_invalid("exactly one digest= is needed")
    return parse_digest(asked[0])


def _algorithm_asked(request: Request) -> str:
    algorithm = request.args.get("digest-algorithm", CANONICAL)
    if algorithm not in HEX_LENGTHS:
        shown = algorithm if _ALGORITHM.fullmatch(algorithm) else "given"
        raise digest_invalid(f"unsupported digest algorithm {shown}: use sha256 or sha512")
    return algorithm


def _account(call: Call) -> int:
    if call.account_id is None:  # anonymous callers never hold push; kept so that a session always has an owner
        raise RegistryError(Code.DENIED, "anonymous uploads are not offered: log in")
    return call.account_id
