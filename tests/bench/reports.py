"""Reports for tests: a few measurements with figures that are easy to reckon with."""

from collections.abc import Mapping, Sequence

from bench.records import Latencies, Machine, Measurement, Report, Unit

GIB = 1 << 30
MACHINE = Machine(cpu="a <CPU>", cores=2, memory_bytes=8 * GIB, kernel="Linux 6", python="CPython 3.11.2")


def measured(
    case: str,
    contender: str,
    number: int,
    cpu_s: float | None,
    *,
    unit: Unit = Unit.KILO_REQUESTS,
    errors: int = 0,
    p99_ms: float = 3.0,
    extra: Mapping[str, float] | None = None,
) -> Measurement:
    """One unit of work (1,000 requests or 1 GiB) in 2 s, with this much server CPU."""
    return Measurement(
        case=case,
        contender=contender,
        round=number,
        unit=unit,
        requests=1000,
        moved_bytes=GIB,
        errors=errors,
        wall_s=2.0,
        server_cpu_s=cpu_s,
        client_cpu_s=0.5,
        server_rss_bytes=None if cpu_s is None else 64 << 20,
        first_byte=Latencies(1000, 1.0, 1.5, 2.0, 2.5, 9.0),
        whole=Latencies(1000, 1.2, 1.7, p99_ms, 3.5, 9.5),
        extra=extra or {},
    )


def rounds(case: str, contender: str, *cpu_s: float, unit: Unit = Unit.KILO_REQUESTS) -> list[Measurement]:
    """A round for each of these."""
    return [measured(case, contender, number, each, unit=unit) for number, each in enumerate(cpu_s, start=1)]


def report(*measurements: Sequence[Measurement], notes: Sequence[str] = ()) -> Report:
    """A report of these."""
    flat = [each for several in measurements for each in several]
    return Report(
        started_at="2026-11-21T12:00:00+00:00",
        machine=MACHINE,
        contenders={name: f"{name} 1.0" for name in dict.fromkeys(each.contender for each in flat)},
        rounds=max((each.round for each in flat), default=0),
        measurements=flat,
        notes=notes,
        cases={"manifest-get": "GET of a manifest & more"},
    )


SAMPLE = report(
    rounds("manifest-get", "sluice", 0.04, 0.05, 0.06),
    rounds("manifest-get", "docker-registry", 1.0, 1.1, 0.9),
    rounds("blob-get-warm-1", "nginx", 0.2, 0.2, 0.2, unit=Unit.GIB),
    rounds("blob-get-warm-1", "sluice", 0.3, 0.31, 0.29, unit=Unit.GIB),
    [
        measured("idle-connections", "sluice", 1, 0.1, unit=Unit.CONNECTIONS, extra={"rss_bytes_per_connection": 9000}),
        measured("fleet", "url", 1, None, errors=2, extra={"pulls_per_s": 7.0, "background_bytes_per_s": 2048}),
    ],
    notes=["scale <quick>"],
)
"""A target met, one missed, one of memory, and a registry known by its URL with errors."""
