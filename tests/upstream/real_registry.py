"""Debian's docker-registry as an upstream, with tokens that a server of their own gives, as public registries have it.

The registry is the real one; the token server is a scripted upstream without content, at another port of the host.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.contenders.ports import free_port
from bench.contenders.registry_tokens import ISSUER, SERVICE, Issuer
from tests.served import Served
from tests.servers.processes import start
from tests.upstream.login import Login, basic_of
from tests.upstream.script import Delivery, Seen
from tests.upstream.scripted import ScriptedUpstream


class Tokens:
    """Gives signed tokens for all that is asked for to whoever has a password. `logins`: who asked, in order."""

    def __init__(self, issuer: Issuer, users: Mapping[str, str]) -> None:
        self._issuer, self._users = issuer, users
        self.logins: list[Login] = []

    def refusal(self, seen: Seen, origin: str) -> Delivery | None:
        """See `Authentication`: nothing else is here."""
        return Delivery(404, [], b"")

    def token(self, seen: Seen) -> Delivery | None:
        """See `Authentication`."""
        user, password = basic_of(seen)
        scopes = tuple(seen.query.get("scope", []))
        is_accepted = user is not None and self._users.get(user) == password
        self.logins.append(Login(user, scopes, is_accepted))
        if not is_accepted:
            return Delivery(401, [("WWW-Authenticate", 'Basic realm="tokens"')], b"")
        names = [scope.split(":")[1] for scope in scopes if scope.count(":") == 2]
        token = self._issuer.authorization(names, push=False).removeprefix("Bearer ")
        document = json.dumps({"token": token, "expires_in": 600}).encode()
        return Delivery(200, [("Content-Type", "application/json")], document)


@dataclass(frozen=True, slots=True)
class RealRegistry:
    """It is running. `client` speaks to it with the words for a gateway, and is no process."""

    client: Served
    issuer: Issuer
    token_server: ScriptedUpstream
    tokens: Tokens

    def token(self, name: str) -> str:
        """One for pushes into an image."""
        return self.issuer.authorization([name], push=True).removeprefix("Bearer ")


@contextmanager
def serve(program: Path, folder: Path, users: Mapping[str, str]) -> Iterator[RealRegistry]:
    """Start it with an empty directory; `users` are those of the token server."""
    issuer, port = Issuer.make(folder), free_port()
    with ScriptedUpstream() as token_server:
        tokens = Tokens(issuer, users)
        token_server.registry.auth = tokens
        trust = {"rootcertbundle": str(issuer.certificate_path), "issuer": ISSUER, "service": SERVICE}
        configuration = {
            "version": "0.1",
            "log": {"level": "error"},
            "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
            "http": {"addr": f"127.0.0.1:{port}"},
            "auth": {"token": {"realm": f"{token_server.url}/token", **trust}},
        }
        path = folder / "registry.json"
        path.write_text(json.dumps(configuration))  # JSON is YAML
        process = start([program, "serve", path], folder / "registry.log")
        client = Served(folder / "client", port=port)
        try:
            process.wait_ready(lambda: _answers(client))
            yield RealRegistry(client, issuer, token_server, tokens)
        finally:
            process.kill()


def _answers(client: Served) -> bool:
    try:
        return client.request("GET", "/v2/").status == 401
    except OSError:
        return False
