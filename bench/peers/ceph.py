"""A Ceph cluster of one monitor, one store and an S3 gateway as plain processes: its files, and what is run when.

Debian's packages ceph-mon, ceph-osd and radosgw, any user, loopback only. Knows no way to run a program: who brings a
cluster up says how, and ends it by killing what was started. What has to be so:

- All of it is killed: a store whose monitor went first hangs on SIGTERM and keeps its ports.
- Authentication inside Ceph stays on: without it the gateway of version 16 waits for ever.
- `tcp_nodelay=1`: else each small answer takes 44 ms (Nagle and delayed acknowledgements).
- Short paxos intervals: with the default ones the start takes 12 s.
"""

import http.client
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeVar

from bench.contenders.ports import BLOCK

P = TypeVar("P")
Command = Sequence[str | Path]

PROGRAMS: Final = ("ceph-mon", "ceph-osd", "radosgw")
ACCESS_KEY_ID: Final = "test"
SECRET_ACCESS_KEY: Final = "testtest"  # noqa: S105 - of a throw-away cluster
REAL_DAY_S: Final = -1

_CONFIGURATION: Final = """\
[global]
fsid = {identity}
mon_host = [v2:127.0.0.1:{monitor_port}/0]
public_network = 127.0.0.0/8
ms_bind_ipv6 = false
ms_bind_msgr1 = false
ms_bind_port_min = {first_store_port}
ms_bind_port_max = {last_store_port}
keyring = {folder}/keyring
run_dir = {folder}/run
admin_socket = {folder}/run/$name.asok
log_file = {folder}/log/$name.log
crash_dir = {folder}/crash
mon_cluster_log_to_file = false
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_pool_default_pgp_num = 8
osd_crush_chooseleaf_type = 0
osd_crush_initial_weight = 1
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 1000
mon_data_avail_crit = 1
mon_osd_min_up_ratio = 0
paxos_propose_interval = 0.05
paxos_min_wait = 0.01
auth_allow_insecure_global_id_reclaim = false
[mon.a]
mon_data = {folder}/mon
[osd]
osd_objectstore = {store}
osd_data = {folder}/osd
osd_memory_target = 1073741824
memstore_device_bytes = {capacity_bytes}
bluestore_block_size = {capacity_bytes}
[client]
rgw_frontends = beast endpoint=127.0.0.1:{port} {tls}tcp_nodelay=1
rgw_data = {folder}/rgw
rgw_lc_debug_interval = {day_s}
rgw_gc_obj_min_wait = 5
rgw_gc_processor_period = 5
"""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where a cluster lies and what it is like; `folder` is new, `port` is the first of a block of free ones.

    `store`: `memstore` takes 2.2 times its bytes in memory, `bluestore` a sparse file. `certificate`: a PEM file with
    key and chain, for https on the second port. `day_s`: how many seconds a day of a lifecycle rule lasts.
    """

    folder: Path
    port: int
    store: Literal["memstore", "bluestore"] = "memstore"
    capacity_bytes: int = 4 << 30
    certificate: Path | None = None
    day_s: int = REAL_DAY_S
    identity: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def log(self) -> Path:
        """What the gateway tells, one line per request among it."""
        return self.folder / "log" / "client.rgw.log"

    def bring_up(
        self,
        *,
        run: Callable[[Command], object],
        start: Callable[[Command, Path], P],
        wait: Callable[[P, Callable[[], bool]], None],
    ) -> Iterator[P]:
        """Monitor, store, gateway: each is given as soon as it runs, and must be killed whatever comes after.

        `run` a command to its end, `start` a server whose output goes to a file, `wait` until it is ready. The cluster
        takes requests when the iteration ends. Raises what these raise.
        """
        where = ("-c", self.folder / "ceph.conf")
        self._write()
        for command in self._keys():
            run(command)
        monitor_map, keyring = self.folder / "monmap", self.folder / "keyring"
        address = f"[v2:127.0.0.1:{self.port + 2}]"
        run(["monmaptool", "--create", "--fsid", self.identity, "--addv", "a", address, monitor_map])
        run(["ceph-mon", *where, "-i", "a", "--mkfs", "--monmap", monitor_map, "--keyring", keyring])
        yield start(["ceph-mon", "-f", *where, "-i", "a"], self.folder / "log" / "mon")
        store = str(uuid.uuid4())
        run(["ceph", *where, "osd", "new", store])
        run(["ceph-osd", *where, "-i", "0", "--mkfs", "--osd-uuid", store])
        yield start(["ceph-osd", "-f", *where, "-i", "0"], self.folder / "log" / "osd")
        gateway = start(["radosgw", "-f", *where, "-n", "client.rgw"], self.folder / "log" / "rgw")
        yield gateway
        wait(gateway, self._answers)
        user = ("--uid=test", "--display-name=test", f"--access-key={ACCESS_KEY_ID}", f"--secret={SECRET_ACCESS_KEY}")
        run(["radosgw-admin", *where, "user", "create", *user])

    def _write(self) -> None:
        for name in ("mon", "osd", "run", "log"):
            (self.folder / name).mkdir(parents=True)
        tls = f"ssl_endpoint=127.0.0.1:{self.port + 1} ssl_certificate={self.certificate} " if self.certificate else ""
        text = _CONFIGURATION.format(
            identity=self.identity,
            folder=self.folder,
            port=self.port,
            monitor_port=self.port + 2,
            first_store_port=self.port + 3,
            last_store_port=self.port + BLOCK - 1,
            store=self.store,
            capacity_bytes=self.capacity_bytes,
            tls=tls,
            day_s=self.day_s,
        )
        (self.folder / "ceph.conf").write_text(text)

    def _keys(self) -> Iterator[Command]:
        tool = ("ceph-authtool", self.folder / "keyring")
        full = ("--cap", "mon", "allow *", "--cap", "osd", "allow *")
        yield [*tool, "--create-keyring", "--gen-key", "-n", "mon.", "--cap", "mon", "allow *"]
        for name in ("client.admin", "client.rgw", "osd.0"):
            yield [*tool, "--gen-key", "-n", name, *full]

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/")
            return connection.getresponse().status < 500
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
