"""A scripted upstream registry on real loopback sockets: it holds what a test puts there and errs when told to.

It runs on Trio in a thread of its own and may be used from any test: plain ones, asynchronous ones, and with gateways
in processes of their own. It writes down every request. Several may run at once, also over the same shelf.
"""

import ssl
from collections import Counter
from typing import Final, Self

import trio
import trustme

from tests.faults.listening import Listening
from tests.upstream.registry import Registry
from tests.upstream.script import Delivery, Fault, Redirect, Rule, Says, Seen, When, on, with_credentials
from tests.upstream.sending import Conversation
from tests.upstream.shelf import Shelf

_HOST: Final = "127.0.0.1"


class ScriptedUpstream:
    """One registry while the context manager is open.

    `shelf`: what it holds, its own by default. `host`: 127.0.0.1 or any other of 127/8, for a host that is another one;
    `port`: a free one by default.
    `authority`: serve TLS with a certificate of this authority, for `host` and `localhost` and `names`. `registry` has
    the rules of the protocol (`auth`, `budget`, `page_size`, `has_referrers_api`, `has_etags`), to be set at any time.
    """

    def __init__(
        self,
        shelf: Shelf | None = None,
        *,
        host: str = _HOST,
        port: int = 0,
        authority: trustme.CA | None = None,
        names: tuple[str, ...] = (),
    ) -> None:
        self.shelf = Shelf() if shelf is None else shelf
        self.registry = Registry(self.shelf)
        self.host = host
        self._tls = None if authority is None else _tls(authority, (host, "localhost", *names))
        self._rules: list[Rule] = []
        self._conversations: set[Conversation] = set()
        self._released = trio.Event()
        self._listening = Listening(self._serve, "scripted upstream", host=host)
        self._listening.port = port
        self.connections = 0
        """How many were accepted so far."""
        self.requests: list[Seen] = []
        """Every request so far, in the order in which they came."""

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._listening.port

    @property
    def address(self) -> str:
        """`HOST:PORT`."""
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """Its base URL, without a slash at the end."""
        return f"{'http' if self._tls is None else 'https'}://{self.address}"

    def __enter__(self) -> Self:
        self._listening.open()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.close()

    def script(self, fault: Fault, when: When = lambda seen: True, *, times: int | None = None, skip: int = 0) -> Rule:
        """Let a fault befall what comes from now on, `times` times or always, after the first `skip`."""
        rule = Rule(fault, when, times, skip)
        self._rules.append(rule)
        return rule

    def release(self) -> None:
        """Let all answers that have begun go on where they are stalled, or would be; later ones stall again."""
        self._listening.run(self._release)

    def heal(self) -> None:
        """Forget all rules, let all answers go on, and listen again."""
        self._rules.clear()
        self._listening.run(self._heal)

    def refuse(self) -> None:
        """Be dead: whoever connects is refused by the kernel, and open connections are reset. `heal` ends it."""
        self._listening.run(self._refuse)

    def hang_up(self) -> None:
        """Reset every open connection; whoever connects again is served."""
        self._listening.run(self._hang_up)

    def seen(self, when: When = lambda seen: True) -> list[Seen]:
        """The requests, in order, that these words choose."""
        return [each for each in list(self.requests) if when(each)]

    def gets(self, reference: str) -> int:
        """How often a blob or manifest was asked for by GET, by this tag or digest, whatever was answered but 401."""
        asked = self.seen(lambda seen: seen.method == "GET" and seen.reference == reference)
        return sum(each.status != 401 for each in asked)

    def all_gets(self) -> Counter[str]:
        """The same for all blobs, by digest."""
        asked = self.seen(on("blobs", method="GET"))
        return Counter(each.reference for each in asked if each.status != 401)

    def bytes_sent(self, reference: str) -> int:
        """How many bytes of bodies went out for a blob or manifest."""
        return sum(each.sent_bytes for each in self.seen(lambda seen: seen.reference == reference))

    def forget(self) -> None:
        """Begin a new list of requests."""
        self.requests.clear()

    async def _serve(self, raw: trio.SocketStream) -> None:
        self.connections += 1
        stream: trio.abc.Stream = raw
        if self._tls is not None:
            stream = trio.SSLStream(raw, self._tls, server_side=True, https_compatible=True)
        talk = Conversation(
            raw, stream, number=self.connections, answer=self._answer, next_release=lambda: self._released
        )
        self._conversations.add(talk)
        try:
            await talk.run()
        finally:
            self._conversations.discard(talk)

    def _answer(self, seen: Seen) -> Delivery:
        self.requests.append(seen)
        faults = [rule.fault for rule in list(self._rules) if rule.fits(seen)]
        delivery = self.registry.answer(seen, self.url)
        for fault in faults:
            fault.befall(delivery, seen)
        return delivery

    async def _release(self) -> None:
        self._released.set()
        self._released = trio.Event()

    async def _heal(self) -> None:
        await self._release()
        await self._listening.listen()

    async def _refuse(self) -> None:
        await self._listening.leave()
        await self._hang_up()

    async def _hang_up(self) -> None:
        for talk in list(self._conversations):
            talk.reset()


def send_blobs_to(upstream: ScriptedUpstream, store: ScriptedUpstream) -> Rule:
    """Let the upstream redirect every blob to a store, which holds the same and takes no Authorization: as S3 does."""
    store.shelf = store.registry.shelf = upstream.shelf
    store.script(Says(400, b"<Error><Code>InvalidArgument</Code></Error>"), with_credentials)
    signed = Redirect(lambda seen: f"{store.url}{seen.path}?X-Amz-Signature=0123456789abcdef")
    return upstream.script(signed, on("blobs"))


def _tls(authority: trustme.CA, names: tuple[str, ...]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context
