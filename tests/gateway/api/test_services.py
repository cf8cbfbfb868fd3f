"""What handlers are given: asking for what the route does not promise is a defect that shows at once."""

import pytest

from gateway.access.principal import ANONYMOUS
from gateway.api.fields import Body, Query
from gateway.api.services import Ask, Subject


class Given(Body):
    """A body."""

    x: int = 1


def test_a_subject_that_was_not_looked_up_is_a_defect() -> None:
    """A handler cannot go on with nothing in place of the object."""
    for name in ("project", "repository", "account"):
        with pytest.raises(TypeError, match="does not look that up"):
            getattr(Subject(), name)


def test_a_body_has_the_type_that_the_route_names() -> None:
    """Another type, or none, is a defect of the route."""
    ask = Ask(None, None, ANONYMOUS, Subject(), {}, query=Query(), body=Given())  # type: ignore[arg-type]  # neither is looked at

    assert ask.given(Given).x == 1
    with pytest.raises(TypeError, match="takes Given"):
        ask.parameters(Given)
