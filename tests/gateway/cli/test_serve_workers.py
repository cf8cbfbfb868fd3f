"""`sluice serve` as processes: workers that die and are replaced, and starts that fail before they make anything."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from bench.contenders.ports import free_port
from gateway.cli.first_start import PASSWORD_FILE
from gateway.cli.serve import _docker_host
from gateway.wire.cores import usable_cores
from tests.served import ADMIN, Served, sha256

pytestmark = pytest.mark.slow

NAME = "common/docker-hosted/kept"
LAYER = os.urandom(300_000)


def workers_of(gateway: Served) -> set[int]:
    """Process ids of the workers."""
    assert gateway.process is not None
    return {child.pid for child in psutil.Process(gateway.process.pid).children()}


def eventually(holds: Callable[[], bool], *, within_s: float = 60) -> None:
    """Wait for a real process, with a deadline."""
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_a_killed_worker_is_replaced_and_nothing_is_lost(tmp_path: Path) -> None:
    """What any worker acknowledged is served byte by byte by those that are left and by the one that comes."""
    with Served(tmp_path, arguments=("--workers", "2")) as gateway:
        eventually(lambda: len(workers_of(gateway)) == 2)
        kept = {f"v{number}": gateway.push_image(NAME, f"v{number}", LAYER)[1] for number in range(4)}

        for round_number in range(2):
            killed = min(workers_of(gateway))
            os.kill(killed, signal.SIGKILL)
            eventually(lambda: len(workers_of(gateway) - {killed}) == 2)  # noqa: B023  # called at once
            tag = f"after-{round_number}"
            kept[tag] = gateway.push_image(NAME, tag, LAYER, os.urandom(10))[1]
            for reference, manifest in kept.items():  # each on a connection of its own, so on either worker
                assert gateway.admin("GET", f"/v2/{NAME}/manifests/{reference}").body == manifest
                assert gateway.admin("GET", f"/v2/{NAME}/blobs/{sha256(LAYER)}").body == LAYER

        assert gateway.stop() == 0
        printed = gateway.log()

    assert printed.count("Sluice listens on") == 1
    assert "Traceback" not in printed
    events = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    ended = [event for event in events if event["event"] == "worker_ended"]
    assert [event["status"] for event in ended][:2] == [-signal.SIGKILL] * 2
    assert [event["level"] for event in ended] == ["warning"] * 2 + ["info"] * 2  # a stop that was asked for is none


def test_there_is_a_worker_per_core(tmp_path: Path) -> None:
    """Without a word about it, and with `--workers auto`: as many as cores may be used; one needs no supervisor."""
    cores = usable_cores()
    for arguments in ((), ("--workers", "auto")):
        with Served(tmp_path, workers=None, arguments=arguments) as gateway:
            eventually(lambda: len(workers_of(gateway)) == (cores if cores > 1 else 0))  # called at once
            assert gateway.stop() == 0


def test_a_worker_that_hangs_is_replaced(tmp_path: Path) -> None:
    """`server.hang_timeout_s` is heeded: a stopped worker gives way to one that serves what was stored before."""
    environment = {"SLUICE_SERVER__HANG_TIMEOUT_S": "5"}
    with Served(tmp_path, arguments=("--workers", "2"), environment=environment) as gateway:
        eventually(lambda: len(workers_of(gateway)) == 2)
        digest = gateway.push_blob(NAME, LAYER)
        stopped = min(workers_of(gateway))
        os.kill(stopped, signal.SIGSTOP)
        eventually(lambda: len(workers_of(gateway) - {stopped}) == 2)
        for _ in range(4):  # each on a connection of its own, so on either worker
            assert gateway.admin("GET", f"/v2/{NAME}/blobs/{digest}").body == LAYER
        assert gateway.stop() == 0
        events = [json.loads(line) for line in gateway.log().splitlines() if line.startswith("{")]

    assert [event["pid"] for event in events if event["event"] == "worker_hangs"] == [stopped]


def test_with_json_every_line_of_the_log_is_an_event(tmp_path: Path) -> None:
    """C14: a collector finds one object a line, whatever clients send; only the welcome for people is none."""
    with Served(tmp_path) as gateway:
        hostile = {"User-Agent": "x\x1b[31m\x0b{}", "Authorization": "Basic \xff\x1b"}
        assert gateway.request("GET", f"/v2/{NAME}/tags/list", headers=hostile).status in {400, 401}
        gateway.request("GET", "/v2/_catalog", auth=("a\nb", "c\nd"))
        gateway.api("POST", "/api/v1/users", {"name": "eve\n", "password": "long-enough-word"})
        assert gateway.stop() == 0
        lines = gateway.log().splitlines()

    welcome = [line for line in lines if not line.startswith("{")]
    assert all(json.loads(line)["event"] for line in lines if line.startswith("{"))
    assert (welcome[0].partition(" on ")[0], len(welcome)) == ("Sluice listens", 10)


SPY = """
import os, signal, sys
from pathlib import Path
from gateway.cli import main, serve

def work(number, sockets, **given):
    Path(sys.argv[1], str(number)).write_text("\\n".join(os.environ))
    if given["settings"].server.workers != 1 and len(os.listdir(sys.argv[1])) == 2:
        os.kill(os.getppid(), signal.SIGTERM)

serve._work = work
main(sys.argv[2:])
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_do_not_inherit_the_password(tmp_path: Path, workers: int) -> None:
    """What a worker starts, or dumps, does not have SLUICE_ADMIN_PASSWORD; other settings pass."""
    seen = tmp_path / "seen"
    seen.mkdir()
    environment = {**os.environ, "SLUICE_ADMIN_PASSWORD": ADMIN[1], "SLUICE_LOGS__LEVEL": "error"}
    words = ["serve", "--data", str(tmp_path / "data"), "--listen", "127.0.0.1:0", "--workers", str(workers)]
    command = [sys.executable, "-c", SPY, str(seen), *words]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)

    assert ended.returncode == 0, ended.stderr
    variables = [path.read_text().splitlines() for path in seen.iterdir()]
    assert len(variables) == workers
    for names in variables:
        assert "SLUICE_LOGS__LEVEL" in names
        assert "SLUICE_ADMIN_PASSWORD" not in names


# --- starts that fail ----------------------------------------------------------------------------------------------


def fails(*words: str, **environment: str) -> str:
    """What a start says that ends with status 1; it must be one line."""
    command = [sys.executable, "-m", "gateway", "serve", *words]
    given = {**os.environ, **environment}
    ended = subprocess.run(command, env=given, capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, ended.stdout) == (1, ""), ended
    (line,) = ended.stderr.splitlines()
    return line


def test_a_taken_port_does_not_cost_the_first_password(tmp_path: Path) -> None:
    """Nothing is made before the port is known to be free: the start that serves is the first, and shows it."""
    with Served(tmp_path / "one") as holder:
        line = fails("--data", str(tmp_path / "two" / "data"), "--listen", holder.address)
    assert line.startswith(f"Error: cannot listen on {holder.address}: ")
    assert not (tmp_path / "two").exists()

    with Served(tmp_path / "two", environment={"SLUICE_ADMIN_PASSWORD": ""}) as gateway:
        assert (gateway.data / PASSWORD_FILE).read_text().strip() in gateway.log()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_directory_that_cannot_be_made_is_one_line(workers: str) -> None:
    """It is named with the reason, however many workers would have needed it."""
    where = "/sys/sluice-data"  # nobody can make a directory there, not even root
    line = fails("--data", where, "--listen", "127.0.0.1:0", "--workers", workers)

    assert line.startswith(f"Error: cannot use the data directory {where}: ")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_certificate_that_cannot_be_used_is_one_line(tmp_path: Path, workers: str) -> None:
    """Absent or no PEM: the settings and files are named, and nothing was made."""
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate")
    for certificate in (broken, tmp_path / "absent.pem"):
        tls = {"SLUICE_SERVER__TLS_CERTIFICATE": str(certificate), "SLUICE_SERVER__TLS_KEY": str(broken)}
        line = fails("--data", str(tmp_path / "data"), "--listen", "127.0.0.1:0", "--workers", workers, **tls)

        assert line.startswith(f"Error: cannot use server.tls_certificate {certificate} with server.tls_key {broken}: ")
    assert not (tmp_path / "data").exists()


def test_a_first_password_that_is_no_good_is_blamed_on_its_variable(tmp_path: Path) -> None:
    """The data directory is fine, and the next start with a better word goes on there."""
    words = ("--data", str(tmp_path / "data"), "--listen", f"127.0.0.1:{free_port()}")

    line = fails(*words, SLUICE_ADMIN_PASSWORD="short")

    assert (
        line == "Error: cannot make the administrator from SLUICE_ADMIN_PASSWORD: password: use at least 8 characters"
    )
    with Served(tmp_path) as gateway:
        assert gateway.admin("GET", "/v2/").status == 200


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("http://registry", "registry:80"),
        ("https://registry", "registry:443"),
        ("http://registry:5000", "registry:5000"),
        ("http://localhost", "localhost"),
        ("http://[::]:8080", "localhost:8080"),
        ("http://127.0.0.1", "127.0.0.1"),
        ("https://[2001:db8::1]", "[2001:db8::1]"),
    ],
)
def test_a_name_without_a_dot_needs_a_port(address: str, host: str) -> None:
    """Docker would take `registry/myapp` for an image of somebody called registry on its hub."""
    assert _docker_host(address) == host


def test_connections_are_fewer_where_descriptors_are_few(tmp_path: Path) -> None:
    """With a hard limit of 512 files a worker takes 96 connections beside the 64 files it keeps, and says so once."""
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (300, 512));"
        "from gateway.cli import serve, main;"
        "import signal, os; opened = serve.open_services;"
        "serve.open_services = lambda settings: (os.kill(os.getpid(), signal.SIGTERM), opened(settings))[1];"
        "main(sys.argv[1:])"
    )
    words = ["serve", "--data", str(tmp_path / "data"), "--listen", "127.0.0.1:0", "--workers", "1"]
    ended = subprocess.run(
        [sys.executable, "-c", script, *words],
        env={**os.environ, "SLUICE_LOGS__FORMAT": "json"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert ended.returncode == 0, ended.stderr
    events = [json.loads(line) for line in ended.stderr.splitlines()]
    (limited,) = [event for event in events if event["event"] == "connections_limited"]
    assert (limited["configured"], limited["effective"], limited["open_files"]) == (10_000, 96, 512)
