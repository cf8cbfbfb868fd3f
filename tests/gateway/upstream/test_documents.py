"""Tests of whether an upstream's manifest is what was asked for (rows P3 and P5)."""

import json
from typing import Any

import pytest

from gateway.oci.names import Reference, Tag
from gateway.upstream.answers import FetchedManifest
from gateway.upstream.documents import named_digest, read_manifest
from gateway.upstream.errors import UpstreamFailed, UpstreamRefused
from storage import Digest
from tests.served import OCI_INDEX, OCI_MANIFEST, image_manifest

CONTENT = image_manifest(b"{}", b"layer")
DIGEST = Digest.of(CONTENT)
SHA512 = Digest.of(CONTENT, "sha512")
OTHER = Digest.of(b"other")


def read(
    content: bytes = CONTENT, reference: Reference = DIGEST, *, media_type: str | None = OCI_MANIFEST, **fields: Any
) -> FetchedManifest:
    """Read it with this type and these fields of the answer."""
    headers = [] if media_type is None else [("content-type", media_type)]
    headers += [(name.replace("_", "-"), str(value)) for name, value in fields.items()]
    return read_manifest(content, headers=headers, reference=reference, what="it")


def test_a_manifest_comes_out_as_it_came_in() -> None:
    """Exact bytes, type, digest and entity tag, and what the bytes say."""
    fetched = read(reference=Tag("latest"), docker_content_digest=DIGEST, etag='"x"')
    assert (fetched.content, fetched.media_type, fetched.digest) == (CONTENT, OCI_MANIFEST, DIGEST)
    assert fetched.etag == '"x"'
    assert [layer.digest for layer in fetched.manifest.layers] == [Digest.of(b"layer")]


def test_row_p3_bytes_of_another_digest_are_refused_whatever_the_answer_says() -> None:
    """The field asserts the digest that was asked for, as the bad ones do."""
    with pytest.raises(UpstreamFailed, match=str(DIGEST)):
        read(reference=OTHER, docker_content_digest=OTHER)


def test_row_p3_a_tags_bytes_must_be_those_that_the_answer_names() -> None:
    """Something between us and the upstream has changed one of the two."""
    with pytest.raises(UpstreamFailed, match="the answer says"):
        read(reference=Tag("latest"), docker_content_digest=OTHER)


def test_a_digest_is_kept_in_the_algorithm_that_it_goes_by() -> None:
    """Asked for by sha512, or named so by the upstream (row MP-20)."""
    assert read(reference=SHA512).digest == SHA512
    assert read(reference=Tag("latest"), docker_content_digest=SHA512).digest == SHA512
    assert read(reference=DIGEST, docker_content_digest=SHA512).digest == DIGEST
    assert read(reference=Tag("latest"), docker_content_digest="sha1:1234").digest == DIGEST


@pytest.mark.parametrize(
    "content",
    [
        b"<html><body>Please sign in</body></html>",
        b"",
        b"{}",
        b"null",
        CONTENT[:-1],
        json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "manifests": []}).encode(),
    ],
)
def test_row_p3_what_is_no_manifest_is_the_upstreams_failure(content: bytes) -> None:
    """A login page with status 200, half a manifest, another document."""
    with pytest.raises(UpstreamFailed, match="it is no manifest"):
        read(content, Tag("latest"))


def test_row_p5_bytes_under_the_wrong_type_are_refused() -> None:
    """An index is not served as an image, nor the other way round."""
    with pytest.raises(UpstreamFailed):
        read(reference=Tag("latest"), media_type=OCI_INDEX)


@pytest.mark.parametrize(
    "media_type", [None, "application/json", "text/plain; charset=utf-8", "application/octet-stream"]
)
def test_row_p5_a_type_that_says_nothing_leaves_it_to_the_bytes(media_type: str | None) -> None:
    """Static servers do not know the types of manifests."""
    assert read(media_type=media_type).media_type == OCI_MANIFEST


def test_manifests_of_former_kinds_are_refused_by_name() -> None:
    """Trying again does not help, and the message says what does."""
    with pytest.raises(UpstreamRefused, match="pushed there anew"):
        read(b"{}", Tag("latest"), media_type="application/vnd.docker.distribution.manifest.v1+prettyjws")


@pytest.mark.parametrize("text", ["", "sha256:12", "md5:d41d8cd98f00b204e9800998ecf8427e", "nonsense"])
def test_a_digest_that_cannot_be_checked_is_none(text: str) -> None:
    """It is not believed and does not fail."""
    assert named_digest([("docker-content-digest", text)]) is None
