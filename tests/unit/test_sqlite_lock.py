"""Taking SQLite's write lock from somebody who has it all the time."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from conductor_console.persistence.sqlite_lock import begin_writing
from tests.support import eventually


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "a.db"
    with sqlite3.connect(made) as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    return made


@pytest.fixture
def connection(path: Path) -> Iterator[sa.Connection]:
    engine = sa.create_engine(
        "sqlite://", creator=lambda: sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    )
    with engine.connect() as made:
        yield made
    engine.dispose()


@pytest.fixture
def other(path: Path) -> Iterator[sqlite3.Connection]:
    """It holds the lock."""
    made = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    made.execute("BEGIN IMMEDIATE")
    yield made
    made.close()


def timeout_of(connection: sa.Connection) -> int:
    return int(connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one())


def test_it_looks_often(connection: sa.Connection, other: sqlite3.Connection) -> None:
    """SQLite by itself would look a dozen times in the first half second, and ten times a second from then on."""
    looks: list[str] = []
    raw = connection.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)
    raw.set_trace_callback(looks.append)

    def let_go() -> None:
        eventually(lambda: looks.count("BEGIN IMMEDIATE") >= 100, what="a hundred looks")
        other.execute("COMMIT")

    letting_go = threading.Thread(target=let_go)
    letting_go.start()
    begin_writing(connection, 60.0)
    letting_go.join()
    raw.set_trace_callback(None)
    connection.exec_driver_sql("INSERT INTO t VALUES (1)")
    connection.commit()
    assert other.execute("SELECT x FROM t").fetchall() == [(1,)]
    assert timeout_of(connection) == 60_000


def test_a_lock_that_is_not_to_be_had_is_told(connection: sa.Connection, other: sqlite3.Connection) -> None:
    assert other.in_transaction
    with pytest.raises(sa.exc.OperationalError, match="locked"):
        begin_writing(connection, 0.05)
    assert timeout_of(connection) == 50
