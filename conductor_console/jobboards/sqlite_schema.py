"""The tables of a SQLite board, and telling a database that is one from one that is not."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from conductor_console.jobboards.breaker import CLOSED, Breaker, from_json, to_json
from conductor_console.jobboards.sqlite_file import Home, unquoted

METADATA: Final = sa.MetaData()

#: What this version reads and writes. A board of a higher one is left alone.
VERSION: Final = 1

#: One row: which version the tables have, and where the board's file was when it was last made sure of: its real path,
#: percent-encoded, and its inode. A copy is known by them.
BOARD: Final = sa.Table(
    "cc_board",
    METADATA,
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("inode", sa.Integer, nullable=False),
)

#: A job on the board. ``seq`` is its place in the order of posting and is never given twice; ``claim`` is unique to
#: one claim and grows; ``session`` names the lock file whose holder keeps the claim alive. Times are ISO 8601, UTC.
JOBS: Final = sa.Table(
    "cc_jobs",
    METADATA,
    sa.Column("seq", sa.Integer, primary_key=True),
    sa.Column("uuid", sa.Text, nullable=False, unique=True),
    sa.Column("posting", sa.Text, nullable=False),
    sa.Column("created_at", sa.Text, nullable=False),
    sa.Column("owner", sa.Text),
    sa.Column("claim", sa.Integer),
    sa.Column("session", sa.Text),
    sa.Column("claimed_at", sa.Text),
    sqlite_autoincrement=True,
)

#: The attempt record of a job on the board or in the bin; ``version`` grows with each write.
ATTEMPTS: Final = sa.Table(
    "cc_attempts",
    METADATA,
    sa.Column("job", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("record", sa.Text, nullable=False),
)

#: A job in the bin, under the ``seq`` it had on the board; ``version`` is unique to this binning.
BIN: Final = sa.Table(
    "cc_bin",
    METADATA,
    sa.Column("seq", sa.Integer, primary_key=True),
    sa.Column("uuid", sa.Text, nullable=False, unique=True),
    sa.Column("posting", sa.Text, nullable=False),
    sa.Column("created_at", sa.Text, nullable=False),
    sa.Column("binned_at", sa.Text, nullable=False),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
)

#: A registered conductor, there as long as its ``session`` lives. ``entity`` is TaskFlow's JSON of it.
ENTITIES: Final = sa.Table(
    "cc_entities",
    METADATA,
    sa.Column("session", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("entity", sa.Text, nullable=False),
)

#: What moved, in order: a job's uuid, or empty for the entities. The newest rows only; see :data:`CHANGES_KEPT`.
CHANGES: Final = sa.Table(
    "cc_changes",
    METADATA,
    sa.Column("seq", sa.Integer, primary_key=True),
    sa.Column("key", sa.Text, nullable=False),
    sqlite_autoincrement=True,
)

#: One row at most: the circuit breaker's state, as JSON. Boards of before have no such table, and need none: who writes
#: first makes it.
BREAKER: Final = sa.Table("cc_breaker", sa.MetaData(), sa.Column("state", sa.Text, nullable=False))

#: A reader that fell further behind than this many changes reads the whole board anew.
CHANGES_KEPT: Final = 10_000
#: Old changes are dropped at every so many.
PRUNE_EVERY: Final = 1_000

#: Tables that may lie beside a board's: TaskFlow's store and ours.
STORE_TABLES: Final = frozenset({"logbooks", "flowdetails", "atomdetails", "alembic_version"})
PREFIX: Final = "cc_"


def tables_of(connection: sa.Connection) -> frozenset[str]:
    """The names of all tables in the database, SQLite's own left out."""
    names = connection.exec_driver_sql(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite!_%' ESCAPE '!'"
    )
    return frozenset(str(name) for (name,) in names)


def is_board(tables: frozenset[str]) -> bool:
    return tables.issuperset(METADATA.tables)


def is_ours(tables: frozenset[str]) -> bool:
    """Whether a board's tables may be put there: it is empty, or a store, or part of a board."""
    return all(name in STORE_TABLES or name.startswith(PREFIX) for name in tables)


def strange_columns(connection: sa.Connection) -> str | None:
    """The first column that this version needs and the database does not have, as ``table.column``; else None."""
    for table in METADATA.tables.values():
        there = {str(row[1]) for row in connection.exec_driver_sql(f"PRAGMA table_info({table.name})")}
        for column in table.columns:
            if column.name not in there:
                return f"{table.name}.{column.name}"
    return None


def breaker_of(connection: sa.Connection) -> Breaker:
    """The circuit breaker's state; a closed one where none was ever written."""
    asked = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ?"
    if not connection.exec_driver_sql(asked, (BREAKER.name,)).scalar():
        return CLOSED
    state = connection.execute(sa.select(BREAKER.c.state)).scalar()
    return CLOSED if state is None else from_json(state)


def note_breaker(connection: sa.Connection, state: Breaker) -> None:
    """Writes the circuit breaker's state."""
    BREAKER.create(connection, checkfirst=True)
    connection.execute(sa.delete(BREAKER))
    connection.execute(sa.insert(BREAKER), {"state": to_json(state).decode()})


def version_of(connection: sa.Connection) -> int:
    """The version of the board's tables; ours where nothing tells."""
    # Whatever columns it has: those of another version may be other ones.
    rows = connection.exec_driver_sql(f"SELECT * FROM {BOARD.name}").mappings()
    versions = [row.get("version") for row in rows]
    return max((version for version in versions if isinstance(version, int)), default=VERSION)


def home_of(connection: sa.Connection) -> Home | None:
    """Where the board's file was when it was last made sure of; None where nothing tells."""
    row = connection.execute(sa.select(BOARD.c.path, BOARD.c.inode)).first()
    return None if row is None else Home(unquoted(str(row.path)), row.inode)


def note_home(connection: sa.Connection, home: Home) -> None:
    """Writes where the board's file is now."""
    connection.execute(sa.delete(BOARD))
    connection.execute(sa.insert(BOARD), {"version": VERSION, "path": home.quoted(), "inode": home.inode})
