"""One assembled `House` for each test of the edge."""

from tests.gateway.access.conftest import clock, house

__all__ = ["clock", "house"]
