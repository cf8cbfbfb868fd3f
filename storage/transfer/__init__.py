"""Bytes to and from HTTP/1.1 servers, in chunks: the data plane's own client, and the signature that S3 asks for.

Knows neither buckets nor registries, and nothing else of `storage` imports sockets. Why it is our own, with figures:
docs/decisions/0011-data-plane-client.md.
"""

from storage.transfer.channel import Resolve, try_each
from storage.transfer.client import Client
from storage.transfer.errors import (
    Broken,
    ConnectFailed,
    PayloadMismatch,
    Stalled,
    TooLarge,
    TransferError,
    Untrusted,
)
from storage.transfer.origin import Origin
from storage.transfer.payload import FileSpan, Payload, Stream
from storage.transfer.pool import ConnectionStatistics
from storage.transfer.response import Response
from storage.transfer.signing import Credentials, Signer

__all__ = [
    "Broken",
    "Client",
    "ConnectFailed",
    "ConnectionStatistics",
    "Credentials",
    "FileSpan",
    "Origin",
    "Payload",
    "PayloadMismatch",
    "Resolve",
    "Response",
    "Signer",
    "Stalled",
    "Stream",
    "TooLarge",
    "TransferError",
    "Untrusted",
    "try_each",
]
