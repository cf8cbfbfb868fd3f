"""The tables, as SQLAlchemy Core sees them; the migrations make exactly these (a test compares the two).

Rules for every column: no SQLite-only construct; times are integers of Unix seconds; names that are listed in order
have bytewise collation (protocol row TG-02); JSON is text that we write and read ourselves.
"""

import sqlalchemy as sa

# SQLite compares text bytewise by default; PostgreSQL does so under the "C" collation only.
ByteText = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
# SQLite makes rowid aliases only of INTEGER, PostgreSQL should count in 64 bits.
Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Time = sa.BigInteger()
Size = sa.BigInteger()

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)


def _key() -> sa.Column[int]:
    return sa.Column("id", Id, primary_key=True, autoincrement=True)


def _to(target: str, *, ondelete: str = "CASCADE", nullable: bool = False, name: str) -> sa.Column[int]:
    return sa.Column(name, Id, sa.ForeignKey(target, ondelete=ondelete), nullable=nullable)


# --- who and where -----------------------------------------------------------------------------------------------

projects = sa.Table(
    "projects",
    metadata,
    _key(),
    sa.Column("name", ByteText, nullable=False, unique=True),
    sa.Column("description", sa.Text, nullable=False, server_default=""),
    sa.Column("created_at", Time, nullable=False),
    sqlite_autoincrement=True,
)

# Ids are never reused (sqlite_autoincrement): tokens name repositories and accounts by id, so a thing deleted and made
# again under its old name is another thing (security row A15).
repositories = sa.Table(
    "repositories",
    metadata,
    _key(),
    _to("projects.id", ondelete="RESTRICT", name="project_id"),
    sa.Column("name", ByteText, nullable=False),
    sa.Column("description", sa.Text, nullable=False, server_default=""),
    sa.Column("format", sa.Text, nullable=False),  # docker
    sa.Column("repository_type", sa.Text, nullable=False),  # hosted, proxy, virtual
    _to("storages.id", ondelete="RESTRICT", name="storage_id"),
    sa.Column("flat_alias_prefix", ByteText, nullable=True, unique=True),
    sa.Column("is_catch_all", sa.Boolean, nullable=False),
    sa.Column("anonymous_read", sa.Boolean, nullable=False),
    sa.Column("immutable_tags", sa.Text, nullable=False),  # JSON list of globs
    sa.Column("settings", sa.Text, nullable=False),  # JSON object: what only some types have
    sa.Column("created_at", Time, nullable=False),
    sa.Column("updated_at", Time, nullable=False),
    sa.UniqueConstraint("project_id", "name"),
    sqlite_autoincrement=True,
)
# At most one catch-all, also between two writers of PostgreSQL; and it is found without a scan.
sa.Index(
    "uq_repositories_catch_all",
    repositories.c.is_catch_all,
    unique=True,
    sqlite_where=repositories.c.is_catch_all.is_(sa.true()),
    postgresql_where=repositories.c.is_catch_all.is_(sa.true()),
)

accounts = sa.Table(
    "accounts",
    metadata,
    _key(),
    sa.Column("name", ByteText, nullable=False, unique=True),
    sa.Column("kind", sa.Text, nullable=False),  # user, robot
    sa.Column("description", sa.Text, nullable=False, server_default=""),
    sa.Column("password_hash", sa.Text, nullable=True),  # argon2id; null: no password works
    sa.Column("is_admin", sa.Boolean, nullable=False),
    sa.Column("is_auditor", sa.Boolean, nullable=False),
    sa.Column("is_enabled", sa.Boolean, nullable=False),
    sa.Column("epoch", sa.Integer, nullable=False),  # raised to end every token issued before
    _to("projects.id", nullable=True, name="project_id"),  # the project a robot belongs to
    sa.Column("expires_at", Time, nullable=True),
    sa.Column("created_at", Time, nullable=False),
    sa.Column("updated_at", Time, nullable=False),
    sqlite_autoincrement=True,
)
sa.Index(None, accounts.c.project_id)

grants = sa.Table(
    "grants",
    metadata,
    _key(),
    _to("accounts.id", name="account_id"),
    _to("projects.id", nullable=True, name="project_id"),  # exactly one of the two is set
    _to("repositories.id", nullable=True, name="repository_id"),
    sa.Column("role", sa.Text, nullable=False),  # reader, writer, maintainer, admin
    sa.Column("created_at", Time, nullable=False),
    # Two, because one over all three columns would never bite: one of them is null, and nulls are never equal.
    sa.UniqueConstraint("account_id", "project_id"),
    sa.UniqueConstraint("account_id", "repository_id"),
    sa.CheckConstraint("(project_id IS NULL) <> (repository_id IS NULL)", name="one_scope"),
    sqlite_autoincrement=True,
)
sa.Index(None, grants.c.project_id)
sa.Index(None, grants.c.repository_id)

# Personal access tokens, robot API keys and refresh tokens: 256 random bits each, stored as SHA-256.
credentials = sa.Table(
    "credentials",
    metadata,
    _key(),
    _to("accounts.id", name="account_id"),
    sa.Column("kind", sa.Text, nullable=False),  # personal, robot, refresh
    sa.Column("secret_hash", sa.Text, nullable=False, unique=True),  # hex
    sa.Column("label", sa.Text, nullable=False),
    sa.Column("limits", sa.Text, nullable=True),  # JSON: what the secret narrows its account to; null: nothing
    sa.Column("service", sa.Text, nullable=True),  # refresh tokens are bound to one service
    sa.Column("parent_id", Id, sa.ForeignKey("credentials.id", ondelete="CASCADE"), nullable=True),
    sa.Column("created_at", Time, nullable=False),
    sa.Column("expires_at", Time, nullable=True),
    sa.Column("last_used_at", Time, nullable=True),
    sqlite_autoincrement=True,
)
sa.Index(None, credentials.c.account_id)
sa.Index(None, credentials.c.parent_id)
sa.Index(None, credentials.c.expires_at)

signing_keys = sa.Table(
    "signing_keys",
    metadata,
    sa.Column("kid", sa.Text, primary_key=True),
    sa.Column("algorithm", sa.Text, nullable=False),  # HS256, ES256
    sa.Column("sealed_key", sa.LargeBinary, nullable=False),  # encrypted with the installation's secret key
    sa.Column("created_at", Time, nullable=False),
    sa.Column("signs_from", Time, nullable=False),  # published before it signs, so every worker knows it
    sa.Column("signs_until", Time, nullable=False),
    sa.Column("verifies_until", Time, nullable=False),
)

leases = sa.Table(
    "leases",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("expires_at", Time, nullable=False),
    sa.Column("last_run_at", Time, nullable=True),  # when the job last ended well
)

# --- bytes -------------------------------------------------------------------------------------------------------

storages = sa.Table(
    "storages",
    metadata,
    _key(),
    sa.Column("name", ByteText, nullable=False, unique=True),
)

blobs = sa.Table(
    "blobs",
    metadata,
    _key(),
    _to("storages.id", ondelete="RESTRICT", name="storage_id"),
    sa.Column("digest", sa.Text, nullable=False),  # sha256, whatever the client asked with
    sa.Column("key", sa.Text, nullable=False),  # where the store keeps it; one publish, one key
    sa.Column("encoding", sa.Text, nullable=False),
    sa.Column("size_bytes", Size, nullable=False),
    sa.Column("stored_bytes", Size, nullable=False),
    sa.Column("created_at", Time, nullable=False),
    sa.Column("condemned_at", Time, nullable=True),  # the tombstone: nothing linked it then
    sa.Column("damaged_at", Time, nullable=True),  # fsck found other bytes; the next push heals it
    sa.Column("verified_at", Time, nullable=True),
    sa.UniqueConstraint("storage_id", "digest"),
    sqlite_autoincrement=True,
)
sa.Index(None, blobs.c.condemned_at)

# Further digests of the same bytes (sha512), so that they share one stored object (row UP-23).
blob_aliases = sa.Table(
    "blob_aliases",
    metadata,
    _to("storages.id", ondelete="RESTRICT", name="storage_id"),
    sa.Column("digest", sa.Text, nullable=False),
    _to("blobs.id", name="blob_id"),
    sa.PrimaryKeyConstraint("storage_id", "digest"),
)
sa.Index(None, blob_aliases.c.blob_id)

# Keys whose rows are gone and whose bytes must go: survives a crash between the two.
removals = sa.Table(
    "removals",
    metadata,
    _to("storages.id", ondelete="RESTRICT", name="storage_id"),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("since", Time, nullable=False),
    sa.PrimaryKeyConstraint("storage_id", "key"),
)

# --- images ------------------------------------------------------------------------------------------------------

images = sa.Table(
    "images",
    metadata,
    _key(),
    _to("repositories.id", name="repository_id"),
    sa.Column("name", ByteText, nullable=False),
    sa.Column("full_name", ByteText, nullable=False),  # project/repository/image, for the catalog's order
    sa.Column("created_at", Time, nullable=False),
    sa.UniqueConstraint("repository_id", "name"),
    sqlite_autoincrement=True,
)
sa.Index(None, images.c.full_name)

# The only way to read a blob in an image: made by a push or an authorised mount (security.md 3.1).
links = sa.Table(
    "links",
    metadata,
    _to("images.id", name="image_id"),
    sa.Column("digest", sa.Text, nullable=False),  # as the client named it
    _to("blobs.id", ondelete="RESTRICT", name="blob_id"),
    sa.Column("linked_at", Time, nullable=False),
    sa.PrimaryKeyConstraint("image_id", "digest"),
)
sa.Index(None, links.c.blob_id)
sa.Index(None, links.c.linked_at)

uploads = sa.Table(
    "uploads",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    _to("repositories.id", name="repository_id"),
    sa.Column("image", ByteText, nullable=False),
    _to("storages.id", ondelete="RESTRICT", name="storage_id"),
    _to("accounts.id", name="account_id"),
    sa.Column("algorithm", sa.Text, nullable=False),
    sa.Column("offset_bytes", Size, nullable=False),
    sa.Column("digest_so_far", sa.Text, nullable=True),  # sha256 of the first offset_bytes
    sa.Column("boot", sa.Text, nullable=False),  # the machine's boot that wrote them: after another, hash again
    sa.Column("created_at", Time, nullable=False),
    sa.Column("touched_at", Time, nullable=False),
)
sa.Index(None, uploads.c.touched_at)
sa.Index(None, uploads.c.account_id)
sa.Index(None, uploads.c.repository_id)

# Staging areas of stores whose bytes lie elsewhere (S3): who holds one, and what of it lies where. Not tied to
# `uploads`: a session may end while its area is still to be freed (the sweep finds those).
stagings = sa.Table(
    "stagings",
    metadata,
    _to("storages.id", ondelete="RESTRICT", name="storage_id"),
    sa.Column("id", ByteText, nullable=False),  # the session's
    sa.Column("version", sa.BigInteger, nullable=False),  # grows with every change of holder or state
    sa.Column("holder", sa.Text, nullable=True),  # null: free
    sa.Column("held_until", Time, nullable=False),
    sa.Column("state", sa.Text, nullable=False),  # JSON, see storage.s3.staging_state
    sa.Column("touched_at", Time, nullable=False),
    sa.PrimaryKeyConstraint("storage_id", "id"),
)

# Small increments of an upload, until there are enough for a part: at most a part's size per area.
staging_segments = sa.Table(
    "staging_segments",
    metadata,
    sa.Column("storage_id", Id, nullable=False),
    sa.Column("id", ByteText, nullable=False),
    sa.Column("start", Size, nullable=False),
    sa.Column("content", sa.LargeBinary, nullable=False),
    sa.PrimaryKeyConstraint("storage_id", "id", "start"),
    sa.ForeignKeyConstraint(["storage_id", "id"], ["stagings.storage_id", "stagings.id"], ondelete="CASCADE"),
)

manifests = sa.Table(
    "manifests",
    metadata,
    _key(),
    _to("images.id", name="image_id"),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("media_type", sa.Text, nullable=False),
    sa.Column("artifact_type", sa.Text, nullable=True),
    sa.Column("subject", sa.Text, nullable=True),
    sa.Column("annotations", sa.Text, nullable=True),  # JSON, kept for manifests with a subject only
    sa.Column("size_bytes", Size, nullable=False),
    sa.Column("content", sa.LargeBinary, nullable=False),  # the exact bytes
    sa.Column("pushed_by", Id, nullable=True),
    sa.Column("pushed_at", Time, nullable=False),
    sa.Column("deleted_at", Time, nullable=True),  # within the undelete window
    sa.Column("deleted_tags", sa.Text, nullable=True),  # JSON list: what undelete puts back
    sa.UniqueConstraint("image_id", "digest"),
    sqlite_autoincrement=True,
)
sa.Index(None, manifests.c.image_id, manifests.c.subject, manifests.c.digest)
sa.Index(None, manifests.c.deleted_at)

# What a manifest needs; written once at push, so that garbage collection never parses a manifest again.
manifest_references = sa.Table(
    "manifest_references",
    metadata,
    _to("manifests.id", name="manifest_id"),
    # The manifest's, so that one look tells whether an image needs a blob; the row goes with its manifest.
    sa.Column("image_id", Id, nullable=False),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("role", sa.Text, nullable=False),  # config, layer, child
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("size_bytes", Size, nullable=False),
    # null: a child manifest, or a foreign layer that was never pushed
    sa.Column("blob_id", Id, sa.ForeignKey("blobs.id", ondelete="RESTRICT"), nullable=True),
    sa.PrimaryKeyConstraint("manifest_id", "position"),
)
sa.Index(None, manifest_references.c.blob_id, manifest_references.c.image_id)
sa.Index(None, manifest_references.c.digest)

tags = sa.Table(
    "tags",
    metadata,
    _to("images.id", name="image_id"),
    sa.Column("name", ByteText, nullable=False),
    _to("manifests.id", name="manifest_id"),
    sa.Column("created_at", Time, nullable=False),
    sa.Column("moved_at", Time, nullable=False),
    sa.Column("moved_by", Id, nullable=True),
    sa.PrimaryKeyConstraint("image_id", "name"),
)
sa.Index(None, tags.c.manifest_id)

# --- other ways in, and other registries --------------------------------------------------------------------------

# Where else a repository answers: a host of its own, as what serves a host's other names, as a mirror of a namespace.
repository_addresses = sa.Table(
    "repository_addresses",
    metadata,
    sa.Column("kind", sa.Text, nullable=False),  # host, catch_all, namespace
    sa.Column("name", ByteText, nullable=False),  # in small letters, with the port where one belongs to it
    _to("repositories.id", name="repository_id"),
    sa.PrimaryKeyConstraint("kind", "name"),
)
sa.Index(None, repository_addresses.c.repository_id)

# What a virtual repository is made of, in the order in which it is asked. A member cannot go before it is taken out:
# otherwise names would silently come from the next one.
repository_members = sa.Table(
    "repository_members",
    metadata,
    _to("repositories.id", name="repository_id"),
    sa.Column("position", sa.Integer, nullable=False),
    _to("repositories.id", ondelete="RESTRICT", name="member_id"),
    sa.Column("include", sa.Text, nullable=False),  # JSON list of globs over image names; empty: all
    sa.Column("exclude", sa.Text, nullable=False),  # JSON list of globs
    sa.Column("is_default", sa.Boolean, nullable=False),  # where pushes go
    sa.PrimaryKeyConstraint("repository_id", "position"),
    sa.UniqueConstraint("repository_id", "member_id"),
)
sa.Index(None, repository_members.c.member_id)

upstream_credentials = sa.Table(
    "upstream_credentials",
    metadata,
    _to("repositories.id", name="repository_id"),
    sa.Column("position", sa.Integer, nullable=False),  # used in turn
    sa.Column("sealed", sa.LargeBinary, nullable=False),  # encrypted with the installation's secret key
    sa.PrimaryKeyConstraint("repository_id", "position"),
)

# What an upstream has said of how often it may be asked; null: it has not.
upstream_budgets = sa.Table(
    "upstream_budgets",
    metadata,
    sa.Column("name", ByteText, primary_key=True),  # of an origin and who asks there
    sa.Column("allowed", Size, nullable=True),
    sa.Column("remaining", Size, nullable=True),
    sa.Column("window_s", Size, nullable=True),
    sa.Column("observed_at", Time, nullable=False),
    sa.Column("retry_at", Time, nullable=True),
)

# When an upstream was last asked about a cached tag. Not in `tags`, whose rows wake who remembers answers.
tag_checks = sa.Table(
    "tag_checks",
    metadata,
    _to("images.id", name="image_id"),
    sa.Column("name", ByteText, nullable=False),
    sa.Column("checked_at", Time, nullable=False),
    sa.Column("etag", sa.Text, nullable=True),
    sa.PrimaryKeyConstraint("image_id", "name"),
)

# When a manifest was last pulled, to within a minute. Not in `manifests`, for the same reason.
manifest_pulls = sa.Table(
    "manifest_pulls",
    metadata,
    sa.Column("manifest_id", Id, sa.ForeignKey("manifests.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("pulled_at", Time, nullable=False),
)

# How far images are that somebody asked to be fetched ahead.
warm_ups = sa.Table(
    "warm_ups",
    metadata,
    sa.Column("id", Id, primary_key=True),
    _to("repositories.id", name="repository_id"),
    sa.Column("state", sa.Text, nullable=False),  # running, done, stopped
    sa.Column("images", sa.BigInteger, nullable=False),
    sa.Column("images_done", sa.BigInteger, nullable=False),
    sa.Column("blobs", sa.BigInteger, nullable=False),
    sa.Column("fetched_bytes", Size, nullable=False),
    sa.Column("failures", sa.Text, nullable=False),  # JSON list of [image, reason]
    sa.Column("begun_at", Time, nullable=False),
    sa.Column("updated_at", Time, nullable=False),
)
sa.Index(None, warm_ups.c.repository_id)

# --- what changed ------------------------------------------------------------------------------------------------

# Written by triggers alone, which revision 0002 makes: see there for what counts.
changes = sa.Table(
    "changes",
    metadata,
    sa.Column("scope", sa.Text, primary_key=True),
    sa.Column("at", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
sa.Index(None, changes.c.at)
