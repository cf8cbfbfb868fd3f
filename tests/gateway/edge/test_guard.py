"""The guard over real rows: who is let in where, what the others are told, and that a revocation works at once."""

import base64

import pytest

from gateway.access.actions import Action, Role
from gateway.access.authenticate import Authenticator
from gateway.access.errors import Overloaded
from gateway.access.passwords import Passwords
from gateway.access.principal import ANONYMOUS, Limits, Principal
from gateway.edge.address import External
from gateway.edge.guard import Guard
from gateway.oci.errors import Code, RegistryError
from storage import RepositoryRecord, Unavailable
from storage.metadata import repositories
from tests.gateway.access.house import SERVICE, House
from tests.gateway.edge.guarded import IMAGE, login, member, refused
from tests.gateway.edge.visitors import as_sent, basic, bearer, visit

REALM = 'Bearer realm="http://registry.test:8080/v2/token",service="sluice"'


# --- who is it -----------------------------------------------------------------------------------------------------


async def test_nobody_is_anonymous(guard: Guard) -> None:
    """TOK-08: no header, and an empty user with an empty password, are nobody; that is no error."""
    assert await guard.identify(visit()) == ANONYMOUS
    assert await guard.identify(visit(basic("", ""))) == ANONYMOUS
    assert await guard.by_password("", "") == ANONYMOUS


async def test_schemes_are_known_in_any_case(guard: Guard, house: House) -> None:
    """RFC 9110, 11.1: the scheme is case-insensitive, and blanks around the value mean nothing."""
    user = await house.user()
    secret = (await house.accounts.create_personal_token(user.id, label="")).text
    token = (await house.ask(Principal(user))).token

    for header in (f"bAsIc  {basic('x', secret)[6:]} ", f"BASIC {basic('x', secret)[6:]}", f"bearer  {token} "):
        assert (await guard.identify(visit(header))).account == user


async def test_basic_is_split_at_the_first_colon(guard: Guard, house: House) -> None:
    """TOK-20: colons and non-ASCII letters belong to the password."""
    user = await house.accounts.create_user("alice", "pass:wörd:✓")

    assert (await guard.identify(visit(basic("alice", "pass:wörd:✓")))).account == user


MALFORMED = {
    "empty": "",
    "blank": " ",
    "no base64": "!",
    "a blank within": "YWxp Y2U6eA==",
    "unpadded": "YWxpY2U6eA",
    "no colon": "YWxpY2U=",
    "no UTF-8": base64.b64encode(b"\xff\xfe:x").decode(),
    "no ASCII": "YWxpY2U6e\xc4==",
}


async def test_a_malformed_basic_header_is_wrong_credentials(guard: Guard) -> None:
    """It is answered like a wrong password, byte by byte; never taken for nobody, never an error of ours."""
    wrong = as_sent(await refused(guard, visit(basic("nobody", "wrong-password"))))

    for what, value in MALFORMED.items():
        assert as_sent(await refused(guard, visit(f"Basic {value}"))) == wrong, what
    assert wrong[0] == 401


async def test_several_authorization_headers_are_refused(guard: Guard, house: House) -> None:
    """Two identities are none, even if both are good and the same: proxies and servers would each pick another."""
    header = await login(house, await house.accounts.create_user("admin", None, is_admin=True))
    await guard.identify(visit(header))

    for headers in ((header, header), (header, "Bearer x"), ("", header)):
        error = await refused(guard, visit(*headers))
        assert error.headers["WWW-Authenticate"] == f'{REALM},scope="repository:{IMAGE}:pull",error="invalid_token"'


@pytest.mark.parametrize("header", ["Digest abc", "Negotiate", "", "Basic", "dG9rZW4="])
async def test_other_schemes_are_refused(guard: Guard, repository: RepositoryRecord, header: str) -> None:
    """What is neither Basic nor Bearer is told how to come in, also where anonymous callers may read."""
    error = await refused(guard, visit(header))

    assert as_sent(error)[1] == {"WWW-Authenticate": f'{REALM},scope="repository:{IMAGE}:pull"'}


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "\xe4", "sl-nothing"])
async def test_wrong_credentials_are_not_anonymous(guard: Guard, house: House, token: str) -> None:
    """A public image is not served to who comes with a dead token: the client must learn that it is dead."""
    await house.repository(anonymous_read=True)
    assert (await guard.enter(visit(), IMAGE, Action.PULL)).principal == ANONYMOUS

    error = await refused(guard, visit(bearer(token)))

    assert error.headers["WWW-Authenticate"].endswith(',error="invalid_token"')


# --- what the others are told --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("need", "actions"), [(Action.PULL, "pull"), (Action.PUSH, "pull,push"), (Action.DELETE, "delete")]
)
async def test_a_challenge_asks_for_what_is_needed(guard: Guard, need: Action, actions: str) -> None:
    """CH-03, CH-04, CH-09: realm, service and scope, in that order, and the same in the body."""
    error = await refused(guard, visit(), need=need)

    detail = [{"Type": "repository", "Name": IMAGE, "Action": each} for each in actions.split(",")]
    assert as_sent(error) == (
        401,
        {"WWW-Authenticate": f'{REALM},scope="repository:{IMAGE}:{actions}"'},
        {"errors": [{"code": "UNAUTHORIZED", "message": "authentication required", "detail": detail}]},
    )


async def test_the_realm_is_where_the_client_is(guard: Guard) -> None:
    """CH-12: scheme, host and prefix by which this very client came."""
    error = await refused(guard, visit(at=External("https", "registry.example", "/hub")))

    assert 'realm="https://registry.example/hub/v2/token",' in error.headers["WWW-Authenticate"]


async def test_missing_and_forbidden_look_the_same(guard: Guard, house: House, repository: RepositoryRecord) -> None:
    """ACC-01, ACC-02: whoever lacks a right gets one answer whether or not there is such a project or repository."""
    stranger = await house.user("stranger")
    token = (await house.ask(Principal(stranger), f"repository:{IMAGE}:pull,push,delete")).token

    for header in ((), (await login(house, stranger),), (bearer(token),)):
        for need in (Action.PULL, Action.PUSH, Action.DELETE):
            answers = set()
            for name in (IMAGE, "acme/nothing/app", "nowhere/images/app", "app"):
                status, headers, body = as_sent(await refused(guard, visit(*header), name, need))
                answers.add(f"{status} {headers} {body}".replace(name, "NAME"))
            assert len(answers) == 1
            assert ("insufficient_scope" in answers.pop()) == bool(header)


async def test_a_missing_right_is_told_with_the_whole_scope(
    guard: Guard, house: House, repository: RepositoryRecord
) -> None:
    """CH-08: who may pull and wants to push is challenged for both, as clients ask again with exactly that."""
    header = await login(house, await member(house, repository, Role.READER))
    await guard.enter(visit(header), IMAGE, Action.PULL)

    error = await refused(guard, visit(header), need=Action.PUSH)

    scope = f'scope="repository:{IMAGE}:pull,push"'
    assert error.headers["WWW-Authenticate"] == f'{REALM},{scope},error="insufficient_scope"'


@pytest.mark.parametrize("flag", ["is_admin", "is_auditor"])
async def test_who_sees_everything_is_told_that_there_is_none(guard: Guard, house: House, flag: str) -> None:
    """Who may pull from everywhere gets 404 for what no repository serves, whatever they wanted to do there."""
    boss = await house.accounts.create_user("boss", None, **{flag: True})  # type: ignore[arg-type]  # either is a bool
    whole, narrow = await login(house, boss), await login(house, boss, Limits(project_ids=frozenset({7})))

    for need in Action.PULL, Action.PUSH:
        assert (await refused(guard, visit(whole), "nowhere/at/all", need)).code is Code.NAME_UNKNOWN
        assert (await refused(guard, visit(narrow), "nowhere/at/all", need)).code is Code.UNAUTHORIZED


# --- who is let in -------------------------------------------------------------------------------------------------


async def test_a_call_says_who_where_and_what_else(guard: Guard, house: House, repository: RepositoryRecord) -> None:
    """The call holds the repository's row, the image's name in it, the name as written, and every right there."""
    user = await member(house, repository, Role.WRITER)
    seen = visit(await login(house, user))

    call = await guard.enter(seen, IMAGE, Action.PULL)

    assert (call.visit, call.repository, call.image, call.name) == (seen, repository, "app", IMAGE)
    assert (call.principal.account, call.account_id) == (user, user.id)
    assert call.actions == {Action.PULL, Action.PUSH}


async def test_a_right_ends_between_two_calls(guard: Guard, house: House, repository: RepositoryRecord) -> None:
    """A role taken away, an account disabled, a secret revoked: the very next request is refused, by every way in."""
    user = await house.user()
    grant = await house.accounts.put_grant(user.id, Role.READER, repository_id=repository.id)
    minted = await house.accounts.create_personal_token(user.id, label="")
    token = (await house.ask(Principal(user), f"repository:{IMAGE}:pull")).token
    ways = (visit(basic("x", minted.text)), visit(bearer(token)), visit(bearer(minted.text)))
    for way in ways:
        await guard.enter(way, IMAGE, Action.PULL)

    await house.accounts.remove_grant(grant.id)
    for way in ways:
        assert "insufficient_scope" in (await refused(guard, way)).headers["WWW-Authenticate"]

    await house.accounts.put_grant(user.id, Role.READER, repository_id=repository.id)
    for way in ways:
        await guard.enter(way, IMAGE, Action.PULL)

    await house.accounts.revoke(user.id, minted.credential.id)
    await refused(guard, ways[0])
    await refused(guard, ways[2])
    await house.accounts.disable(user.id)
    assert "invalid_token" in (await refused(guard, ways[1])).headers["WWW-Authenticate"]


async def test_a_token_dies_with_its_repository(guard: Guard, house: House, repository: RepositoryRecord) -> None:
    """A15: another repository under the same name is not the one that the token was made for."""
    user = await member(house, repository, Role.WRITER)
    token = (await house.ask(Principal(user), f"repository:{IMAGE}:pull")).token
    await guard.enter(visit(bearer(token)), IMAGE, Action.PULL)

    await house.database.transaction(repositories.delete, repository.id)
    again = await house.repository()
    await house.accounts.put_grant(user.id, Role.WRITER, repository_id=again.id)

    await refused(guard, visit(bearer(token)))


async def test_trouble_is_not_a_refusal(guard: Guard, house: House, repository: RepositoryRecord) -> None:
    """A26, A27: a dead database and a crowd at the password check come out as they are, never as 401 or 404."""
    header = basic("alice", "some-password")
    crowded = Authenticator(
        house.database, Passwords(threads=1, queue=-1), issuer=house.issuer, clock=house.clock
    )  # nobody fits in
    with pytest.raises(Overloaded):
        await Guard(database=house.database, authenticator=crowded, service=SERVICE).identify(visit(header))

    token = (await house.ask(ANONYMOUS, f"repository:{IMAGE}:pull")).token
    await house.database.aclose()
    for seen in (visit(), visit(header), visit(bearer(token))):
        with pytest.raises(Unavailable):
            await guard.enter(seen, IMAGE, Action.PULL)


async def test_a_right_is_looked_at_again_when_a_long_request_ends(
    guard: Guard, house: House, repository: RepositoryRecord
) -> None:
    """A17: within the writing transaction, with the repository's row of that moment; time alone ends no upload."""
    user = await house.user()
    grant = await house.accounts.put_grant(user.id, Role.WRITER, repository_id=repository.id)
    token = (await house.ask(Principal(user), f"repository:{IMAGE}:pull,push")).token
    call = await guard.enter(visit(bearer(token)), IMAGE, Action.PUSH)
    again = guard.confirmation(call, Action.PUSH)

    house.clock.now += 3 * 3600  # the token has long expired, as tokens do while a body comes
    changed = await house.database.transaction(
        repositories.update, repository.id, now=int(house.clock.now), immutable_tags=("v*",)
    )
    await house.database.transaction(again)
    assert again.repository == changed

    await house.accounts.remove_grant(grant.id)
    with pytest.raises(RegistryError) as caught:
        await house.database.transaction(again)
    assert as_sent(caught.value) == as_sent(
        guard.insufficient(call.visit, call.principal, f"repository:{IMAGE}:pull,push")
    )


@pytest.mark.parametrize("end", ["disable", "delete", "repository"])
async def test_who_has_ended_meanwhile_is_refused(
    guard: Guard, house: House, repository: RepositoryRecord, end: str
) -> None:
    """A15, A17: an account or repository that is gone, also one made again under its name, ends the request, too."""
    user = await member(house, repository, Role.WRITER)
    call = await guard.enter(visit(await login(house, user)), IMAGE, Action.PUSH)
    again = guard.confirmation(call, Action.PUSH)
    await house.database.transaction(again)

    if end == "repository":
        await house.database.transaction(repositories.delete, repository.id)
        new = await house.repository()
        await house.accounts.put_grant(user.id, Role.WRITER, repository_id=new.id)
    else:
        await getattr(house.accounts, end)(user.id)

    with pytest.raises(RegistryError) as caught:
        await house.database.transaction(again)
    assert caught.value.code is Code.UNAUTHORIZED


# --- the other doors -----------------------------------------------------------------------------------------------


async def test_the_source_of_a_mount(guard: Guard, house: House, repository: RepositoryRecord) -> None:
    """A7: the same caller and credentials are asked for the source, with what they may do there and nowhere else."""
    user = await member(house, repository, Role.WRITER)
    public = await house.repository("acme", "public", anonymous_read=True)
    await house.repository("acme", "private")
    call = await guard.enter(visit(await login(house, user)), IMAGE, Action.PUSH)

    source = await guard.also(call, "acme/public/base", Action.PULL)

    assert source is not None
    assert (source.visit, source.principal, source.name) == (call.visit, call.principal, "acme/public/base")
    assert (source.repository, source.image, set(source.actions)) == (public, "base", {Action.PULL})
    assert await guard.also(call, "acme/public/base", Action.PUSH) is None
    assert await guard.also(call, "acme/private/base", Action.PULL) is None
    assert await guard.also(call, "nowhere/at/all", Action.PULL) is None


async def test_the_source_of_a_mount_by_token(guard: Guard, house: House, repository: RepositoryRecord) -> None:
    """A7: a token that does not name the source does not reach it, whatever its owner may do there."""
    user = await member(house, repository, Role.WRITER)
    target, source = f"repository:{IMAGE}:pull,push", "repository:acme/images/base:pull"
    for scopes, expected in (((target,), False), ((target, source), True)):
        token = (await house.ask(Principal(user), *scopes)).token
        call = await guard.enter(visit(bearer(token)), IMAGE, Action.PUSH)
        assert (await guard.also(call, "acme/images/base", Action.PULL) is not None) == expected


async def test_the_base_wants_somebody(guard: Guard, house: House) -> None:
    """CH-01, CH-02: nobody is challenged without a scope; an account, and any token at all, are let in."""
    for nobody in (visit(), visit(basic("", ""))):
        with pytest.raises(RegistryError) as caught:
            await guard.enter_registry(nobody)
        assert as_sent(caught.value)[1:] == (
            {"WWW-Authenticate": REALM},
            {"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]},
        )

    user = await house.user()
    assert (await guard.enter_registry(visit(await login(house, user)))).account == user
    anonymous = (await house.ask(ANONYMOUS)).token
    assert (await guard.enter_registry(visit(bearer(anonymous)))).is_anonymous


async def test_the_catalog_has_a_scope_of_its_own(guard: Guard, house: House) -> None:
    """ACC-07: a user by password or secret may list; a token only if it was asked for that; nobody never."""
    user = await house.user()
    scope = "registry:catalog:*"
    scoped = (await house.ask(Principal(user), scope)).token
    assert (await guard.enter_catalog(visit(bearer(scoped)))).account == user
    assert (await guard.enter_catalog(visit(await login(house, user)))).account == user

    plain, nobody = (await house.ask(Principal(user))).token, (await house.ask(ANONYMOUS, scope)).token
    insufficient = f'{REALM},scope="{scope}",error="insufficient_scope"'
    for seen, told in (
        (visit(), f'{REALM},scope="{scope}"'),
        (visit(bearer(plain)), insufficient),
        (visit(bearer(nobody)), insufficient),
    ):
        with pytest.raises(RegistryError) as caught:
            await guard.enter_catalog(seen)
        assert caught.value.headers["WWW-Authenticate"] == told
