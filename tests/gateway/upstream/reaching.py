"""Requests to scripted upstreams, and names that mean what a test says. Not a test."""

from collections.abc import Callable, Sequence
from typing import Any

import trustme

from gateway.upstream.dialling import system_lookup
from gateway.upstream.http import Address, UpstreamHttp
from gateway.upstream.tokens import Credential
from tests.upstream.login import Bearer, Form
from tests.upstream.script import Seen, with_credentials
from tests.upstream.scripted import ScriptedUpstream

Reach = Callable[..., UpstreamHttp]
"""Makes the requests of one upstream: of a `ScriptedUpstream` or URL, with credentials, `lookup`, and settings."""

LOOPBACK = ("127.0.0.0/8",)
ADMIN = Credential("admin", "open sesame")
SCOPE = "repository:team/app:pull"
MANIFEST = "/v2/team/app/manifests/latest"
USERS = {ADMIN.username: ADMIN.secret}
LAYER = b"layer"


class Names:
    """A resolver whose answers a test writes down, per name and in turn; the last one stays.

    Names below `.test` have no other addresses; everything else is for the system to say.
    """

    def __init__(self, **answers: Sequence[Sequence[str]]) -> None:
        self._answers = {name.replace("_", "."): list(turns) for name, turns in answers.items()}
        self.asked: list[str] = []

    def __call__(self, host: str, port: int) -> Sequence[str]:
        """See `dialling.Lookup`."""
        self.asked.append(host)
        turns = self._answers.get(host)
        if turns is None and host.endswith(".test"):
            raise OSError(f"{host} is not known")
        if turns is None:
            return system_lookup(host, port)
        return turns.pop(0) if len(turns) > 1 else turns[0]


async def manifest(http: UpstreamHttp, base: str, **how: Any) -> Any:
    """The answer to the one question that most tests ask."""
    given = {"scope": SCOPE, "limit_bytes": 4 << 20, **how}
    return await http.ask("GET", Address(base, given.pop("path", MANIFEST)), **given)


async def body(http: UpstreamHttp, base: str, path: str, **how: Any) -> bytes:
    """A streamed body, whole; 1 MiB at most."""
    async with http.stream(Address(base, path), scope=SCOPE, **how) as response:
        assert response.status in {200, 206}
        return await response.read(1 << 20)


def authorizations(upstream: ScriptedUpstream) -> list[str]:
    """Every Authorization field that the upstream has seen."""
    return [value for seen in upstream.seen() for name, value in seen.headers if name == "authorization"]


def guard(upstream: ScriptedUpstream, form: Form = "plain", **how: object) -> Bearer:
    """Let the upstream want tokens."""
    upstream.registry.auth = auth = Bearer(USERS, form=form, **how)  # type: ignore[arg-type]
    return auth


def blob_of(upstream: ScriptedUpstream) -> str:
    """The path of a blob that it has."""
    return f"/v2/team/app/blobs/{upstream.shelf.put_blob('team/app', LAYER)}"


def admitted(seen: Seen) -> bool:
    """What the registry is asked with a key, but for its token endpoint."""
    return seen.kind != "token" and with_credentials(seen)


def pem(authority: trustme.CA) -> str:
    """The authority's certificate, as an operator enters it."""
    return authority.cert_pem.bytes().decode()
