"""A connection for every request, as docker 20.10, podman 4.3 and skopeo 1.9 open them: accepting counts."""

from functools import partial
from typing import Final

from bench.cases.case import Case, Scale
from bench.cases.manifests import manifest_shots, put_image
from bench.cases.traffic import Repeated
from bench.records import Unit

CLIENTS: Final = 16


def cases(scale: Scale) -> tuple[Case, ...]:
    """Manifest HEAD and GET."""
    seconds = 2.0 if scale is Scale.FULL else 0.7
    fresh = partial(
        Repeated, unit=Unit.KILO_REQUESTS, connections=CLIENTS, seconds=seconds, put=put_image, reconnect=True
    )
    how = f"with a connection for every request, {CLIENTS} clients"
    return (
        fresh("connect-manifest-head", f"HEAD of a manifest {how}", shots=partial(manifest_shots, method="HEAD")),
        fresh("connect-manifest-get", f"GET of a manifest {how}", shots=manifest_shots),
    )
