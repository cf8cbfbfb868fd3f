"""What the lane remembers and what it leaves to the application. That both agree is proved by test_lane_model."""

import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from gateway.edge.pulls import Kind, Way
from gateway.v2.lane import Lane, LaneStatistics
from gateway.wire.recall import Asked, FileSpan, Recalled
from storage import Digest
from storage.changes_embedded import SqliteChanges
from tests.gateway.edge.visitors import basic
from tests.gateway.registry import NAME
from tests.gateway.v2.lane_gateway import PEER, Fields, LaneGateway, Seen

BLOB = b"0123456789" * 100
BLOB_PATH = f"/v2/{NAME}/blobs/{Digest.of(BLOB)}"
TAG_PATH = f"/v2/{NAME}/manifests/v1"


@pytest.fixture
async def gateway(data_directory: Path) -> AsyncIterator[LaneGateway]:
    """A gateway with an image and a blob."""
    opened = LaneGateway()
    await opened.open(data_directory)
    await furnish(opened)
    yield opened
    await opened.close()


async def furnish(gateway: LaneGateway) -> None:
    """Push an image and a blob."""
    await gateway.registry.push_image("v1")
    await gateway.registry.push_blob(BLOB)


def admin(gateway: LaneGateway, *more: tuple[bytes, bytes]) -> Fields:
    """The administrator's fields, and others."""
    return [(b"authorization", gateway.registry.admin.encode()), *more]


def statistics(gateway: LaneGateway) -> LaneStatistics:
    """The lane's."""
    return gateway.registry.services.lane.statistics()


def asked(target: str, fields: Fields, method: str = "GET") -> Asked:
    """A request with a Host."""
    return Asked(method.encode(), target.encode(), [(b"host", b"registry.test:8080"), *fields], PEER, "http")


async def learned(gateway: LaneGateway, target: str, fields: Fields, method: str = "GET") -> Seen | None:
    """What the lane gives after the application was asked once."""
    await gateway.ask(method, target, fields)
    return gateway.recall(method, target, fields)


# --- replaying ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [TAG_PATH, BLOB_PATH])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_an_answer_is_replayed(gateway: LaneGateway, path: str, method: str) -> None:
    """Nothing at first; afterwards what the application gave."""
    assert gateway.recall(method, path, admin(gateway)) is None
    answered = await gateway.ask(method, path, admin(gateway))

    assert gateway.recall(method, path, admin(gateway)) == answered
    assert answered.status == 200


@pytest.mark.parametrize(
    ("field", "status"),
    [((b"range", b"bytes=5-9"), 206), ((b"range", b"bytes=0-1,5-9"), 206), ((b"if-none-match", b"*"), 304)],
)
async def test_one_answer_teaches_all_about_the_object(
    gateway: LaneGateway, field: tuple[bytes, bytes], status: int
) -> None:
    """From the whole come ranges and conditions, and from a range comes the whole."""
    fields = admin(gateway, field)
    await gateway.ask("GET", BLOB_PATH, admin(gateway))
    recalled = gateway.recall("GET", BLOB_PATH, fields)

    assert recalled is not None
    assert recalled.status == status
    assert recalled == await gateway.ask("GET", BLOB_PATH, fields)


async def test_a_range_teaches_the_whole(gateway: LaneGateway) -> None:
    """Clients that only ever ask for ranges are remembered, too."""
    await gateway.ask("GET", BLOB_PATH, admin(gateway, (b"range", b"bytes=5-9")))
    recalled = gateway.recall("GET", BLOB_PATH, admin(gateway))

    assert recalled is not None
    assert (recalled.status, recalled.body) == (200, BLOB)


async def test_a_file_is_needed_for_bytes_only(gateway: LaneGateway) -> None:
    """After HEAD a HEAD is replayed; a GET must open the blob first."""
    await gateway.ask("HEAD", BLOB_PATH, admin(gateway))

    assert gateway.recall("HEAD", BLOB_PATH, admin(gateway)) is not None
    assert gateway.recall("GET", BLOB_PATH, admin(gateway)) is None


async def test_blobs_are_given_as_spans_of_a_file(gateway: LaneGateway) -> None:
    """Never as bytes held in memory; the descriptor is the lane's own and released once."""
    await gateway.ask("GET", BLOB_PATH, admin(gateway))
    recalled = gateway.registry.services.lane.recall(asked(BLOB_PATH, admin(gateway)))

    assert isinstance(recalled, Recalled)
    assert isinstance(recalled.body, FileSpan)
    assert (recalled.body.start, recalled.body.stop, recalled.size_bytes) == (0, len(BLOB), len(BLOB))
    recalled.release()
    assert statistics(gateway).open_files == 1


async def test_a_range_that_is_refused_is_refused_by_the_application(gateway: LaneGateway) -> None:
    """416 is not replayed."""
    await gateway.ask("GET", BLOB_PATH, admin(gateway))

    assert gateway.recall("GET", BLOB_PATH, admin(gateway, (b"range", b"bytes=99999-"))) is None


# --- what is not remembered -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "fields"),
    [
        (TAG_PATH, []),
        (f"/v2/{NAME}/manifests/absent", None),
        (f"/v2/{NAME}/blobs/{Digest.of(b'absent')}", None),
        (TAG_PATH, [(b"authorization", basic("boss", "wrong").encode())]),
        (TAG_PATH, [(b"accept", b"application/vnd.docker.distribution.manifest.v2+json")]),
        (f"{TAG_PATH}?x=1", None),
        (f"/v2/{NAME}/tags/list", None),
        ("/v2/", None),
    ],
)
async def test_refusals_and_other_answers_are_not_remembered(
    gateway: LaneGateway, target: str, fields: Fields | None
) -> None:
    """Who may not read, asks for nothing that is there, or asks for something else, always meets the application."""
    if fields is None or fields[:1] == [(b"accept", b"application/vnd.docker.distribution.manifest.v2+json")]:
        fields = admin(gateway, *(fields or []))

    assert await learned(gateway, target, fields) is None
    assert statistics(gateway).entries == 0


async def test_several_authorizations_are_left_to_the_application(gateway: LaneGateway) -> None:
    """Which refuses them, though each alone is remembered."""
    await gateway.ask("GET", TAG_PATH, admin(gateway))

    assert gateway.recall("GET", TAG_PATH, admin(gateway) * 2) is None


async def test_requests_without_host_or_of_other_methods_are_left_to_the_application(gateway: LaneGateway) -> None:
    """The first may be answered 421, depending on where they arrived; the second are none of the lane's."""
    await gateway.ask("GET", TAG_PATH, admin(gateway))
    recall = gateway.registry.services.lane.recall

    assert recall(Asked(b"GET", TAG_PATH.encode(), admin(gateway), PEER, "http")) is None
    assert recall(asked(TAG_PATH, admin(gateway), "DELETE")) is None
    assert recall(asked(TAG_PATH, admin(gateway))) is not None


async def test_each_accept_and_each_forwarded_peer_is_a_request_of_its_own(gateway: LaneGateway) -> None:
    """What the application's decision reads is not mixed up with another value of it."""
    await gateway.ask("GET", TAG_PATH, admin(gateway))

    for field in ((b"accept", b"*/*"), (b"forwarded", b"for=1.2.3.4"), (b"x-forwarded-host", b"x")):
        assert gateway.recall("GET", TAG_PATH, admin(gateway, field)) is None
        assert await learned(gateway, TAG_PATH, admin(gateway, field)) is not None


async def test_large_manifests_are_not_held(gateway: LaneGateway) -> None:
    """They have a bound of their own in memory (see `large`)."""
    await gateway.registry.push_image("big", annotations={"x": "y" * 70_000})

    assert await learned(gateway, f"/v2/{NAME}/manifests/big", admin(gateway)) is None


@pytest.mark.parametrize("lane", [{"enabled": False}, {"memory_bytes": 1}])
async def test_nothing_is_remembered_where_the_operator_says_so(data_directory: Path, lane: dict[str, Any]) -> None:
    """Off, or without room; the pulls are noted all the same."""
    gateway = LaneGateway()
    await gateway.open(data_directory, lane=lane)
    await furnish(gateway)

    assert await learned(gateway, TAG_PATH, admin(gateway)) is None
    assert statistics(gateway).entries == 0
    assert gateway.registry.services.pulls.statistics() == {(Kind.MANIFEST, Way.APPLICATION): 1}
    await gateway.close()


async def test_blobs_compressed_at_rest_are_left_to_the_application(data_directory: Path) -> None:
    """There is no file to send from; HEAD and 304 need none."""
    gateway = LaneGateway()
    await gateway.open(data_directory, storage={"storages": {"default": {"compression": "auto"}}})
    content = b"compressible " * 50_000
    path = f"/v2/{NAME}/blobs/{await gateway.registry.push_blob(content)}"

    assert await learned(gateway, path, admin(gateway)) is None
    assert gateway.recall("HEAD", path, admin(gateway)) is not None
    await gateway.close()


# --- what ends a memory ---------------------------------------------------------------------------------------------


async def test_an_account_that_expires_takes_its_answers_along(gateway: LaneGateway) -> None:
    """At that very second, without any change of rows."""
    await gateway.perform({"do": "expire", "account": "boss", "at": int(gateway.clock.now) + 10})
    assert await learned(gateway, TAG_PATH, admin(gateway)) is not None
    gateway.clock.now += 10

    assert gateway.recall("GET", TAG_PATH, admin(gateway)) is None
    assert statistics(gateway).forgotten == {"expired": 1}


async def test_a_changed_password_ends_what_was_read_with_the_old_one(gateway: LaneGateway) -> None:
    """Passwords are replayed without hashing them, until they change."""
    accounts = gateway.registry.services.accounts
    user = await accounts.create_user("paula", "first-password", is_auditor=True)
    fields: Fields = [(b"authorization", basic("paula", "first-password").encode())]
    assert await learned(gateway, TAG_PATH, fields) is not None
    await accounts.set_password(user.id, "second-password")

    assert gateway.recall("GET", TAG_PATH, fields) is None


async def test_without_a_look_at_the_changes_nothing_is_replayed(gateway: LaneGateway) -> None:
    """A database that does not answer cannot say that nothing changed; what is remembered stays for later."""
    await gateway.ask("GET", TAG_PATH, admin(gateway))
    changes = gateway.registry.services.database.changes()
    assert isinstance(changes, SqliteChanges)
    changes.close()

    assert gateway.recall("GET", TAG_PATH, admin(gateway)) is None
    assert statistics(gateway).unsure == 1
    changes.open()
    assert gateway.recall("GET", TAG_PATH, admin(gateway)) is not None


async def test_a_change_while_the_application_answers_is_not_missed(gateway: LaneGateway) -> None:
    """What was read before the change is not remembered as if it were from after it."""
    lane = gateway.registry.services.lane
    learn = lane._learn

    async def disable() -> None:
        await gateway.perform({"do": "expire", "account": "boss", "at": 1})

    lane._learn = lambda *arguments: late.append(arguments)  # type: ignore[method-assign]
    late: list[Any] = []
    await gateway.ask("GET", TAG_PATH, admin(gateway))
    await disable()
    learn(*late[0])

    assert gateway.recall("GET", TAG_PATH, admin(gateway)) is None
    assert statistics(gateway).forgotten == {"changed": 1}


async def test_a_truncated_file_is_left_to_the_application(gateway: LaneGateway) -> None:
    """It answers 503 instead of promising bytes that are not there."""
    await gateway.ask("GET", BLOB_PATH, admin(gateway))
    (file,) = (each for each in Path(gateway.registry.services.settings.storage.data).rglob("*") if is_blob(each))
    file.chmod(0o600)
    file.write_bytes(b"short")

    assert gateway.recall("GET", BLOB_PATH, admin(gateway)) is None
    assert (await gateway.ask("GET", BLOB_PATH, admin(gateway))).status == 503


def is_blob(path: Path) -> bool:
    """Whether the file holds the blob."""
    return path.is_file() and path.stat().st_size == len(BLOB) and path.read_bytes() == BLOB


# --- what happens besides -------------------------------------------------------------------------------------------


async def test_a_replayed_pull_has_the_effects_of_a_pull(gateway: LaneGateway) -> None:
    """The secret was used, the link's grace begins again, and the pull is noted."""
    services = gateway.registry.services
    await gateway.ask("GET", BLOB_PATH, admin(gateway))
    await gateway.perform({"do": "flush"})
    gateway.clock.now += services.settings.garbage.grace_s
    assert gateway.recall("GET", BLOB_PATH, admin(gateway)) is not None

    assert set(services.authenticator._usage.values()) == {int(gateway.clock.now)}
    assert len(services.content._touched) == 1
    assert services.pulls.statistics() == {(Kind.BLOB, Way.APPLICATION): 1, (Kind.BLOB, Way.LANE): 1}
    await gateway.perform({"do": "flush"})
    assert gateway.recall("GET", BLOB_PATH, admin(gateway)) is not None
    assert not services.content._touched


async def test_ids_are_fresh(gateway: LaneGateway) -> None:
    """Every answer has an id of its own."""
    await gateway.ask("GET", TAG_PATH, admin(gateway))
    question = asked(TAG_PATH, admin(gateway))
    heads = {answer.head for _ in range(100) if (answer := gateway.registry.services.lane.recall(question))}

    assert len(heads) == 100


# --- bounds and defects ---------------------------------------------------------------------------------------------


async def test_the_oldest_answers_make_room(data_directory: Path) -> None:
    """The bound in bytes holds, and use counts."""
    gateway = LaneGateway()
    await gateway.open(data_directory, lane={"memory_bytes": 10_000})
    await furnish(gateway)
    hosts = [(b"accept", b"%d/*" % number) for number in range(10)]
    for host in hosts:
        await gateway.ask("GET", TAG_PATH, admin(gateway, host))
        assert gateway.recall("GET", TAG_PATH, admin(gateway, hosts[0])) is not None
        assert statistics(gateway).held_bytes <= 10_000

    seen = statistics(gateway)
    assert 1 < seen.entries < 10
    assert seen.forgotten == {"room": 10 - seen.entries}
    await gateway.close()


async def test_no_secret_is_held(gateway: LaneGateway) -> None:
    """Neither the header nor the secret within it stands in the memory of the lane."""
    secret = gateway.registry.admin.encode()
    await gateway.ask("GET", TAG_PATH, admin(gateway))
    lane = gateway.registry.services.lane

    assert lane._memos
    for key, memo in lane._memos.items():
        texts = [getattr(memo, name) for name in type(memo).__slots__]
        assert secret not in repr((key, texts)).encode()
        assert secret.split(b" ")[1] not in repr((key, texts)).encode()


async def test_a_defect_costs_the_short_way_only(gateway: LaneGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is logged, and the application answers."""
    await gateway.ask("GET", TAG_PATH, admin(gateway))

    def broken(*_: object) -> bool:
        raise ZeroDivisionError

    monkeypatch.setattr(Lane, "_holds", broken)
    with structlog.testing.capture_logs() as events:
        assert gateway.recall("GET", TAG_PATH, admin(gateway)) is None

    assert [event["event"] for event in events] == ["lane_failed"]


async def test_it_counts(gateway: LaneGateway) -> None:
    """Hits, misses, entries, bytes and files; closing forgets and closes all."""
    gateway.recall("GET", TAG_PATH, admin(gateway))
    assert await learned(gateway, TAG_PATH, admin(gateway)) is not None
    assert await learned(gateway, BLOB_PATH, admin(gateway)) is not None

    seen = statistics(gateway)
    assert (seen.hits, seen.misses, seen.entries, seen.open_files) == (2, 1, 2, 1)
    assert 0 < seen.held_bytes < math.inf
    gateway.registry.services.lane.close()
    closed = statistics(gateway)
    assert (closed.entries, closed.held_bytes, closed.open_files) == (0, 0, 0)
