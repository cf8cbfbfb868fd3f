"""What access errors tell, and to whom."""

from gateway.access.errors import AccessError, BadCredentials, InvalidField, InvalidToken, Overloaded


def test_bad_credentials_have_one_text() -> None:
    """T7: there is no way to give the error a reason that a client could tell apart."""
    assert str(BadCredentials()) == "the user name or password is wrong"


def test_the_reason_of_an_invalid_token_stays_inside() -> None:
    """The client learns to authenticate again; only the log learns why."""
    error = InvalidToken("another algorithm than the key's")

    assert error.reason not in str(error)


def test_only_overload_is_worth_a_retry() -> None:
    """A27: a full queue is temporary, and is not told as wrong credentials."""
    assert Overloaded().retryable
    assert not isinstance(Overloaded(), BadCredentials)
    assert not AccessError.retryable


def test_an_invalid_field_names_the_field() -> None:
    """A form can show each message at its field."""
    error = InvalidField("name", "use a-z")

    assert (error.field, error.reason) == ("name", "use a-z")
