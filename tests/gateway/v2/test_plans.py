"""The choice among the answers for one object, as a pure function of what the client says."""

import pytest

from gateway.oci.errors import RegistryError
from gateway.v2.plans import KnownBlob, KnownManifest, Plan, Wishes, wishes_of
from storage import Digest, Span

CONTENT = b"0123456789"
DIGEST = Digest.of(CONTENT)
BLOB = KnownBlob(DIGEST, len(CONTENT), boundary=lambda: "xyz")
MANIFEST = KnownManifest(DIGEST, "application/vnd.oci.image.manifest.v1+json", len(CONTENT))
WHOLE = {"content-type": "application/octet-stream", "content-length": "10"}


def chosen(method: str, **fields: str) -> Plan:
    """The plan for a blob; fields are written with `_` for `-`."""
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in fields.items()]
    return BLOB.plan(wishes_of(method, raw))


def test_without_wishes_the_whole_is_sent() -> None:
    """200 with all bytes; fields that do not choose change nothing."""
    plan = chosen("GET", accept="text/html", cookie="a=b")

    assert (plan.status, plan.fields, plan.body) == (200, WHOLE, (Span(0, 10),))
    assert plan == chosen("GET")


def test_a_range_is_sent_alone() -> None:
    """206 with the span, its place and its length (row BG-04)."""
    plan = chosen("GET", range="bytes=2-4")

    assert (plan.status, plan.body) == (206, (Span(2, 5),))
    assert plan.fields == WHOLE | {"content-length": "3", "content-range": "bytes 2-4/10"}


def test_several_ranges_are_sent_as_parts() -> None:
    """206 multipart, in the order asked, framed by the boundary, with the length of all of it (row BG-06)."""
    plan = chosen("GET", range="bytes=5-6,0-1")

    assert plan.status == 206
    assert plan.fields["content-type"] == "multipart/byteranges; boundary=xyz"
    assert [part for part in plan.body if isinstance(part, Span)] == [Span(5, 7), Span(0, 2)]
    assert plan.size_bytes == 4 + sum(len(part) for part in plan.body if isinstance(part, bytes))
    assert plan.body[-1] == b"\r\n--xyz--\r\n"


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("HEAD", {"range": "bytes=2-4"}),
        ("GET", {"range": "bytes=2-4", "if_range": '"other"'}),
        ("GET", {"range": "lines=2-4"}),
        ("GET", {"range": "bytes=x"}),
    ],
)
def test_a_range_that_does_not_count_leaves_the_whole(method: str, fields: dict[str, str]) -> None:
    """Ranges are for GET, for the same content, and for those who know the grammar."""
    assert chosen(method, **fields).body == (Span(0, 10),)


def test_a_range_beyond_the_end_is_refused() -> None:
    """416, by the exception that says it (row BG-05)."""
    with pytest.raises(RegistryError) as refused:
        chosen("GET", range="bytes=10-")

    assert refused.value.status == 416


@pytest.mark.parametrize("known", [BLOB, MANIFEST])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_who_has_it_is_told_so(known: KnownBlob | KnownManifest, method: str) -> None:
    """304 without any field of an entity, before ranges are looked at."""
    plan = known.plan(Wishes(method, if_none_match=f'"{DIGEST}"', range="bytes=99-"))

    assert (plan.status, plan.fields, plan.body) == (304, {}, ())


def test_a_manifest_is_sent_whole_whatever_range_says() -> None:
    """Its own type and length (row MG-13)."""
    plan = MANIFEST.plan(Wishes("GET", range="bytes=0-1"))

    assert (plan.status, plan.body) == (200, (Span(0, 10),))
    assert plan.fields == {"content-type": MANIFEST.media_type, "content-length": "10"}


def test_several_lines_of_a_field_are_one_list() -> None:
    """The second line of If-None-Match counts like the first."""
    wishes = wishes_of("GET", [(b"if-none-match", b'"a"'), (b"if-none-match", f'"{DIGEST}"'.encode())])

    assert BLOB.plan(wishes).status == 304


def test_boundaries_are_random() -> None:
    """Nobody can put a boundary into a blob beforehand."""
    blob = KnownBlob(DIGEST, 10)
    kinds = {blob.plan(Wishes("GET", range="bytes=0-1,4-5")).content_type for _ in range(3)}

    assert len(kinds) == 3
