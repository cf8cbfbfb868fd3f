"""Rows that tests need to have something to refer to; what is not given does not matter to the test."""

from typing import Any

from storage import AccountRecord, ProjectRecord, RepositoryRecord, Transaction
from storage.metadata import accounts, projects, repositories, storages

NOW = 1_700_000_000
"""Any time: Unix seconds."""


def project(transaction: Transaction, name: str) -> ProjectRecord:
    """The project of that name, made if needed."""
    return projects.find(transaction, name) or projects.create(transaction, name=name, description="", now=NOW)


def repository(transaction: Transaction, /, full_name: str, **given: Any) -> RepositoryRecord:
    """A hosted repository, in a project that is made if needed."""
    project_name, _, name = full_name.partition("/")
    values: dict[str, Any] = {
        "project_id": project(transaction, project_name).id,
        "name": name,
        "description": "",
        "format": "docker",
        "repository_type": "hosted",
        "storage_id": storages.ensure(transaction, "default"),
        "flat_alias_prefix": None,
        "is_catch_all": False,
        "anonymous_read": False,
        "immutable_tags": (),
        "now": NOW,
    }
    return repositories.create(transaction, **{**values, **given})


def account(transaction: Transaction, /, name: str, **given: Any) -> AccountRecord:
    """A user without any right."""
    values: dict[str, Any] = {"kind": "user", "now": NOW}
    return accounts.create(transaction, name=name, **{**values, **given})
