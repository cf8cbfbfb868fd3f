"""Attacks on TLS itself: hellos that are none, cut or late, records that are none, goodbyes that do not come."""

import shutil
import ssl
import subprocess

import pytest

from tests.gateway.wire.raw_client import eventually
from tests.security.wire.attacker import Attacker, TlsSocket
from tests.security.wire.cases import BODY, CHUNKED, CHUNKS, GET, length, push
from tests.security.wire.fortress import Fortress

pytestmark = pytest.mark.slow

ALERT = 0x15
HELLO_HEAD = bytes.fromhex("16030100c8010000c40303")
NOT_TLS = {
    "http": GET,
    "http-many": GET * 100,
    "h2-preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "zeros": bytes(1000),
    "high": b"\xff" * 1000,
    "ssh": b"SSH-2.0-x\r\n",
    "ssl2-hello": bytes.fromhex("802e0100020015000000100100800700c0") + bytes(31),
    "hello-garbage": HELLO_HEAD + bytes(190),
    "hello-no-ciphers": bytes.fromhex("160301002d010000290303") + bytes(32) + bytes.fromhex("0000000100"),
    "hello-huge": bytes.fromhex("1603014000") + bytes.fromhex("01ffffff0303") + bytes(16384),
    "record-huge": bytes.fromhex("160301ffff") + bytes(65535),
    "record-empty": bytes.fromhex("1603010000") * 100,
    "record-data": bytes.fromhex("1703030010") + bytes(16),
    "record-alert": bytes.fromhex("15030100020228"),
    "record-alerts": bytes.fromhex("15030100020100") * 100,
    "record-heartbeat": bytes.fromhex("180302000301ffff"),
    "record-cipher": bytes.fromhex("140303000101") * 100,
    "record-unknown": bytes.fromhex("630303000101"),
    "version-unknown": bytes.fromhex("16ffff0005") + bytes(5),
}


@pytest.mark.parametrize("name", NOT_TLS)
def test_what_is_no_hello_gets_at_most_an_alert(name: str, tls_fortress: Fortress) -> None:
    """On a TLS port: the connection ends, nothing but TLS is said, and others are served."""
    with tls_fortress.attack_below() as attacker:
        attacker.force(NOT_TLS[name]).end()
        ending = attacker.listen()

    assert ending.answers == ()
    assert ending.rest[:1] in {b"", bytes([ALERT])}, ending
    tls_fortress.assert_stands()


def _hello(trust: ssl.SSLContext) -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        trust.wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
    return outgoing.read()


def test_a_hello_that_is_cut_anywhere_is_forgotten(tls_fortress: Fortress) -> None:
    """A proper hello, ended or reset after each byte: never an answer, and nothing stays."""
    assert tls_fortress.trust is not None
    hello = _hello(tls_fortress.trust)
    for cut in range(0, len(hello), 2):
        tls_fortress.attack_below().force(hello[:cut]).reset()
        with tls_fortress.attack_below() as attacker:
            ending = attacker.force(hello[: cut + 1]).end().listen()
        assert ending.answers == ()
        assert cut + 1 == len(hello) or ending.rest[:1] in {b"", bytes([ALERT])}, (cut, ending)

    tls_fortress.assert_stands()


@pytest.mark.parametrize("size", [0, 1, 5, 100, -1])
def test_a_handshake_that_stalls_is_ended(size: int, tls_impatient: Fortress) -> None:
    """No hello, a part of it, or a hello and then nothing: closed after the header's timeout."""
    assert tls_impatient.trust is not None
    hello = _hello(tls_impatient.trust)
    with tls_impatient.attack_below() as attacker:
        attacker.force(hello if size < 0 else hello[:size])
        assert attacker.listen().answers == ()

    tls_impatient.assert_stands()


def test_leaving_without_a_goodbye_is_no_trouble(tls_fortress: Fortress) -> None:
    """Clients that close TCP without close_notify, before, within and after requests: all are forgotten."""
    for begin in (b"", GET[:20], GET, GET * 20, push(length(b"12"), BODY[:5])):
        for _ in range(5):
            with tls_fortress.attack() as attacker:
                attacker.force(begin)

    tls_fortress.assert_stands()


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_an_upload_that_ends_without_a_goodbye_is_not_stored(framing: str, tls_fortress: Fortress) -> None:
    """A truncated stream is never taken for the end of a body."""
    begun = push(length(b"12"), BODY[:-1]) if framing == "length" else push(CHUNKED, CHUNKS[:-2])
    with tls_fortress.attack() as attacker:
        assert isinstance(attacker.sock, TlsSocket)
        attacker.force(begun.replace(b"@BEARER@", f"Authorization: Bearer {tls_fortress.bearer}\r\n".encode()))
        attacker.sock.below.shutdown(1)
        assert 201 not in attacker.listen().statuses

    tls_fortress.assert_stands()


@pytest.mark.parametrize(
    "garbage",
    [
        b"x" * 100,
        bytes.fromhex("1703030014") + bytes(20),
        bytes.fromhex("17030300ff") + bytes(255),
        GET,
        bytes.fromhex("15030300020100"),
    ],
    ids=["text", "forged", "forged-long", "http", "alert"],
)
def test_forged_records_end_the_connection(garbage: bytes, tls_fortress: Fortress) -> None:
    """Bytes that nobody sealed, after a good request: an alert at most, and no second answer."""
    with tls_fortress.attack() as attacker:
        assert attacker.force(GET).listen(count=1).statuses == (200,)
        assert isinstance(attacker.sock, TlsSocket)
        attacker.sock.below.sendall(garbage)
        assert attacker.listen().answers == ()

    tls_fortress.assert_stands()


def test_only_http_1_1_is_offered(certificate: tuple[dict[str, str], ssl.SSLContext], tls_fortress: Fortress) -> None:
    """H5 to H9, H14, H15: whoever offers h2 beside HTTP/1.1 gets HTTP/1.1; who offers only h2 gets none and a 400."""
    for offered, agreed in ((["h2", "http/1.1"], "http/1.1"), (["h2"], None), (["spdy/3"], None)):
        context = _copy(tls_fortress)
        context.set_alpn_protocols(offered)
        with Attacker(tls_fortress.port, tls=context) as attacker:
            assert isinstance(attacker.sock, TlsSocket)
            assert attacker.sock.tls.selected_alpn_protocol() == agreed
            assert attacker.force(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").listen().statuses == (400,)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1"])
def test_old_tls_is_refused(version: str, tls_fortress: Fortress) -> None:
    """Nothing below TLS 1.2 is spoken."""
    context = _copy(tls_fortress)
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        Attacker(tls_fortress.port, tls=context)

    tls_fortress.assert_stands()


def test_renegotiation_is_refused(tls_fortress: Fortress) -> None:
    """A client of TLS 1.2 that asks to renegotiate, and again, is cut off or ignored; nobody else notices."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("openssl is not installed: Python's own TLS cannot ask to renegotiate")
    command = [program, "s_client", "-connect", tls_fortress.address, "-tls1_2"]
    asked = subprocess.run(command, input=b"R\nR\n", capture_output=True, timeout=20, check=False)
    said = asked.stdout + asked.stderr

    assert b"RENEGOTIATING" in said
    assert b"no renegotiation" in said.lower() or b"alert" in said.lower() or b"error" in said.lower(), said[-2000:]
    tls_fortress.assert_stands()


def test_an_abandoned_context_is_freed(tls_fortress: Fortress) -> None:
    """200 handshakes, each left at once: memory and sockets are those of before."""
    for _ in range(200):
        tls_fortress.attack().reset()

    eventually(lambda: tls_fortress.holdings().sockets <= tls_fortress.base.sockets)
    tls_fortress.assert_stands()


def _copy(fortress: Fortress) -> ssl.SSLContext:
    """A client's context of one's own that trusts the fortress."""
    assert fortress.trust is not None
    context = ssl.create_default_context()
    context.load_verify_locations(cadata=b"".join(fortress.trust.get_ca_certs(binary_form=True)))
    return context
