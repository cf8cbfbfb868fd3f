"""`sluice token`: personal tokens of users."""

from tests.gateway.cli.command import Sluice


def test_a_token_is_made_listed_and_ended(sluice: Sluice) -> None:
    """Its secret is printed once, alone."""
    made = sluice.good("token", "create", "rita", "--label", "laptop", "--repo", "team/images", "--action", "pull")
    (row,) = sluice.good("token", "list", "rita", "--json").value
    ended = sluice.good("token", "revoke", "rita", str(row["id"]))

    assert made.out.startswith("sluice_pat_")
    assert len(made.lines) == 1
    assert (row["label"], row["repositories"], row["actions"]) == ("laptop", ["team/images"], ["pull"])
    assert ended.out == f"ended token {row['id']} of rita\n"
    assert sluice.good("token", "list", "rita").out == ""


def test_tokens_are_for_users(sluice: Sluice) -> None:
    """A robot has keys."""
    sluice.good("robot", "add", "ci")

    assert sluice("token", "create", "sa$ci").err == "Error: there is no user sa$ci: see `sluice user list`\n"


def test_anothers_token_is_not_ended(sluice: Sluice) -> None:
    """User and id belong together."""
    sluice.good("token", "create", "rita")

    assert sluice("token", "revoke", "will", "1").code == 1
    assert len(sluice.good("token", "list", "rita", "--json").value) == 1
