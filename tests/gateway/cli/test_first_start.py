"""The first start makes an administrator and a repository for everything, once, whenever it is interrupted."""

import stat
from pathlib import Path

import pytest
import trio

from gateway.access.accounts import Accounts
from gateway.app import open_services
from gateway.cli.first_start import PASSWORD_FILE, prepare
from gateway.config import Settings, Storage
from storage.metadata import projects, repositories

pytestmark = pytest.mark.slow  # each start makes a database from nothing


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """An installation that is not there yet."""
    return Settings(storage=Storage(data=tmp_path / "deep" / "data"))


def password_file(settings: Settings) -> Path:
    """Where the random password is kept."""
    return settings.storage.data / PASSWORD_FILE


async def test_a_random_password_is_made_kept_and_works(settings: Settings) -> None:
    """Without one there is no default that everybody knows (security row A23)."""
    admin = await prepare(settings, password=None)

    assert admin is not None
    assert (admin.name, admin.is_random) == ("admin", True)
    assert len(admin.password) == 24
    assert password_file(settings).read_text() == admin.password + "\n"
    assert stat.S_IMODE(password_file(settings).stat().st_mode) == 0o600
    assert stat.S_IMODE(settings.storage.data.stat().st_mode) == 0o700
    async with open_services(settings) as services:
        principal = await services.authenticator.basic("admin", admin.password)
        assert principal.account is not None
        assert principal.account.is_admin


async def test_a_chosen_password_is_kept_nowhere(settings: Settings) -> None:
    """It is its owner's business, and not printed either."""
    admin = await prepare(settings, password="correct-horse-battery")

    assert admin is not None
    assert not admin.is_random
    assert not password_file(settings).exists()


async def test_two_installations_have_two_passwords(tmp_path: Path) -> None:
    """Random means random (security row A23)."""
    made = [await prepare(Settings(storage=Storage(data=tmp_path / name)), password=None) for name in ("one", "two")]

    assert len({admin.password for admin in made if admin is not None}) == 2


async def test_a_second_start_makes_nothing(settings: Settings) -> None:
    """Neither an account nor a repository, whatever was removed since; a password given then changes nothing."""
    first = await prepare(settings, password=None)
    async with open_services(settings) as services:
        found = await services.database.read(repositories.find, "common", "docker-hosted")
        assert found is not None
        await services.database.transaction(repositories.delete, found.id)

    again = await prepare(settings, password="another-password")

    assert first is not None
    assert again is None
    async with open_services(settings) as services:
        assert await services.database.read(repositories.catch_all) is None
        assert (await services.authenticator.basic("admin", first.password)).account is not None


async def test_every_image_has_a_place(settings: Settings) -> None:
    """The catch-all takes short names, so that the first push works."""
    await prepare(settings, password=None)

    async with open_services(settings) as services:
        short = await services.database.read(repositories.route, "myapp")
        full = await services.database.read(repositories.route, "common/docker-hosted/myapp")

    assert short is not None
    assert full is not None
    assert (short[0].full_name, short[1]) == ("common/docker-hosted", "myapp")
    assert short == full


@pytest.mark.parametrize("step", ["ensure_admin", "hash"])
async def test_a_start_that_was_killed_goes_on(settings: Settings, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Killed before the account was made, the next start uses the password in the file: it is never lost."""

    async def killed(*_: object, **__: object) -> None:
        await trio.lowlevel.checkpoint()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Accounts, "ensure_admin" if step == "ensure_admin" else "_hash", killed)
        with pytest.raises(KeyboardInterrupt):
            await prepare(settings, password=None)
    kept = password_file(settings).read_text().strip()

    admin = await prepare(settings, password=None)

    assert admin is not None
    assert admin.password == kept
    async with open_services(settings) as services:
        assert await services.database.read(projects.find, "common") is not None
        assert (await services.authenticator.basic("admin", kept)).account is not None


async def test_two_first_starts_at_once_agree(settings: Settings) -> None:
    """One makes the account, and the file holds its password."""
    made = []

    async def start() -> None:
        made.append(await prepare(settings, password=None))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(start)
        nursery.start_soon(start)
    kept = password_file(settings).read_text().strip()

    assert [admin.password for admin in made if admin is not None] == [kept]
    assert sorted(path.name for path in settings.storage.data.iterdir() if PASSWORD_FILE in path.name) == [
        PASSWORD_FILE
    ]
