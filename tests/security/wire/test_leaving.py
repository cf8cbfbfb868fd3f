"""Clients that leave at every byte of a request, of an answer, and of TLS records, by a reset or an end."""

import pytest

from tests.gateway.wire.raw_client import eventually
from tests.security.wire.attacker import TlsSocket
from tests.security.wire.cases import BODY, CHUNKED, CHUNKS, GET, HOST, intrude, length, push
from tests.security.wire.fortress import NAME, Fortress

pytestmark = pytest.mark.slow

REQUESTS = {
    "get": GET,
    "put": intrude(length(b"12"), BODY),
    "put-chunked": intrude(CHUNKED, CHUNKS),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_reset_at_every_byte_leaves_nothing_behind(name: str, fortress: Fortress) -> None:
    """A reset after each byte of a typical request: no connection, thread or file stays."""
    request = REQUESTS[name]
    for cut in range(len(request) + 1):
        fortress.attack().force(request[:cut]).reset()

    fortress.assert_stands()


@pytest.mark.parametrize("name", REQUESTS)
def test_an_end_at_every_byte_is_understood(name: str, fortress: Fortress) -> None:
    """A half-close after each byte: no answer before the head is complete, then exactly one."""
    request = REQUESTS[name]
    status = 200 if name == "get" else 401
    head = request.index(b"\r\n\r\n") + 4
    for cut in range(len(request) + 1):
        with fortress.attack() as attacker:
            ending = attacker.force(request[:cut]).end().listen()
        assert (ending.statuses, ending.rest) == ((status,) if cut >= head else (), b""), (request[:cut], ending)


def test_an_upload_that_is_cut_at_every_byte_is_never_stored(fortress: Fortress) -> None:
    """Somebody who may push ends or resets within head or body: 201 only for the whole of it."""
    request = push(CHUNKED, CHUNKS).replace(b"@BEARER@", f"Authorization: Bearer {fortress.bearer}\r\n".encode())
    head = request.index(b"\r\n\r\n") + 4
    for cut in range(head - 4, len(request) + 1):
        fortress.attack().force(request[:cut]).reset()
        with fortress.attack() as attacker:
            ending = attacker.force(request[:cut]).end().listen()
        expected = () if cut < head else (201,) if cut == len(request) else (400,)
        assert ending.statuses == expected, (request[head:cut], ending)


def test_a_reset_within_a_download_frees_it(fortress: Fortress) -> None:
    """40 clients leave somewhere in 8 MiB, by reset or end: no worker keeps the file open more than once."""
    ask = (
        f"GET /v2/{NAME}/blobs/{fortress.layer_digest} HTTP/1.1\r\nAuthorization: Bearer {fortress.bearer}\r\n".encode()
    )
    for number in range(40):
        with fortress.attack(receive_buffer=65536) as attacker:
            attacker.force(ask + HOST + b"\r\n")
            attacker.head()
            attacker.take(number * 100_000)
            if number % 2:
                attacker.reset()

    eventually(lambda: fortress.holdings().layers <= len(fortress.pids))


def test_a_reset_at_every_byte_of_a_record(tls_fortress: Fortress) -> None:
    """A TLS record that is cut anywhere by a reset or an end is no request and no trouble."""
    size = 0
    cut = 0
    while cut <= size:
        attacker = tls_fortress.attack()
        assert isinstance(attacker.sock, TlsSocket)
        sealed = attacker.sock.sealed(GET)
        size = len(sealed)
        attacker.sock.below.sendall(sealed[:cut])
        if cut % 2 and cut < size:
            attacker.reset()
        else:
            attacker.sock.below.shutdown(1)
            assert attacker.listen().statuses == ((200,) if cut == size else ())
            attacker.sock.close()
        cut += 1

    tls_fortress.assert_stands()
