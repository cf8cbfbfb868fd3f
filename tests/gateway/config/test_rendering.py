"""The effective tree is printed as a file that would give it again, but for secrets."""

import itertools
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import DirectoryStorage, S3Storage, Server, Settings, Storage, load, render

_PATHS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20).map(Path)
_BUCKETS = st.builds(
    S3Storage,
    bucket=st.uuids().map(str),
    prefix=st.sampled_from(["", "a/b"]),
    endpoint_url=st.none() | st.just("https://s3.example:9000"),
    redirect_networks=st.lists(st.sampled_from(["10.0.0.0/8", "::/0"]), max_size=2).map(tuple),
    hot_bytes=st.integers(0, 1 << 40),
)
_SETTINGS = st.builds(
    Settings,
    server=st.builds(
        Server,
        listen=st.sampled_from(["127.0.0.1:0", "[::]:1"]),
        server_names=st.lists(st.text(st.characters(codec="utf-8"), max_size=9), max_size=3).map(tuple),
        idle_timeout_s=st.floats(0.001, 1e9),
        workers=st.integers(1, 1000) | st.just("auto"),
    ),
    storage=st.builds(
        Storage,
        data=_PATHS,
        database=st.none() | _PATHS,
        storages=st.dictionaries(
            st.sampled_from(["fast", "s-1", "a_b", "2024"]),
            st.builds(DirectoryStorage, path=st.none() | _PATHS) | _BUCKETS,
        ),
    ),
)


def _are_apart(settings: Settings) -> bool:
    """Whether no two storages share a directory, which is refused."""
    places = [settings.storage.directory(name).resolve() for name in settings.storage.storages]
    return not any(one.is_relative_to(other) for one, other in itertools.permutations(places, 2))


@pytest.mark.slow
@given(_SETTINGS.filter(_are_apart))
def test_what_is_printed_loads_to_the_same_tree(tmp_path_factory: pytest.TempPathFactory, settings: Settings) -> None:
    """Quotes, control characters, characters beyond ASCII and all numbers survive the way through TOML."""
    file = tmp_path_factory.mktemp("rendered") / "sluice.toml"
    file.write_text(render(settings), encoding="utf-8", newline="")

    assert load(file=file) == settings


def test_secrets_are_masked_and_unset_keys_are_said_to_be() -> None:
    """The page can be shown to anybody."""
    secret = "0123456789abcdef" * 2

    settings = Settings.model_validate(
        {
            "access": {"secret_key": secret},
            "storage": {
                "database_url": f"postgresql://u:{secret}@h/d",
                "storages": {"b": {"kind": "s3", "bucket": "abc", "access_key_id": "a", "secret_access_key": secret}},
            },
        }
    )

    text = render(settings)

    assert secret not in text + repr(settings)
    assert tomllib.loads(text)["storage"]["database_url"] == "***"
    assert tomllib.loads(text)["storage"]["storages"]["b"]["secret_access_key"] == "***"
    assert tomllib.loads(text)["access"]["secret_key"] == "***"
    assert "# external_url is not set" in text
