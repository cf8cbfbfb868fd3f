"""The grammar of account names."""

import pytest

from gateway.access.account_names import is_account_name, parse_robot_name, parse_user_name
from gateway.access.errors import InvalidField

HOSTILE = [
    "",
    "_",
    "-a",
    "a-",
    "Admin",
    "admin ",
    " admin",
    "admin\n",
    "admin\0",
    "аdmin",  # noqa: RUF001 - a Cyrillic letter is the point
    "ａdmin",  # noqa: RUF001 - a full-width letter is the point
    "admin\u200b",
    "a:b",
    "a/b",
    "a$b",
    "$app",
    "<token>",
    "a" * 65,
    "\ud800",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_that_look_like_others_or_break_headers_are_refused(name: str) -> None:
    """A14: look-alikes, invisible characters, blanks, NUL, colons and markers are no names, for users or robots."""
    for parse in (parse_user_name, parse_robot_name):
        with pytest.raises(InvalidField) as caught:
            parse(name)
        assert caught.value.field == "name"
    assert not is_account_name(name)


@pytest.mark.parametrize("name", ["oauth2accesstoken", "token", "anonymous", "sa$ci", "robot$ci"])
def test_names_with_another_meaning_are_no_user_names(name: str) -> None:
    """A14: what clients send beside tokens, and the mark of robots, cannot be a user."""
    with pytest.raises(InvalidField):
        parse_user_name(name)


@pytest.mark.parametrize("name", ["a", "0", "alice", "a.b_c+d@e-f", "scanner-x", "library", "a" * 64])
def test_ordinary_names_pass(name: str) -> None:
    """TOK-20: letters, digits and . _ + @ - make names; `scanner-x` is one like any other."""
    assert parse_user_name(name) == name
    assert parse_robot_name(name) == parse_robot_name(f"sa${name}") == f"sa${name}"
    assert is_account_name(name)
    assert is_account_name(f"sa${name}")


def test_a_robot_mark_is_not_taken_off_twice() -> None:
    """`sa$sa$x` is not another way to write `sa$x`."""
    with pytest.raises(InvalidField):
        parse_robot_name("sa$sa$x")
