"""Tables: TaskFlow's three, taken from TaskFlow itself, and ours beside them.

TaskFlow's are never altered: their columns keep TaskFlow's names and types in the database, only the conversion of
JSON columns is ours, so that a value is encoded once, where it is compared, and bound as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from oslo_serialization import jsonutils
from sqlalchemy.dialects import mysql
from taskflow import exceptions as excp
from taskflow.persistence.backends.sqlalchemy import tables as taskflow_tables

from conductor_console.errors import StoreUnreachable
from conductor_console.text import visible


@dataclass(frozen=True, slots=True)
class Encoded:
    """A value as its JSON text, ready to be compared with another and to be bound."""

    text: str


#: What a column of an encoded row holds; JSON columns hold :class:`Encoded`.
Stored = str | int | datetime | Encoded | None
#: An encoded row: column name to value.
Values = Mapping[str, Stored]


class Unstorable(excp.StorageFailure):
    """A value is at fault, and not the store: it is no JSON, too big, or has no place in its column. Nothing of the
    write was done, and the flow can go on with another value.
    """


def dumps(value: object) -> str:
    """JSON of a value, encoded or not: PostgreSQL's JSON type asks for it."""
    return value.text if isinstance(value, Encoded) else str(jsonutils.dumps(value))


def encode(value: object, what: str) -> Encoded | None:
    """``value`` as JSON, the way TaskFlow encodes it; None is SQL's NULL.

    :param what: named in the error, e.g. ``the results of atom 'a'``.
    :raises Unstorable: when it cannot be told in JSON.
    """
    if value is None:
        return None
    try:
        return Encoded(jsonutils.dumps(value))
    except (TypeError, ValueError, RecursionError) as error:
        kind = type(value).__name__
        raise Unstorable(f"{what} cannot be stored as JSON ({kind}): {visible(error, 200)}") from error


class StoredJson(taskflow_tables.JSONType):
    """TaskFlow's JSON column, which also takes what is encoded already."""

    cache_ok = True

    def process_bind_param(self, value: object, dialect: sa.Dialect) -> object:
        if not isinstance(value, Encoded):
            return super().process_bind_param(value, dialect)
        # PostgreSQL's native JSON type encodes for itself, by our :func:`dumps`.
        return value if dialect.name == "postgresql" else value.text


metadata = sa.MetaData()
_taskflow = taskflow_tables.fetch(metadata)
logbooks: sa.Table = _taskflow.logbooks
flowdetails: sa.Table = _taskflow.flowdetails
atomdetails: sa.Table = _taskflow.atomdetails
TASKFLOW_TABLES = (logbooks, flowdetails, atomdetails)
for _table in TASKFLOW_TABLES:
    for _column in _table.columns:
        if isinstance(_column.type, taskflow_tables.JSONType):
            _column.type = StoredJson()

_MICROSECONDS = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
# A database's own default may be an engine without transactions, a character set without much of Unicode, and a
# collation that takes two names for one.
_ON_MYSQL: Final[dict[str, Any]] = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
}
# SQLite numbers rows by itself only where the key is declared INTEGER.
_SEQUENCE = sa.BigInteger().with_variant(sa.Integer, "sqlite")

journal = sa.Table(
    "cc_journal",
    metadata,
    sa.Column("seq", _SEQUENCE, primary_key=True, autoincrement=True),
    sa.Column("at", _MICROSECONDS, nullable=False),
    sa.Column("job_uuid", sa.String(64)),
    sa.Column("flow_uuid", sa.String(64)),
    sa.Column("atom_uuid", sa.String(64)),
    sa.Column("atom_name", sa.String(255)),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("from_state", sa.String(255)),
    sa.Column("to_state", sa.String(255)),
    sa.Column("intention", sa.String(16)),
    sa.Column("conductor", sa.String(255)),
    sa.Column("attempt", sa.Integer),
    sa.Column("detail", StoredJson()),
    sa.Index("cc_journal_flow", "flow_uuid", "seq"),
    sa.Index("cc_journal_job", "job_uuid", "seq"),
    sqlite_autoincrement=True,
    **_ON_MYSQL,
)

audit = sa.Table(
    "cc_audit",
    metadata,
    sa.Column("seq", _SEQUENCE, primary_key=True, autoincrement=True),
    sa.Column("at", _MICROSECONDS, nullable=False),
    sa.Column("operator", sa.String(255)),
    sa.Column("board", sa.String(255)),
    sa.Column("action", sa.String(64)),
    sa.Column("job_uuid", sa.String(64)),
    sa.Column("job_name", sa.String(255)),
    sa.Column("before", StoredJson()),
    sa.Column("outcome", sa.String(255)),
    sqlite_autoincrement=True,
    **_ON_MYSQL,
)
# The number of each writer's newest transaction, by which a commit whose answer was lost is known again.
writers = sa.Table(
    "cc_writers",
    metadata,
    sa.Column("writer", sa.String(32), primary_key=True),
    sa.Column("turn", sa.BigInteger, nullable=False),
    sa.Column("at", _MICROSECONDS, nullable=False),
    **_ON_MYSQL,
)
OUR_TABLES = (journal, audit, writers)

# Neither SQLite nor PostgreSQL indexes a foreign key by itself, and TaskFlow asks for a flow's atoms by their parent at
# every claim: without these each claim reads the whole table. They change nothing of what TaskFlow sees.
_PARENT_INDEXES = (
    sa.Index("cc_flowdetails_parent", flowdetails.c.parent_uuid),
    sa.Index("cc_atomdetails_parent", atomdetails.c.parent_uuid),
)


def create_taskflow(connection: sa.Connection) -> None:
    """Makes TaskFlow's tables where they are missing, the way TaskFlow makes them on SQLite (no alembic there)."""
    metadata.create_all(connection, tables=list(TASKFLOW_TABLES))


def create_ours(connection: sa.Connection) -> None:
    """Makes our tables, and the indexes on TaskFlow's, where they are missing."""
    # On SQLite no commit loses its answer.
    wanted = [table for table in OUR_TABLES if table is not writers or connection.dialect.name != "sqlite"]
    metadata.create_all(connection, tables=wanted)
    inspector = sa.inspect(connection)
    for index, table in zip(_PARENT_INDEXES, (flowdetails, atomdetails), strict=True):
        if not any(found["column_names"][:1] == ["parent_uuid"] for found in inspector.get_indexes(table.name)):
            index.create(connection)


def refuse_foreign(connection: sa.Connection, shown: str) -> None:
    """Keeps us from making tables in a file that is another program's.

    :raises StoreUnreachable: when there are tables, and none is TaskFlow's or ours.
    """
    names = sorted(sa.inspect(connection).get_table_names())
    known = {table.name for table in TASKFLOW_TABLES}
    if names and not any(name in known or name.startswith("cc_") for name in names):
        told = visible(", ".join(names[:3]), 80)
        raise StoreUnreachable(f"{shown} is another program's database (tables {told}); name a file of its own")


def problem(connection: sa.Connection) -> str | None:
    """What keeps these tables from being a TaskFlow store; None when they are one."""
    inspector = sa.inspect(connection)
    for table in TASKFLOW_TABLES:
        if not inspector.has_table(table.name):
            return "has no TaskFlow tables; make them with: conductor-console init BOARD --store URL"
        missing = {column.name for column in table.columns} - {
            str(column["name"]) for column in inspector.get_columns(table.name)
        }
        if missing:
            told = ", ".join(sorted(missing))
            return f"has TaskFlow's table {table.name} in another version (no {told}); upgrade it with TaskFlow first"
        connection.execute(sa.select(table.c.uuid).limit(1)).first()  # a damaged file shows here
    return None


# Making a statement costs more than sending it.
_BY_UUID: Final = {
    table.name: sa.select(table).where(table.c.uuid == sa.bindparam("wanted")) for table in TASKFLOW_TABLES
}
_BY_PARENT: Final = {
    table.name: sa.select(table).where(table.c.parent_uuid == sa.bindparam("wanted"))
    for table in (flowdetails, atomdetails)
}


def children(connection: sa.Connection, table: sa.Table, parent_uuid: str) -> list[dict[str, Any]]:
    """The flows of a logbook, or the atoms of a flow, as dicts by column name."""
    return [plain(row) for row in connection.execute(_BY_PARENT[table.name], {"wanted": parent_uuid})]


def plain(row: sa.Row[Any]) -> dict[str, Any]:
    """A fetched row as a dict by column name."""
    return dict(row._mapping)


def find(connection: sa.Connection, table: sa.Table, uuid: str) -> dict[str, Any] | None:
    """The row of this very uuid; None where there is none.

    MySQL's usual collations take uuids for one that differ in case or in spaces at their end.
    """
    row = connection.execute(_BY_UUID[table.name], {"wanted": uuid}).first()
    return None if row is None or row.uuid != uuid else plain(row)
