"""Manifests: GET, HEAD, PUT and DELETE by tag or digest (rows MG, MP, DL). Bytes leave exactly as they came."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

from quart import Response
from quart.wrappers import Request

from gateway.access.actions import Action
from gateway.edge.call import Call
from gateway.edge.guard import Confirmation
from gateway.edge.pulls import Kind, Pulled
from gateway.edge.streams import BodyTooLarge, discard, read_whole
from gateway.oci import paths
from gateway.oci.conditions import accepts, if_match, if_none_match
from gateway.oci.errors import Code, RegistryError, digest_invalid, manifest_unknown, too_large
from gateway.oci.manifest import Manifest, parse
from gateway.oci.names import Tag, parse_digest, parse_reference
from gateway.oci.strict_json import LARGE_BYTES
from gateway.policy.immutability import Move, admit_delete, admit_move
from gateway.repositories.contract import AdmitTag, FoundManifest, Push
from gateway.v2.answers import content_headers, created, empty, entity, staleness
from gateway.v2.lane import Lesson
from gateway.v2.large import LARGE_BYTES as LARGE_MANIFEST_BYTES
from gateway.v2.plans import KnownManifest, wishes_of
from gateway.v2.services import V2
from gateway.v2.writing import writable
from storage import Digest, Document, TagRecord

# Tags of one PUT: the specification asks for at least 10 (row MP-21); each costs two statements in one transaction.
_MAX_TAGS: Final = 100
# Of a manifest that is too large, this much is taken before the refusal: many clients send all before they listen.
_DISCARDED_BYTES: Final = 32 * 2**20
_IMMUTABLE: Final = "public, max-age=31536000, immutable"


async def get(v2: V2, call: Call, target: paths.Manifest, request: Request) -> Response:
    """The manifest's exact bytes, whatever Range says; 304 if the client has them (rows MG-01 to MG-14)."""
    reference = parse_reference(target.reference_text, writing=False)
    repository = v2.open_repository(call.repository, call.caller)
    found = await repository.manifest(call.image, reference)
    document = found.document
    by_tag = isinstance(reference, Tag)
    if by_tag and not accepts(request.headers.getlist("Accept"), document.media_type):
        raise manifest_unknown(
            call.name, target.reference_text, reason=f"it has type {document.media_type}, which Accept does not list"
        )
    headers = content_headers(document.digest) | {"Cache-Control": "no-cache" if by_tag else _IMMUTABLE}
    headers |= staleness(found.warning, found.age_s)
    known = KnownManifest(document.digest, document.media_type, document.size_bytes)
    plan = known.plan(wishes_of(request.method, request.scope["headers"]))
    v2.lane.witness(request, _lesson(call, target, found, known))
    if plan.status == HTTPStatus.NOT_MODIFIED:
        return empty(plan.status, headers)
    if document.size_bytes >= LARGE_MANIFEST_BYTES:
        return v2.large.answer(repository, call.image, document, headers)
    return entity(document.content, document.media_type, headers)


def _lesson(call: Call, target: paths.Manifest, found: FoundManifest, known: KnownManifest) -> Lesson:
    """What the lane may learn from this answer; large manifests are held by nobody."""
    document = found.document
    pulled = Pulled(
        Kind.MANIFEST,
        call.repository.id,
        call.image,
        target.reference_text,
        document.digest,
        call.account_id,
        image_id=document.image_id,
    )
    content = document.content if document.size_bytes < LARGE_MANIFEST_BYTES else None
    image_id = document.image_id if found.depends_on_rows and found.warning is None else None
    return Lesson(pulled, call.principal, known, image_id=image_id, content=content, fresh_until=found.fresh_until)


async def put(v2: V2, call: Call, target: paths.Manifest, request: Request) -> Response:
    """Store a manifest under its digest and point tags at it, in one act (rows MP-01 to MP-25)."""
    repository = writable(v2, call)
    reference = parse_reference(target.reference_text, writing=True)
    extra = _tags_asked(request)
    async with v2.large.room(request.content_length):
        content = await _read(v2, request)
        digest = _digest_of(content, reference, request)
        manifest = await _parse(v2, content, request.headers.get("Content-Type"))
        names = tuple(dict.fromkeys((reference.name, *extra) if isinstance(reference, Tag) else extra))
        push = Push(Document(digest, manifest.media_type, content), manifest, names, call.account_id)
        confirm = v2.guard.confirmation(call, Action.PUSH)
        admit = _admission(v2, call, push, request, confirm)
        await repository.put_manifest(call.image, push, admit=admit, confirm=confirm)
    headers = {"OCI-Subject": str(manifest.subject.digest)} if manifest.subject else {}
    response = created(call.path(f"manifests/{digest}"), digest, headers)
    for name in extra:
        response.headers.add("OCI-Tag", name)
    return response


async def delete(v2: V2, call: Call, target: paths.Manifest, request: Request) -> Response:  # noqa: ARG001  # one shape for all handlers
    """By tag: that tag alone. By digest: the manifest and all its tags at once (rows DL-01 to DL-03)."""
    repository = writable(v2, call)
    reference = parse_reference(target.reference_text, writing=False)
    rules = call.repository.immutable_tags

    def admit(names: Sequence[str], digest: Digest) -> None:
        admit_delete(rules, names, digest)

    if isinstance(reference, Tag):
        await repository.delete_tag(call.image, reference, admit=admit)
    else:
        await repository.delete_manifest(call.image, reference, admit=admit)
    return empty(202)


def _tags_asked(request: Request) -> tuple[str, ...]:
    names = request.args.getlist("tag")
    if len(names) > _MAX_TAGS:
        raise RegistryError(Code.MANIFEST_INVALID, f"more than {_MAX_TAGS} tags in one request", status=414)
    for name in names:
        if not isinstance(parse_reference(name, writing=True), Tag):
            raise RegistryError(Code.MANIFEST_INVALID, "tag= must name a tag, not a digest")
    return tuple(dict.fromkeys(names))


def _digest_of(content: bytes, reference: Tag | Digest, request: Request) -> Digest:
    """What the content is called: the digest asked for, in its algorithm (rows MP-03, MP-20), else its sha256."""
    asked = request.args.get("digest")
    claimed = reference if isinstance(reference, Digest) else parse_digest(asked) if asked is not None else None
    if claimed is None:
        return Digest.of(content)
    actual = Digest.of(content, claimed.algorithm)
    if actual != claimed:
        raise digest_invalid(f"the manifest has digest {actual}, not {claimed}")
    return actual


async def _read(v2: V2, request: Request) -> bytes:
    try:
        return await read_whole(request, limit_bytes=v2.limits.manifest_bytes, idle_s=v2.body_idle_s)
    except BodyTooLarge as error:
        await discard(request, limit_bytes=_DISCARDED_BYTES, idle_s=v2.body_idle_s)
        raise too_large(error.limit_bytes, code=Code.MANIFEST_INVALID) from None


async def _parse(v2: V2, content: bytes, content_type: str | None) -> Manifest:
    if len(content) < LARGE_BYTES:
        return parse(content, content_type, limit_bytes=v2.limits.manifest_bytes)
    return await v2.cpu.run(parse, content, content_type, limit_bytes=v2.limits.manifest_bytes)


def _admission(v2: V2, call: Call, push: Push, request: Request, confirmed: Confirmation) -> AdmitTag:
    """Immutability rules and the client's own conditions (row MP-24), decided inside the transaction."""
    move = Move(
        digest=push.document.digest,
        children=frozenset(child.digest for child in push.manifest.children),
        by=call.account_id,
        user_agent=call.visit.user_agent,
        now=int(v2.clock()),
    )
    wanted, unwanted = request.headers.get("If-Match"), request.headers.get("If-None-Match")

    def admit(tag: TagRecord | None, name: str) -> None:
        current = tag.digest if tag else None
        if not if_match(wanted, current) or (current is not None and if_none_match(unwanted, current)):
            raise RegistryError(Code.DENIED, f"tag {name} does not meet the request's condition", status=412)
        admit_move(confirmed.repository.immutable_tags, tag, name, move)

    return admit
