"""One request and its answer, with the smallest ASGI applications: what they may rely on and what they cannot break."""

import tempfile
from contextvars import ContextVar
from functools import partial
from typing import Any

import pytest
import structlog
import trio
from trio.testing import MockClock

from tests.gateway.wire.loopback import Gateway, read_until_closed

GET = b"GET /a%20b?q=1 HTTP/1.1\r\nHost: x\r\nX-One: 1\r\n\r\n"
PUT = b"PUT / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 10\r\n\r\n"
START = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]}
BODY = {"type": "http.response.body", "body": b"hello"}


async def hello(scope: Any, receive: Any, send: Any) -> None:
    """The smallest application."""
    await send(START)
    await send(BODY)


async def answer_to(app: Any, request: bytes, nursery: trio.Nursery) -> bytes:
    """Everything that comes back until the server closes; our side ends after the request."""
    async with Gateway(app, nursery).connect() as client:
        await client.send_all(request)
        await client.send_eof()
        return await read_until_closed(client)


async def test_the_scope_describes_the_request(nursery: trio.Nursery) -> None:
    """Method, paths (raw and decoded), query, fields in lower case, both addresses."""
    seen: dict[str, Any] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.update(scope)
        await hello(scope, receive, send)

    await answer_to(app, GET, nursery)

    assert (seen["type"], seen["method"], seen["http_version"], seen["scheme"]) == ("http", "GET", "1.1", "http")
    assert (seen["raw_path"], seen["path"], seen["query_string"]) == (b"/a%20b", "/a b", b"q=1")
    assert seen["headers"] == [(b"host", b"x"), (b"x-one", b"1")]
    assert seen["client"][0] == seen["server"][0] == "127.0.0.1"


@pytest.mark.parametrize(("said", "told"), [(b"close", [b"connection: close"]), (b"keep-alive", [])])
async def test_what_becomes_of_the_connection_is_told_once(
    nursery: trio.Nursery, said: bytes, told: list[bytes]
) -> None:
    """An application that closes is obeyed; its own field never stands beside the server's."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({**START, "headers": [(b"content-length", b"5"), (b"Connection", said)]})
        await send(BODY)

    async with Gateway(app, nursery).connect() as client:
        await client.send_all(GET)
        if said == b"keep-alive":
            await client.send_eof()
        head, _, body = (await read_until_closed(client)).partition(b"\r\n\r\n")

    assert body == b"hello"
    assert [line for line in head.split(b"\r\n") if line.lower().startswith(b"connection")] == told


async def test_a_body_comes_in_messages(nursery: trio.Nursery) -> None:
    """The last message says that it is the last; a request without a body has one empty message."""
    messages: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        messages.append(await receive())
        await hello(scope, receive, send)
        messages.append(await receive())

    await answer_to(app, PUT + b"0123456789", nursery)
    await answer_to(app, GET, nursery)

    assert messages == [
        {"type": "http.request", "body": b"0123456789", "more_body": False},
        {"type": "http.disconnect"},
        {"type": "http.request", "body": b"", "more_body": False},
        {"type": "http.disconnect"},
    ]


async def test_a_client_that_leaves_within_its_body_is_a_disconnect(nursery: trio.Nursery) -> None:
    """What came before is delivered first."""
    messages: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        messages.extend([await receive(), await receive(), await receive()])

    await answer_to(app, PUT + b"0123", nursery)

    assert [message.get("body") for message in messages] == [b"0123", None, None]


async def test_malformed_chunks_are_a_disconnect_and_400(nursery: trio.Nursery) -> None:
    """The application learns that the body ended early; without an answer of its own the client gets 400."""
    messages: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        messages.extend([await receive(), await receive(), await receive()])

    request = PUT.replace(b"Content-Length: 10", b"Transfer-Encoding: chunked") + b"3\r\nabc\r\nnonsense\r\n"
    answer = await answer_to(app, request, nursery)

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert messages[-1] == {"type": "http.disconnect"}


@pytest.mark.parametrize("received_before", [True, False])
async def test_a_body_is_absorbed_in_a_thread(nursery: trio.Nursery, *, received_before: bool) -> None:
    """The rest of the body goes to the sink; then `receive` tells the body's end, and the next request is answered."""
    parts: list[bytes] = []
    messages: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["method"] == "PUT":
            if received_before:
                parts.append((await receive())["body"])
            absorb = scope["extensions"]["sluice.request.absorb"]["absorb"]
            await absorb(lambda views: parts.extend(map(bytes, views)), idle_s=10)
            messages.append(await receive())
        await hello(scope, receive, send)

    async with Gateway(app, nursery).connect() as client:
        await client.send_all(PUT.replace(b"Connection: close\r\n", b"") + b"01234")
        if received_before:
            while not parts:
                await trio.testing.wait_all_tasks_blocked(0.01)
        await client.send_all(b"56789" + GET)
        await client.send_eof()
        answers = await read_until_closed(client)

    assert b"".join(parts) == b"0123456789"
    assert messages == [{"type": "http.request", "body": b"", "more_body": False}]
    assert answers.count(b"HTTP/1.1 200 ") == 2


async def test_malformed_chunks_end_an_absorption(nursery: trio.Nursery) -> None:
    """It is an error of the connection, as is asking again; without an answer of its own the client gets 400."""
    parts: list[bytes] = []
    failures = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        absorb = scope["extensions"]["sluice.request.absorb"]["absorb"]
        for _ in range(2):
            with pytest.raises(ConnectionError) as caught:
                await absorb(lambda views: parts.extend(map(bytes, views)), idle_s=10)
            failures.append(caught.value)
        assert await receive() == {"type": "http.disconnect"}

    request = PUT.replace(b"Content-Length: 10", b"Transfer-Encoding: chunked") + b"3\r\nabc\r\nnonsense\r\n"
    answer = await answer_to(app, request, nursery)

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert len(failures) == 2


async def test_gen_16_continue_is_said_when_the_body_is_absorbed(nursery: trio.Nursery) -> None:
    """100 goes out before the first wait for the body, once (row GEN-16)."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await scope["extensions"]["sluice.request.absorb"]["absorb"](lambda _: None, idle_s=10)
        await hello(scope, receive, send)

    async with Gateway(app, nursery).connect() as client:
        await client.send_all(PUT[:-2] + b"Expect: 100-continue\r\n\r\n")
        assert await client.receive_some() == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send_all(b"01234")
        await client.send_all(b"56789")
        assert (await client.receive_some()).startswith(b"HTTP/1.1 200 ")


async def test_nothing_is_read_before_the_application_asks(nursery: trio.Nursery) -> None:
    """A sender is held back by TCP while the application does something else."""
    asked = trio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asked.wait()
        while (await receive())["more_body"]:
            pass
        await hello(scope, receive, send)

    async with Gateway(app, nursery).connect() as client:
        size = 32 << 20
        await client.send_all(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size)
        sent = 0
        with trio.move_on_after(0.05):
            while sent < size:
                sent += await client.socket.send(bytes(65536))
        assert sent < size  # both kernel buffers are full, and nobody takes anything out

        asked.set()
        while sent < size:
            sent += await client.socket.send(bytes(min(65536, size - sent)))
        assert (await client.receive_some()).startswith(b"HTTP/1.1 200 ")


async def test_gen_16_continue_is_said_when_the_body_is_asked_for(nursery: trio.Nursery) -> None:
    """100 goes out at the first `receive`, once (row GEN-16)."""
    go_on = trio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await go_on.wait()
        while (await receive())["more_body"]:
            pass
        await hello(scope, receive, send)

    async with Gateway(app, nursery).connect() as client:
        await client.send_all(PUT[:-2] + b"Expect: 100-continue\r\n\r\n")
        with trio.move_on_after(0.02) as early:
            await client.receive_some()
        assert early.cancelled_caught
        go_on.set()
        assert await client.receive_some() == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send_all(b"01234")
        await client.send_all(b"56789")
        rest = await read_until_closed(client)

    assert rest.startswith(b"HTTP/1.1 200 ")
    assert b"100 Continue" not in rest


async def test_gen_16_a_refusal_does_not_ask_for_the_body(nursery: trio.Nursery) -> None:
    """An answer without reading is final, and the connection closes: whether the body comes is anybody's guess."""
    request = PUT.replace(b"Connection: close\r\n", b"Expect: 100-continue\r\n")

    answer = await answer_to(hello, request, nursery)

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close\r\n" in answer.lower()


async def test_waiting_for_the_client_to_leave_ends_with_its_reset(nursery: trio.Nursery) -> None:
    """A half-close is not taken for leaving; a reset is."""
    left = trio.Event()
    waiting = trio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        waiting.set()
        assert await receive() == {"type": "http.disconnect"}
        left.set()

    async with Gateway(app, nursery).connect() as client:
        await client.send_all(GET)
        await waiting.wait()
        await client.send_all(b"GET /pipelined")
        await trio.testing.wait_all_tasks_blocked()
        assert not left.is_set()
        client.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    await left.wait()


@pytest.mark.parametrize("status", [200, 204, 304, 404])
async def test_head_and_empty_statuses_have_no_body(nursery: trio.Nursery, status: int) -> None:
    """Whatever the application sends as body then, nothing of it goes out, and the connection stays usable."""
    method = b"HEAD" if status in {200, 404} else b"GET"

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send(BODY)

    answer = await answer_to(app, GET.replace(b"GET", method, 1) * 2, nursery)

    assert answer.count(b"HTTP/1.1 %d " % status) == 2
    assert b"hello" not in answer


async def test_a_failure_before_the_answer_is_500(nursery: trio.Nursery) -> None:
    """The client gets JSON and no details; also when only the head was announced, since nothing went out yet."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        raise RuntimeError("secret")

    answer = await answer_to(app, GET, nursery)

    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b'"UNAVAILABLE"' in answer
    assert b"secret" not in answer


async def test_what_a_handler_binds_to_its_context_ends_with_it(nursery: trio.Nursery) -> None:
    """Requests on one connection share nothing through context variables."""
    seen: list[str] = []
    who: ContextVar[str] = ContextVar("who", default="nobody")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(who.get())
        who.set("somebody")
        await hello(scope, receive, send)

    await answer_to(app, GET * 3, nursery)

    assert seen == ["nobody"] * 3


async def test_no_answer_at_all_is_500(nursery: trio.Nursery) -> None:
    """An application that returns without a word is a defect, but the client hears of it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        pass

    assert (await answer_to(app, GET, nursery)).startswith(b"HTTP/1.1 500 ")


@pytest.mark.parametrize("sent", [b"he", b"hello!"])
async def test_a_wrong_length_cuts_the_answer(nursery: trio.Nursery, sent: bytes) -> None:
    """Fewer or more bytes than promised: what came cannot be taken for complete."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send({"type": "http.response.body", "body": b"h", "more_body": True})
        await send({"type": "http.response.body", "body": sent[1:]})

    _, _, body = (await answer_to(app, GET, nursery)).partition(b"\r\n\r\n")

    assert len(body) < 5


async def test_an_unframed_answer_is_cut_without_its_last_chunk(nursery: trio.Nursery) -> None:
    """A failure in a chunked answer leaves out the chunk that would end it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello", "more_body": True})
        raise RuntimeError

    answer = await answer_to(app, GET, nursery)

    assert answer.endswith(b"5\r\nhello\r\n")


async def test_an_answer_to_http_1_0_is_cut_by_a_reset(nursery: trio.Nursery) -> None:
    """There the end of the connection would be the end of the answer."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello", "more_body": True})
        raise RuntimeError

    with pytest.raises(trio.BrokenResourceError):
        await answer_to(app, b"GET / HTTP/1.0\r\n\r\n", nursery)


MISTAKES: dict[str, list[dict[str, Any]]] = {
    "body_first": [BODY],
    "two_starts": [START, START],
    "unknown": [{"type": "http.response.zerocopysend"}],
    "header_injection": [{**START, "headers": [(b"a", b"b\r\nc: d")]}],
    "bad_header_name": [{**START, "headers": [(b"a b", b"c")]}],
    "two_lengths": [{**START, "headers": [(b"content-length", b"1"), (b"content-length", b"2")]}],
}


@pytest.mark.parametrize("messages", MISTAKES.values(), ids=MISTAKES.keys())
async def test_an_application_s_mistake_is_500(nursery: trio.Nursery, messages: list[dict[str, Any]]) -> None:
    """Messages out of order and malformed headers never reach the client."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    assert (await answer_to(app, GET, nursery)).startswith(b"HTTP/1.1 500 ")


async def test_a_stalled_reader_ends_the_application(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """H13: sending raises an OSError in the application when the reader takes nothing, and the connection is reset."""
    raised: list[BaseException] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            while True:
                await send({"type": "http.response.body", "body": bytes(1 << 20), "more_body": True})
        except OSError as error:
            raised.append(error)
            raise

    gateway = Gateway(app, nursery)
    async with gateway.connect() as client:
        await client.send_all(GET)
        await trio.sleep(gateway.settings.send_idle_timeout_s + 1)
        assert len(raised) == 1
        assert gateway.census.statistics().stalled_total == 1
        with pytest.raises(trio.BrokenResourceError):
            await read_until_closed(client)


async def test_an_application_s_own_deadline_works_while_sending(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """H13: nothing is shielded, so a handler's timeout ends a send to a stalled reader."""
    ended: list[float] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        with trio.move_on_after(3):
            await send({"type": "http.response.body", "body": bytes(64 << 20), "more_body": True})
        ended.append(trio.current_time())

    async with Gateway(app, nursery).connect() as client:
        await client.send_all(GET)
        await trio.sleep(5)

    assert ended == pytest.approx([3])


async def sends_file(scope: Any, receive: Any, send: Any, *, length: int = 12, more: bool = False) -> None:
    """Sends the middle of a file, perhaps with more behind it."""
    assert scope["extensions"]["http.response.zerocopysend"] == {}
    with tempfile.TemporaryFile() as file:
        file.write(b"0123456789abcdef")
        file.flush()
        headers = [(b"content-length", b"%d" % length)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        span = {"type": "http.response.zerocopysend", "file": file.fileno(), "offset": 2, "count": 12}
        await send(span | {"more_body": more})
        if more:
            await send({"type": "http.response.body", "body": b"xyz"})


async def test_a_part_of_a_file_is_a_body(nursery: trio.Nursery) -> None:
    """The ASGI extension: a span of an open file, alone or with bytes behind it; nothing of it for HEAD."""
    alone = await answer_to(sends_file, GET, nursery)
    more = await answer_to(partial(sends_file, length=15, more=True), GET, nursery)
    head = await answer_to(sends_file, GET.replace(b"GET", b"HEAD"), nursery)

    assert alone.partition(b"\r\n\r\n")[2] == b"23456789abcd"
    assert more.partition(b"\r\n\r\n")[2] == b"23456789abcdxyz"
    assert head.partition(b"\r\n\r\n")[2] == b""
    assert b"content-length: 12\r\n" in head


@pytest.mark.parametrize("length", [11, 13])
async def test_a_file_that_breaks_the_promise_cuts(
    nursery: trio.Nursery, length: int, events: list[structlog.typing.EventDict]
) -> None:
    """More or fewer bytes than the Content-Length says are a defect of the application: logged, and cut."""
    await answer_to(partial(sends_file, length=length), GET + GET, nursery)

    assert [event["event"] for event in events] == ["application_failed"]
