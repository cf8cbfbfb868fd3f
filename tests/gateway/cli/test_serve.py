"""`sluice serve`: a real process that says where it is, serves, and ends well."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.cli.serve import _docker_host
from tests.served import ADMIN, Served
from tests.servers.processes import wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A gateway on its first start, with a password of its own making; nobody stops it."""
    with Served(tmp_path_factory.mktemp("served"), environment={"SLUICE_ADMIN_PASSWORD": ""}) as gateway:
        yield gateway


@pytest.fixture
def admin(served: Served) -> tuple[str, str]:
    """The administrator with the password that was made."""
    return "admin", (served.data / "admin-password").read_text().strip()


def _serve(*words: str) -> "subprocess.CompletedProcess[str]":
    """A start that is expected to fail."""
    command = [sys.executable, "-m", "gateway", "serve", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_the_first_start_tells_all_that_a_newcomer_needs(served: Served, admin: tuple[str, str]) -> None:
    """Where it listens, who the administrator is, the password, and three commands to try."""
    printed = served.log()

    assert f"Sluice listens on http://127.0.0.1:{served.port} and keeps its data in {served.data}" in printed
    assert "administrator  admin" in printed
    assert f"password       {admin[1]}" in printed
    for command in ("docker login {} -u admin", "docker tag myapp {}/myapp:1.0", "docker push {}/myapp:1.0"):
        assert command.format(f"localhost:{served.port}") in printed
    assert served.api("GET", "/api/v1/users/admin", auth=admin).status == 200


def test_the_password_is_shown_once(tmp_path: Path) -> None:
    """A restart prints the address, not the password; SIGTERM and Ctrl-C are good ends."""
    with Served(tmp_path, environment={"SLUICE_ADMIN_PASSWORD": ""}) as gateway:
        kept = (gateway.data / "admin-password").read_text().strip()
        first = gateway.log()
        assert gateway.stop() == 0
        gateway.log_path.unlink()
        gateway.start()
        assert gateway.process is not None
        gateway.process.send_signal(signal.SIGINT)
        assert gateway.process.wait(30) == 0

        assert kept in first
        assert "Sluice listens on" in gateway.log()
        assert kept not in gateway.log()
        assert "administrator" not in gateway.log()


def test_what_is_asked_over_http_is_answered_as_in_process(served: Served, admin: tuple[str, str]) -> None:
    """HEAD has GET's length, an escape is decoded once, and strange paths get JSON, through the real server."""
    got = served.api("GET", "/api/v1/repos", auth=admin)
    head = served.api("HEAD", "/api/v1/repos", auth=admin)
    made = served.api("POST", "/api/v1/users", {"name": "ada@example.org"}, auth=admin)
    once = served.api("GET", "/api/v1/users/ada%40example.org", auth=admin)
    twice = served.api("GET", "/api/v1/users/ada%2540example.org", auth=admin)
    strange = [
        served.api("GET", path, auth=admin) for path in ("/api//v1/repos", "/api/v1/users/..%2fadmin", "/%2e%2e/x")
    ]

    assert (head.status, head.headers["content-length"], head.body) == (200, str(len(got.body)), b"")
    assert (made.status, once.status, twice.status) == (201, 200, 404)
    assert [(each.status, each.headers["content-type"]) for each in strange] == [(404, "application/json")] * 3


def test_a_body_is_bounded_whether_it_says_its_length_or_not(served: Served, admin: tuple[str, str]) -> None:
    """A chunked body of a megabyte is refused as one with a length is."""
    headers = {"Content-Type": "application/json"}

    for chunked in (False, True):
        body = iter([b"x" * 65536] * 16) if chunked else b"x" * 2**20
        reply = served.request("POST", "/api/v1/projects", body, headers, auth=admin, chunked=chunked)
        assert (reply.status, reply.codes()) == (413, ["TOO_LARGE"])


def test_commands_work_beside_the_running_server(served: Served) -> None:
    """What they change holds at the next request."""
    words = [sys.executable, "-m", "gateway", "user", "add", "eve", "--password-stdin", "--data", str(served.data)]
    added = subprocess.run(words, input="lovelace-1815\n", capture_output=True, text=True, check=False, timeout=60)

    assert added.returncode == 0, added.stderr
    assert served.api("GET", "/api/v1/users/eve", auth=("eve", "lovelace-1815")).status == 200


def test_each_change_is_in_the_log_as_json(served: Served, admin: tuple[str, str]) -> None:
    """One event a line, with the request's id, and no password anywhere but in the welcome."""
    made = served.api("POST", "/api/v1/users", {"name": "ada", "password": "lovelace-1815"}, auth=admin)
    events = [json.loads(line) for line in served.log().splitlines() if line.startswith("{")]

    (audit,) = [event for event in events if event.get("request_id") == made.headers["x-request-id"]]
    assert (audit["event"], audit["act"], audit["object"]) == ("audit", "user.create", "ada")
    assert audit["ip"] == "127.0.0.1"
    assert "lovelace" not in served.log()


def test_several_workers_share_a_port_and_say_so_once(tmp_path: Path) -> None:
    """Any free port will do; the welcome names the one that was taken."""
    with Served(tmp_path, arguments=("--workers", "2")) as gateway:
        # One worker may answer before the supervisor has heard of the other.
        assert wait_until(lambda: "Sluice listens on" in gateway.log(), 20)
        assert "the one in SLUICE_ADMIN_PASSWORD" in gateway.log()
        assert ADMIN[1] not in gateway.log()
        assert gateway.stop() == 0
        assert gateway.log().count("Sluice listens on") == 1


def test_a_taken_port_is_one_line(tmp_path: Path) -> None:
    """Exit code 1, and which port."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ended = _serve("--data", str(tmp_path / "data"), "--listen", address)

    assert ended.returncode == 1
    assert ended.stderr.startswith(f"Error: cannot listen on {address}")
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("password", ["short", "x" * 2000])
def test_a_password_that_is_no_good_stops_the_first_start(tmp_path: Path, password: str) -> None:
    """With the reason, and nobody can log in until a good one is given (security row A23)."""
    environment = {**os.environ, "SLUICE_ADMIN_PASSWORD": password}
    command = [sys.executable, "-m", "gateway", "serve", "--data", str(tmp_path / "data"), "--listen", "127.0.0.1:0"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environment)

    assert ended.returncode == 1
    assert "password: use at" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert password not in ended.stderr


def test_a_data_directory_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    """Exit code 1 or 2, and the path in question."""
    (tmp_path / "data").write_text("not a directory")

    ended = _serve("--data", str(tmp_path / "data"))

    assert ended.returncode in {1, 2}
    assert str(tmp_path / "data") in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("http://127.0.0.1:8080", "localhost:8080"),
        ("http://0.0.0.0:8080", "localhost:8080"),
        ("http://[::1]:8080", "localhost:8080"),
        ("http://10.0.0.7:8080", "10.0.0.7:8080"),
        ("https://registry.example", "registry.example"),
        ("https://registry.example:8443", "registry.example:8443"),
    ],
)
def test_names_are_written_as_docker_wants_them(address: str, host: str) -> None:
    """Docker trusts plain HTTP on localhost by itself."""
    assert _docker_host(address) == host
