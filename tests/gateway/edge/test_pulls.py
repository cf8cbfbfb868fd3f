"""Pulls are counted by what was pulled and by who answered."""

from gateway.edge.pulls import Kind, Pulled, Pulls, Way
from storage import Digest

BLOB = Pulled(Kind.BLOB, 1, "app", "sha256:x", Digest.of(b""), None)


def test_pulls_are_counted() -> None:
    """By kind and way; the snapshot does not change afterwards."""
    pulls = Pulls()
    pulls.note(BLOB, way=Way.LANE)
    pulls.note(BLOB, way=Way.LANE)
    before = pulls.statistics()
    pulls.note(BLOB, way=Way.APPLICATION)

    assert before == {(Kind.BLOB, Way.LANE): 2}
    assert pulls.statistics() == {(Kind.BLOB, Way.LANE): 2, (Kind.BLOB, Way.APPLICATION): 1}
