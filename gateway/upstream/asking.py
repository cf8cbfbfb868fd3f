"""Questions to an upstream with several addresses and credentials: in which order, and what a status means.

For each address in turn: the credential with most left of its budget, the next one after a 429 or when it is rejected;
the next address after trouble (`UpstreamFailed`, `UpstreamSlow`, `UpstreamBusy`). What an address has is taken from
whichever has it; but that it has not (404, 401, 403) is believed of the first address only: mirrors are often
incomplete, and an outage must not turn into "not found". Knows neither manifests nor lists.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, replace
from http import HTTPStatus
from math import ceil
from typing import Final, TypeVar

from gateway.upstream import naming
from gateway.upstream.breaker import Breaker
from gateway.upstream.budget import Budget, read_retry_after
from gateway.upstream.errors import (
    CredentialsRejected,
    UpstreamBusy,
    UpstreamDenied,
    UpstreamError,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamSlow,
    UpstreamUnknown,
)
from gateway.upstream.http import Address, Answer, UpstreamHttp
from gateway.upstream.naming import Place
from storage.transfer import Response

T = TypeVar("T")
Headers = Sequence[tuple[str, str]]

_OK: Final = frozenset({HTTPStatus.OK})
_GONE: Final = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.GONE})
_SLOW: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.GATEWAY_TIMEOUT})


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked. `name` is the image's name without the prefix that an address may add.

    `path` makes the path from the whole name. `accepted`: the statuses that are answers; others are raised. `counted`:
    it costs a pull, and `reserve` of these are not for this one. `is_of_blob`: asked also while the upstream wants no
    questions, as who has got a manifest should get the rest; but not while it wants none for blobs.
    """

    method: str
    name: str
    path: Callable[[str], str]
    headers: Headers = ()
    limit_bytes: int = 64 * 1024
    accepted: Collection[int] = _OK
    counted: bool = False
    reserve: int = 0
    is_of_blob: bool = False


@dataclass(slots=True)
class Endpoint:
    """One address of the upstream: what is known of it, and the budget of each credential there."""

    url: str
    place: Place
    breaker: Breaker
    budgets: Sequence[Budget]

    def wait_s(self, question: Question, account: int) -> float:
        """How long the question cannot be asked with this credential; 0: it can."""
        budget = self.budgets[account]
        wait_s = budget.blobs_wait_s() if question.is_of_blob else budget.wait_s()
        is_spent = question.counted and budget.left() <= question.reserve
        return max(wait_s, budget.renews_s(), 1.0) if is_spent else wait_s

    def choose(self, question: Question, refused: Collection[int] = ()) -> int:
        """The credential with most left, of those that may be used and were not refused; `UpstreamBusy` if none is."""
        waits_s = [self.wait_s(question, account) for account in range(len(self.budgets))]
        usable = [account for account, wait_s in enumerate(waits_s) if not wait_s and account not in refused]
        if not usable:
            wait_s = max(1, ceil(min(waits_s)))
            reason = "the rest of its budget is kept" if question.counted else "it said so"
            raise UpstreamBusy(f"{self.url} is not asked for {wait_s} s: {reason}", retry_after_s=wait_s)
        return max(usable, key=lambda account: self.budgets[account].left())


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Questions:
    """Asks; safe for any number of tasks. Whoever may still ask holds it. `clock`: Unix seconds."""

    http: UpstreamHttp
    endpoints: Sequence[Endpoint]
    clock: Callable[[], float]

    async def in_turn(
        self, attempt: Callable[[Endpoint], Awaitable[T]], endpoints: Sequence[Endpoint] | None = None
    ) -> T:
        """What `attempt` makes of the first address that is not in trouble. Raises `UpstreamError`: the first trouble.

        `endpoints`: all of them in another order.
        """
        first: UpstreamError | None = None
        for endpoint in self.endpoints if endpoints is None else endpoints:
            try:
                return await attempt(endpoint)
            except (UpstreamFailed, UpstreamSlow, UpstreamBusy) as error:
                first = first or error
            except (UpstreamUnknown, UpstreamDenied):
                if endpoint is self.endpoints[0]:
                    raise
        raise first or UpstreamFailed("the repository's settings name no address of its upstream")

    async def ask(self, question: Question, endpoint: Endpoint) -> Answer:
        """The answer of this address. Raises `UpstreamError`."""
        if question.counted:
            await self._look_at_budget(question, endpoint)

        async def attempt(account: int) -> Answer:
            budget = endpoint.budgets[account]
            with budget.spending() if question.counted else nullcontext():
                answer = await self.http.ask(
                    question.method,
                    self._address(question, endpoint),
                    scope=self._scope(question, endpoint),
                    headers=question.headers,
                    limit_bytes=question.limit_bytes,
                    account=account,
                )
                self._judge(question, endpoint, account, answer)
            return answer

        return await self._with_accounts(question, endpoint, attempt)

    @asynccontextmanager
    async def stream(self, question: Question, endpoint: Endpoint) -> AsyncIterator[Response]:
        """The same with GET, the body to be read as it comes; it raises `TransferError`."""
        async with AsyncExitStack() as opened:

            async def attempt(account: int) -> Response:
                async with AsyncExitStack() as opening:
                    stream = self.http.stream(
                        self._address(question, endpoint),
                        scope=self._scope(question, endpoint),
                        headers=question.headers,
                        account=account,
                    )
                    response = await opening.enter_async_context(stream)
                    self._judge(question, endpoint, account, response)
                    await opened.enter_async_context(opening.pop_all())
                    return response

            yield await self._with_accounts(question, endpoint, attempt)

    async def _with_accounts(self, question: Question, endpoint: Endpoint, attempt: Callable[[int], Awaitable[T]]) -> T:
        """Until one is not refused; `choose` raises when none is left."""
        refused: set[int] = set()
        while True:
            account = endpoint.choose(question, refused)
            try:
                with endpoint.breaker.question():
                    return await attempt(account)
            except (UpstreamBusy, CredentialsRejected) as error:
                refused.add(account)
                if len(refused) == len(endpoint.budgets):
                    raise error from None

    async def _look_at_budget(self, question: Question, endpoint: Endpoint) -> None:
        """Ask something free if the budget is spent as far as we know, which is long ago."""
        try:
            endpoint.choose(question)
        except UpstreamBusy:
            if any(budget.is_old() for budget in endpoint.budgets):
                await self.ask(replace(question, method="HEAD", counted=False), endpoint)

    @staticmethod
    def _address(question: Question, endpoint: Endpoint) -> Address:
        return Address(endpoint.place.base, question.path(endpoint.place.name(question.name)))

    @staticmethod
    def _scope(question: Question, endpoint: Endpoint) -> str:
        return naming.pull_scope(endpoint.place.name(question.name))

    def _judge(self, question: Question, endpoint: Endpoint, account: int, answer: Answer | Response) -> None:
        """Raise what the status means, if it is none that the question accepts."""
        budget, status = endpoint.budgets[account], answer.status
        budget.heard(answer.headers)
        if status in question.accepted:
            return
        what = f"{question.name} at {endpoint.url}"
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            wait_s = budget.refused(answer.headers, is_of_blob=question.is_of_blob)
            raise UpstreamBusy(f"{what}: too many requests, says the upstream", retry_after_s=wait_s)
        raise _meaning(status, what, read_retry_after(answer.headers, now=self.clock()))


def _meaning(status: int, what: str, retry_after_s: int | None) -> UpstreamError:
    if status in _GONE:
        return UpstreamUnknown(f"{what} is not there")
    if status in _SLOW:
        return UpstreamSlow(f"{what}: the upstream took too long ({status})", retry_after_s=retry_after_s)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return UpstreamFailed(f"{what}: the upstream is in trouble ({status})", retry_after_s=retry_after_s)
    return UpstreamRefused(f"{what}: the upstream answers {status}")
