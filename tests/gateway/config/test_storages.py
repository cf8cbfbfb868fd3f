"""A named storage is a directory or a bucket; what each needs, and what each refuses, is said under its own key."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.config import DirectoryStorage, S3Storage, Storage


def named(**values: Any) -> DirectoryStorage | S3Storage:
    """The storage `x` of a tree that has these values."""
    return Storage.model_validate({"storages": {"x": values}}).storages["x"]


def test_a_storage_without_a_kind_is_a_directory() -> None:
    """Configurations of before there were buckets go on."""
    assert named(path=Path("/x")) == DirectoryStorage(path=Path("/x"))


def test_a_bucket_needs_its_kind_and_its_name() -> None:
    """The rest has defaults."""
    assert named(kind="s3", bucket="sluice") == S3Storage(bucket="sluice")
    with pytest.raises(ValidationError, match=r"x\.s3\.bucket\n +Field required"):
        named(kind="s3")
    with pytest.raises(ValidationError, match=r"x\.directory\.bucket\n +Extra inputs"):
        named(bucket="sluice")


@pytest.mark.parametrize("kind", ["s4", "", 5, None, [], {}])
def test_another_kind_is_refused_with_those_there_are(kind: object) -> None:
    """Whatever stands there."""
    with pytest.raises(ValidationError, match="must be 'directory' or 's3'"):
        named(kind=kind)


@pytest.mark.parametrize(
    "values",
    [
        {"access_key_id": "id"},
        {"secret_access_key": "hush"},
        {"access_key_id": "id", "secret_access_key": "hush", "profile": "ci"},
        {"part_bytes": 5 * 2**20 - 1},
        {"part_bytes": 20 * 2**20, "spool_bytes": 39 * 2**20},
        {"hot_bytes": -1},
        {"redirect_networks": ("10.0.0.1/8",)},
        {"redirect_lifetime_s": 9},
        {"addressing": "host"},
    ],
)
def test_a_bucket_that_could_not_work_is_refused(values: dict[str, Any]) -> None:
    """Half a key, two sources of credentials, parts that S3 refuses, networks that are none."""
    with pytest.raises(ValidationError):
        S3Storage.model_validate({"bucket": "sluice", **values})


def test_the_hot_set_lies_below_the_data_directory_unless_placed() -> None:
    """Each bucket has a directory of its own on local disk."""
    storage = Storage.model_validate(
        {
            "data": "d",
            "storages": {
                "a": {"kind": "s3", "bucket": "sluice"},
                "b": {"kind": "s3", "bucket": "other", "hot_path": "/ssd"},
            },
        }
    )

    assert storage.directory("a") == Path("d/hot/a")
    assert storage.directory("b") == Path("/ssd")
    assert storage.spool == Path("d/spool")


def test_one_database_at_a_time() -> None:
    """A file beside a server would be a mistake in one of the two."""
    with pytest.raises(ValidationError, match=r"must not be set together with storage\.database"):
        Storage.model_validate({"database": "x.db", "database_url": "postgresql://h/d"})
