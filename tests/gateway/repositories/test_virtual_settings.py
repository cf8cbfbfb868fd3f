"""What a virtual repository's settings say, and what is never guessed."""

import json

import pytest

from gateway.repositories.virtual_settings import VIRTUAL, VirtualSettings, virtual_of
from storage import Unavailable


@pytest.mark.parametrize("settings", ["{}", '{"redirect_pulls":true}', '{"virtual":{}}'])
def test_the_default_is_to_stop(settings: str) -> None:
    """Who says nothing is safe from members that answer for others (row P10)."""
    assert virtual_of(settings).on_member_failure == "stop"


@pytest.mark.parametrize("chosen", ["stop", "skip"])
def test_settings_survive_their_row(chosen: str) -> None:
    """What is written is read back; the default is not written, so that a later version's applies."""
    settings = VirtualSettings.of({"on_member_failure": chosen})

    assert virtual_of(json.dumps({VIRTUAL: settings.to_json()})) == settings
    assert (settings.to_json() == {}) is (chosen == "stop")


@pytest.mark.parametrize("document", [{"on_member_failure": "go on"}, {"on_member_failure": None}, {"other": 1}])
def test_what_is_not_understood_is_an_error(document: dict[str, object]) -> None:
    """A newer version wrote it: it must not be taken for the default."""
    with pytest.raises(Unavailable, match=r"on_member_failure|does not know"):
        virtual_of(json.dumps({VIRTUAL: document}))
