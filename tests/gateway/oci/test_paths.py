"""A path is split once, from the right, and no encoding of a name ever reaches another repository."""

from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.oci import paths
from gateway.oci.errors import Code, RegistryError
from gateway.oci.names import is_name
from gateway.oci.paths import (
    Blob,
    Entrance,
    Manifest,
    Referrers,
    Tags,
    Target,
    Upload,
    Uploads,
    enter,
    is_registry,
    split,
)
from storage import Digest
from tests.gateway.oci.strategies import DIGESTS, NAMES, TAGS, UPLOAD_IDS

D = "sha256:" + "a" * 64


def _code(path: bytes) -> Code:
    with pytest.raises(RegistryError) as caught:
        split(path)
    assert caught.value.status == 400
    return caught.value.code


def _split_or_refusal(path: bytes) -> Target | RegistryError:
    try:
        return split(path)
    except RegistryError as error:
        return error


@st.composite
def _operations(draw: st.DrawFn) -> tuple[bytes, Target]:
    name = draw(NAMES)
    tag, digest, upload_id = draw(TAGS), str(draw(DIGESTS)), draw(UPLOAD_IDS)
    operations: list[tuple[str, Target]] = [
        (f"{name}/manifests/{tag}", Manifest(name, tag)),
        (f"{name}/manifests/{digest}", Manifest(name, digest)),
        (f"{name}/blobs/{digest}", Blob(name, digest)),
        (f"{name}/blobs/uploads", Uploads(name)),
        (f"{name}/blobs/uploads/", Uploads(name)),
        (f"{name}/blobs/uploads/{upload_id}", Upload(name, upload_id)),
        (f"{name}/tags/list", Tags(name)),
        (f"{name}/referrers/{digest}", Referrers(name, digest)),
    ]
    path, target = draw(st.sampled_from(operations))
    return f"/v2/{path}".encode("ascii"), target


@settings(max_examples=40)
@given(_operations())
def test_gen_03_any_name_and_operation_split_back_to_themselves(operation: tuple[bytes, Target]) -> None:
    """Names made of the path's own words are told from operations, for every operation."""
    path, target = operation
    assert split(path) == target


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("a/blobs/b/manifests/latest", Manifest("a/blobs/b", "latest")),
        ("a/manifests/b/blobs/" + D, Blob("a/manifests/b", D)),
        ("a/tags/list/tags/list", Tags("a/tags/list")),
        ("a/tags/manifests/list", Manifest("a/tags", "list")),
        ("a/blobs/uploads/manifests/x", Manifest("a/blobs/uploads", "x")),
        ("a/blobs/uploads/blobs/uploads/", Uploads("a/blobs/uploads")),
        ("a/blobs/uploads/blobs/uploads/i", Upload("a/blobs/uploads", "i")),
        ("a/manifests/blobs/uploads", Uploads("a/manifests")),
        ("blobs/uploads/blobs/uploads", Uploads("blobs/uploads")),
        ("blobs/uploads/tags/list", Tags("blobs/uploads")),
        ("token/manifests/1", Manifest("token", "1")),
        ("v2/token/manifests/1", Manifest("v2/token", "1")),
        ("manifests/manifests/manifests", Manifest("manifests", "manifests")),
        ("a/manifests/uploads", Manifest("a", "uploads")),
        ("referrers/referrers/" + D, Referrers("referrers", D)),
    ],
)
def test_gen_03_words_of_the_path_may_be_names(path: str, target: Target) -> None:
    """The word that decides stands at the right end; all before it is the name."""
    assert split(b"/v2/" + path.encode()) == target


@pytest.mark.parametrize("path", [b"/v2", b"/v2/"])
def test_gen_09_the_base_has_two_spellings(path: bytes) -> None:
    """With and without the slash it is the same target."""
    assert split(path) == paths.Base()


def test_gen_22_underscore_begins_an_extension_never_a_name() -> None:
    """The catalog is known; other extensions are unknown paths, not bad names."""
    assert split(b"/v2/_catalog") == paths.Catalog()
    for path in (b"/v2/_oci/ext/discover", b"/v2/_catalog/x", b"/v2/_x/manifests/latest", b"/v2/_"):
        assert split(path) == paths.Unknown()


def test_token_is_a_path_of_its_own() -> None:
    """`/v2/token` is the token endpoint and collides with no repository, which needs more path."""
    assert split(b"/v2/token") == paths.Token()
    assert split(b"/v2/token/tags/list") == Tags("token")
    assert split(b"/v2/token/") == paths.Unknown()


@pytest.mark.parametrize(
    "path",
    [
        *("/v2/foo", "/v2/a/b/unknown/x", "/v2/a/", "/v2/a/tags/list/", "/v2/a/tags/other", "/v2/a/manifests/"),
        *("/v2/manifests/latest", "/v2/blobs/uploads", "/v2/blobs/uploads/x", "/v2/tags/list", "/v2/a/uploads/x"),
        *(
            "/v2/referrers/" + D,
            "/v2/a/blobs/",
            "/v2/a/referrers",
            "/v2x",
            "/v1/",
            "/v1/a/manifests/x",
            "/v3/_catalog",
            "/",
            "",
            "v2/",
            "/V2/",
            "/v%32/",
        ),
    ],
)
def test_gen_12_what_addresses_nothing_is_unknown(path: str) -> None:
    """Well-formed paths without a meaning, and all outside /v2, are left to a 404."""
    assert split(path.encode()) == paths.Unknown()


@pytest.mark.parametrize("colon", ["%3A", "%3a"])
@settings(max_examples=40)
@given(NAMES, DIGESTS)
def test_gen_07_an_encoded_colon_in_a_digest_is_read(colon: str, name: str, digest: Digest) -> None:
    """In the last segment, where a digest stands, `%3A` is its colon."""
    encoded = str(digest).replace(":", colon)
    assert split(f"/v2/{name}/blobs/{encoded}".encode()) == Blob(name, str(digest))
    assert split(f"/v2/{name}/manifests/{encoded}".encode()) == Manifest(name, str(digest))
    assert split(f"/v2/{name}/referrers/{encoded}".encode()) == Referrers(name, str(digest))


@pytest.mark.parametrize("tail", ["blobs/uploads", "blobs/uploads/"])
def test_gen_08_uploads_begin_with_and_without_a_slash(tail: str) -> None:
    """Both spellings are the same target, so that no redirect loses a body."""
    assert split(f"/v2/a/b/{tail}".encode()) == Uploads("a/b")


@pytest.mark.parametrize(
    "path",
    [
        *(b"/v2/priv%61te/manifests/latest", b"/v2/a%2fb/manifests/latest", b"/v2/a%252fb/manifests/latest"),
        *(b"/v2/a/manifests/la%74est", b"/v2/a/manifests/%2e%2e", b"/v2/a/tags/li%73t", b"/v2/a/%74ags/list"),
        *(b"/v2/%2e%2e/a/manifests/x", b"/v2/a/blobs/uploads/%41", b"/v2/%5fcatalog", b"/v2/a%2fmanifests%2fx"),
        *(b"/v2/a;x/manifests/latest", b"/v2/a/manifests/latest;x", b"/v2//a/manifests/latest", b"/v2/a//manifests/x"),
        *(b"/v2/a/manifests//x", b"/v2//", b"/v2/a/./manifests/x", b"/v2/a/../b/manifests/x", b"/v2/../manifests/x"),
        *(b"/v2/a/manifests/..", b"/v2/a/manifests/.", b"/v2/a/blobs/uploads//", b"/v2/a\\b/manifests/x"),
        *(b"/v2/a/manifests/x\\..", b"/v2/a\x00/manifests/x", b"/v2/a/manifests/x\n", b"/v2/a /manifests/x"),
        *(b"/v2/a/manifests/x\x7f", b"/v2/\xc3\xa4/manifests/x", b"/v2/a/manifests/\xff", b"/v2/a?x/manifests/y"),
        *(b"/v2/a/manifests/x?n=1", b"/v2/a#/manifests/x", b'/v2/a/manifests/"x"', b"/v2/a%3Ab/manifests/x"),
        *(b"/v2/A/manifests/x", b"/v2/a./manifests/x", b"/v2/a:5000/manifests/x", b"/v2/a/b_/tags/list"),
        b"/v2/" + b"a" * 256 + b"/manifests/x",
    ],
)
def test_a19_hostile_paths_are_name_invalid(path: bytes) -> None:
    """Encoded letters and slashes, parameters, doubled slashes, dots, control bytes and bad names are all 400."""
    assert _code(path) is Code.NAME_INVALID


@pytest.mark.parametrize("text", ["sha256%253A" + "a" * 64, "sha256%3A%61" + "a" * 63, "sha256:" + "a" * 63 + "%zz"])
@pytest.mark.parametrize("word", ["blobs", "referrers"])
def test_gen_07_other_encodings_in_a_digest_are_digest_invalid(word: str, text: str) -> None:
    """Where only a digest may stand, anything encoded but the colon is a malformed digest."""
    assert _code(f"/v2/a/{word}/{text}".encode()) is Code.DIGEST_INVALID


@settings(max_examples=60)
@given(
    NAMES,
    st.lists(
        st.tuples(st.integers(0, 40), st.sampled_from([b"%", b"%2f", b"%2e", b"//", b"/./", b"/../", b";", b"\\"]))
    ),
    st.sampled_from([b"manifests/latest", b"tags/list", b"blobs/uploads/", b"blobs/" + D.encode()]),
)
@example("private", [(4, b"%61")], b"manifests/latest")
def test_a19_no_encoding_of_a_name_reaches_another_repository(
    name: str, insertions: list[tuple[int, bytes]], tail: bytes
) -> None:
    """A path is either refused, or the name found in it is literally there: decoding again finds the same name."""
    hostile = name.encode()
    for place, inserted in insertions:
        hostile = hostile[:place] + inserted + hostile[place:]
    path = b"/v2/" + hostile + b"/" + tail
    found = getattr(_split_or_refusal(path), "name", None)
    if found is not None:
        assert is_name(found)
        assert path.startswith(f"/v2/{found}/".encode())
        assert unquote_to_bytes(path).startswith(f"/v2/{found}/".encode())


@given(st.binary(max_size=60).map(lambda tail: b"/v2/" + tail))
def test_any_bytes_are_split_or_refused(path: bytes) -> None:
    """No bytes make anything but a target or a 400, and a target's name is always a valid one."""
    outcome = _split_or_refusal(path)
    if isinstance(outcome, RegistryError):
        assert (outcome.status, outcome.code in {Code.NAME_INVALID, Code.DIGEST_INVALID}) == (400, True)
    else:
        assert is_name(getattr(outcome, "name", "valid"))


def test_gen_11_every_target_says_its_methods() -> None:
    """The table has each kind of target once; HEAD goes wherever GET does, but for the token endpoint."""
    assert set(paths.METHODS) == set(paths.Target.__args__)
    for target, methods in paths.METHODS.items():
        assert ("HEAD" in methods) == ("GET" in methods and target is not paths.Token)
    assert paths.METHODS[paths.Unknown] == ()


@given(UPLOAD_IDS)
def test_upload_ids_are_uuids(upload_id: str) -> None:
    """A UUID with or without dashes can be a session's id."""
    assert paths.is_upload_id(upload_id)


@pytest.mark.parametrize("text", ["", "a", "A" * 32, "g" * 32, "a" * 31, "a" * 37, "a" * 31 + "/", "a" * 32 + "\n"])
def test_up_19_other_texts_are_no_upload_ids(text: str) -> None:
    """Anything else cannot name a session, whatever a store would make of it."""
    assert not paths.is_upload_id(text)


def test_megabytes_of_path_are_refused_in_few_steps() -> None:
    """Long hostile paths are refused by single passes, without recursion."""
    for path in (b"/a" * 2**16, b"/.." * 2**16, b"/blobs/uploads" * 2**14, b"%3A" * 2**16):
        with pytest.raises(RegistryError):
            split(b"/v2/a" + path + b"/manifests/x")


# --- the path of one repository --------------------------------------------------------------------------------------

MOUNT = "/repositories/oci"
LEADING_NOWHERE = {"a//b"}
"""Too many segments, empty ones included, before the first `v2`."""


@settings(max_examples=40)
@given(_operations(), st.lists(NAMES.filter(lambda name: "/" not in name and name != "v2"), min_size=1, max_size=2))
def test_a19_a_sub_path_leads_to_one_repository_and_leaves_the_rest(
    operation: tuple[bytes, Target], names: list[str]
) -> None:
    """Project and repository, or a repository of `common`: what follows is split as if it stood alone."""
    path, target = operation
    prefix = f"{MOUNT}/{'/'.join(names)}"

    entered = enter(prefix.encode("ascii") + path)

    assert entered == Entrance(path, prefix, "/".join(["common", *names][-2:]))
    assert split(entered.path) == target


@pytest.mark.parametrize(
    ("path", "repository", "rest"),
    [
        ("hub/v2", "common/hub", "/v2"),
        ("hub/v2/", "common/hub", "/v2/"),
        ("team/hub/v2/x/manifests/v2", "team/hub", "/v2/x/manifests/v2"),
        ("v2/v2/x/tags/list", "common/v2", "/v2/x/tags/list"),
        ("team/v2/v2/x/tags/list", "common/team", "/v2/v2/x/tags/list"),
        ("hub/v2/a/v2/tags/list", "common/hub", "/v2/a/v2/tags/list"),
    ],
)
def test_a19_the_first_v2_after_a_name_ends_the_names(path: str, repository: str, rest: str) -> None:
    """Every path has one meaning, also where names are `v2`."""
    entered = enter(f"{MOUNT}/{path}".encode())

    assert (entered.repository, entered.path, entered.prefix + rest) == (repository, rest.encode(), f"{MOUNT}/{path}")


@pytest.mark.parametrize("path", ["", "/", "/hub", "/hub/", "/a/b/c/v2/", "/a/b/v2x/", "/v2", "/v2/x", "/hub/v1/x"])
def test_a25_a_sub_path_without_a_registry_leads_nowhere(path: str) -> None:
    """It is still ours, so it is answered as a path of the registry that does not exist, not by somebody else."""
    raw_path = f"{MOUNT}{path}".encode()

    assert is_registry(raw_path)
    assert isinstance(split(enter(raw_path).path), paths.Unknown)


@pytest.mark.parametrize(
    "names",
    ["A", "a%2fb", "%61", "..", ".", "", "a;x", "a b", "a\\b", "a//b", "-a", "a/", "/a", "a/..", "a%00", "\xe4", "a/B"],
)
def test_a19_a_sub_path_holds_names_and_nothing_that_could_be_read_as_one(names: str) -> None:
    """Nothing is decoded, merged or lowered: what is not a name is refused, or leads nowhere; never to a repository."""
    raw_path = f"{MOUNT}/{names}/v2/x/tags/list".encode("latin-1")
    if names in LEADING_NOWHERE:
        assert enter(raw_path) == Entrance(b"")
        return
    with pytest.raises(RegistryError) as caught:
        enter(raw_path)
    assert (caught.value.code, caught.value.status) == (Code.NAME_INVALID, 400)


def test_other_paths_are_left_as_they_are() -> None:
    """The front door: the whole path, no prefix, no repository."""
    for raw_path in (b"/v2/", b"/v2/a/tags/list", b"/", b"/repositories", b"/v2%2f"):
        assert enter(raw_path) == Entrance(raw_path)
    assert not any(map(is_registry, (b"/", b"/v22", b"/repositories", b"/repositories/ocix", b"/api/v1", b"/V2/")))
