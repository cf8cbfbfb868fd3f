"""Protocol section 1.8 as a machine: sessions used in any order, by anybody, over restarts, against a plain model.

One served process with two workers. After every step each session and each blob is what `upload_model` says, and the
disk holds no staging area but those of open sessions.
"""

import re
import socket
import struct
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import quote

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.people import Login, Place, make_member, make_token
from tests.protocol.upload_model import Answer, Chunk, Model, Piece, Session, digest
from tests.served import ADMIN, Reply, Served, authorization

HOME = Place("common", "docker-hosted")
IMAGES = st.sampled_from(["a", "b/c"])
SIZES = st.sampled_from([0, 0, 1, 2, 700, 70_000, 300_000])
BODIES = st.builds(Piece.of, st.integers(0, 3), SIZES)
CUT_BODIES = st.builds(Piece.of, st.integers(4, 5), st.sampled_from([3, 700, 300_000]))
RANGES = st.sampled_from(
    ["none", "none", "right", "right", "right", "gap", "again", "short", "short", "long", "reversed", "nonsense"]
)
FORMS = st.sampled_from(["{}-{}", "bytes {}-{}/*"])
Sent = tuple[bytes, str, str, bool]  # a body, what is said of its place, in which words, and whether it is chunked
SENT: st.SearchStrategy[Sent] = st.tuples(BODIES, RANGES, FORMS, st.booleans())
ALGORITHMS = st.sampled_from(["sha256", "sha512"])
PICK = st.integers(0, 3)
BEGINNINGS = ["", "", "", "?digest-algorithm=sha256", "?digest-algorithm=sha512"]
BAD_BEGINNINGS = [f"?{bad}" for bad in ("digest-algorithm=md5", "digest-algorithm=", "digest=", "digest=x", "mount=x")]
MALFORMED = ["", "?digest=", "?digest=sha256:zz", f"?digest=md5:{'0' * 32}", f"?digest=sha256:{'A' * 64}"]
CLAIMS = st.sampled_from(["right"] * 6 + ["wrong"] * 2 + MALFORMED)
MOST_OPEN = 4
PATIENCE_S = 10.0


@dataclass(frozen=True)
class House:
    """A served gateway and who may do what in it: two accounts with push, one without."""

    served: Served
    writers: tuple[Login, Login]
    reader: Login
    admin: Login

    @property
    def staging(self) -> Path:
        """Where sessions keep their bytes."""
        return self.served.data / "storages" / "default" / "staging"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A gateway of this module's own, as it is restarted. Secrets in place of passwords, which cost 30 ms each."""
    with Served(tmp_path_factory.mktemp("machine"), arguments=("--workers", "2")) as served:
        writers = [make_member(served, "writer", HOME) for _ in range(2)]
        reader = make_member(served, "reader", HOME)
        first, second, third, admin = (make_token(served, login) for login in (*writers, reader, ADMIN))
        yield House(served, (first, second), third, admin)


class UploadMachine(RuleBasedStateMachine):
    """See the module docstring. Every example has images of its own; stored bytes are shared, as in life."""

    def __init__(self, house: House) -> None:
        super().__init__()
        self.house = house
        self.stem = f"machine/{uuid.uuid4().hex}"
        self.model = Model()
        self.restarts = 0
        self.staged_before = self.staged()

    def staged(self) -> set[str]:
        """Ids of the sessions that have bytes on the disk."""
        return {path.name for path in self.house.staging.iterdir()}

    def teardown(self) -> None:
        """Leave no session to the next example."""
        for session in self.model.open:
            self.ask("DELETE", session)

    # --- how requests are made ------------------------------------------------------------------------------------

    def name(self, image: str, *, short: bool = False) -> str:
        """The image as clients may call it: by its full path, or through the catch-all repository."""
        return f"{self.stem}/{image}" if short else f"{HOME.name}/{self.stem}/{image}"

    def location(self, session: Session, *, short: bool = False) -> str:
        """The session's URL; the path is all there is to know of it."""
        return f"/v2/{self.name(session.image, short=short)}/blobs/uploads/{session.upload_id}"

    def send(self, method: str, path: str, login: Login, chunk: Chunk | None = None, *, chunked: bool = False) -> Reply:
        """One request with a chunk as its body."""
        chunk = chunk or Chunk(b"", None)
        half = len(chunk.body) // 2
        body = iter([part for part in (chunk.body[:half], chunk.body[half:]) if part]) if chunked else chunk.body
        return self.house.served.request(method, path, body, chunk.header, auth=login, chunked=chunked)

    def ask(self, method: str, session: Session, query: str = "") -> Reply:
        """A request without a body by the session's owner."""
        return self.send(method, self.location(session) + query, self.house.writers[session.owner])

    def pick(self, number: int) -> Session:
        """One of the open sessions."""
        return self.model.open[number % len(self.model.open)]

    def opened(self, reply: Reply, image: str, owner: int, *, short: bool = False) -> None:
        """A 202 that opened a session (rows UP-01, UP-02)."""
        check(reply, Answer(202, range="0-0"))
        session = Session(reply.headers["docker-upload-uuid"], image, owner)
        assert str(uuid.UUID(session.upload_id)) == session.upload_id
        assert reply.headers["location"] == self.location(session, short=short)
        assert reply.headers["content-length"] == "0"
        assert session.upload_id not in {each.upload_id for each in (*self.model.open, *self.model.ended)}
        self.model.open.append(session)

    def stored(self, reply: Reply, image: str, claimed: str, *, short: bool = False) -> None:
        """After a 201 the blob is at its Location, byte by byte (rows UP-04, UP-30)."""
        assert reply.headers["location"] == f"/v2/{self.name(image, short=short)}/blobs/{claimed}"
        assert reply.headers["docker-content-digest"] == claimed
        self.fetched(reply.headers["location"], self.model.blobs[image, claimed])

    def fetched(self, path: str, content: bytes) -> None:
        """The blob is these bytes."""
        reply = self.send("GET", path, self.house.writers[0])
        assert (reply.status, reply.body == content) == (200, True), path

    # --- the rules ------------------------------------------------------------------------------------------------

    @initialize()
    def begin_two(self) -> None:
        """Two sessions, of two accounts on two images, to begin with."""
        self.begin("a", 0, "", short=False)
        self.begin("b/c", 1, "", short=True)

    @precondition(lambda self: len(self.model.open) < MOST_OPEN)
    @rule(
        image=IMAGES,
        owner=st.integers(0, 1),
        query=st.sampled_from([*BEGINNINGS, *BAD_BEGINNINGS]),
        short=st.booleans(),
    )
    def begin(self, image: str, owner: int, query: str, *, short: bool) -> None:
        """POST opens a session, unless it asks for what cannot be read or verified (rows UP-01, UP-22, MT-05)."""
        path = f"/v2/{self.name(image, short=short)}/blobs/uploads/{query}"
        reply = self.send("POST", path, self.house.writers[owner])
        if query in BAD_BEGINNINGS:
            check(reply, Answer(400, "DIGEST_INVALID"))
        else:
            self.opened(reply, image, owner, short=short)

    @rule(image=IMAGES, body=BODIES, kind=RANGES, algorithm=ALGORITHMS, honest=st.booleans(), chunked=st.booleans())
    def push_at_once(self, image: str, body: bytes, kind: str, algorithm: str, *, honest: bool, chunked: bool) -> None:
        """POST with digest= and all bytes stores the blob or leaves nothing at all (row UP-05)."""
        claimed = digest(body if honest else body + b"!", algorithm)
        chunk = chunk_of(kind, 0, body)
        path = f"/v2/{self.name(image)}/blobs/uploads/?digest={claimed}"
        reply = self.send("POST", path, self.house.writers[0], chunk, chunked=chunked)
        check(reply, self.model.push_at_once(image, chunk, claimed))
        if reply.status == 201:
            self.stored(reply, image, claimed)

    @precondition(lambda self: len(self.model.open) < MOST_OPEN)
    @rule(
        image=IMAGES,
        source=st.sampled_from(["a", "b/c", "nowhere", None]),
        number=st.integers(0, 5),
        owner=st.integers(0, 1),
    )
    def mount(self, image: str, source: str | None, number: int, owner: int) -> None:
        """POST with mount= links what the source image has, or any without from, and else opens a session (rows MT)."""
        known = sorted(name for _, name in self.model.blobs) or [digest(b"never pushed", "sha256")]
        wanted = known[number % len(known)]
        query = f"mount={wanted}" + (f"&from={quote(self.name(source), safe='')}" if source else "")
        reply = self.send("POST", f"/v2/{self.name(image)}/blobs/uploads/?{query}", self.house.writers[owner])
        if self.model.mount(image, wanted, source):
            check(reply, Answer(201))
            self.stored(reply, image, wanted)
        else:
            self.opened(reply, image, owner)

    @precondition(lambda self: self.model.open)
    @rule(number=PICK, sent=st.lists(SENT, min_size=2, max_size=8), short=st.booleans())
    def append(self, number: int, sent: list[Sent], *, short: bool) -> None:
        """PATCH after PATCH, on any worker: a stream or the next chunk is kept, nothing else (rows UP-06 to UP-12)."""
        self.patch(self.pick(number), sent, short=short)

    def patch(self, session: Session, sent: list[Sent], *, short: bool = False) -> None:
        """One PATCH after the other by the owner."""
        path = self.location(session, short=short)
        for body, kind, form, chunked in sent:
            chunk = chunk_of(kind, len(session.content), body, form)
            reply = self.send("PATCH", path, self.house.writers[session.owner], chunk, chunked=chunked)
            check(reply, self.model.append(session, chunk))
            if reply.status in {202, 416}:
                assert reply.headers["location"] == path
                assert reply.headers["docker-upload-uuid"] == session.upload_id

    @precondition(lambda self: self.model.open)
    @rule(number=PICK, sent=st.lists(SENT, max_size=4), last=SENT, claim=CLAIMS, algorithm=ALGORITHMS)
    def finish(self, number: int, sent: list[Sent], last: Sent, claim: str, algorithm: str) -> None:
        """PUT with a last chunk or none stores what the digest says, and nothing else (rows UP-14 to UP-17, UP-21)."""
        session = self.pick(number)
        self.patch(session, sent)
        body, kind, form, chunked = last
        chunk = chunk_of(kind if body else "none", len(session.content), body, form)
        content = session.content + body + (b"!" if claim == "wrong" else b"")
        claimed = None if claim in MALFORMED else digest(content, algorithm)
        path = self.location(session) + (claim if claimed is None else f"?digest={quote(claimed)}")
        reply = self.send("PUT", path, self.house.writers[session.owner], chunk, chunked=chunked)
        check(reply, self.model.finish(session, chunk, claimed))
        if claimed is not None and reply.status == 201:
            self.stored(reply, session.image, claimed)

    @precondition(lambda self: len(self.model.open) > 1)
    @rule(number=PICK)
    def cancel(self, number: int) -> None:
        """DELETE ends the session (row UP-20)."""
        session = self.pick(number)
        check(self.ask("DELETE", session), self.model.cancel(session))

    @precondition(lambda self: self.model.open)
    @rule(number=PICK, method=st.sampled_from(["GET", "PATCH", "PUT", "DELETE"]))
    def trespass(self, number: int, method: str) -> None:
        """For another account and through another image there is no such session, nor when it is over (row ACC-06)."""
        session = self.pick(number)
        path, owner = self.location(session), self.house.writers[session.owner]
        elsewhere = path.replace(f"{self.stem}/{session.image}/", f"{self.stem}/other/")
        query = f"?digest={digest(session.content, 'sha256')}"
        stolen = Chunk(b"stolen", None)
        unknown = Answer(404, "BLOB_UPLOAD_UNKNOWN")
        check(self.send(method, path + query, self.house.writers[1 - session.owner], stolen), unknown)
        check(self.send(method, elsewhere + query, owner, stolen), unknown)
        check(self.send(method, path + query, self.house.reader, stolen), Answer(401, "UNAUTHORIZED"))
        for ended in self.model.ended[-2:]:
            check(self.ask(method, ended, query), unknown)

    @precondition(lambda self: self.model.blobs)
    @rule(number=st.integers(0, 20))
    def delete_a_blob(self, number: int) -> None:
        """A deleted blob is gone from its image only, and can be pushed there again (rows DL-05, DL-08)."""
        image, name = sorted(self.model.blobs)[number % len(self.model.blobs)]
        reply = self.send("DELETE", f"/v2/{self.name(image)}/blobs/{name}", self.house.admin)
        check(reply, self.model.delete_blob(image, name))

    @precondition(lambda self: self.model.open)
    @rule(
        number=PICK,
        body=CUT_BODIES,
        method=st.sampled_from(["PATCH", "PUT"]),
        how=st.sampled_from(["none", "right", "reset"]),
    )
    def leave_within_the_body(self, number: int, body: bytes, method: str, how: str) -> None:
        """What arrived before a client left stays with the session, and nothing is stored (row UP-18).

        All that was sent arrives, unless the client resets the connection: that may take bytes that are under way.
        """
        session = self.pick(number)
        whole = digest(session.content + body, "sha256")
        kind = "none" if how == "reset" else how
        with self.begun(session, method, body, kind=kind, query=f"?digest={whole}") as client:
            client.sendall(body[:-1])
            if how == "reset":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if how == "reset":
            self.settle(session, body[:-1])
        else:
            session.content += body[:-1]
            check(self.freed(session), Answer(202, range=session.range))
        self.model.refuse(session.image, whole, Answer(0))

    @precondition(lambda self: self.model.open)
    @rule(number=PICK, body=CUT_BODIES, chunked=st.booleans())
    def two_at_once(self, number: int, body: bytes, *, chunked: bool) -> None:
        """While one request feeds a session others are refused and GET tells what was acknowledged (row UP-26)."""
        session = self.pick(number)
        half = len(body) // 2
        parts = [b"%x\r\n%b\r\n" % (len(part), part) if chunked else part for part in (body[:half], body[half:])]
        with self.begun(session, "PATCH", None if chunked else body) as client:
            client.sendall(parts[0])
            for method in ("PATCH", "PUT", "DELETE"):
                query = f"?digest={digest(session.content, 'sha256')}"
                check(self.ask(method, session, query), Answer(409, "BLOB_UPLOAD_INVALID"))
            check(self.ask("GET", session), Answer(204, range=session.range))
            client.sendall(parts[1] + (b"0\r\n\r\n" if chunked else b""))
            assert client.recv(65536).startswith(b"HTTP/1.1 202")
        session.content += body

    @precondition(lambda self: self.restarts == 0)
    @rule(
        sudden=st.sampled_from([True, True, False]),
        busy=st.sampled_from([True, True, False]),
        number=PICK,
        body=CUT_BODIES,
    )
    def restart(self, number: int, body: bytes, *, sudden: bool, busy: bool) -> None:
        """SIGTERM and kill -9 between requests change nothing; within a PATCH only its bytes may be lost (UP-28)."""
        self.restarts += 1
        served = self.house.served
        if sudden and busy and self.model.open:
            self.kill_within(self.pick(number), body)
        elif sudden:
            served.kill()
            served.start()
        else:
            status = served.stop()
            served.start()
            assert status == 0
        for (image, name), content in self.model.blobs.items():
            self.fetched(f"/v2/{self.name(image)}/blobs/{name}", content)

    def kill_within(self, session: Session, body: bytes) -> None:
        """Kill the server when it has written something of a PATCH; what is there after that can be stored as it is."""
        written = self.house.staging / session.upload_id
        with self.begun(session, "PATCH", body) as client:
            client.sendall(body[:-1])
            deadline = time.monotonic() + PATIENCE_S
            while written.stat().st_size <= len(session.content):
                assert time.monotonic() < deadline, "nothing is written"
            self.house.served.kill()
        self.house.served.start()
        self.settle(session, body[:-1])
        claimed = digest(session.content, "sha256")
        check(self.ask("PUT", session, f"?digest={claimed}"), self.model.finish(session, Chunk(b"", None), claimed))

    # --- what holds after every step ------------------------------------------------------------------------------

    @invariant()
    def sessions_are_as_the_model_says(self) -> None:
        """GET knows every open session with its bytes, and the one that ended last no more."""
        for session in self.model.open:
            reply = self.ask("GET", session)
            check(reply, Answer(204, range=session.range))
            assert reply.headers["location"] == self.location(session)
        for session in self.model.ended[-1:]:
            check(self.ask("GET", session), Answer(404, "BLOB_UPLOAD_UNKNOWN"))

    @invariant()
    def blobs_are_as_the_model_says(self) -> None:
        """Each image has what was stored in it, in full length, and nothing that was refused."""
        for (image, name), content in self.model.blobs.items():
            reply = self.send("HEAD", f"/v2/{self.name(image)}/blobs/{name}", self.house.writers[0])
            assert (reply.status, reply.headers["content-length"]) == (200, str(len(content)))
        for image, name in sorted(self.model.absent)[:3]:
            assert self.send("GET", f"/v2/{self.name(image)}/blobs/{name}", self.house.writers[0]).status == 404

    @invariant()
    def nothing_else_is_staged(self) -> None:
        """Only open sessions occupy the disk: what ended, was refused or was pushed at once has left nothing."""
        assert self.staged() - self.staged_before <= {session.upload_id for session in self.model.open}

    # --- requests that do not end ---------------------------------------------------------------------------------

    def begun(
        self, session: Session, method: str, body: bytes | None, *, kind: str = "none", query: str = ""
    ) -> socket.socket:
        """A request whose body the server has begun to wait for, so it holds the session; None is a chunked body."""
        chunk = chunk_of(kind, len(session.content), body or b"")
        framing = {"Transfer-Encoding": "chunked"} if body is None else {"Content-Length": str(len(body))}
        fields = {
            "Host": self.house.served.address,
            "Expect": "100-continue",
            **authorization(self.house.writers[session.owner]),
            **framing,
            **chunk.header,
        }
        head = [f"{method} {self.location(session)}{query} HTTP/1.1", *(f"{key}: {fields[key]}" for key in fields)]
        client = socket.create_connection(("127.0.0.1", self.house.served.port), timeout=PATIENCE_S)
        client.sendall("\r\n".join([*head, "", ""]).encode())
        assert client.recv(1024).startswith(b"HTTP/1.1 100")
        return client

    def freed(self, session: Session) -> Reply:
        """The answer to a PATCH of nothing, once nobody holds the session any more."""
        deadline = time.monotonic() + PATIENCE_S
        while (reply := self.ask("PATCH", session)).status == 409:
            assert time.monotonic() < deadline, "the session stays busy"
        return reply

    def settle(self, session: Session, sent: bytes) -> None:
        """Learn how many of the sent bytes were kept, once nobody holds the session any more."""
        reported = re.fullmatch(r"0-(\d+)", self.freed(session).headers["range"])
        assert reported is not None
        kept = int(reported[1]) + 1
        if kept == 1:  # or nothing: Range cannot tell (row UP-07), but a chunk at 0 can
            first = Chunk((session.content + sent)[:1], (0, 0))
            reply = self.send("PATCH", self.location(session), self.house.writers[session.owner], first)
            assert reply.status in {202, 416}
        assert len(session.content) <= kept <= len(session.content) + len(sent)
        session.content += sent[: kept - len(session.content)]


def chunk_of(kind: str, offset: int, body: bytes, form: str = "{}-{}") -> Chunk:
    """A chunk for a session of `offset` bytes that is right, or wrong in the one way that `kind` says."""
    last = offset + len(body) - 1
    said: dict[str, tuple[int, int] | str | None] = {
        "none": None,
        "right": (offset, last),
        "gap": (offset + 7, last + 7),
        "again": (0, len(body) - 1),
        "short": (offset, last + 3),
        "long": (offset, max(last - 1, offset)),
        "reversed": (last + 2, offset),
        "nonsense": "bytes some-more",
    }
    return Chunk(body, said[kind], form)


def check(reply: Reply, expected: Answer) -> None:
    """The answer is what the model expects."""
    codes = [expected.code] if expected.code else None
    assert (reply.status, reply.codes() if expected.code else None) == (expected.status, codes), reply
    if expected.range is not None:
        assert reply.headers["range"] == expected.range


@pytest.mark.slow
@pytest.mark.timeout(600)  # half a minute, but finding the shortest failing example takes longer
def test_up_sessions_agree_with_the_model(house: House) -> None:
    """Whatever is done to upload sessions, in whatever order, they and the blobs are what the model says."""
    run_state_machine_as_test(
        partial(UploadMachine, house),  # type: ignore[arg-type]  # any factory will do, its documentation says
        settings=hypothesis.settings(
            max_examples=5,
            stateful_step_count=50,
            phases=[phase for phase in hypothesis.Phase if phase is not hypothesis.Phase.explain],
            suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large],
        ),
    )
