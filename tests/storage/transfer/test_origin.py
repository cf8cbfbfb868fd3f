"""Where requests go, out of what operators write."""

import pytest

from storage.transfer import Origin


@pytest.mark.parametrize(
    ("url", "origin", "authority", "text"),
    [
        ("http://s3.example", Origin("http", "s3.example", 80), "s3.example", "http://s3.example"),
        ("https://S3.example/", Origin("https", "s3.example", 443), "s3.example", "https://s3.example"),
        ("http://[::1]:9000", Origin("http", "::1", 9000), "[::1]:9000", "http://[::1]:9000"),
        ("https://a:80", Origin("https", "a", 80), "a:80", "https://a:80"),
        ("http://a:80", Origin("http", "a", 80), "a", "http://a"),
    ],
)
def test_url_is_taken_apart(url: str, origin: Origin, authority: str, text: str) -> None:
    """The port is the scheme's own where none is given, and then not said."""
    assert Origin.parse(url) == origin
    assert origin.authority == authority
    assert str(origin) == text


@pytest.mark.parametrize(
    "url",
    [
        "s3.example",
        "ftp://a",
        "http://",
        "http://a/b",
        "http://a?b",
        "http://a#b",
        "http://u:p@a",
        "http://a:99999",
        "",
    ],
)
def test_anything_else_is_refused(url: str) -> None:
    """A path or a password in it would be lost in silence."""
    with pytest.raises(ValueError, match=r".+"):
        Origin.parse(url)


def test_only_https_is_encrypted() -> None:
    """As it says."""
    assert Origin.parse("https://a").encrypted
    assert not Origin.parse("http://a").encrypted
