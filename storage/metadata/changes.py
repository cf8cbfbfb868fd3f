"""The scopes in which changes are counted: what an answer may depend on. Revision 0002 says which change counts where.

Scopes of images and blobs are shared by ids with the same remainder, so that their number is bounded.
"""

from typing import Final

_REMAINDERS: Final = 65_536  # as in revision 0002, whose triggers compute the same names

ACCESS: Final = "access"
"""Who may do what where: accounts, secrets, grants, projects, repositories, storages, signing keys."""


def image_scope(image_id: int) -> str:
    """What a pull from the image reads: its name, tags, manifests and links."""
    return f"image:{image_id % _REMAINDERS}"


def blob_scope(blob_id: int) -> str:
    """What a pull of the blob reads: where its bytes lie and what they are."""
    return f"blob:{blob_id % _REMAINDERS}"
