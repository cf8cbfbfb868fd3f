"""A small client of the registry API, for commands that pull as anybody does. Blocks; call it in threads.

One connection per request, as commands make few. The password goes to the registry's own address and to a token realm
there, to nobody else; where it redirects, it is not sent along.
"""

import base64
import json
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Final
from urllib.parse import SplitResult, urlencode, urljoin, urlsplit

from gateway.oci import manifest, media_types
from gateway.oci.errors import RegistryError
from gateway.oci.manifest import Manifest
from gateway.oci.names import Reference
from gateway.upstream.challenge import Challenge, challenges_of, choose
from storage import Digest

# A blob that has to come first gives its last byte when it is whole; what stands between may give up sooner.
_PATIENCE_S: Final = 300.0
_TRIES: Final = 12
_REDIRECTS: Final = 5
_MAX_DOCUMENT_BYTES: Final = 8 << 20
_CHUNK_BYTES: Final = 256 * 1024
_MAX_MESSAGE_CHARS: Final = 200
_INDEXES: Final = f"{media_types.OCI_INDEX}, {media_types.DOCKER_LIST}"
_ACCEPT: Final = f"{_INDEXES}, {media_types.OCI_MANIFEST}, {media_types.DOCKER_MANIFEST}"


class PullFailed(Exception):
    """Something could not be pulled; the message says what the registry said, without secrets."""


@dataclass(frozen=True, slots=True)
class Login:
    """A user and a password."""

    user: str
    password: str = field(repr=False)

    @property
    def basic(self) -> str:
        """As the value of an Authorization field."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    content: bytes


class RegistryClient:
    """Of one registry, for any number of threads."""

    def __init__(self, url: str, *, login: Login | None = None, tls: ssl.SSLContext | None = None) -> None:
        """`url`: `http://HOST[:PORT][/PATH]` or https; `tls`: whom to believe, by default whom the machine does."""
        self._home = urlsplit(url.rstrip("/"))
        self._login = login
        self._tls = tls or ssl.create_default_context()
        self._lock = threading.Lock()
        self._tokens: dict[str, str] = {}

    def manifest(self, name: str, reference: Reference) -> Manifest:
        """The manifest or index, with the digest that was asked for. Raises `PullFailed`."""
        what = f"{name}{'@' if isinstance(reference, Digest) else ':'}{reference}"
        answer = self._get(name, f"manifests/{reference}", {"Accept": _ACCEPT})
        if answer.status != HTTPStatus.OK:
            raise PullFailed(f"{what}: {self._refusal(answer)}")
        if isinstance(reference, Digest) and Digest.of(answer.content, reference.algorithm) != reference:
            raise PullFailed(f"{what}: the manifest has another digest")
        try:
            return manifest.parse(answer.content, answer.headers.get("content-type"))
        except RegistryError as error:
            raise PullFailed(f"{what}: {error}") from error

    def ready_blob(self, name: str, digest: Digest, size_bytes: int) -> None:
        """Have the registry hold the whole blob: its last byte is given when all were verified. Raises `PullFailed`."""
        wanted = {"Range": "bytes=-1"} if size_bytes else {}
        answer = _Answer(0, {}, b"")
        for _ in range(_TRIES):  # the registry goes on fetching while something on the way gives up
            answer = self._get(name, f"blobs/{digest}", wanted, method="GET" if size_bytes else "HEAD")
            if answer.status in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
                return
            if answer.status != HTTPStatus.GATEWAY_TIMEOUT:
                break
        raise PullFailed(f"{name}@{digest}: {self._refusal(answer)}")

    def _refusal(self, answer: _Answer) -> str:
        """What the registry says, and what to do where it wants to know who asks."""
        is_unknown = self._login is None and answer.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
        return f"{_complaint(answer)}{'; name a user with --user' if is_unknown else ''}"

    # --- requests -------------------------------------------------------------------------------------------------

    def _get(self, name: str, path: str, headers: Mapping[str, str], *, method: str = "GET") -> _Answer:
        url = f"{self._home.geturl()}/v2/{name}/{path}"
        scope = f"repository:{name}:pull"
        with self._lock:
            authorization = self._tokens.get(scope)
        answer = self._follow(method, url, headers, authorization)
        if answer.status == HTTPStatus.UNAUTHORIZED:
            authorization = self._authorize(answer, scope)
            answer = self._follow(method, url, headers, authorization)
        return answer

    def _authorize(self, refused: _Answer, scope: str) -> str:
        """What the challenge asks for, kept for the next request."""
        challenge = choose(challenges_of([("www-authenticate", refused.headers.get("www-authenticate", ""))]))
        if challenge is not None and challenge.scheme == "bearer":
            value = f"Bearer {self._token(challenge, scope)}"
        elif self._login is not None:
            value = self._login.basic
        else:
            raise PullFailed("the registry wants a login: name a user with --user")
        with self._lock:
            self._tokens[scope] = value
        return value

    def _token(self, challenge: Challenge, scope: str) -> str:
        realm = urlsplit(challenge.parameter("realm"))
        if (realm.scheme, realm.netloc) != (self._home.scheme, self._home.netloc):
            raise PullFailed(f"the registry sends logins to {realm.scheme}://{realm.netloc}, which is not asked for")
        query = urlencode({"service": challenge.parameter("service"), "scope": scope})
        url = f"{realm.scheme}://{realm.netloc}{realm.path}?{query}"
        answer = self._follow("GET", url, {}, self._login.basic if self._login else None)
        if answer.status != HTTPStatus.OK:
            raise PullFailed(f"the login failed: {_complaint(answer)}")
        try:
            document = json.loads(answer.content)
            return str(document.get("token") or document["access_token"])
        except (ValueError, KeyError, AttributeError) as error:
            raise PullFailed("the login failed: the answer holds no token") from error

    def _follow(self, method: str, url: str, headers: Mapping[str, str], authorization: str | None) -> _Answer:
        for _ in range(_REDIRECTS + 1):
            target = urlsplit(url)
            is_home = (target.scheme, target.netloc) == (self._home.scheme, self._home.netloc)
            sent = {**headers, "Authorization": authorization} if authorization and is_home else dict(headers)
            answer = self._ask(method, target, sent)
            location = answer.headers.get("location")
            if answer.status not in {301, 302, 303, 307, 308} or not location:
                return answer
            url = urljoin(url, location)
        raise PullFailed("the registry redirects without an end")

    def _ask(self, method: str, target: SplitResult, headers: Mapping[str, str]) -> _Answer:
        if target.hostname is None or target.scheme not in {"http", "https"}:
            raise PullFailed(f"the registry redirects to what is no address: {target.scheme}://{target.netloc}")
        connection: HTTPConnection
        if target.scheme == "https":
            connection = HTTPSConnection(target.hostname, target.port, timeout=_PATIENCE_S, context=self._tls)
        else:
            connection = HTTPConnection(target.hostname, target.port, timeout=_PATIENCE_S)
        path = (target.path or "/") + (f"?{target.query}" if target.query else "")
        try:
            connection.request(method, path, headers={**headers, "User-Agent": "sluice-warm"})
            with connection.getresponse() as response:
                return _Answer(response.status, _fields(response), _read(response))
        except TimeoutError:
            return _Answer(HTTPStatus.GATEWAY_TIMEOUT, {}, b"")
        except (OSError, HTTPException) as error:
            raise PullFailed(f"{target.scheme}://{target.netloc}: {error}") from error
        finally:
            connection.close()


def _fields(response: HTTPResponse) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in response.getheaders():
        found[name.lower()] = f"{found[name.lower()]}, {value}" if name.lower() in found else value
    return found


def _read(response: HTTPResponse) -> bytes:
    """The body, of which nothing larger than a manifest is kept."""
    kept = bytearray()
    while chunk := response.read(_CHUNK_BYTES):
        if len(kept) <= _MAX_DOCUMENT_BYTES:
            kept += chunk
    return bytes(kept[:_MAX_DOCUMENT_BYTES])


def _complaint(answer: _Answer) -> str:
    """What the registry says, on one line."""
    try:
        message = str(json.loads(answer.content)["errors"][0]["message"])
    except (ValueError, LookupError, TypeError):
        message = "no reason given"
    text = "".join(each if each.isprintable() else " " for each in message[:_MAX_MESSAGE_CHARS])
    return f"{answer.status} {text}"
