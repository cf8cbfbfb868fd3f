"""`sluice warm`: pull a list of images through a gateway, so that they are there when clients come."""

import ssl
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final
from urllib.parse import urlsplit

import click
import trio

from gateway.cli.help import Command
from gateway.cli.options import Named
from gateway.cli.output import amount
from gateway.cli.passwords import ask_password, stdin_option
from gateway.cli.registry_client import Login, PullFailed, RegistryClient
from gateway.oci.errors import RegistryError
from gateway.oci.manifest import Descriptor, Manifest
from gateway.oci.names import Reference, Tag, is_name, parse_reference
from gateway.policy import upstreams
from storage import Digest, Pool

_DEEPEST: Final = 4
_PARALLEL: Final = 4


@dataclass(frozen=True, slots=True)
class Image:
    """One line of the list."""

    line: str
    name: str
    reference: Reference


@click.command("warm", cls=Command)
@click.argument("images", metavar="LIST")
@click.option(
    "--url",
    default="http://127.0.0.1:8080",
    show_default=True,
    type=Named("URL", upstreams.remote_url),
    help="The gateway, as clients address it.",
)
@click.option(
    "--user", metavar="NAME", help="Log in; the password comes from SLUICE_PASSWORD or a prompt. Else nobody."
)
@stdin_option
@click.option(
    "--platform",
    "platforms",
    multiple=True,
    type=Named("OS/ARCH", upstreams.platform),
    help="Of images for several, only this one; repeatable.",
)
@click.option("--parallel", type=click.IntRange(1, 32), default=_PARALLEL, show_default=True, help="Requests at once.")
@click.option(
    "--ca",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with the authorities (PEM) of the gateway's certificate.",
)
def command(  # an option each
    *,
    images: str,
    url: str,
    user: str | None,
    from_stdin: bool,
    platforms: tuple[str, ...],
    parallel: int,
    ca: Path | None,
) -> None:
    """Pull images ahead, so that they are in the caches when clients come.

    LIST is a file, or - for standard input: one image per line as clients name it, with or without the gateway's
    host, by tag or digest; what begins with # is left out. Manifests, those of the wanted platforms and their blobs are
    brought to the gateway; nothing is kept here. What is there already costs one small request. The exit code is 1 if
    something could not be had.

    Examples:
      sluice warm images.txt
      sluice warm images.txt --url https://registry.example.com --user ci --platform linux/amd64
      echo common/dockerhub-proxy/library/nginx:1.27 | sluice warm -
    """
    if from_stdin and images == "-":
        raise click.UsageError("standard input cannot be both the list and the password: set SLUICE_PASSWORD")
    wanted = _read_file(images, host=urlsplit(url).netloc)
    login = Login(user, ask_password(from_stdin=from_stdin)) if user is not None else None
    client = RegistryClient(url, login=login, tls=_tls(ca))
    totals = Totals()
    run = _Run(client, platforms, Pool("warm", parallel), totals)
    with _progress(len(wanted), totals) as advance:
        try:
            trio.run(_warm_all, run, wanted, advance)
        except BaseExceptionGroup as group:
            if group.subgroup(KeyboardInterrupt) is not None:
                raise click.Abort from group
            raise
    _tell(len(wanted), totals)


def _read_file(name: str, *, host: str) -> list[Image]:
    try:
        with click.open_file(name, encoding="utf-8") as lines:
            return read_list(lines, host=host)
    except OSError as error:
        raise click.UsageError(f"{name}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{name}: {error}") from error


def read_list(lines: IO[str], *, host: str) -> list[Image]:
    """The images of a list, each once; `UsageError` that names every line that is none.

    `host`: the gateway's own, which images may be written with.
    """
    found: dict[Image, None] = {}
    wrong: list[str] = []
    for number, text in enumerate(lines, start=1):
        line = text.partition("#")[0].strip()
        if not line:
            continue
        try:
            found[_parse(line, host)] = None
        except (ValueError, RegistryError) as error:
            wrong.append(f"line {number}: {line[:100]!r}: {error}")
    if wrong:
        raise click.UsageError("the list has mistakes:\n" + "\n".join(wrong[:20]))
    return list(found)


def _parse(line: str, host: str) -> Image:
    rest = line.removeprefix(f"{host}/")
    name, at, digest = rest.partition("@")
    head, slash, last = name.rpartition("/")
    last, colon, tag = last.partition(":")
    name = f"{head}{slash}{last}"
    if not is_name(name):
        raise ValueError(f"use NAME:TAG or NAME@DIGEST, with no host but {host}")
    if at:
        return Image(line, name, parse_reference(digest, writing=True))
    return Image(line, name, parse_reference(tag, writing=True) if colon else Tag("latest"))


def _tls(ca: Path | None) -> ssl.SSLContext | None:
    if ca is None:
        return None
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as error:
        raise click.UsageError(f"--ca {ca}: {error.strerror or error}") from error


# --- the work --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Totals:
    """What was brought, and what was not."""

    blobs: int = 0
    size_bytes: int = 0
    failed: list[str] = field(default_factory=list)


async def _warm_all(run: "_Run", wanted: Sequence[Image], advance: Callable[[int], None]) -> None:
    """One image after the other, its blobs at once: so the first ones of a list are there first."""
    for image in wanted:
        await run.warm(image)
        advance(1)


class _Run:
    def __init__(self, client: RegistryClient, platforms: Sequence[str], pool: Pool, totals: Totals) -> None:
        self._client = client
        self._platforms = platforms
        self._pool = pool
        self._totals = totals
        self._seen: set[tuple[str, Digest]] = set()

    async def warm(self, image: Image) -> None:
        try:
            await self._bring(image.name, image.reference, depth=0)
        except* PullFailed as group:
            text = str(_first(group))  # which may begin with what failed: this very image, or a child or a blob of it
            self._totals.failed.append(text if text.startswith(f"{image.line}: ") else f"{image.line}: {text}")

    async def _bring(self, name: str, reference: Reference, *, depth: int) -> None:
        found = await self._pool.look(self._client.manifest, name, reference)
        async with trio.open_nursery() as nursery:
            for each in _blobs(found):
                if not each.is_foreign and (name, each.digest) not in self._seen:
                    self._seen.add((name, each.digest))
                    nursery.start_soon(self._bring_blob, name, each)
        for child in found.children:
            if depth < _DEEPEST and self._is_wanted(child) and (name, child.digest) not in self._seen:
                self._seen.add((name, child.digest))
                await self._bring(name, child.digest, depth=depth + 1)

    def _is_wanted(self, child: Descriptor) -> bool:
        if not self._platforms or child.platform is None:
            return True
        return any(child.platform == each or child.platform.startswith(f"{each}/") for each in self._platforms)

    async def _bring_blob(self, name: str, blob: Descriptor) -> None:
        try:
            await self._pool.look(self._client.ready_blob, name, blob.digest, blob.size_bytes)
        except PullFailed:
            self._seen.discard((name, blob.digest))  # the next image that has it says so, too
            raise
        self._totals.blobs += 1
        self._totals.size_bytes += blob.size_bytes


def _blobs(found: Manifest) -> list[Descriptor]:
    return [*((found.config,) if found.config else ()), *found.layers]


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


# --- what is shown ---------------------------------------------------------------------------------------------------


@contextmanager
def _progress(count: int, totals: Totals) -> Iterator[Callable[[int], None]]:
    """A bar of so many images; nobody but people gets to see it."""
    if not sys.stderr.isatty() or not count:
        yield lambda _: None
        return

    def shown(_: object) -> str:
        return amount(totals.size_bytes)

    with click.progressbar(length=count, label="images", file=sys.stderr, item_show_func=shown) as bar:
        yield lambda more: bar.update(more, count)


def _tell(count: int, totals: Totals) -> None:
    for line in totals.failed:
        click.echo(f"failed {line}", err=True)
    brought = count - len(totals.failed)
    click.echo(f"{brought} of {count} images are there: {totals.blobs} blobs, {amount(totals.size_bytes)}")
    if totals.failed:
        raise click.ClickException(f"{len(totals.failed)} of {count} could not be had; the lines above say why")
