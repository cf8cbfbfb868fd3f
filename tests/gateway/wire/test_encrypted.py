"""HTTP over TLS, as a client of today meets it: proper ends and cut ones, new keys in the middle, sessions resumed."""

import os
import shutil
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
import trio
import trustme

from gateway.wire.peer import PeerGone
from gateway.wire.recall import Asked, FileSpan, Recalled
from tests.gateway.wire.conftest import Served
from tests.gateway.wire.encrypted import VERSIONS, connected_encrypted, contexts
from tests.gateway.wire.loopback import Gateway
from tests.gateway.wire.raw_client import PATIENCE_S, eventually
from tests.gateway.wire.served import BLOCK

LAST = b"GET /file HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


class Shelf:
    """Remembers one file, and promises whatever size it is told."""

    def __init__(self, file: IO[bytes], promised_bytes: int) -> None:
        self._file = file
        self._promised_bytes = promised_bytes

    def recall(self, asked: Asked) -> Recalled:
        """The file, or more than it."""
        head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n" % self._promised_bytes
        return Recalled(200, head, FileSpan(self._file.fileno(), 0, self._promised_bytes), self._promised_bytes)


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Is not asked."""
    raise NotImplementedError


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("size_bytes", [1000, 300_000])
async def test_only_a_whole_answer_ends_with_a_goodbye(
    size_bytes: int, version: ssl.TLSVersion, nursery: trio.Nursery
) -> None:
    """After the body TLS is ended in order; a body that was cut looks cut to TLS, too."""
    tls = contexts(version)
    content = os.urandom(size_bytes)
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        for missing in (0, 1):
            gateway = Gateway(application, nursery, recall=Shelf(file, size_bytes + missing), tls=tls.server)
            async with gateway.connect() as client:
                stream = tls.stream(client)
                await stream.send_all(LAST)
                received = b""
                while not received.endswith(content):
                    received += await stream.receive_some()
                if missing:
                    with pytest.raises(trio.BrokenResourceError):
                        await stream.receive_some()
                else:
                    assert await stream.receive_some() == b""


async def test_the_client_chooses_the_cipher() -> None:
    """It knows what its processor does well: of those that we take, which are all strong, its first one is taken."""
    tls = contexts(ssl.TLSVersion.TLSv1_2)
    wanted = ["ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384"]
    for first in wanted:
        tls.client.set_ciphers(":".join([first, *wanted]))
        async with connected_encrypted(tls) as (_, peer):
            sock = peer.channel.socket
            assert isinstance(sock, ssl.SSLSocket)
            chosen = sock.cipher()
            assert chosen
            assert chosen[0] == first


async def test_ciphers_that_age_badly_are_not_taken() -> None:
    """CBC modes are strong only as long as nobody measures time: TLS 1.2 without GCM or ChaCha20 is refused."""
    tls = contexts(ssl.TLSVersion.TLSv1_2)
    tls.client.set_ciphers("ECDHE-ECDSA-AES128-SHA256:ECDHE-RSA-AES128-SHA256")
    with pytest.RaisesGroup(PeerGone):
        async with connected_encrypted(tls):
            pass


# --- real processes


@pytest.fixture
def secured(serve: Callable[..., Served], tmp_path: Path) -> tuple[Served, ssl.SSLContext]:
    """A server that speaks TLS, and a context of a client that trusts it."""
    authority = trustme.CA()
    both = tmp_path / "both.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(both)
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    return serve(tls_certificate=str(both), tls_key=str(both)), trust


def is_well(served: Served, trust: ssl.SSLContext) -> bool:
    """Whether the same process still serves others."""
    with served.connect(tls=trust) as client:
        return served.process.poll() is None and client.request("GET", "/hello").answer().body == b"hello"


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_is_resumed(secured: tuple[Served, ssl.SSLContext], version: ssl.TLSVersion) -> None:
    """A client that comes back with its ticket is spared the certificate, and is served as ever."""
    served, trust = secured
    trust.minimum_version = trust.maximum_version = version
    session = None
    for is_back in (False, True):
        sock = socket.create_connection(("127.0.0.1", served.port), PATIENCE_S)
        with sock, trust.wrap_socket(sock, server_hostname="localhost", session=session) as secure:
            secure.sendall(b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n")
            received = b""
            while not received.endswith(b"\r\n\r\nhello"):
                received += secure.recv(4096)
            assert secure.session_reused is is_back
            session = secure.session
    assert is_well(served, trust)


class SClient:
    """`openssl s_client`, which can ask for new keys; what it prints goes to a file."""

    def __init__(self, served: Served, output: Path, *options: str) -> None:
        self._output = output
        with output.open("wb") as out:
            self._process = subprocess.Popen(
                ["openssl", "s_client", "-connect", f"127.0.0.1:{served.port}", "-servername", "localhost", *options],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def type(self, text: str) -> None:
        """Type; a line of its own may be a command."""
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode())
        self._process.stdin.flush()

    def wait_for(self, mark: bytes, *, times: int = 1) -> None:
        """Until this was printed so often."""
        eventually(lambda: self._output.read_bytes().count(mark) >= times)

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


@contextmanager
def s_client(served: Served, output: Path, *options: str) -> Iterator[SClient]:
    """Connected, and stopped at the end."""
    client = SClient(served, output, *options)
    try:
        client.wait_for(b"Verify return code")
        yield client
    finally:
        client.stop()


needs_openssl = pytest.mark.skipif(not shutil.which("openssl"), reason="openssl's program can renew keys; ssl cannot")


@needs_openssl
@pytest.mark.slow
def test_a_client_may_renew_its_keys(secured: tuple[Served, ssl.SSLContext], tmp_path: Path) -> None:
    """TLS 1.3's KeyUpdate, asking for new ones in return, between two requests and in the middle of a download."""
    served, trust = secured
    blocks = 200
    with s_client(served, tmp_path / "said", "-tls1_3") as client:
        client.type("GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n")
        client.wait_for(b"\r\n\r\nhello")
        client.type("K\n")
        client.wait_for(b"KEYUPDATE")
        client.type("GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n")
        client.wait_for(b"\r\n\r\nhello", times=2)
        client.type(f"GET /blob/{blocks * len(BLOCK)} HTTP/1.1\r\nHost: localhost\r\n\r\n")
        client.wait_for(b"application/octet-stream")
        client.type("K\n")
        client.wait_for(BLOCK, times=blocks)
        client.wait_for(b"KEYUPDATE", times=2)
        client.type("GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n")
        client.wait_for(b"\r\n\r\nhello", times=3)
    assert is_well(served, trust)


@needs_openssl
@pytest.mark.slow
def test_renegotiation_is_refused(secured: tuple[Served, ssl.SSLContext], tmp_path: Path) -> None:
    """TLS 1.2's renegotiation costs the server a handshake each time a client likes: refused, and others are served."""
    served, trust = secured
    with s_client(served, tmp_path / "said", "-tls1_2") as client:
        client.type("R\n")
        client.wait_for(b"RENEGOTIATING")
        client.wait_for(b"no renegotiation")
    assert is_well(served, trust)
