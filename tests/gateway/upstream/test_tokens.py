"""Logins: whom we tell who we are, how often, and what becomes of those who wait for the same token."""

import json
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import parse_qs

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from gateway.upstream.client import Answer
from gateway.upstream.errors import (
    CredentialsRejected,
    UpstreamBusy,
    UpstreamDenied,
    UpstreamError,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamSlow,
)
from gateway.upstream.tokens import (
    DOCUMENT_BYTES,
    PAUSE_S,
    Credential,
    Key,
    Login,
    Logins,
    Tokens,
    retry_after_s,
    token_origin,
)
from storage.transfer import Origin

HUB = Origin("https", "registry-1.docker.io", 443)
HERE = Origin("https", "registry.test", 5000)
PLAIN = Origin("http", "registry.test", 5000)
ADMIN = Credential("admin", "open sesame")
LOGIN = Login("https://registry.test:5000/token?a=b", "here", "repository:a:pull", ADMIN)
REALM = "https://registry.test:5000/token"
Answering = Callable[[], Awaitable[Answer]]


class Realm:
    """A token endpoint in memory: gives numbered tokens, or what a test says, and writes down who asked."""

    def __init__(self, answering: Answering | None = None, **document: object) -> None:
        self._answering = answering
        self._document = {"expires_in": 300, **document}
        self.asked: list[tuple[Origin, str, Sequence[tuple[str, str]]]] = []

    async def __call__(self, origin: Origin, target: str, headers: Sequence[tuple[str, str]]) -> Answer:
        """See `tokens.Fetch`."""
        self.asked.append((origin, target, headers))
        token = f"t{len(self.asked)}"
        await trio.lowlevel.checkpoint()
        if self._answering is not None:
            return await self._answering()
        return Answer(200, (), json.dumps({"token": token, **self._document}).encode())


def saying(status: int, body: bytes = b"", *headers: tuple[str, str]) -> Answering:
    """The same answer each time."""

    async def answer() -> Answer:
        return Answer(status, headers, body)

    return answer


async def test_a_token_is_asked_for_with_name_and_password(nursery: trio.Nursery) -> None:
    """Service and scopes in the query, beside what the realm has there already; credentials in the header alone."""
    realm = Realm()
    scoped = Login(LOGIN.realm, "he re", "repository:a:pull repository:b/c:pull", ADMIN)

    assert await Tokens(nursery, realm).token(scoped) == ("t1", True)

    ((origin, target, headers),) = realm.asked
    assert origin == HERE
    assert target == "/token?a=b&service=he+re&scope=repository%3Aa%3Apull&scope=repository%3Ab%2Fc%3Apull"
    assert dict(headers)["Authorization"] == "Basic YWRtaW46b3BlbiBzZXNhbWU="


async def test_nobody_asks_without_credentials(nursery: trio.Nursery) -> None:
    """An anonymous login has no Authorization; nothing is added to the query that is not known."""
    realm = Realm()
    await Tokens(nursery, realm).token(Login("https://registry.test/token", "", "", None))

    ((_, target, headers),) = realm.asked
    assert target == "/token"
    assert "Authorization" not in dict(headers)


@pytest.mark.parametrize(
    ("document", "life_s"),
    [
        ({"expires_in": 300}, 300),
        ({"expires_in": 1.5}, 1.5),
        ({}, 60),
        ({"expires_in": 0}, 60),
        ({"expires_in": -5}, 60),
        ({"expires_in": "300"}, 60),
        ({"expires_in": True}, 60),
        ({"expires_in": None}, 60),
        ({"expires_in": 1e12}, 12 * 3600),
        ({"expires_in": float("nan")}, 60),
    ],
    ids=str,
)
async def test_row_p6_one_login_per_life_of_a_token(
    nursery: trio.Nursery, autojump_clock: MockClock, document: dict[str, object], life_s: float
) -> None:
    """A token serves for 90 % of what the realm says, of a minute where it says nothing; then another one is got."""
    realm = Realm(saying(200, json.dumps({"access_token": "t", **document}).encode()))
    tokens = Tokens(nursery, realm)

    assert await tokens.token(LOGIN) == ("t", True)
    await trio.sleep(life_s * 0.89)
    assert await tokens.token(LOGIN) == ("t", False)
    assert len(realm.asked) == 1
    await trio.sleep(life_s * 0.02)
    assert await tokens.token(LOGIN) == ("t", True)
    assert len(realm.asked) == 2


async def test_row_p6_all_who_wait_share_one_login(nursery: trio.Nursery) -> None:
    """A hundred at once are one login for each realm, service, scope and credential."""
    realm = Realm()
    tokens = Tokens(nursery, realm)
    others = [
        Login("https://registry.test:5000/other", LOGIN.service, LOGIN.scope, ADMIN),
        Login(LOGIN.realm, "there", LOGIN.scope, ADMIN),
        Login(LOGIN.realm, LOGIN.service, "repository:b:pull", ADMIN),
        Login(LOGIN.realm, LOGIN.service, LOGIN.scope, Credential("admin", "another")),
        Login(LOGIN.realm, LOGIN.service, LOGIN.scope, None),
    ]
    got: list[str] = []

    async def ask(login: Login) -> None:
        got.append((await tokens.token(login))[0])

    async with trio.open_nursery() as asking:
        for _ in range(100):
            asking.start_soon(ask, LOGIN)
        for each in others:
            asking.start_soon(ask, each)

    assert len(realm.asked) == 1 + len(others)
    assert sorted(set(got)) == [f"t{each}" for each in range(1, 7)]


async def test_row_p6_a_cancelled_leader_does_not_end_the_login(nursery: trio.Nursery) -> None:
    """The first who asked leaves; those behind get the token of the same login."""
    go_on, got = trio.Event(), []

    async def slowly() -> Answer:
        await go_on.wait()
        return Answer(200, (), b'{"token":"t"}')

    realm = Realm(slowly)
    tokens = Tokens(nursery, realm)

    async def ask() -> None:
        got.append(await tokens.token(LOGIN))

    async with trio.open_nursery() as following:
        async with trio.open_nursery() as leading:
            leading.start_soon(ask)
            await wait_all_tasks_blocked()
            following.start_soon(ask)
            await wait_all_tasks_blocked()
            leading.cancel_scope.cancel()
        go_on.set()

    assert (got, len(realm.asked)) == ([("t", True)], 1)


@pytest.mark.parametrize(
    ("answering", "error", "words"),
    [
        (saying(401), CredentialsRejected, "rejects the credentials"),
        (saying(403), UpstreamDenied, "gives no token"),
        (saying(429, b"", ("retry-after", "7")), UpstreamBusy, "fewer logins"),
        (saying(500), UpstreamFailed, "answers 500"),
        (saying(302, b"", ("location", "https://evil.test/")), UpstreamFailed, "answers 302"),
        (saying(404), UpstreamFailed, "answers 404"),
        (saying(200, b"<html>"), UpstreamFailed, "without a token"),
        (saying(200, b"[]"), UpstreamFailed, "without a token"),
        (saying(200, b"{}"), UpstreamFailed, "without a token"),
        (saying(200, b'{"token":""}'), UpstreamFailed, "without a token"),
        (saying(200, b'{"token":7}'), UpstreamFailed, "without a token"),
        (saying(200, b'{"token":"a\\r\\nX: y"}'), UpstreamFailed, "without a token"),
        (saying(200, b'{"token":"' + b"x" * 100_000 + b'"}'), UpstreamFailed, "without a token"),
        (saying(200, b"[" * (DOCUMENT_BYTES // 2)), UpstreamFailed, "without a token"),
    ],
)
async def test_a_login_fails_aloud(
    nursery: trio.Nursery, answering: Answering, error: type[UpstreamError], words: str
) -> None:
    """Everybody who waited hears why, in an exception of their own, and never that something is unknown."""
    tokens = Tokens(nursery, Realm(answering))
    raised: list[UpstreamError] = []

    async def ask() -> None:
        with pytest.raises(error, match=words) as caught:
            await tokens.token(LOGIN)
        raised.append(caught.value)

    async with trio.open_nursery() as asking:
        asking.start_soon(ask)
        asking.start_soon(ask)

    assert len({id(each) for each in raised}) == 2
    assert raised[0].retry_after_s == (7 if error is UpstreamBusy else None)
    assert not any(ADMIN.secret in f"{each!r}" for each in raised)


async def test_nobody_is_denied_rather_than_rejected(nursery: trio.Nursery) -> None:
    """Without credentials a 401 of the realm says that the thing is not for everybody."""
    with pytest.raises(UpstreamDenied):
        await Tokens(nursery, Realm(saying(401))).token(Login(LOGIN.realm, "", "", None))


@pytest.mark.parametrize(("status", "pauses"), [(401, True), (403, True), (429, True), (500, False)])
async def test_a_refused_login_pauses(
    nursery: trio.Nursery,
    autojump_clock: MockClock,
    status: int,
    pauses: bool,  # noqa: FBT001
) -> None:
    """What the realm has decided is not asked again for a while, lest the account be locked; its trouble is."""
    realm = Realm(saying(status))
    tokens = Tokens(nursery, realm)

    for _ in range(3):
        with pytest.raises(UpstreamError):
            await tokens.token(LOGIN)
    assert len(realm.asked) == (1 if pauses else 3)

    await trio.sleep(PAUSE_S)
    before = len(realm.asked)
    with pytest.raises(UpstreamError):
        await tokens.token(LOGIN)
    assert len(realm.asked) == before + 1


async def test_what_nobody_foresaw_ends_one_login_and_not_the_service(nursery: trio.Nursery) -> None:
    """A foreign exception is an upstream's failure to who asked; the next login works."""
    tries = 0

    async def breaking() -> Answer:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise ZeroDivisionError
        return Answer(200, (), b'{"token":"t"}')

    tokens = Tokens(nursery, Realm(breaking))
    with pytest.raises(UpstreamFailed) as raised:
        await tokens.token(LOGIN)

    assert isinstance(raised.value.__cause__.__cause__, ZeroDivisionError)  # type: ignore[union-attr]
    assert (await tokens.token(LOGIN))[0] == "t"


async def test_trouble_on_the_way_is_passed_on(nursery: trio.Nursery) -> None:
    """What the fetch raises is raised to who asked, with its class."""

    async def slow() -> Answer:
        raise UpstreamSlow("it takes its time")

    with pytest.raises(UpstreamSlow, match="its time"):
        await Tokens(nursery, Realm(slow)).token(LOGIN)


async def test_the_end_of_the_service_is_told_to_those_who_wait() -> None:
    """A login that is cut off leaves nobody waiting."""

    async def never() -> Answer:
        await trio.sleep_forever()
        raise AssertionError

    async def ask(tokens: Tokens) -> None:
        with pytest.raises(UpstreamFailed, match="end of the service"):
            await tokens.token(LOGIN)

    async with trio.open_nursery() as asking, trio.open_nursery() as service:
        asking.start_soon(ask, Tokens(service, Realm(never)))  # noqa: ASYNC111  # it is the service that ends first
        await wait_all_tasks_blocked()
        service.cancel_scope.cancel()


async def test_only_the_token_that_was_refused_is_forgotten(nursery: trio.Nursery) -> None:
    """A refusal that comes late does not cost the token that replaced the refused one."""
    realm = Realm()
    tokens = Tokens(nursery, realm)
    first, _ = await tokens.token(LOGIN)
    tokens.forget(LOGIN, first)
    second, _ = await tokens.token(LOGIN)
    tokens.forget(LOGIN, first)

    assert await tokens.token(LOGIN) == (second, False)
    assert len(realm.asked) == 2


def challenge(realm: str, scope: str = "") -> list[tuple[str, str]]:
    """A 401's fields."""
    scoped = f',scope="{scope}"' if scope else ""
    return [("www-authenticate", f'Bearer realm="{realm}",service="s"{scoped}')]


@pytest.mark.parametrize(
    ("home", "realm", "hosts"),
    [
        (HERE, "https://registry.test:5000/token", []),
        (HERE, "https://REGISTRY.test:5000/token", []),
        (PLAIN, "http://registry.test:5000/token", []),
        (Origin("http", "registry.test", 80), "https://registry.test/token", []),
        (HUB, "https://auth.docker.io/token", []),
        (HERE, "https://login.test/token", ["login.test"]),
        (HERE, "https://login.test:8443/token", ["login.test", "login.test:8443"]),
        (HERE, "https://registry.test/token", ["registry.test"]),
        (PLAIN, "http://login.test/token", ["login.test"]),
        (PLAIN, "https://login.test/token", ["login.test"]),
        (PLAIN, "http://registry.test:5001/token", ["registry.test:5001"]),
        (HERE, "https://[2606:4700::1]:5001/token", ["[2606:4700::1]:5001"]),
    ],
)
async def test_trusted_realms_give_tokens(nursery: trio.Nursery, home: Origin, realm: str, hosts: list[str]) -> None:
    """The upstream's own origin, Docker Hub's login host, and hosts of the settings, with their ports."""
    seen = Realm()
    logins = Logins(Tokens(nursery, seen), hosts)

    assert await logins.key(home, "a", ADMIN) is None
    logins.refused(home, "a", None, challenge(realm), is_exact=True)

    key = await logins.key(home, "a", ADMIN)
    assert key is not None
    assert (key.authorization, key.is_fresh) == ("Bearer t1", True)
    assert "t1" not in repr(key)


@pytest.mark.parametrize(
    ("home", "realm", "hosts"),
    [
        (HERE, "https://evil.test/token", []),
        (HERE, "https://registry.test/token", []),
        (HERE, "https://registry.test:5001/token", []),
        (HERE, "http://registry.test:5000/token", []),
        (HERE, "https://evil.registry.test:5000/token", []),
        (HERE, "https://registry.test.:5000/token", []),
        (HERE, "https://registry.test:5000@evil.test/token", []),
        (HERE, "https://evil.test/token?registry.test:5000", []),
        (HERE, "https://evil.test#@registry.test:5000/token", []),
        (HERE, "https://evil.test\\@registry.test:5000/token", []),
        (HERE, "//registry.test:5000/token", []),
        (HERE, "/token", []),
        (HERE, "file:///token", []),
        (HERE, "https://1.1.1.1/token", []),
        (HERE, "https://auth.docker.io/token", []),
        (HERE, "http://login.test/token", ["login.test"]),
        (HERE, "https://login.test:8443/token", ["login.test"]),
        (HERE, "https://login.test/token", ["login.test:8443"]),
        (HERE, "https://evil.test/token", ["login.test"]),
        (PLAIN, "https://registry.test/token", []),
        (PLAIN, "http://registry.test/token", []),
        (HUB, "http://auth.docker.io/token", []),
        (HUB, "https://auth.docker.io:444/token", []),
        (HUB, "https://auth.docker.io.evil.test/token", []),
    ],
)
@pytest.mark.parametrize("credential", [ADMIN, None], ids=["credential", "anonymous"])
async def test_row_p1_other_realms_are_refused(
    nursery: trio.Nursery, home: Origin, realm: str, hosts: list[str], credential: Credential | None
) -> None:
    """Another host, port or scheme is never asked for a token, and so never told who we are."""
    seen = Realm()
    logins = Logins(Tokens(nursery, seen), hosts)

    with pytest.raises(UpstreamRefused):
        logins.refused(home, "a", None, challenge(realm), is_exact=True)

    assert await logins.key(home, "a", credential) is None
    assert seen.asked == []


async def test_the_scope_is_the_questions_unless_the_upstream_has_its_own(nursery: trio.Nursery) -> None:
    """After one contact the next image needs none; a scope that does not follow the questions is kept as it is."""
    usual, own = Realm(), Realm()
    logins, others = Logins(Tokens(nursery, usual)), Logins(Tokens(nursery, own))
    logins.refused(HERE, "repository:a:pull", None, challenge(REALM, "repository:a:pull"), is_exact=True)
    others.refused(HERE, "repository:a:pull", None, challenge(REALM, "aws"), is_exact=True)

    for each in (logins, others):
        for scope in ("repository:a:pull", "repository:b:pull"):
            assert await each.key(HERE, scope, None) is not None

    assert [target.partition("scope=")[2] for _, target, _ in usual.asked] == [
        "repository%3Aa%3Apull",
        "repository%3Ab%3Apull",
    ]
    assert [target.partition("scope=")[2] for _, target, _ in own.asked] == ["aws"]


async def test_each_question_may_have_a_scope_of_the_upstreams_own(nursery: trio.Nursery) -> None:
    """What one image's challenge says is for that image; the others are not asked with it."""
    realm = Realm()
    logins = Logins(Tokens(nursery, realm))
    for image in ("a", "b"):
        wanted = f"repository:{image}:pull repository:{image}/cache:pull"
        logins.refused(HERE, f"repository:{image}:pull", None, challenge(REALM, wanted), is_exact=True)

    for image in ("a", "b", "c", "a", "b", "c"):
        assert await logins.key(HERE, f"repository:{image}:pull", None) is not None

    scopes = [parse_qs(target.partition("?")[2])["scope"] for _, target, _ in realm.asked]
    assert scopes == [
        ["repository:a:pull", "repository:a/cache:pull"],
        ["repository:b:pull", "repository:b/cache:pull"],
        ["repository:c:pull"],
    ]


async def test_what_was_learned_is_forgotten_when_it_does_not_serve(nursery: trio.Nursery) -> None:
    """A wrong challenge of a passing portal, a realm that has moved, and Basic that became Bearer are learned anew."""
    basic = [("www-authenticate", 'Basic realm="portal"')]
    logins = Logins(Tokens(nursery, Realm(saying(404))))

    logins.refused(HERE, "a", None, basic, is_exact=True)
    with pytest.raises(UpstreamDenied):
        await logins.key(HERE, "a", None)
    assert not logins.knows(HERE)

    logins.refused(HERE, "a", None, challenge(REALM), is_exact=True)
    with pytest.raises(UpstreamFailed, match="answers 404"):
        await logins.key(HERE, "a", ADMIN)
    assert not logins.knows(HERE)

    logins.refused(HERE, "a", None, basic, is_exact=True)
    with pytest.raises(CredentialsRejected):
        logins.refused(HERE, "a", await logins.key(HERE, "a", ADMIN), challenge(REALM), is_exact=True)
    assert not logins.knows(HERE)


async def test_other_ways_to_log_in(nursery: trio.Nursery) -> None:
    """Basic with a name and a password; a token without a name, as it is; nothing where nothing is wanted."""
    logins = Logins(Tokens(nursery, Realm()))
    basic = [("www-authenticate", 'Basic realm="x"')]
    logins.refused(HERE, "a", None, basic, is_exact=True)
    logins.admitted(PLAIN, None)

    assert await logins.key(HERE, "a", ADMIN) == Key(ADMIN.basic)
    assert await logins.key(HERE, "a", Credential("", "a-token")) == Key("Bearer a-token")
    assert await logins.key(PLAIN, "a", ADMIN) == Key(None)
    with pytest.raises(UpstreamFailed, match="does not say how"):
        logins.refused(HERE, "a", None, [], is_exact=True)


@pytest.mark.parametrize("text", ["", "https://login.test", "a/b", "user@login.test", "login.test:port", ":443"])
def test_token_hosts_are_hosts(text: str) -> None:
    """Anything else is an error when it is entered."""
    with pytest.raises(ValueError, match=r"\S"):
        token_origin(text)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7),
        ("0", 0),
        ("999999999", 86400),
        ("9999999999999", None),
        ("-1", None),
        ("1.5", None),
        ("", None),
        ("²", None),
    ],
)
def test_retry_after_is_bounded(value: str, seconds: int | None) -> None:
    """A day at most; what is no number of seconds says nothing."""
    assert retry_after_s(Answer(429, (("retry-after", value),), b"")) == seconds


def test_secrets_are_not_shown() -> None:
    """Neither by a credential nor by a login that has one."""
    assert ADMIN.secret not in repr(LOGIN)
    assert ADMIN.secret not in str(ADMIN)
