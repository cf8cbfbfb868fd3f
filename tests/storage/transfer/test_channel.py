"""Connecting and TLS: what is refused, how long it may take, and what both versions of TLS carry."""

import ssl
from collections.abc import Sequence
from contextlib import aclosing

import pytest
import trio
from trio.testing import MockClock

from storage.transfer import Client, ConnectFailed, Origin, Resolve, Untrusted, try_each
from storage.transfer.channel import ChannelFailed, connect
from tests.storage.transfer.requests import get
from tests.storage.transfer.scripted import HELLO, Peer, Serve, saying, saying_once, server_context, trusting_context


async def test_refused_connection(client: Client) -> None:
    """Nobody listens there."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    with pytest.raises(ConnectFailed, match=f"http://127.0.0.1:{port}") as caught:
        await get(client, Origin("http", "127.0.0.1", port))
    assert caught.value.retryable
    assert "refused" in str(caught.value)


@pytest.mark.parametrize("host", ["a..b", "a" * 70])
async def test_impossible_name(client: Client, host: str) -> None:
    """No host can have this name; nobody is asked for it."""
    for scheme in ("http", "https"):
        with pytest.raises(ConnectFailed):
            await get(client, Origin(scheme, host, 1))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_both_versions_of_tls(serve: Serve, client: Client, version: ssl.TLSVersion) -> None:
    """Requests follow each other on one connection of either."""
    server = await serve(saying(HELLO), tls=server_context(version))
    for _ in range(3):
        assert await get(client, server.origin) == b"hello"
    assert server.accepted == 1


async def test_unknown_certificate_is_refused(serve: Serve) -> None:
    """By default the system's authorities decide; ours is none of them."""
    server = await serve(saying(HELLO), tls=server_context())
    client = Client()
    with pytest.raises(Untrusted) as caught:
        await get(client, server.origin)
    assert not caught.value.retryable
    await server.wait_until_open(0)


async def test_certificate_of_another_host_is_refused(serve: Serve, client: Client, nursery: trio.Nursery) -> None:
    """The name in the certificate must be the one that was asked for."""
    context = server_context()
    server = await serve(saying(HELLO), tls=context)
    with pytest.raises(Untrusted):
        await get(client, Origin("https", "127.0.0.2", server.origin.port))
    await server.wait_until_open(0)


async def test_server_name_is_sent(serve: Serve, client: Client) -> None:
    """SNI: a server of many names knows which certificate to show."""
    context, names = server_context(), []
    context.sni_callback = lambda _connection, name, _context: names.append(name)
    server = await serve(saying(HELLO), tls=context)
    assert await get(client, Origin("https", "localhost", server.origin.port)) == b"hello"
    assert names == ["localhost"]


async def test_silent_handshake_ends_in_time(serve: Serve, client: Client, autojump_clock: MockClock) -> None:
    """A server that accepts and never says hello costs `connect_s`."""

    async def script(peer: Peer) -> None:
        await peer.until_closed()

    server = await serve(script)
    start = trio.current_time()
    with pytest.raises(ConnectFailed, match="within 5 s"):
        await get(client, Origin("https", "127.0.0.1", server.origin.port))
    assert trio.current_time() - start == pytest.approx(5, abs=0.5)
    await server.wait_until_open(0)


async def test_plain_server_on_an_encrypted_port(serve: Serve, client: Client) -> None:
    """What answers is not TLS."""

    async def script(peer: Peer) -> None:
        await peer.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    server = await serve(script)
    with pytest.raises(ConnectFailed):
        await get(client, Origin("https", "localhost", server.origin.port))


@pytest.mark.parametrize("wait", ["readable", "writable"])
async def test_closing_wakes_who_waits(serve: Serve, wait: str) -> None:
    """Nobody waits for ever on a connection that was closed under them."""
    server = await serve(silent)
    channel = await connect(server.origin, None, connect_s=5)
    if wait == "writable":
        while channel.send_nowait(bytes(1 << 20)):
            pass

    async def wait_for_it() -> None:
        with pytest.raises(ChannelFailed):
            await (channel.wait_readable() if wait == "readable" else channel.wait_writable())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_for_it)
        await trio.testing.wait_all_tasks_blocked()
        channel.close()
    channel.close()  # twice is fine
    for use in (lambda: channel.receive_nowait(1), lambda: channel.send_nowait(b"x")):
        with pytest.raises(ChannelFailed):
            use()


async def silent(_peer: Peer) -> None:
    """Take nothing and say nothing."""
    await trio.sleep_forever()


def resolving(*answers: Sequence[str]) -> Resolve:
    """Gives these addresses, in turn."""
    turns = list(answers)

    async def resolve(origin: Origin) -> Sequence[str]:
        return turns.pop(0)

    return resolve


async def test_only_resolved_addresses_are_dialled(serve: Serve) -> None:
    """Whatever the name means to the system; it is asked for with each new connection, and named to the server."""
    hosts = []

    async def script(peer: Peer) -> None:
        hosts.append((await peer.asked()).field("host"))
        await peer.say(HELLO)

    server = await serve(script)
    named = Origin("http", "registry.test", server.origin.port)

    nowhere = "255.255.255.255"  # the kernel refuses at once
    async with aclosing(Client(resolve=resolving([nowhere, "127.0.0.1"], [nowhere]))) as client:
        assert await get(client, named) == b"hello"
        await server.wait_until_open(0)
        with pytest.raises(ConnectFailed):
            await get(client, named)

    assert hosts == [named.authority]


async def test_the_certificate_is_for_the_name_and_not_the_address(serve: Serve) -> None:
    """A server at a resolved address must be who was asked for."""
    server = await serve(saying_once(HELLO), tls=server_context())
    here = resolving(["127.0.0.1"], ["127.0.0.1"])

    async with aclosing(Client(tls=trusting_context(), resolve=here)) as client:
        assert await get(client, Origin("https", "localhost", server.origin.port)) == b"hello"
        with pytest.raises(Untrusted):
            await get(client, Origin("https", "other.test", server.origin.port))


async def test_what_a_resolver_raises() -> None:
    """An OSError is a connection that failed; everything else comes out as it is."""

    async def unknown(origin: Origin) -> Sequence[str]:
        raise OSError("no such name")

    async def forbidden(origin: Origin) -> Sequence[str]:
        raise PermissionError("that is an OSError, too") from None

    async def policy(origin: Origin) -> Sequence[str]:
        raise LookupError("not there")

    for resolve, error in ((unknown, ConnectFailed), (forbidden, ConnectFailed), (policy, LookupError)):
        with pytest.raises(error):
            await get(Client(resolve=resolve), Origin("http", "registry.test", 80))


async def test_addresses_share_the_time(autojump_clock: MockClock) -> None:
    """One that does not answer leaves the others their part; the last one has all that is left."""
    tried = []

    async def dial(address: str) -> str:
        tried.append((address, trio.current_time() - began))
        if address != "three":
            await trio.sleep(60)
        await trio.sleep(2)
        return address

    began = trio.current_time()
    with trio.fail_after(9):
        assert await try_each(["one", "two", "three"], dial) == "three"
    assert tried == [("one", 0), ("two", 3), ("three", 6)]

    for addresses in ([], ["one"]):
        with pytest.raises((OSError, trio.TooSlowError)), trio.fail_after(9):
            await try_each(addresses, dial)
