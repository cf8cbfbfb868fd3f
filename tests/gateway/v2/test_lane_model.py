"""Pushes, deletions, moves, grants, revocations, expiry, damage and re-creation in any order, over two processes.

After each act both gateways are asked what they may remember, and each answer of a lane is compared with that of its
own application at that instant. There must be no difference, ever.
"""

import base64
import json
import random
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from gateway.v2 import lane
from storage import Digest
from tests.gateway.access.house import START
from tests.gateway.v2.lane_gateway import LaneGateway, OtherProcess
from tests.gateway.v2.told_late import ToldLate
from tests.served import OCI_MANIFEST, image_manifest
from tests.trio_thread import TrioThread

# Few of everything, so that acts meet what is remembered.
BLOBS = [b"config", b"layer" * 20_000, b""]
MANIFESTS = [image_manifest(BLOBS[0]), image_manifest(BLOBS[0], BLOBS[1])]
REPOSITORIES = ["team/private", "team/public"]
NAMES = ["team/private/app", "team/public/app", "short/app"]
TAGS = ["latest", "v1"]
USERS = ["rita", "will"]
VARIANTS: list[tuple[str, list[list[str]]]] = [
    ("GET", []),
    ("HEAD", []),
    ("GET", [["range", "bytes=1-3"]]),
    ("GET", [["range", "bytes=0-1,3-4"]]),
    ("GET", [["range", "bytes=9999999-"]]),
    ("HEAD", [["range", "bytes=1-3"]]),
    ("GET", [["if-none-match", "*"]]),
    ("GET", [["if-none-match", '"x"'], ["if-none-match", f'W/"{Digest.of(BLOBS[1])}"']]),
    ("GET", [["range", "bytes=1-3"], ["if-range", f'"{Digest.of(BLOBS[1])}"']]),
    ("GET", [["accept", OCI_MANIFEST]]),
    ("GET", [["accept", "application/vnd.docker.distribution.manifest.v2+json"]]),
    ("GET", [["x-forwarded-for", "198.51.100.1"]]),
]
TARGETS = [
    *(f"/v2/{name}/manifests/{tag}" for name in NAMES for tag in TAGS),
    *(f"/v2/{name}/manifests/{Digest.of(content)}" for name in NAMES for content in MANIFESTS),
    *(f"/v2/{name}/blobs/{Digest.of(content)}" for name in NAMES for content in BLOBS),
]

Question = tuple[str, list[list[str]]]
"""A target, and the fields of who asks for it."""
_GRANTED = {200, 206, 304}
_KNOWN = 24

a_gateway = st.integers(0, 1)
a_name = st.sampled_from(NAMES)
a_repository = st.sampled_from(REPOSITORIES)
a_tag = st.sampled_from(TAGS)
a_user = st.sampled_from(USERS)
a_blob = st.integers(0, len(BLOBS) - 1)
a_manifest = st.integers(0, len(MANIFESTS) - 1)
a_place = st.integers(0, 9)
a_switch = st.booleans()


class Differs(Exception):
    """A lane gave what its application would not have given."""


class Machine(RuleBasedStateMachine):
    """Two gateways on one data directory: one in this process, one in another."""

    other: OtherProcess
    template: Path
    asked_per_act = 14
    names: Sequence[str] = NAMES
    targets: Sequence[str] = TARGETS

    def __init__(self) -> None:
        super().__init__()
        self.trio = TrioThread()
        self.directory = Path(tempfile.mkdtemp())
        self.mine = LaneGateway()
        self.chance = random.Random()
        self.known: list[Question] = []
        self.now = START
        self.admin = ""
        self.secrets: dict[str, tuple[int, str]] = {}
        self.tokens: list[str] = []
        self.hits = 0

    def teardown(self) -> None:
        """Close both."""
        for number in (0, 1):
            self.perform(number, {"do": "close"})
        self.trio.close()
        shutil.rmtree(self.directory)

    # --- speaking -------------------------------------------------------------------------------------------------

    def perform(self, gateway: int, command: dict[str, Any]) -> Any:
        """A command for one of the two."""
        return self.trio.run((self.other if gateway else self.mine).perform, command)

    def ask(self, gateway: int, method: str, target: str, body: bytes = b"", *, kind: str = "") -> Any:
        """A request as the administrator; the document, or the status where there is none."""
        fields = [["authorization", self.admin], *([["content-type", kind]] if kind else [])]
        content = base64.b64encode(body).decode()
        command = {"do": "request", "method": method, "target": target, "fields": fields, "body": content}
        status, _, text = self.perform(gateway, command)
        assert status < 500, (method, target, status, text)
        return json.loads(text) if text.startswith("{") else {"status": status}

    def api(self, gateway: int, method: str, path: str, value: object = None) -> Any:
        """A call of the management API, which may well be refused."""
        body = b"" if value is None else json.dumps(value).encode()
        return self.ask(gateway, method, f"/api/v1/{path}", body, kind="" if value is None else "application/json")

    def compare(self) -> None:
        """Ask both gateways some of what there is to ask, as anybody, and what they answered lately."""
        questions = [self.chance.choice(self.known) for _ in range(self.asked_per_act // 2) if self.known]
        callers = [[["authorization", each]] for each in (self.admin, *self._logins(), *self.tokens)] + [[]]
        while len(questions) < self.asked_per_act:
            questions.append((self.chance.choice(self.targets), self.chance.choice(callers)))
        self.compare_all(questions)

    def compare_all(self, questions: list[Question]) -> None:
        """Ask both gateways these, in some variant each."""
        requests = []
        for target, caller in questions:
            method, wishes = self.chance.choice(VARIANTS)
            requests.append((method, target, caller + wishes))
        self.hits = 0
        for number in (0, 1):
            outcomes, hits = self.perform(number, {"do": "compare", "requests": requests})
            differences = [difference for _, difference in outcomes if difference is not None]
            if differences:
                raise Differs("\n".join(differences))
            self.hits += hits
            granted = [each for each, (status, _) in zip(questions, outcomes, strict=True) if status in _GRANTED]
            self.known = [*granted, *(each for each in self.known if each not in granted)][:_KNOWN]

    def _logins(self) -> Iterator[str]:
        for name, (_, secret) in self.secrets.items():
            yield "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()
            yield f"Bearer {secret}"

    # --- the beginning --------------------------------------------------------------------------------------------

    @initialize(seed=st.integers(0, 1 << 30))
    def furnish(self, seed: int) -> None:
        """Two repositories with an image each, a user who reads, a robot with a key; some of it is remembered."""
        self.chance = random.Random(seed)
        data = self.directory / "data"
        data.mkdir()
        shutil.copy(self.template, data / "sluice.db")
        self.admin = self.perform(0, {"do": "open", "data": str(data)})
        self.perform(1, {"do": "open", "data": str(data)})
        for number in (0, 1):
            self.perform(number, {"do": "time", "now": self.now})
        self.api(0, "POST", "projects", {"name": "team"})
        for repository in REPOSITORIES:
            self._make(repository)
        for user in USERS:
            self.api(0, "POST", "users", {"name": user})
        self.grant(0, USERS[0], REPOSITORIES[0], given=True)
        self.api(0, "POST", "robots", {"name": "sa$ci"})
        self.new_robot_key(0)
        for user in USERS:
            self._new_secret(user)
        for name in NAMES[:2]:
            self.push(0, name, TAGS[0], 1)
        self.token(0, 0)
        self.token(0, 1)
        self.furnish_more()
        self.compare()
        self.compare()

    def furnish_more(self) -> None:
        """What else there is, in machines that have more."""

    def _make(self, repository: str) -> None:
        project, _, name = repository.partition("/")
        settings = {"anonymous_read": name == "public", "flat_alias_prefix": "short" if name == "private" else None}
        self.api(0, "POST", "repos", {"project": project, "name": name, **settings})

    def _new_secret(self, user: str) -> None:
        made = self.perform(0, {"do": "personal_token", "account": user})
        self.secrets[user] = (made[0], made[1])

    # --- acts -----------------------------------------------------------------------------------------------------

    @rule(at=a_gateway, name=a_name, tag=a_tag, number=a_manifest)
    def push(self, at: int, name: str, tag: str, number: int) -> None:
        """Push an image: blobs, then the manifest under a tag, which may move it."""
        for content in (BLOBS[0], BLOBS[1])[: number + 1]:
            self.push_blob(at, name, BLOBS.index(content))
        self.ask(at, "PUT", f"/v2/{name}/manifests/{tag}", MANIFESTS[number], kind=OCI_MANIFEST)

    @rule(at=a_gateway, name=a_name, number=a_blob)
    def push_blob(self, at: int, name: str, number: int) -> None:
        """Push a blob; heals it if it was damaged."""
        self.ask(at, "POST", f"/v2/{name}/blobs/uploads/?digest={Digest.of(BLOBS[number])}", BLOBS[number])

    @rule(at=a_gateway, name=a_name, tag=a_tag)
    def delete_tag(self, at: int, name: str, tag: str) -> None:
        """Delete a tag."""
        self.ask(at, "DELETE", f"/v2/{name}/manifests/{tag}")
        self.compare()

    @rule(at=a_gateway, name=a_name, number=a_manifest)
    def delete_manifest(self, at: int, name: str, number: int) -> None:
        """Delete a manifest with its tags."""
        self.ask(at, "DELETE", f"/v2/{name}/manifests/{Digest.of(MANIFESTS[number])}")
        self.compare()

    @rule(at=a_gateway, name=a_name, number=a_blob)
    def delete_blob(self, at: int, name: str, number: int) -> None:
        """Take an image's link to a blob away."""
        self.ask(at, "DELETE", f"/v2/{name}/blobs/{Digest.of(BLOBS[number])}")
        self.compare()

    @rule(at=a_gateway, user=a_user, repository=a_repository, given=a_switch)
    def grant(self, at: int, user: str, repository: str, *, given: bool) -> None:
        """Give a role, or take it away."""
        if given:
            self.api(at, "PUT", f"repos/{repository}/grants/{user}", {"role": "reader"})
        else:
            self.api(at, "DELETE", f"repos/{repository}/grants/{user}")

    @rule(at=a_gateway, user=a_user, enabled=a_switch)
    def enable(self, at: int, user: str, *, enabled: bool) -> None:
        """Enable or disable an account."""
        self.api(at, "PATCH", f"users/{user}", {"is_enabled": enabled})

    @rule(at=a_gateway, user=a_user)
    def revoke_secret(self, at: int, user: str) -> None:
        """Delete a personal token."""
        self.api(at, "DELETE", f"tokens/{self.secrets[user][0]}")

    @rule(user=a_user)
    def new_secret(self, user: str) -> None:
        """Make another one."""
        self._new_secret(user)

    @rule(at=a_gateway)
    def new_robot_key(self, at: int) -> None:
        """Give the robot another key; it reads the private repository."""
        made = self.api(at, "POST", "robots/sa$ci/keys", {"label": "k"})
        self.api(at, "PUT", f"repos/{REPOSITORIES[0]}/grants/sa$ci", {"role": "reader"})
        if "secret" in made:
            self.secrets["sa$ci"] = (made["id"], made["secret"])

    @rule(at=a_gateway)
    def revoke_robot_key(self, at: int) -> None:
        """Delete the robot's key."""
        self.api(at, "DELETE", f"robots/sa$ci/keys/{self.secrets['sa$ci'][0]}")

    @rule(at=a_gateway, repository=a_repository, public=a_switch)
    def publish(self, at: int, repository: str, *, public: bool) -> None:
        """Open a repository to everybody, or close it."""
        self.api(at, "PATCH", f"repos/{repository}", {"anonymous_read": public})

    @rule(at=a_gateway, repository=a_repository, immutable=a_switch)
    def protect(self, at: int, repository: str, *, immutable: bool) -> None:
        """Make tags immutable, or free again."""
        self.api(at, "PATCH", f"repos/{repository}", {"immutable_tags": ["v*"] if immutable else []})

    @rule(at=a_gateway, given=a_switch)
    def alias(self, at: int, *, given: bool) -> None:
        """Let the short name lead to the private repository, or nowhere."""
        self.api(at, "PATCH", f"repos/{REPOSITORIES[0]}", {"flat_alias_prefix": "short" if given else None})

    @rule(at=a_gateway, repository=a_repository, tag=a_tag, number=a_manifest)
    def make_again(self, at: int, repository: str, tag: str, number: int) -> None:
        """Delete a repository with all that is in it, and make and fill another of the same name."""
        self.api(at, "DELETE", f"repos/{repository}")
        self.compare()
        self._make(repository)
        self.push(1 - at, f"{repository}/app", tag, number)

    @rule(at=a_gateway, place=a_place)
    def token(self, at: int, place: int) -> None:
        """Get a registry token for all images, as anybody."""
        logins = [self.admin, *(each for each in self._logins() if each.startswith("Basic")), ""]
        login = logins[place % len(logins)]
        scopes = "&".join(f"scope=repository:{name}:pull" for name in self.names)
        command = {"do": "request", "method": "GET", "target": f"/v2/token?service=sluice&{scopes}"}
        fields = [["authorization", login]] if login else []
        status, _, text = self.perform(at, {**command, "fields": fields})
        if status == 200:
            self.tokens = [f"Bearer {json.loads(text)['token']}", *self.tokens[:2]]

    @rule(seconds=st.sampled_from([29, 31, 240, 331, 50_000]))
    def wait(self, seconds: int) -> None:
        """Time passes: tokens live 300 s and 30 s more."""
        self.now += seconds
        for number in (0, 1):
            self.perform(number, {"do": "time", "now": self.now})

    @rule(at=a_gateway, user=a_user, seconds=st.sampled_from([0, 100, None]))
    def expire(self, at: int, user: str, seconds: int | None) -> None:
        """An account gets an end, or none."""
        self.perform(at, {"do": "expire", "account": user, "at": None if seconds is None else self.now + seconds})

    @rule(at=a_gateway, number=a_blob)
    def damage(self, at: int, number: int) -> None:
        """A blob is found damaged."""
        self.perform(at, {"do": "damage", "digest": str(Digest.of(BLOBS[number]))})
        self.compare()

    @rule(at=a_gateway, what=st.sampled_from(["sweep", "flush", "refresh_keys"]))
    def maintain(self, at: int, what: str) -> None:
        """What jobs do."""
        self.perform(at, {"do": what})

    @rule(at=a_gateway, place=a_place)
    def token_ends(self, at: int, place: int) -> None:
        """Somebody gets a token and uses it to its last second and beyond."""
        self.token(at, place)
        self.use(self.tokens[0])
        self.wait(329)
        self.use(self.tokens[0])
        self.wait(1)
        self.use(self.tokens[0])

    @rule(at=a_gateway, place=a_place)
    def keys_end(self, at: int, place: int) -> None:
        """All signing keys go; each process hears of it at its own time."""
        self.token(at, place)
        self.perform(at, {"do": "withdraw_keys"})
        self.use(self.tokens[0])
        for number in (at, 1 - at):
            self.perform(number, {"do": "refresh_keys"})
            self.use(self.tokens[0])

    def use(self, authorization: str) -> None:
        """Ask with this for what somebody got lately, twice, so that it is remembered."""
        for _ in range(2):
            self.compare_all([(target, [["authorization", authorization]]) for target, _ in self.known[:4]])

    @invariant()
    def replays_what_the_application_says(self) -> None:
        """Whatever was done, the two ways give the same."""
        self.compare()


class LateMachine(Machine):
    """The same, where the first gateway hears of the other's acts only when it is told, and its database goes away.

    By tag it may never differ. By digest not once it has heard, and not while the database is away if nothing
    happened meanwhile, whatever the time; then its lane goes on answering.
    """

    told: ToldLate
    is_behind = False
    outages = 0

    def perform(self, gateway: int, command: dict[str, Any]) -> Any:
        """Own commits are heard of at once; those of the other not yet."""
        if gateway == 0 and command["do"] == "open":
            self.told = self.trio.run(self.mine.open_told_late, Path(command["data"]))
            return self.mine.registry.admin
        result = super().perform(gateway, command)
        if command["do"] not in {"compare", "close", "time"}:
            self.is_behind = gateway == 1
            if gateway == 0:
                self.told.hear()
        return result

    def compare_all(self, questions: list[Question]) -> None:
        """Behind: by tag only. Then away, if that may not matter; then with all heard."""
        if self.is_behind:
            super().compare_all([(target, fields) for target, fields in questions if ":" not in target])
        else:
            self.told.silent_s = 10.0
            self.mine.registry.services.pulse.is_away = True
            super().compare_all(questions)
            self.told.silent_s = None
            self.outages = self.mine.registry.services.lane.statistics().outage
        self.told.hear()
        self.is_behind = False
        super().compare_all(questions)
        self.hits = self.outages  # what `check` counts: here, what was answered while the database was away


def check(machine: type[Machine], other: OtherProcess, template: Path, *, examples: int, steps: int) -> int:
    """Run the machine so many times; gives how often the lanes answered."""
    hits = 0

    class Prepared(machine):  # type: ignore[misc, valid-type]  # a class as a parameter
        def teardown(self) -> None:
            """Count, and close."""
            nonlocal hits
            hits += self.hits
            super().teardown()

    Prepared.other = other
    Prepared.template = template
    profile = settings(
        max_examples=examples,
        stateful_step_count=steps,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
    )
    run_state_machine_as_test(Prepared, settings=profile)
    return hits


@pytest.fixture(scope="module")
def other() -> Iterator[OtherProcess]:
    """The other process, for all examples."""
    with OtherProcess.started() as started:
        yield started


@pytest.mark.slow
def test_a_lane_answers_as_its_application_does(other: OtherProcess, migrated_file: Path) -> None:
    """Over many short lives of an installation, with two processes at it; and the lanes do answer."""
    hits = check(Machine, other, migrated_file, examples=8, steps=20)

    assert hits > 400


@pytest.mark.slow
def test_a_lane_that_is_told_late_answers_as_its_application_does(other: OtherProcess, migrated_file: Path) -> None:
    """By tag at any time, by digest once it has heard, and it goes on while the database is away."""
    outages = check(LateMachine, other, migrated_file, examples=6, steps=15)

    assert outages > 40


@pytest.mark.slow
@pytest.mark.parametrize("mistake", ["tags", "time"])
def test_a_lane_that_trusts_what_it_was_told_late_is_found_out(
    other: OtherProcess, migrated_file: Path, monkeypatch: pytest.MonkeyPatch, mistake: str
) -> None:
    """The comparison fails for one that remembers tags all the same, and for one that lets nobody's time end."""
    if mistake == "tags":
        monkeypatch.setattr(lane, "_is_by_digest", lambda _: True)
    else:
        monkeypatch.setattr(lane.Lane, "_clock", property(lambda _: lambda: 0.0, lambda *_: None), raising=False)

    with pytest.raises(Differs):
        check(LateMachine, other, migrated_file, examples=40, steps=20)


@pytest.mark.slow
@pytest.mark.parametrize("overlooked", ["access", "image", "blob"])
def test_a_lane_that_overlooks_something_is_found_out(
    other: OtherProcess, migrated_file: Path, monkeypatch: pytest.MonkeyPatch, overlooked: str
) -> None:
    """The comparison can fail: it does for a lane that does not mind changes of one kind."""
    whole = lane._scopes
    monkeypatch.setattr(
        lane, "_scopes", lambda lesson: tuple(each for each in whole(lesson) if not each.startswith(overlooked))
    )

    with pytest.raises(Differs):
        check(Machine, other, migrated_file, examples=40, steps=20)
