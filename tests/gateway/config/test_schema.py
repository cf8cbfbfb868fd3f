"""The list of keys follows the models."""

from gateway.config.schema import fits, keys


def test_every_key_has_a_meaning() -> None:
    """No setting goes without a description."""
    assert [key.dotted for key in keys() if not key.field.description] == []


def test_keys_are_named_alike_in_file_and_environment() -> None:
    """A key in a named section has its place in both."""
    names = {key.dotted: key.variable for key in keys()}

    assert names["server.listen"] == "SLUICE_SERVER__LISTEN"
    assert names["storage.storages.NAME.path"] == "SLUICE_STORAGE__STORAGES__NAME__PATH"


def test_keys_say_what_they_take() -> None:
    """Choices, bounds, lists and texts are told apart."""
    allowed = {key.dotted: key.allowed for key in keys()}

    assert allowed["logs.level"] == "`debug` or `info` or `warning` or `error`"
    assert allowed["access.token_lifetime_s"] == "whole number from 60, at most 900"
    assert allowed["server.idle_timeout_s"].startswith("number above 0, at most ")
    assert allowed["server.trusted_proxies"] == "list of texts"
    assert allowed["server.external_url"] == "text"


def test_switches_say_what_they_take() -> None:
    """Not 1 and 0, which TOML has no switches of."""
    assert {key.dotted: key.allowed for key in keys()}["lane.enabled"] == "`true` or `false`"


def test_a_key_stands_once_for_each_kind_of_section_that_has_it() -> None:
    """All storages have a kind; only a bucket has an endpoint."""
    dotted = [key.dotted for key in keys()]

    assert dotted.count("storage.storages.NAME.kind") == 2
    assert dotted.count("storage.storages.NAME.endpoint_url") == 1


def test_a_path_with_names_of_the_operator_fits_its_key() -> None:
    """Whole, on the way to it, and inside its value; another path does not."""
    key = next(key for key in keys() if key.dotted == "storage.storages.NAME.bucket")

    assert fits(("storage",), key)
    assert fits(("storage", "storages", "fast", "bucket"), key)
    assert fits(("storage", "storages", "fast", "bucket", "0"), key)
    assert not fits(("storage", "storages", "fast", "path"), key)


def test_secrets_are_secret_by_type() -> None:
    """Everything that opens a door; the mask is put on by type."""
    assert [key.dotted for key in keys() if key.is_secret] == [
        "storage.database_url",
        "storage.storages.NAME.secret_access_key",
        "access.secret_key",
    ]
