"""Starts load processes, gives them the word, and measures the server around exactly what they do. Blocking.

The other end is `bench.load`. Processes start and warm up first; then the server's CPU is read, all get the word, and
it is read again as soon as the last one that counts says it is done.
"""

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, cast

from bench.cases.case import Outcome
from bench.histograms import Recording, merged, summary
from bench.jobs import Job, LoadFailed, Result
from bench.processes import Cores, ProcessTree, pinned

if TYPE_CHECKING:
    from io import FileIO

_LOOK_EVERY_S: Final = 0.25  # memory of the server while it works; a look costs about a millisecond of the load's core
_ROOT: Final = Path(__file__).resolve().parent.parent


class LoadProcess:
    """One load process. `with LoadProcess(job, cores) as process:`; it never outlives the block."""

    def __init__(self, job: Job, cores: frozenset[int]) -> None:
        self.job = job
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        self._pending = b""
        self._until = time.monotonic() + job.deadline_s
        search = os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        with pinned(cores):
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bench.load"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env={**os.environ, "PYTHONPATH": search},
                bufsize=0,
            )
        self._input = cast("FileIO", self._process.stdin)  # a pipe without a buffer, as asked for above
        self._output = cast("FileIO", self._process.stdout)
        self.tell(asdict(job))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._input, self._output, self._errors):
            stream.close()

    def fileno(self) -> int:
        """What becomes readable when it says something."""
        return self._output.fileno()

    def tell(self, value: Any) -> None:
        """Send it a line. Raises LoadFailed when it is gone."""
        try:
            # Not buffered, so write() may take a part only.
            line = memoryview(json.dumps(value, default=str).encode() + b"\n")
            while line:
                line = line[self._input.write(line) :]
        except BrokenPipeError:
            raise self._gone() from None

    def hear(self) -> Any:
        """Its next line; waits until the job's deadline. Raises LoadFailed."""
        while b"\n" not in self._pending:
            left_s = self._until - time.monotonic()
            if left_s <= 0 or not select.select([self], [], [], left_s)[0]:
                raise LoadFailed(f"{self.job.driver} took longer than {self.job.deadline_s:g} s")
            data = os.read(self.fileno(), 1 << 20)
            if not data:
                raise self._gone()
            self._pending += data
        line, _, self._pending = self._pending.partition(b"\n")
        return json.loads(line)

    def check_deadline(self) -> None:
        """Raise LoadFailed when its time is over."""
        if time.monotonic() > self._until:
            raise LoadFailed(f"{self.job.driver} took longer than {self.job.deadline_s:g} s")

    def expect(self, word: str) -> None:
        """Wait for this word. Raises LoadFailed."""
        heard = self.hear()
        if heard != word:
            raise LoadFailed(f"{self.job.driver} said {heard!r}, not {word!r}")

    def result(self) -> Result:
        """Wait for its result. Raises LoadFailed."""
        value = self.hear()
        value["recordings"] = {name: Recording(**each) for name, each in value["recordings"].items()}
        return Result(**value)

    def _gone(self) -> LoadFailed:
        self._process.wait()
        self._errors.seek(0)
        said = self._errors.read()[-4000:].decode(errors="replace")
        return LoadFailed(f"{self.job.driver} ended with status {self._process.returncode}:\n{said}")


def drive(jobs: Sequence[Job], *, tree: ProcessTree | None, cores: Cores) -> Outcome:
    """Run these jobs at once against a server with these processes; see `bench.cases.case.Stand.drive`."""
    with ExitStack() as stack:
        processes = [stack.enter_context(LoadProcess(job, cores.load)) for job in jobs]
        for process in processes:
            process.expect("ready")
        before_s = tree.cpu_s() if tree else 0.0
        for process in processes:
            process.tell("go")
        peak_bytes = _watch([process for process in processes if not process.job.background], tree)
        server_cpu_s = tree.cpu_s() - before_s if tree else None
        if tree:
            peak_bytes = max(peak_bytes, tree.rss_bytes())
        for process in processes:
            if process.job.background:
                process.tell("stop")
                process.expect("done")
        results = [(process.job, process.result()) for process in processes]
    counted = [result for job, result in results if not job.background]
    complaints = [complaint for _, result in results for complaint in result.complaints]
    recordings = _merged(counted)
    extra: dict[str, float] = {}
    for job, result in results:
        prefix = "background_" if job.background else ""
        if job.background:
            extra["background_bytes_per_s"] = (
                extra.get("background_bytes_per_s", 0) + result.moved_bytes / result.wall_s
            )
            extra["background_errors"] = extra.get("background_errors", 0) + result.errors
        extra |= {f"{prefix}{name}": value for name, value in result.extra.items()}
    return Outcome(
        requests=sum(result.requests for result in counted),
        moved_bytes=sum(result.moved_bytes for result in counted),
        errors=sum(result.errors for result in counted),
        wall_s=max(result.wall_s for result in counted),
        server_cpu_s=server_cpu_s,
        client_cpu_s=sum(result.cpu_s for _, result in results),
        server_rss_bytes=peak_bytes if tree else None,
        first_byte=summary(recordings["first_byte"]) if "first_byte" in recordings else None,
        whole=summary(recordings["whole"]) if "whole" in recordings else None,
        extra=extra,
        recordings=recordings,
        complaints=complaints[:5],
    )


def _watch(processes: Sequence[LoadProcess], tree: ProcessTree | None) -> int:
    """Wait until all say that they are done; the most memory that the server held meanwhile."""
    waiting = list(processes)
    peak_bytes = 0
    while waiting:
        heard, _, _ = select.select(waiting, [], [], _LOOK_EVERY_S)
        for process in heard:
            process.expect("done")
            waiting.remove(process)
        if not heard:
            for process in waiting:
                process.check_deadline()
            if tree:
                peak_bytes = max(peak_bytes, tree.rss_bytes())
    return peak_bytes


def _merged(results: Sequence[Result]) -> dict[str, Recording]:
    names = sorted({name for result in results for name in result.recordings})
    return {
        name: merged(*(result.recordings[name] for result in results if name in result.recordings)) for name in names
    }
