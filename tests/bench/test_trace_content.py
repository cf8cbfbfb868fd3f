"""Made-up content for a trace: sizes and sharing as the log saw them, and targets that lead to it."""

from bench import trace_content
from bench.trace import Trace, Visit
from bench.trace_content import CONFIG

ONE, TWO = f"sha256:{1:064}", f"sha256:{2:064}"


def pull(target: str, sent_bytes: int, status: int = 200, method: str = "GET") -> Visit:
    """A request with success."""
    return Visit(0.0, 0, method, target, status, sent_bytes, authorized=True)


TRACE = Trace(
    (
        pull("/v2/n1/n2/manifests/t1", 1500),
        pull(f"/v2/n1/n2/manifests/{TWO}", 700),
        pull(f"/v2/n1/n2/blobs/{ONE}", 0, method="HEAD"),
        pull(f"/v2/n1/n3/blobs/{ONE}", 5000),
        pull(f"/v2/n1/n3/blobs/{TWO}", 0, method="HEAD"),
        pull("/v2/n1/n4/manifests/t1", 100, status=404),
        pull("/v2/n1/n2/tags/list", 60),
    ),
    names_kept=False,
)


def test_every_image_holds_what_was_pulled_with_success() -> None:
    """A blob has one size wherever it is, the largest that was seen; what was never seen is small."""
    two, three = trace_content.holdings(TRACE)

    assert (two.image, three.image) == ("n1/n2", "n1/n3")
    assert [blob.size_bytes for blob in two.blobs] == [5000]
    assert [blob.size_bytes for blob in three.blobs] == [5000, 1024]
    assert two.blobs[0].digest == three.blobs[0].digest
    assert [(manifest.size_bytes, tags) for manifest, tags in two.manifests] == [(1500, ("t1",)), (700, ())]
    assert CONFIG.digest.encode() in two.manifests[0][0].body


def test_the_trace_asks_for_what_was_made() -> None:
    """Digests are those of the content, names those of the registry; what failed keeps failing."""
    (two, three) = trace_content.holdings(TRACE)

    asked = [visit.target for visit in trace_content.rewritten(TRACE, {"n1/n2": "a/b/c", "n1/n3": "a/b/d"}).visits]

    assert asked == [
        "/v2/a/b/c/manifests/t1",
        f"/v2/a/b/c/manifests/{two.manifests[1][0].digest}",
        f"/v2/a/b/c/blobs/{two.blobs[0].digest}",
        f"/v2/a/b/d/blobs/{three.blobs[0].digest}",
        f"/v2/a/b/d/blobs/{three.blobs[1].digest}",
        "/v2/n1/n4/manifests/t1",
        "/v2/n1/n2/tags/list",
    ]
