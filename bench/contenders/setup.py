"""How content gets into a registry before anything is measured: plain requests of the standard library, blocking.

Also asks for registry tokens the way clients do. Nothing here is ever part of a measurement.
"""

import base64
import http.client
import json
import re
import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

from bench.contenders.contender import ContenderFailed, Endpoint
from bench.content import Blob, Document

_TIMEOUT_S: Final = 120.0
_PARAMETER: Final = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request gave; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def ask(
    endpoint: Endpoint,
    method: str,
    path: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | Iterator[memoryview] | None = None,
    length: int | None = None,
) -> Answer:
    """One request on a connection of its own. A body that is an iterator wants its `length`. Raises OSError."""
    connection = _connection(endpoint)
    size = len(body) if isinstance(body, bytes) else length
    framing = {"Content-Length": str(size)} if size is not None else {}
    try:
        connection.request(method, path, body=body, headers={"Host": endpoint.address, **framing, **(headers or {})})
        reply = connection.getresponse()
        content = reply.read()
    except http.client.HTTPException as error:
        raise ConnectionError(f"{method} {endpoint.url}{path}: {error!r}") from error
    finally:
        connection.close()
    return Answer(reply.status, {name.lower(): value for name, value in reply.getheaders()}, content)


def put_blob(endpoint: Endpoint, name: str, blob: Blob, authorization: str | None) -> None:
    """Push a blob unless the registry has it. Raises ContenderFailed."""
    headers = {"Authorization": authorization} if authorization else {}
    if ask(endpoint, "HEAD", f"/v2/{name}/blobs/{blob.digest}", headers=headers).status == 200:
        return
    begun = _expected(202, ask(endpoint, "POST", f"/v2/{name}/blobs/uploads/", headers=headers, body=b""))
    parts = urlsplit(begun.headers["location"])
    query = "&".join(filter(None, (parts.query, f"digest={quote(blob.digest)}")))
    bulky = {**headers, "Content-Type": "application/octet-stream"}
    target = f"{parts.path}?{query}"
    _expected(201, ask(endpoint, "PUT", target, headers=bulky, body=blob.chunks(), length=blob.size_bytes))


def put_manifest(
    endpoint: Endpoint, name: str, manifest: Document, references: Sequence[str], authorization: str | None
) -> None:
    """Push a manifest under each of these references. Raises ContenderFailed."""
    headers = {"Content-Type": manifest.media_type} | ({"Authorization": authorization} if authorization else {})
    for reference in references:
        path = f"/v2/{name}/manifests/{reference}"
        _expected(201, ask(endpoint, "PUT", path, headers=headers, body=manifest.body))


@dataclass(frozen=True, slots=True)
class TokenRealm:
    """Where a registry sends its clients for tokens, as its challenge says (OCI distribution, "token auth")."""

    endpoint: Endpoint
    user: str | None
    password: str | None = field(default=None, repr=False)

    def authorization(self, names: tuple[str, ...], *, push: bool) -> str | None:
        """The header for these names; None for a registry that asks for nothing. Raises ContenderFailed."""
        greeting = ask(self.endpoint, "GET", "/v2/")
        challenge = greeting.headers.get("www-authenticate", "") if greeting.status == 401 else ""
        kind = challenge.partition(" ")[0].lower()
        if not kind:
            return None
        if kind == "basic":
            return self.basic()
        parameters = dict(_PARAMETER.findall(challenge))
        actions = "pull,push" if push else "pull"
        asked = [("service", parameters.get("service", "")), *(("scope", f"repository:{n}:{actions}") for n in names)]
        realm = urlsplit(parameters["realm"])
        headers = {"Authorization": self.basic()} if self.user is not None else {}
        answer = ask(
            self._realm(realm.hostname, realm.port), "GET", f"{realm.path}?{urlencode(asked)}", headers=headers
        )
        value = _expected(200, answer).json()
        return f"Bearer {value.get('token') or value['access_token']}"

    def basic(self) -> str:
        """The Basic header of this user."""
        return f"Basic {base64.b64encode(f'{self.user}:{self.password}'.encode()).decode()}"

    def _realm(self, host: str | None, port: int | None) -> Endpoint:
        """The realm's own endpoint; most registries are their own."""
        if host in {None, self.endpoint.host} and port in {None, self.endpoint.port}:
            return self.endpoint
        return Endpoint(host or "", port or (443 if self.endpoint.certificate else 80), self.endpoint.certificate)


def _connection(endpoint: Endpoint) -> http.client.HTTPConnection:
    if endpoint.certificate is None:
        return http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=_TIMEOUT_S, blocksize=1 << 20)
    context = ssl.create_default_context(cafile=endpoint.certificate)
    return http.client.HTTPSConnection(
        endpoint.host, endpoint.port, timeout=_TIMEOUT_S, context=context, blocksize=1 << 20
    )


def _expected(status: int, answer: Answer) -> Answer:
    if answer.status != status:
        raise ContenderFailed(f"answered {answer.status}, not {status}: {answer.body[:500]!r}")
    return answer
