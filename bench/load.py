"""A load process: reads a job from its input, gets ready, waits for the word, drives, and prints what it counted.

`python -m bench.load`; one JSON value per line. In: the job, then `"go"`, then perhaps `"stop"`. Out: `"ready"`, then
`"done"` and the result. The other end is `bench.loads`. Only what lies between `go` and `done` counts.
"""

import gc
import importlib
import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import trio

from bench.contenders.contender import Endpoint
from bench.histograms import Samples
from bench.jobs import Result

_COMPLAINTS = 5


class Load:
    """What a driver works with. All methods are called from one Trio loop."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._go = trio.Event()
        self._stop = trio.Event()
        self._requests = 0
        self._moved_bytes = 0
        self._errors = 0
        self._complaints: list[str] = []
        self._samples: dict[str, Samples] = {}
        self._started_s = 0.0
        self._started_cpu_s = 0.0
        self._wall_s = 0.0
        self._cpu_s = 0.0
        self.extra: dict[str, float] = {}
        """More figures for the result."""

    async def ready(self) -> None:
        """Tell that everything is prepared and warm, and wait for the word. Every driver calls it exactly once.

        What was counted and recorded before is forgotten.
        """
        gc.collect()
        gc.freeze()
        _say("ready")
        await self._go.wait()
        self._requests = self._moved_bytes = self._errors = 0
        self._complaints.clear()
        self._samples.clear()
        self._started_s, self._started_cpu_s = time.perf_counter(), time.process_time()

    def go(self) -> None:
        """Give the word."""
        self._go.set()

    def stop(self) -> None:
        """Ask a background job to end."""
        self._stop.set()

    @property
    def stopped(self) -> bool:
        """Whether a background job is to end now."""
        return self._stop.is_set()

    def answered(self, requests: int, moved_bytes: int) -> None:
        """Count answers that were right, and the bytes of bodies that went either way."""
        self._requests += requests
        self._moved_bytes += moved_bytes

    def failed(self, why: str) -> None:
        """Count an error; the first few are reported in words."""
        self._errors += 1
        if len(self._complaints) < _COMPLAINTS:
            self._complaints.append(why)

    def samples(self, name: str) -> Samples:
        """The latencies of that name, to add to. Ask again after `ready`."""
        return self._samples.setdefault(name, Samples())

    def finish(self) -> None:
        """Take the time: what comes later counts no more."""
        if not self._go.is_set():
            raise RuntimeError("the driver never called ready()")
        self._wall_s, self._cpu_s = time.perf_counter() - self._started_s, time.process_time() - self._started_cpu_s

    def result(self) -> Result:
        """Everything between the word to go and `finish`."""
        recordings = {name: samples.recording() for name, samples in self._samples.items()}
        return Result(
            self._requests,
            self._moved_bytes,
            self._errors,
            self._wall_s,
            self._cpu_s,
            tuple(self._complaints),
            recordings,
            self.extra,
        )

    async def listen(self, *, task_status: trio.TaskStatus[str]) -> None:
        """Hear what comes on our input; the first line is the job. Without a word more (our starter died) we end."""
        pending = bytearray()
        stream = trio.lowlevel.FdStream(os.dup(sys.stdin.fileno()))
        started = False
        async with stream:
            async for data in stream:
                pending += data
                while (end := pending.find(b"\n")) >= 0:
                    line = pending[:end].decode()
                    del pending[: end + 1]
                    if not started:
                        task_status.started(line)
                        started = True
                    elif line == '"go"':
                        self.go()
                    else:
                        self.stop()
        raise SystemExit(1)


async def main() -> None:
    """Work on one job."""
    load = Load(Endpoint("", 0))
    async with trio.open_nursery() as nursery:
        job = json.loads(await nursery.start(load.listen))
        place = job["endpoint"]
        certificate = Path(place["certificate"]) if place["certificate"] else None
        load.endpoint = Endpoint(place["host"], place["port"], certificate, place["authority"])
        await importlib.import_module(job["driver"]).drive(load, **job["arguments"])
        load.finish()
        _say("done")
        _say(asdict(load.result()))
        nursery.cancel_scope.cancel()


def _say(value: Any) -> None:
    print(json.dumps(value), flush=True)


if __name__ == "__main__":
    trio.run(main)
