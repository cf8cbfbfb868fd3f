"""The token endpoint without HTTP: what a token is worth, and how refresh tokens live and end."""

import jwt
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.access.actions import Action, Role
from gateway.access.errors import InvalidToken
from gateway.access.exchange import MAX_REFRESH_TOKENS, TokenAnswer
from gateway.access.principal import ANONYMOUS, Limits, Principal
from gateway.access.secrets import SecretKind, looks_like, mint
from gateway.oci.scopes import Scope, format_scope, parse_scopes
from storage import CredentialRecord, SqliteDatabase, Transaction
from storage.metadata import credentials, repositories
from tests.gateway.access.house import DAY, START, House

APP = "acme/images/app"
PULL_ONLY = Limits(actions=frozenset({Action.PULL}))


@pytest.fixture
async def writer(house: House) -> Principal:
    """A user who may pull and push in `acme/images`."""
    place = await house.repository()
    user = await house.user()
    await house.accounts.put_grant(user.id, Role.WRITER, repository_id=place.id)
    return Principal(user)


# --- scopes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", ["pull", "push,pull", "pull,push,delete", "*", "delete", "push"])
async def test_a_token_carries_the_rights_held_whatever_was_asked(house: House, writer: Principal, asked: str) -> None:
    """TOK-04, TOK-05: a superset of what was asked is granted, never more than is held; order and `*` do not matter."""
    answer = await house.ask(writer, f"repository:{APP}:{asked}")

    assert answer.granted == (Scope("repository", APP, frozenset({"pull", "push"})),)
    assert await house.allowed_with(answer.token, APP) == {"pull", "push"}


async def test_a_star_serves_a_delete(house: House, writer: Principal) -> None:
    """TOK-04: skopeo asks for `*` alone to delete; a maintainer's token can pull and delete."""
    assert writer.account is not None
    place = await house.repository("acme", "other")
    await house.accounts.put_grant(writer.account.id, Role.MAINTAINER, repository_id=place.id)
    answer = await house.ask(writer, "repository:acme/other/app:*")

    assert {"pull", "delete"} <= await house.allowed_with(answer.token, "acme/other/app")
    assert "configure" not in await house.allowed_with(answer.token, "acme/other/app")


async def test_scopes_come_repeated_or_with_spaces(house: House, writer: Principal) -> None:
    """T12, TOK-02: several parameters, one with spaces, twice the same: all name the same resources."""
    two = [f"repository:{APP}:pull", "repository:acme/images/b:pull"]
    answers = [
        await house.ask(writer, *two),
        await house.ask(writer, " ".join(two)),
        await house.ask(writer, two[0], two[0], " ", two[1]),
    ]

    assert len({answer.granted for answer in answers}) == 1
    assert [scope.name for scope in answers[0].granted] == [APP, "acme/images/b"]


@pytest.mark.parametrize(
    "scope",
    [
        "",
        "*",
        "repository",
        "repository::pull",
        f"repository:{APP}:",
        f"repository:{APP}:fly",
        f"plugin:{APP}:pull",
        f"Repository:{APP}:pull",
        "repository:../x:pull",
        "repository:acme/images/../../secret/x:pull",
        "repository:acme%2fimages%2fapp:pull",
        "repository:*:*",
        "repository:acme/*:*",
        "registry:catalog:pull",
        "registry:*:*",
        "registry:admin:*",
        f"repository:{'a' * 100_000}:pull",
    ],
    ids=lambda scope: scope[:40],
)
async def test_strange_scopes_grant_nothing_and_break_nothing(house: House, writer: Principal, scope: str) -> None:
    """T12, TOK-03: what is malformed, unknown or a pattern is left out; the answer is still a token."""
    answer = await house.ask(writer, scope)

    assert answer.granted == ()
    assert await house.allowed_with(answer.token, APP) == set()


async def test_no_scope_gives_a_token_that_only_says_who(house: House, writer: Principal) -> None:
    """TOK-06, TOK-10: `docker login` gets a good token without access, for at least a minute."""
    answer = await house.ask(writer)
    principal = await house.authenticator.bearer(answer.token)

    assert (answer.granted, answer.refresh_token, answer.issued_at) == ((), None, START)
    assert answer.expires_in_s >= 60
    assert principal.account == writer.account
    assert principal.token_access == ()
    assert not principal.catalog


async def test_a_class_and_an_address_in_a_scope_are_understood(house: House, writer: Principal) -> None:
    """TOK-03: `repository(plugin):host:port/name:pull` names the image `name`; the token works for its real name."""
    answer = await house.ask(writer, f"repository(plugin):localhost:5000/{APP}:pull")

    assert await house.allowed_with(answer.token, APP) == {"pull", "push"}
    assert [format_scope(scope) for scope in answer.granted] == [f"repository:localhost:5000/{APP}:pull,push"]


async def test_what_is_missing_looks_like_what_is_forbidden(house: House, writer: Principal) -> None:
    """ACC-02, TOK-05: no right and no repository are the same empty grant; the part that is held is given."""
    await house.repository("initech", "secret")
    there = await house.ask(writer, "repository:initech/secret/app:pull")
    nowhere = await house.ask(writer, "repository:initech/nothing/app:pull")
    partly = await house.ask(writer, "repository:initech/secret/app:pull", f"repository:{APP}:pull")

    assert there.granted == nowhere.granted == ()
    for answer, name in ((there, "initech/secret/app"), (nowhere, "initech/nothing/app")):
        assert _claims(answer)["access"] == [{"type": "repository", "name": name, "actions": [], "id": 0}]
        assert await house.allowed_with(answer.token, name) == set()
    assert [scope.name for scope in partly.granted] == [APP]


async def test_anonymous_callers_get_tokens_for_what_is_public(house: House) -> None:
    """TOK-08: a guest's token pulls from public repositories, and from them only."""
    await house.repository("acme", "public", anonymous_read=True)
    await house.repository("acme", "private")
    scopes = [f"repository:acme/{name}/app:pull,push" for name in ("public", "private")]
    answer = await house.ask(ANONYMOUS, *scopes, "registry:catalog:*", offline=True)

    assert [format_scope(scope) for scope in answer.granted] == ["repository:acme/public/app:pull"]
    assert answer.refresh_token is None
    assert _claims(answer)["sub"] == ""
    assert await house.allowed_with(answer.token, "acme/public/app") == {"pull"}
    assert await house.allowed_with(answer.token, "acme/private/app") == set()


async def test_the_catalog_is_a_scope_of_its_own(house: House, writer: Principal) -> None:
    """T12, ACC-07: any account may ask for its own filtered catalog; a token without the scope does not reach it."""
    answer = await house.ask(writer, "registry:catalog:*")

    assert [format_scope(scope) for scope in answer.granted] == ["registry:catalog:*"]
    assert (await house.authenticator.bearer(answer.token)).catalog
    push_only = Principal(writer.account, limits=Limits(actions=frozenset({Action.PUSH})))
    assert (await house.ask(push_only, "registry:catalog:*")).granted == ()


async def test_a_thousand_scopes_make_a_small_token(house: House, writer: Principal) -> None:
    """T12, TOK-18: the token stays below 8 KiB; what it grants is a part of what was asked, and true."""
    names = [f"acme/images/{'x' * 200}{number}" for number in range(1000)]
    answer = await house.ask(writer, *(f"repository:{name}:pull" for name in names))
    granted = [scope.name for scope in answer.granted]

    assert len(answer.token) < 8192
    assert granted == names[: len(granted)]
    assert len(granted) >= 10
    assert await house.allowed_with(answer.token, granted[-1]) == {"pull", "push"}
    assert await house.allowed_with(answer.token, names[len(granted)]) == set()


async def test_a_token_is_not_exchanged_for_another(house: House, writer: Principal) -> None:
    """A5: a registry token cannot renew itself, or it would outlive everything."""
    answer = await house.ask(writer, f"repository:{APP}:pull")

    with pytest.raises(InvalidToken):
        await house.ask(await house.authenticator.bearer(answer.token), f"repository:{APP}:pull")


@given(st.lists(st.text(max_size=30) | st.sampled_from(["repository:", ":pull", APP, " ", "*", "registry:catalog:*"])))
@settings(max_examples=50)
def test_any_scope_text_grants_a_part_of_what_is_held(texts: list[str]) -> None:
    """T12: whatever bytes are sent as scopes, parsing never raises, and names follow the grammar of names."""
    for scope in parse_scopes(["".join(texts), *texts]):
        assert scope.actions
        assert scope.kind in {"repository", "registry"}
        assert ".." not in scope.name


# --- liveness --------------------------------------------------------------------------------------------------------


async def test_a_token_dies_with_the_right_and_with_the_repository(house: House, writer: Principal) -> None:
    """A15, A17, TOK-21: a role taken away, or a repository made again under its name, leaves the token worthless."""
    answer = await house.ask(writer, f"repository:{APP}:pull")
    assert writer.account is not None
    old = await house.database.read(repositories.find, "acme", "images")
    assert old is not None
    await house.database.transaction(repositories.delete, old.id)
    assert await house.allowed_with(answer.token, APP) == set()
    new = await house.repository()
    await house.accounts.put_grant(writer.account.id, Role.WRITER, repository_id=new.id)

    assert new.id != old.id
    assert await house.allowed_with(answer.token, APP) == set()
    grant = await house.accounts.put_grant(writer.account.id, Role.READER, repository_id=new.id)
    fresh = await house.ask(writer, f"repository:{APP}:pull")
    assert await house.allowed_with(fresh.token, APP) == {"pull"}
    await house.accounts.remove_grant(grant.id)
    assert await house.allowed_with(fresh.token, APP) == set()


async def test_limits_survive_every_exchange(house: House) -> None:
    """A5: a pull-only token for one repository, exchanged by Basic, Bearer and refresh, stays that everywhere."""
    here, there = await house.repository("acme", "images"), await house.repository("acme", "other")
    user = await house.accounts.create_user("root", None, is_admin=True)
    limits = Limits(actions=frozenset({Action.PULL}), repository_ids=frozenset({here.id}))
    minted = await house.accounts.create_personal_token(user.id, label="", limits=limits)
    scopes = [f"repository:{APP}:*", "repository:acme/other/app:*", "registry:catalog:*"]
    by_basic = await house.ask(await house.authenticator.basic("root", minted.text), *scopes, offline=True)
    by_bearer = await house.ask(await house.authenticator.bearer(minted.text), *scopes)
    assert by_basic.refresh_token is not None
    by_refresh = await house.ask(await house.tokens.refresh(by_basic.refresh_token, service="sluice"), *scopes)

    for answer in (by_basic, by_bearer, by_refresh):
        assert await house.allowed_with(answer.token, APP) == {"pull"}
        assert await house.allowed_with(answer.token, f"{there.full_name}/app") == set()


async def test_a_shorter_limit_counts_for_tokens_already_issued(house: House, writer: Principal) -> None:
    """A5: the token names its credential, whose limits are read live; nothing is trusted from the time of issue."""
    assert writer.account is not None
    minted = await house.accounts.create_personal_token(writer.account.id, label="", limits=PULL_ONLY)
    unlimited = Principal(writer.account, credential_id=minted.credential.id)  # as if it had been wider when issued
    answer = await house.ask(unlimited, f"repository:{APP}:pull")

    assert _claims(answer)["access"][0]["actions"] == ["pull", "push"]
    assert await house.allowed_with(answer.token, APP) == {"pull"}


# --- refresh tokens --------------------------------------------------------------------------------------------------


async def test_a_refresh_token_is_random_and_stored_as_its_hash(house: House, writer: Principal) -> None:
    """OAU-09: the database holds the SHA-256 only."""
    text = await _refresh_token(house, writer)
    [row] = await _refresh_rows(house, writer)

    assert looks_like(text, SecretKind.REFRESH)
    assert row.service == "sluice"
    assert text not in _file_bytes(house).decode("latin-1")


async def test_a_refresh_token_can_be_used_again_and_in_parallel(house: House, writer: Principal) -> None:
    """T9: fifty uses at once and one more later all work; docker sends the same one for months."""
    text = await _refresh_token(house, writer)
    found: list[Principal] = []

    async def use() -> None:
        found.append(await house.tokens.refresh(text, service="sluice"))

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(use)
    await use()

    assert {principal.account for principal in found} == {writer.account}
    assert len(found) == 51


async def test_a_refreshing_caller_gets_no_second_refresh_token(house: House, writer: Principal) -> None:
    """T9: it goes on using the one it has, so rows do not pile up with every pull."""
    text = await _refresh_token(house, writer)
    answer = await house.ask(await house.tokens.refresh(text, service="sluice"), f"repository:{APP}:pull", offline=True)

    assert answer.refresh_token is None
    assert len(await _refresh_rows(house, writer)) == 1
    assert await house.allowed_with(answer.token, APP) == {"pull", "push"}


@pytest.mark.parametrize("service", ["other", "", "Sluice", "sluice "])
async def test_a_refresh_token_is_for_its_service(house: House, writer: Principal, service: str) -> None:
    """OAU-07: named with another service, it is refused."""
    text = await _refresh_token(house, writer)

    with pytest.raises(InvalidToken):
        await house.tokens.refresh(text, service=service)


async def test_a_refresh_token_of_another_service_of_the_same_database_is_refused(
    house: House, writer: Principal
) -> None:
    """OAU-07: the row says for which service it was made."""
    text = await _refresh_token(house, writer)
    other = await House.build(house.database, house.clock, service="other")

    with pytest.raises(InvalidToken):
        await other.tokens.refresh(text, service="other")


@pytest.mark.parametrize("kind", SecretKind)
async def test_other_texts_are_no_refresh_tokens(house: House, kind: SecretKind) -> None:
    """OAU-06: unknown ones, secrets of other kinds, registry tokens and garbage are refused alike."""
    user = await house.user()
    robot = await house.accounts.create_robot("ci")
    texts = {
        SecretKind.PERSONAL: (await house.accounts.create_personal_token(user.id, label="")).text,
        SecretKind.ROBOT: (await house.accounts.issue_key(robot.id)).text,
        SecretKind.REFRESH: mint(SecretKind.REFRESH)[0],
    }
    token = (await house.ask(Principal(user))).token

    for text in (texts[kind], token, "", "x" * 100_000):
        with pytest.raises(InvalidToken):
            await house.tokens.refresh(text, service="sluice")


async def test_a_refresh_token_ends_when_it_is_not_used(house: House, writer: Principal) -> None:
    """It lives as long as it is used at least every ninety days, and then ends."""
    text = await _refresh_token(house, writer)
    for _ in range(3):
        house.clock.now += 89 * DAY
        await house.tokens.refresh(text, service="sluice")
        await house.authenticator.flush_usage()
    house.clock.now += 90 * DAY

    with pytest.raises(InvalidToken):
        await house.tokens.refresh(text, service="sluice")


async def test_a_refresh_token_ends_with_the_secret_it_came_from(house: House) -> None:
    """A5: it lives no longer than the personal token behind it."""
    user = await house.user()
    minted = await house.accounts.create_personal_token(user.id, label="", lifetime_s=DAY)
    text = await _refresh_token(house, await house.authenticator.basic("", minted.text))
    house.clock.now += DAY

    with pytest.raises(InvalidToken):
        await house.tokens.refresh(text, service="sluice")


async def test_a_refresh_token_ends_with_the_sessions_of_its_account(house: House, writer: Principal) -> None:
    """A17: raising the epoch ends it, even where the row was left."""
    assert writer.account is not None
    text = await _refresh_token(house, writer)
    await house.accounts.update(writer.account.id, is_auditor=True)

    assert len(await _refresh_rows(house, writer)) == 1
    with pytest.raises(InvalidToken):
        await house.tokens.refresh(text, service="sluice")


async def test_a_secret_revoked_during_the_login_gives_no_refresh_token(house: House) -> None:
    """A17: a refresh token is not made from what has ended meanwhile."""
    user = await house.user()
    minted = await house.accounts.create_personal_token(user.id, label="")
    principal = await house.authenticator.basic("", minted.text)
    await house.accounts.revoke(user.id, minted.credential.id)

    with pytest.raises(InvalidToken):
        await house.ask(principal, offline=True)


@pytest.mark.slow
async def test_the_refresh_tokens_of_one_account_are_bounded(house: House, writer: Principal) -> None:
    """A fleet that logs in for ever does not fill the database: those not used for longest go, the new one works."""
    assert writer.account is not None
    account_id = writer.account.id

    def fill(tx: Transaction) -> None:
        for number in range(MAX_REFRESH_TOKENS):
            credentials.create(
                tx,
                account_id=account_id,
                kind="refresh",
                secret_hash=f"{number}",
                label="",
                limits=None,
                service="sluice",
                parent_id=None,
                created_at=START - MAX_REFRESH_TOKENS + number,
                expires_at=None,
            )

    await house.database.transaction(fill)
    [oldest] = await house.database.read(credentials.of_account, account_id, "refresh", limit=1)
    await house.database.transaction(credentials.touch, {oldest.id: START})
    text = await _refresh_token(house, writer)
    rows = await _refresh_rows(house, writer)

    assert len(rows) == 9_001
    assert rows[0].id == oldest.id  # made first, but used
    await house.tokens.refresh(text, service="sluice")


async def test_cleaning_removes_what_has_ended_and_nothing_else(house: House, writer: Principal) -> None:
    """Idle refresh tokens go; expired secrets stay a month for people to see, then go; what lives stays."""
    assert writer.account is not None
    short = await house.accounts.create_personal_token(writer.account.id, label="", lifetime_s=DAY)
    long = await house.accounts.create_personal_token(writer.account.id, label="", lifetime_s=300 * DAY)
    await _refresh_token(house, writer)

    async def left() -> tuple[bool, bool, int]:
        await house.tokens.clean()
        rows = [await house.database.read(credentials.get, each.credential.id) for each in (short, long)]
        return rows[0] is not None, rows[1] is not None, len(await _refresh_rows(house, writer))

    assert await left() == (True, True, 1)
    house.clock.now = START + 30 * DAY
    assert await left() == (True, True, 1)
    house.clock.now = START + 31 * DAY
    assert await left() == (False, True, 1)
    house.clock.now = START + 90 * DAY
    assert await left() == (False, True, 0)


async def _refresh_token(house: House, principal: Principal) -> str:
    text = (await house.ask(principal, offline=True)).refresh_token
    assert text is not None
    return text


async def _refresh_rows(house: House, principal: Principal) -> list[CredentialRecord]:
    assert principal.account is not None
    return await house.database.survey(credentials.of_account, principal.account.id, "refresh", limit=20_000)


def _file_bytes(house: House) -> bytes:
    """Everything that the database wrote, its log included."""
    assert isinstance(house.database, SqliteDatabase)
    path = house.database._file.path
    return b"".join(each.read_bytes() for each in path.parent.glob(path.name + "*"))


def _claims(answer: TokenAnswer) -> dict:
    claims: dict = jwt.decode(answer.token, options={"verify_signature": False})
    return claims
