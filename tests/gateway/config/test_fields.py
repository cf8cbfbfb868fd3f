"""Single values: each bad one is refused with what is allowed, and no message repeats what may be a secret."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from gateway.config.fields import BucketName, DatabaseUrl, EndpointUrl, Prefix


def complaint(kind: Any, value: str) -> str:
    """Why the value is refused, as an operator reads it; fails if it is not."""
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(kind).validate_python(value)
    return str(caught.value.errors()[0]["msg"])


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:hush@h/d",
        "postgresql+psycopg://u:hush@h/d",
        "postgresql://u:hush@h",
        "postgresql://u:hush@h/",
        "postgresql://u:hush@h/a/b",
        "postgresql://u:hush@h:port/d",
        "postgresql://u:hu/sh@h/d",
        "postgresql://u:hu#sh@h/d",
        "postgresql://u:hush@[h/d",
        "postgresql://u:hüsh@h/d",
        "postgresql://u:hush @h/d",
        "hush",
        "",
    ],
)
def test_a_database_url_that_means_nothing_is_refused_without_its_password(url: str) -> None:
    """Another scheme, no database, a stray character: said in words, with an example, and no part of the value."""
    said = complaint(DatabaseUrl, url)

    assert "postgresql://sluice:PASSWORD@database.example:5432/sluice" in said
    assert "hu" not in said
    assert "hüsh" not in said


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("postgresql://u:p%40@h:1/d?sslmode=verify-full", "postgresql://u:p%40@h:1/d?sslmode=verify-full"),
        ("postgres://h/d", "postgresql://h/d"),
        ("postgresql:///d?host=/run/postgresql", "postgresql:///d?host=/run/postgresql"),
        ("postgresql://u@[::1]:5432/d", "postgresql://u@[::1]:5432/d"),
    ],
)
def test_a_database_url_is_kept_as_it_is(given: str, kept: str) -> None:
    """With parameters, sockets and IPv6; only the short scheme becomes the long one."""
    assert TypeAdapter(DatabaseUrl).validate_python(given).get_secret_value() == kept


@pytest.mark.parametrize(
    "url", ["s3.example", "ftp://s3.example", "https://u:p@s3.example", "https://s3.example/bucket", "https://h:x", ""]
)
def test_an_endpoint_is_scheme_and_host(url: str) -> None:
    """The bucket is a setting of its own, and so are credentials."""
    assert "must be a URL such as https://s3.example:9000" in complaint(EndpointUrl, url)


def test_an_endpoint_has_no_slash_at_its_end() -> None:
    """So that one service has one name."""
    assert TypeAdapter(EndpointUrl).validate_python("http://h:9000/") == "http://h:9000"


@pytest.mark.parametrize("name", ["", "ab", "a/b", "-abc", "abc-", "a b c", "a" * 256])
def test_what_is_no_bucket(name: str) -> None:
    """Nothing that would change the path of a request."""
    assert "must be the name of a bucket" in complaint(BucketName, name)


@pytest.mark.parametrize("prefix", ["..", "a/../b", "a//b", "a b", "a=b", "ä", "a" * 513])
def test_what_is_no_prefix(prefix: str) -> None:
    """Nothing that a path or a signature would have to escape."""
    assert "must be names of letters" in complaint(Prefix, prefix)


@pytest.mark.parametrize(("given", "kept"), [("", ""), ("/", ""), ("/a/b/", "a/b"), ("team-1", "team-1")])
def test_slashes_around_a_prefix_are_dropped(given: str, kept: str) -> None:
    """However it is written, it means the same keys."""
    assert TypeAdapter(Prefix).validate_python(given) == kept
