"""Taking SQLite's write lock, where others take it again and again."""

from __future__ import annotations

import math
import sqlite3
import time
from typing import Final

import sqlalchemy as sa

#: Seconds between two looks whether it is free.
_LOOK: Final = 0.001


def begin_writing(connection: sa.Connection, patience: float) -> None:
    """Begins a transaction that no other write comes between.

    SQLite itself looks for the lock ever more seldom, and would find one that another process takes again every few
    milliseconds only by chance.

    :param connection: to SQLite, by the sqlite3 module, with its own handling of transactions off.
    :param patience: seconds for which another's lock is waited for, here and by what is done after on the connection.
    :raises sqlalchemy.exc.OperationalError: it was not to be had, or the file is not what it should be.
    """
    raw = connection.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)
    raw.execute("PRAGMA busy_timeout = 0")
    until = time.monotonic() + patience
    try:
        while time.monotonic() < until:
            try:
                raw.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    break
            time.sleep(_LOOK)
        # What is wrong with it is told in SQLAlchemy's way.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    finally:
        raw.execute(f"PRAGMA busy_timeout = {math.ceil(patience * 1000)}")
