"""Everything that a transfer can raise. Each class says whether the same request may succeed when it is sent again.

A status is never an error here: 404 and 503 are answers, and what they mean is known above.
"""


class TransferError(Exception):
    """Root of the family. `retryable`: the same request may succeed later, without anybody changing it."""

    retryable = False


class ConnectFailed(TransferError):
    """No connection: name not found, refused, unreachable, no answer in time. Nothing was sent; a retry may help."""

    retryable = True


class Untrusted(ConnectFailed):
    """The server's certificate was not accepted. A retry does not help: name the right CA, or the right host."""

    retryable = False


class Broken(TransferError):
    """The connection died, the body was cut off, or what came is not HTTP. A retry may help.

    Whether the server has done what it was asked is unknown; so the retry is for those whose request may happen twice.
    """

    retryable = True


class Stalled(TransferError):
    """The server neither sent nor took a byte for the idle time. A retry may help, as after `Broken`."""

    retryable = True


class TooLarge(TransferError):
    """The body has more bytes than were asked for. A retry does not help."""


class PayloadMismatch(TransferError):
    """The caller's payload has not the number of bytes that it promised; the server got a part of it at most.

    A retry does not help: the source is at fault.
    """
