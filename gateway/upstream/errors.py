"""Everything that asking an upstream registry can raise. Each class says what a client is told and whether to retry.

An upstream that cannot be asked is never "not found": only `UpstreamUnknown` is, which the upstream itself has said.
Messages name the upstream and the thing, never a credential, a token or the query of a signed address.
"""

from typing import Final


class UpstreamError(Exception):
    """Root of the family. `retry_after_s`: when it may go better, if the upstream said so; else None."""

    def __init__(self, message: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class UpstreamUnknown(UpstreamError):
    """The upstream was asked and does not have it: 404. To be kept for a short while at most."""


class UpstreamDenied(UpstreamError):
    """The upstream refuses this thing to us (401, 403), although it knows us or takes anybody.

    To clients this is 404 as well: whether it exists there is not theirs to know. Never shared between repositories.
    """


class UpstreamFailed(UpstreamError):
    """The upstream cannot be reached, answers 5xx, or what it says is no registry's answer: 502. A retry may help."""


class CredentialsRejected(UpstreamFailed):
    """It does not know our name and password, or token: 502. Another credential may do; these have to be entered anew.

    Never "denied": that would be "not found" for clients, although only we are at fault.
    """


class UpstreamSlow(UpstreamError):
    """The upstream took too long: 504. A retry may help."""


class UpstreamBusy(UpstreamError):
    """The upstream wants to be asked less often (429), or our own budget there is spent: 429. Retry after the time."""


class UpstreamRefused(UpstreamError):
    """It wants us to do what we do not: another host with our credentials, a private address, a huge document: 502.

    A retry does not help until its operator, or the repository's settings, change.
    """


NAME_ITS_AUTHORITY: Final = "if it is right, name its authority in the repository's settings (ca)"
"""What can be done about a certificate that nobody we know has signed."""
