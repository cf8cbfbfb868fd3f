"""What identity and token work can raise. The HTTP status of each is decided in `gateway.edge`.

Storage errors pass through unchanged: a dead database is never a wrong password (security rows A26 and A27).
"""


class AccessError(Exception):
    """Root of the family. `retryable`: the same call may succeed later without anybody changing the request."""

    retryable = False


class BadCredentials(AccessError):
    """The name, password or secret is not valid. Unknown, wrong, disabled and expired look alike (security row T7)."""

    def __init__(self) -> None:
        super().__init__("the user name or password is wrong")


class InvalidToken(AccessError):
    """A bearer token is malformed, foreign, expired or revoked. `reason` is for logs; it names no secret."""

    def __init__(self, reason: str) -> None:
        super().__init__("the token is not valid: authenticate again")
        self.reason = reason


class Overloaded(AccessError):
    """Too many logins wait for password hashing. Nothing was decided about this one; a second later it may be."""

    retryable = True

    def __init__(self) -> None:
        super().__init__("too many logins at once: try again shortly")


class InvalidField(AccessError):
    """A management act was given a value it cannot use: `field` names the parameter, `reason` says what is allowed."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class TooManySecrets(AccessError):
    """The account has as many live secrets of that kind as it may; revoke one first. The message says how many."""


class LastAdmin(AccessError):
    """The act would leave no enabled admin, so nobody could manage the installation any more."""

    def __init__(self) -> None:
        super().__init__("this is the last enabled admin: make another one first")
