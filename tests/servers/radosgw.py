"""A real S3 service on loopback: Ceph's radosgw over one monitor and one memory store, as plain processes.

It serves http and, with a certificate of a private authority, https; it has one user. It takes about two seconds to
start and 130 MiB, and what is written lives in memory until some ten seconds after it was deleted. What has to be so:

- All of it is killed: a store whose monitor went first hangs on SIGTERM and keeps its ports.
- Authentication inside Ceph stays on: without it the gateway of version 16 waits for ever.
- `tcp_nodelay=1`: else each small answer takes 44 ms (Nagle and delayed acknowledgements).
- Short paxos intervals: with the default ones the start takes 12 s.
"""

import http.client
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.servers.bucket_server import S3Server, private_authority
from tests.servers.ports import port_block
from tests.servers.processes import Process, run, start

PROGRAMS: Final = ("ceph-mon", "ceph-osd", "radosgw")
REAL_DAY_S: Final = -1
_CAPACITY_BYTES: Final = 4 << 30  # memory is taken as it is written, about 2.2 times as much
_ACCESS: Final = ("test", "testtest")

_CONFIGURATION: Final = """\
[global]
fsid = {cluster}
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
osd_objectstore = memstore
osd_data = {folder}/osd
memstore_device_bytes = {capacity_bytes}
[client]
rgw_frontends = beast endpoint=127.0.0.1:{port} ssl_endpoint=127.0.0.1:{tls_port} ssl_certificate={certificate} \
tcp_nodelay=1
rgw_data = {folder}/rgw
rgw_lc_debug_interval = {day_s}
rgw_gc_obj_min_wait = 5
rgw_gc_processor_period = 5
"""


@contextmanager
def serve(folder: Path, *, day_s: int = REAL_DAY_S) -> Iterator[S3Server]:
    """A service of one's own while the block lasts, with its files in `folder`, which must not exist yet.

    `day_s`: how many seconds a day of a lifecycle rule lasts.
    """
    for name in ("mon", "osd", "run", "log"):
        (folder / name).mkdir(parents=True)
    authority, certificate = private_authority(folder)
    with port_block() as port:
        configuration = folder / "ceph.conf"
        cluster = str(uuid.uuid4())
        configuration.write_text(
            _CONFIGURATION.format(
                cluster=cluster,
                folder=folder,
                port=port,
                tls_port=port + 1,
                monitor_port=port + 2,
                first_store_port=port + 3,
                last_store_port=port + 9,
                capacity_bytes=_CAPACITY_BYTES,
                certificate=certificate,
                day_s=day_s,
            )
        )
        started: list[Process] = []
        try:
            _start(folder, port, cluster, started)
            yield S3Server(
                endpoint=f"http://127.0.0.1:{port}",
                tls_endpoint=f"https://127.0.0.1:{port + 1}",
                ca_file=authority,
                access_key_id=_ACCESS[0],
                secret_access_key=_ACCESS[1],
            )
        finally:
            for process in started:
                process.kill()
            shutil.rmtree(folder, ignore_errors=True)


def _start(folder: Path, port: int, cluster: str, started: list[Process]) -> None:
    """Monitor, store, gateway, user; each is added to `started` as soon as it runs."""
    where = ("-c", folder / "ceph.conf")
    _write_keys(folder / "keyring")
    address = f"[v2:127.0.0.1:{port + 2}]"
    run(["monmaptool", "--create", "--fsid", cluster, "--addv", "a", address, folder / "monmap"])
    run(["ceph-mon", *where, "-i", "a", "--mkfs", "--monmap", folder / "monmap", "--keyring", folder / "keyring"])
    started.append(start(["ceph-mon", "-f", *where, "-i", "a"], folder / "log" / "mon"))
    identity = str(uuid.uuid4())
    run(["ceph", *where, "osd", "new", identity])
    run(["ceph-osd", *where, "-i", "0", "--mkfs", "--osd-uuid", identity])
    started.append(start(["ceph-osd", "-f", *where, "-i", "0"], folder / "log" / "osd"))
    gateway = start(["radosgw", "-f", *where, "-n", "client.rgw"], folder / "log" / "rgw")
    started.append(gateway)
    gateway.wait_ready(lambda: _answers(port))
    access, secret = _ACCESS
    user = ("--uid=test", "--display-name=test", f"--access-key={access}", f"--secret={secret}")
    run(["radosgw-admin", *where, "user", "create", *user])


def _write_keys(keyring: Path) -> None:
    tool = ("ceph-authtool", keyring)
    full = ("--cap", "mon", "allow *", "--cap", "osd", "allow *")
    run([*tool, "--create-keyring", "--gen-key", "-n", "mon.", "--cap", "mon", "allow *"])
    for name in ("client.admin", "client.rgw", "osd.0"):
        run([*tool, "--gen-key", "-n", name, *full])


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
