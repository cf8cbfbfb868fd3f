"""Signing keys: made by one, known to all, replaced without a refused token."""

from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from gateway.access.errors import InvalidToken
from gateway.access.keyring import PUBLISH_AHEAD_S, REFRESH_INTERVAL_S, Keyring, SecretKeyDiffers
from gateway.access.principal import ANONYMOUS
from gateway.access.sealing import Sealer
from gateway.edge.failures import translate
from storage import Database, SigningKeyRecord, SqliteDatabase, Transaction, Unavailable
from storage.metadata import signing_keys
from tests.gateway.access.house import DAY, SECRET_KEY, START, Clock, House


async def test_the_first_start_makes_a_key_that_signs_and_its_successor(house: House) -> None:
    """Two active keys from the first second: one signs now, the next is published a whole rotation ahead."""
    records = await _rows(house.database)

    assert [record.signs_from for record in records] == [START, START + 30 * DAY]
    assert house.keyring.signing().kid == records[0].kid
    assert house.keyring.find(records[1].kid) is not None


async def test_of_many_processes_one_makes_the_keys(database: Database, database_file: Path, clock: Clock) -> None:
    """Eight processes that start at once sign with the same key, and there are two rows."""
    signing: list[str] = []

    async def start() -> None:
        async with SqliteDatabase(database_file) as own:
            signing.append((await House.build(own, clock)).keyring.signing().kid)

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(start)

    assert len(signing) == 8
    assert len(set(signing)) == 1
    assert len(await _rows(database)) == 2


def ring(database: Database, clock: Clock, secret_key: bytes, *, is_shared: bool) -> Keyring:
    """A keyring with that secret key."""
    return Keyring(
        database,
        sealer=Sealer(secret_key),
        algorithm="HS256",
        rotation_s=30 * DAY,
        token_lifetime_s=300,
        clock=clock,
        is_shared=is_shared,
    )


async def test_a_replica_with_another_secret_key_does_not_start(database: Database, clock: Clock) -> None:
    """It would refuse the tokens of the others and give out tokens that they refuse; it adds no key of its own."""
    await ring(database, clock, SECRET_KEY, is_shared=True).refresh()
    before = await _rows(database)

    with pytest.raises(SecretKeyDiffers, match=r"give every replica the same, in access\.secret_key"):
        await ring(database, clock, b"x" * 32, is_shared=True).refresh()

    assert await _rows(database) == before
    same = ring(database, clock, SECRET_KEY, is_shared=True)
    await same.refresh()
    assert same.signing().kid == before[0].kid


async def test_of_two_replicas_with_keys_of_their_own_that_start_at_once_one_does(
    database: Database, clock: Clock
) -> None:
    """Both find no key; whoever writes first has made the secret key the installation's."""
    first, second = (ring(database, clock, key, is_shared=True) for key in (SECRET_KEY, b"x" * 32))
    await second._load()  # it has found none
    await first.refresh()

    with pytest.raises(SecretKeyDiffers):
        await database.transaction(second._replenish)

    assert len(await _rows(database)) == 2


async def test_on_one_machine_another_secret_key_begins_anew(database: Database, clock: Clock) -> None:
    """Nobody else uses what it sealed: tokens of before end, and new keys are made."""
    await ring(database, clock, SECRET_KEY, is_shared=False).refresh()
    before = {record.kid for record in await _rows(database)}
    other = ring(database, clock, b"x" * 32, is_shared=False)
    await other.refresh()

    assert other.signing().kid not in before
    assert len(await _rows(database)) == 4


async def test_keys_lie_sealed_in_the_database(house: House) -> None:
    """The row does not hold the key in the clear, and printing one does not show it."""
    key = house.keyring.signing()
    assert isinstance(key.private, bytes)

    assert all(key.private not in record.sealed_key for record in await _rows(house.database))
    assert key.private.hex() not in repr(key)
    assert repr(key.private) not in repr(key)


@pytest.mark.slow
@pytest.mark.parametrize("skews", [(0, 0), (-2, 2)], ids=["same clocks", "T13: clocks 4 s apart"])
async def test_rotation_refuses_not_a_single_token(database: Database, skews: tuple[int, int]) -> None:
    """Over three rotations every token is good at the other process, when it is issued and when it is about to end."""
    processes = [await House.build(database, Clock(START + skew), rotation_s=DAY) for skew in skews]
    signers: set[str] = set()
    waiting: deque[tuple[int, House, str]] = deque()
    for elapsed in _moments():
        for number, (process, skew) in enumerate(zip(processes, skews, strict=True)):
            process.clock.now = START + elapsed + skew
            if elapsed % REFRESH_INTERVAL_S == 20 * number:  # as the job does, each at its own moment
                await process.keyring.refresh()
            signers.add(process.keyring.signing().kid)
        for signer, verifier in (processes, reversed(processes)):
            await verifier.issuer.verify(_token(signer))
            waiting.append((elapsed + 300, verifier, _token(signer)))
        while waiting and waiting[0][0] <= elapsed:
            due, verifier, token = waiting.popleft()
            if due == elapsed:  # else it is a leap to the next day
                await verifier.issuer.verify(token)

    assert len(signers) == 4
    assert [process.keyring.reloads for process in processes] == [0, 0]  # each knew every key before it signed


async def test_a_token_of_the_last_second_of_a_key_lives_to_its_end(house: House) -> None:
    """A key verifies for as long as the last token it signed may be used."""
    house.clock.now = START + 30 * DAY - 1
    old = house.keyring.signing().kid
    token = _token(house)
    for _ in range(5):
        house.clock.now += 60
        await house.keyring.refresh()
        assert house.keyring.signing().kid != old
        await house.issuer.verify(token)


def test_every_process_loads_a_key_several_times_before_it_signs() -> None:
    """A process may miss nine refreshes in a row and still know the next key in time."""
    assert PUBLISH_AHEAD_S >= 10 * REFRESH_INTERVAL_S


async def test_old_keys_go_when_they_verify_nothing_any_more(house: House) -> None:
    """Rows do not pile up: after a year of rotations there are at most three."""
    for month in range(1, 13):
        house.clock.now = START + month * 30 * DAY
        await house.keyring.refresh()

    assert 2 <= len(await _rows(house.database)) <= 3


async def test_after_a_long_stop_there_is_a_key_at_once(house: House) -> None:
    """A machine that was off for a year signs with a fresh key on its first refresh."""
    house.clock.now += 365 * DAY
    with pytest.raises(Unavailable):
        house.keyring.signing()
    await house.keyring.refresh()

    assert house.keyring.signing().signs_from == house.clock.now


async def test_a_dead_database_does_not_delay_a_rotation(house: House) -> None:
    """The successor is known a whole rotation ahead, so the change happens though nothing can be loaded."""
    await house.database.aclose()
    house.clock.now = START + 30 * DAY
    with pytest.raises(Unavailable):
        await house.keyring.refresh()

    assert house.keyring.signing().signs_from == house.clock.now


async def test_unknown_keys_cost_one_look_per_pause(house: House, autojump_clock: trio.testing.MockClock) -> None:
    """T3: a thousand invented key ids make one read, and known keys go on working."""
    for number in range(1000):
        assert await house.keyring.find_or_reload(f"invented-{number}") is None
    assert house.keyring.reloads == 1
    assert house.keyring.find(house.keyring.signing().kid) is not None
    await trio.sleep(5)
    await house.keyring.find_or_reload("another")

    assert house.keyring.reloads == 2


async def test_a_key_made_elsewhere_is_found_when_its_id_is_first_seen(database: Database, house: House) -> None:
    """A process that missed a publication loads the key on sight; everyone who waits for that load gets it."""
    known = {record.kid for record in await _rows(database)}
    await House.build(database, house.clock, algorithm="ES256")  # makes a key of its own algorithm
    [kid] = {record.kid for record in await _rows(database)} - known
    found = []

    async def look() -> None:
        found.append(await house.keyring.find_or_reload(kid))

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(look)

    assert [key.kid for key in found if key] == [kid] * 10
    assert house.keyring.reloads == 1


async def test_a_key_that_could_not_be_looked_up_is_not_unknown(house: House) -> None:
    """A26: with the database gone an unknown id is trouble of ours (503), not a bad token (401)."""
    await house.database.aclose()

    with pytest.raises(Unavailable):
        await house.keyring.find_or_reload("from-elsewhere")


async def test_while_reading_fails_it_is_tried_once_a_second(
    house: House, autojump_clock: trio.testing.MockClock
) -> None:
    """T3: a flood of invented ids does not become a flood on a database in trouble, and none of them is called bad."""
    await house.database.aclose()
    with pytest.raises(Unavailable) as first:
        await house.keyring.find_or_reload("first")
    for number in range(1000):
        with pytest.raises(Unavailable, match="a moment ago"):
            await house.keyring.find_or_reload(f"invented-{number}")
    await trio.sleep(1)

    with pytest.raises(Unavailable) as last:
        await house.keyring.find_or_reload("last")
    assert str(last.value) == str(first.value)
    assert house.keyring.reloads == 0


async def test_a_replica_with_another_secret_key_is_trouble_of_ours(database: Database, clock: Clock) -> None:
    """It came while this one runs: its tokens cannot be judged here, which is 503 and says when rows may be removed."""
    ours = ring(database, clock, SECRET_KEY, is_shared=True)
    await ours.refresh()
    await database.transaction(signing_keys.delete_expired, START + 1000 * DAY)
    await ring(database, clock, b"x" * 32, is_shared=True).refresh()

    with pytest.raises(SecretKeyDiffers, match="with all replicas stopped") as caught:
        await ours.find_or_reload((await _rows(database))[0].kid)

    assert translate(caught.value, request_id="r").status == 503


@pytest.mark.parametrize("kid", ["k" * 1_000_000, "../../dev/null", "' OR 1=1 --", ""])
async def test_hostile_key_ids_are_just_unknown(house: House, kid: str) -> None:
    """T1: a key id is compared with those we know, and is never a path or a statement."""
    assert await house.keyring.find_or_reload(kid) is None


async def test_another_algorithm_takes_over_without_a_gap(database: Database, clock: Clock) -> None:
    """After a change of the setting the old keys sign until the new one is known everywhere, then it does."""
    before = await House.build(database, clock, algorithm="HS256")
    after = await House.build(database, clock, algorithm="ES256")
    assert after.keyring.signing().kid == before.keyring.signing().kid
    clock.now += PUBLISH_AHEAD_S
    await after.keyring.refresh()
    token = _token(after)

    assert after.keyring.signing().algorithm == "ES256"
    await before.issuer.verify(token)  # a replica with the old setting


async def test_keys_of_another_secret_key_are_left_alone(database: Database, house: House) -> None:
    """With a lost secret key new keys are made; the old rows stay, and their tokens are unknown, not an error."""
    token = _token(house)
    stranger = _ring(database, house.clock, secret_key=bytes(32))
    await stranger.refresh()

    assert stranger.signing().kid != house.keyring.signing().kid
    assert len(await _rows(database)) == 4
    assert await stranger.find_or_reload(house.keyring.signing().kid) is None
    await house.keyring.refresh()
    await house.issuer.verify(token)


async def test_a_key_that_was_removed_verifies_no_more(house: House) -> None:
    """Removing a row ends the tokens of its key with the next refresh, remembered ones too."""
    token = _token(house)
    await house.issuer.verify(token)
    await house.database.transaction(signing_keys.delete_expired, START + 10_000 * DAY)
    await house.keyring.refresh()

    with pytest.raises(InvalidToken):
        await house.issuer.verify(token)


def _ring(database: Database, clock: Clock, *, secret_key: bytes = SECRET_KEY) -> Keyring:
    return Keyring(
        database,
        sealer=Sealer(secret_key),
        algorithm="HS256",
        rotation_s=30 * DAY,
        token_lifetime_s=300,
        clock=clock,
    )


def _token(house: House) -> str:
    return house.issuer.issue(ANONYMOUS, access=(), catalog=False).text


def _moments() -> Iterator[int]:
    """Every 20 s around the changes of keys, which come daily."""
    for day in range(4):
        yield from range(max(0, day * DAY - 1200), day * DAY + 1200, 20)


async def _rows(database: Database) -> list[SigningKeyRecord]:
    def load(tx: Transaction) -> list[SigningKeyRecord]:
        return signing_keys.current(tx, 0)

    return await database.read(load)
