"""Names in a bucket are read back as they were made, and nothing else is read as one."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.blobstore import StoredObject
from storage.digest import Digest
from storage.errors import BlobUnknown
from storage.s3.keys import ObjectName, blob_key, marked, object_id_of, segment_key, segment_of
from tests.storage.place import HOSTILE_KEYS

IDS = st.text("0123456789abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=80)
NAME = ObjectName(Digest.of(b"some"), "3f2a-7", 4, 1_790_000_000)


@settings(max_examples=50)
@given(content=st.binary(max_size=8), object_id=IDS, size=st.integers(0, 5 << 40), at=st.integers(0, 10**11))
def test_key_tells_everything(content: bytes, object_id: str, size: int, at: int) -> None:
    """A row's key, and the marker's name, give back digest, id, size and time."""
    name = ObjectName(Digest.of(content), object_id, size, at)
    assert ObjectName.parse(name.key) == name
    assert marked(name.marker) == name
    assert object_id_of(name.blob) == object_id


def test_layout() -> None:
    """The names are those of docs/storage-format.md."""
    digest = Digest.of(b"some").hex
    assert NAME.key == f"sha256/{digest}/3f2a-7.4.1790000000"
    assert NAME.marker == f"markers/sha256/{digest}/3f2a-7.4.1790000000"
    assert NAME.aside == f"quarantine/sha256/{digest}/3f2a-7.4.1790000000"
    assert NAME.blob == "blobs/3f/3f2a-7"
    assert segment_key("up-1", 12).startswith("staging/up-1/00000000000000000012-")


def test_stored() -> None:
    """The object that a name tells of is kept as it is."""
    assert NAME.stored == StoredObject(NAME.key, NAME.digest, 4, 4, "identity", 1_790_000_000)


@pytest.mark.parametrize(
    "key",
    [
        *HOSTILE_KEYS,
        NAME.key + "\n",
        NAME.key + ".1",
        NAME.key.replace(".4.", ".04."),  # two keys of one object would be two objects
        NAME.key.replace("sha256", "sha512"),
        NAME.key.replace("3f2a", "3F2A"),
        "sha256/../blobs/3f/3f2a-7.4.1",
        NAME.marker,
    ],
)
def test_foreign_key(key: str) -> None:
    """A key that this store cannot have made names nothing."""
    with pytest.raises(BlobUnknown):
        ObjectName.parse(key)
    assert marked(f"markers/{key}") is None


@pytest.mark.parametrize("object_id", ["", "A", "a/b", "..", "a.b", "x" * 81, "a\n"])
def test_malformed_id(object_id: str) -> None:
    """An id outside of the grammar is the caller's mistake."""
    with pytest.raises(ValueError, match="object id"):
        blob_key(object_id)
    with pytest.raises(ValueError, match="object id"):
        ObjectName(Digest.of(b""), object_id, 0, 0)


def test_sha512() -> None:
    """Objects are named by sha256 alone."""
    with pytest.raises(ValueError, match="sha256"):
        ObjectName(Digest.of(b"", "sha512"), "a", 0, 0)


@pytest.mark.parametrize("key", ["blobs/3f/4f2a", "blobs/3f2a", "blobs/3f/3f2a/x", "staging/3f/3f2a", "blobs/3F/3F2A"])
def test_foreign_blob_key(key: str) -> None:
    """What lies among the blobs under another kind of name is not ours."""
    assert object_id_of(key) is None


@settings(max_examples=50)
@given(staging_id=st.text("0123456789abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=64), at=st.integers(0, 5 << 40))
def test_segments(staging_id: str, at: int) -> None:
    """A segment's name gives back its area and offset, sorts by offset, and is made once."""
    assert segment_of(segment_key(staging_id, at)) == (staging_id, at)
    assert segment_key(staging_id, at) != segment_key(staging_id, at)
    assert segment_key(staging_id, at) < segment_key(staging_id, at + 1)


@pytest.mark.parametrize("key", ["staging/a/1", "staging/a/b/00000000000000000001", "staging//00000000000000000001"])
def test_foreign_segment(key: str) -> None:
    """What lies in staging under another kind of name is not ours."""
    assert segment_of(key) is None
