"""A real S3 service on loopback: Ceph's radosgw over one monitor and one memory store, as plain processes.

It serves http and, with a certificate of a private authority, https; it has one user. It takes about two seconds to
start and 130 MiB, and what is written lives in memory until some ten seconds after it was deleted. How such a cluster
is brought up, and why so, is `bench.peers.ceph`'s.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.contenders.ports import port_block
from bench.peers.ceph import ACCESS_KEY_ID, PROGRAMS, REAL_DAY_S, SECRET_ACCESS_KEY, Cluster
from tests.servers.bucket_server import S3Server, private_authority
from tests.servers.processes import Process, run, start

__all__ = ["PROGRAMS", "serve"]

_CAPACITY_BYTES: Final = 4 << 30  # memory is taken as it is written, about 2.2 times as much


@contextmanager
def serve(folder: Path, *, day_s: int = REAL_DAY_S) -> Iterator[S3Server]:
    """A service of one's own while the block lasts, with its files in `folder`, which must not exist yet.

    `day_s`: how many seconds a day of a lifecycle rule lasts.
    """
    folder.mkdir(parents=True)
    authority, certificate = private_authority(folder)
    with port_block() as port:
        cluster = Cluster(folder, port, capacity_bytes=_CAPACITY_BYTES, certificate=certificate, day_s=day_s)
        started: list[Process] = []
        try:
            for process in cluster.bring_up(run=run, start=start, wait=Process.wait_ready):
                started.append(process)  # at once, for whatever comes after
            yield S3Server(
                endpoint=f"http://127.0.0.1:{port}",
                tls_endpoint=f"https://127.0.0.1:{port + 1}",
                ca_file=authority,
                access_key_id=ACCESS_KEY_ID,
                secret_access_key=SECRET_ACCESS_KEY,
            )
        finally:
            for process in started:
                process.kill()
            shutil.rmtree(folder, ignore_errors=True)
