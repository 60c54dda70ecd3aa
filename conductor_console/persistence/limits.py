"""How much a database takes, known before it is written: afterwards it is a failure of the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import sqlalchemy as sa

from conductor_console.persistence import schema
from conductor_console.persistence.schema import Encoded, Stored
from conductor_console.persistence.sessions import PACKET

#: Octets of JSON that are stored of one value, where the database itself does not take less.
LARGEST: Final = 256 * 2**20
#: Octets that a statement has besides its JSON columns, generously.
_OVERHEAD: Final = 16 * 1024
_MEGABYTE: Final = 2**20


@dataclass(frozen=True, slots=True)
class Excess:
    """A column that is too much, its octets, and what takes how much."""

    column: str
    octets: int
    takes: str

    def __str__(self) -> str:
        return f"{self.column.replace('_', ' ')} of {_size(self.octets)} cannot be stored: {self.takes}"

    @property
    def why(self) -> str:
        """The same without what it is about."""
        return f"it takes {_size(self.octets)}, and {self.takes}"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one database takes.

    :ivar nan: whether it takes NaN and infinities, which are no JSON.
    :ivar packet: octets of one statement; None where there is no such limit.
    :ivar columns: octets of a column, by table and column, where it takes less than :data:`LARGEST`.
    """

    nan: bool = True
    packet: int | None = None
    columns: Mapping[tuple[str, str], int] = field(default_factory=dict)

    def over(self, table: sa.Table, values: Mapping[str, Stored]) -> Excess | None:
        """Why these columns are too much for one statement; None where they are not."""
        for column, value in values.items():
            if not isinstance(value, Encoded):
                continue
            limit = self.columns.get((table.name, column), LARGEST)
            if len(value.text) > limit:
                kind = "its column takes" if limit < LARGEST else "a store takes"
                return Excess(column, len(value.text), f"{kind} {_size(limit)}")
        return over_packet(values, self.packet)


def of(connection: sa.Connection) -> Limits:
    """The limits of a MySQL; no columns where its tables are not made yet."""
    known = sa.table("columns", *map(sa.column, _COLUMNS), schema="information_schema")
    query = sa.select(*(known.c[name] for name in _COLUMNS[1:])).where(
        known.c.table_schema == sa.func.database(),
        known.c.table_name.in_([table.name for table in schema.TASKFLOW_TABLES]),
    )
    sizes = {(str(table), str(column)): size for table, column, size in connection.execute(query) if size is not None}
    return Limits(
        packet=connection.info.get(PACKET),
        columns={place: int(size) for place, size in sizes.items() if size < LARGEST},
    )


_COLUMNS: Final = ("table_schema", "table_name", "column_name", "character_octet_length")


def over_packet(values: Mapping[str, Stored], limit: int | None) -> Excess | None:
    """Why these columns are more than MySQL takes in one statement; None where they are not. It would drop the
    connection, and tell nobody why.
    """
    if limit is None:
        return None
    sizes = {column: _escaped(value.text, limit) for column, value in values.items() if isinstance(value, Encoded)}
    if sum(sizes.values()) + _OVERHEAD < limit:
        return None
    column = max(sizes, key=lambda column: sizes[column])
    return Excess(column, sizes[column], f"the database takes {_size(limit)} (max_allowed_packet)")


def _size(octets: int) -> str:
    return f"{octets / _MEGABYTE:.1f} MB" if octets >= _MEGABYTE else f"{octets / 1024:.0f} kB"


def _escaped(text: str, limit: int) -> int:
    """How many octets a JSON text takes in MySQL's statement, exactly where that matters."""
    if 2 * len(text) + _OVERHEAD < limit:
        return len(text)
    return len(text) + sum(text.count(char) for char in "\"'\\")
