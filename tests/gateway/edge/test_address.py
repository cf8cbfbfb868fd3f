"""External addresses and client addresses: believed from whom, in which order, in which form."""

from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config import Server
from gateway.edge.address import (
    AddressRules,
    BadHost,
    External,
    UnknownHost,
    client_address,
    external,
    is_configured,
    is_within,
    named_host,
)

PROXY = "10.0.0.1"
STRANGER = "203.0.113.9"
TRUSTING = AddressRules.of(Server(trusted_proxies=("10.0.0.0/8", "fd00::/8")))


def scope(
    *fields: tuple[str, str], peer: str | None = STRANGER, host: str | None = "reg.example:5000"
) -> dict[str, Any]:
    """The ASGI scope of a request."""
    hosts = [] if host is None else [("host", host)]
    return {
        "scheme": "http",
        "client": None if peer is None else (peer, 4711),
        "server": ("192.0.2.1", 8080),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in (*hosts, *fields)],
    }


def url(found: External) -> str:
    """What clients are told."""
    return found.url("/v2/token")


def test_ch_12_the_host_that_the_client_used_is_the_address() -> None:
    """Row CH-12: without configuration, clients get back the host and port that they spoke to."""
    assert url(external(scope(), AddressRules())) == "http://reg.example:5000/v2/token"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("Reg.Example", "http://reg.example/"),
        ("reg.example:80", "http://reg.example/"),
        ("reg.example:443", "http://reg.example:443/"),
        ("localhost:8080", "http://localhost:8080/"),
        ("registry_1", "http://registry_1/"),
        ("[::1]:8080", "http://[::1]:8080/"),
        ("reg.example.", "http://reg.example/"),
        (None, "http://192.0.2.1:8080/"),
    ],
)
def test_hosts_are_normalised(host: str | None, expected: str) -> None:
    """Lower case, no default port, no final dot; without Host (HTTP/1.0) our own address."""
    assert external(scope(host=host), AddressRules()).url("/") == expected


def test_a_configured_url_wins() -> None:
    """With server.external_url nothing that a request says changes the address, forwarded headers included."""
    rules = AddressRules.of(Server(external_url="https://Registry.example:443/sub/", trusted_proxies=(PROXY,)))
    asked = scope(("x-forwarded-host", "other.example"), ("x-forwarded-proto", "http"), peer=PROXY)

    assert url(external(asked, rules)) == "https://registry.example/sub/v2/token"


FORGED = [
    ("x-forwarded-host", "evil.example"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-port", "1"),
    ("forwarded", "for=1.2.3.4;host=evil.example;proto=https"),
    ("x-forwarded-for", "1.2.3.4"),
]


@pytest.mark.parametrize("peer", [STRANGER, None])
@pytest.mark.parametrize("rules", [AddressRules(), TRUSTING])
def test_gen_21_t6_headers_of_strangers_are_ignored(rules: AddressRules, peer: str | None) -> None:
    """Rows GEN-21, T6: from a peer that is no trusted proxy, forwarded headers change nothing."""
    asked = scope(*FORGED, peer=peer)

    assert url(external(asked, rules)) == "http://reg.example:5000/v2/token"
    assert client_address(asked, rules) == (peer or "unknown")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([("x-forwarded-proto", "https")], "https://reg.example:5000/"),
        ([("x-forwarded-proto", "HTTPS"), ("x-forwarded-host", "pub.example")], "https://pub.example/"),
        ([("x-forwarded-host", "pub.example:8443")], "http://pub.example:8443/"),
        (
            [("x-forwarded-proto", "https"), ("x-forwarded-host", "pub.example"), ("x-forwarded-port", "8443")],
            "https://pub.example:8443/",
        ),
        (
            [("x-forwarded-proto", "https"), ("x-forwarded-host", "pub.example"), ("x-forwarded-port", "443")],
            "https://pub.example/",
        ),
        ([("x-forwarded-host", "pub.example:1"), ("x-forwarded-port", "2")], "http://pub.example:1/"),
        ([("forwarded", "for=1.2.3.4;proto=https;host=pub.example")], "https://pub.example/"),
        (
            [("forwarded", 'for="[2001:db8::1]:4711"; Proto=https ; host="pub.example:8443"')],
            "https://pub.example:8443/",
        ),
        ([("forwarded", "host=a.example"), ("x-forwarded-host", "b.example")], "http://b.example/"),
    ],
)
def test_gen_21_a_trusted_proxy_says_how_clients_reach_it(fields: list[tuple[str, str]], expected: str) -> None:
    """Row GEN-21: scheme, host and port as the proxy forwards them."""
    assert external(scope(*fields, peer=PROXY), TRUSTING).url("/") == expected


@pytest.mark.parametrize(
    "lines",
    [
        [("x-forwarded-host", "evil.example, good.example"), ("x-forwarded-proto", "javascript, https")],
        [
            ("x-forwarded-host", "evil.example"),
            ("x-forwarded-host", "good.example"),
            ("x-forwarded-proto", "javascript"),
            ("x-forwarded-proto", "https"),
        ],
    ],
)
def test_what_a_proxy_appends_counts_not_what_the_client_began_with(lines: list[tuple[str, str]]) -> None:
    """One trusted proxy: the rightmost value is its own."""
    asked = scope(*lines, ("x-forwarded-for", STRANGER), peer=PROXY)

    assert external(asked, TRUSTING).url("/") == "https://good.example/"


def test_with_two_trusted_proxies_the_outer_one_knows() -> None:
    """Each appends what it saw: the outer one saw https, the inner one the http between them."""
    asked = scope(
        ("x-forwarded-for", f"1.1.1.1, {STRANGER}, 10.0.0.2"),
        ("x-forwarded-proto", "javascript, https, http"),
        ("x-forwarded-host", "evil.example, pub.example, inner"),
        peer=PROXY,
    )

    assert external(asked, TRUSTING).url("/") == "https://pub.example/"
    assert client_address(asked, TRUSTING) == STRANGER


HOSTILE_HOSTS = [
    "a, b",
    "a b",
    "user@reg.example",
    "user:pass@reg.example",
    "reg.example/path",
    "reg.example?x",
    "reg.example#x",
    "reg.example\\x",
    "reg.example\r\nSet-Cookie: a",
    "reg.example\x00",
    "r\xe9g.example",
    "xn--\xfc",
    "reg.example:0",
    "reg.example:65536",
    "reg.example:99999999",
    "reg.example:-1",
    "reg.example:http",
    "reg..example",
    ".example",
    "-",
    "[::1",
    "::1",
    "[fe80::1%eth0]",
    "[:::::]",
    "javascript:alert(1)",
    "<script>",
    '"reg.example"',
    "a" * 64,
    "",
    " ",
]


@pytest.mark.parametrize("host", HOSTILE_HOSTS)
def test_t6_hostile_hosts_are_refused(host: str) -> None:
    """Row T6: anything but one host with an optional port is BadHost, from the client and from a proxy."""
    with pytest.raises(BadHost):
        external(scope(host=host), AddressRules())
    with pytest.raises(BadHost):
        external(scope(("x-forwarded-proto", "http"), ("x-forwarded-port", "99999"), peer=PROXY), TRUSTING)
    if "," not in host and host.strip():
        with pytest.raises(BadHost):
            external(scope(("x-forwarded-host", host), peer=PROXY), TRUSTING)


def test_t6_two_hosts_are_refused() -> None:
    """Two Host fields are two meanings."""
    with pytest.raises(BadHost):
        external(scope(("host", "evil.example")), AddressRules())


@pytest.mark.parametrize("scheme", ["javascript", "ftp", "https ,x y", "https\r\n", "wss"])
def test_t6_hostile_schemes_are_refused(scheme: str) -> None:
    """Row T6: http and https, nothing else, also from a trusted proxy."""
    with pytest.raises(BadHost):
        external(scope(("x-forwarded-proto", scheme), peer=PROXY), TRUSTING)


@settings(max_examples=50)
@given(st.text(st.characters(max_codepoint=255), max_size=40))
def test_whatever_is_accepted_can_stand_in_a_header(host: str) -> None:
    """No accepted host breaks out of a quoted string, a header line or the authority of a URL."""
    try:
        found = external(scope(host=host), AddressRules())
    except BadHost:
        return

    assert not set(found.host) & set(' \t\r\n"\\/?#@<>,;%')
    assert found.host.isascii()


def test_names_are_an_allow_list() -> None:
    """Only listed names are answered, whatever the port and case; others are UnknownHost (421)."""
    rules = AddressRules.of(Server(server_names=("Reg.example", "[::1]"), trusted_proxies=(PROXY,)))

    for host in ("reg.example", "REG.example:5000", "reg.example.", "[::1]:80"):
        assert external(scope(host=host), rules).scheme == "http"
    for host in ("other.example", "reg.example.evil", "evil-reg.example", "127.0.0.1", None):  # type: ignore[assignment]
        with pytest.raises(UnknownHost):
            external(scope(host=host), rules)
    with pytest.raises(UnknownHost):
        external(scope(("x-forwarded-host", "other.example"), peer=PROXY), rules)


def test_the_configured_url_s_name_is_always_allowed() -> None:
    """Whoever sets external_url and a list need not repeat the name; other names stay refused."""
    rules = AddressRules.of(Server(server_names=("alt.example",), external_url="https://reg.example"))

    assert external(scope(host="reg.example"), rules).host == "reg.example"
    with pytest.raises(UnknownHost):
        external(scope(host="evil.example"), rules)


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "expected"),
    [
        (PROXY, None, PROXY),
        (PROXY, STRANGER, STRANGER),
        (PROXY, f"1.1.1.1, 2.2.2.2, {STRANGER}", STRANGER),
        (PROXY, f"{STRANGER}, 10.0.0.2, 10.0.0.3", STRANGER),
        (PROXY, f"10.0.0.9, {STRANGER}, 10.0.0.2", STRANGER),
        (PROXY, "10.0.0.2, 10.0.0.3", "10.0.0.2"),
        (PROXY, f"{STRANGER}:4711", STRANGER),
        (PROXY, "[2001:db8::1]:4711", "2001:db8::1"),
        (PROXY, "2001:DB8::1", "2001:db8::1"),
        (PROXY, f"::ffff:{STRANGER}", STRANGER),
        (f"::ffff:{PROXY}", STRANGER, STRANGER),
        ("fd00::1", STRANGER, STRANGER),
        (PROXY, "nonsense", PROXY),
        (PROXY, f"{STRANGER}, nonsense, 10.0.0.2", "10.0.0.2"),
        (PROXY, "", PROXY),
        (STRANGER, "1.1.1.1", STRANGER),
        (None, "1.1.1.1", "unknown"),
    ],
)
def test_t11_the_client_is_the_last_whom_no_trusted_proxy_vouches_for(
    peer: str | None, forwarded_for: str | None, expected: str
) -> None:
    """Row T11: read from the right; what a client wrote itself is never reached."""
    fields = [] if forwarded_for is None else [("x-forwarded-for", forwarded_for)]

    assert client_address(scope(*fields, peer=peer), TRUSTING) == expected


def test_t11_forwarded_is_read_the_same_way() -> None:
    """RFC 7239: the rightmost element is the nearest proxy's."""
    asked = scope(("forwarded", f"for=1.1.1.1, for={STRANGER};proto=https;host=pub.example"), peer=PROXY)

    assert client_address(asked, TRUSTING) == STRANGER
    assert external(asked, TRUSTING).url("/") == "https://pub.example/"


@settings(max_examples=50)
@given(st.text(max_size=60), st.text(max_size=60))
def test_t11_no_header_makes_an_error_of_the_client_address(one: str, two: str) -> None:
    """Nonsense ends the search at whoever reported it."""
    fields = [("x-forwarded-for", one), ("forwarded", two)]
    encoded = [(name, value.encode("utf-8", "replace").decode("latin-1")) for name, value in fields]

    assert client_address(scope(*encoded, peer=PROXY), TRUSTING)
    assert client_address(scope(encoded[1], peer=PROXY), TRUSTING)


@pytest.mark.parametrize(
    ("server", "field"),
    [
        ({"external_url": "https://a b"}, "external_url"),
        ({"external_url": "https://reg..example"}, "external_url"),
        ({"external_url": "https://reg.example:0"}, "external_url"),
        ({"server_names": ["a b"]}, "server_names"),
        ({"server_names": ["https://reg.example"]}, "server_names"),
    ],
)
def test_a_host_that_nobody_could_use_names_its_field(server: dict[str, Any], field: str) -> None:
    """Told at the start, not at the first request."""
    with pytest.raises(ValueError, match=field):
        AddressRules.of(Server(**server))


@pytest.mark.parametrize(
    ("client", "inside"),
    [
        ("198.51.100.7", True),
        ("198.51.101.7", False),
        ("2001:db8::1", True),
        ("2001:db9::1", False),
        ("::ffff:198.51.100.7", True),
        ("unknown", False),
        ("", False),
    ],
)
def test_a_client_lies_in_a_network_or_not(client: str, *, inside: bool) -> None:
    """Of either family, as whatever `client_address` gives; nobody lies in no network."""
    networks = (ip_network("198.51.100.0/24"), ip_network("2001:db8::/32"))

    assert is_within(client, networks) is inside
    assert not is_within(client, ())


# --- paths and hosts of single repositories -------------------------------------------------------------------------

MOUNT = "/repositories/oci/hub"
CONFIGURED = AddressRules.of(
    Server(external_url="https://registry.example/base", server_names=("inner",), trusted_proxies=("10.0.0.0/8",))
)


@pytest.mark.parametrize(
    ("fields", "peer", "prefix"),
    [
        ([], STRANGER, MOUNT),
        ([("x-forwarded-prefix", "/evil")], STRANGER, MOUNT),
        ([], PROXY, ""),
        ([("x-forwarded-host", "pub.example")], PROXY, ""),
        ([("x-forwarded-prefix", "/mirror")], PROXY, "/mirror"),
        ([("x-forwarded-prefix", "/a/b-c_d~/")], PROXY, "/a/b-c_d~"),
        ([("x-forwarded-prefix", "/")], PROXY, ""),
        ([("x-forwarded-prefix", "/client, /proxy")], PROXY, "/proxy"),
    ],
)
def test_ch_12_what_stands_before_v2_for_the_client(fields: list[tuple[str, str]], peer: str, prefix: str) -> None:
    """The sub-path itself, unless a trusted proxy has rewritten it; then what that proxy says, else nothing."""
    assert external(scope(*fields, peer=peer), TRUSTING, mount=MOUNT).prefix == prefix


def test_a_prefix_counts_without_a_sub_path_too() -> None:
    """A gateway behind a path of a proxy's: the proxy takes it off and says so."""
    asked = scope(("x-forwarded-prefix", "/registry"), peer=PROXY)

    assert url(external(asked, TRUSTING)) == "http://reg.example:5000/registry/v2/token"
    assert url(external(asked, AddressRules())) == "http://reg.example:5000/v2/token"


@pytest.mark.parametrize(
    "prefix",
    ["x", "//x", "/x//y", "/x/../y", "/.x", "/x y", "/%2e", "/x?y", "/x;y", "http://x", "/x" * 11, "\\x", "/x\r"],
)
def test_t6_a_prefix_that_is_no_path_is_refused(prefix: str) -> None:
    """It would end up in Location and realm: 400, from a trusted proxy too."""
    with pytest.raises(BadHost):
        external(scope(("x-forwarded-prefix", prefix), peer=PROXY), TRUSTING, mount=MOUNT)


@pytest.mark.parametrize(
    ("fields", "peer", "expected"),
    [
        ([], STRANGER, f"https://registry.example/base{MOUNT}/"),
        ([], PROXY, "https://registry.example/base/"),
        ([("x-forwarded-prefix", "/mirror")], PROXY, "https://registry.example/mirror/"),
    ],
)
def test_the_configured_address_has_sub_paths(fields: list[tuple[str, str]], peer: str, expected: str) -> None:
    """Below a configured URL a repository's path is found where the proxy, or the URL, says."""
    assert external(scope(*fields, peer=peer, host="inner"), CONFIGURED, mount=MOUNT).url("/") == expected


def test_ch_12_a_repository_s_own_host_is_told_as_it_was_used() -> None:
    """Neither the configured URL nor the list of names is in its way; no proxy says the scheme: the URL does."""
    asked = scope(host="Docker.example:8443")

    assert external(asked, CONFIGURED, is_own=True).url("/") == "https://docker.example:8443/"
    assert external(asked, AddressRules(), is_own=True).url("/") == "http://docker.example:8443/"
    with pytest.raises(UnknownHost):
        external(asked, CONFIGURED)
    forwarded = scope(("x-forwarded-host", "docker.example"), ("x-forwarded-proto", "http"), peer=PROXY, host="inner")
    assert external(forwarded, CONFIGURED, is_own=True).url("/") == "http://docker.example/"


@pytest.mark.parametrize(
    ("host", "rules", "known"),
    [
        ("any.example", AddressRules(), True),
        ("any.example", TRUSTING, True),
        ("registry.example", CONFIGURED, True),
        ("inner", CONFIGURED, False),
        ("docker.example", CONFIGURED, False),
        ("registry.example:8443", CONFIGURED, False),
        ("inner", AddressRules.of(Server(server_names=("inner",))), True),
        ("inner:5000", AddressRules.of(Server(server_names=("inner",))), True),
        ("docker.example", AddressRules.of(Server(server_names=("inner",))), False),
    ],
)
def test_rows_are_asked_only_about_hosts_that_the_configuration_does_not_settle(
    host: str,
    rules: AddressRules,
    known: bool,  # noqa: FBT001 - of a table
) -> None:
    """Where the answer cannot change anything, nobody looks it up."""
    assert is_configured(host, rules) is known


def test_the_host_that_the_client_named() -> None:
    """In small letters, without its scheme's own port, and forwarded only by those who are believed."""
    assert named_host(scope(host="Docker.Example:80"), TRUSTING) == "docker.example"
    assert named_host(scope(("x-forwarded-host", "a.example")), TRUSTING) == "reg.example:5000"
    assert named_host(
        scope(("x-forwarded-host", "A.example:443"), ("x-forwarded-proto", "https"), peer=PROXY), TRUSTING
    ) == ("a.example")
