"""What two configurations have in common, and whose secret key it is."""

from pathlib import Path

import click
import pytest
from pydantic import SecretStr

from gateway.access.sealing import key_from_setting, load_or_create_key
from gateway.cli.moving import carry_key, shared_storages
from gateway.config import Access, DirectoryStorage, S3Storage, Settings, Storage

TEXT = "x" * 32


def at(data: Path, *, secret_key: str | None = None, **storages: DirectoryStorage | S3Storage) -> Settings:
    """An installation in that directory, which exists."""
    data.mkdir(exist_ok=True)
    access = Access(secret_key=SecretStr(secret_key) if secret_key else None)
    return Settings(storage=Storage(data=data, storages={"default": DirectoryStorage(), **storages}), access=access)


def bucket(prefix: str) -> S3Storage:
    """A part of a bucket."""
    return S3Storage(kind="s3", bucket="images", prefix=prefix)


def test_installations_must_not_share_a_database_or_a_place_under_two_names(tmp_path: Path) -> None:
    """Whatever way the same directory is written; parts of one bucket are two places, one under one name is told."""
    old = at(tmp_path / "old", cold=bucket("a"))
    (tmp_path / "link").symlink_to(tmp_path / "old")
    same_directory = DirectoryStorage(path=tmp_path / "link" / "storages" / "default")

    for new, message in (
        (at(tmp_path / "link"), "same database"),
        (at(tmp_path / "new", other=same_directory), "storage other lies where the old one's storage default does"),
        (at(tmp_path / "new", other=bucket("a")), "storage other lies where the old one's storage cold does"),
    ):
        with pytest.raises(click.ClickException, match=message):
            shared_storages(old, new)
    assert shared_storages(old, at(tmp_path / "new", cold=bucket("b"))) == []
    assert shared_storages(old, at(tmp_path / "new", cold=bucket("a"), warm=bucket("c"))) == ["cold"]


@pytest.mark.parametrize("in_setting", [False, True])
def test_a_new_installation_gets_the_old_key(tmp_path: Path, *, in_setting: bool) -> None:
    """As a file, wherever the old one had it."""
    old = at(tmp_path / "old", secret_key=TEXT if in_setting else None)
    key = key_from_setting(TEXT) if in_setting else load_or_create_key(tmp_path / "old" / "secret.key")

    assert carry_key(old, at(tmp_path / "new")) is None
    assert load_or_create_key(tmp_path / "new" / "secret.key") == key


def test_a_key_that_is_there_stays(tmp_path: Path) -> None:
    """The same one is fine, another one is told, and so is none at all."""
    old = at(tmp_path / "old", secret_key=TEXT)

    assert carry_key(old, at(tmp_path / "same", secret_key=TEXT)) is None
    assert "another secret key" in (carry_key(old, at(tmp_path / "other", secret_key="y" * 32)) or "")
    assert "has no secret key" in (carry_key(at(tmp_path / "keyless"), old) or "")
    assert not list(tmp_path.rglob("secret.key"))
