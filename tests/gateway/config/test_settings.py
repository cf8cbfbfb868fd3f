"""The tree judges its own values: each bad one is refused, and what depends on another key is checked against it."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.config import Access, DirectoryStorage, Garbage, Server, Settings, Storage


@pytest.mark.parametrize("listen", ["127.0.0.1:8080", "localhost:0", "[::1]:443", ":8080", "0.0.0.0:65535"])
def test_what_can_be_listened_on(listen: str) -> None:
    """A host, an address, a bracketed IPv6 address or nothing before the port is accepted."""
    assert Server(listen=listen).listen == listen


@pytest.mark.parametrize("listen", ["8080", "localhost", "::1:443", "host:65536", "host:٣", "ho st:1", "host:-1", ""])
def test_what_cannot_be_listened_on(listen: str) -> None:
    """Anything else than HOST:PORT is refused."""
    with pytest.raises(ValidationError, match="must be HOST:PORT"):
        Server(listen=listen)


@pytest.mark.parametrize(
    "values",
    [
        {"external_url": "registry.example"},
        {"external_url": "ftp://registry.example"},
        {"external_url": "https://user:secret@registry.example"},
        {"external_url": "https://registry.example/?x=1"},
        {"external_url": 'https://registry.example/a"b'},
        {"external_url": "https://registry.example/a b"},
        {"external_url": "https://zürich.example"},
        {"trusted_proxies": ("10.0.0.1/8",)},
        {"trusted_proxies": ("proxy.example",)},
        {"header_timeout_s": 0},
        {"header_timeout_s": float("inf")},
        {"header_timeout_s": float("nan")},
        {"workers": 0},
        {"workers": 1025},
        {"workers": "Auto"},
        {"tls_certificate": "chain.pem"},
        {"tls_key": "key.pem"},
    ],
)
def test_a_server_that_could_not_work_is_refused(values: dict[str, Any]) -> None:
    """Addresses that mean nothing, endless or no patience, and half a TLS pair are errors."""
    with pytest.raises(ValidationError):
        Server(**values)


def test_an_external_url_has_no_slash_at_its_end() -> None:
    """So that paths can be appended to it."""
    assert Server(external_url="https://registry.example/").external_url == "https://registry.example"


def test_the_storage_called_default_is_there_without_being_listed() -> None:
    """Listing another storage does not take it away."""
    storage = Storage(storages={"archive": DirectoryStorage(path=Path("archive"))})

    assert list(storage.storages) == ["default", "archive"]


def test_another_default_must_be_listed() -> None:
    """A default that names no storage is an error that says so."""
    with pytest.raises(ValidationError, match=r"must hold the storage 'fast' that storage.default names"):
        Storage(default="fast")
    assert list(Storage(default="fast", storages={"fast": DirectoryStorage()}).storages) == ["fast"]


@pytest.mark.parametrize("name", ["Fast", "a__b", "-a", "a/b", "..", "", "a.b"])
def test_a_storage_name_fits_a_path_and_a_variable(name: str) -> None:
    """Names that could leave the directory or cut a variable's name are refused."""
    with pytest.raises(ValidationError, match="lower-case letters and digits"):
        Storage(storages={name: DirectoryStorage()})


def test_files_lie_below_the_data_directory_unless_placed() -> None:
    """The database and each storage have a place without being told one, and keep the one they were told."""
    storage = Storage(data=Path("d"), storages={"fast": DirectoryStorage(path=Path("ssd"))})

    assert storage.database_file == Path("d/sluice.db")
    assert storage.directory("default") == Path("d/storages/default")
    assert storage.directory("fast") == Path("ssd")
    assert Storage(database=Path("x.db")).database_file == Path("x.db")


def test_a_secret_prints_as_stars() -> None:
    """Neither repr nor str of the tree shows the secret key."""
    secret = "0123456789abcdef" * 2

    settings = Settings(access=Access(secret_key=secret))  # type: ignore[arg-type]  # pydantic makes the secret of it

    assert secret not in repr(settings) + str(settings)


def test_the_tree_is_frozen_and_closed() -> None:
    """Nothing changes a setting after the start, and nothing adds one."""
    with pytest.raises(ValidationError, match="frozen"):
        Settings().garbage.grace_s = 1  # type: ignore[misc]
    with pytest.raises(ValidationError, match="Extra inputs"):
        Garbage(grace=1)  # type: ignore[call-arg]


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "a\x7f", "zürich", "Bearer", "my basic registry", "BASIC"])
def test_a_service_fits_the_challenge(name: str) -> None:
    """What every 401 must quote is refused at loading when it cannot be quoted, or would read as a scheme."""
    with pytest.raises(ValidationError, match=r"must be printable ASCII|must not contain the word"):
        Access(service=name)
    assert Access(service="registry.example:8443 (main)").service == "registry.example:8443 (main)"
