"""Requests to one upstream: logged in, redirected, and checked on every hop. Knows HTTP, and nothing of registries.

Two clients share the work (docs/decisions/0015-upstream-client.md). The one of the data plane has the first contact
with an upstream, because only it keeps all challenges of a 401, and streams bodies; asks does the small requests then.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final
from urllib.parse import urljoin

import trio

from gateway.upstream.client import Answer, ControlClient, Unreadable
from gateway.upstream.dialling import Dialler, Lookup, origin_and_target, system_lookup, tls_context
from gateway.upstream.errors import (
    NAME_ITS_AUTHORITY,
    UpstreamDenied,
    UpstreamError,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamSlow,
)
from gateway.upstream.flight import Flight
from gateway.upstream.naming import Place
from gateway.upstream.settings import UpstreamSettings
from gateway.upstream.tokens import DOCUMENT_BYTES, Credential, Key, Logins, Tokens
from storage import Pool
from storage.transfer import Client, ConnectFailed, Origin, Response, Stalled, TooLarge, TransferError, Untrusted

__all__ = ["Address", "Answer", "Credential", "UpstreamHttp"]

MAX_REDIRECTS: Final = 5
ANSWER_S: Final = 30.0
"""For a small document, from connecting to its last byte; less where the settings' idle time is shorter."""
BODIES: Final = 64
"""Bodies of one upstream under way at once."""
CONTACTS: Final = 8
_TRIES: Final = 4
"""At most: with the key in hand, without any, with a fresh one, and once more where the scope was guessed wrong."""
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_UNAUTHORIZED: Final = 401
_ABSENT: Final = frozenset({404, 410})
_REFUSALS: Final = frozenset({_UNAUTHORIZED, 403})
_AGENT: Final = ("User-Agent", "sluice")

Headers = Sequence[tuple[str, str]]
Exchange = Callable[[str, Origin, str, Headers, int], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Address:
    """Below one of the settings' URLs (`base`): `path` from its slash, encoded, with a query if there is one."""

    base: str
    path: str

    @property
    def url(self) -> str:
        """The whole."""
        return self.base.rstrip("/") + self.path


@dataclass(frozen=True, slots=True)
class _Clients:
    control: ControlClient
    contact: Client
    bodies: Client


class UpstreamHttp:
    """For one upstream and its credentials; for any number of tasks. Close it with `aclose`.

    `nursery` owns logins under way. `names` is the pool that name look-ups block. Nothing is shared with other
    upstreams: neither tokens nor connections, since another one may not be allowed the same addresses.
    """

    def __init__(
        self,
        settings: UpstreamSettings,
        credentials: Sequence[Credential] = (),
        *,
        nursery: trio.Nursery,
        names: Pool,
        lookup: Lookup = system_lookup,
    ) -> None:
        self._settings = settings
        self._credentials = tuple(credentials)
        self._names = names
        self._dialler = Dialler(names, settings.private_networks, lookup=lookup)
        self._logins = Logins(Tokens(nursery, self._fetch_token), settings.token_hosts)
        self._clients: _Clients | None = None
        self._nursery = nursery
        self._meetings: dict[Origin, Flight[None]] = {}

    async def ask(
        self, method: str, url: Address, *, scope: str, headers: Headers = (), limit_bytes: int, account: int = 0
    ) -> Answer:
        """GET or HEAD of a small document; `scope` as in `repository:library/nginx:pull`, empty for none.

        Gives every status but 401, 403 and redirects. Raises `UpstreamDenied` for 401 and 403 after logging in,
        `UpstreamFailed`, `UpstreamSlow`, `UpstreamBusy` (too many logins), and `UpstreamRefused` for more than
        `limit_bytes`, and for redirects and realms that are not followed. ValueError for a base not in the settings.
        """
        home, target = self._place(url)
        await self._meet(home, url.base, account)
        for _ in range(_TRIES):
            key = await self._logins.key(home, scope, self._credential(account))
            by_transfer = key is None
            exchange = self._ask_by_transfer if by_transfer else self._ask_by_asks
            answer, place = await self._follow(
                exchange, method, start=(home, target), headers=headers, key=key, limit_bytes=limit_bytes
            )
            if place != home or answer.status != _UNAUTHORIZED:
                self._judge(home, place, answer.status, key, account)
                return _plain(answer, place)
            self._logins.refused(home, scope, key, answer.headers, is_exact=by_transfer)
        raise UpstreamDenied(f"{home} accepts no token that it is given")

    @asynccontextmanager
    async def stream(
        self, url: Address, *, scope: str, headers: Headers = (), account: int = 0
    ) -> AsyncIterator[Response]:
        """GET of a body of any size, as it comes; statuses and errors as of `ask`, also for what breaks on the way.

        A kept connection may be used. Leave it early and its connection closes.
        """
        home, target = self._place(url)
        await self._meet(home, url.base, account)
        for _ in range(_TRIES):
            key = await self._logins.key(home, scope, self._credential(account))
            async with self._streamed(home, target, headers, key) as (response, place):
                if place != home or response.status != _UNAUTHORIZED:
                    self._judge(home, place, response.status, key, account)
                    yield response
                    return
                answered = response.headers
            self._logins.refused(home, scope, key, answered, is_exact=True)
        raise UpstreamDenied(f"{home} accepts no token that it is given")

    async def aclose(self) -> None:
        """Close connections at rest, and refuse new ones; what is under way may end."""
        if self._clients is not None:
            await self._clients.contact.aclose()
            await self._clients.bodies.aclose()

    def _place(self, url: Address) -> tuple[Origin, str]:
        if url.base not in self._settings.urls and url.base not in {
            Place.of(each).base for each in self._settings.urls
        }:
            raise ValueError(f"{url.base} is no address of this upstream")
        return origin_and_target(url.url)

    def _credential(self, account: int) -> Credential | None:
        return self._credentials[account] if self._credentials else None

    async def _meet(self, home: Origin, base: str, account: int) -> None:
        """Who has credentials asks `/v2/` first how they are wanted, as every client does.

        A question itself may be answered without them, and less well: some registries say 404 to strangers.
        """
        if self._credential(account) is None or self._logins.knows(home):
            return
        meeting = self._meetings.get(home)
        if meeting is None or meeting.is_over:
            ask = partial(self._introduce, home, base)
            meeting = self._meetings[home] = Flight(self._nursery, ask, name=f"the first contact with {home}")
        await meeting.result()

    async def _introduce(self, home: Origin, base: str) -> None:
        start = origin_and_target(Address(base, "/v2/").url)
        answer, place = await self._follow(
            self._ask_by_transfer, "GET", start=start, headers=(), key=None, limit_bytes=DOCUMENT_BYTES
        )
        if answer.status == _UNAUTHORIZED and place == home:
            self._logins.refused(home, "", None, answer.headers, is_exact=True)
        elif answer.status < 400 or answer.status in _ABSENT:  # noqa: PLR2004  # it is well
            self._logins.admitted(home, None)

    def _judge(self, home: Origin, place: Origin, status: int, key: Key | None, account: int) -> None:
        """What an answer other than 401 from home says of our rights."""
        if place != home and status in _REFUSALS:
            raise UpstreamFailed(f"{home} sends us to {place}, which answers {status}")
        if key is None and self._credential(account) is not None and status >= 400:  # noqa: PLR2004
            # Asked as strangers, because the meeting came to nothing: what these are told says nothing of what we have.
            if status in _ABSENT or status in _REFUSALS:
                raise UpstreamFailed(f"{home} does not say how to log in")
            return
        if status in _REFUSALS:
            raise UpstreamDenied(f"{home} does not give this to us")
        self._logins.admitted(home, key)

    async def _follow(
        self,
        exchange: Exchange,
        method: str,
        *,
        start: tuple[Origin, str],
        headers: Headers,
        key: Key | None,
        limit_bytes: int,
    ) -> tuple[Answer, Origin]:
        """The answer at the end of the redirects, and where that was."""
        (home, _), (origin, target) = start, start
        for _ in range(MAX_REDIRECTS + 1):
            answer = await exchange(method, origin, target, _fields(headers, key, home, origin), limit_bytes)
            if answer.status not in _REDIRECTS:
                return answer, origin
            origin, target = _next(home, origin, target, answer.header("location"))
        raise UpstreamRefused(f"{home} redirects more than {MAX_REDIRECTS} times")

    @asynccontextmanager
    async def _streamed(
        self, home: Origin, target: str, headers: Headers, key: Key | None
    ) -> AsyncIterator[tuple[Response, Origin]]:
        client, origin = (await self._opened()).bodies, home
        for _ in range(MAX_REDIRECTS + 1):
            sent = [*_fields(headers, key, home, origin), ("Accept-Encoding", "identity")]
            try:
                async with client.request("GET", origin, target, sent) as response:
                    if response.status not in _REDIRECTS:
                        yield response, origin
                        return
                    location = response.header("location")
            except TransferError as error:
                raise _mapped(error, origin) from error
            origin, target = _next(home, origin, target, location)
        raise UpstreamRefused(f"{home} redirects more than {MAX_REDIRECTS} times")

    async def _ask_by_asks(
        self, method: str, origin: Origin, target: str, headers: Headers, limit_bytes: int
    ) -> Answer:
        try:
            return await (await self._opened()).control.ask(method, origin, target, headers, limit_bytes=limit_bytes)
        except Unreadable:  # perhaps only to asks: let the strict reader decide
            return await self._ask_by_transfer(method, origin, target, headers, limit_bytes)

    async def _ask_by_transfer(
        self, method: str, origin: Origin, target: str, headers: Headers, limit_bytes: int
    ) -> Answer:
        client = (await self._opened()).contact
        sent = [*headers, ("Accept-Encoding", "identity")]
        try:
            with trio.fail_after(self._answer_s):
                async with client.request(method, origin, target, sent) as response:
                    body = await response.read(limit_bytes) if response.status < 300 else b""  # noqa: PLR2004
                    return Answer(response.status, tuple(response.headers), body)
        except TransferError as error:
            raise _mapped(error, origin) from error
        except trio.TooSlowError as error:
            raise UpstreamSlow(f"{origin} did not answer within {self._answer_s:g} s") from error

    async def _fetch_token(self, origin: Origin, target: str, headers: Headers) -> Answer:
        return await self._ask_by_asks("GET", origin, target, [_AGENT, *headers], DOCUMENT_BYTES)

    @property
    def _answer_s(self) -> float:
        return min(ANSWER_S, self._settings.idle_s)

    async def _opened(self) -> _Clients:
        if self._clients is None:
            tls = await self._names.look(tls_context, self._settings.ca_pem)
            resolve, connect_s, idle_s = self._dialler.addresses, self._settings.connect_s, self._settings.idle_s

            def client(connections: int) -> Client:
                return Client(tls=tls, connections=connections, connect_s=connect_s, idle_s=idle_s, resolve=resolve)

            if self._clients is None:  # nobody was faster
                control = ControlClient(resolve, tls=tls, connect_s=connect_s, answer_s=self._answer_s)
                self._clients = _Clients(control, client(CONTACTS), client(BODIES))
        return self._clients


def _fields(headers: Headers, key: Key | None, home: Origin, origin: Origin) -> list[tuple[str, str]]:
    """What is sent to this origin: the key only to the upstream's own."""
    fields = [_AGENT, *headers]
    if key is not None and key.authorization is not None and origin == home:
        fields.append(("Authorization", key.authorization))
    return fields


def _next(home: Origin, origin: Origin, target: str, location: str) -> tuple[Origin, str]:
    """Where a redirect leads; the address is checked again when it is dialled."""
    if not location:
        raise UpstreamFailed(f"{origin} redirects without saying where")
    try:
        joined = urljoin(f"{origin}{target}", location)
    except ValueError as error:
        raise UpstreamRefused(f"{home} redirects to what is no address") from error
    following = origin_and_target(joined)
    if home.encrypted and not following[0].encrypted:
        raise UpstreamRefused(f"{home} redirects to {following[0]}, which is not encrypted")
    return following


def _plain(answer: Answer, place: Origin) -> Answer:
    """A document that is encoded although we asked for identity would be taken for another one."""
    if answer.body and answer.header("content-encoding", "identity").lower() != "identity":
        raise UpstreamFailed(f"{place} encodes a document that was asked for as it is")
    return answer


def _mapped(error: TransferError, origin: Origin) -> UpstreamError:
    """Messages of transfers name method and origin only."""
    if isinstance(error, Stalled) or (
        isinstance(error, ConnectFailed) and isinstance(error.__cause__, trio.TooSlowError)
    ):
        return UpstreamSlow(str(error))
    if isinstance(error, TooLarge):
        return UpstreamRefused(f"the document of {origin} is too large: {error}")
    if isinstance(error, Untrusted):
        return UpstreamFailed(f"{error}; {NAME_ITS_AUTHORITY}")
    return UpstreamFailed(str(error))
