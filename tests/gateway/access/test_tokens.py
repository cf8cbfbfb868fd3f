"""Registry tokens: what is in them, and everything that is refused."""

import base64
import hashlib
import hmac
import json
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.actions import ALL_ACTIONS, Action
from gateway.access.errors import InvalidToken
from gateway.access.keyring import LEEWAY_S, PUBLISH_AHEAD_S
from gateway.access.principal import ANONYMOUS, Principal, TokenAccess
from gateway.access.tokens import MAX_TOKEN_BYTES, Claims, TokenIssuer, fitting
from storage import AccountRecord, Database
from tests.gateway.access.house import START, Clock, House

ALICE = AccountRecord(7, "alice", "user", "", False, False, True, 3, None, None, START, START)  # noqa: FBT003 - a row
PULL = (TokenAccess("acme/images/app", 5, frozenset({Action.PULL})),)

CLAIMS = {
    "iss": "sluice",
    "sub": "7",
    "aud": "sluice",
    "exp": START + 300,
    "nbf": START,
    "iat": START,
    "jti": "j",
    "access": [],
    "epoch": 3,
}
"""What makes a good token, where it is signed with the right key."""

Forge = Callable[..., str]


@pytest.fixture
def forge(house: House) -> Forge:
    """Tokens signed with our own key, with claims and headers changed; None leaves one out."""

    def make(*, headers: dict[str, Any] | None = None, **changes: Any) -> str:
        key = house.keyring.signing()
        claims = CLAIMS | changes
        kept = {name: value for name, value in claims.items() if value is not None}
        head = {"typ": "JWT", "alg": "HS256", "kid": key.kid} | (headers or {})
        assert isinstance(key.private, bytes)
        return _signed({name: value for name, value in head.items() if value is not None}, kept, key.private)

    return make


async def test_a_token_says_what_the_document_asks_and_who_it_is_for(house: House) -> None:
    """TOK-16: registered claims, the access list, our ids and the epoch; header typ, alg and kid; nothing else."""
    principal = Principal(ALICE, credential_id=9)
    issued = house.issuer.issue(principal, access=PULL, catalog=True)
    claims = jwt.decode(issued.text, options={"verify_signature": False})

    assert (issued.expires_in_s, issued.issued_at) == (300, START)
    assert len(claims.pop("jti")) == 32
    assert claims == {
        "iss": "sluice",
        "sub": "7",
        "aud": "sluice",
        "exp": START + 300,
        "nbf": START,
        "iat": START,
        "access": [
            {"type": "repository", "name": "acme/images/app", "actions": ["pull"], "id": 5},
            {"type": "registry", "name": "catalog", "actions": ["*"]},
        ],
        "epoch": 3,
        "cred": 9,
    }
    assert jwt.get_unverified_header(issued.text) == {
        "typ": "JWT",
        "alg": "HS256",
        "kid": house.keyring.signing().kid,
    }
    assert await house.issuer.verify(issued.text) == Claims(
        7, 3, 9, PULL, catalog=True, expires_at=START + 300, valid_until=START + 300 + LEEWAY_S
    )


async def test_an_anonymous_token_has_no_subject(house: House) -> None:
    """TOK-16: `sub` is empty, and nothing private is said."""
    issued = house.issuer.issue(ANONYMOUS, access=(), catalog=False)
    claims = jwt.decode(issued.text, options={"verify_signature": False})

    assert claims["sub"] == ""
    assert not {"epoch", "cred"} & claims.keys()
    assert await house.issuer.verify(issued.text) == Claims(
        None, 0, None, (), catalog=False, expires_at=START + 300, valid_until=START + 300 + LEEWAY_S
    )


async def test_management_never_travels_in_a_token(house: House) -> None:
    """Whatever the access list is given, the token holds pull, push and delete at most."""
    everything = [TokenAccess("app", 5, ALL_ACTIONS)]
    claims = await house.issuer.verify(house.issuer.issue(ANONYMOUS, access=everything, catalog=False).text)

    assert claims.access[0].actions == {Action.PULL, Action.PUSH, Action.DELETE}


@given(st.lists(st.integers(1, 255), max_size=64))
def test_a_token_stays_below_the_limit_of_headers(lengths: list[int]) -> None:
    """TOK-18: whatever is asked, the access list fits in 4 KiB; what is kept is the beginning, whole."""
    access = [TokenAccess("a" * length, 2**62, ALL_ACTIONS) for length in lengths]
    kept = fitting(access)

    assert list(kept) == access[: len(kept)]
    assert len(kept) == len(access) or len(kept) >= 10


async def test_the_largest_token_fits(house: House) -> None:
    """TOK-18: with as many of the longest names as fit, the text is below 8 KiB and verifies."""
    access = fitting([TokenAccess(f"{number:0>255}", 2**62, ALL_ACTIONS) for number in range(64)])
    issued = house.issuer.issue(Principal(ALICE, credential_id=2**62), access=access, catalog=True)

    assert len(issued.text) < MAX_TOKEN_BYTES
    assert len((await house.issuer.verify(issued.text)).access) == len(access)


async def test_a_token_for_everything_at_once_is_not_made(house: House) -> None:
    """TOK-18: a caller who forgets the bound is told, rather than the client's server."""
    access = [TokenAccess(f"{number:0>255}", 1, ALL_ACTIONS) for number in range(64)]

    with pytest.raises(ValueError, match="fitting"):
        house.issuer.issue(ANONYMOUS, access=access, catalog=False)
    await house.issuer.verify(house.issuer.issue(ANONYMOUS, access=fitting(access), catalog=False).text)


async def test_the_forge_makes_good_tokens(house: House, forge: Forge) -> None:
    """What the tests below change is all that makes their tokens bad."""
    assert (await house.issuer.verify(forge())).account_id == 7


@pytest.mark.parametrize("algorithm", ["none", "nOnE", "NONE", "", "HS384", "HS512", "ES256", "RS256", "EdDSA", None])
async def test_another_algorithm_is_refused(house: House, forge: Forge, algorithm: str | None) -> None:
    """T2, TOK-17: the key decides the algorithm; the header only has to agree, in that very spelling."""
    token = forge(headers={"alg": algorithm})

    await _refused(house, token)
    await _refused(house, token.rpartition(".")[0] + ".")


async def test_a_missing_or_foreign_signature_is_refused(house: House, forge: Forge) -> None:
    """T2: no signature, a changed one, a changed payload and another key's are all refused."""
    head, payload, signature = forge().split(".")
    other = forge(sub="8").split(".")[1]
    wrong = _signed({"typ": "JWT", "alg": "HS256", "kid": house.keyring.signing().kid}, CLAIMS, b"x" * 32)

    for token in (f"{head}.{payload}.", f"{head}.{payload}.AAAA", f"{head}.{other}.{signature}", wrong):
        await _refused(house, token)


async def test_the_public_key_is_no_secret_for_hmac(database: Database, clock: Clock) -> None:
    """T2: with ES256, a token signed with HS256 and any form of the public key is refused."""
    house = await House.build(database, clock, algorithm="ES256")
    key = house.keyring.signing()
    assert isinstance(key.private, ec.EllipticCurvePrivateKey)
    public = key.private.public_key()
    secrets = [
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        jwt.algorithms.ECAlgorithm.to_jwk(public).encode(),
    ]

    assert (await house.issuer.verify(house.issuer.issue(ANONYMOUS, access=(), catalog=False).text)).access == ()
    for secret in secrets:
        await _refused(house, _signed({"typ": "JWT", "alg": "HS256", "kid": key.kid}, CLAIMS, secret))


@pytest.mark.parametrize("name", ["jwk", "jku", "x5u", "x5c", "x5t"])
async def test_key_material_in_the_header_is_refused_and_nothing_is_fetched(
    house: House, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T1: a token signed with an attacker's key that brings it along, under our key's id, opens no connection."""
    attacker = rsa.generate_private_key(public_exponent=65537, key_size=2048) if name == "jwk" else None
    material = (
        jwt.algorithms.RSAAlgorithm.to_jwk(attacker.public_key(), as_dict=True) if attacker else "http://127.0.0.1/"
    )
    connections: list[object] = []
    monkeypatch.setattr(socket.socket, "connect", lambda *address: connections.append(address))
    head = {"typ": "JWT", "alg": "HS256", "kid": house.keyring.signing().kid, name: material}

    await _refused(house, _signed(head, CLAIMS, b"the attacker's own secret, 32 by"))
    assert connections == []


@pytest.mark.parametrize(
    "headers",
    [
        {"crit": ["x"]},
        {"crit": []},
        {"b64": False},
        {"typ": "jwt"},
        {"typ": None},
        {"typ": "at+jwt"},
        {"kid": None},
        {"kid": 1},
        {"kid": ["a"]},
        {"kid": "../../dev/null"},
        {"kid": "' OR 1=1 --"},
        {"zip": "DEF"},
        {"cty": "JWT"},
    ],
    ids=str,
)
async def test_headers_that_we_do_not_write_are_refused(house: House, forge: Forge, headers: dict[str, Any]) -> None:
    """T1, T3: even signed with our key, a header with anything but our three fields is none of ours."""
    await _refused(house, forge(headers=headers))


@pytest.mark.parametrize("name", ["iss", "sub", "aud", "exp", "nbf", "iat", "jti", "access"])
async def test_every_claim_has_to_be_there(house: House, forge: Forge, name: str) -> None:
    """A15, TOK-17: a token without one of its claims is refused, and does not break anything."""
    await _refused(house, forge(**{name: None}))


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "other"},
        {"aud": ["sluice"]},
        {"aud": ["sluice", "other"]},
        {"aud": ""},
        {"iss": "other"},
        {"iss": ["sluice"]},
        {"sub": 7},
        {"sub": "07"},
        {"sub": "-7"},
        {"sub": "7 "},
        {"sub": "alice"},
        {"sub": "9" * 30},
        {"epoch": "3"},
        {"epoch": True},
        {"cred": "9"},
        {"cred": -1},
        {"jti": 1},
    ],
    ids=str,
)
async def test_claims_of_others_are_refused(house: House, forge: Forge, claims: dict[str, Any]) -> None:
    """T4, TOK-17: another audience or issuer, a list of them, or ids that we would not write."""
    await _refused(house, forge(**claims))


async def test_a_token_of_another_service_is_refused(database: Database, house: House) -> None:
    """T4: two services that share keys do not take each other's tokens."""
    other = await House.build(database, house.clock, service="other")
    token = other.issuer.issue(ANONYMOUS, access=(), catalog=False).text

    await other.issuer.verify(token)
    await _refused(house, token)


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize("value", [str(START), float(START), True, [START], {"t": START}, 10**40, -1], ids=repr)
async def test_times_are_whole_numbers(house: House, forge: Forge, name: str, value: object) -> None:
    """T3: strings, floats, booleans and absurd numbers are no times, although the library takes some."""
    await _refused(house, forge(**{name: value}))


async def test_an_infinite_time_is_refused(house: House, forge: Forge) -> None:
    """T3: 1e308 is a float in JSON, and no end of a token."""
    await _refused(house, forge(exp=1e308))


@pytest.mark.parametrize(
    ("moment", "good"),
    [(0, True), (300 + 29, True), (300 + 30, False), (3600, False), (-30, True), (-31, False), (-3600, False)],
)
async def test_a_token_is_good_in_its_time_and_the_leeway(house: House, moment: int, *, good: bool) -> None:
    """T13: 30 seconds of disagreement between clocks are forgiven at both ends, an hour is not."""
    token = house.issuer.issue(ANONYMOUS, access=(), catalog=False).text
    house.clock.now = START + moment

    if good:
        await house.issuer.verify(token)
    else:
        await _refused(house, token)


async def test_a_token_that_was_verified_once_still_ends(house: House) -> None:
    """T13: the memory of verified tokens does not outlive them."""
    token = house.issuer.issue(ANONYMOUS, access=(), catalog=False).text
    await house.issuer.verify(token)
    house.clock.now = START + 330

    await _refused(house, token)


@pytest.mark.parametrize("times", [{"exp": START + 901}, {"exp": START}, {"exp": START - 1}, {"exp": START + 10**9}])
async def test_a_token_lives_no_longer_than_any_may(house: House, forge: Forge, times: dict[str, int]) -> None:
    """T3: whoever signed it, a token for more than 15 minutes, or for none, is refused."""
    await _refused(house, forge(**times))


@pytest.mark.parametrize(
    "access",
    [
        {},
        "all",
        [1],
        [{"type": "repository"}],
        [{"type": "repository", "name": "a", "actions": ["pull"]}],
        [{"type": "repository", "name": "a", "actions": ["*"], "id": 1}],
        [{"type": "repository", "name": "a", "actions": 1, "id": 1}],
        [{"type": "repository", "name": "a", "actions": ["pull"], "id": "1"}],
    ],
    ids=str,
)
async def test_an_access_list_that_is_not_understood_is_refused(house: House, forge: Forge, access: object) -> None:
    """A5, A15: an entry without our repository id, or with acts we do not know, is not guessed at."""
    await _refused(house, forge(access=access))


@pytest.mark.parametrize(
    "text",
    ["", ".", "..", "a.b.c", "é.é.é", "x" * (MAX_TOKEN_BYTES + 1), "." * 8000, "e30.e30.", "e30", "W10.W10.W10"],
    ids=lambda text: f"{len(text)}:{text[:8]}",
)
async def test_what_is_no_token_is_refused(house: House, text: str) -> None:
    """TOK-17: garbage of any kind and length is refused in the same way."""
    await _refused(house, text)


async def test_deep_json_is_refused(house: House) -> None:
    """A header of thousands of brackets ends in a refusal, not in a crash of the parser."""
    bracket = base64.urlsafe_b64encode(b"[" * 6000).decode().rstrip("=")

    await _refused(house, f"{bracket[:8000]}.e30.AA")


async def test_good_tokens_are_not_verified_twice(house: House) -> None:
    """A verified text is remembered by its hash; a retired key forgets it."""
    token = house.issuer.issue(ANONYMOUS, access=(), catalog=False).text
    first = await house.issuer.verify(token)

    assert await house.issuer.verify(token) is first


async def test_the_memory_of_tokens_is_bounded(house: House) -> None:
    """Many tokens push out the oldest, which are verified anew."""
    house.issuer._verified.update({number.to_bytes(32): ("k", None) for number in range(5000)})  # type: ignore[misc]
    await house.issuer.verify(house.issuer.issue(ANONYMOUS, access=(), catalog=False).text)

    assert len(house.issuer._verified) == 4096


async def test_es256_tokens_verify_with_the_public_key(database: Database, clock: Clock) -> None:
    """Others can check our tokens without the secret half of the key."""
    house = await House.build(database, clock, algorithm="ES256")
    token = house.issuer.issue(ANONYMOUS, access=PULL, catalog=False).text
    private = house.keyring.signing().private
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    untimed: Any = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}  # it looks at the real clock

    assert jwt.decode(token, private.public_key(), algorithms=["ES256"], audience="sluice", options=untimed)
    clock.now += PUBLISH_AHEAD_S
    await _refused(house, token)  # and here it has ended meanwhile


def _signed(header: dict[str, Any], claims: dict[str, Any], secret: bytes) -> str:
    """A JWT made by hand, so that nothing refuses to make a bad one."""
    signed = ".".join(_part(json.dumps(each).encode()) for each in (header, claims))
    return f"{signed}.{_part(hmac.digest(secret, signed.encode(), hashlib.sha256))}"


def _part(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


async def _refused(house: House, token: str) -> None:
    with pytest.raises(InvalidToken):
        await house.issuer.verify(token)


async def test_the_same_question_gets_the_same_token_for_a_while(house: House) -> None:
    """A fleet shares one token, which tells what it has left; after ten seconds there is another."""
    first = house.issuer.issue(Principal(ALICE), access=PULL, catalog=False)
    house.clock.now += 9
    again = house.issuer.issue(Principal(ALICE), access=PULL, catalog=False)
    house.clock.now += 1
    later = house.issuer.issue(Principal(ALICE), access=PULL, catalog=False)

    assert (again.text, again.issued_at, again.expires_in_s) == (first.text, START, 291)
    assert later.text != first.text
    assert (later.issued_at, later.expires_in_s) == (START + 10, 300)


@pytest.mark.parametrize(
    ("principal", "access", "catalog"),
    [
        (ANONYMOUS, PULL, False),
        (Principal(replace(ALICE, epoch=ALICE.epoch + 1)), PULL, False),
        (Principal(replace(ALICE, id=ALICE.id + 1)), PULL, False),
        (Principal(ALICE, credential_id=1), PULL, False),
        (Principal(ALICE), (), False),
        (Principal(ALICE), (replace(PULL[0], repository_id=PULL[0].repository_id + 1),), False),
        (Principal(ALICE), PULL, True),
    ],
)
async def test_whatever_differs_is_another_token(
    house: House, principal: Principal, access: tuple[TokenAccess, ...], *, catalog: bool
) -> None:
    """Nobody is given a token that says more, less or something else than what was computed for them now."""
    shared = house.issuer.issue(Principal(ALICE), access=PULL, catalog=False)

    assert house.issuer.issue(principal, access=access, catalog=catalog).text != shared.text


async def test_tokens_of_the_shortest_life_are_never_shared(house: House) -> None:
    """TOK-10: what is handed out has a minute to live."""
    issuer = TokenIssuer(house.keyring, service="sluice", lifetime_s=60, clock=house.clock)
    first, second = (issuer.issue(ANONYMOUS, access=PULL, catalog=False) for _ in range(2))

    assert first.text != second.text
    assert second.expires_in_s == 60
