"""The list of keys follows the models."""

from gateway.config.schema import keys


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


def test_only_the_secret_key_is_secret() -> None:
    """The mask is put on by type."""
    assert [key.dotted for key in keys() if key.is_secret] == ["access.secret_key"]
