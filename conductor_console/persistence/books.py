"""The rows of a logbook with all it holds, read by one statement: that is done for each job."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.sql.compiler import SQLCompiler

from conductor_console.persistence.schema import TASKFLOW_TABLES, atomdetails, flowdetails, logbooks

#: Rows by the name of their table: of the logbook one or none, its flows, all their atoms. Columns that the table does
#: not have are None.
Found = dict[str, list[dict[str, Any]]]


def _rows_of(table: sa.Table, wanted: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """Rows of any of TaskFlow's tables, all with the same columns: those of an atom, and the row's own table."""
    own = [table.c[column.name] if column.name in table.c else sa.null() for column in atomdetails.columns]
    return sa.select(*own, sa.literal_column(f"'{table.name}'").label(_TABLE)).where(wanted)


_TABLE: Final = "cc_table"
_WANTED: Final[sa.BindParameter[str]] = sa.bindparam("wanted")
# The atoms come first: what has a type there is nothing but NULL elsewhere.
_BOOK: Final = sa.union_all(
    _rows_of(
        atomdetails,
        atomdetails.c.parent_uuid.in_(sa.select(flowdetails.c.uuid).where(flowdetails.c.parent_uuid == _WANTED)),
    ),
    _rows_of(flowdetails, flowdetails.c.parent_uuid == _WANTED),
    _rows_of(logbooks, logbooks.c.uuid == _WANTED),
)


def find(connection: sa.Connection, book_uuid: str) -> Found:
    """All that is stored of a logbook."""
    rows = connection.execute(_BOOK, {"wanted": book_uuid})
    return _by_table(book_uuid, (dict(row._mapping) for row in rows))


def find_by_driver(driver: Any, dialect: sa.Dialect, book_uuid: str) -> Found:
    """The same by a connection of the driver's own: SQLAlchemy takes several times as long.

    :param dialect: SQLite's or PostgreSQL's.
    :raises Exception: whatever the driver, or a row that cannot be read, raises.
    """
    text, bound, columns = _for_driver(dialect)
    cursor = driver.cursor()
    try:
        cursor.execute(text, (book_uuid,) * bound if bound else {_WANTED.key: book_uuid})
        rows = cursor.fetchall()
    finally:
        cursor.close()
    return _by_table(
        book_uuid,
        (
            {
                name: value if value is None or read is None else read(value)
                for (name, read), value in zip(columns, row, strict=True)
            }
            for row in rows
        ),
    )


def _by_table(book_uuid: str, rows: Iterable[dict[str, Any]]) -> Found:
    found: Found = {table.name: [] for table in TASKFLOW_TABLES}
    for row in rows:
        found[row[_TABLE]].append(row)
    # MySQL's usual collations take uuids for one that differ in case or in spaces at their end.
    found[logbooks.name] = [row for row in found[logbooks.name] if row["uuid"] == book_uuid]
    return found


@functools.lru_cache(maxsize=16)
def _for_driver(dialect: sa.Dialect) -> tuple[str, int, tuple[tuple[str, Callable[[Any], Any] | None], ...]]:
    """The statement, how often the uuid is bound in it (0: once, by its name), and its columns, each with what reads a
    value of it.
    """
    compiled = _BOOK.compile(dialect=dialect)
    assert isinstance(compiled, SQLCompiler)
    columns = (
        (column.name, column.type.dialect_impl(dialect).result_processor(dialect, None))
        for column in _BOOK.selected_columns
    )
    return str(compiled), len(compiled.positiontup or ()), tuple(columns)
