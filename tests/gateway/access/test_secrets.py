"""Random secrets: recognisable, random, and checkable without a database."""

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.secrets import SecretKind, hash_secret, kind_of, looks_like, mint


@pytest.mark.parametrize("kind", SecretKind)
def test_a_minted_secret_is_recognised_and_stored_as_its_hash(kind: SecretKind) -> None:
    """OAU-09: the text has the kind's prefix and only harmless characters; what is stored is its SHA-256."""
    text, stored = mint(kind)

    assert re.fullmatch(r"sluice_(pat|key|ref)_[0-9A-Za-z]{49}", text)
    assert kind_of(text) is kind
    assert looks_like(text, kind)
    assert stored == hashlib.sha256(text.encode()).hexdigest() == hash_secret(text)


def test_kinds_are_not_taken_for_each_other() -> None:
    """A refresh token does not look like a personal token, whatever its checksum."""
    text, _ = mint(SecretKind.REFRESH)

    assert [kind for kind in SecretKind if looks_like(text, kind)] == [SecretKind.REFRESH]


def test_secrets_differ_in_their_random_part() -> None:
    """A thousand secrets are a thousand different ones, and use the whole alphabet."""
    texts = {mint(SecretKind.ROBOT)[0] for _ in range(1000)}

    assert len(texts) == 1000
    assert len(set("".join(text.removeprefix("sluice_key_") for text in texts))) == 62


@given(st.integers(0, 59), st.characters())
def test_one_changed_character_is_noticed(position: int, character: str) -> None:
    """A damaged secret fails its checksum and costs no look-up."""
    text, _ = mint(SecretKind.PERSONAL)
    changed = text[:position] + character + text[position + 1 :]

    assert looks_like(changed, SecretKind.PERSONAL) == (changed == text)


@pytest.mark.parametrize("text", ["", "sluice_pat_", "hunter2", "sluice_pat_" + "é" * 49, "x" * 100_000, "\ud800"])
def test_other_texts_are_no_secrets(text: str) -> None:
    """Nothing else passes, and nothing raises."""
    assert not any(looks_like(text, kind) for kind in SecretKind)
    assert len(hash_secret(text)) == 64
