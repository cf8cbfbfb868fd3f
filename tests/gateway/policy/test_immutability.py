"""Immutable tags: which tags a glob means, that they are neither moved nor deleted, and the one push that may."""

import dataclasses
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.oci.errors import Code, RegistryError
from gateway.policy.immutability import ONE_PUSH_S, Move, admit_delete, admit_move, matching_rule
from storage import Digest, TagRecord

NOW = 1_800_000_000
OLD, NEW, OTHER = (Digest.of(text) for text in (b"old", b"new", b"other"))
ALICE, BOB = 1, 2
DOCKER = "docker/26.1.5 go/go1.22 kernel/6.1"
RULES = ("release-?", "v*")
OCI = "application/vnd.oci.image"
TAG = TagRecord(
    name="v1",
    manifest_id=1,
    digest=OLD,
    created_at=NOW,
    moved_at=NOW,
    moved_by=ALICE,
    media_type=f"{OCI}.manifest.v1+json",
)
CHILD = Move(digest=NEW, children=(), by=ALICE, user_agent=DOCKER, now=NOW)
"""Docker's second PUT of one push: another child manifest to the same tag."""
INDEX = Move(digest=NEW, children=(OLD, OTHER), by=ALICE, user_agent="skopeo/1.22", now=NOW)
"""The index that contains what the tag points at."""


def moves(move: Move, tag: TagRecord | None = TAG, name: str = "v1") -> bool:
    """Whether the tag may be moved; a refusal must be 403 DENIED."""
    try:
        admit_move(RULES, tag, name, move)
    except RegistryError as error:
        if error.code is Code.DENIED and error.status == 403:
            return False
        raise
    return True


# --- globs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("glob", "fitting", "others"),
    [
        ("*", ["v1", "latest", "_", "A.b-c"], []),
        ("v*", ["v", "v1", "v1.2.3-rc.1"], ["V1", "xv1", "latest"]),
        ("v?", ["v1", "vx"], ["v", "v12"]),
        ("*-final", ["-final", "1.0-final"], ["1.0-final2", "final"]),
        ("v[0-9]*", ["v1", "v10-rc"], ["vx1", "v"]),
        ("v[!0-9]", ["vx"], ["v1", "v"]),
        ("1.0", ["1.0"], ["1x0", "1.0.1", "x1.0"]),
        ("a+", ["a+"], ["a", "aa"]),
        ("(a|b)", ["(a|b)"], ["a", "b"]),
        ("v[", ["v["], ["v", "v1"]),
        ("v[z-a]", [], ["v", "vb", "v-"]),
        ("", [""], ["v1"]),
        ("*.*.*", ["1.2.3", "v1..2"], ["1.2"]),
    ],
)
def test_a_glob_means_whole_tags(glob: str, fitting: list[str], others: list[str]) -> None:
    """`*`, `?` and `[...]` are special, everything else is itself, upper and lower case differ, nothing is a prefix."""
    assert [tag for tag in (*fitting, *others) if matching_rule([glob], tag) is not None] == fitting


def test_the_first_rule_that_fits_is_named() -> None:
    """Rules are asked in their order; none is no rule."""
    assert matching_rule(("x", "v*", "v1"), "v1") == "v*"
    assert matching_rule((), "v1") is None
    assert matching_rule(("x", "y"), "v1") is None


@given(glob=st.text("ab.*?", max_size=8), tag=st.text("ab.", max_size=8))
def test_globs_agree_with_their_definition(glob: str, tag: str) -> None:
    """A star stands for any text, a question mark for one character, found by trying every way."""
    assert (matching_rule([glob], tag) is not None) == fits(glob, tag)


def fits(glob: str, tag: str) -> bool:
    """The definition."""
    if not glob:
        return not tag
    if glob[0] == "*":
        return any(fits(glob[1:], tag[skipped:]) for skipped in range(len(tag) + 1))
    return bool(tag) and glob[0] in {"?", tag[0]} and fits(glob[1:], tag[1:])


@pytest.mark.parametrize(
    "glob", ["*a" * 60 + "b", "a*" * 60 + "b", "*" * 120 + "b", "?*" * 60 + "!", "[a-z]*" * 20 + "!"]
)
def test_c13_no_glob_is_slow(glob: str) -> None:
    """C13: a glob made to backtrack decides 2,000 tags of the greatest length in a fraction of a second."""
    started = time.process_time()

    assert not any(matching_rule([glob], "a" * 128) for _ in range(2000))

    assert time.process_time() - started < 0.2


# --- moving --------------------------------------------------------------------------------------------------------


def test_what_no_rule_names_moves() -> None:
    """A rule holds for the tags that it names, and for no others."""
    assert moves(dataclasses.replace(CHILD, by=BOB, user_agent="x"), name="latest")


def test_a_tag_is_made_once() -> None:
    """MP-22: the first push makes the tag, pushing the same again is fine, another digest is refused."""
    by_bob = Move(digest=NEW, children=(), by=BOB, user_agent="x", now=NOW)

    assert moves(by_bob, tag=None)
    assert moves(dataclasses.replace(by_bob, digest=OLD))
    assert not moves(by_bob)


def test_the_refusal_says_which_rule_and_what_to_do() -> None:
    """ACC-03: docker shows the message to whoever pushed."""
    with pytest.raises(RegistryError) as caught:
        admit_move(RULES, TAG, "v1", dataclasses.replace(CHILD, by=BOB))

    assert caught.value.message == f"tag v1 is immutable by rule 'v*' and points at {OLD}: push another tag"


@pytest.mark.parametrize("move", [CHILD, INDEX], ids=["child", "index"])
def test_one_push_may_move_its_own_tag(move: Move) -> None:
    """MP-22: children one after the other by docker, then the index that contains them, by whatever client."""
    assert moves(move)
    assert moves(dataclasses.replace(move, now=NOW + ONE_PUSH_S))


@pytest.mark.parametrize("move", [CHILD, INDEX], ids=["child", "index"])
@pytest.mark.parametrize(
    "change",
    [{"by": BOB}, {"by": None}, {"now": NOW + ONE_PUSH_S + 1}, {"now": NOW - ONE_PUSH_S - 1}, {"now": NOW - 86400}],
    ids=str,
)
def test_nobody_else_and_not_later(move: Move, change: dict[str, int | None]) -> None:
    """Another account, an anonymous one, and a moment that is not within the push, by whichever clock, are refused."""
    assert not moves(dataclasses.replace(move, **change))  # type: ignore[arg-type]  # the keys are fields


def test_a_tag_that_nobody_owns_is_nobodys_push() -> None:
    """A restored tag, which no account made, is not taken for the push of an anonymous caller."""
    assert not moves(dataclasses.replace(CHILD, by=None), tag=dataclasses.replace(TAG, moved_by=None))


@pytest.mark.parametrize("agent", ["", "Docker-Client/26", "skopeo/1.22", "containerd/2.1", "x docker/26", "dockerd"])
def test_children_one_after_the_other_are_docker_s_way(agent: str) -> None:
    """Any other client that moves the tag to another manifest is a second push."""
    assert not moves(dataclasses.replace(CHILD, user_agent=agent))


def test_an_index_without_the_earlier_child_is_another_push() -> None:
    """Docker's name does not help: the index has to contain what the tag points at."""
    assert not moves(dataclasses.replace(INDEX, children=(OTHER,), user_agent=DOCKER))


@pytest.mark.parametrize("kind", [f"{OCI}.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"])
def test_the_index_ends_the_push(kind: str) -> None:
    """Once the tag points at an index, no further child moves it; only an index that contains this one would."""
    done = dataclasses.replace(TAG, media_type=kind)

    assert not moves(CHILD, tag=done)
    assert moves(INDEX, tag=done)


def test_the_time_counts_from_the_making_of_the_tag() -> None:
    """Moves do not prolong it: a client that moved the tag every few seconds would never be stopped."""
    moved = dataclasses.replace(TAG, moved_at=NOW + ONE_PUSH_S)

    assert not moves(dataclasses.replace(CHILD, now=NOW + ONE_PUSH_S + 1), tag=moved)


# --- deleting ------------------------------------------------------------------------------------------------------


def test_a11_an_immutable_tag_is_not_deleted() -> None:
    """A11: neither by itself nor with its manifest, whatever other tags that has; the rule is named."""
    for names in (["v1"], ["latest", "v1"], ["v1", "latest"]):
        with pytest.raises(RegistryError) as caught:
            admit_delete(RULES, names, OLD)
        assert (caught.value.status, caught.value.code) == (403, Code.DENIED)
        assert "tag v1 is immutable by rule 'v*'" in caught.value.message


def test_what_no_rule_names_is_deleted() -> None:
    """Tags outside the rules, and manifests without tags, go."""
    admit_delete(RULES, ["latest", "release-10"], OLD)
    admit_delete(RULES, [], OLD)
    admit_delete((), ["v1"], OLD)
