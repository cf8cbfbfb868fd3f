"""Storages that would share a place are found, over directories, hot sets and buckets."""

from typing import Any

import pytest

from gateway.config import Settings
from gateway.config.overlaps import overlaps


def found(*storages: dict[str, Any]) -> list[tuple[str, str]]:
    """Key and value of each complaint about storages named 0, 1 and so on."""
    named = {str(number): storage for number, storage in enumerate(storages)}
    settings = Settings.model_validate({"storage": {"storages": named}})
    return [(".".join(path), given) for path, given, _ in overlaps(settings)]


def bucket(**values: Any) -> dict[str, Any]:
    """A bucket on a service."""
    return {"kind": "s3", "bucket": "one", "endpoint_url": "https://s3.example", **values}


@pytest.mark.parametrize(
    ("second", "key"),
    [
        (bucket(), "bucket"),
        (bucket(prefix="a"), "prefix"),
        (bucket(hot_path="data/hot/0", bucket="two"), "hot_path"),
        (bucket(hot_path="data/storages/default/x", bucket="two"), "hot_path"),
    ],
)
def test_what_shares_a_place_is_named_by_its_key(second: dict[str, Any], key: str) -> None:
    """The same bucket, a part of it, the hot set of another, or a directory inside a storage."""
    assert [path for path, _ in found(bucket(), second)] == [f"storage.storages.1.{key}"]


@pytest.mark.parametrize(
    "second",
    [bucket(bucket="two"), bucket(endpoint_url="https://other.example"), bucket(endpoint_url=None)],
)
def test_other_places_are_fine(second: dict[str, Any]) -> None:
    """Another bucket, or one of the same name on another service."""
    assert found(bucket(), second) == []


def test_prefixes_are_whole_names() -> None:
    """`a` and `ab` lie side by side, `a` and `a/b` do not."""
    assert found(bucket(prefix="a"), bucket(prefix="ab")) == []
    assert found(bucket(prefix="a/b"), bucket(prefix="a")) == [("storage.storages.1.prefix", "a")]
