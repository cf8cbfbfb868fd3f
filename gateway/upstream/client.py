"""Small requests by asks, behind one strict door: the only file that knows asks, and anyio beneath it.

asks is used for what it does well, one request on one connection; everything else is taken out of its hands
(docs/decisions/0015-upstream-client.md has its defects, each with what is done here): no redirects, no retries, no
cookies, no content coding, no kept connections, addresses checked by the caller's hook, certificates by the name, the
body bounded as it comes, a deadline for the whole, and one family of errors.

Must not know: registries, credentials, redirects.
"""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import trio

# The trio back end of anyio 3 has `trio.MultiError` as a base class, which trio no longer has. Nothing raises this one.
vars(trio).setdefault("MultiError", type("MultiError", (BaseException,), {}))

import anyio  # noqa: E402  # after the name that it wants
import asks  # noqa: E402
from asks.errors import BadHttpResponse, RequestTimeout  # noqa: E402

from gateway.upstream.errors import (  # noqa: E402
    NAME_ITS_AUTHORITY,
    UpstreamError,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamSlow,
)
from storage.transfer import Origin, Resolve, try_each  # noqa: E402

CONNECTIONS: Final = 16
"""Open at once for one upstream; more requests wait for their turn, for another `TURN_S` at most."""
TURN_S: Final = 30.0
"""Behind a silent upstream hundreds may wait, each round for a whole deadline: they are told so, not kept for hours."""
_ERROR_BYTES: Final = 256 * 1024
"""What may come with a status that tells of trouble, however small the wanted document is."""


class Unreadable(UpstreamFailed):
    """asks makes no sense of the answer, which may still be sound: interim answers confuse it, for example."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer, whatever its status. `headers` in order, names in lower case."""

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes = field(repr=False)

    def header(self, name: str, default: str = "") -> str:
        """The first field of this name, in lower case."""
        return next((value for each, value in self.headers if each == name), default)


class ControlClient:
    """For any origins. Keeps no connection, so there is nothing to close.

    `answer_s`: for one request after it has its turn, everything included; `connect_s`: for name, TCP and TLS.
    """

    def __init__(self, resolve: Resolve, *, tls: ssl.SSLContext, connect_s: float, answer_s: float) -> None:
        self._session = _Session(resolve, tls)
        self._turns = trio.Semaphore(CONNECTIONS)
        self._connect_s = connect_s
        self._answer_s = answer_s

    async def ask(
        self, method: str, origin: Origin, target: str, headers: Sequence[tuple[str, str]], *, limit_bytes: int
    ) -> Answer:
        """One request without a body, and its whole answer; redirects are answers, too. Cancelled, nothing stays open.

        Raises `UpstreamFailed` (also `Unreadable`), `UpstreamSlow`, and `UpstreamRefused` for a body of more than
        `limit_bytes` (or 256 KiB, where that is more and the status is no success) and for addresses not allowed.
        """
        body = _Body(max(limit_bytes, _ERROR_BYTES), origin)
        with trio.move_on_after(TURN_S) as waiting:
            await self._turns.acquire()
        if waiting.cancelled_caught:
            raise UpstreamSlow(f"{origin} has not answered those who asked before for {TURN_S:g} s")
        try:
            with trio.move_on_after(self._answer_s) as scope:
                response = await self._ask(method, origin, target, headers, body)
        finally:
            self._turns.release()
        if scope.cancelled_caught:
            raise UpstreamSlow(f"{origin} did not answer within {self._answer_s:g} s")
        answer = Answer(response.status_code, tuple(_fields(response.headers)), bytes(body.content))
        if answer.status < 300 and len(answer.body) > limit_bytes:  # noqa: PLR2004  # a success
            raise body.too_large(limit_bytes)
        return answer

    async def _ask(
        self, method: str, origin: Origin, target: str, headers: Sequence[tuple[str, str]], body: "_Body"
    ) -> Any:
        try:
            return await self._session.request(
                method,
                f"{origin}{target}",
                headers=_joined([("Host", origin.authority), ("Accept-Encoding", "identity"), *headers]),
                callback=body.add,
                follow_redirects=False,
                retries=0,
                connection_timeout=self._connect_s,
            )
        except UpstreamError:
            raise
        except (RequestTimeout, trio.TooSlowError) as error:
            raise UpstreamSlow(f"no connection to {origin} within {self._connect_s:g} s") from error
        except ssl.SSLCertVerificationError as error:
            message = f"the certificate of {origin} is not accepted: {error.verify_message}; {NAME_ITS_AUTHORITY}"
            raise UpstreamFailed(message) from error
        except (OSError, anyio.BrokenResourceError, anyio.EndOfStream, anyio.ClosedResourceError) as error:
            raise UpstreamFailed(f"the connection to {origin} failed: {error.__cause__ or error}") from error
        except BadHttpResponse as error:
            if isinstance(error.__cause__, AssertionError):  # of its own: it expected another kind of answer
                raise Unreadable(f"the answer of {origin} is not understood") from error
            raise UpstreamFailed(f"the answer of {origin} is cut off, or no HTTP") from error
        except Exception as error:  # asks lets out whatever its parsing meets
            raise Unreadable(f"the answer of {origin} is not understood") from error


class _Body:
    """Collects a body as it comes, up to a bound."""

    def __init__(self, limit_bytes: int, origin: Origin) -> None:
        self.content = bytearray()
        self._limit_bytes = limit_bytes
        self._origin = origin

    async def add(self, chunk: bytes) -> None:
        """Take the next chunk; raises `UpstreamRefused` when it is too much."""
        if len(self.content) + len(chunk) > self._limit_bytes:
            raise self.too_large(self._limit_bytes)
        self.content += chunk

    def too_large(self, limit_bytes: int) -> UpstreamRefused:
        """To be raised."""
        return UpstreamRefused(f"the document of {self._origin} is larger than {limit_bytes} bytes")


class _Session(asks.Session):  # type: ignore[misc]  # it has no types
    """Connects where it is told, and believes certificates for the name that was asked for."""

    def __init__(self, resolve: Resolve, tls: ssl.SSLContext) -> None:
        super().__init__(connections=CONNECTIONS, ssl_context=tls)
        self._resolve = resolve

    async def _open_connection_http(self, location: tuple[str, int]) -> Any:
        return await self._open("http", *location)

    async def _open_connection_https(self, location: tuple[str, int]) -> Any:
        return await self._open("https", *location)

    async def _open(self, scheme: str, host: str, port: int) -> Any:
        tls = {"tls_hostname": host, "ssl_context": self.ssl_context, "tls_standard_compatible": False}

        async def open_to(address: str) -> Any:
            return await anyio.connect_tcp(address, port, **(tls if scheme == "https" else {}))

        stream: Any = await try_each(await self._resolve(Origin(scheme, host, port)), open_to)
        stream._active = True  # noqa: SLF001  # its pool's mark, which its own methods set as well
        return stream


def _joined(headers: Sequence[tuple[str, str]]) -> dict[str, str]:
    """As asks takes them: repeated fields in one, which means the same (RFC 9110, 5.3)."""
    joined: dict[str, str] = {}
    for name, value in headers:
        joined[name] = f"{joined[name]}, {value}" if name in joined else value
    return joined


def _fields(headers: Any) -> list[tuple[str, str]]:
    """The fields, of which asks keeps the last of those repeated, and all of Set-Cookie in a list."""
    return [(str(name).lower(), value) for name, value in headers.items() if isinstance(value, str)]
