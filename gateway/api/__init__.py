"""The management API: HTTP and JSON over the same functions that the command line uses. Knows no registry protocol.

`routes.ROUTES` is the one table: what is dispatched, the OpenAPI document and the authorisation matrix of the tests
are made from it, so a route that is not in it cannot exist.
"""

from gateway.api.checks import Checks
from gateway.api.dispatch import register
from gateway.api.services import Api

__all__ = ["Api", "Checks", "register"]
