"""Digests: the grammar that is accepted, and one hasher for both algorithms."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.digest import Digest, DigestInvalid, Hasher

SHA256 = "sha256:" + "0123456789abcdef" * 4
SHA512 = "sha512:" + "0123456789abcdef" * 8


@pytest.mark.parametrize("text", [SHA256, SHA512])
def test_parse_and_print(text: str) -> None:
    """A digest of either registered algorithm is read, and printed as it was."""
    digest = Digest.parse(text)
    assert (str(digest), f"{digest.algorithm}:{digest.hex}") == (text, text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "sha256",
        "sha256:",
        "sha256:abc",
        SHA256 + "0",
        SHA256[:-1],
        SHA256 + "\n",
        " " + SHA256,
        SHA256.upper(),
        "sha256:" + "A" * 64,
        "sha256:" + "g" * 64,
        "sha256:" + "\u0660" * 64,
        "SHA256:" + "0" * 64,
        "sha512:" + "0" * 64,
        "sha256:" + "0" * 128,
        "sha256:../" + "0" * 61,
        "sha256+b64:" + "0" * 64,
        "sha384:" + "0" * 96,
        "md5:" + "0" * 32,
        "sha256:" + "0" * 10_000,
    ],
)
def test_malformed(text: str) -> None:
    """Whatever is no lowercase sha256 or sha512 digest is refused, with its reason."""
    with pytest.raises(DigestInvalid, match="digest"):
        Digest.parse(text)


@given(st.text(max_size=300))
def test_parse_accepts_only_what_it_prints(text: str) -> None:
    """Any text is either refused as a digest or printed back unchanged."""
    try:
        digest = Digest.parse(text)
    except DigestInvalid:
        return
    assert str(digest) == text


@given(st.lists(st.binary(max_size=5000), max_size=8), st.sampled_from(["sha256", "sha512"]))
def test_hasher_is_the_algorithm(chunks: list[bytes], algorithm: str) -> None:
    """However the bytes are cut, the hasher gives the digest of the whole, and counts them."""
    hasher = Hasher(algorithm)
    for chunk in chunks:
        hasher.update(chunk)
    content = b"".join(chunks)
    assert hasher.digest().hex == hashlib.new(algorithm, content).hexdigest()
    assert hasher.digest() == Digest.of(content, algorithm)
    assert hasher.size_bytes == len(content)


def test_digest_may_be_asked_in_the_middle() -> None:
    """Asking does not end the hasher: more bytes may follow."""
    hasher = Hasher()
    hasher.update(b"one")
    assert hasher.digest() == Digest.of(b"one")
    hasher.update(b"two")
    assert hasher.digest() == Digest.of(b"onetwo")


def test_copy_goes_its_own_way() -> None:
    """A copy has the same state and is changed by nothing that happens to the other one."""
    hasher = Hasher("sha512")
    hasher.update(b"common")
    twin = hasher.copy()
    hasher.update(b" left")
    twin.update(b" right!")
    assert (hasher.digest(), hasher.size_bytes) == (Digest.of(b"common left", "sha512"), 11)
    assert (twin.digest(), twin.size_bytes) == (Digest.of(b"common right!", "sha512"), 13)


def test_size_counts_bytes_not_items() -> None:
    """A view of larger items counts as the bytes that it covers."""
    hasher = Hasher()
    hasher.update(memoryview(bytes(12)).cast("I"))
    assert hasher.size_bytes == 12


def test_unknown_algorithm() -> None:
    """What the registry could not verify is not hashed either."""
    with pytest.raises(DigestInvalid, match="md5"):
        Hasher("md5")
    with pytest.raises(DigestInvalid, match="md5"):
        Digest.of(b"", "md5")


def test_order_and_identity() -> None:
    """Digests are values: equal when their text is, usable as keys, and sorted by text within an algorithm."""
    low, high = Digest.parse("sha256:" + "0" * 64), Digest.parse("sha256:" + "f" * 64)
    assert sorted([high, low]) == [low, high]
    assert len({low, high, Digest.parse(str(low))}) == 2
