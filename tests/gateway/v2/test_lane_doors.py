"""The lane at every door: it learns what is given there, and forgets it when the door leads elsewhere."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.wire.recall import Asked
from storage import AddressKind, Digest, RepositoryRecord, Transaction
from storage.metadata import addresses, members, repositories
from storage.metadata.members import NewMember
from tests.gateway.registry import NAME
from tests.gateway.v2.lane_gateway import Fields, LaneGateway
from tests.storage.metadata import samples

HOST = "registry.test:8080"
BLOB = f"blobs/{Digest.of(b'{}')}"


@pytest.fixture
async def gateway(data_directory: Path) -> AsyncIterator[LaneGateway]:
    """A gateway whose repository `common/images` has an image and every kind of address."""
    opened = LaneGateway()
    await opened.open(data_directory)
    await opened.registry.push_image("v1")
    await change(opened, lambda tx, record: addresses.put(tx, record.id, AddressKind.NAMESPACE, ["docker.io"]))
    yield opened
    await opened.close()


async def change(gateway: LaneGateway, act: Callable[[Transaction, RepositoryRecord], Any]) -> None:
    """Change rows of the repository, as another process might."""

    def do(tx: Transaction) -> None:
        record = repositories.find(tx, "common", "images")
        assert record is not None
        act(tx, record)

    await gateway.registry.services.database.transaction(do)


def fields(gateway: LaneGateway) -> Fields:
    """The administrator's."""
    return [(b"authorization", gateway.registry.admin.encode())]


def view(tx: Transaction, record: RepositoryRecord) -> None:
    """Make `common/all`, of this repository alone."""
    made = samples.repository(tx, "common/all", repository_type="virtual")
    members.put(tx, made.id, [NewMember(record.id)])


def own_host(tx: Transaction, record: RepositoryRecord) -> None:
    """Give the host that tests speak to to this repository."""
    addresses.put(tx, record.id, AddressKind.HOST, [HOST])


DOORS: dict[str, tuple[Callable[[Transaction, RepositoryRecord], Any] | None, str]] = {
    "full name": (None, f"/v2/{NAME}"),
    "alias": (lambda tx, it: repositories.update(tx, it.id, now=1, flat_alias_prefix="team/x"), "/v2/team/x/app"),
    "catch-all": (lambda tx, it: repositories.update(tx, it.id, now=1, is_catch_all=True), "/v2/app"),
    "path": (None, "/repositories/oci/common/images/v2/app"),
    "short path": (None, "/repositories/oci/images/v2/app"),
    "host": (own_host, "/v2/app"),
    "view": (view, "/v2/common/all/app"),
}
CLOSING: dict[str, Callable[[Transaction, RepositoryRecord], Any]] = {
    "alias": lambda tx, it: repositories.update(tx, it.id, now=2, flat_alias_prefix=None),
    "catch-all": lambda tx, it: repositories.update(tx, it.id, now=2, is_catch_all=False),
    "host": lambda tx, it: addresses.put(tx, it.id, AddressKind.HOST, []),
    "view": lambda tx, it: members.put(tx, repositories.find(tx, "common", "all").id, []),  # type: ignore[union-attr]
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("rest", [f"manifests/{Digest.of(b'')}", BLOB])
async def test_what_a_door_gives_is_replayed_and_ends_with_it(gateway: LaneGateway, door: str, rest: str) -> None:
    """The second pull comes from memory; once the door leads nowhere the application is asked, who refuses."""
    opening, path = DOORS[door]
    if opening is not None:
        await change(gateway, opening)
    image = await gateway.ask("GET", f"{path}/manifests/v1", fields(gateway))
    target = f"{path}/{rest}".replace(str(Digest.of(b"")), str(Digest.of(image.body)))

    answered = await gateway.ask("GET", target, fields(gateway))
    assert (answered.status, gateway.recall("GET", target, fields(gateway))) == (200, answered)

    if door in CLOSING:
        await change(gateway, CLOSING[door])
        assert gateway.recall("GET", target, fields(gateway)) is None
        assert (await gateway.ask("GET", target, fields(gateway))).status == 404


async def test_a_tag_of_a_view_is_not_remembered(gateway: LaneGateway) -> None:
    """It hangs on every member before the one that has it."""
    await change(gateway, view)
    target = "/v2/common/all/app/manifests/v1"

    assert (await gateway.ask("GET", target, fields(gateway))).status == 200
    assert gateway.recall("GET", target, fields(gateway)) is None


async def test_a_mirror_s_pulls_are_replayed(gateway: LaneGateway) -> None:
    """Containerd sends `ns` with every pull: it is part of where the request leads, and of what the answer says."""
    target = f"/v2/app/{BLOB}?ns=docker.io"
    answered = await gateway.ask("GET", target, fields(gateway))
    assert answered.status == 200

    assert gateway.recall("GET", target, fields(gateway)) == answered
    assert (b"oci-namespace", b"docker.io") in answered.fields
    for other in ("?ns=ghcr.io", "", "?ns=docker.io&x=1", "?x=1&ns=docker.io", "?ns=docker.io&ns=docker.io", "?ns="):
        assert gateway.recall("GET", f"/v2/app/{BLOB}{other}", fields(gateway)) is None
    await change(gateway, lambda tx, record: addresses.put(tx, record.id, AddressKind.NAMESPACE, []))
    assert gateway.recall("GET", target, fields(gateway)) is None
    assert (await gateway.ask("GET", target, fields(gateway))).status == 404


async def test_another_host_is_another_door(gateway: LaneGateway) -> None:
    """What one host was given is not replayed to another, whose names may lead elsewhere."""
    await change(gateway, own_host)
    target = f"/v2/app/{BLOB}"
    await gateway.ask("GET", target, fields(gateway))
    assert gateway.recall("GET", target, fields(gateway)) is not None

    lane = gateway.registry.services.lane
    sent = [(b"host", b"other.test"), *fields(gateway)]
    assert lane.recall(Asked(b"GET", target.encode(), sent, ("192.0.2.7", 50000), "http")) is None


async def test_what_was_pulled_from_a_member_is_not_said_to_be_in_another(gateway: LaneGateway) -> None:
    """A pusher's HEAD asks the member that takes the push: whose blob the same caller pulled before is another thing.

    Told that it is there, its client would not send it, and the manifest would be refused.
    """

    def make(tx: Transaction, record: RepositoryRecord) -> None:
        view = samples.repository(tx, "common/all", repository_type="virtual")
        target = samples.repository(tx, "common/target")
        members.put(tx, view.id, [NewMember(target.id, is_default=True), NewMember(record.id)])

    await change(gateway, make)
    path = f"/v2/common/all/app/{BLOB}"
    assert (await gateway.ask("GET", path, fields(gateway))).status == 200
    assert gateway.recall("HEAD", path, fields(gateway)) is None

    assert (await gateway.ask("HEAD", path, fields(gateway))).status == 200  # linked: the caller may read it there
    image = await gateway.ask("GET", f"/v2/{NAME}/manifests/v1", fields(gateway))
    kind = dict(image.fields)[b"content-type"].decode()
    put = await gateway.registry.ask("PUT", "/v2/common/all/app/manifests/v1", image.body, {"Content-Type": kind})
    assert put.status == 201
