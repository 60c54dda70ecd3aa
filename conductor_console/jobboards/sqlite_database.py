"""A SQLite board's file: opening it, transactions, and what SQLite's errors mean to a person."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy import exc as sa_exc
from sqlalchemy.pool import QueuePool

from conductor_console.errors import BoardUnreachable, ConsoleError
from conductor_console.jobboards import sqlite_schema
from conductor_console.jobboards.base import Refused
from conductor_console.text import visible

#: How long a write waits for another process's, in seconds.
DEFAULT_TIMEOUT: Final = 5.0
_SHOWN: Final = 5

#: Engines that came with a fork. Closing (or collecting) their connections here could disturb the parent's.
_inherited: list[sa.Engine] = []


class Database:
    """The board's file, opened when first needed and never made by opening. Thread safe.

    :param path: absolute.
    :param timeout: seconds a write waits for another process's before it gives up.
    """

    def __init__(self, path: Path, timeout: float, read_only: bool) -> None:
        self.path = path
        self.url = f"sqlite:///{path}"
        self._timeout = timeout
        self._read_only = read_only
        self._identity: tuple[int, int] | None = None
        self._engine = self._make_engine("ro" if read_only else "rw")

    def _make_engine(self, mode: str) -> sa.Engine:
        # Without mode=rw SQLite would make the file that it does not find.
        uri = f"file:{quote(str(self.path))}?mode={mode}"

        def connect() -> sqlite3.Connection:
            # isolation_level None: transactions begin where we say so, IMMEDIATE for writes.
            return sqlite3.connect(
                uri,
                uri=True,
                timeout=self._timeout,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=64,
            )

        return sa.create_engine("sqlite://", creator=connect, poolclass=QueuePool, pool_size=4, max_overflow=-1)

    # -- is it a board? ------------------------------------------------------------------------------------------------
    def open(self) -> None:
        """Looks whether the file is there and holds a board; writes nothing.

        :raises BoardUnreachable: one line that says what is wrong and how to make a board.
        """
        self._need_file()
        with self.reading() as connection:
            tables = sqlite_schema.tables_of(connection)
            if not sqlite_schema.is_board(tables):
                if not sqlite_schema.is_ours(tables):
                    raise BoardUnreachable(self._foreign(tables))
                raise BoardUnreachable(f"{self._shown} has no board: make it with `conductor-console init {self._url}`")
            strange = sqlite_schema.strange_columns(connection)
            if strange:
                raise BoardUnreachable(f"{self._shown} holds a board of another version: it has no column {strange}")
        self._identity = self._identify()

    def ensure(self) -> None:
        """Makes the file and the board's tables where they are missing; never in another program's database.

        :raises BoardUnreachable: when it cannot be made, or the file is another program's.
        """
        if not self.path.parent.is_dir():
            raise BoardUnreachable(f"the folder {visible(self.path.parent)} is not there: make it first")
        if self.path.exists():
            self._need_file()
        engine = self._make_engine("rwc")
        try:
            with self._explained(writing=True), engine.connect() as connection:
                tables = sqlite_schema.tables_of(connection)
                if not sqlite_schema.is_ours(tables):
                    raise BoardUnreachable(self._foreign(tables))
                if sqlite_schema.is_board(tables):
                    return
                connection.exec_driver_sql("PRAGMA journal_mode = WAL")
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                sqlite_schema.METADATA.create_all(connection)
                connection.commit()
        except Refused as error:
            raise BoardUnreachable(str(error)) from error
        finally:
            engine.dispose()

    def _need_file(self) -> None:
        if not self.path.parent.is_dir():
            raise BoardUnreachable(f"the folder {visible(self.path.parent)} is not there")
        if not self.path.exists():
            raise BoardUnreachable(f"{self._shown} is not there: make it with `conductor-console init {self._url}`")
        if not self.path.is_file():
            raise BoardUnreachable(f"{self._shown} is not a file")
        # Never opened here, not even to look: closing it would drop the locks that SQLite holds on it in this process.
        if not os.access(self.path, os.R_OK):
            raise BoardUnreachable(f"{self._shown} cannot be read: may this user read it?")

    def _foreign(self, tables: frozenset[str]) -> str:
        strange = sorted(name for name in tables if not sqlite_schema.is_ours(frozenset({name})))
        names = ", ".join(visible(name, 40) for name in strange[:_SHOWN]) + (", …" if len(strange) > _SHOWN else "")
        return f"{self._shown} is another program's database (it has {names}): name another file, it was left as it is"

    @property
    def _shown(self) -> str:
        return visible(self.path)

    @property
    def _url(self) -> str:
        return visible(self.url)

    def _identify(self) -> tuple[int, int] | None:
        try:
            stat = self.path.stat()
        except OSError:
            return None
        return (stat.st_dev, stat.st_ino)

    def need_same_file(self) -> None:
        """:raises BoardUnreachable: when the file that was opened is no longer the one at its path."""
        now = self._identify()
        if now is None:
            raise BoardUnreachable(f"{self._shown} is no longer there")
        if now != self._identity:
            raise BoardUnreachable(f"{self._shown} was replaced by another file")

    # -- transactions --------------------------------------------------------------------------------------------------
    def connect(self) -> sa.Connection:
        """A connection outside of any transaction, for the caller to close.

        :raises BoardUnreachable: when the file cannot be opened.
        """
        with self._explained():
            return self._engine.connect()

    def ask(self, connection: sa.Connection, statement: str) -> Any:
        """The one value that a statement gives, asked as directly as can be: this is what an idle board does all day.

        :raises BoardUnreachable: when the file cannot be read.
        """
        with self._explained():
            driver: Any = connection.connection.driver_connection
            return driver.execute(statement).fetchone()[0]

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A transaction that sees one moment of the database.

        :raises BoardUnreachable: when it cannot be read.
        """
        with self._explained(), self._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            yield connection

    @contextmanager
    def writing(self, durable: bool) -> Iterator[sa.Connection]:
        """A transaction that no other write comes between; committed at the end, undone by any error.

        :param durable: whether it must outlive a power cut. Either way it outlives every process.
        :raises BoardUnreachable: when it cannot be written now.
        :raises Refused: when it may not be written, or the disk is full.
        """
        with self._explained(writing=True), self._engine.connect() as connection:
            # A setting of the connection, which the pool hands on: said each time.
            connection.exec_driver_sql(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection
            connection.commit()

    @contextmanager
    def _explained(self, *, writing: bool = False) -> Iterator[None]:
        try:
            yield
        except (sa_exc.SQLAlchemyError, sqlite3.Error) as error:
            raise self._explain(error, writing) from error

    def _explain(self, error: Exception, writing: bool) -> ConsoleError:
        cause = error.orig if isinstance(error, sa_exc.DBAPIError) else error
        code = str(getattr(cause, "sqlite_errorname", ""))
        shown = self._shown
        if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return BoardUnreachable(f"{shown} is locked by another process: nothing was done, try again")
        if code.startswith("SQLITE_READONLY"):
            if not writing:
                # Readers share memory through a file beside the database; the last one to close it takes it away.
                return BoardUnreachable(
                    f"{shown} cannot be read: nobody has it open, and its folder may not be written"
                )
            return Refused(f"{shown} may not be written here (read-only): nothing was done")
        if code == "SQLITE_FULL":
            return Refused(f"the disk of {shown} is full: nothing was done")
        if code.startswith("SQLITE_CANTOPEN"):
            return BoardUnreachable(f"{shown} cannot be opened: may this user write the file and its folder?")
        if code == "SQLITE_NOTADB":
            return BoardUnreachable(f"{shown} is not a SQLite database")
        if code.startswith("SQLITE_CORRUPT"):
            return BoardUnreachable(f"{shown} is damaged: restore it from a backup")
        if "no such table" in str(cause):
            return BoardUnreachable(f"{shown} has no board: make it with `conductor-console init {self._url}`")
        return BoardUnreachable(f"{shown} does not answer: {visible(cause, 200)}")

    def close(self) -> None:
        """Closes what is open; a later use opens it again."""
        self._engine.dispose()

    def forget(self) -> None:
        """After a fork, in the child: leaves the parent's connections alone and begins anew."""
        _inherited.append(self._engine)
        self._engine = self._make_engine("ro" if self._read_only else "rw")
