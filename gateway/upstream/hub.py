"""What is particular to Docker Hub: the addresses it goes by, and names that it writes shorter. Pure.

Its login host is in the table of `gateway.upstream.tokens`; its pull limits are read as those of any registry.
"""

from typing import Final
from urllib.parse import urlsplit

URL: Final = "https://registry-1.docker.io"
"""Where the registry answers; the names people write (`docker.io`) are a web site, or redirect."""

_HOSTS: Final = frozenset({"docker.io", "www.docker.io", "index.docker.io", "registry-1.docker.io", "hub.docker.com"})
_OFFICIAL: Final = "library/"


def is_docker_hub(url: str) -> bool:
    """Whether the address is one that people give for Docker Hub."""
    return (urlsplit(url).hostname or "").rstrip(".") in _HOSTS


def canonical_url(url: str) -> str:
    """The address to ask: Docker Hub's own for all that mean it, others as they are but for slashes at the end.

    `docker.io` and `index.docker.io/v1/`, with or without a scheme, are what configurations of other tools have.
    """
    with_scheme = url if "://" in url else f"https://{url}"
    return URL if is_docker_hub(with_scheme) else url.rstrip("/")


def full_name(image: str) -> str:
    """The name that Docker Hub knows: images of one component are the official ones, below `library/`."""
    return image if "/" in image else f"{_OFFICIAL}{image}"
