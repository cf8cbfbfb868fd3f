"""How answers of /v2 are made: lengths, types, and what names content and sessions."""

import pytest

from gateway.access.actions import NO_ACTIONS
from gateway.access.principal import ANONYMOUS
from gateway.edge.address import External
from gateway.edge.call import Call
from gateway.v2.answers import content_headers, created, document, empty, entity, session_headers
from storage import Database, Digest
from tests.gateway.edge.visitors import visit
from tests.storage.metadata import samples

DIGEST = Digest.of(b"content")


async def test_gen_17_an_entity_has_its_exact_length_and_type() -> None:
    """Bytes go out as they are, with their length, and with their type and no parameters."""
    response = entity(b"\xff\x00", "application/vnd.oci.image.index.v1+json", {"X-More": "1"})

    assert response.headers["Content-Length"] == "2"
    assert response.headers["Content-Type"] == "application/vnd.oci.image.index.v1+json"
    assert response.headers["X-More"] == "1"
    assert await response.get_data(as_text=False) == b"\xff\x00"


async def test_a_document_is_ascii() -> None:
    """JSON is escaped to ASCII, so its length in characters is that in bytes."""
    response = document({"name": "\u00e4"}, status=202)

    assert (response.status_code, response.headers["Content-Type"]) == (202, "application/json")
    assert await response.get_data(as_text=False) == b'{"name": "\\u00e4"}'


@pytest.mark.parametrize(("status", "length"), [(200, "0"), (202, "0"), (204, None), (304, None)])
def test_dl_10_an_empty_answer_says_so(status: int, length: str | None) -> None:
    """Content-Length is 0, and absent where HTTP has none; there is no type without a body."""
    response = empty(status, {"Location": "/v2/"})

    assert response.headers.get("Content-Length") == length
    assert "Content-Type" not in response.headers
    assert response.headers["Location"] == "/v2/"


def test_up_04_created_names_the_place_and_the_digest() -> None:
    """201 says where the content can be pulled and what it is."""
    response = created("/v2/a/blobs/x", DIGEST, {"OCI-Subject": "y"})

    assert response.status_code == 201
    assert response.headers["Location"] == "/v2/a/blobs/x"
    assert response.headers["Docker-Content-Digest"] == str(DIGEST)
    assert response.headers["OCI-Subject"] == "y"
    assert response.headers["Content-Length"] == "0"


def test_mg_10_the_etag_is_the_quoted_digest() -> None:
    """Content is named twice: by its digest, and by the same as an ETag."""
    assert content_headers(DIGEST) == {"Docker-Content-Digest": str(DIGEST), "ETag": f'"{DIGEST}"'}


@pytest.mark.parametrize(("offset", "told"), [(0, "0-0"), (1, "0-0"), (2, "0-1"), (1 << 40, f"0-{(1 << 40) - 1}")])
@pytest.mark.parametrize("prefix", ["", "/repositories/oci/team/hub"])
async def test_up_07_a_session_tells_how_far_it_came(database: Database, prefix: str, offset: int, told: str) -> None:
    """Range is never negative and never absent; Location is a path without a query (rows UP-02 and UP-03)."""
    repository = await database.transaction(samples.repository, "team/hub")
    seen = visit(at=External("https", "registry.example", prefix))
    headers = session_headers(Call(seen, ANONYMOUS, repository, "b", "a/b", NO_ACTIONS), "id", offset)

    assert headers == {"Location": f"{prefix}/v2/a/b/blobs/uploads/id", "Range": told, "Docker-Upload-UUID": "id"}
