"""Scripted upstreams, and requests to them that end with the test."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import trio
import trustme

from gateway.upstream.http import UpstreamHttp
from gateway.upstream.settings import UpstreamSettings
from gateway.upstream.tokens import Credential
from storage import Pool
from tests.gateway.upstream.known import Maker
from tests.gateway.upstream.reaching import LOOPBACK, Reach
from tests.storage.transfer.conftest import serve
from tests.upstream.scripted import ScriptedUpstream

__all__ = ["serve"]


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    """An upstream with one image, team/app:latest."""
    with ScriptedUpstream() as scripted:
        scripted.shelf.image("team/app", "latest", b"layer")
        yield scripted


@pytest.fixture
def elsewhere() -> Iterator[ScriptedUpstream]:
    """Another host, which nobody has given credentials for."""
    with ScriptedUpstream(host="127.0.0.2") as scripted:
        scripted.shelf.image("team/app", "latest", b"from elsewhere")
        yield scripted


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """Who signs the certificates of upstreams that speak TLS."""
    return trustme.CA()


@pytest.fixture
async def reach(nursery: trio.Nursery) -> AsyncIterator[Reach]:
    """See `Reach`; loopback may be dialled unless `private_networks` says otherwise."""
    made: list[UpstreamHttp] = []
    names = Pool("names", 4)

    def to(
        upstream: ScriptedUpstream | str, *credentials: Credential, lookup: Any = None, **settings: Any
    ) -> UpstreamHttp:
        url = upstream if isinstance(upstream, str) else upstream.url
        known = UpstreamSettings(**{"urls": (url,), "private_networks": LOOPBACK, **settings})
        how = {} if lookup is None else {"lookup": lookup}
        made.append(UpstreamHttp(known, credentials, nursery=nursery, names=names, **how))
        return made[-1]

    yield to
    for each in made:
        await each.aclose()


@pytest.fixture
def known(reach: Reach) -> Maker:
    """Makes registries of scripted upstreams."""
    return Maker(reach)
