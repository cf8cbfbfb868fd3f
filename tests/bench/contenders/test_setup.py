"""Putting content and asking for tokens, against a server that notes what it was asked."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from bench.contenders.contender import ContenderFailed, Endpoint
from bench.contenders.setup import TokenRealm, ask, put_blob, put_manifest
from bench.content import OCI_MANIFEST, Document, Layer

Script = Mapping[tuple[str, str], tuple[int, Mapping[str, str], bytes]]
"""Method and path without query -> status, headers and body; everything else is 404."""
LAYER = Layer("setup", 1000)


@contextmanager
def registry(script: Script) -> Iterator[tuple[Endpoint, list[tuple[str, str, str, bytes]]]]:
    """A server that follows a script, and the list of (method, target, Authorization, body) that it hears."""
    heard: list[tuple[str, str, str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        """One request."""

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            heard.append((self.command, self.path, self.headers.get("Authorization", ""), body))
            status, headers, content = script.get((self.command, self.path.partition("?")[0]), (404, {}, b"no"))
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_HEAD = do_POST = do_PUT = _answer  # noqa: N815 - the library's names

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield Endpoint("127.0.0.1", server.server_port), heard
        finally:
            server.shutdown()
            thread.join()


def test_a_blob_is_pushed_where_it_was_told() -> None:
    """The body goes to the Location of the POST, whose query is kept, with the digest added."""
    begun = (202, {"Location": "http://ignored.example/there?state=s"}, b"")
    script = {("POST", "/v2/a/blobs/uploads/"): begun, ("PUT", "/there"): (201, {}, b"")}
    with registry(script) as (endpoint, heard):
        put_blob(endpoint, "a", LAYER, "Bearer t")
    assert [method for method, *_ in heard] == ["HEAD", "POST", "PUT"]
    assert {authorization for _, _, authorization, _ in heard} == {"Bearer t"}
    _, target, _, body = heard[-1]
    assert target == f"/there?state=s&digest={LAYER.digest.replace(':', '%3A')}"
    assert body == b"".join(bytes(chunk) for chunk in LAYER.chunks())


def test_a_blob_that_is_there_is_not_pushed() -> None:
    """One HEAD is all."""
    with registry({("HEAD", f"/v2/a/blobs/{LAYER.digest}"): (200, {}, b"")}) as (endpoint, heard):
        put_blob(endpoint, "a", LAYER, None)
    assert len(heard) == 1


def test_a_refusal_says_what_the_server_said() -> None:
    """A push that is refused raises with status and body."""
    with registry({("POST", "/v2/a/blobs/uploads/"): (403, {}, b"not you")}) as (endpoint, _):
        with pytest.raises(ContenderFailed, match=r"403.*not you"):
            put_blob(endpoint, "a", LAYER, None)
        with pytest.raises(ContenderFailed, match="404"):
            put_manifest(endpoint, "a", Document(OCI_MANIFEST, b"{}"), ["latest"], None)


def realm(port: int) -> Script:
    """A registry that sends for tokens."""
    challenge = f'Bearer realm="http://127.0.0.1:{port}/token",service="some service"'
    return {
        ("GET", "/v2/"): (401, {"WWW-Authenticate": challenge}, b""),
        ("GET", "/token"): (200, {}, b'{"access_token": "abc"}'),
    }


def test_a_token_is_fetched_as_the_challenge_says() -> None:
    """Service and scopes are asked for at the realm, with the user's password; both names of a token do."""
    script: dict[Any, Any] = {}
    with registry(script) as (endpoint, heard):
        script.update(realm(endpoint.port))
        header = TokenRealm(endpoint, "me", "secret").authorization(("a/b", "c"), push=True)
    assert header == "Bearer abc"
    _, target, authorization, _ = heard[-1]
    assert target == (
        "/token?service=some+service&scope=repository%3Aa%2Fb%3Apull%2Cpush&scope=repository%3Ac%3Apull%2Cpush"
    )
    assert authorization.startswith("Basic ")


def test_who_asks_for_nothing_gets_nothing() -> None:
    """An open registry wants no header; one with Basic wants the password itself."""
    with registry({("GET", "/v2/"): (200, {}, b"")}) as (endpoint, _):
        assert TokenRealm(endpoint, "me", "secret").authorization(("a",), push=False) is None
    with registry({("GET", "/v2/"): (401, {"WWW-Authenticate": 'Basic realm="x"'}, b"")}) as (endpoint, _):
        header = TokenRealm(endpoint, "me", "secret").authorization(("a",), push=False)
    assert header == "Basic bWU6c2VjcmV0"
    assert "secret" not in repr(TokenRealm(endpoint, "me", "secret"))


def test_what_is_no_http_is_an_os_error() -> None:
    """Whoever waits for a server to answer has one kind of error to expect."""
    with registry({}) as (endpoint, _):
        pass
    with pytest.raises(OSError, match="refused"):
        ask(endpoint, "GET", "/")
