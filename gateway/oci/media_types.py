"""The media types that decide anything here, and what is asked of them (image-spec, "Media Types"; Docker schema 2).

All other types are opaque: configs, layers and artifacts may have any (MP-13).
"""

from typing import Final

OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"

SCHEMA1: Final = "application/vnd.docker.distribution.manifest.v1+json"
SCHEMA1_SIGNED: Final = "application/vnd.docker.distribution.manifest.v1+prettyjws"
OCI_ARTIFACT: Final = "application/vnd.oci.artifact.manifest.v1+json"

JSON: Final = "application/json"

_MANIFESTS: Final = frozenset({OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST})
_INDEXES: Final = frozenset({OCI_INDEX, DOCKER_LIST})
_DOCKER: Final = frozenset({DOCKER_MANIFEST, DOCKER_LIST})
_FORMER: Final = frozenset({SCHEMA1, SCHEMA1_SIGNED, OCI_ARTIFACT})
_FOREIGN_LAYERS: Final = frozenset(
    {
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
        "application/vnd.docker.image.rootfs.foreign.diff.tar",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    }
)


def parse_content_type(header: str | None) -> str | None:
    """The media type in lower case, without parameters (MP-05); None if the header is absent or says nothing."""
    if header is None:
        return None
    return header.partition(";")[0].strip().lower() or None


def is_manifest_type(media_type: str) -> bool:
    """Whether it is one of the four types that are accepted as manifests (MP-04)."""
    return media_type in _MANIFESTS


def is_index_type(media_type: str) -> bool:
    """Whether manifests of this type list manifests, not layers."""
    return media_type in _INDEXES


def is_docker_type(media_type: str) -> bool:
    """Whether it is a Docker schema 2 type, where the body must repeat it."""
    return media_type in _DOCKER


def is_former_manifest_type(media_type: str) -> bool:
    """Whether it once was a manifest type: clients still name these in `Accept`, none may be pushed (MP-16, MP-17)."""
    return media_type in _FORMER


def is_foreign_layer_type(media_type: str) -> bool:
    """Whether layers of this type may live elsewhere, at their `urls` (MP-11)."""
    return media_type in _FOREIGN_LAYERS
