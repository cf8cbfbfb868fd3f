"""Where an installation's secret key comes from: the setting `access.secret_key`, else a file in its data directory.

The one place that knows. Everything blocks; for the start, and for commands.
"""

from pathlib import Path
from typing import Final

from gateway.access.sealing import key_from_setting, load_or_create_key
from gateway.config import Settings

_FILE: Final = "secret.key"


def secret_key(settings: Settings) -> bytes:
    """The installation's key; made as a file if there is none. Raises OSError, and ValueError if it cannot be used."""
    return _of_setting(settings) or load_or_create_key(_file(settings))


def present_secret_key(settings: Settings) -> bytes | None:
    """The key if there is one; nothing is made. Raises as above."""
    key = _of_setting(settings)
    return load_or_create_key(_file(settings)) if key is None and _file(settings).exists() else key


def carry_secret_key(settings: Settings, key: bytes) -> bytes:
    """The key of an installation that another one, which has this `key`, moves to: its own if it has one. As above."""
    return present_secret_key(settings) or load_or_create_key(_file(settings), key=key)


def _of_setting(settings: Settings) -> bytes | None:
    setting = settings.access.secret_key
    return None if setting is None else key_from_setting(setting.get_secret_value())


def _file(settings: Settings) -> Path:
    return settings.storage.data / _FILE
