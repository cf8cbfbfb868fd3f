"""Protocol section 1.11: subject and referrers, row by row."""

import hashlib
import json
from typing import Any
from urllib.parse import quote

import pytest

from tests.served import OCI_INDEX, OCI_MANIFEST, Reply, Served, descriptor, image_index, image_manifest, sha256

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
CONFIG = b"{}"


def attach(
    gateway: Served, name: str, subject: bytes, artifact_type: str | None = "application/vnd.example.sbom", **extra: Any
) -> tuple[str, Reply]:
    """PUT a manifest whose subject is another; its digest and the answer."""
    gateway.push_blob(name, CONFIG)
    fields = {"subject": descriptor(subject, OCI_MANIFEST), **extra}
    if artifact_type is not None:
        fields["artifactType"] = artifact_type
    manifest = image_manifest(CONFIG, **fields)
    digest = sha256(manifest)
    reply = gateway.admin("PUT", f"/v2/{name}/manifests/{digest}", manifest, {"Content-Type": OCI_MANIFEST})
    assert reply.status == 201, reply
    return digest, reply


def listed(gateway: Served, name: str, digest: str, query: str = "") -> list[dict[str, Any]]:
    """The descriptors that the referrers API gives."""
    reply = gateway.admin("GET", f"/v2/{name}/referrers/{digest}{query}")
    assert reply.status == 200, reply
    return list(reply.json()["manifests"])


def test_rf_01_oci_subject_header(gateway: Served, name: str) -> None:
    """PUT with a subject answers OCI-Subject: by digest, by tag, again, for an index; without a subject it does not."""
    subject = image_manifest(CONFIG)
    digest, first = attach(gateway, name, subject)
    manifest = gateway.admin("GET", f"/v2/{name}/manifests/{digest}").body
    again = gateway.admin("PUT", f"/v2/{name}/manifests/tag", manifest, {"Content-Type": OCI_MANIFEST})
    index = image_index(subject=descriptor(subject, OCI_MANIFEST))
    of_index = gateway.admin("PUT", f"/v2/{name}/manifests/i", index, {"Content-Type": OCI_INDEX})

    assert [reply.headers.get("oci-subject") for reply in (first, again, of_index)] == [sha256(subject)] * 3
    plain = gateway.admin("PUT", f"/v2/{name}/manifests/p", subject, {"Content-Type": OCI_MANIFEST})
    assert "oci-subject" not in plain.headers


def test_rf_02_the_header_is_kept_by_a_working_api(gateway: Served, name: str) -> None:
    """Whatever was answered with OCI-Subject is listed at once."""
    subject = image_manifest(CONFIG)
    digest, reply = attach(gateway, name, subject)
    assert reply.headers["oci-subject"] == sha256(subject)

    assert [entry["digest"] for entry in listed(gateway, name, sha256(subject))] == [digest]


def test_rf_03_an_image_index_of_exactly_this_type(gateway: Served, name: str) -> None:
    """The answer is an OCI image index and its Content-Type has no parameters."""
    subject = image_manifest(CONFIG)
    attach(gateway, name, subject)

    reply = gateway.admin("GET", f"/v2/{name}/referrers/{sha256(subject)}")

    assert reply.headers["content-type"] == INDEX_TYPE
    assert (reply.json()["schemaVersion"], reply.json()["mediaType"]) == (2, INDEX_TYPE)


def test_rf_04_unknown_is_empty(gateway: Served, name: str) -> None:
    """Unknown subjects, and images that nobody ever pushed to, have an empty list, not 404."""
    gateway.push_blob(name, CONFIG)

    for where in (name, f"{name}/never"):
        reply = gateway.admin("GET", f"/v2/{where}/referrers/sha256:{'0' * 64}")
        assert (reply.status, reply.headers["content-type"], reply.json()["manifests"]) == (200, INDEX_TYPE, [])


@pytest.mark.parametrize("digest", ["sha256:abc", "nonsense", "md5:0"])
def test_rf_05_malformed_digest(gateway: Served, name: str, digest: str) -> None:
    """A malformed digest is 400 DIGEST_INVALID."""
    reply = gateway.admin("GET", f"/v2/{name}/referrers/{digest}")

    assert (reply.status, reply.codes()) == (400, ["DIGEST_INVALID"])


def test_rf_06_descriptor_has_everything(gateway: Served, name: str) -> None:
    """A descriptor has type, size, digest, artifactType and all annotations of the manifest."""
    subject = image_manifest(CONFIG)
    notes = {"org.example.a": "1", "org.example.b": "zwei ✓"}
    digest, _ = attach(gateway, name, subject, annotations=notes)
    size = len(gateway.admin("GET", f"/v2/{name}/manifests/{digest}").body)

    (entry,) = listed(gateway, name, sha256(subject))

    assert entry == {
        "mediaType": OCI_MANIFEST,
        "digest": digest,
        "size": size,
        "artifactType": "application/vnd.example.sbom",
        "annotations": notes,
    }


def test_rf_07_artifact_type(gateway: Served, name: str) -> None:
    """The manifest's own artifactType, else an image's config type, else (index) none."""
    subject = image_manifest(CONFIG)
    attach(gateway, name, subject, None)
    index = image_index(subject=descriptor(subject, OCI_MANIFEST))
    gateway.admin("PUT", f"/v2/{name}/manifests/{sha256(index)}", index, {"Content-Type": OCI_INDEX})

    found = {entry["mediaType"]: entry.get("artifactType") for entry in listed(gateway, name, sha256(subject))}

    assert found == {OCI_MANIFEST: "application/vnd.oci.image.config.v1+json", OCI_INDEX: None}


def test_rf_08_09_filter(gateway: Served, name: str) -> None:
    """ArtifactType filters and says so in OCI-Filters-Applied, with matches and without; unasked, it does not."""
    subject = image_manifest(CONFIG)
    wanted, _ = attach(gateway, name, subject, "application/vnd.a+json")
    attach(gateway, name, subject, "application/vnd.b")
    path = f"/v2/{name}/referrers/{sha256(subject)}"

    some = gateway.admin("GET", f"{path}?artifactType={quote('application/vnd.a+json', safe='')}")
    none = gateway.admin("GET", f"{path}?artifactType=application%2Fvnd.c")
    every = gateway.admin("GET", path)

    assert [entry["digest"] for entry in some.json()["manifests"]] == [wanted]
    assert none.json()["manifests"] == []
    assert [reply.headers.get("oci-filters-applied") for reply in (some, none, every)] == ["artifactType"] * 2 + [None]
    assert len(every.json()["manifests"]) == 2


@pytest.mark.slow
def test_rf_10_one_page_below_four_mebibytes_and_links_beyond(gateway: Served, name: str) -> None:
    """Forty referrers with 150 KB of annotations each come in several pages that keep the filter and lose nothing."""
    subject = image_manifest(CONFIG)
    kind = "application/vnd.example.sbom"
    pushed = {
        attach(gateway, name, subject, kind, annotations={"n": f"{number}", "filler": "x" * 150_000})[0]
        for number in range(40)
    }
    path: str | None = f"/v2/{name}/referrers/{sha256(subject)}?artifactType={quote(kind, safe='')}"
    seen: list[str] = []
    pages = 0

    while path is not None:
        reply = gateway.admin("GET", path)
        assert len(reply.body) <= 4 * 2**20
        assert reply.headers["oci-filters-applied"] == "artifactType"
        seen += [entry["digest"] for entry in reply.json()["manifests"]]
        link = reply.headers.get("link")
        path = link[1 : link.index(">")] if link else None
        pages += 1

    assert pages > 1
    assert sorted(seen) == sorted(pushed)


def test_rf_11_referrer_before_its_subject(gateway: Served, name: str) -> None:
    """A referrer is listed before its subject comes, after it came, and after it was deleted."""
    gateway.push_blob(name, CONFIG)
    subject = image_manifest(CONFIG)
    digest, _ = attach(gateway, name, subject)
    path = f"/v2/{name}/manifests/{sha256(subject)}"
    states = [listed(gateway, name, sha256(subject))]
    assert gateway.admin("PUT", path, subject, {"Content-Type": OCI_MANIFEST}).status == 201
    states.append(listed(gateway, name, sha256(subject)))
    assert gateway.admin("DELETE", path).status == 202
    states.append(listed(gateway, name, sha256(subject)))

    assert [[entry["digest"] for entry in state] for state in states] == [[digest]] * 3


def test_rf_12_a_deleted_referrer_leaves_the_list(gateway: Served, name: str) -> None:
    """Deletion shows at once."""
    subject = image_manifest(CONFIG)
    digest, _ = attach(gateway, name, subject)

    assert gateway.admin("DELETE", f"/v2/{name}/manifests/{digest}").status == 202

    assert listed(gateway, name, sha256(subject)) == []


def test_rf_13_14_fallback_tags_of_older_clients(gateway: Served, name: str) -> None:
    """An index under the fallback tag is stored like any tag, and its members with that subject are listed."""
    subject = image_manifest(CONFIG)
    digest, _ = attach(gateway, name, subject)
    member = gateway.admin("GET", f"/v2/{name}/manifests/{digest}").body
    tag = sha256(subject).replace(":", "-")
    index = image_index(member)

    assert gateway.admin("PUT", f"/v2/{name}/manifests/{tag}", index, {"Content-Type": OCI_INDEX}).status == 201

    assert gateway.admin("GET", f"/v2/{name}/manifests/{tag}").body == index
    assert [entry["digest"] for entry in listed(gateway, name, sha256(subject))] == [digest]


def test_rf_15_an_index_as_subject(gateway: Served, name: str) -> None:
    """A referrer of an index is found under the index's digest."""
    _, manifest = gateway.push_image(name, "a", b"layer")
    index = image_index(manifest)
    gateway.admin("PUT", f"/v2/{name}/manifests/i", index, {"Content-Type": OCI_INDEX})

    digest, _ = attach(gateway, name, index)

    assert [entry["digest"] for entry in listed(gateway, name, sha256(index))] == [digest]


def test_rf_16_sha512_subject(gateway: Served, name: str) -> None:
    """A subject named by sha512 is found by sha512."""
    gateway.push_blob(name, CONFIG)
    strong = f"sha512:{hashlib.sha512(b'subject').hexdigest()}"
    manifest = image_manifest(CONFIG, subject={**descriptor(b"subject", OCI_MANIFEST), "digest": strong})
    reply = gateway.admin("PUT", f"/v2/{name}/manifests/r", manifest, {"Content-Type": OCI_MANIFEST})
    assert reply.headers["oci-subject"] == strong

    assert [entry["digest"] for entry in listed(gateway, name, strong)] == [sha256(manifest)]


def test_rf_17_listed_once(gateway: Served, name: str) -> None:
    """Pushed twice and tagged thrice, a manifest is listed once."""
    subject = image_manifest(CONFIG)
    digest, _ = attach(gateway, name, subject)
    manifest = gateway.admin("GET", f"/v2/{name}/manifests/{digest}").body
    for tag in ("x", "y", "x"):
        gateway.admin("PUT", f"/v2/{name}/manifests/{tag}", manifest, {"Content-Type": OCI_MANIFEST})

    assert len(listed(gateway, name, sha256(subject))) == 1


def test_rf_annotations_come_back_as_text(gateway: Served, name: str) -> None:
    """Control characters and quotes in annotations survive as JSON text and end no header or string."""
    subject = image_manifest(CONFIG)
    notes = {"k\r\n\"'": "<img onerror=x>\u2028"}
    attach(gateway, name, subject, annotations=notes)

    (entry,) = listed(gateway, name, sha256(subject))

    assert json.loads(json.dumps(entry["annotations"])) == notes
