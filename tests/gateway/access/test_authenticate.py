"""Who is it: passwords, personal tokens, robot keys and registry tokens, checked live."""

import math
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing
from argon2 import PasswordHasher

from gateway.access.accounts import MintedSecret
from gateway.access.actions import Action, Role
from gateway.access.authenticate import MAX_USAGE
from gateway.access.errors import BadCredentials, InvalidToken, Overloaded
from gateway.access.keyring import LEEWAY_S
from gateway.access.passwords import Passwords
from gateway.access.principal import ANONYMOUS, Limits, Principal
from gateway.access.secrets import SecretKind, mint
from storage import AccountRecord, Database, Transaction, Unavailable
from storage.metadata import accounts, credentials
from tests.gateway.access.house import DAY, START, House

PASSWORD = "correct:horse:battery"


@pytest.fixture
async def alice(house: House) -> AccountRecord:
    """A user with `PASSWORD`."""
    return await house.accounts.create_user("alice", PASSWORD)


async def test_a_user_comes_in_by_password(house: House, alice: AccountRecord) -> None:
    """TOK-20: the password may hold colons and anything else; the principal is the account, not narrowed."""
    principal = await house.authenticator.basic("alice", PASSWORD)

    assert principal == Principal(alice)
    assert principal.limits.is_unlimited
    for wrong in ("correct", PASSWORD + " ", PASSWORD.upper(), ""):
        await _refused(house, "alice", wrong)


@pytest.mark.parametrize("password", ["pässwörd:✓ 日本", "tok%3A/+x and more", "a\0b\0c\0d\0"])
async def test_unusual_passwords_work_as_they_are(house: House, password: str) -> None:
    """TOK-20, T8: nothing in a password is decoded, trimmed or normalised."""
    await house.accounts.create_user("bob.smith+ci@x", password)

    assert (await house.authenticator.basic("bob.smith+ci@x", password)).name == "bob.smith+ci@x"


@pytest.mark.slow
async def test_whoever_is_refused_costs_the_same_and_learns_the_same(house: House, alice: AccountRecord) -> None:
    """T7: unknown, wrong, disabled, expired, robot, without password: one slow check each, and one text.

    The right password of an account that may not be used is no exception.
    """
    disabled = await house.accounts.create_user("disabled", PASSWORD)
    await house.accounts.disable(disabled.id)
    await house.accounts.create_user("expired", PASSWORD, expires_at=START - 1)
    await house.accounts.create_robot("robot")
    await house.accounts.create_robot("old", expires_at=START - 1)
    await house.accounts.create_user("tokens-only", None)
    attempts = [
        ("nobody", "wrong pass"),
        ("alice", "wrong pass"),
        ("disabled", PASSWORD),
        ("expired", PASSWORD),
        ("sa$robot", "wrong pass"),
        ("sa$old", "wrong pass"),
        ("tokens-only", "wrong pass"),
        ("no such name\0", "wrong pass"),
    ]
    texts = set()
    for username, password in attempts:
        before = house.passwords.slow_checks
        texts.add(str(await _refused(house, username, password)))
        assert house.passwords.slow_checks == before + 1, username

    assert len(texts) == 1


async def test_a_robot_has_no_password(house: House) -> None:
    """A14: even if a row held a hash for a robot, it would open nothing."""
    robot = await house.accounts.create_robot("ci")
    hashed = await house.passwords.hash(PASSWORD)
    await house.database.transaction(accounts.set_password, robot.id, hashed, START)

    await _refused(house, "sa$ci", PASSWORD)


@pytest.mark.parametrize(
    "username",
    ["alice", "<token>", "oauth2accesstoken", "token", "$app", "", "nobody", "sa$ci", "\ud800", "x" * 10_000],
)
async def test_a_personal_token_is_a_password_with_any_user_name(house: House, username: str) -> None:
    """A14, TOK-20: the secret says whose it is; the name beside it gives and takes nothing."""
    user = await house.user()
    await house.accounts.create_user("nobody", None, is_admin=True)
    minted = await house.accounts.create_personal_token(user.id, label="laptop")
    principal = await house.authenticator.basic(username, minted.text)

    assert principal == Principal(user, credential_id=minted.credential.id)
    assert house.passwords.slow_checks == 0


async def test_a_robot_comes_in_by_its_key(house: House) -> None:
    """TOK-20: `sa$ci` and its key, without the slow hash; both keys work during a rotation."""
    robot = await house.accounts.create_robot("ci")
    keys = [await house.accounts.issue_key(robot.id) for _ in range(2)]

    for key in keys:
        assert (await house.authenticator.basic("sa$ci", key.text)).account == robot
    assert house.passwords.slow_checks == 0
    await house.accounts.revoke(robot.id, keys[0].credential.id)
    await _refused(house, "sa$ci", keys[0].text)
    await house.authenticator.basic("sa$ci", keys[1].text)


@pytest.mark.parametrize("kind", SecretKind)
async def test_unknown_and_damaged_secrets_are_refused_without_the_slow_hash(house: House, kind: SecretKind) -> None:
    """A text with our prefix is a secret or nothing: never tried as a password, never a way to fill the queue."""
    text, _ = mint(kind)

    for wrong in (text, text[:-1], text[:-1] + "é", kind.prefix):
        await _refused(house, "alice", wrong)
        await _refused_bearer(house, wrong)
    assert house.passwords.slow_checks == 0


async def test_a_secret_sent_as_bearer_is_worth_the_same(house: House) -> None:
    """A5: a limited token is exactly as limited, whichever way it is sent."""
    place = await house.repository()
    user = await house.user()
    await house.accounts.put_grant(user.id, Role.ADMIN, repository_id=place.id)
    limits = Limits(actions=frozenset({Action.PULL}))
    minted = await house.accounts.create_personal_token(user.id, label="", limits=limits)
    by_basic = await house.authenticator.basic("alice", minted.text)
    by_bearer = await house.authenticator.bearer(minted.text)

    assert by_basic == by_bearer
    assert by_basic.limits == limits
    assert await house.allowed(by_bearer, "acme/images/app") == {"pull"}


async def test_a_refresh_token_is_no_password_and_no_bearer_token(house: House) -> None:
    """A5: it is taken by the token endpoint's refresh grant alone."""
    answer = await house.ask(Principal(await house.user()), offline=True)
    assert answer.refresh_token is not None

    await _refused(house, "alice", answer.refresh_token)
    await _refused(house, "<token>", answer.refresh_token)
    await _refused_bearer(house, answer.refresh_token)


async def test_a_registry_token_is_no_password(house: House) -> None:
    """A5: a JWT sent as a password is tried as one, and is none."""
    answer = await house.ask(Principal(await house.user()))

    await _refused(house, "alice", answer.token)


async def test_secrets_end_at_their_time(house: House) -> None:
    """A secret is good until the second it expires, by every way."""
    user = await house.user()
    minted = await house.accounts.create_personal_token(user.id, label="", lifetime_s=3600)
    house.clock.now = START + 3599
    await house.authenticator.basic("alice", minted.text)
    house.clock.now = START + 3600

    await _refused(house, "alice", minted.text)
    await _refused_bearer(house, minted.text)


async def test_a_secret_whose_limits_are_not_understood_opens_nothing(house: House) -> None:
    """A5: after a downgrade, a narrowing that this version does not know is not ignored."""
    user = await house.user()
    text, secret_hash = mint(SecretKind.PERSONAL)
    await house.database.transaction(_insert, user.id, secret_hash, kind="personal", limits='{"tags":["v*"]}')

    await _refused(house, "alice", text)


async def test_a_secret_of_another_kind_opens_nothing(house: House) -> None:
    """A refresh token's row does not become a personal token by another prefix."""
    user = await house.user()
    text, secret_hash = mint(SecretKind.PERSONAL)
    await house.database.transaction(_insert, user.id, secret_hash, kind="refresh", limits=None)

    await _refused(house, "alice", text)


Ending = Callable[[House, AccountRecord, MintedSecret], Awaitable[object]]

ENDINGS: dict[str, Ending] = {
    "disabled": lambda house, account, _: house.accounts.disable(account.id),
    "deleted": lambda house, account, _: house.accounts.delete(account.id),
    "expired": lambda house, account, _: house.accounts.update(account.id, expires_at=START),
    "secret revoked": lambda house, account, minted: house.accounts.revoke(account.id, minted.credential.id),
}


@pytest.mark.parametrize("name", ENDINGS)
async def test_what_ends_an_account_or_secret_ends_all_that_came_from_it(house: House, name: str) -> None:
    """A17, TOK-21: the secret, its registry token and its refresh token are refused at the next request."""
    user = await house.user()
    minted = await house.accounts.create_personal_token(user.id, label="")
    answer = await house.ask(await house.authenticator.basic("", minted.text), offline=True)
    assert answer.refresh_token is not None
    await house.authenticator.bearer(answer.token)
    await ENDINGS[name](house, user, minted)

    await _refused(house, "alice", minted.text)
    await _refused_bearer(house, minted.text)
    await _refused_bearer(house, answer.token)
    with pytest.raises(InvalidToken):
        await house.tokens.refresh(answer.refresh_token, service="sluice")


async def test_an_account_made_again_under_its_name_is_another(house: House) -> None:
    """A15: the tokens of the old one are not the new one's."""
    user = await house.user()
    answer = await house.ask(Principal(user))
    await house.accounts.delete(user.id)
    again = await house.user()

    assert again.id != user.id
    await _refused_bearer(house, answer.token)


@pytest.mark.slow
async def test_a_new_password_ends_tokens_and_not_personal_tokens(house: House, alice: AccountRecord) -> None:
    """A17: whoever stole a registry or refresh token loses it; what the user made by hand goes on."""
    minted = await house.accounts.create_personal_token(alice.id, label="")
    answer = await house.ask(await house.authenticator.basic("alice", PASSWORD), offline=True)
    assert answer.refresh_token is not None
    await house.accounts.set_password(alice.id, "another password")

    await _refused_bearer(house, answer.token)
    with pytest.raises(InvalidToken):
        await house.tokens.refresh(answer.refresh_token, service="sluice")
    await _refused(house, "alice", PASSWORD)
    await house.authenticator.basic("alice", "another password")
    await house.authenticator.basic("alice", minted.text)


@pytest.mark.slow
async def test_overload_is_never_told_as_wrong_credentials(house: House, alice: AccountRecord) -> None:
    """A27, T10: while junk fills the queue, a valid login gets in or is told to come back; afterwards it gets in."""
    house.authenticator._passwords = house.passwords = Passwords(threads=1, queue=2)
    refused = 0

    async def junk(number: int) -> None:
        nonlocal refused
        with pytest.raises((BadCredentials, Overloaded)):
            await house.authenticator.basic("alice", f"junk number {number}")
        refused += 1

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(junk, number)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(Overloaded):
            await house.authenticator.basic("alice", PASSWORD)

    assert refused == 20
    assert (await house.authenticator.basic("alice", PASSWORD)).account == alice


async def test_a_principal_knows_when_it_ends(house: House) -> None:
    """The earliest of account, credential, and token with its leeway; never, where nothing ends by itself."""
    user = await house.accounts.create_user("uma", PASSWORD)
    minted = await house.accounts.create_personal_token(user.id, label="", lifetime_s=DAY)
    token = (await house.ask(await house.authenticator.bearer(minted.text))).token
    nobodys = (await house.ask(ANONYMOUS)).token

    assert ANONYMOUS.valid_until == math.inf
    assert (await house.authenticator.basic("uma", PASSWORD)).valid_until == math.inf
    assert (await house.authenticator.bearer(minted.text)).valid_until == START + DAY
    for text in (token, nobodys):
        assert (await house.authenticator.bearer(text)).valid_until == START + 300 + LEEWAY_S
    house.clock.now = START + 300 + LEEWAY_S
    with pytest.raises(InvalidToken):
        await house.authenticator.bearer(token)


async def test_a_dead_database_is_not_a_wrong_password(house: House, alice: AccountRecord) -> None:
    """A26: no way of authentication turns trouble with the database into a refusal."""
    secret, _ = mint(SecretKind.PERSONAL)
    token = (await house.ask(Principal(alice))).token
    await house.database.aclose()

    for attempt in (
        lambda: house.authenticator.basic("alice", PASSWORD),
        lambda: house.authenticator.basic("alice", secret),
        lambda: house.authenticator.bearer(secret),
        lambda: house.authenticator.bearer(token),
    ):
        with pytest.raises(Unavailable):
            await attempt()


async def test_an_old_hash_is_renewed_at_login_and_tokens_go_on(house: House) -> None:
    """A hash with weaker parameters is replaced while the password is at hand; that is no change of the password."""
    user = await house.user()
    weak = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
    await house.database.transaction(accounts.set_password, user.id, weak, START)
    token = (await house.ask(await house.authenticator.basic("alice", PASSWORD))).token
    stored = await house.database.read(accounts.password_hash, user.id)

    assert stored is not None
    assert not house.passwords.needs_rehash(stored)
    assert (await house.authenticator.basic("alice", PASSWORD)).account is not None
    await house.authenticator.bearer(token)


async def test_a_renewed_hash_does_not_undo_a_change(house: House) -> None:
    """If the password was changed while the old one was being hashed anew, the change stays."""
    user = await house.user()
    await house.database.transaction(accounts.set_password, user.id, "new", START)

    assert not await house.database.transaction(accounts.renew_hash, user.id, "old", "renewed")
    assert await house.database.read(accounts.password_hash, user.id) == "new"


# --- last use --------------------------------------------------------------------------------------------------------


async def test_last_use_is_written_by_the_flush_alone(house: House) -> None:
    """Authenticating writes nothing; the job writes the newest time of each secret once."""
    user = await house.user()
    minted = await house.accounts.create_personal_token(user.id, label="")
    for moment in (5, 6, 7):
        house.clock.now = START + moment
        await house.authenticator.basic("", minted.text)
    assert await _last_used(house.database, minted) is None
    await house.authenticator.flush_usage()
    assert await _last_used(house.database, minted) == START + 7
    commits = house.database.statistics().writer
    await house.authenticator.flush_usage()

    assert house.database.statistics().writer == commits  # nothing to write, nothing written


async def test_a_failed_flush_is_made_up_for(house: House) -> None:
    """Times that could not be written are written by the next flush; a newer time wins over an older one."""
    user = await house.user()
    minted = await house.accounts.create_personal_token(user.id, label="")
    await house.authenticator.basic("", minted.text)
    await house.database.aclose()
    with pytest.raises(Unavailable):
        await house.authenticator.flush_usage()
    await house.database.open()
    house.clock.now += DAY
    await house.authenticator.flush_usage()

    assert await _last_used(house.database, minted) == START


async def test_the_memory_of_uses_is_bounded(house: House) -> None:
    """However many secrets are used between two flushes, the memory does not grow beyond its bound."""
    for number in range(MAX_USAGE + 10):
        house.authenticator.note_use(number)

    assert len(house.authenticator._usage) == MAX_USAGE
    await house.authenticator.flush_usage()
    assert house.authenticator._usage == {}


async def _refused(house: House, username: str, password: str) -> BadCredentials:
    with pytest.raises(BadCredentials) as caught:
        await house.authenticator.basic(username, password)
    return caught.value


async def _refused_bearer(house: House, text: str) -> None:
    with pytest.raises(InvalidToken):
        await house.authenticator.bearer(text)


async def _last_used(database: Database, minted: MintedSecret) -> int | None:
    record = await database.read(credentials.get, minted.credential.id)
    assert record is not None
    return record.last_used_at


def _insert(tx: Transaction, account_id: int, secret_hash: str, *, kind: str, limits: str | None) -> None:
    credentials.create(
        tx,
        account_id=account_id,
        kind=kind,
        secret_hash=secret_hash,
        label="",
        limits=limits,
        service=None,
        parent_id=None,
        created_at=START,
        expires_at=None,
    )
