"""The list of an image's tags (rows TG)."""

from quart import Response
from quart.wrappers import Request

from gateway.edge.call import Call
from gateway.oci import paths
from gateway.oci.errors import Code, RegistryError, name_unknown
from gateway.oci.listing import cursor, next_link, page_size, tags_document
from gateway.v2.answers import entity, staleness
from gateway.v2.services import V2


async def get(v2: V2, call: Call, target: paths.Tags, request: Request) -> Response:
    """Up to `n` tags in bytewise order beyond `last`; a Link leads on if there are more."""
    wanted = request.args.get("n")
    limit = page_size(wanted, cap=v2.limits.tags_page)
    repository = v2.open_repository(call.repository, call.caller)
    try:
        found = await repository.tags(call.image, after=cursor(request.args.get("last")), limit=limit + 1)
    except RegistryError as error:
        if error.code is Code.NAME_UNKNOWN:
            raise name_unknown(target.name) from None
        raise
    page, more = found.names[:limit], len(found.names) > limit > 0
    path = call.path("tags/list")
    headers = {"Link": next_link(path, last=page[-1], n=limit)} if more else {}
    headers |= staleness(found.warning, found.age_s)
    return entity(tags_document(target.name, page), "application/json", headers)
