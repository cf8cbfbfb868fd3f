"""A route's own words: its segments, its parameters, and whether it changes anything."""

from gateway.api import health
from gateway.api.needs import Need
from gateway.api.route import Route


def test_a_path_is_taken_apart() -> None:
    """Literal segments and parameters, in order."""
    route = Route("PUT", "/api/v1/projects/{project}/grants/{account}", "x.put", health.live, Need.NOTHING)

    assert route.segments == ("api", "v1", "projects", "{project}", "grants", "{account}")
    assert route.parameters == ("project", "account")


def test_only_reading_changes_nothing() -> None:
    """Every other method is an act for the audit."""
    changing = {
        method
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE")
        if Route(method, "/x", "x", health.live, Need.NOTHING).changes_state
    }

    assert changing == {"POST", "PUT", "PATCH", "DELETE"}
