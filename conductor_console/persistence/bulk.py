"""Many rows of one table in one statement.

PostgreSQL is given them all as one JSON text: a statement for each row, even in a pipeline, costs both sides several
times as much, and so does an array for each column. The other drivers are given the rows one by one; SQLite's made
ready here, since SQLAlchemy takes longer over each than SQLite itself.
"""

from __future__ import annotations

import functools
import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.sql.compiler import SQLCompiler

from conductor_console.clock import for_column, utcnow
from conductor_console.persistence import schema
from conductor_console.persistence.schema import Encoded, Stored

_UUID: Final = "wanted_uuid"
_GIVEN: Final = "given"
_ROWS: Final = "cc_rows"
_MADE: Final = "created_at"
_CHANGED: Final = "updated_at"
#: In a connection's ``info``: the enumerations of each table.
_ENUMS: Final = "cc_enums"
_ENUM_TYPES: Final = sa.text(
    "SELECT attname AS name, format_type(atttypid, atttypmod) AS type FROM pg_attribute"
    " JOIN pg_type ON pg_type.oid = atttypid WHERE attrelid = to_regclass(:table) AND typtype = 'e'"
)
#: In a connection's ``info``: statements as its driver takes them.
_STATEMENTS: Final = "cc_statements"
#: Column, and the name of its type.
Enums = tuple[tuple[str, str], ...]
#: Rows, each with the same columns.
Rows = Sequence[Mapping[str, Stored]]


def insert(connection: sa.Connection, table: sa.Table, rows: Rows) -> None:
    """Adds rows, in their order."""
    rows = _timed(table, rows)
    columns = tuple(rows[0])
    if connection.dialect.name == "postgresql":
        connection.execute(_all_inserted(table.name, columns, _enums(connection, table)), {_ROWS: _JSON(rows)})
    elif connection.dialect.name == "sqlite":
        statement = _for_driver(connection, _inserted(table.name, columns), "insert", table.name, columns)
        statement.run(connection, rows)
    else:
        bound = [{_bound(name): row[name] for name in columns} for row in rows]
        connection.execute(_inserted(table.name, columns), bound)


def update(connection: sa.Connection, table: str, changed: Mapping[str, Mapping[str, Stored]]) -> int:
    """Changes rows by their uuid, in each the same columns. Returns how many of them are there."""
    columns = tuple(sorted(next(iter(changed.values()))))
    found = schema.metadata.tables[table]
    if connection.dialect.name == "postgresql":
        text = _JSON([{**values, _UUID: uuid} for uuid, values in changed.items()])
        return connection.execute(_all_updated(table, columns, _enums(connection, found)), {_ROWS: text}).rowcount
    if connection.dialect.name == "sqlite":
        known = _CHANGED not in found.c or _CHANGED in columns
        more: dict[str, Stored] = {} if known else {_CHANGED: for_column(utcnow())}
        columns = (*columns, *more)
        statement = _for_driver(connection, _updated(table, columns), "update", table, columns)
        given = ({**values, **more, _UUID: uuid} for uuid, values in changed.items())
        return statement.run(connection, given)
    rows = [{_UUID: uuid, **{_bound(name): values[name] for name in columns}} for uuid, values in changed.items()]
    return connection.execute(_updated(table, columns), rows).rowcount


@dataclass(frozen=True, slots=True)
class DriverStatement:
    """A statement as SQLite's driver takes it.

    :ivar columns: what is bound, in the order of the text, each with what makes a value ready for the driver.
    """

    text: str
    columns: tuple[tuple[str, Callable[[Any], Any] | None], ...]

    def run(self, connection: sa.Connection, rows: Iterable[Mapping[str, Any]]) -> int:
        """Does it for each row, in the transaction that was begun; returns how many rows of the table it met.

        :raises sqlalchemy.exc.DBAPIError: as SQLAlchemy would.
        """
        columns = self.columns
        bound = [tuple([row[name] if ready is None else ready(row[name]) for name, ready in columns]) for row in rows]
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        try:
            return driver.executemany(self.text, bound).rowcount
        except sqlite3.Error as error:
            raise sa.exc.DBAPIError.instance(
                self.text, None, error, sqlite3.Error, hide_parameters=True, dialect=connection.dialect
            ) from error


def _for_driver(connection: sa.Connection, statement: sa.Insert | sa.Update, *key: object) -> DriverStatement:
    """:param key: by which the statement is known again."""
    known: dict[tuple[object, ...], DriverStatement] = connection.info.setdefault(_STATEMENTS, {})
    if key not in known:
        dialect = connection.dialect
        compiled = statement.compile(dialect=dialect)
        assert isinstance(compiled, SQLCompiler)
        names = compiled.positiontup
        assert names is not None
        kinds = (compiled.binds[name].type for name in names)
        ready = [kind.dialect_impl(dialect).bind_processor(dialect) for kind in kinds]
        columns = (name.removeprefix(_bound("")) for name in names)
        known[key] = DriverStatement(str(compiled), tuple(zip(columns, ready, strict=True)))
    return known[key]


# Making a statement costs more than sending it.
@functools.lru_cache(maxsize=256)
def _inserted(table: str, columns: tuple[str, ...]) -> sa.Insert:
    found = schema.metadata.tables[table]
    return sa.insert(found).values({name: sa.bindparam(_bound(name), type_=found.c[name].type) for name in columns})


@functools.lru_cache(maxsize=256)
def _updated(table: str, columns: tuple[str, ...]) -> sa.Update:
    found = schema.metadata.tables[table]
    values = {name: sa.bindparam(_bound(name), type_=found.c[name].type) for name in columns}
    return sa.update(found).where(found.c.uuid == sa.bindparam(_UUID)).values(values)


@functools.lru_cache(maxsize=256)
def _all_inserted(table: str, columns: tuple[str, ...], enums: Enums) -> sa.Insert:
    found = schema.metadata.tables[table]
    return sa.insert(found).from_select(columns, sa.select(*_cast(_given(found, columns), found, columns, enums)))


@functools.lru_cache(maxsize=256)
def _all_updated(table: str, columns: tuple[str, ...], enums: Enums) -> sa.Update:
    found = schema.metadata.tables[table]
    rows = _given(found, (*columns, _UUID))
    values = dict(zip(columns, _cast(rows, found, columns, enums), strict=True))
    return sa.update(found).where(found.c.uuid == rows.c[_UUID]).values(values)


def _timed(table: sa.Table, rows: Rows) -> Rows:
    """The rows with the time of their making, which for one statement would be one for all: it tells their order."""
    if _MADE not in table.c or _MADE in rows[0]:
        return rows
    now = for_column(utcnow())
    return [{**row, _MADE: now + timedelta(microseconds=place)} for place, row in enumerate(rows)]


def _cast(
    rows: sa.TableValuedAlias, table: sa.Table, columns: tuple[str, ...], enums: Enums
) -> list[sa.ColumnElement[Any]]:
    """The rows as the table's types. Of texts there is no cast: it would cut what is too long, and say nothing.

    An enumeration's name is the database's own.
    """
    names = dict(enums)

    def cast(name: str) -> sa.ColumnElement[Any]:
        if name in names:
            return sa.literal_column(f"CAST({_GIVEN}.{name} AS {names[name]})")
        kind = table.c[name].type
        return sa.cast(rows.c[name], kind) if isinstance(kind, schema.StoredJson) else rows.c[name]

    return [cast(name) for name in columns]


def _enums(connection: sa.Connection, table: sa.Table) -> Enums:
    """What the database calls the types of a table's enumerations: TaskFlow's migrations and its tables differ."""
    if not any(isinstance(column.type, sa.Enum) for column in table.columns):
        return ()
    known: dict[str, Enums] = connection.info.setdefault(_ENUMS, {})
    if table.name not in known:
        found = connection.execute(_ENUM_TYPES, {"table": table.name}).all()
        known[table.name] = tuple((row.name, row.type) for row in found)
    return known[table.name]


def _given(table: sa.Table, columns: tuple[str, ...]) -> sa.TableValuedAlias:
    """The rows in the text that is bound."""
    named = [sa.column(name, _kind(table.c[name].type) if name in table.c else sa.Text()) for name in columns]
    text = sa.cast(sa.bindparam(_ROWS, type_=sa.Text()), sa.JSON())
    return sa.func.json_to_recordset(text).table_valued(*named).render_derived(name=_GIVEN, with_types=True)


def _kind(of: sa.types.TypeEngine[Any]) -> sa.types.TypeEngine[Any]:
    """What a column's values are read as: as text, where the database makes something else of it."""
    return of if isinstance(of, (sa.Integer, sa.DateTime)) else sa.Text()


def _told(value: Encoded | datetime) -> str:
    return value.text if isinstance(value, Encoded) else value.isoformat()


# What is JSON already is a text in it. Not in ASCII: a database in another encoding knows its own characters, but no
# escapes of Unicode.
_JSON: Final = json.JSONEncoder(ensure_ascii=False, check_circular=False, default=_told).encode


def _bound(column: str) -> str:
    return f"new_{column}"
