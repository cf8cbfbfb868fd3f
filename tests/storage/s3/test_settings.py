"""What cannot work is refused where it is said, and secrets are not shown."""

import dataclasses
from typing import Any

import pytest

from storage.s3.settings import S3Settings

GOOD = S3Settings("bucket")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bucket": "a/b"}, "bucket name"),
        ({"bucket": "ab"}, "bucket name"),
        ({"bucket": ""}, "bucket name"),
        ({"prefix": "/a"}, "prefix"),
        ({"prefix": "a//b"}, "prefix"),
        ({"prefix": "a/../b"}, "prefix"),
        ({"prefix": "a b"}, "prefix"),
        ({"prefix": "a" * 600}, "prefix"),
        ({"access_key_id": "key"}, "belong together"),
        ({"secret_access_key": "secret"}, "belong together"),
        ({"part_bytes": 1 << 20}, "part_bytes"),
        ({"window_bytes": 1000}, "window_bytes"),
        ({"parallel_range_bytes": 1000}, "parallel_range_bytes"),
        ({"parallel_get": 0}, "parallel_get"),
        ({"connections": 0}, "connections"),
        ({"lifecycle_days": 0}, "lifecycle_days"),
    ],
)
def test_refused(change: dict[str, Any], words: str) -> None:
    """The message names the setting."""
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(GOOD, **change)


@pytest.mark.parametrize(("prefix", "root"), [("", ""), ("a", "a/"), ("a/", "a/"), ("a/b.c", "a/b.c/")])
def test_root(prefix: str, root: str) -> None:
    """A prefix is a folder, with or without its slash."""
    assert dataclasses.replace(GOOD, prefix=prefix).root == root


def test_secret_is_not_shown() -> None:
    """A representation, as logs and tracebacks have it, has no secret."""
    assert "hidden" not in repr(S3Settings("bucket", access_key_id="key", secret_access_key="hidden"))
