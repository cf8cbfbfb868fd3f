"""The way in, from path and query: which repository, which mirror, which host."""

import pytest
from quart import Quart, request

from gateway.edge.doors import FRONT, Doorway, doorway
from gateway.oci.paths import Entrance
from storage import Door

HOST = "gateway.example"


async def seen(path: str) -> Doorway:
    """The way in of a request with this path and query."""
    async with Quart("doors", static_folder=None).test_request_context(path):
        return doorway(request)


async def test_the_front_door() -> None:
    """Neither path nor query says anything: the host alone is known."""
    assert await seen("/v2/a/tags/list?n=1") == Doorway(Entrance(b"/v2/a/tags/list"))
    assert FRONT.door(HOST) == Door(host=HOST)


async def test_a_path_leads_to_a_repository() -> None:
    """The repository, and the path that it sees."""
    found = await seen("/repositories/oci/team/hub/v2/a/tags/list")

    assert found.entrance.path == b"/v2/a/tags/list"
    assert found.door(HOST) == Door(host=HOST, repository="team/hub")


@pytest.mark.parametrize(
    ("query", "namespace"),
    [
        ("ns=docker.io", "docker.io"),
        ("ns=Docker.IO", "docker.io"),
        ("ns=localhost:5000", "localhost:5000"),
        ("ns=http://169.254.169.254/", "http://169.254.169.254/"),
        ("ns=docker.io&ns=ghcr.io", ""),
        ("ns=docker.io&ns=docker.io", ""),
        ("ns=", ""),
        (f"ns={'x' * 256}", ""),
        ("ns=d%C3%B6cker.io", ""),
        ("nS=docker.io", None),
    ],
)
async def test_a_namespace_is_a_name_to_look_up(query: str, namespace: str | None) -> None:
    """One value, in small letters; what cannot be anybody's is looked up as the empty name, which nobody has."""
    assert (await seen(f"/v2/a/tags/list?{query}")).door(HOST).namespace == namespace


async def test_a_mirror_of_this_very_host_is_this_host() -> None:
    """Containerd names the registry that an image is of: if that is we, there is nothing to mirror."""
    assert (await seen(f"/v2/a/tags/list?ns={HOST}")).door(HOST) == Door(host=HOST)
