"""Which change counts in which scope, said once more by hand and for every column, for the tests of the triggers.

A column that is new, or a table, is decided here: the test that reads this fails until it is.
"""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from storage.metadata.changes import ACCESS, blob_scope, image_scope
from storage.metadata.tables import metadata

Row = Mapping[str, object]
Rows = dict[tuple[str, tuple[object, ...]], Row]


@dataclass(frozen=True, slots=True)
class Counted:
    """A table: its scope (a fixed one, or the column of an image's or blob's id), and what each of its columns does."""

    scope: str = ""
    image: str = ""
    blob: str = ""
    counts: str = ""
    does_not: str = ""
    on_insert: bool = False

    def scope_of(self, row: Row) -> str:
        """The scope of what happens to this row."""
        if self.image:
            return image_scope(int(str(row[self.image])))
        return blob_scope(int(str(row[self.blob]))) if self.blob else self.scope


TABLES = {
    "accounts": Counted(
        scope=ACCESS,
        counts="id name kind password_hash is_admin is_auditor is_enabled epoch project_id expires_at created_at",
        does_not="description updated_at",
    ),
    "credentials": Counted(
        scope=ACCESS,
        counts="id account_id kind secret_hash limits service parent_id created_at expires_at",
        does_not="label last_used_at",
    ),
    "grants": Counted(scope=ACCESS, counts="id account_id project_id repository_id role created_at", on_insert=True),
    "projects": Counted(scope=ACCESS, counts="id name description created_at", on_insert=True),
    "repositories": Counted(
        scope=ACCESS,
        counts="id project_id name description format repository_type storage_id flat_alias_prefix is_catch_all"
        " anonymous_read immutable_tags settings created_at updated_at",
        on_insert=True,
    ),
    "repository_addresses": Counted(scope=ACCESS, counts="kind name repository_id", on_insert=True),
    "repository_members": Counted(
        scope=ACCESS, counts="repository_id position member_id include exclude is_default", on_insert=True
    ),
    "storages": Counted(scope=ACCESS, counts="id name"),
    "signing_keys": Counted(
        scope=ACCESS, counts="kid algorithm sealed_key created_at signs_from signs_until verifies_until"
    ),
    "images": Counted(image="id", counts="id repository_id name full_name created_at"),
    "manifests": Counted(
        image="image_id",
        counts="id image_id digest media_type artifact_type subject annotations size_bytes content pushed_by pushed_at"
        " deleted_at deleted_tags",
    ),
    "tags": Counted(image="image_id", counts="image_id name manifest_id", does_not="created_at moved_at moved_by"),
    "links": Counted(image="image_id", counts="image_id digest blob_id", does_not="linked_at"),
    "blobs": Counted(
        blob="id",
        counts="id storage_id digest key encoding size_bytes stored_bytes created_at damaged_at",
        does_not="condemned_at verified_at",
    ),
    # What no pull of a manifest or blob reads.
    "blob_aliases": Counted(does_not="storage_id digest blob_id"),
    "changes": Counted(does_not="scope at"),
    "leases": Counted(does_not="name holder expires_at last_run_at"),
    "manifest_references": Counted(does_not="manifest_id image_id position role digest size_bytes blob_id"),
    "manifest_pulls": Counted(does_not="manifest_id pulled_at"),
    "removals": Counted(does_not="storage_id key since"),
    "staging_segments": Counted(does_not="storage_id id start content"),
    "stagings": Counted(does_not="storage_id id version holder held_until state touched_at"),
    "tag_checks": Counted(does_not="image_id name checked_at etag"),
    "upstream_budgets": Counted(does_not="name allowed remaining window_s observed_at retry_at"),
    "upstream_credentials": Counted(does_not="repository_id position sealed"),
    "warm_ups": Counted(
        does_not="id repository_id state images images_done blobs fetched_bytes failures begun_at updated_at"
    ),
    "uploads": Counted(
        does_not="id repository_id image storage_id account_id algorithm offset_bytes digest_so_far boot created_at"
        " touched_at"
    ),
}


def rows(connection: sqlite3.Connection) -> Rows:
    """Everything in the database, by table and primary key."""
    found: Rows = {}
    for table in metadata.sorted_tables:
        names = [column.name for column in table.columns]
        for values in connection.execute(f"SELECT {', '.join(names)} FROM {table.name}"):  # noqa: S608 - our own names
            row = dict(zip(names, values, strict=True))
            found[table.name, tuple(row[column.name] for column in table.primary_key)] = row
    return found


def expected(before: Rows, after: Rows) -> set[str]:
    """The scopes that have to count when one statement, or one act that undoes nothing of its own, did this."""
    scopes = set()
    for place in before.keys() | after.keys():
        table, old, new = TABLES[place[0]], before.get(place), after.get(place)
        if not table.counts:
            continue
        if old is None:
            if table.on_insert and new is not None:
                scopes.add(table.scope_of(new))
        elif new is None or any(old[column] != new[column] for column in table.counts.split()):
            scopes.add(table.scope_of(old))
    return scopes
