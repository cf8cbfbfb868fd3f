"""OpenStack Swift with its S3 interface, as plain processes: a real S3 service that knows no conditional writes.

One account, container, object and proxy server over one folder, one replica each. It takes some seconds to start and
is slow on small objects. The secrets of its hash paths come from the package's /etc/swift/swift.conf, which is the only
file that it cannot be told to look for elsewhere.
"""

import http.client
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.contenders.ports import port_block
from tests.servers.bucket_server import S3Server
from tests.servers.processes import Process, run, start

PROGRAMS: Final = (*(f"swift-{name}-server" for name in ("account", "container", "object", "proxy")), "memcached")
_DEVICE: Final = "device"
_FILTERS: Final = (
    *("catch_errors", "gatekeeper", "cache", "listing_formats", "s3api", "tempauth"),
    *("copy", "slo", "dlo", "versioned_writes"),
)
_EGGS: Final = {"cache": "memcache"}  # else a filter has the name of what it uses
_FURTHER: Final = {
    "cache": "memcache_servers = 127.0.0.1:{memory_port}",  # the account would not be made by itself without it
    "tempauth": "user_test_test = testtest .admin",
}
_RINGS: Final = """\
import sys
from swift.common.ring import RingBuilder
folder, device, *places = sys.argv[1:]
for place in places:
    name, port = place.split(":")
    builder = RingBuilder(8, 1, 0)  # 256 partitions, one replica
    builder.add_dev(dict(id=0, region=1, zone=1, ip="127.0.0.1", port=int(port), device=device, weight=1))
    builder.rebalance()
    builder.get_ring().save(f"{folder}/{name}.ring.gz")
"""
_SERVER: Final = """\
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {folder}
devices = {folder}/devices
mount_check = false
disable_fallocate = true
fallocate_reserve = 0
log_level = ERROR
[pipeline:main]
pipeline = {name}-server
[app:{name}-server]
use = egg:swift#{name}
"""
_PROXY: Final = """\
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {folder}
log_level = ERROR
[pipeline:main]
pipeline = {pipeline} proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
"""


@contextmanager
def serve(folder: Path) -> Iterator[S3Server]:
    """A service of one's own while the block lasts, with its files in `folder`, which must not exist yet."""
    (folder / "devices" / _DEVICE).mkdir(parents=True)
    with port_block() as port:
        ports = {name: port + number for number, name in enumerate(("proxy", "account", "container", "object"))}
        memory_port = port + len(ports)
        _configure(folder, ports, memory_port)
        started: list[Process] = []
        try:
            memory = ["memcached", "-l", "127.0.0.1", "-p", str(memory_port), "-U", "0", "-m", "16"]
            started.append(start([*memory, "-u", folder.owner()], folder / "memcached.log"))
            for name in ports:
                command: list[str | Path] = [f"swift-{name}-server", folder / f"{name}-server.conf"]
                started.append(start(command, folder / f"{name}.log"))
            started[1].wait_ready(lambda: all(map(_answers, ports.values())))
            yield S3Server(f"http://127.0.0.1:{port}", None, None, "test:test", "testtest")
        finally:
            for process in started:
                process.kill()
            shutil.rmtree(folder, ignore_errors=True)


def _configure(folder: Path, ports: Mapping[str, int], memory_port: int) -> None:
    user = folder.owner()
    for name, port in ports.items():
        if name == "proxy":
            text = _PROXY.format(port=port, folder=folder, user=user, pipeline=" ".join(_FILTERS))
            for each in _FILTERS:
                further = _FURTHER.get(each, "").format(memory_port=memory_port)
                text += f"[filter:{each}]\nuse = egg:swift#{_EGGS.get(each, each)}\n{further}\n"
        else:
            text = _SERVER.format(port=port, folder=folder, user=user, name=name)
        (folder / f"{name}-server.conf").write_text(text)
    places = [f"{name}:{port}" for name, port in ports.items() if name != "proxy"]
    run(["/usr/bin/python3", "-c", _RINGS, folder, _DEVICE, *places])


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/")
        return bool(connection.getresponse().status)
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
