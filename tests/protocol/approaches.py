"""A registry client that knows one base address, and the proxies that may stand between it and the gateway.

The client does what all of them do: it asks, is challenged, gets a token where the realm says, and goes where Location
and Link lead. It never sees the gateway's own address unless an answer tells it; then a check here fails.
"""

import http.client
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

from tests.people import Login
from tests.served import OCI_MANIFEST, Reply, Served, authorization, image_manifest, sha256

CONFIG = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True)
class Approach:
    """One way to reach a repository: `base` is all that the client knows (`https://host/prefix`).

    `within` makes the path that reaches the gateway of the one that the client sent; `headers` are what a proxy adds,
    Host among them; `name` is what the client calls the image.
    """

    gateway: Served
    base: str
    name: str
    headers: Mapping[str, str] = field(default_factory=dict)
    within: Callable[[str], str] = lambda path: path

    def send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        auth: Login | str | None = None,
    ) -> Reply:
        """One request as it arrives after the proxy; `path` as the client wrote it."""
        connection = http.client.HTTPConnection("127.0.0.1", self.gateway.port, timeout=30)
        fields = {"Host": self.gateway.address, **self.headers, **(headers or {}), **authorization(auth)}
        if body is not None:
            fields["Content-Length"] = str(len(body))
        try:
            connection.putrequest(method, self.within(path), skip_host=True, skip_accept_encoding=True)
            for name, value in fields.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        pairs = tuple((name.lower(), value) for name, value in response.getheaders())
        return Reply(response.status, dict(pairs), pairs, content)


@dataclass
class Client:
    """Somebody with a login who uses one approach; keeps the token that it got last."""

    approach: Approach
    login: Login | None
    token: str | None = None
    scopes: list[str] = field(default_factory=list)
    """Everything that challenges asked for."""

    @property
    def prefix(self) -> str:
        """What stands before `/v2/` for this client."""
        return urlsplit(self.approach.base).path

    def ask(self, method: str, rest: str, body: bytes | None = None, **headers: str) -> Reply:
        """A request below the image, challenged at most once."""
        return self.go(method, f"{self.prefix}/v2/{self.approach.name}/{rest}", body, **headers)

    def go(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
        """A request to a path that the client knows or was told."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        reply = self.approach.send(method, path, body, headers=named, auth=self.token)
        if reply.status != 401:
            return reply
        self.token = self.log_in(reply)
        return self.approach.send(method, path, body, headers=named, auth=self.token)

    def log_in(self, refusal: Reply) -> str:
        """A token from where the challenge says, for what it says."""
        asked = dict(_PARAMETER.findall(refusal.headers["www-authenticate"]))
        assert asked["realm"] == f"{self.approach.base}/v2/token", asked
        self.scopes.append(asked.get("scope", ""))
        path = f"{self.prefix}/v2/token?service={asked['service']}&scope={quote(asked.get('scope', ''))}"
        granted = self.approach.send("GET", path, auth=self.login)
        assert granted.status == 200, granted
        return str(granted.json()["token"])

    def location(self, reply: Reply) -> str:
        """Where to go on: a path alone (row UP-02), on this client's side of every proxy."""
        location = reply.headers["location"]
        assert location.startswith(f"{self.prefix}/v2/"), location
        assert "?" not in location
        return location

    def push_blob(self, content: bytes) -> str:
        """POST, PATCH in two chunks, GET of the status, PUT; then HEAD where it is said to be."""
        digest = sha256(content)
        begun = self.ask("POST", "blobs/uploads/", b"")
        assert begun.status == 202, begun
        where, upload = self.location(begun), begun.headers["docker-upload-uuid"]
        middle = len(content) // 2
        for chunk in (content[:middle], content[middle:]):
            taken = self.go("PATCH", where, chunk)
            assert (taken.status, taken.headers["docker-upload-uuid"]) == (202, upload), taken
            where = self.location(taken)
        status = self.go("GET", where)
        assert (status.status, status.headers["range"]) == (204, f"0-{len(content) - 1}")
        assert self.location(status) == where
        stored = self.go("PUT", f"{where}?digest={digest}", b"")
        assert stored.status == 201, stored
        found = self.go("HEAD", self.location(stored))
        assert (found.status, found.headers["content-length"]) == (200, str(len(content)))
        return digest

    def push_image(self, *tags: str, layer: bytes = b"a layer") -> bytes:
        """Push an image of one layer under these tags; gives its manifest."""
        manifest = image_manifest(CONFIG, layer)
        for content in (CONFIG, layer):
            self.push_blob(content)
        for tag in tags:
            put = self.ask("PUT", f"manifests/{tag}", manifest, Content_Type=OCI_MANIFEST)
            assert put.status == 201, put
            assert self.go("GET", self.location(put)).body == manifest
        return manifest

    def tags(self, *, n: int) -> list[str]:
        """All tags, page by page, by the links."""
        found: list[str] = []
        following: str | None = f"{self.prefix}/v2/{self.approach.name}/tags/list?n={n}"
        while following is not None:
            page = self.go("GET", following)
            assert page.status == 200, page
            value: Any = json.loads(page.body)
            assert value["name"] == self.approach.name
            found += value["tags"]
            link = page.headers.get("link")
            following = link.partition(">")[0].removeprefix("<") if link else None
            assert following is None or following.startswith(f"{self.prefix}/v2/"), link
        return found
