"""Types of fields: strict on the way in, in UTC on the way out."""

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from gateway.api.fields import Body, Glob, Moment, Name, Narrowing, Prefix, RepositoryName, Text, View, moment


class Sample(Body):
    """One of each."""

    name: Name = "a"
    prefix: Prefix = "a"
    repository: RepositoryName = "a/b"
    glob: Glob = "*"
    text: Text = ""
    when: Moment | None = None
    flag: bool = False


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", '"a/b"'),
        ("name", '"Ä"'),
        ("prefix", '"a//b"'),
        ("repository", '"a"'),
        ("glob", '"a b"'),
        ("text", '"\\u0000"'),
        ("when", '"2026-01-01"'),
        ("when", '"2026-01-01T00:00:00"'),
        ("when", "1767225600"),
        ("flag", '"true"'),
        ("flag", "1"),
        ("flag", "null"),
        ("other", "1"),
    ],
)
def test_a_value_of_another_kind_is_refused(field: str, value: str) -> None:
    """Nothing is converted, nothing unknown is passed over."""
    with pytest.raises(ValidationError) as caught:
        Sample.model_validate_json(f'{{"{field}": {value}}}')
    assert caught.value.errors()[0]["loc"][0] == field


def test_times_are_utc_to_the_second() -> None:
    """Any zone comes in, one goes out."""
    sample = Sample.model_validate_json('{"when": "2026-03-04T05:06:07.89+02:00"}')

    assert sample.when == datetime(2026, 3, 4, 3, 6, 7, tzinfo=UTC)
    assert b'"2026-03-04T03:06:07Z"' in sample.model_dump_json().encode()


def test_a_rows_time_is_shown_in_utc() -> None:
    """Unix seconds become the same text for every reader."""

    class Shown(View):
        at: Moment

    assert Shown(at=moment(0)).model_dump_json() == '{"at":"1970-01-01T00:00:00Z"}'


def test_narrowing_knows_the_acts() -> None:
    """By the names that rights have."""
    assert [str(each) for each in Narrowing.model_validate_json('{"actions": ["pull", "push"]}').actions or ()] == [
        "pull",
        "push",
    ]
