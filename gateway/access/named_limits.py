"""The places that a secret is narrowed to, by name, as lists of secrets show them; decides nothing."""

from gateway.access.principal import Limits
from storage import Transaction
from storage.metadata import projects, repositories


def repository_names(tx: Transaction, limits: Limits) -> list[str] | None:
    """The full names, sorted, without repositories that are gone; None where repositories narrow nothing."""
    if limits.repository_ids is None:
        return None
    found = (repositories.get(tx, each) for each in limits.repository_ids)
    return sorted(each.full_name for each in found if each is not None)


def project_names(tx: Transaction, limits: Limits) -> list[str] | None:
    """The names, sorted, without projects that are gone; None where projects narrow nothing."""
    if limits.project_ids is None:
        return None
    found = (projects.get(tx, each) for each in limits.project_ids)
    return sorted(each.name for each in found if each is not None)
