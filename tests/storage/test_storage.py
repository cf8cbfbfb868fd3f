"""The narrow waist: what the package exports can be had, and what is costly only when it is asked for."""

import subprocess
import sys

import pytest

import storage


def test_every_exported_name_is_there() -> None:
    """Also those that are imported late, which are the very classes of their modules."""
    assert [name for name in storage.__all__ if not hasattr(storage, name)] == []
    assert storage.Bucket.__module__ == "storage.s3.bucket"


def test_another_name_is_an_error_as_with_any_module() -> None:
    """So that a misspelt import is told at once."""
    with pytest.raises(AttributeError, match="no attribute 'Bukket'"):
        storage.Bukket  # noqa: B018


def test_boto3_waits_until_a_bucket_is_wanted() -> None:
    """Commands and installations without a bucket do not pay for it."""
    script = "import sys, gateway.installation; print('boto3' in sys.modules, 'psycopg' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["False", "False"]
