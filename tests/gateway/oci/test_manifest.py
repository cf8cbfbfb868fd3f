"""Manifests: what clients push is accepted, what could be read in two ways is not."""

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.oci import media_types as mt
from gateway.oci.errors import Code, RegistryError
from gateway.oci.manifest import MAX_BYTES, MAX_LISTED, Descriptor, Manifest, parse
from storage import Digest
from tests.gateway.oci.strategies import DIGESTS

CONFIG, LAYER = "application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar+gzip"
FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
Json = dict[str, Any]


def descriptor(media_type: str = LAYER, **fields: object) -> Json:
    """A descriptor as clients write it."""
    return {"mediaType": media_type, "digest": str(Digest.of(b"x")), "size": 1, **fields}


def image(**fields: object) -> Json:
    """An OCI image manifest as clients write it."""
    layers = [descriptor()]
    return {
        "schemaVersion": 2, "mediaType": mt.OCI_MANIFEST, "config": descriptor(CONFIG), "layers": layers, **fields
    }  # fmt: skip


def index(**fields: object) -> Json:
    """An OCI index as clients write it."""
    return {"schemaVersion": 2, "mediaType": mt.OCI_INDEX, "manifests": [descriptor(mt.OCI_MANIFEST)], **fields}


def without(document: Json, *names: str) -> Json:
    """The same without some fields."""
    return {name: value for name, value in document.items() if name not in names}


def read(document: object, content_type: str | None = mt.OCI_MANIFEST) -> Manifest:
    """Parse what a client would send."""
    return parse(json.dumps(document).encode(), content_type)


def refusal(content: bytes | Json, content_type: str | None = mt.OCI_MANIFEST) -> RegistryError:
    """The error that the content is answered with: always 400 MANIFEST_INVALID."""
    with pytest.raises(RegistryError) as caught:
        parse(content if isinstance(content, bytes) else json.dumps(content).encode(), content_type)
    assert (caught.value.status, caught.value.code) == (400, Code.MANIFEST_INVALID)
    return caught.value


@pytest.mark.parametrize("media_type", [mt.OCI_MANIFEST, mt.DOCKER_MANIFEST])
def test_mp_04_images_of_both_kinds_are_read(media_type: str) -> None:
    """Config and layers, and nothing of an index."""
    manifest = read(image(mediaType=media_type), media_type)
    assert (manifest.media_type, manifest.is_index, manifest.children) == (media_type, False, ())
    assert manifest.config == Descriptor(CONFIG, Digest.of(b"x"), 1)
    assert manifest.layers == (Descriptor(LAYER, Digest.of(b"x"), 1),)


@pytest.mark.parametrize("media_type", [mt.OCI_INDEX, mt.DOCKER_LIST])
def test_mp_04_indexes_of_both_kinds_are_read(media_type: str) -> None:
    """Children with their platforms, and nothing of an image."""
    platform = {"os": "linux", "architecture": "arm", "variant": "v7", "os.version": "1"}
    children = [descriptor(mt.OCI_MANIFEST, platform=platform), descriptor(mt.OCI_INDEX), descriptor(platform={})]
    manifest = read(index(mediaType=media_type, manifests=children), media_type)
    assert (manifest.media_type, manifest.is_index, manifest.config, manifest.layers) == (media_type, True, None, ())
    assert [child.platform for child in manifest.children] == ["linux/arm/v7", None, None]


@pytest.mark.parametrize("media_type", [mt.SCHEMA1, mt.SCHEMA1_SIGNED, mt.OCI_ARTIFACT, mt.JSON, "text/html", "x"])
def test_mp_04_mp_16_mp_17_other_types_are_refused(media_type: str) -> None:
    """Schema 1, the withdrawn artifact manifest and all else are refused, by header and by body."""
    refusal(image(mediaType=media_type), media_type)
    refusal(image(mediaType=media_type), None)


def test_mp_16_mp_17_refusals_of_former_types_say_what_to_push_instead() -> None:
    """A user of an old client learns from the message what to do."""
    assert "schema 2" in refusal(image(), mt.SCHEMA1).message
    assert "schema 2" in refusal(image(), mt.SCHEMA1_SIGNED).message
    assert "artifactType" in refusal(image(), mt.OCI_ARTIFACT).message
    assert "no manifest type" in refusal(image(), "text/html").message


def test_mp_05_parameters_and_case_of_content_type_do_not_matter() -> None:
    """The type is what stands before the semicolon."""
    assert read(image(), f"{mt.OCI_MANIFEST.upper()} ; charset=utf-8").media_type == mt.OCI_MANIFEST


@pytest.mark.parametrize("content_type", [None, "", ";charset=utf-8"])
def test_mp_05_without_content_type_the_body_decides(content_type: str | None) -> None:
    """`mediaType` stands in for the header; with neither, nobody knows what it is."""
    assert read(index(), content_type).media_type == mt.OCI_INDEX
    refusal(without(image(), "mediaType"), content_type)


def test_mp_05_without_media_type_the_header_decides_for_oci_only() -> None:
    """Helm leaves `mediaType` out; Docker's readers insist on it."""
    assert read(without(image(), "mediaType")).media_type == mt.OCI_MANIFEST
    assert read(without(index(), "mediaType"), mt.OCI_INDEX).is_index
    refusal(without(image(), "mediaType"), mt.DOCKER_MANIFEST)
    refusal(without(index(), "mediaType"), mt.DOCKER_LIST)


@pytest.mark.parametrize("media_type", [mt.OCI_INDEX, mt.DOCKER_MANIFEST, mt.OCI_MANIFEST.upper(), "x"])
def test_mp_06_c1_header_and_body_must_agree(media_type: str) -> None:
    """One digest must not have two types."""
    refusal(image(mediaType=media_type), mt.OCI_MANIFEST)


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b" ", b"[]", b"null", b"{", b'{"schemaVersion":2', b"\xff", b"[" * 100_000, b'{"a":' * 100_000),
        json.dumps(image()).encode("utf-16"),
        b"\xef\xbb\xbf" + json.dumps(image()).encode(),
        json.dumps(image(x=float("nan"))).encode(),
        json.dumps(image()).replace('"size": 1', '"size": 1, "size": 2').encode(),
        json.dumps(image(annotations={"a": "\ud800"})).encode(),
    ],
    ids=range(14),
)
def test_mp_07_c2_what_is_no_strict_json_is_refused(content: bytes) -> None:
    """Broken, empty, deep, doubly keyed, and in other encodings: all 400, with a short reason."""
    assert len(refusal(content).document()) < 500


@pytest.mark.parametrize("version", [None, 1, 3, 2.0, True, "2", [2], {}])
def test_mp_08_schema_version_is_two(version: object) -> None:
    """The integer 2, and nothing that equals it in some language."""
    refusal(image(schemaVersion=version))
    refusal(index(schemaVersion=version), mt.OCI_INDEX)


def test_mp_08_c1_nothing_is_an_image_and_an_index_at_once() -> None:
    """Fields of the other kind, or of schema 1, are refused even when empty."""
    strangers: list[Json] = [{"manifests": []}, {"manifests": [descriptor()]}, {"fsLayers": []}]
    for stranger in strangers:
        refusal(image(**stranger))
    strangers = [{"layers": []}, {"config": descriptor()}, {"layers": [descriptor()]}, {"fsLayers": []}]
    for stranger in strangers:
        refusal(index(**stranger), mt.OCI_INDEX)
    assert not read(image(manifests=None)).is_index
    assert read(index(layers=None, config=None), mt.OCI_INDEX).is_index


@pytest.mark.parametrize(
    "name", ["Layers", "LAYERS", "Manifests", "MediaType", "layer\u017f", "\u017fubject", "Config", "schemaversion"]
)
def test_c1_fields_that_go_would_take_for_known_ones_are_refused(name: str) -> None:
    """Go readers match names in any case, with its folding: a second spelling would be a second meaning."""
    refusal(image(**{name: []}))
    refusal(index(**{name: []}), mt.OCI_INDEX)


def test_c1_misspelled_fields_of_descriptors_and_platforms_are_refused() -> None:
    """The same holds within descriptors and platforms, but not within annotations."""
    strangers: list[Json] = [{"Digest": "x"}, {"SIZE": 1}, {"URLs": []}, {"mediatype": "x"}]
    for stranger in strangers:
        refusal(image(layers=[descriptor(**stranger)]))
        refusal(image(subject=descriptor(**stranger)))
    refusal(index(manifests=[descriptor(platform={"OS": "linux"})]), mt.OCI_INDEX)
    annotations = {"Layers": "x", "layers": "y"}
    assert read(image(annotations=annotations, unknown={"Digest": 1})).annotations == annotations


def test_mp_02_unknown_fields_are_fine() -> None:
    """Extensions that nobody takes for something else are none of our business."""
    manifest = read(image(**{"org.example": [1.5, None, {"a": True}]}, layers=[descriptor(extra=1)]))
    assert len(manifest.layers) == 1


def test_mp_11_foreign_layers_are_marked_if_they_have_urls() -> None:
    """A foreign type and URLs together mean that the blob may be elsewhere; one alone does not."""
    urls = ["https://elsewhere.example/x"]
    layers = [descriptor(FOREIGN, urls=urls), descriptor(FOREIGN), descriptor(FOREIGN, urls=[]), descriptor(urls=urls)]
    assert [layer.is_foreign for layer in read(image(layers=layers)).layers] == [True, False, False, False]


@pytest.mark.parametrize("empty", [{"layers": []}, {"layers": None}, {}])
def test_mp_12_an_image_may_have_no_layers(empty: Json) -> None:
    """An empty list, null and nothing are the same."""
    assert read(without(image(), "layers") | empty).layers == ()


@pytest.mark.parametrize("empty", [{"manifests": []}, {"manifests": None}, {}])
def test_mp_12_an_index_may_have_no_children(empty: Json) -> None:
    """An empty list, null and nothing are the same."""
    assert read(without(index(), "manifests") | empty, mt.OCI_INDEX).children == ()


def test_mp_12_indexes_nest_carry_types_and_keep_data() -> None:
    """Indexes of indexes, with an artifact type, and descriptors with embedded data are accepted."""
    manifest = read(index(manifests=[descriptor(mt.OCI_INDEX, data="eA==")], artifactType="a/b"), mt.OCI_INDEX)
    assert (manifest.children[0].media_type, manifest.artifact_type) == (mt.OCI_INDEX, "a/b")
    refusal(image(config=descriptor(data=1)))


def test_mp_13_any_type_of_config_layer_and_artifact_is_accepted() -> None:
    """What we do not know we do not judge, as long as it can stand in a header."""
    kind = "application/vnd.example+thing; charset=x"
    manifest = read(image(config=descriptor(kind), layers=[descriptor(kind)], artifactType=kind))
    assert manifest.artifact_type == kind
    bad_types: list[Any] = ["a\nb", "\x00", "ä", "x" * 256, 1, ["a"], {}]
    for bad in bad_types:
        refusal(image(artifactType=bad))
        refusal(image(layers=[descriptor(bad)]))


def test_mp_14_the_limit_is_exact_and_413() -> None:
    """A manifest of exactly the limit is read, a byte more is 413 with MANIFEST_INVALID."""
    content = json.dumps(image()).encode()
    expected = read(image())
    assert parse(content + b" " * 10, mt.OCI_MANIFEST, limit_bytes=len(content) + 10) == expected
    padded = content + b" " * (4 * 2**20 - len(content))
    assert parse(padded, mt.OCI_MANIFEST) == expected
    for extra, limit_bytes in ((padded + b" ", MAX_BYTES), (content, len(content) - 1)):
        with pytest.raises(RegistryError) as caught:
            parse(extra, mt.OCI_MANIFEST, limit_bytes=limit_bytes)
        assert (caught.value.status, caught.value.code) == (413, Code.MANIFEST_INVALID)


@pytest.mark.parametrize("size", [-1, 2**53 + 1, 2**63, 10**30, 1.0, 2.5, True, False, "1", None, [1]])
def test_mp_15_c2_sizes_are_integers_within_bounds(size: object) -> None:
    """Negative, huge, fractional and other values are refused, for every descriptor."""
    refusal(image(config=descriptor(size=size)))
    refusal(image(layers=[descriptor(), descriptor(size=size)]))
    refusal(image(subject=descriptor(size=size)))
    refusal(index(manifests=[descriptor(size=size)]), mt.OCI_INDEX)


@pytest.mark.parametrize("size", [0, 1, 2**53])
def test_mp_15_sizes_up_to_the_bound_are_kept(size: int) -> None:
    """From nothing to 2^53."""
    assert read(image(layers=[descriptor(size=size)])).layers[0].size_bytes == size


@pytest.mark.parametrize("digest", ["", "sha256:x", "md5:" + "a" * 32, "sha256:" + "A" * 64, 1, None, ["a"]])
def test_gen_06_digests_in_descriptors_are_checked(digest: object) -> None:
    """A descriptor whose digest cannot be verified is refused, a subject's too."""
    for document in (image(layers=[descriptor(digest=digest)]), image(subject=descriptor(digest=digest))):
        refusal(document)


@pytest.mark.parametrize("value", [1, "x", [], [1], True, {}, {"a": 1}])
def test_parts_of_the_wrong_kind_are_refused(value: object) -> None:
    """Where a descriptor, list or object of strings belongs, nothing else is taken."""
    refusal(image(config=value))
    refusal(image(subject=value))
    refusal(image(layers=[value]))
    if value != []:
        refusal(image(layers=value))
        refusal(index(manifests=value), mt.OCI_INDEX)
        refusal(image(layers=[descriptor(urls=value)]))
    if value != {}:
        refusal(image(annotations=value))
        refusal(image(layers=[descriptor(annotations=value)]))
    if not isinstance(value, dict):
        refusal(index(manifests=[descriptor(platform=value)]), mt.OCI_INDEX)


def test_an_image_must_have_a_config_and_descriptors_a_type() -> None:
    """The required parts are required; null is absent."""
    refusal(without(image(), "config"))
    refusal(image(config=None))
    refusal(image(layers=[without(descriptor(), "mediaType")]))
    refusal(index(manifests=[descriptor(platform={"os": 1})]), mt.OCI_INDEX)


def test_rf_07_the_effective_artifact_type() -> None:
    """The manifest's own; else an image's config type; an index has none by itself; empty is absent."""
    assert read(image(artifactType="a/b")).artifact_type == "a/b"
    assert read(image()).artifact_type == CONFIG
    assert read(image(artifactType="")).artifact_type == CONFIG
    assert read(index(), mt.OCI_INDEX).artifact_type is None
    assert read(index(artifactType="a/b"), mt.OCI_INDEX).artifact_type == "a/b"


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_rf_15_rf_16_subjects_of_images_and_indexes(algorithm: str) -> None:
    """Both kinds may have one, of any kind and algorithm."""
    digest = Digest.of(b"s", algorithm)
    subject = descriptor(mt.OCI_INDEX, digest=str(digest))
    for manifest in (read(image(subject=subject)), read(index(subject=subject), mt.OCI_INDEX)):
        assert manifest.subject == Descriptor(mt.OCI_INDEX, digest, 1)
    assert read(image(subject=None)).subject is None


_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_TYPES = st.from_regex(r"[a-z]{1,9}/[a-z.+-]{1,9}", fullmatch=True)
_DESCRIPTORS = st.builds(
    Descriptor,
    media_type=_TYPES,
    digest=DIGESTS,
    size_bytes=st.integers(0, 2**53),
    artifact_type=st.none() | _TYPES,
    annotations=st.dictionaries(_TEXTS, _TEXTS, max_size=2),
    platform=st.none() | st.sampled_from(["linux/amd64", "linux/arm/v7", "unknown/unknown"]),
)


def _written(each: Descriptor) -> Json:
    written: Json = {"mediaType": each.media_type, "digest": str(each.digest), "size": each.size_bytes}
    written |= {"artifactType": each.artifact_type, "annotations": dict(each.annotations)}
    if each.platform:
        written["platform"] = dict(zip(("os", "architecture", "variant"), each.platform.split("/"), strict=False))
    return written


@settings(max_examples=40)
@given(_DESCRIPTORS, st.lists(_DESCRIPTORS, max_size=3), st.none() | _DESCRIPTORS, st.dictionaries(_TEXTS, _TEXTS))
def test_written_manifests_are_read_back(
    config: Descriptor, listed: list[Descriptor], subject: Descriptor | None, annotations: dict[str, str]
) -> None:
    """Whatever descriptors an image or an index is made of, reading gives the same."""
    extra: Json = {"subject": subject and _written(subject), "annotations": annotations}
    items = [_written(each) for each in listed]
    as_image = read(image(config=_written(config), layers=items, **extra))
    as_index = read(index(manifests=items, **extra), mt.OCI_INDEX)
    assert (as_image.config, list(as_image.layers), as_image.subject) == (config, listed, subject)
    assert (list(as_index.children), as_index.subject, as_index.annotations) == (listed, subject, annotations)


@pytest.mark.parametrize(
    ("name", "make", "content_type"), [("layers", image, mt.OCI_MANIFEST), ("manifests", index, mt.OCI_INDEX)]
)
def test_no_more_is_listed_than_can_be_stored_at_once(name: str, make: Any, content_type: str) -> None:
    """10,000 layers or children are accepted; one more is refused with the figure, before any of them is read."""
    document = make(**{name: [descriptor(mt.OCI_MANIFEST)] * MAX_LISTED})
    manifest = read(document, content_type)
    assert len(manifest.layers) + len(manifest.children) == MAX_LISTED == 10_000

    error = refusal(make(**{name: [descriptor(mt.OCI_MANIFEST)] * MAX_LISTED + ["never looked at"]}), content_type)

    assert f"{name} has 10001 entries" in str(error.entries[0].message)
    assert "10000" in str(error.entries[0].message)


@pytest.mark.slow
@pytest.mark.parametrize("count", [MAX_LISTED, 20_500])
def test_c4_mp_14_four_mebibytes_of_children_are_read_in_bounded_memory(count: int) -> None:
    """Reading 4 MiB stays below 64 MiB: for the longest list that is accepted, and for refusing one that is longer."""
    child: Json = {"mediaType": mt.OCI_MANIFEST, "size": 1, "platform": {"architecture": "arm64", "os": "linux"}}
    child["digest"] = str(Digest.of(b"x"))
    bare = len(json.dumps({**child, "annotations": {"a": ""}}, separators=(",", ":")))
    if (filler := MAX_BYTES // count - bare - 2) > 0:
        child["annotations"] = {"a": "x" * filler}
    unit = json.dumps(child, separators=(",", ":")).encode()
    content = b'{"schemaVersion":2,"manifests":[' + b",".join([unit] * count) + b"]}"
    assert MAX_BYTES * 0.9 < len(content) <= MAX_BYTES
    tracemalloc.start()
    try:
        if count > MAX_LISTED:
            refusal(content, mt.OCI_INDEX)
        else:
            assert len(parse(content, mt.OCI_INDEX).children) == count
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 64 * 2**20
