"""What may be entered about other registries, and the one form that each takes."""

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy import upstreams


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("docker.io", "https://registry-1.docker.io"),
        ("https://index.docker.io/v1/", "https://registry-1.docker.io"),
        ("http://docker.io", "https://registry-1.docker.io"),
        ("GHCR.io", "https://ghcr.io"),
        (" https://ghcr.io:443/ ", "https://ghcr.io"),
        ("http://registry.example.com:80", "http://registry.example.com"),
        ("http://registry.example.com:443", "http://registry.example.com:443"),
        ("https://localhost.", "https://localhost"),
        ("10.0.0.5:5000", "https://10.0.0.5:5000"),
        ("https://[0:0::1]:5000/v2/team", "https://[::1]:5000/v2/team"),
    ],
)
def test_an_address_has_one_form(text: str, url: str) -> None:
    """However it is written, so that two forms of one origin compare equal."""
    assert upstreams.remote_url(text) == url
    assert upstreams.remote_url(url) == url


@given(st.text(max_size=40))
def test_whatever_is_entered_is_one_form_or_refused(text: str) -> None:
    """What comes out goes in again unchanged and has no user, query or space; all else is a ValueError."""
    try:
        url = upstreams.remote_url(text)
    except ValueError:
        return
    assert upstreams.remote_url(url) == url
    assert url.startswith(("https://", "http://"))
    assert not set("@?# \\%") & set(url)


@pytest.mark.parametrize(("text", "name"), [("Docker.IO", "docker.io"), ("a.example:5000", "a.example:5000")])
def test_an_address_of_ours_is_in_small_letters(text: str, name: str) -> None:
    """As hosts and namespaces are looked up."""
    assert upstreams.address(text) == name


@pytest.mark.parametrize("text", ["", "a/b", "https://a", "a@b", "a:", "a:0", "a:b", "127.1", "-a", "a?b", "ä.example"])
def test_an_address_of_ours_is_a_host(text: str) -> None:
    """And a port at most."""
    with pytest.raises(ValueError, match=r"."):
        upstreams.address(text)


def test_networks_platforms_and_patterns() -> None:
    """Each in its one form."""
    assert upstreams.network(" 10.1.2.3/16 ") == "10.1.0.0/16"
    assert upstreams.network("::1") == "::1/128"
    assert upstreams.platform("Linux/ARM/v7") == "linux/arm/v7"
    assert upstreams.image_pattern("library/*") == "library/*"
    for check, text in (
        (upstreams.network, "10.0.0.0/33"),
        (upstreams.platform, "linux"),
        (upstreams.image_pattern, "a b"),
        (upstreams.image_pattern, "a" * 256),
    ):
        with pytest.raises(ValueError, match=r"^(use|there)"):
            check(text)


def test_authorities_are_certificates() -> None:
    """A private key that was pasted by mistake is refused, and never stored."""
    authority = trustme.CA()
    pem = authority.cert_pem.bytes().decode()

    assert upstreams.ca_pem(pem) == pem
    for wrong in (
        "",
        "-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n",
        "x" * 40000,
        "nö",
        "\ufffd\ud800",
    ):
        with pytest.raises(ValueError, match=r"PEM|characters"):
            upstreams.ca_pem(wrong)
    with pytest.raises(ValueError, match="private key"):
        upstreams.ca_pem(pem + authority.private_key_pem.bytes().decode())
