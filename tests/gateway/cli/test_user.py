"""`sluice user`: people, passwords and roles, on the database of an installation."""

import pytest

from tests.gateway.cli.command import Sluice

PASSWORD = "lovelace-1815"


def test_a_user_is_added_and_listed(sluice: Sluice) -> None:
    """With what the options say, and with the next step."""
    added = sluice.good(
        "user", "add", "ada", "--password-stdin", "--auditor", "--description", "first", "--expires", "2126-01-31",
        stdin=PASSWORD + "\n",
    )  # fmt: skip

    users = {user["name"]: user for user in sluice.good("user", "list", "--json").value}

    assert added.out == "added user ada; next: sluice user grant ada writer PROJECT\n"
    assert users["ada"]["is_auditor"]
    assert users["ada"]["expires_at"] == "2126-01-31T00:00:00Z"
    assert not users["ada"]["is_admin"]


def test_a_table_has_a_line_for_each(sluice: Sluice) -> None:
    """By name, under headings; robots are not people."""
    sluice.good("robot", "add", "ci")

    lines = sluice.good("user", "list").lines

    assert lines[0].split() == ["NAME", "IS", "ADMIN", "IS", "AUDITOR", "IS", "ENABLED", "EXPIRES", "AT", "DESCRIPTION"]
    names = ["admin", "mary", "olga", "rita", "stranger", "watcher", "will"]
    assert [line.split()[0] for line in lines[1:]] == names


@pytest.mark.parametrize(
    ("words", "stdin", "environ", "code", "text"),
    [
        (["ada"], "", {}, 2, "no password: pipe it in with --password-stdin, or set SLUICE_PASSWORD"),
        (["ada", "--password-stdin"], "\n", {}, 2, "the password is empty"),
        (["ada", "--password-stdin"], "short\n", {}, 1, "password: use at least 8 characters"),
        (["Ada", "--no-password"], "", {}, 1, "name: use 1 to 64 of a-z"),
        (["rita", "--no-password"], "", {}, 1, "account rita exists already"),
        (["ada", "--no-password", "--expires", "soon"], "", {}, 2, "'soon' does not match the format"),
        (["ada"], "", {"SLUICE_PASSWORD": PASSWORD}, 0, "added user ada"),
        (["ada", "--password-stdin"], PASSWORD, {}, 0, "added user ada"),
        (["ada", "--no-password"], "", {}, 0, "added user ada"),
    ],
)
def test_what_is_wrong_is_one_line(
    sluice: Sluice, *, words: list[str], stdin: str, environ: dict[str, str], code: int, text: str
) -> None:
    """Wrong usage is exit code 2, what cannot be done is 1, and the line says what to do."""
    outcome = sluice("user", "add", *words, stdin=stdin, environ=environ)

    assert outcome.code == code
    assert text in (outcome.err if code else outcome.out)
    assert (len(outcome.err.splitlines()) == 1) == (code == 1)
    assert PASSWORD not in outcome.out + outcome.err


def test_another_password(sluice: Sluice) -> None:
    """The account is named, the password is read."""
    assert sluice.good("user", "passwd", "rita", "--password-stdin", stdin=PASSWORD).out.startswith("changed")
    assert sluice("user", "passwd", "noone", "--password-stdin", stdin=PASSWORD).code == 1


def test_an_account_is_disabled_and_enabled(sluice: Sluice) -> None:
    """Robots too."""
    sluice.good("robot", "add", "ci")
    for name, part in (("rita", "user"), ("sa$ci", "robot")):
        sluice.good("user", "disable", name)
        off = {each["name"]: each["is_enabled"] for each in sluice.good(part, "list", "--json").value}
        sluice.good("user", "enable", name)
        on = {each["name"]: each["is_enabled"] for each in sluice.good(part, "list", "--json").value}
        assert (off[name], on[name]) == (False, True)


def test_deleting_asks_first(sluice: Sluice) -> None:
    """Without a yes nothing happens; the last admin stays in any case."""
    refused = sluice("user", "delete", "rita", stdin="n\n")
    deleted = sluice.good("user", "delete", "rita", stdin="y\n")
    again = sluice("user", "delete", "rita", "--yes")
    last = sluice("user", "delete", "admin", "--yes")

    assert (refused.code, again.code, last.code) == (1, 1, 1)
    assert "deleted user rita" in deleted.out
    assert again.err == "Error: there is no user rita: see `sluice user list`\n"
    assert last.err == "Error: this is the last enabled admin: make another one first\n"


def test_roles_are_given_listed_and_taken(sluice: Sluice) -> None:
    """On projects and on repositories, to users and robots."""
    sluice.good("robot", "add", "ci", "--project", "team")
    sluice.good("user", "grant", "stranger", "reader", "team/images")
    sluice.good("user", "grant", "stranger", "writer", "team/images")
    sluice.good("user", "grant", "sa$ci", "maintainer", "team")

    roles = sluice.good("user", "roles", "stranger", "--json").value
    robots = sluice.good("user", "roles", "sa$ci").lines[1].split()
    taken = sluice.good("user", "revoke", "stranger", "team/images")
    again = sluice("user", "revoke", "stranger", "team/images")

    assert [(role["place"], role["role"]) for role in roles] == [("team/images", "writer")]
    assert robots[:2] == ["team", "maintainer"]
    assert taken.out == "stranger is no longer writer of team/images\n"
    assert again.err == "Error: stranger has no role on team/images: see `sluice user roles stranger`\n"


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["noone", "reader", "team"], 1, "there is no account noone: see `sluice user list`"),
        (["rita", "reader", "nothing"], 1, "there is no project nothing: see `sluice project list`"),
        (["rita", "reader", "team/nothing"], 1, "there is no repository team/nothing: see `sluice repo list`"),
        (["rita", "owner", "team"], 2, "'owner' is not one of"),
    ],
)
def test_a_role_needs_an_account_and_a_place(sluice: Sluice, words: list[str], code: int, text: str) -> None:
    """What is missing is named, with the command that lists it."""
    outcome = sluice("user", "grant", *words)

    assert outcome.code == code
    assert text in outcome.err
