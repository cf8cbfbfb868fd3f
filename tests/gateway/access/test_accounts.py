"""Acts on accounts, secrets and roles: what they make, what they refuse, and that each is whole."""

import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from gateway.access.accounts import DEFAULT_LIFETIME_S, Accounts, FirstAdmin
from gateway.access.actions import Action, Role
from gateway.access.errors import InvalidField, LastAdmin, TooManySecrets
from gateway.access.passwords import Passwords
from gateway.access.principal import Limits
from gateway.access.secrets import SecretKind, looks_like
from storage import AccountRecord, Conflict, Database, NotFound, SqliteDatabase
from storage.metadata import accounts, credentials, grants
from tests.gateway.access.house import DAY, START, Clock, House

# --- users -----------------------------------------------------------------------------------------------------------


async def test_a_new_user_has_no_powers(house: House) -> None:
    """A22: flags are given by name or not at all; a user who was just made may do nothing."""
    user = await house.accounts.create_user("alice", None, description="of acme")

    assert (user.kind, user.is_admin, user.is_auditor, user.is_enabled) == ("user", False, False, True)
    assert (user.description, user.expires_at, user.created_at) == ("of acme", None, START)
    assert await house.database.read(grants.of_account, user.id) == []


async def test_names_are_checked_and_unique(house: House) -> None:
    """A14: a name that no account may have is an `InvalidField`, a taken one a `Conflict`."""
    await house.user("alice")

    for name in ("Alice", "sa$x", "oauth2accesstoken", "alice\0"):
        with pytest.raises(InvalidField, match="name"):
            await house.accounts.create_user(name, None)
    with pytest.raises(Conflict):
        await house.accounts.create_user("alice", None)


@pytest.mark.parametrize(
    "password", ["", "7 chars", "x" * 1025, "é" * 513, "sluice_pat_" + "x" * 49, "sluice_key_mine", "\ud800" * 8]
)
async def test_passwords_that_could_not_be_used_are_refused_when_set(house: House, password: str) -> None:
    """T8: too short, too long in bytes, like a generated secret, or no text: refused, and nobody is made."""
    user = await house.user()

    with pytest.raises(InvalidField, match="password"):
        await house.accounts.create_user("bob", password)
    with pytest.raises(InvalidField, match="password"):
        await house.accounts.set_password(user.id, password)
    assert await house.database.read(accounts.find, "bob") is None
    assert await house.database.read(accounts.password_hash, user.id) is None


@pytest.mark.parametrize("password", [None, "", "given by the operator"])
async def test_the_first_start_makes_an_admin(house: House, password: str | None) -> None:
    """A23: with the operator's password, or a random one that is told; there is no default."""
    made = await house.accounts.ensure_admin(password)

    assert made is not None
    assert made.is_random == (not password)
    assert made.password == password if password else re.fullmatch(r"[0-9A-Za-z]{24}", made.password)
    assert made.password not in repr(made)
    principal = await house.authenticator.basic("admin", made.password)
    assert principal.account is not None
    assert principal.account.is_admin


async def test_a_random_password_differs_each_time(database: Database) -> None:
    """A23: two installations do not share it."""
    accounts_of = Accounts(database, Passwords(threads=2, queue=4), clock=Clock())
    first = await accounts_of.ensure_admin(None)
    assert first is not None
    admin = await database.read(accounts.find, "admin")
    assert admin is not None
    await database.transaction(accounts.delete, admin.id)
    second = await accounts_of.ensure_admin(None)

    assert second is not None
    assert first.password != second.password


@pytest.mark.slow
async def test_of_four_workers_one_makes_the_admin(database: Database, database_file: Path) -> None:
    """A23: all start at once; exactly one learns the password, and that one works."""
    made: list[FirstAdmin | None] = []
    house = await House.build(database, Clock())

    async def start() -> None:
        async with SqliteDatabase(database_file) as own:
            worker = Accounts(own, Passwords(threads=1, queue=1), clock=Clock())
            made.append(await worker.ensure_admin(None))

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(start)

    [first] = [each for each in made if each is not None]
    assert (await house.authenticator.basic("admin", first.password)).name == "admin"


async def test_later_starts_leave_accounts_alone(house: House) -> None:
    """A17: once there is any account, no start makes an admin or changes a password, not even a removed one."""
    root = await house.accounts.create_user("root", None, is_admin=True)

    assert await house.accounts.ensure_admin("given by the operator") is None
    assert await house.database.read(accounts.find, "admin") is None
    assert await house.database.read(accounts.find, "root") == root


async def test_the_last_admin_stays(house: House) -> None:
    """Nobody can lock everybody out: the last enabled admin is not disabled, demoted or deleted."""
    first = await house.accounts.create_user("one", None, is_admin=True)
    second = await house.accounts.create_user("two", None, is_admin=True)
    await house.accounts.disable(second.id)

    for act in (
        lambda: house.accounts.disable(first.id),
        lambda: house.accounts.update(first.id, is_admin=False),
        lambda: house.accounts.delete(first.id),
    ):
        with pytest.raises(LastAdmin):
            await act()
    assert await house.database.read(accounts.get, first.id) == first
    await house.accounts.delete(second.id)
    await house.accounts.create_user("three", None, is_admin=True)
    await house.accounts.delete(first.id)


Act = Callable[[House], Awaitable[object]]

ON_NOBODY: dict[str, Act] = {
    "set_password": lambda house: house.accounts.set_password(99, "long enough"),
    "update": lambda house: house.accounts.update(99, description="x"),
    "disable": lambda house: house.accounts.disable(99),
    "delete": lambda house: house.accounts.delete(99),
    "issue_key": lambda house: house.accounts.issue_key(99),
    "create_personal_token": lambda house: house.accounts.create_personal_token(99, label=""),
    "revoke": lambda house: house.accounts.revoke(99, 1),
    "put_grant": lambda house: house.accounts.put_grant(99, Role.READER, project_id=1),
    "remove_grant": lambda house: house.accounts.remove_grant(99),
    "robot's project": lambda house: house.accounts.create_robot("x", project_id=99),
}


@pytest.mark.parametrize("name", ON_NOBODY)
async def test_acts_on_what_does_not_exist_say_so(house: House, name: str) -> None:
    """An unknown id is `NotFound`, never a silent success."""
    await house.repository()

    with pytest.raises(NotFound):
        await ON_NOBODY[name](house)


# --- robots and keys -------------------------------------------------------------------------------------------------


async def test_a_robot_is_named_with_its_mark_and_has_no_flags(house: House) -> None:
    """A14, A22: `ci` and `sa$ci` are the same robot; it cannot be made admin or auditor."""
    robot = await house.accounts.create_robot("ci", description="builds")

    assert (robot.name, robot.kind, robot.is_admin, robot.is_auditor) == ("sa$ci", "robot", False, False)
    with pytest.raises(Conflict):
        await house.accounts.create_robot("sa$ci")
    with pytest.raises(InvalidField, match="is_admin"):
        await house.accounts.update(robot.id, is_admin=True)
    with pytest.raises(InvalidField, match="is_auditor"):
        await house.accounts.update(robot.id, is_auditor=True)
    assert (await house.accounts.update(robot.id, is_admin=False)).name == "sa$ci"


async def test_a_robot_has_at_most_two_live_keys(house: House) -> None:
    """Two, so that one can replace the other without a gap; an expired or revoked one makes room."""
    robot = await house.accounts.create_robot("ci")
    first = await house.accounts.issue_key(robot.id, label="old", lifetime_s=DAY)
    await house.accounts.issue_key(robot.id)
    with pytest.raises(TooManySecrets):
        await house.accounts.issue_key(robot.id)
    house.clock.now += DAY
    third = await house.accounts.issue_key(robot.id)
    with pytest.raises(TooManySecrets):
        await house.accounts.issue_key(robot.id)
    await house.accounts.revoke(robot.id, third.credential.id)
    await house.accounts.issue_key(robot.id)

    assert await house.database.read(credentials.get, first.credential.id) is None


async def test_a_minted_secret_is_shown_once(house: House) -> None:
    """The text is in the answer and nowhere else; the row has a label, an end, and no secret."""
    robot = await house.accounts.create_robot("ci")
    minted = await house.accounts.issue_key(robot.id, label="runner 7")

    assert looks_like(minted.text, SecretKind.ROBOT)
    assert minted.text not in repr(minted)
    assert (minted.credential.label, minted.credential.created_at) == ("runner 7", START)
    assert minted.credential.expires_at == START + DEFAULT_LIFETIME_S


@pytest.mark.parametrize("lifetime_s", [0, -1, 11 * 365 * DAY])
async def test_every_secret_ends(house: House, lifetime_s: int) -> None:
    """A secret without an end, or with one out of reach, is not made."""
    robot = await house.accounts.create_robot("ci")

    with pytest.raises(InvalidField, match="lifetime_s"):
        await house.accounts.issue_key(robot.id, lifetime_s=lifetime_s)


@pytest.mark.parametrize("label", ["x" * 129, "two\nlines", "\x1b[31m"])
async def test_labels_are_short_and_printable(house: House, label: str) -> None:
    """A label cannot draw on the operator's terminal."""
    user = await house.user()

    with pytest.raises(InvalidField, match="label"):
        await house.accounts.create_personal_token(user.id, label=label)


async def test_keys_are_for_robots_and_personal_tokens_for_users(house: House) -> None:
    """Neither kind of secret is made for the other kind of account, nor a password for a robot."""
    user, robot = await house.user(), await house.accounts.create_robot("ci")

    for act in (
        lambda: house.accounts.issue_key(user.id),
        lambda: house.accounts.create_personal_token(robot.id, label=""),
        lambda: house.accounts.set_password(robot.id, "long enough"),
    ):
        with pytest.raises(InvalidField, match="account"):
            await act()


@pytest.mark.slow
async def test_personal_tokens_are_bounded(house: House) -> None:
    """A user has at most a hundred live ones."""
    user = await house.user()
    for _ in range(100):
        await house.accounts.create_personal_token(user.id, label="")

    with pytest.raises(TooManySecrets):
        await house.accounts.create_personal_token(user.id, label="")


async def test_a_token_made_with_a_token_is_no_more_than_that(house: House) -> None:
    """A5: it has both limits, ends no later, and goes when the first is revoked."""
    user = await house.user()
    narrow = Limits(actions=frozenset({Action.PULL, Action.PUSH}), repository_ids=frozenset({1, 2}))
    parent = await house.accounts.create_personal_token(user.id, label="", limits=narrow, lifetime_s=DAY)
    wish = Limits(actions=frozenset({Action.PULL, Action.DELETE}), project_ids=frozenset({5}))
    child = await house.accounts.create_personal_token(
        user.id, label="", limits=wish, lifetime_s=300 * DAY, parent_id=parent.credential.id
    )
    principal = await house.authenticator.basic("", child.text)

    assert principal.limits == Limits(
        actions=frozenset({Action.PULL}), repository_ids=frozenset({1, 2}), project_ids=frozenset({5})
    )
    assert child.credential.expires_at == START + DAY
    await house.accounts.revoke(user.id, parent.credential.id)
    assert await house.database.read(credentials.get, child.credential.id) is None


async def test_another_account_is_no_parent_and_no_owner(house: House) -> None:
    """A21: with one account's id and another's secret, nothing is made and nothing is revoked."""
    alice, bob = await house.user("alice"), await house.user("bob")
    minted = await house.accounts.create_personal_token(bob.id, label="")

    with pytest.raises(NotFound):
        await house.accounts.create_personal_token(alice.id, label="", parent_id=minted.credential.id)
    with pytest.raises(NotFound):
        await house.accounts.revoke(alice.id, minted.credential.id)
    await house.authenticator.basic("bob", minted.text)


# --- roles -----------------------------------------------------------------------------------------------------------


async def test_a_role_replaces_the_one_before(house: House) -> None:
    """An account has one role in one place."""
    place = await house.repository()
    user = await house.user()
    await house.accounts.put_grant(user.id, Role.ADMIN, repository_id=place.id)
    await house.accounts.put_grant(user.id, Role.READER, repository_id=place.id)
    [grant] = await house.database.read(grants.of_account, user.id)

    assert grant.role == "reader"


async def test_a_role_needs_one_place_that_exists(house: House) -> None:
    """None, two or unknown places are refused."""
    place = await house.repository()
    user = await house.user()

    with pytest.raises(InvalidField, match="project"):
        await house.accounts.put_grant(user.id, Role.READER)
    with pytest.raises(InvalidField, match="project"):
        await house.accounts.put_grant(user.id, Role.READER, project_id=place.project_id, repository_id=place.id)
    with pytest.raises(NotFound):
        await house.accounts.put_grant(user.id, Role.READER, project_id=99)
    with pytest.raises(NotFound):
        await house.accounts.put_grant(user.id, Role.READER, repository_id=99)


async def test_a_robot_of_a_project_gets_no_role_outside_it(house: House) -> None:
    """Its project is its bound, for roles on projects and on repositories."""
    here, there = await house.repository("acme"), await house.repository("globex")
    robot: AccountRecord = await house.accounts.create_robot("ci", project_id=here.project_id)
    await house.accounts.put_grant(robot.id, Role.WRITER, repository_id=here.id)

    with pytest.raises(InvalidField, match="project"):
        await house.accounts.put_grant(robot.id, Role.READER, repository_id=there.id)
    with pytest.raises(InvalidField, match="project"):
        await house.accounts.put_grant(robot.id, Role.READER, project_id=there.project_id)
