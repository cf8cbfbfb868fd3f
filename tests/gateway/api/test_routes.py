"""The table keeps its own conventions, so that clients can guess one route from another."""

from gateway.api.listing import Page
from gateway.api.needs import Need
from gateway.api.routes import ROUTES


def test_no_two_routes_are_the_same() -> None:
    """A method on a path, and an act, name one route."""
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES)
    assert len({route.act for route in ROUTES}) == len(ROUTES)


def test_only_health_and_the_document_are_for_everybody() -> None:
    """Whatever else is added needs an account."""
    public = {route.path for route in ROUTES if route.need is Need.NOTHING}

    assert public == {"/health", "/health/live", "/api/v1/openapi.json"}


def test_every_method_has_its_shape() -> None:
    """What is made is 201, what is removed is 204 unless there is something to tell; what writes has a body."""
    for route in ROUTES:
        match route.method:
            case "GET":
                assert (route.status, route.body) == (200, None), route
            case "POST":
                assert route.status == 201, route
                assert route.body is not None, route
            case "PUT" | "PATCH":
                assert route.status == 200, route
                assert route.body is not None, route
            case "DELETE":
                assert (route.status, route.body) == (204 if route.answer is None else 200, None), route
            case other:
                raise AssertionError(other)


def test_every_list_comes_in_pages() -> None:
    """A list without a bound would be held whole by somebody."""
    lists = [route for route in ROUTES if route.act.endswith(".list")]

    assert lists
    for route in lists:
        assert route.query is not None, route
        assert issubclass(route.query, Page), route
        assert route.answer is not None, route
        assert set(route.answer.model_fields) == {"items", "next"}, route
