"""Rows as the rest of Sluice sees them: values that nobody can change, and that carry no secret."""

import dataclasses
import inspect
from enum import Enum

import pytest

from storage import Database, Digest, Document, records
from tests.storage.metadata import samples

RECORDS = [
    record
    for record in vars(records).values()
    if inspect.isclass(record) and record.__module__ == records.__name__ and not issubclass(record, Enum)
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_a_record_is_a_value(record: type) -> None:
    """Frozen, so that it can be shared by tasks and be a key; slotted, as there are many of them."""
    assert dataclasses.is_dataclass(record)
    assert record.__dataclass_params__.frozen  # type: ignore[attr-defined]  # the standard library's own mark
    assert "__slots__" in vars(record)
    assert record.__hash__ is not None


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_no_record_carries_a_secret(record: type) -> None:
    """A28: what is handed around, logged and shown has no field for a password, its hash, or a secret in the clear."""
    names = {field.name for field in dataclasses.fields(record)}

    assert not {name for name in names if "password" in name or "secret" in name or "hash" in name}
    assert {name for name in names if "key" in name} <= {"sealed_key"}


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_names_say_the_unit(record: type) -> None:
    """A size says bytes, and a time is a moment: what is a number says what it counts."""
    for field in dataclasses.fields(record):
        if "size" in field.name or "offset" in field.name:
            assert field.name.endswith("_bytes")
        assert "time" not in field.name


async def test_a_repository_has_a_full_name(database: Database) -> None:
    """Project and repository as image names begin with them."""
    made = await database.transaction(samples.repository, "acme/images")

    assert (made.project, made.name, made.full_name) == ("acme", "images", "acme/images")


@pytest.mark.parametrize("content", [b"", b"{}", "ä".encode()])
def test_a_document_counts_its_bytes(content: bytes) -> None:
    """The size of a manifest is that of its exact bytes, not of its text."""
    assert Document(Digest.of(content), "application/json", content).size_bytes == len(content)
