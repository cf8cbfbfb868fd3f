"""The list of image names that the caller may pull from (rows CT)."""

from quart import Response
from quart.wrappers import Request

from gateway.access.principal import Principal
from gateway.access.rights import readable_repositories
from gateway.oci.listing import catalog_document, cursor, next_link, page_size
from gateway.v2.answers import entity
from gateway.v2.services import V2
from storage import Transaction
from storage.metadata import images


async def get(v2: V2, principal: Principal, request: Request) -> Response:
    """Full names in bytewise order beyond `last`, filtered before they are counted (security row A20)."""
    limit = page_size(request.args.get("n"), cap=v2.limits.tags_page)
    after = cursor(request.args.get("last"))

    def page(tx: Transaction) -> list[str]:
        readable = readable_repositories(tx, principal)
        return images.page(tx, after=after, limit=limit + 1, repository_ids=readable)

    names = await v2.database.survey(page)
    shown, more = names[:limit], len(names) > limit > 0
    headers = {"Link": next_link("/v2/_catalog", last=shown[-1], n=limit)} if more else {}
    return entity(catalog_document(shown), "application/json", headers)
