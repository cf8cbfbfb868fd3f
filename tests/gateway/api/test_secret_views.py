"""Rows of secrets as they are shown: places by name, gone places left out."""

from tests.gateway.api.installation import REPOSITORY, Installation


async def test_a_place_that_is_gone_is_left_out(installation: Installation) -> None:
    """And the token then reaches nothing, not everything."""
    body = {"label": "x", "repositories": [REPOSITORY]}
    made = await installation.call("POST", "/api/v1/tokens", body)
    await installation.call("DELETE", f"/api/v1/repos/{REPOSITORY}")

    listed = await installation.call("GET", "/api/v1/tokens")
    reached = await installation.call("GET", "/api/v1/repos", auth=("admin", made.value["secret"]))

    assert listed.value["items"][0]["repositories"] == []
    assert reached.value["items"] == []


async def test_a_key_is_narrowed_to_what_its_maker_sees(installation: Installation) -> None:
    """A project's admin cannot name places elsewhere for a robot either."""
    await installation.call("POST", "/api/v1/robots", {"name": "ci", "project": "team"}, auth="olga")

    refused = await installation.call(
        "POST", "/api/v1/robots/ci/keys", {"label": "", "repositories": ["hidden/images"]}, auth="olga"
    )
    made = await installation.call(
        "POST", "/api/v1/robots/ci/keys", {"label": "", "repositories": [REPOSITORY]}, auth="olga"
    )

    assert (refused.status, refused.fields) == (400, ["repositories.0"])
    assert (made.status, made.value["repositories"]) == (201, [REPOSITORY])
