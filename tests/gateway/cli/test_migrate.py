"""`sluice migrate`: with a file, everything goes to another installation, and can be pulled from there."""

import os
import pty
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from gateway.access.sealing import load_or_create_key
from tests.gateway.cli.command import Outcome, Sluice, run
from tests.gateway.cli.images import ask, image, push, sha256
from tests.servers.bucket_server import S3Server
from tests.servers.processes import wait_until

pytestmark = pytest.mark.slow  # images are pushed, and each command opens the installation anew

LAYER = b"the bytes of a layer" * 1000
PLACE = "/v2/team/images/app"


class New:
    """Another data directory, and the file that describes it."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "new"
        self.file = folder / "new.toml"
        self.file.write_text(f'[storage]\ndata = "{self.data}"\n')

    def layer(self) -> tuple[int, bytes]:
        """The layer as it is pulled from there."""
        return ask(self.data, "GET", f"{PLACE}/blobs/{sha256(LAYER)}")


@pytest.fixture
def new(tmp_path: Path) -> New:
    """Where to move to; nothing is there yet."""
    return New(tmp_path)


@pytest.fixture
def old(sluice: Sluice) -> Sluice:
    """An installation with one image of two blobs."""
    push(sluice.data, "team/images/app", "1.0", LAYER)
    return sluice


def test_everything_arrives(old: Sluice, new: New) -> None:
    """Image, people and rights are there under the old password; the report says how much came."""
    outcome = old.good("migrate", "--to", str(new.file))

    assert outcome.out.startswith("copied 2 blobs (19.5 KiB), 0 were there already; moved ")
    assert outcome.err == ""
    assert new.layer() == (200, LAYER)
    assert ask(new.data, "GET", f"{PLACE}/manifests/1.0") == (200, image(LAYER))
    assert Sluice(new.data).good("user", "list").out == old.good("user", "list").out
    assert Sluice(new.data).good("fsck").code == 0


def test_what_is_pushed_meanwhile_comes_with_the_next_run(old: Sluice, new: New) -> None:
    """The second run copies only what is new."""
    old.good("migrate", "--to", str(new.file))
    push(old.data, "team/images/app", "1.1", b"another layer")

    outcome = old.good("migrate", "--to", str(new.file), "--verify")

    assert outcome.out.startswith("copied 1 blobs (13 B), 2 were there already")
    assert ask(new.data, "GET", f"{PLACE}/manifests/1.1") == (200, image(b"another layer"))


def test_an_installation_in_use_is_not_overwritten_unasked(old: Sluice, new: New) -> None:
    """What was pushed to the new one on its own stays, unless --replace gives it up."""
    old.good("migrate", "--to", str(new.file))
    push(new.data, "team/images/app", "2.0", b"pushed to the new one")

    refused = old("migrate", "--to", str(new.file))
    kept = ask(new.data, "GET", f"{PLACE}/manifests/2.0")
    old.good("migrate", "--to", str(new.file), "--replace")

    assert (refused.code, "used on its own" in refused.err) == (1, True)
    assert kept == (200, image(b"pushed to the new one"))
    assert ask(new.data, "GET", f"{PLACE}/manifests/2.0")[0] == 404
    assert new.layer() == (200, LAYER)


def test_damaged_bytes_are_told_and_left_out(old: Sluice, new: New) -> None:
    """Exit code 1, the blob and its image are named, the rest is there, and a push to the new one heals it."""
    (file,) = [path for path in (old.data / "storages").rglob("*") if path.is_file() and path.read_bytes() == LAYER]
    file.chmod(0o600)
    file.write_bytes(LAYER[:-1] + b"X")

    outcome = old("migrate", "--to", str(new.file))
    without = new.layer()[0]
    push(new.data, "team/images/app", "1.0", LAYER)

    assert outcome.code == 1
    assert outcome.lines[1].startswith(f"lost {sha256(LAYER)} (19.5 KiB, storage default): its bytes have digest")
    assert outcome.lines[1].endswith("needed by team/images/app")
    assert "1 blobs could not be read" in outcome.err
    assert without == 404
    assert new.layer() == (200, LAYER)


def test_the_secret_key_goes_along(old: Sluice, new: New) -> None:
    """So that tokens and whatever else is sealed stay good."""
    old.good("migrate", "--to", str(new.file))

    assert load_or_create_key(new.data / "secret.key") == load_or_create_key(old.data / "secret.key")


def test_signing_keys_stay_behind_where_the_secret_key_is_another(old: Sluice, new: New) -> None:
    """It is told, and the new installation makes its own."""
    new.data.mkdir()
    key = load_or_create_key(new.data / "secret.key")

    outcome = old.good("migrate", "--to", str(new.file))

    assert "another secret key" in outcome.err
    assert load_or_create_key(new.data / "secret.key") == key
    assert new.layer() == (200, LAYER)


@pytest.fixture
def shared(tmp_path: Path, new: New, old: Sluice) -> Path:
    """A file for another database over the old one's directory of blobs."""
    file = tmp_path / "shared.toml"
    file.write_text(
        f'[storage]\ndata = "{new.data}"\n[storage.storages.default]\npath = "{old.data}/storages/default"\n'
    )
    return file


def test_a_shared_place_is_refused_unless_asked_for(old: Sluice, new: New, tmp_path: Path, shared: Path) -> None:
    """Neither the database nor a directory may be the old one's."""
    itself = tmp_path / "itself.toml"
    itself.write_text(f'[storage]\ndata = "{old.data}"\n')

    assert "the same database" in old("migrate", "--to", str(itself), "--keep-blobs").err
    assert "leave the bytes there with --keep-blobs" in old("migrate", "--to", str(shared)).err
    assert not (new.data / "sluice.db").exists()


def test_a_database_moves_alone(old: Sluice, shared: Path) -> None:
    """Not a byte of a blob is copied or removed, and the new installation has them all; also of a second run."""
    before = sorted((old.data / "storages").rglob("*"))
    first = old.good("migrate", "--to", str(shared), "--keep-blobs", "--verify")
    second = old.good("migrate", "--to", str(shared), "--keep-blobs")
    after = sorted((old.data / "storages").rglob("*"))
    push(old.data, "team/images/app", "1.1", b"another layer")
    third = old.good("migrate", "--to", str(shared), "--keep-blobs")

    for outcome, kept in ((first, 2), (second, 2), (third, 3)):
        assert outcome.out.startswith(f"copied 0 blobs (0 B), {kept} were there already")
    assert after == before
    checked = run("fsck", "--config", str(shared))
    assert (checked.code, checked.out) == (0, "checked 3 blobs (19.5 KiB), found 0 problems\n")


def test_a_storage_that_is_not_configured_is_named(old: Sluice, new: New, tmp_path: Path) -> None:
    """Nothing moves before every storage in use has its counterpart."""
    new.file.write_text(
        f'[storage]\ndata = "{new.data}"\ndefault = "other"\n[storage.storages.other]\npath = "{tmp_path}/other"\n'
    )

    outcome = old("migrate", "--to", str(new.file))

    assert outcome.code == 1
    assert "the new installation has no storage default" in outcome.err


def test_options_of_a_move_are_refused_without_one(sluice: Sluice) -> None:
    """They would promise something that does not happen."""
    options = (["--verify"], ["--replace"], ["--keep-blobs"], ["--parallel", "2"])

    assert [sluice("migrate", *option).code for option in options] == [2, 2, 2, 2]


def test_mistakes_in_the_new_configuration_are_told(sluice: Sluice, new: New) -> None:
    """As for any configuration, with the file's name."""
    new.file.write_text("[storage]\ndatum = 1\n")

    outcome: Outcome = sluice("migrate", "--to", str(new.file))
    absent = sluice("migrate", "--to", str(new.file.with_name("absent.toml")))

    assert (outcome.code, "new.toml has mistakes" in outcome.err) == (2, True)
    assert (absent.code, "absent.toml has mistakes" in absent.err) == (2, True)


def test_people_see_how_far_it_is(old: Sluice, new: New) -> None:
    """On a terminal there is a bar with bytes; it does not reach standard output."""
    master, slave = pty.openpty()
    try:
        words = [sys.executable, "-m", "gateway", "migrate", "--data", str(old.data), "--to", str(new.file)]
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=slave, timeout=60, check=True, text=True)
        seen = os.read(master, 65536).decode()
    finally:
        os.close(slave)
        os.close(master)

    assert "blobs" in seen
    assert "19.5 KiB of 19.5 KiB" in seen
    assert "of 19.5 KiB" not in done.stdout


@pytest.mark.parametrize("directory", ["data", "storages"])
def test_an_old_installation_without_its_volume_is_told(old: Sluice, new: New, directory: str) -> None:
    """An empty mount point is no installation without blobs."""
    shutil.rmtree(old.data if directory == "data" else old.data / "storages")

    outcome = old("migrate", "--to", str(new.file))

    assert (outcome.code, outcome.out) == (1, "")
    assert ("no installation in" if directory == "data" else "but the database knows 2 blobs") in outcome.err


@pytest.fixture
def cluster(tmp_path: Path, empty_postgres_url: str, radosgw: S3Server, bucket: str) -> Path:
    """A file for an installation in PostgreSQL and a bucket."""
    file = tmp_path / "cluster.toml"
    file.write_text(
        f'[storage]\ndata = "{tmp_path}/cluster"\ndatabase_url = "{empty_postgres_url}"\n'
        f'[storage.storages.default]\nkind = "s3"\nbucket = "{bucket}"\nendpoint_url = "{radosgw.endpoint}"\n'
        f'access_key_id = "{radosgw.access_key_id}"\nsecret_access_key = "{radosgw.secret_access_key}"\n'
    )
    return file


def test_to_a_cluster_and_back(old: Sluice, new: New, cluster: Path, radosgw: S3Server, bucket: str) -> None:
    """From SQLite and a directory to PostgreSQL and a bucket, twice, and from there to a directory again."""
    first = old.good("migrate", "--to", str(cluster), "--verify")
    push(old.data, "team/images/app", "1.1", b"another layer")
    second = old.good("migrate", "--to", str(cluster))
    checked = run("fsck", "--config", str(cluster))
    back = run("migrate", "--config", str(cluster), "--to", str(new.file))

    assert first.out.startswith("copied 2 blobs")
    assert second.out.startswith("copied 1 blobs (13 B), 2 were there already")
    assert checked.out == "checked 3 blobs (19.5 KiB), found 0 problems\n"
    assert back.out.startswith("copied 3 blobs (19.5 KiB), 0 were there already")
    assert len(radosgw.objects(bucket, "blobs/")) == len(radosgw.objects(bucket, "markers/")) == 3
    assert radosgw.objects(bucket, "staging/") == {}
    assert new.layer() == (200, LAYER)
    for tag, layer in (("1.0", LAYER), ("1.1", b"another layer")):
        assert ask(new.data, "GET", f"{PLACE}/manifests/{tag}") == (200, image(layer))


def test_a_lost_database_is_rebuilt_from_the_bucket(old: Sluice, cluster: Path, tmp_path: Path) -> None:
    """All blobs are known again by listing the markers, and moving the same images again copies nothing."""
    old.good("migrate", "--to", str(cluster))
    lost = tmp_path / "rebuilt.toml"
    lines = [line for line in cluster.read_text().splitlines() if not line.startswith("database_url")]
    lost.write_text("\n".join(lines))
    (tmp_path / "cluster" / "sluice.db").touch(mode=0o600)
    assert run("migrate", "--config", str(lost)).code == 0

    rebuilt = run("fsck", "--config", str(lost), "--rebuild")
    verified = run("fsck", "--config", str(lost), "--rebuild", "--verify")
    moved = old.good("migrate", "--to", str(lost), "--replace")

    assert rebuilt.out == "looked at 2 objects: 2 rows made, 0 healed, 0 needed none\n"
    assert verified.out == "looked at 2 objects: 0 rows made, 0 healed, 2 needed none\n"
    assert moved.out.startswith("copied 0 blobs (0 B), 2 were there already")
    assert run("fsck", "--config", str(lost)).code == 0


def test_a_killed_move_goes_on(sluice: Sluice, new: New) -> None:
    """Nobody can use half of it; what had arrived is not copied again, and nothing of the rest is left behind."""
    layers = [bytes([number]) * (8 << 20) for number in range(10)]
    for number, layer in enumerate(layers):
        push(sluice.data, "team/images/app", f"v{number}", layer)
    words = [sys.executable, "-m", "gateway", "migrate", "--data", str(sluice.data), "--to", str(new.file)]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as move:
        assert wait_until(lambda: blobs_in(new.data) >= 2, 60)
        move.kill()
    killed_at = blobs_in(new.data)
    refused = [Sluice(new.data)(*words) for words in (("user", "list"), ("fsck",))]

    outcome = sluice.good("migrate", "--to", str(new.file))

    found = re.match(r"copied (\d+) blobs .*, (\d+) were there already", outcome.out)
    assert found is not None
    assert (int(found[1]) + int(found[2]), int(found[2])) == (11, killed_at)
    assert 2 <= killed_at < 11
    assert all(each.code == 1 and "run `sluice migrate --to` again" in each.err for each in refused)
    assert Sluice(new.data).good("fsck").code == 0
    files = [path for path in (new.data / "storages" / "default" / "staging").rglob("*") if path.is_file()]
    assert files == []


def blobs_in(data: Path) -> int:
    """How many blobs an installation has on record; 0 while it has no tables."""
    try:
        with closing(sqlite3.connect(f"file:{data}/sluice.db?mode=ro", uri=True)) as database:
            return int(database.execute("SELECT count(*) FROM blobs").fetchone()[0])
    except sqlite3.Error:
        return 0
