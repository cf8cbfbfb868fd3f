"""The operations of S3 by their requests, and the answers with which a service says that it cannot just now.

Path-style addresses only: `/bucket/key`.
"""

from collections import Counter
from collections.abc import Callable, Iterable

from tests.faults.exchange import Exchange
from tests.faults.fault import Answer

_XML = (("Content-Type", "application/xml"),)


def operation(exchange: Exchange) -> str:
    """The name that the service's reference gives to a request; "Other" for what Sluice has no use for."""
    query = exchange.query
    of_bucket = "/" not in exchange.path.strip("/")
    copies = "Copy" if exchange.head.field("x-amz-copy-source") else ""
    if of_bucket:
        named = {
            "PUT": "PutLifecycle" if "lifecycle" in query else "CreateBucket",
            "GET": next((name for word, name in _OF_BUCKET.items() if word in query), "ListObjects"),
            "HEAD": "HeadBucket",
            "POST": "DeleteObjects" if "delete" in query else "Other",
        }
    elif "uploadId" in query:
        named = {
            "PUT": f"UploadPart{copies}",
            "POST": "CompleteMultipartUpload",
            "DELETE": "AbortMultipartUpload",
            "GET": "ListParts",
        }
    else:
        named = {
            "PUT": "CopyObject" if copies else "PutObject",
            "GET": "GetObject",
            "HEAD": "HeadObject",
            "DELETE": "DeleteObject",
            "POST": "CreateMultipartUpload" if "uploads" in query else "Other",
        }
    return named.get(exchange.method, "Other")


_OF_BUCKET = {
    "uploads": "ListMultipartUploads",
    "lifecycle": "GetLifecycle",
    "location": "GetBucketLocation",
    "versioning": "GetVersioning",
}


def operations(exchanges: Iterable[Exchange]) -> Counter[str]:
    """How many requests of each operation there were."""
    return Counter(map(operation, exchanges))


def asks(*names: str) -> Callable[[Exchange], bool]:
    """Whether a request is one of these operations, for the rules of a proxy."""
    return lambda exchange: operation(exchange) in names


def error(status: int, code: str) -> Answer:
    """The service's own form of an error."""
    body = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{code}</Message></Error>'
    return Answer(status, body.encode(), _XML)


INTERNAL = error(500, "InternalError")
SLOW_DOWN = error(503, "SlowDown")
TOO_MANY = error(429, "TooManyRequests")
FORBIDDEN = error(403, "AccessDenied")
NO_SUCH_BUCKET = error(404, "NoSuchBucket")
ERROR_IN_200 = error(200, "InternalError")
"""What CompleteMultipartUpload and CopyObject may answer: the status went out before the outcome was known."""
