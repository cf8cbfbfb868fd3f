"""From a repository's row to the upstream that its settings name; one `Upstreams` per process owns what these share.

What two repositories share: the budget of the same credential at the same registry, and not of the same user: who
enters the name of somebody else with a wrong password must neither read what is left of theirs nor be told 429 in their
name. Nothing else: neither tokens nor connections nor troubles, as another repository may have other rights, other
certificates and other networks.
"""

import hashlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import urlsplit
from weakref import WeakValueDictionary, finalize

import trio
from cachetools import LRUCache

from gateway.logs import get_logger
from gateway.upstream.answers import BudgetState, UpstreamStatus
from gateway.upstream.asking import Endpoint, Questions
from gateway.upstream.breaker import Breaker
from gateway.upstream.budget import Budget
from gateway.upstream.errors import CredentialsRejected
from gateway.upstream.http import Credential, UpstreamHttp
from gateway.upstream.naming import Place
from gateway.upstream.registry import UpstreamRegistry
from gateway.upstream.settings import UpstreamSettings, upstream_of
from storage import (
    BudgetRecord,
    Database,
    Pool,
    RepositoryRecord,
    StorageError,
    Transaction,
    Unavailable,
    open_background,
)
from storage.metadata import upstreams as rows

Unseal = Callable[[bytes, int, int], Credential]
"""Opens what is sealed for a repository's id and a position."""

MAX_REGISTRIES: Final = 512
"""Kept ready. What one costs besides: a certificate store (about 0.5 MB), tokens, connections at rest."""
WRITE_EVERY_S: Final = 1.0
_CLOSE_DEADLINE_S: Final = 5.0
_NAMES: Final = 4
"""Look-ups of names at once, for each upstream its own: a name server that never answers keeps each thread for 5 s and
more, and whoever names such a one must not stop the others."""
_READERS: Final = 2  # documents read at once; each may take 57 MiB while it is
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Made:
    """A registry, and what it was made from."""

    settings: str
    sealed: Sequence[bytes]
    registry: UpstreamRegistry


class Upstreams:
    """All upstreams of this process. Made by `open`."""

    def __init__(
        self, database: Database, unseal: Unseal, *, nursery: trio.Nursery, clock: Callable[[], float]
    ) -> None:
        self._database = database
        self._unseal = unseal
        self._nursery = nursery
        self._clock = clock
        self._pool = Pool("upstream-documents", _READERS)
        self._made: LRUCache[int, _Made] = LRUCache(MAX_REGISTRIES)
        self._budgets: WeakValueDictionary[str, Budget] = WeakValueDictionary()
        self._unwritten: dict[str, Budget] = {}
        self._is_unwritten = trio.Event()
        self._writing = trio.Lock()
        self._keeping = trio.CancelScope()
        self._open: set[UpstreamHttp] = set()
        self._orphans: deque[UpstreamHttp] = deque()  # appended to by whatever thread collects garbage

    @classmethod
    @asynccontextmanager
    async def open(
        cls, database: Database, unseal: Unseal, *, clock: Callable[[], float] = time.time
    ) -> AsyncIterator[Self]:
        """For as long as the context lasts; its end cancels what is asked then. `clock`: Unix seconds."""
        async with open_background() as nursery:
            upstreams = cls(database, unseal, nursery=nursery, clock=clock)
            nursery.start_soon(upstreams._keep_budgets)
            try:
                yield upstreams
            finally:
                with trio.move_on_after(_CLOSE_DEADLINE_S, shield=True):
                    await upstreams._aclose()

    async def of(self, record: RepositoryRecord) -> UpstreamRegistry:
        """The upstream of the repository, the same one until its settings or credentials change.

        Raises LookupError if its settings name none, ValueError if they were written by a newer version, StorageError
        for trouble with rows, and `CredentialsRejected` for credentials that do not open (`Unavailable` of `unseal`).
        """
        settings = upstream_of(record.settings)
        if settings is None:
            raise LookupError(f"repository {record.full_name} has no upstream")
        sealed = await self._database.read(rows.credentials, record.id)
        made = self._made.get(record.id)
        if made is None or (made.settings, made.sealed) != (record.settings, sealed):
            registry = await self._make(record.id, settings, sealed)
            made = self._made[record.id] = _Made(record.settings, sealed, registry)
        return made.registry

    def budgets(self) -> list[BudgetState]:
        """Of all upstreams that were asked of late; for metrics."""
        return [budget.state for budget in self._budgets.values()]

    def statuses(self) -> dict[int, UpstreamStatus]:
        """Of the repositories whose upstreams are kept ready here, by their ids; for metrics."""
        return {repository_id: made.registry.status() for repository_id, made in self._made.items()}

    async def _make(self, repository_id: int, settings: UpstreamSettings, sealed: Sequence[bytes]) -> UpstreamRegistry:
        await self._close_orphans()
        try:
            credentials = [self._unseal(each, repository_id, position) for position, each in enumerate(sealed)]
        except Unavailable as error:  # who has a copy goes on with that, as when the upstream rejects them
            raise CredentialsRejected(str(error)) from error
        askers: Sequence[Credential | None] = credentials or [None]
        places = [Place.of(url) for url in settings.urls]
        names = {_budget_name(place, each) for place in places for each in askers}
        known = await self._database.read(_read_budgets, sorted(names))
        http = UpstreamHttp(settings, credentials, nursery=self._nursery, names=Pool("upstream-names", _NAMES))
        self._open.add(http)
        endpoints = [
            Endpoint(
                url,
                place,
                Breaker(url, clock=trio.current_time, wall_clock=self._clock),
                [self._budget(place, each, known) for each in askers],
            )
            for url, place in zip(settings.urls, places, strict=True)
        ]
        questions = Questions(http, endpoints, self._clock)
        finalize(questions, self._orphans.append, http).atexit = False
        return UpstreamRegistry(settings, questions, pool=self._pool)

    def _budget(self, place: Place, credential: Credential | None, known: dict[str, BudgetRecord]) -> Budget:
        """The one of this credential at this registry, whichever repository asks; as it was kept, if it is new here."""
        name = _budget_name(place, credential)
        budget = self._budgets.get(name)
        if budget is None:
            state = BudgetState(_origin(place), _account(credential))
            if row := known.get(name):
                state = BudgetState(
                    state.url, state.account, row.allowed, row.remaining, row.window_s, row.observed_at, row.retry_at
                )
            budget = self._budgets[name] = Budget(state, clock=self._clock, changed=lambda it: self._note(name, it))
        return budget

    def _note(self, name: str, budget: Budget) -> None:
        self._unwritten[name] = budget
        self._is_unwritten.set()

    async def _keep_budgets(self) -> None:
        with self._keeping:
            while True:
                await self._is_unwritten.wait()
                try:
                    await self._write_budgets()
                except Exception:  # noqa: BLE001  # a defect, perhaps of one row; the nursery is everybody's
                    _log.exception("upstream_budgets_not_kept")
                await trio.sleep(WRITE_EVERY_S)

    async def _write_budgets(self) -> None:
        """Trouble costs nothing but what a restart then does not know; it is tried again with the next change."""
        async with self._writing:  # over an await, so that the last write comes after all others
            self._is_unwritten = trio.Event()
            unwritten, self._unwritten = self._unwritten, {}
            records = [_record(name, budget.state) for name, budget in unwritten.items()]
            try:
                await self._database.transaction(_put_budgets, records)
            except StorageError as error:
                self._unwritten = unwritten | self._unwritten
                _log.warning("upstream_budgets_not_kept", error=str(error))
            except BaseException:
                self._unwritten = unwritten | self._unwritten
                raise

    async def _close_orphans(self) -> None:
        """Close the connections of upstreams that nobody can ask any more."""
        while self._orphans:
            http = self._orphans.popleft()
            self._open.discard(http)
            await http.aclose()

    async def _aclose(self) -> None:
        self._keeping.cancel()
        await self._write_budgets()
        for http in self._open:  # also those that somebody still holds
            await http.aclose()


def _origin(place: Place) -> str:
    parts = urlsplit(place.base)
    return f"{parts.scheme}://{parts.netloc}".lower()


def _account(credential: Credential | None) -> str | None:
    if credential is None:
        return None
    # Tokens without a user: told apart by what cannot be made a token again.
    return credential.username or f"token {hashlib.sha256(credential.secret.encode()).hexdigest()[:8]}"


def _budget_name(place: Place, credential: Credential | None) -> str:
    """Under which name it is kept: registry, user and fingerprint, which come apart at the last colon.

    Just the registry for anonymous pulls, which are counted by the address that all of us come from. Versions before
    this one kept `registry/user`; who runs beside us does, and these rows are not read here.
    """
    whose = "" if credential is None else f"{_account(credential)}:{credential.fingerprint}"
    return f"{_origin(place)}/{whose}"


def _read_budgets(tx: Transaction, names: Sequence[str]) -> dict[str, BudgetRecord]:
    found = [rows.budget(tx, name) for name in names]
    return {record.name: record for record in found if record is not None}


def _put_budgets(tx: Transaction, records: Sequence[BudgetRecord]) -> None:
    for record in records:
        rows.put_budget(tx, record)


def _record(name: str, state: BudgetState) -> BudgetRecord:
    return BudgetRecord(name, state.allowed, state.remaining, state.window_s, state.observed_at or 0, state.retry_at)
