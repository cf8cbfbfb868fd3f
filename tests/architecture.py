"""The architecture as rules over source text: who may import whom, who owns which library, how large things may grow.

Each rule takes a `Tree` and gives findings; a finding names the place and says what to do about it. The rules read
text only and import nothing of Sluice, so a broken module is judged like any other. The tables come first: a change
of the architecture is a change of a table, with its reason in docs/decisions.
"""

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

ORDER: tuple[tuple[str, ...], ...] = (
    ("storage",),
    ("gateway.config",),
    ("gateway.logs",),
    ("gateway.oci",),
    ("gateway.upstream",),
    ("gateway.repositories",),
    ("gateway.access",),
    ("gateway.policy",),
    ("gateway.edge",),
    ("gateway.v2", "gateway.api", "gateway.web"),  # three faces: none may know another
    ("gateway.jobs", "gateway.installation", "gateway.pulse"),
    ("gateway.upkeep", "gateway.caches", "gateway.fetching"),
    ("gateway.app",),
    ("gateway.cli",),
)
"""Bottom to top. A package may import itself and anything in a row below its own."""

WIRE = "gateway.wire"
WIRE_MAY_IMPORT = ("gateway.config", "gateway.logs")
WIRE_IMPORTED_BY = ("gateway.app", "gateway.cli")
WIRE_CONTRACTS = {"gateway.wire.recall": ("gateway.v2.lane",)}
"""Modules of the server that say what it asks of others, and who gives that (docs/decisions/0010-lane.md)."""

ROWS = ("storage.metadata", "storage.database", "storage.migrations")
BYTES = tuple(
    f"storage.{name}"
    for name in ("content", "filesystem", "hotset", "intake", "memory", "s3", "seekable", "sweep", "upload")
)
"""Rows never reach for bytes: `storage.content` joins the two, from above. Each name stands for `name_...` too."""

WAIST: dict[str, tuple[str, ...]] = {"gateway.upstream": ("storage.transfer",)}
"""Packages that may use more of `storage` than it exports: one client carries the bytes of buckets and of upstreams."""

QUART = ("gateway/edge/*", "gateway/v2/*", "gateway/api/*", "gateway/web/*", "gateway/app.py", "gateway/app/*")
SQL = ("storage/database*.py", "storage/metadata/*", "storage/migrations/*")
OWNERS = {
    "alembic": SQL,
    "anyio": ("gateway/upstream/client.py",),
    "asks": ("gateway/upstream/client.py",),
    "boto3": ("storage/s3/control.py",),
    "botocore": ("storage/s3/control.py",),
    "httptools": ("storage/transfer/*",),
    "hypercorn": ("gateway/wire/*",),
    "jwt": ("gateway/access/tokens.py",),
    "psycopg": SQL,
    "quart": QUART,
    "quart_trio": QUART,
    "sqlalchemy": SQL,
    "zstandard": ("storage/seekable.py",),
}
"""Library -> the files that may import it, as patterns whose star also spans folders."""

BANNED_NAMES = {"base", "common", "core", "helper", "helpers", "manager", "managers", "misc", "util", "utils"}
MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 60  # without its docstring: a contract may be long

TWIN_FROM_LINES = 40
WITHOUT_TWIN: dict[str, str] = {
    "storage/metadata/tables.py": "definitions; test_migrations.py compares them with what migrations make",
}
"""Source file over TWIN_FROM_LINES without a test file of its name -> the reason, and what tests it instead."""

SOURCES = ("storage", "gateway", "bench")
PUBLISHED = (*SOURCES, "tests", "docs", ".ci")
MACHINE = {
    "a path of one machine": re.compile(r"(?<![\w.:/-])/(?:root|tmp|home/\w+)/"),
    "a package index or mirror": re.compile(
        r"python[h]osted|pypi\.org/simple|npmjs\.org|debian\.org/debian|--(?:extra-)?index-url\b"
    ),
}


@dataclass(frozen=True)
class Import:
    """One imported name, in full: `from a.b import c` is `a.b.c`."""

    name: str
    line: int
    relative: bool


@dataclass(frozen=True)
class Module:
    """One Python file: its place relative to the root, its text, and what can be read off its syntax tree."""

    path: str
    text: str

    @cached_property
    def syntax(self) -> ast.Module:
        """The parsed file."""
        return ast.parse(self.text, self.path)

    @property
    def name(self) -> str:
        """The dotted name; a package goes by its own name, `__main__` counts as the command line."""
        dotted = self.path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        return "gateway.cli.__main__" if dotted == "gateway.__main__" else dotted

    @property
    def lines(self) -> int:
        """How many lines the file has."""
        return len(self.text.splitlines())

    def at(self, place: "Import | ast.FunctionDef | ast.AsyncFunctionDef") -> str:
        """`path:line`, as editors understand it."""
        return f"{self.path}:{place.line if isinstance(place, Import) else place.lineno}"

    @property
    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        """Every function and method, nested ones too."""
        return (node for node in ast.walk(self.syntax) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))

    @cached_property
    def imports(self) -> tuple[Import, ...]:
        """Every import, also those inside functions and those for type checking only: both are dependencies."""
        found = []
        for node in ast.walk(self.syntax):
            if isinstance(node, ast.Import):
                found += [Import(alias.name, node.lineno, relative=False) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                stem = f"{node.module}." if node.module else ""
                found += [Import(stem + alias.name, node.lineno, relative=node.level > 0) for alias in node.names]
        return tuple(found)


class Tree:
    """The project below `root`, read once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.sources = tuple(self._modules(*SOURCES))
        self.tests = tuple(self._modules("tests"))

    def _modules(self, *tops: str) -> Iterator[Module]:
        for top in tops:
            for path in sorted((self.root / top).rglob("*.py")):
                yield Module(path.relative_to(self.root).as_posix(), path.read_text(encoding="utf-8"))

    def published(self) -> Iterator[tuple[str, str]]:
        """Path and text of each text file that a clone would hold; what tools leave behind is not among them."""
        tops = [self.root / top for top in PUBLISHED]
        files = [path for path in self.root.iterdir() if path.is_file()]
        files += [path for top in tops for path in top.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        for path in sorted(files):
            try:
                yield path.relative_to(self.root).as_posix(), path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue  # not text


Rule = Callable[[Tree], Iterator[str]]


def within(name: str, package: str) -> bool:
    """Whether the dotted name is the package or lies in it."""
    return name == package or name.startswith(f"{package}.")


def of_the_family(name: str, head: str) -> bool:
    """Whether the dotted name is `head`, lies in it, or is a part of it that has a file of its own (`head_part`)."""
    return within(name, head) or name.startswith(f"{head}_")


def row(name: str) -> int | None:
    """The row of ORDER that a dotted name belongs to, or None."""
    return next((place for place, packages in enumerate(ORDER) if any(within(name, p) for p in packages)), None)


def has_home(name: str) -> bool:
    """Whether a dotted name lies in a package that has a place in the architecture."""
    return row(name) is not None or within(name, WIRE) or within(name, "bench")


def package(name: str) -> str:
    """The entry of ORDER that a dotted name belongs to; it must belong to one."""
    return next(entry for packages in ORDER for entry in packages if within(name, entry))


def everything_has_a_home(tree: Tree) -> Iterator[str]:
    """Every module and everything of ours that is imported lies in a package that the tables above name."""
    for module in tree.sources:
        if module.name == "gateway":  # the file that makes it a package
            for each in _first_party(module):
                yield f"{module.at(each)}: gateway/__init__.py imports nothing; import {each.name} where it is used"
            continue
        if not has_home(module.name):
            yield f"{module.path}: in no package of ORDER; give it a home in tests/architecture.py, with a reason"
        for each in _first_party(module):
            if not has_home(each.name):
                yield f"{module.at(each)}: {each.name} is in no package of ORDER; import the module itself"


def imports_point_down(tree: Tree) -> Iterator[str]:
    """A package imports only itself and what lies below it; siblings do not import each other."""
    for module in tree.sources:
        mine = row(module.name)
        for each in _first_party(module):
            theirs = row(each.name)
            if mine is None or theirs is None:
                continue  # wire and bench have rules of their own
            if theirs > mine:
                yield f"{module.at(each)}: imports {each.name} from above; move it down or let gateway.app pass it"
            elif theirs == mine and package(each.name) != package(module.name):
                yield f"{module.at(each)}: imports its sibling {each.name}; what both need belongs in gateway.edge"


def imports_are_absolute(tree: Tree) -> Iterator[str]:
    """An import says the whole name, so that the other rules can read it."""
    for module in (*tree.sources, *tree.tests):
        for each in module.imports:
            if each.relative:
                yield f"{module.at(each)}: relative import of {each.name}; write its full name"


def wire_knows_no_registry(tree: Tree) -> Iterator[str]:
    """The server knows sockets and HTTP: it imports configuration and logs only, and only the top imports it."""
    for module in tree.sources:
        inside = within(module.name, WIRE)
        for each in _first_party(module):
            into = within(each.name, WIRE)
            if inside and not into and not any(within(each.name, allowed) for allowed in WIRE_MAY_IMPORT):
                yield f"{module.at(each)}: {WIRE} imports {each.name}; take it as a parameter from gateway.app"
            contracted = any(within(each.name, name) and module.name in by for name, by in WIRE_CONTRACTS.items())
            if contracted:
                continue
            if into and not inside and not any(within(module.name, user) for user in WIRE_IMPORTED_BY):
                yield f"{module.at(each)}: imports {each.name}; only gateway.app and gateway.cli may"


def nothing_imports_the_bench(tree: Tree) -> Iterator[str]:
    """The load suite is a client of the product, never a part of it."""
    for module in tree.sources:
        for each in _first_party(module):
            if within(each.name, "bench") and not within(module.name, "bench"):
                yield f"{module.at(each)}: imports {each.name}; the product must run without its load suite"


def the_waist_is_narrow(tree: Tree) -> Iterator[str]:
    """Outside `storage`, only what `storage` exports is public, and the modules of `storage.metadata`."""
    exported = {
        name for module in tree.sources if module.path == "storage/__init__.py" for name in _bound_names(module)
    }
    for module in tree.sources:
        if not within(module.name, "gateway"):
            continue
        for each in _first_party(module):
            if not within(each.name, "storage") or within(each.name, "storage.metadata") or each.name == "storage":
                continue
            if any(
                within(module.name, user) and within(each.name, name) for user, names in WAIST.items() for name in names
            ):
                continue
            _, _, wanted = each.name.partition(".")
            if wanted not in exported:
                yield f"{module.at(each)}: {each.name} is private; use what `storage` exports, or export it"


def rows_know_no_bytes(tree: Tree) -> Iterator[str]:
    """Within `storage`, the database side does not import the blob side."""
    for module in tree.sources:
        if not any(of_the_family(module.name, side) for side in ROWS):
            continue
        for each in module.imports:
            if any(of_the_family(each.name, side) for side in BYTES):
                yield f"{module.at(each)}: rows import bytes ({each.name}); join the two in storage/content.py"


def libraries_have_owners(tree: Tree) -> Iterator[str]:
    """A third-party library with an owner is imported there and nowhere else in the product."""
    for module in tree.sources:
        if within(module.name, "bench"):
            continue
        for each in module.imports:
            owners = OWNERS.get(each.name.partition(".")[0])
            if owners is not None and not any(fnmatchcase(module.path, owner) for owner in owners):
                yield f"{module.at(each)}: imports {each.name}; only {', '.join(owners)} may: call the owner instead"


def names_say_something(tree: Tree) -> Iterator[str]:
    """No file and no folder has a name under which anything could be put."""
    for module in (*tree.sources, *tree.tests):
        words = {part.removesuffix(".py") for part in module.path.split("/")}
        words |= {word.removeprefix("test_") for word in words}
        for word in sorted(words & BANNED_NAMES):
            yield f"{module.path}: '{word}' says nothing; name the thing that it holds"


def files_and_functions_are_short(tree: Tree) -> Iterator[str]:
    """A file is at most 500 lines and a function at most 60 without its docstring."""
    for module in (*tree.sources, *tree.tests):
        if module.lines > MAX_FILE_LINES:
            yield f"{module.path}: {module.lines} lines, over {MAX_FILE_LINES}; split it by noun, not into parts"
        for function in module.functions:
            lines = _last_line(function) - function.lineno + 1 - _docstring_lines(function)
            if lines > MAX_FUNCTION_LINES:
                yield f"{module.at(function)}: {function.name} has {lines} lines, over {MAX_FUNCTION_LINES}; split it"


def modules_have_contracts(tree: Tree) -> Iterator[str]:
    """Every module and package opens with a docstring, and every folder of modules is a package."""
    for module in (*tree.sources, *tree.tests):
        if not ast.get_docstring(module.syntax):
            yield f"{module.path}: no module docstring; say what it is for and what it must not know"
    present = {module.path for module in tree.sources}
    for folder in sorted({path.rpartition("/")[0] for path in present}):
        if f"{folder}/__init__.py" not in present and folder != "storage/migrations/versions":  # Alembic loads those
            yield f"{folder}/: has modules but no __init__.py; add one with a docstring"


def sources_have_twins(tree: Tree) -> Iterator[str]:
    """Every source file of some size that does anything has a test file of its name, or a reason why not.

    A part that has a file of its own (`filesystem_layout`) may be tested with its whole (`test_filesystem.py`).
    Revisions of the schema are tested together, by what all of them make (`test_migrations.py`).
    """
    twins = {module.path.rpartition("/")[2].removesuffix(".py") for module in tree.tests}
    wanting = set()
    for module in tree.sources:
        words = module.name.rpartition(".")[2].strip("_").split("_")
        accepted = {"test_" + "_".join(words[:count]) for count in range(1, len(words) + 1)}
        if within(module.name, "storage.migrations.versions"):
            continue
        if module.lines > TWIN_FROM_LINES and any(map(_does_something, module.functions)) and not accepted & twins:
            wanting.add(module.path)
            if module.path not in WITHOUT_TWIN:
                wanted = max(accepted, key=len)
                yield f"{module.path}: no {wanted}.py below tests/; write it, or give a reason in WITHOUT_TWIN"
    for path in sorted(WITHOUT_TWIN.keys() - wanting):
        yield f"tests/architecture.py: WITHOUT_TWIN names {path}, which has a twin, is short or is gone; take it out"


def nothing_names_a_machine(tree: Tree) -> Iterator[str]:
    """No published file tells on which machine it was made or where packages came from."""
    for path, text in tree.published():
        for number, line in enumerate(text.splitlines(), start=1):
            for what, pattern in MACHINE.items():
                if found := pattern.search(line):
                    yield f"{path}:{number}: names {what} ({found.group()}); a clone elsewhere has none"
            if path.endswith(".lock") and "://" in line:
                yield f"{path}:{number}: a lock file names no address; run `make lock`"


RULES: tuple[Rule, ...] = (
    imports_are_absolute,
    everything_has_a_home,
    imports_point_down,
    wire_knows_no_registry,
    nothing_imports_the_bench,
    the_waist_is_narrow,
    rows_know_no_bytes,
    libraries_have_owners,
    names_say_something,
    files_and_functions_are_short,
    modules_have_contracts,
    sources_have_twins,
    nothing_names_a_machine,
)


def _first_party(module: Module) -> Iterator[Import]:
    return (each for each in module.imports if not each.relative and each.name.partition(".")[0] in SOURCES)


def _bound_names(module: Module) -> Iterator[str]:
    """What the module has at its top; also under a condition, such as for type checkers what is imported later."""
    body = [each for node in module.syntax.body for each in (node.body if isinstance(node, ast.If) else [node])]
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name


def _does_something(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether the body is more than a docstring and an ellipsis, as in a Protocol."""
    return any(not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)) for node in function.body)


def _docstring_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return _last_line(function.body[0]) - function.body[0].lineno + 1 if ast.get_docstring(function) is not None else 0


def _last_line(node: ast.stmt) -> int:
    return node.end_lineno or node.lineno
