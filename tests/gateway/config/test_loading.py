"""Values come from the file, the environment and the command line, the later first; mistakes come at once."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.config import ConfigInvalid, Mistake, S3Storage, Settings, load
from gateway.config.schema import keys

SECRET = "hush-hush-hush-hush-hush-hush-hush-hush"


def write(directory: Path, text: str) -> Path:
    """A configuration file."""
    path = directory / "sluice.toml"
    path.write_text(text, encoding="utf-8")
    return path


def complaints(**given: Any) -> list[str]:
    """What loading complains of; fails if it does not."""
    with pytest.raises(ConfigInvalid) as caught:
        load(**given)
    return str(caught.value).splitlines()


def mistakes_of(**given: Any) -> list[Mistake]:
    """What is wrong; none if it loads, and anything but `ConfigInvalid` is raised on."""
    try:
        load(**given)
    except ConfigInvalid as error:
        return list(error.mistakes) or pytest.fail("refused without a reason")
    return []


def test_nothing_given_gives_the_defaults() -> None:
    """Sluice runs without any configuration."""
    assert load() == Settings()


def test_later_sources_override_earlier_ones(tmp_path: Path) -> None:
    """The command line beats the environment, which beats the file, which beats the default; key by key."""
    file = write(tmp_path, "[server]\nlisten = 'a:1'\nworkers = 2\nidle_timeout_s = 3\n")

    loaded = load(
        file=file,
        environ={"SLUICE_SERVER__LISTEN": "b:1", "SLUICE_SERVER__WORKERS": "4"},
        overrides={"server.listen": ("--listen", "c:1"), "server.workers": ("--workers", None)},
    ).server

    assert (loaded.listen, loaded.workers, loaded.idle_timeout_s, loaded.header_timeout_s) == ("c:1", 4, 3, 10)


def test_the_environment_reads_every_kind_of_value() -> None:
    """Numbers, paths, lists, secrets and keys of named storages are read from their text; empty leaves unset."""
    loaded = load(
        environ={
            "SLUICE_SERVER__IDLE_TIMEOUT_S": "2.5",
            "SLUICE_SERVER__TRUSTED_PROXIES": "10.0.0.0/8, 192.168.0.0/16,",
            "SLUICE_SERVER__EXTERNAL_URL": "",
            "SLUICE_ACCESS__SECRET_KEY": SECRET,
            "SLUICE_STORAGE__STORAGES__FAST__PATH": "/ssd",
        }
    )

    assert loaded.server.idle_timeout_s == 2.5
    assert loaded.server.trusted_proxies == ("10.0.0.0/8", "192.168.0.0/16")
    assert loaded.server.external_url is None
    assert loaded.access.secret_key is not None
    assert loaded.access.secret_key.get_secret_value() == SECRET
    assert loaded.storage.directory("fast") == Path("/ssd")


def test_all_mistakes_are_listed_at_once(tmp_path: Path) -> None:
    """Each names its source, the key as it is called there, what was given and what is allowed."""
    text = "[server]\nlisen = 'x'\nlisten = 5\nworkers = true\n[logs]\nlevel = 'loud'\n[acess]\nx = 1\n"
    file = write(tmp_path, text)

    found = complaints(
        file=file,
        environ={"SLUICE_GARBAGE__GRACE_S": "soon", "SLUICE_SERVER_LISTEN": "y"},
        overrides={"storage.default": ("--storage", "no where")},
    )

    storage_names = "must be lower-case letters and digits, with single '-' or '_' between them"
    assert sorted(found) == sorted(
        [
            f"{file}: server.lisen: unknown key; did you mean listen?",
            f"{file}: server.listen = 5: must be a valid string",
            f"{file}: server.workers = true: must be a whole number from 1 to 1024, or auto",
            f"{file}: logs.level = \"loud\": must be 'debug', 'info', 'warning' or 'error'",
            f"{file}: acess: unknown key; did you mean access?",
            'environment: SLUICE_GARBAGE__GRACE_S = "soon": must be a valid integer',
            "environment: SLUICE_SERVER_LISTEN: unknown variable; did you mean SLUICE_SERVER__LISTEN?",
            f'command line: --storage = "no where": {storage_names}',
        ]
    )


def test_a_mistake_blames_the_source_whose_value_counts(tmp_path: Path) -> None:
    """Of two sources that give a key the later is blamed, for it is the one in effect."""
    file = write(tmp_path, "[server]\nworkers = 'many'\n")

    assert complaints(file=file, environ={"SLUICE_SERVER__WORKERS": "0"}) == [
        "environment: SLUICE_SERVER__WORKERS = 0: must be a whole number from 1 to 1024, or auto"
    ]


def test_half_a_tls_pair_is_a_mistake_beside_others() -> None:
    """What depends on another key is reported together with the rest."""
    found = complaints(environ={"SLUICE_SERVER__TLS_CERTIFICATE": "/c", "SLUICE_SERVER__WORKERS": "x"})

    assert found == [
        'environment: SLUICE_SERVER__WORKERS = "x": must be a whole number from 1 to 1024, or auto',
        "default: server.tls_key: must be set together with server.tls_certificate, or neither",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "[access]\nsecret_key = 'short-hush'\n",
        "[access]\nsecret_keys = 'short-hush'\n",
        "[acces]\nsecret_key = 'short-hush'\n",
        "access = 'short-hush'\n",
        "[access]\nsecret_key = ['short-hush']\n",
    ],
)
def test_no_complaint_shows_a_secret(text: str, tmp_path: Path) -> None:
    """Neither a wrong secret nor one under a misspelt key or in a wrong place is printed."""
    assert "hush" not in "\n".join(complaints(file=write(tmp_path, text)))


@pytest.mark.parametrize(
    "text",
    [
        "[storage]\ndatabase_url = 'mysql://u:hush@h/d'\n",
        "[storage]\ndatabase_url = 'postgresql://u:hush@h:hush/d'\n",
        "[storage.storages.b]\nkind = 's3'\nsecret_access_key = 'hush'\n",
        "[storage.storages.b]\nkind = 's4'\nsecret_access_key = 'hush'\n",
        "[storage.storages.b]\nkind = 's3'\nbucket='abc'\nsecret_acces_key = 'hush'\n",
        "[storage.storages.b]\nsecret_access_key = 'hush'\n",
        "[storage.storages]\nb = 'hush'\n",
        "[storage.storages.b]\nkind = 's3'\nbucket = 'abc'\nendpoint_url = 'http://u:hush@h/'\n",
        "[server]\nexternal_url = 'http://u:hush@h/'\n",
    ],
)
def test_no_complaint_shows_the_secret_of_a_storage(text: str, tmp_path: Path) -> None:
    """Not under a name of the operator's either, nor with the wrong kind, nor as a part of what is wrong."""
    assert "hush" not in "\n".join(complaints(file=write(tmp_path, text)))


def test_mistakes_in_storages_are_said_in_the_words_of_their_kind(tmp_path: Path) -> None:
    """A key of the other kind is unknown, and what is missing is blamed on who began the section."""
    text = "[storage.storages.b]\nkind = 's3'\ncompression = 'auto'\n[storage.storages.c]\nbuckt = 'x'\n"
    file = write(tmp_path, text)

    found = complaints(
        file=file, environ={"SLUICE_STORAGE__STORAGES__D__KIND": "s4", "SLUICE_STORAGE__STORAGES__E__KIND": "s3"}
    )

    assert set(found) == {
        "environment: SLUICE_STORAGE__STORAGES__D__KIND = \"s4\": must be 'directory' or 's3'",
        "environment: storage.storages.e.bucket: must be set",
        f"{file}: storage.storages.b.bucket: must be set",
        f"{file}: storage.storages.b.compression: unknown key; see `sluice config reference`",
        f"{file}: storage.storages.c.buckt: unknown key; known: compression, kind, path",
    }


def test_a_bucket_comes_from_the_environment_alone() -> None:
    """As containers are configured; switches are written as in TOML."""
    loaded = load(
        environ={
            "SLUICE_STORAGE__DEFAULT": "main",
            "SLUICE_STORAGE__STORAGES__MAIN__KIND": "s3",
            "SLUICE_STORAGE__STORAGES__MAIN__BUCKET": "sluice",
            "SLUICE_STORAGE__STORAGES__MAIN__SECRET_ACCESS_KEY": SECRET,
            "SLUICE_STORAGE__STORAGES__MAIN__ACCESS_KEY_ID": "id",
            "SLUICE_STORAGE__STORAGES__MAIN__HOT_BYTES": "0",
            "SLUICE_STORAGE__STORAGES__MAIN__REDIRECT_NETWORKS": "10.0.0.0/8,::1/128",
            "SLUICE_STORAGE__DATABASE_URL": "postgres://u:p@h/d",
            "SLUICE_SCRUB__ENABLED": "False",
        }
    )

    (storage,) = loaded.storage.storages.values()
    assert isinstance(storage, S3Storage)
    assert (storage.bucket, storage.hot_bytes) == ("sluice", 0)
    assert storage.redirect_networks == ("10.0.0.0/8", "::1/128")
    assert loaded.storage.database_url is not None
    assert loaded.storage.database_url.get_secret_value() == "postgresql://u:p@h/d"
    assert not loaded.scrub.enabled


def test_a_switch_that_is_neither_on_nor_off_is_a_mistake() -> None:
    """Whoever writes `off` learns what is read."""
    assert complaints(environ={"SLUICE_LANE__ENABLED": "off"}) == [
        'environment: SLUICE_LANE__ENABLED = "off": must be a valid boolean'
    ]


def test_a_complaint_shows_no_flood() -> None:
    """A long value is cut."""
    (complaint,) = complaints(environ={"SLUICE_LOGS__LEVEL": "x" * 100_000})

    assert len(complaint) < 300


def test_variables_of_kubernetes_and_our_own_are_no_settings() -> None:
    """A service called sluice puts its addresses into every pod; they must not stop the start."""
    known = [
        "SLUICE_ADMIN_PASSWORD",
        "SLUICE_CONFIG",
        "SLUICE_PASSWORD",
        "SLUICE_UPSTREAM_PASSWORD",
        "SLUICE_CRASH_ROUNDS",
    ]
    kubernetes = [
        "SLUICE_SERVICE_HOST",
        "SLUICE_SERVICE_PORT",
        "SLUICE_SERVICE_PORT_HTTP",
        "SLUICE_PORT",
        "SLUICE_PORT_8080_TCP",
        "SLUICE_PORT_8080_TCP_ADDR",
        "SLUICE_GATEWAY_SERVICE_HOST",
    ]

    assert load(environ=dict.fromkeys(known + kubernetes, "x")) == Settings()


@pytest.mark.parametrize("variable", ["SLUICE_X", "SLUICE_server__listen", "SLUICE___", "SLUICE_SERVER", "SLUICE_"])
def test_any_other_variable_of_ours_is_a_mistake(variable: str) -> None:
    """A misspelt or half-written variable is named, not ignored."""
    (complaint,) = complaints(environ={variable: "1"})

    assert complaint.startswith(f"environment: {variable}: unknown variable")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[server\n", "is not TOML: "),
        (b"[server]\nlisten = '\xff'\n", "is not UTF-8 text"),
        (b"x = " + b"[" * 5000, "nested too deeply|is not TOML"),
        (b"x = " + b"9" * 5000, "is not TOML: "),
        (b"#" * (1 << 20) + b"\n", "is larger than 1048576 bytes"),
    ],
)
def test_a_file_that_is_no_configuration_is_named(content: bytes, reason: str, tmp_path: Path) -> None:
    """Whatever is in it, the complaint names the file and what is wrong, beside all others."""
    file = tmp_path / "sluice.toml"
    file.write_bytes(content)

    with pytest.raises(ConfigInvalid, match=reason) as caught:
        load(file=file, environ={"SLUICE_SERVER__WORKERS": "0"})

    assert [mistake.source for mistake in caught.value.mistakes] == [str(file), "environment"]


def test_a_missing_file_is_a_mistake(tmp_path: Path) -> None:
    """A file that was named must be there."""
    assert complaints(file=tmp_path / "none.toml") == [
        f"{tmp_path / 'none.toml'}: cannot be read: No such file or directory"
    ]


def test_bytes_that_are_no_text_are_a_mistake() -> None:
    """The system passes them as lone surrogates, which no file could hold either."""
    assert complaints(environ={"SLUICE_ACCESS__SERVICE": "\udcff"}) == [
        "environment: SLUICE_ACCESS__SERVICE: is not UTF-8 text"
    ]
    assert complaints(overrides={"access.service": ("--service", "\udcff")}) == [
        "command line: --service: is not UTF-8 text"
    ]


def test_a_table_in_place_of_a_value_does_not_hide_the_other_source(tmp_path: Path) -> None:
    """A file that has a number where a section belongs is blamed for it, whatever the environment says."""
    file = write(tmp_path, "storage = 5\n")

    assert complaints(file=file, environ={"SLUICE_STORAGE__THREADS": "3"}) == [f"{file}: storage = 5: must be a table"]


_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
_VALUE = st.one_of(_TEXT, st.integers().map(str), st.floats().map(str), st.sampled_from(["", "off", "a,b", "1"]))


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from([key.variable for key in keys()]), _VALUE, max_size=5))
def test_any_environment_loads_or_is_explained(environ: dict[str, str]) -> None:
    """Whatever the variables hold, there is a tree or a list of mistakes that names each variable at fault."""
    mistakes = mistakes_of(environ=environ)

    assert all(each.key in environ or each.source == "default" for each in mistakes)
    assert mistakes == mistakes_of(environ=dict(reversed(environ.items())))


_LEAF = st.one_of(_TEXT, st.integers(), st.floats(), st.booleans(), st.dates().map(str), st.lists(_TEXT, max_size=2))
_NAMES = st.sampled_from(sorted({part for key in keys() for part in key.path} | {"x", "fast"}))
_TREES = st.recursive(_LEAF, lambda inside: st.dictionaries(_NAMES, inside, max_size=3), max_leaves=8)


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(_NAMES, _TREES, max_size=4))
def test_any_tree_of_values_loads_or_is_explained(tree: dict[str, Any]) -> None:
    """No shape of values raises anything but the list of mistakes, and each mistake is one line of bounded length."""
    overrides = {name: ("--tree", value) for name, value in tree.items()}
    mistakes = mistakes_of(overrides=overrides)

    assert all(len(str(each)) < 500 for each in mistakes)


@pytest.mark.parametrize("second", ["one", "one/inside", ".", "link", "link/inside", "one/../one"])
def test_storages_that_share_a_directory_are_refused(tmp_path: Path, second: str) -> None:
    """Two storages in the same directory, or inside one another, also through a symbolic link: both would be lost."""
    (tmp_path / "one").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "one")
    text = f"[storage.storages.default]\npath = '{tmp_path}/one'\n[storage.storages.b]\npath = '{tmp_path}/{second}'\n"
    (mistake,) = mistakes_of(file=write(tmp_path, text))
    assert (mistake.key, mistake.source) == ("storage.storages.b.path", str(tmp_path / "sluice.toml"))
    assert "directory of storage 'default'" in mistake.reason


def test_storages_side_by_side_are_fine(tmp_path: Path) -> None:
    """Neighbours whose names begin alike share nothing."""
    text = f"[storage.storages.default]\npath = '{tmp_path}/one'\n[storage.storages.b]\npath = '{tmp_path}/one-b'\n"
    assert mistakes_of(file=write(tmp_path, text)) == []
