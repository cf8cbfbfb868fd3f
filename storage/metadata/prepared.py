"""Selects that nearly every request runs, compiled once.

On SQLite the driver answers such a question in 4 us, on the event loop itself, and SQLAlchemy's way to the driver and
back costs 25 us (50 us with a list among the values): the requests that no lane answers ask eight of them. So there the
driver gets the text that SQLAlchemy made when the question was first asked. PostgreSQL is asked in threads, by sessions
that count statements, so there a statement goes the common way.

What the driver raises is not wrapped then; sessions expect both.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import sqlalchemy as sa
from sqlalchemy import Connection

Row = Sequence[Any]
Values = Mapping[str, Any]
_Processor = Callable[[Any], Any]

_LONGEST_LIST: Final = 32
"""Lists are part of the text, so each length is a text of its own; longer ones go the common way."""


class Prepared:
    """One select. Its rows are plain tuples in the order of its columns, with the values that SQLAlchemy gives."""

    __slots__ = ("_forms", "statement")

    def __init__(self, statement: sa.Select[Any] | sa.CompoundSelect[Any]) -> None:
        """`statement`: its bound values are texts and integers, or expanding lists of these."""
        self.statement = statement
        self._forms: dict[tuple[int, ...], _Form] = {}

    def all(self, tx: Connection, values: Values) -> Sequence[Row]:
        """All rows."""
        if tx.dialect.name != "sqlite":
            return tx.execute(self.statement, values).all()
        lengths = tuple([len(value) for value in values.values() if isinstance(value, list)])
        form = self._forms.get(lengths)
        if form is None:
            if lengths and max(lengths) > _LONGEST_LIST:
                return tx.execute(self.statement, values).all()
            form = self._forms[lengths] = _Form.of(self.statement, tx.dialect, values)
        return form.run(tx, values)

    def one(self, tx: Connection, values: Values) -> Row | None:
        """The only row, or None; `sqlalchemy.exc.MultipleResultsFound` where there are more."""
        rows = self.all(tx, values)
        if len(rows) > 1:
            raise sa.exc.MultipleResultsFound("a select for one row gave several")
        return rows[0] if rows else None

    def scalar(self, tx: Connection, values: Values) -> Any:  # as columns are
        """The first column of the only row, or None."""
        row = self.one(tx, values)
        return None if row is None else row[0]


@dataclass(frozen=True, slots=True)
class _Form:
    """The text for lists of certain lengths, and what its question marks stand for."""

    text: str
    constants: tuple[Any, ...]
    """All that it is given, with what the select itself says in its place."""
    named: tuple[tuple[int, str], ...]
    """Where which value belongs."""
    listed: tuple[tuple[int, str, int], ...]
    """Where which place of which list belongs."""
    processors: tuple[tuple[int, _Processor], ...]

    @classmethod
    def of(cls, statement: sa.Select[Any] | sa.CompoundSelect[Any], dialect: sa.Dialect, values: Values) -> Self:
        state = statement.compile(dialect=dialect).construct_expanded_state(values)
        order = state.positiontup or ()
        expansion = state.parameter_expansion.items()
        places = {one: (name, place) for name, expanded in expansion for place, one in enumerate(expanded)}
        types = [column.type.dialect_impl(dialect) for column in statement.selected_columns]
        processors = [kind.result_processor(dialect, None) for kind in types]
        return cls(
            text=state.statement,
            constants=tuple(state.parameters[name] for name in order),
            named=tuple((at, name) for at, name in enumerate(order) if name in values),
            listed=tuple((at, *places[name]) for at, name in enumerate(order) if name in places),
            processors=tuple((at, each) for at, each in enumerate(processors) if each is not None),
        )

    def run(self, tx: Connection, values: Values) -> Sequence[Row]:
        given = list(self.constants)
        for at, name in self.named:
            given[at] = values[name]
        for at, name, place in self.listed:
            given[at] = values[name][place]
        driver: Any = tx.connection.dbapi_connection  # which an open connection has
        rows: list[Row] = driver.execute(self.text, given).fetchall()
        return [self._processed(row) for row in rows] if self.processors else rows

    def _processed(self, row: Row) -> Row:
        result = list(row)
        for at, processor in self.processors:
            result[at] = processor(result[at])
        return tuple(result)
