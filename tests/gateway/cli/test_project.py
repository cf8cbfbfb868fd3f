"""`sluice project`: what repositories belong to."""

from tests.gateway.cli.command import Sluice


def test_a_project_is_added_listed_and_deleted(sluice: Sluice) -> None:
    """Empty ones go; their names are segments of image names."""
    added = sluice.good("project", "add", "team-b", "--description", "second")
    names = [project["name"] for project in sluice.good("project", "list", "--json").value]
    sluice.good("project", "delete", "team-b", "--yes")

    assert added.out == "added project team-b; next: sluice repo add team-b/images\n"
    assert names == ["common", "hidden", "team", "team-b"]
    assert [line.split()[0] for line in sluice.good("project", "list").lines[1:]] == ["common", "hidden", "team"]


def test_what_cannot_be_is_said(sluice: Sluice) -> None:
    """A bad name is wrong usage; a taken name and a full project cannot be done."""
    bad = sluice("project", "add", "Team")
    taken = sluice("project", "add", "team")
    full = sluice("project", "delete", "team", "--yes")
    unsure = sluice("project", "delete", "team", stdin="\n")

    assert (bad.code, taken.code, full.code, unsure.code) == (2, 1, 1, 1)
    assert "use lower-case letters and digits" in bad.err
    assert taken.err == "Error: project team exists already\n"
    assert "images among them: delete these first" in full.err
