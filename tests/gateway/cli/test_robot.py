"""`sluice robot`: machines and their keys."""

from tests.gateway.cli.command import Sluice


def test_a_robot_is_added_and_listed(sluice: Sluice) -> None:
    """With and without its prefix it is the same one."""
    added = sluice.good("robot", "add", "ci", "--project", "team", "--description", "builds")
    sluice.good("robot", "add", "sa$mirror")

    whole = sluice.good("robot", "list", "--json").value
    of_team = sluice.good("robot", "list", "--project", "team", "--json").value

    assert added.out == "added robot sa$ci; next: sluice robot key 'sa$ci'\n"
    assert [(robot["name"], robot["project"]) for robot in whole] == [("sa$ci", "team"), ("sa$mirror", None)]
    assert [robot["name"] for robot in of_team] == ["sa$ci"]
    assert sluice("robot", "add", "sa$ci").err == "Error: account sa$ci exists already\n"


def test_a_key_stands_alone_on_standard_output(sluice: Sluice) -> None:
    """So that a script can take it; what people want to know comes beside it."""
    sluice.good("robot", "add", "ci")

    made = sluice.good(
        "robot", "key", "ci", "--label", "runner", "--days", "2", "--action", "pull", "--project", "team"
    )
    (row,) = sluice.good("robot", "keys", "ci", "--json").value

    assert len(made.lines) == 1
    assert made.out.startswith("sluice_key_")
    assert made.err.startswith("the key of sa$ci has id 1 and lives until ")
    assert (row["id"], row["label"], row["actions"], row["projects"]) == (1, "runner", ["pull"], ["team"])
    assert made.out.strip() not in str(row)


def test_keys_end_one_by_one(sluice: Sluice) -> None:
    """Two at most; another robot's key is not there."""
    for name in ("ci", "other"):
        sluice.good("robot", "add", name)
        sluice.good("robot", "key", name)
    sluice.good("robot", "key", "ci")
    third = sluice("robot", "key", "ci")
    foreign = sluice("robot", "revoke-key", "ci", "2")
    sluice.good("robot", "revoke-key", "ci", "1")

    assert third.code == 1
    assert "2 live secrets" in third.err
    assert foreign.err == "Error: the account has no secret 2\n"
    assert [key["id"] for key in sluice.good("robot", "keys", "ci", "--json").value] == [3]


def test_a_key_for_a_place_that_is_not_there_is_refused(sluice: Sluice) -> None:
    """Rather than one that could do everything."""
    sluice.good("robot", "add", "ci")

    assert sluice("robot", "key", "ci", "--repo", "team/nothing").code == 1
    assert sluice.good("robot", "keys", "ci", "--json").value == []


def test_a_robot_is_deleted(sluice: Sluice) -> None:
    """A user of the bare name is not."""
    sluice.good("robot", "add", "rita")

    sluice.good("robot", "delete", "rita", "--yes")

    assert sluice.good("robot", "list", "--json").value == []
    assert "rita" in [user["name"] for user in sluice.good("user", "list", "--json").value]
