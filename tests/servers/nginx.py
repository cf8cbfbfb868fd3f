"""nginx with servers of a test's own, such as those that a page of the documentation recommends."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.processes import start

_FRAME = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 1024; }}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/temporary;
    proxy_temp_path {folder}/temporary;
    fastcgi_temp_path {folder}/temporary;
    uwsgi_temp_path {folder}/temporary;
    scgi_temp_path {folder}/temporary;
{servers}
}}
"""


@contextmanager
def nginx(program: Path, folder: Path, servers: str) -> Iterator[None]:
    """Run it in this folder, away from the system's, with what stands in `http`; killed at the end."""
    (folder / "temporary").mkdir(parents=True)
    path = folder / "nginx.conf"
    path.write_text(_FRAME.format(folder=folder, servers=servers))
    user = ["-g", "user root;"] if os.geteuid() == 0 else []
    process = start([program, "-p", folder, "-c", path, "-e", folder / "error.log", *user], folder / "log")
    try:
        process.wait_ready((folder / "nginx.pid").exists)
        yield
    finally:
        process.kill()
