"""The grammar of account names. A name tells people who somebody is; no right ever hangs on it (row A14)."""

import re
from typing import Final

from gateway.access.errors import InvalidField

USER: Final = "user"
ROBOT: Final = "robot"

ROBOT_PREFIX: Final = "sa$"
"""Robots are `sa$name`. It keeps the two kinds apart for readers; what a robot is, its row says."""

# ASCII only, so no two names look alike; no ":", which ends the name in Basic; no "$", which marks robots.
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9._+@-]{0,62}[a-z0-9])?")

# What clients send as a user name beside a token, and words that logs use for nobody.
_RESERVED: Final = frozenset({"anonymous", "everybody", "oauth2accesstoken", "system", "token"})


def parse_user_name(text: str) -> str:
    """The same text if a user may have that name; else `InvalidField`."""
    if not _NAME.fullmatch(text):
        raise InvalidField("name", "use 1 to 64 of a-z, 0-9 and . _ + @ -, beginning and ending with a letter or digit")
    if text in _RESERVED:
        raise InvalidField("name", f"{text} is reserved: clients use it for other things")
    return text


def parse_robot_name(text: str) -> str:
    """The full name `sa$name` of a robot, from either form; else `InvalidField`."""
    bare = text.removeprefix(ROBOT_PREFIX)
    if not _NAME.fullmatch(bare):
        raise InvalidField("name", f"use {ROBOT_PREFIX} and then what a user name may have")
    return ROBOT_PREFIX + bare


def is_account_name(text: str) -> bool:
    """Whether any account could have that name; what cannot is not worth a look into the database."""
    return _NAME.fullmatch(text.removeprefix(ROBOT_PREFIX)) is not None
