"""The composition root: from settings to running services, and from services to the application. Owns the nurseries.

Everything is made here and handed down; nothing below reaches for a global. One `Services` per worker process.
"""

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Final

import trio
from quart_trio import QuartTrio

from gateway import api, jobs, upkeep
from gateway.access.accounts import Accounts
from gateway.access.authenticate import Authenticator
from gateway.access.exchange import TokenService
from gateway.access.keyring import REFRESH_INTERVAL_S, Keyring
from gateway.access.passwords import Passwords
from gateway.access.sealing import Sealer
from gateway.access.secret_key import secret_key
from gateway.access.tokens import TokenIssuer
from gateway.access.upstream_credentials import UpstreamCredentials
from gateway.caches import cache_jobs
from gateway.config import S3Storage, Settings
from gateway.edge import failures, streams, visits
from gateway.edge.address import AddressRules
from gateway.edge.guard import Guard
from gateway.edge.pulls import Pulls
from gateway.fetching import Fetching, open_fetching
from gateway.installation import Stores, database_of, open_stores
from gateway.logs import get_logger
from gateway.pulse import EVERY_S, Pulse
from gateway.repositories.opening import OpenRepository, opener
from gateway.v2 import dispatch
from gateway.v2.lane import Lane
from gateway.v2.large import LargeManifests
from gateway.v2.redirects import Place, Redirects
from gateway.v2.services import V2
from storage import Content, Database, Pool, Sweep, SweepSettings

# Threads that parse large manifests: 4 MiB of brackets take 100 MiB and half a second each (security row C3).
_PARSERS: Final = 2
# How long a usage time or a renewed link may wait to be written; what a kill -9 can lose of them.
_WRITE_BEHIND_S: Final = 5.0
# How long the lane may keep a removed blob's space; one system call per open file each time.
_TIDY_S: Final = 30.0
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that endpoints, jobs and commands work with."""

    settings: Settings
    clock: Callable[[], float]
    database: Database
    stores: Stores
    content: Content
    sweep: Sweep
    passwords: Passwords
    keyring: Keyring
    issuer: TokenIssuer
    authenticator: Authenticator
    tokens: TokenService
    accounts: Accounts
    credentials: UpstreamCredentials
    guard: Guard
    fetching: Fetching | None
    open_repository: OpenRepository
    pulls: Pulls
    pulse: Pulse
    lane: Lane


@asynccontextmanager
async def open_services(
    settings: Settings, *, clock: Callable[[], float] = time.time, hot: bool = True
) -> AsyncIterator[Services]:
    """Open database and stores of an installation whose data directory exists, migrated or not yet.

    Migrates under a lock that holds over processes, so any number may start at once. Without `hot`, blobs of buckets
    are read from there and nothing is kept on this machine, and nothing is fetched from other registries: for who does
    not serve pulls. Closes all on leaving, the database last.
    """
    async with database_of(settings) as database:
        await database.migrate()
        async with open_stores(settings, database, hot=hot, clock=clock) as stores:
            content = Content(
                database,
                stores.all,
                grace_s=settings.garbage.grace_s,
                uploads_per_account=settings.limits.uploads_per_account,
                clock=clock,
            )
            await content.prepare()
            upkeep.watch_damage(database, stores, content, clock=clock)
            sealer = Sealer(await Pool("secret_key", 1).run(secret_key, settings))
            ground = _Ground(settings, database, stores, content, sealer, clock)
            async with ground.fetching() if hot else nullcontext() as fetching:
                services = await _assemble(ground, fetching)
                try:
                    yield services
                finally:
                    services.lane.close()


def build(services: Services) -> QuartTrio:
    """The application of one worker: the registry API and the management API behind one guard."""
    app = QuartTrio("gateway", static_folder=None)
    streams.install(app)
    visits.install(app)
    failures.install(app)
    seen = visits.Visits(AddressRules.of(services.settings.server), services.database)
    dispatch.register(app, _v2(services), seen)
    api.register(app, _api(services, seen))
    return app


def worker_jobs(services: Services) -> Sequence[jobs.Job]:
    """What a worker does besides answering."""
    settings = services.settings

    async def sweep() -> None:
        report = await services.sweep.run()
        _log.info(
            "garbage_collected",
            removed_blobs=report.removed_blobs,
            removed_bytes=report.removed_bytes,
            expired_uploads=report.expired_uploads,
            purged_manifests=report.purged_manifests,
            trouble=report.trouble,
        )

    return (
        jobs.Job("garbage", settings.garbage.interval_s, sweep, alone=True, deadline_s=upkeep.SWEEP_S),
        jobs.Job("ended_credentials", 86400, services.tokens.clean, alone=True),
        jobs.Job("signing_keys", REFRESH_INTERVAL_S, services.keyring.refresh),
        jobs.Job("credential_usage", _WRITE_BEHIND_S, services.authenticator.flush_usage, at_end=True),
        jobs.Job("lane_files", _TIDY_S, services.lane.tidy),
        jobs.Job("link_renewals", _WRITE_BEHIND_S, services.content.flush_touches, at_end=True),
        *([] if services.database.changes().exact else [jobs.Job("pulse", EVERY_S, services.pulse.beat)]),
        *(services.fetching.jobs() if services.fetching else ()),
        *cache_jobs(services.database, services.pulls, clock=services.clock),
        *upkeep.store_jobs(settings, services.database, services.stores, clock=services.clock),
    )


@asynccontextmanager
async def running(services: Services) -> AsyncIterator[None]:
    """Run the worker's jobs around whatever is inside; on leaving they stop and write down what they hold."""
    async with trio.open_nursery() as nursery:

        async def work() -> None:
            await jobs.run(worker_jobs(services), database=services.database, clock=services.clock)

        nursery.start_soon(work)
        yield
        nursery.cancel_scope.cancel()


@dataclass(frozen=True, slots=True)
class _Ground:
    """What everything else stands on."""

    settings: Settings
    database: Database
    stores: Stores
    content: Content
    sealer: Sealer
    clock: Callable[[], float]

    def fetching(self) -> AbstractAsyncContextManager[Fetching]:
        unseal = UpstreamCredentials(self.sealer).open
        return open_fetching(self.settings, self.database, self.content, unseal, clock=self.clock)

    def opener(self, fetching: Fetching | None) -> OpenRepository:
        if fetching is None:
            return opener(database=self.database, content=self.content, clock=self.clock)
        return opener(
            database=self.database,
            content=self.content,
            clock=self.clock,
            upstreams=fetching.upstreams,
            arrivals=fetching.arrivals,
            turns=fetching.turns,
        )


async def _assemble(ground: _Ground, fetching: Fetching | None) -> Services:
    settings, database, stores, content = ground.settings, ground.database, ground.stores, ground.content
    clock, sealer = ground.clock, ground.sealer
    access = settings.access
    passwords = Passwords(threads=access.password_threads, queue=access.password_queue)
    keyring = Keyring(
        database,
        sealer=sealer,
        algorithm=access.token_algorithm,
        rotation_s=access.key_rotation_s,
        token_lifetime_s=access.token_lifetime_s,
        clock=clock,
        is_shared=settings.storage.database_url is not None,
    )
    await keyring.refresh()
    issuer = TokenIssuer(keyring, service=access.service, lifetime_s=access.token_lifetime_s, clock=clock)
    authenticator = Authenticator(database, passwords, issuer=issuer, clock=clock)
    pulls = Pulls(clock=clock)
    pulse = Pulse(database)
    lane = Lane(
        database.changes(),
        authenticator=authenticator,
        content=content,
        pulls=pulls,
        withdrawn=lambda: keyring.withdrawn,
        memory_bytes=settings.lane.memory_bytes if settings.lane.enabled else 0,
        open_files=settings.lane.open_files,
        is_away=lambda: pulse.is_away,
        outage_s=settings.lane.outage_s,
        notified_tags=settings.lane.notified_tags,
        clock=clock,
    )
    return Services(
        settings=settings,
        clock=clock,
        database=database,
        stores=stores,
        content=content,
        sweep=Sweep(database, content, _sweep_settings(settings), clock=clock),
        passwords=passwords,
        keyring=keyring,
        issuer=issuer,
        authenticator=authenticator,
        tokens=TokenService(
            database,
            authenticator,
            issuer=issuer,
            service=access.service,
            refresh_lifetime_s=access.refresh_lifetime_s,
            clock=clock,
        ),
        accounts=Accounts(database, passwords, clock=clock),
        credentials=UpstreamCredentials(sealer),
        guard=Guard(database=database, authenticator=authenticator, service=access.service),
        fetching=fetching,
        open_repository=ground.opener(fetching),
        pulls=pulls,
        pulse=pulse,
        lane=lane,
    )


def _sweep_settings(settings: Settings) -> SweepSettings:
    garbage = settings.garbage
    return SweepSettings(
        grace_s=garbage.grace_s, undelete_s=garbage.undelete_s, upload_expiry_s=garbage.upload_expiry_s
    )


def _v2(services: Services) -> V2:
    return V2(
        guard=services.guard,
        tokens=services.tokens,
        open_repository=services.open_repository,
        content=services.content,
        database=services.database,
        cpu=Pool("parse", _PARSERS),
        large=LargeManifests(),
        lane=services.lane,
        redirects=Redirects(_places(services), pulls=services.pulls),
        limits=services.settings.limits,
        service=services.settings.access.service,
        body_idle_s=services.settings.server.body_idle_timeout_s,
        clock=services.clock,
    )


def _places(services: Services) -> dict[int, Place]:
    """The buckets that clients of some networks may be sent to."""
    places = {}
    for name, store in services.stores.buckets.items():
        section = services.settings.storage.storages[name]
        if isinstance(section, S3Storage) and section.redirect_networks:
            networks = tuple(ip_network(text) for text in section.redirect_networks)
            places[services.content.storage_id(name)] = Place(store, networks)
    return places


def _api(services: Services, seen: visits.Visits) -> api.Api:
    return api.Api(
        checks=api.Checks({name: bucket.check for name, bucket in services.stores.buckets.items()}),
        guard=services.guard,
        visits=seen,
        database=services.database,
        content=services.content,
        accounts=services.accounts,
        credentials=services.credentials,
        open_repository=services.open_repository,
        upstreams=services.fetching.upstreams if services.fetching else None,
        warm_ups=services.fetching.warm_ups if services.fetching else None,
        arrivals=services.fetching.arrivals if services.fetching else None,
        settings=services.settings,
        clock=services.clock,
    )
