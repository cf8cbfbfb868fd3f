"""Which addresses are dialled: row P2 of the reference, form by form."""

import socket
import ssl
from collections.abc import Iterator

import pytest
import trustme

from gateway.upstream.dialling import (
    MAX_ADDRESSES,
    Dialler,
    may_dial,
    networks_of,
    origin_and_target,
    system_lookup,
    tls_context,
)
from gateway.upstream.errors import UpstreamError, UpstreamFailed, UpstreamRefused
from storage import Pool
from storage.transfer import Origin
from tests.gateway.upstream.reaching import LOOPBACK, Names, Reach, body, manifest
from tests.upstream.script import Redirect
from tests.upstream.scripted import ScriptedUpstream

FORBIDDEN = (
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:8.8.8.8",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::a00:1",
    "100::1",
    "2001::1",
    "2001:2::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "2002:a9fe:a9fe::1",
    "3fff::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%lo",
    "fec0::1",
    "ff02::1",
)
PUBLIC = ("1.1.1.1", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.1", "172.32.0.1", "2606:4700::1")

LOOPBACK_HOSTS = (
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "0",
    "0.0.0.0",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0177.0.0.1",
    "017700000001",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::]",
)
"""Spellings of this machine that some system understands. Those that name another port of it reach the same sockets."""
OTHER_HOSTS = (
    "169.254.169.254",
    "0xa9fea9fe",
    "2852039166",
    "[::ffff:169.254.169.254]",
    "[64:ff9b::169.254.169.254]",
    "[2002:a9fe:a9fe::]",
    "100.100.100.200",
    "10.0.0.1",
    "192.168.0.1",
    "[fd00:ec2::254]",
    "[fe80::1]",
)
NO_PLAIN_URLS = (
    "file:///etc/passwd",
    "gopher://127.0.0.1:6379/_INFO",
    "ftp://registry.example/",
    "javascript:alert(1)",
    "//registry.example/v2/",
    "registry.example/v2/",
    "http:/registry.example/",
    "http://",
    "http:///v2/",
    "https://user@registry.example/",
    "https://user:secret@registry.example/",
    "https://registry.example@127.0.0.1/",
    "https://@registry.example/",
    "https://registry.example\\@127.0.0.1/",
    "https://registry.example /",
    "https://registry.example\t/",
    "https://registry.example/\r\nHost: x",
    "https://registry.example:port/",
    "https://registry.example:99999/",
    "https://registry.example:-1/",
    "https://127.0.0.1%2f@registry.example/",
    "https://%31%32%37.0.0.1/",
    "https://①②⑦.0.0.1/",
    "https://registry。example/",
    "https://[::1/",
    "https://[v1.x]/",
    "https://[fe80::1%25lo]/",
    "https://-registry.example/",
    "",
)


@pytest.mark.parametrize("address", FORBIDDEN)
def test_row_p2_no_special_address_is_public(address: str) -> None:
    """Loopback, private, carriers', metadata, documentation, multicast, and every way to write IPv4 in IPv6."""
    assert not may_dial(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_dialled(address: str) -> None:
    """Also those next to the ranges that are not."""
    assert may_dial(address)


def test_settings_allow_networks_and_nothing_around_them() -> None:
    """A network or a single address; others of its kind stay forbidden."""
    allowed = networks_of(["10.1.0.0/16", "127.0.0.2", "fd00::/8"])

    assert all(may_dial(each, allowed) for each in ("10.1.2.3", "127.0.0.2", "fd12::1", "1.1.1.1"))
    assert not any(may_dial(each, allowed) for each in ("10.2.0.1", "127.0.0.1", "::ffff:10.1.2.3", "fe80::1"))
    with pytest.raises(ValueError, match="does not appear"):
        networks_of(["internal"])


@pytest.mark.parametrize("url", NO_PLAIN_URLS)
def test_row_p2_only_plain_urls_are_read(url: str) -> None:
    """Other schemes, credentials in the URL, and what two readers of URLs would read differently, are refused."""
    with pytest.raises(UpstreamRefused):
        origin_and_target(url)


@pytest.mark.parametrize(
    ("url", "origin", "target"),
    [
        ("https://registry.example", Origin("https", "registry.example", 443), "/"),
        ("https://Registry.Example:5000/v2/", Origin("https", "registry.example", 5000), "/v2/"),
        ("http://[2606:4700::1]:80/a?b=c#d", Origin("http", "2606:4700::1", 80), "/a?b=c"),
        ("HTTPS://registry.example?x=%2F", Origin("https", "registry.example", 443), "/?x=%2F"),
        ("https://registry.example:22/", Origin("https", "registry.example", 22), "/"),
    ],
)
def test_urls_are_taken_apart(url: str, origin: Origin, target: str) -> None:
    """The origin as it is dialled, and the target as it is sent; the fragment stays here."""
    assert origin_and_target(url) == (origin, target)


@pytest.fixture(scope="module")
def loopback() -> Iterator[ScriptedUpstream]:
    """Something that should never be reached, on all of this machine's addresses of IPv4."""
    with ScriptedUpstream(host="0.0.0.0") as scripted:
        scripted.shelf.image("team/app", "latest", b"secret")
        yield scripted


def refusal(host: str) -> type[UpstreamError]:
    """Refused where the system knows an address for this spelling; else there is nothing to connect to."""
    try:
        system_lookup(host.strip("[]"), 80)
    except OSError:
        return UpstreamFailed
    return UpstreamRefused


@pytest.mark.parametrize("host", [*LOOPBACK_HOSTS, *OTHER_HOSTS])
async def test_row_p2_no_spelling_of_a_private_address_is_dialled(
    reach: Reach, loopback: ScriptedUpstream, host: str
) -> None:
    """The system's resolver may make of a host what it likes: what it gives is judged, for both clients."""
    base = f"http://{host}:{loopback.port}"
    http = reach(base, private_networks=())

    with pytest.raises(refusal(host)):
        await manifest(http, base)
    with pytest.raises(refusal(host)):
        await body(http, base, "/v2/")

    assert loopback.connections == 0


@pytest.mark.parametrize("host", [*LOOPBACK_HOSTS, *OTHER_HOSTS])
async def test_row_p2_redirects_lead_to_no_private_address(
    reach: Reach, elsewhere: ScriptedUpstream, loopback: ScriptedUpstream, host: str
) -> None:
    """Each hop is dialled by the same rules, and only the upstream's own address was allowed; for both clients."""
    base = f"http://upstream.test:{elsewhere.port}"
    http = reach(base, private_networks=("127.0.0.2",), lookup=Names(upstream_test=[["127.0.0.2"]]))
    assert (await manifest(http, base)).status == 200  # so that asks has the next question
    elsewhere.script(Redirect("/v2/team/app/hop"), lambda seen: not seen.path.endswith("/hop"))
    elsewhere.script(Redirect(f"http://{host}:{loopback.port}/v2/"), lambda seen: seen.path.endswith("/hop"))

    with pytest.raises(refusal(host)):
        await manifest(http, base)
    with pytest.raises(refusal(host)):
        await body(http, base, "/v2/")

    assert [seen.path.rpartition("/")[2] for seen in elsewhere.requests] == ["latest", "latest", "hop", "", "hop"]
    assert loopback.connections == 0


async def test_row_p2_a_name_that_rebinds_is_judged_at_each_connection(
    reach: Reach, upstream: ScriptedUpstream
) -> None:
    """Resolved once per connection, and what was judged is what is dialled; the private answer that follows is not."""
    base = f"http://rebinding.test:{upstream.port}"
    names = Names(rebinding_test=[["127.0.0.1"], ["127.0.0.1"], ["127.0.0.9"]])
    http = reach(base, private_networks=("127.0.0.1/32",), lookup=names)

    assert (await manifest(http, base)).status == 200
    assert (await manifest(http, base)).status == 200
    with pytest.raises(UpstreamRefused, match="no public address"):
        await manifest(http, base)

    assert names.asked == ["rebinding.test"] * 3
    assert upstream.connections == 2


async def test_row_p2_of_several_addresses_only_allowed_ones_are_dialled(
    reach: Reach, elsewhere: ScriptedUpstream
) -> None:
    """A name that has a public and a private address is reached by the first alone."""
    base = f"http://both.test:{elsewhere.port}"
    names = Names(both_test=[["127.0.0.1", "::1", "127.0.0.2"]])
    http = reach(base, private_networks=("127.0.0.2/32",), lookup=names)
    dialler = Dialler(Pool("names", 1), ["127.0.0.2"], lookup=names)

    assert (await manifest(http, base)).status == 200
    assert await body(http, base, "/v2/") == b"{}"
    assert await dialler.addresses(Origin("http", "both.test", elsewhere.port)) == ["127.0.0.2"]


async def test_the_next_address_is_tried(reach: Reach, elsewhere: ScriptedUpstream) -> None:
    """Nobody listens at the first address: the second one is the upstream, for both clients."""
    base = f"http://two.test:{elsewhere.port}"
    http = reach(base, lookup=Names(two_test=[["127.0.0.3", "127.0.0.2"]]))

    for _ in range(2):  # the first contact, then asks
        assert (await manifest(http, base)).status == 200


async def test_names_are_bounded_and_must_have_an_address() -> None:
    """A name with a thousand addresses is tried at a few; one without any is no connection."""
    many = Names(many_test=[[f"1.1.{each}.1" for each in range(200)]], none_test=[[]])
    dialler = Dialler(Pool("names", 1), lookup=many)

    assert len(await dialler.addresses(Origin("https", "many.test", 443))) == MAX_ADDRESSES
    with pytest.raises(UpstreamRefused):
        await dialler.addresses(Origin("https", "none.test", 443))
    with pytest.raises(OSError, match="not known"):
        await dialler.addresses(Origin("https", "missing.test", 443))


async def test_literal_addresses_need_no_thread() -> None:
    """They are judged as they are; nobody is asked what they mean."""
    names = Names()
    dialler = Dialler(Pool("names", 1), LOOPBACK, lookup=names)

    assert await dialler.addresses(Origin("http", "127.0.0.1", 80)) == ["127.0.0.1"]
    assert names.asked == []


def test_the_system_is_asked_for_names() -> None:
    """Each address once, and an error of the system's for names that do not exist."""
    assert "127.0.0.1" in system_lookup("localhost", 80)
    assert len(system_lookup("127.1", 80)) == 1
    with pytest.raises(socket.gaierror):
        system_lookup("name.invalid", 80)


def test_certificates_are_the_systems_and_the_upstreams_own(authority: trustme.CA) -> None:
    """The text adds to what the system believes; a text without certificates is an error that says so."""
    pem = authority.cert_pem.bytes().decode()
    alone, added = tls_context(None), tls_context(pem)

    assert len(added.get_ca_certs()) == len(alone.get_ca_certs()) + 1
    assert (added.verify_mode, added.check_hostname) == (ssl.CERT_REQUIRED, True)
    with pytest.raises(UpstreamFailed, match="PEM"):
        tls_context("not a certificate")
