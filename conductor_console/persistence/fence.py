"""Which of a writer's transactions was its last: tells a commit whose answer was lost from one that never was."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa

from conductor_console.clock import for_column, utcnow
from conductor_console.persistence.schema import writers

#: How long a writer may be silent before its row is cleared away; it then makes itself another.
_FORGOTTEN_AFTER = timedelta(days=2)
# Making a statement costs more than sending it.
_TAKE: Final = (
    sa.update(writers)
    .where(writers.c.writer == sa.bindparam("own"))
    .values(turn=sa.bindparam("turn"), at=sa.bindparam("at"))
)


def _now() -> datetime:
    return for_column(utcnow())


class Fence:
    """A row of the writer's own that each of its transactions changes first.

    When the connection breaks in a commit, nobody knows whether the server did it, or is still about to. Whoever asks
    for the row's lock afterwards waits for that transaction's end, and then reads in the row how it ended; so nothing
    is written twice, and no later transaction of the writer comes before an earlier one.

    Used by one thread.
    """

    def __init__(self, there: Callable[[sa.Connection], bool]) -> None:
        """:param there: whether the store has the table of such rows; without it nothing here does anything."""
        self._there = there
        self._writer: str | None = None
        self._turn = 0
        self._taken = _now()

    @property
    def entered(self) -> bool:
        """Whether the writer has a row that nobody clears away."""
        return self._writer is not None and _now() - self._taken < _FORGOTTEN_AFTER / 2

    def enter(self, connection: sa.Connection) -> None:
        """Makes the writer a row, in a transaction of its own; and clears those of writers that are long gone."""
        with connection.begin():
            if not self._there(connection):
                return
            # By their keys: a search by time would wait for the rows that others hold.
            old = connection.scalars(sa.select(writers.c.writer).where(writers.c.at < _now() - _FORGOTTEN_AFTER)).all()
            if old:
                connection.execute(sa.delete(writers).where(writers.c.writer.in_(old[:100])))
            # A new one each time: whether a row by the old name is about to come cannot be known.
            writer, now = uuid.uuid4().hex, _now()
            connection.execute(sa.insert(writers).values(writer=writer, turn=0, at=now))
        self._writer, self._turn, self._taken = writer, 0, now

    def take(self, connection: sa.Connection) -> int | None:
        """The first thing a transaction does. Returns its number; None where the writer has no row."""
        if self._writer is None:
            return None
        self._turn += 1
        self._taken = _now()
        if connection.execute(_TAKE, {"own": self._writer, "turn": self._turn, "at": self._taken}).rowcount == 0:
            self._writer = None
            return None
        return self._turn

    def committed(self, connection: sa.Connection, turn: int) -> bool:
        """Whether the transaction ``turn``, the last one begun, was committed; waits until it is over."""
        query = sa.select(writers.c.turn).where(writers.c.writer == self._writer).with_for_update()
        with connection.begin():
            return connection.scalar(query) == turn
