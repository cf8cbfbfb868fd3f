"""Debian's docker-registry with a token server in front: an upstream as others run it."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from bench.contenders.registry_tokens import ISSUER, SERVICE, Issuer
from tests.served import free_port
from tests.servers.processes import start

USER, PASSWORD = "puller", "a password with spaces"


@dataclass
class TokenServer:
    """Gives tokens to who has the password: to pull, and to push with `push=True` in the issuer's own calls."""

    issuer: Issuer
    logins: list[str] = field(default_factory=list)
    """The scopes that were asked for, with the right password."""
    refused: int = 0

    @contextmanager
    def serve(self) -> Iterator[str]:
        """Listen; gives the realm."""
        tokens = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                tokens.answer(self)

            def log_message(self, *_: object) -> None:
                """Quiet."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/token"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """One login."""
        expected = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        query = parse_qs(urlsplit(request.path).query)
        scopes = [scope for value in query.get("scope", []) for scope in value.split(" ")]
        if request.headers.get("Authorization") != expected or query.get("service") != [SERVICE]:
            self.refused += 1
            status = 401
            document: dict[str, object] = {"errors": [{"code": "UNAUTHORIZED", "message": "who are you?"}]}
        else:
            self.logins += scopes
            names = [scope.split(":")[1] for scope in scopes if scope.startswith("repository:")]
            token = self.issuer.authorization(names, push=False).removeprefix("Bearer ")
            status, document = 200, {"token": token, "expires_in": 300}
        body = json.dumps(document).encode()
        request.send_response(status)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)


@dataclass(frozen=True)
class DockerRegistry:
    """A running one."""

    port: int
    tokens: TokenServer
    realm: str
    """Where tokens are to be had."""

    @property
    def token_host(self) -> str:
        """Host and port of the realm."""
        return urlsplit(self.realm).netloc

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://{self.address}"

    def push_token(self, *names: str) -> str:
        """A token with which somebody fills it."""
        return self.tokens.issuer.authorization(names, push=True).removeprefix("Bearer ")


@contextmanager
def docker_registry(program: Path, folder: Path) -> Iterator[DockerRegistry]:
    """A registry with an empty directory, asking for tokens."""
    folder.mkdir()
    tokens = TokenServer(Issuer.make(folder))
    with tokens.serve() as realm:
        port = free_port()
        trust = {"rootcertbundle": str(tokens.issuer.certificate_path), "issuer": ISSUER, "service": SERVICE}
        configuration = {
            "version": "0.1",
            "log": {"level": "error", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
            "http": {"addr": f"127.0.0.1:{port}"},
            "auth": {"token": {"realm": realm, **trust}},
        }
        path = folder / "registry.yml"
        path.write_text(json.dumps(configuration))  # JSON is YAML
        process = start([program, "serve", path], folder / "log")
        try:
            process.wait_ready(lambda: _answers(port))
            yield DockerRegistry(port, tokens, realm)
        finally:
            process.kill()


def _answers(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/v2/")
        return connection.getresponse().status == 401
    except OSError:
        return False
    finally:
        connection.close()
