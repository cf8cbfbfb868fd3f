"""Where the secret key comes from: one place for the server, for commands and for moves."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from gateway.access.sealing import key_from_setting
from gateway.access.secret_key import carry_secret_key, present_secret_key, secret_key
from gateway.config import Access, Settings, Storage

TEXT = "x" * 32


def _settings(data: Path, text: str | None = None) -> Settings:
    return Settings(storage=Storage(data=data), access=Access(secret_key=SecretStr(text) if text else None))


def test_the_setting_counts_before_the_file(tmp_path: Path) -> None:
    """A key in the configuration makes no file and reads none."""
    made = secret_key(_settings(tmp_path))

    assert secret_key(_settings(tmp_path)) == present_secret_key(_settings(tmp_path)) == made
    assert secret_key(_settings(tmp_path, TEXT)) == key_from_setting(TEXT) != made


def test_looking_makes_no_key(tmp_path: Path) -> None:
    """Only who starts an installation makes one."""
    assert present_secret_key(_settings(tmp_path)) is None
    assert list(tmp_path.iterdir()) == []


def test_a_key_is_carried_to_who_has_none(tmp_path: Path) -> None:
    """As a file, once: what is there stays."""
    assert carry_secret_key(_settings(tmp_path), b"k" * 32) == b"k" * 32
    assert carry_secret_key(_settings(tmp_path), b"n" * 32) == b"k" * 32
    assert carry_secret_key(_settings(tmp_path, TEXT), b"n" * 32) == key_from_setting(TEXT)


def test_a_key_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    """Too short a text is no key."""
    with pytest.raises(ValueError, match="at least 32 random characters"):
        secret_key(_settings(tmp_path, "short"))
