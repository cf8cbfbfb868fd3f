"""A gateway in front of two registries, with every kind of address that leads to them, and nginx before some.

Upstreams are docker-registry, which wants a login, and a second gateway. Hosts are addresses of the loopback network:
clients take them without TLS, and need no name service.
"""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.contenders.ports import free_port
from tests.served import Served
from tests.servers.nginx import nginx
from tests.upstream.real_registry import RealRegistry, serve

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "routing.md"
OWN_HOST, REWRITTEN, CATCH_ALL = "127.0.0.2", "127.0.0.3", "127.0.0.4"
PROJECT = "mirrors"
USER, PASSWORD = "puller", "a password with spaces"


@dataclass(frozen=True)
class Mirrors:
    """The gateway and what is behind it. Names of the table are for `reference`."""

    gateway: Served
    registry: RealRegistry
    other: Served
    front: int
    """The port at which nginx listens on each host."""

    def addresses(self, image: str) -> dict[str, str]:
        """Every address under which an image of the first upstream is known, by its kind."""
        return {
            "proxy": f"{self.gateway.address}/{PROJECT}/hub/{image}",
            "alias": f"{self.gateway.address}/through/{image}",
            "virtual": f"{self.gateway.address}/{PROJECT}/all/{image}",
            "own host": f"{OWN_HOST}:{self.front}/{image}",
            "rewritten": f"{REWRITTEN}:{self.front}/{image}",
            "catch-all": f"{CATCH_ALL}:{self.front}/{image}",
        }


def make(gateway: Served, path: str, value: dict[str, Any]) -> None:
    """POST to the management API."""
    reply = gateway.api("POST", f"/api/v1/{path}", value)
    assert reply.status == 201, reply


def furnish(gateway: Served, registry: RealRegistry, other: Served, front: int) -> None:
    """The repositories: two proxies, one of one's own, and all of them as one."""
    make(gateway, "projects", {"name": PROJECT})
    near = {"project": PROJECT, "anonymous_read": True}
    through = {**near, "repository_type": "proxy", "private_networks": ["127.0.0.0/8"]}
    hub = {
        "name": "hub",
        "remote_url": registry.client.url,
        "credentials": [{"username": USER, "password": PASSWORD}],
        "token_hosts": [registry.token_server.address],
        "flat_alias_prefix": "through",
        "host_names": [f"{OWN_HOST}:{front}"],
        "namespaces": ["docker.io"],
    }
    make(gateway, "repos", {**through, **hub})
    make(gateway, "repos", {**through, "name": "other", "remote_url": other.url, "namespaces": ["quay.io"]})
    make(gateway, "repos", {**near, "name": "own", "namespaces": ["registry.k8s.io"]})
    members = [{"repository": f"{PROJECT}/{name}"} for name in ("own", "hub", "other")]
    members[0]["default"] = True  # type: ignore[assignment]
    everything = {**near, "name": "all", "repository_type": "virtual", "members": members}
    make(gateway, "repos", {**everything, "catch_all_hosts": [f"{CATCH_ALL}:{front}"]})


@contextmanager
def mirrors(programs: dict[str, Path], folder: Path) -> Iterator[Mirrors]:
    """All of it, running."""
    (folder / "upstream").mkdir(parents=True)
    with ExitStack() as stack:
        registry = stack.enter_context(serve(programs["docker-registry"], folder / "upstream", {USER: PASSWORD}))
        other = stack.enter_context(Served(folder / "other"))
        trust = {"SLUICE_SERVER__TRUSTED_PROXIES": "127.0.0.1"}
        gateway = stack.enter_context(Served(folder / "near", environment=trust))
        make(other, "repos", {"project": "common", "name": "open", "anonymous_read": True, "flat_alias_prefix": "open"})
        front = free_port()
        furnish(gateway, registry, other, front)
        stack.enter_context(nginx(programs["nginx"], folder / "nginx", servers(front, gateway.port)))
        yield Mirrors(gateway, registry, other, front)


def servers(port: int, gateway: int) -> str:
    """The document's two configurations, with these ports and hosts and without TLS."""
    own_host, rewritten = re.findall(r"```nginx\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    rewritten = rewritten.replace("team-a/images", f"{PROJECT}/hub")
    made = [(own_host, OWN_HOST), (own_host, CATCH_ALL), (rewritten, REWRITTEN)]
    return "".join(_on(block, host, port, gateway) for block, host in made)


def _on(block: str, host: str, port: int, gateway: int) -> str:
    text = block.replace("listen 443 ssl", f"listen {host}:{port}").replace("127.0.0.1:8080", f"127.0.0.1:{gateway}")
    assert f"{host}:{port}" in text
    assert f":{gateway};" in text
    return re.sub(r"^ *ssl_certificate.*\n|^ *server_name.*\n", "", text, flags=re.MULTILINE)
