"""A SQLite board's file: opening it, transactions, and what SQLite's errors mean to a person."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import exc as sa_exc
from sqlalchemy.pool import QueuePool

from conductor_console.errors import BoardUnreachable, ConsoleError
from conductor_console.jobboards import sqlite_schema
from conductor_console.jobboards.base import Refused
from conductor_console.jobboards.sqlite_file import BoardFile
from conductor_console.persistence.sqlite_lock import begin_writing
from conductor_console.text import visible

#: How long a write waits for another process's, in seconds.
DEFAULT_TIMEOUT: Final = 5.0
_SHOWN: Final = 5

#: Engines that came with a fork. Closing (or collecting) their connections here could disturb the parent's.
_inherited: list[sa.Engine] = []


class Database:
    """The board's file, opened when first needed and never made by opening. Thread safe.

    :param path: absolute and real.
    :param timeout: seconds a write waits for another process's before it gives up.
    :ivar file: what the file system tells of it.
    """

    def __init__(self, path: Path, timeout: float, read_only: bool) -> None:
        self.file = BoardFile(path)
        self._timeout = timeout
        self._read_only = read_only
        self._engine = self._make_engine("ro" if read_only else "rw")

    def _make_engine(self, mode: str) -> sa.Engine:
        # Without mode=rw SQLite would make the file that it does not find.
        uri = self.file.uri(mode)

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

        What is open of a file that another replaced is let go.

        :raises BoardUnreachable: one line that says what is wrong and how to make a board.
        """
        self.file.need()
        self.file.set_aside(self._read_only)
        self._engine.dispose()
        with self._explained(), self._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            tables = sqlite_schema.tables_of(connection)
            self._need_ours(tables)
            if not sqlite_schema.is_board(tables):
                raise BoardUnreachable(f"{self.file.shown} has no board: {self.file.init}")
            self._need_version(connection)
            if not self._read_only:
                self.file.need_home(sqlite_schema.home_of(connection))
        self.file.remember()

    def ensure(self) -> None:
        """Makes the file and the board's tables where they are missing; never in another program's database.

        :raises BoardUnreachable: when it cannot be made, or the file is another program's.
        """
        self.file.need(making=True)
        engine = self._make_engine("rwc")
        try:
            with self._explained(writing=True), engine.connect() as connection:
                whole = self._whole(connection)
                self._share_by_log(connection)
                if not whole:
                    connection.exec_driver_sql("BEGIN IMMEDIATE")
                    if not self._whole(connection):
                        sqlite_schema.METADATA.create_all(connection)
                        sqlite_schema.note_home(connection, self.file.here())
                    connection.commit()
        except Refused as error:
            raise BoardUnreachable(str(error)) from error
        finally:
            engine.dispose()

    def _whole(self, connection: sa.Connection) -> bool:
        """Whether there is a board, noted to be where it is; raises where there may be none."""
        tables = sqlite_schema.tables_of(connection)
        self._need_ours(tables)
        if not sqlite_schema.is_board(tables):
            return False
        self._need_version(connection)
        home = sqlite_schema.home_of(connection)
        self.file.need_home(home)
        return home == self.file.here()

    def _share_by_log(self, connection: sa.Connection) -> None:
        """Lets readers go on while somebody writes."""
        if connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal":
            return
        if connection.exec_driver_sql("PRAGMA journal_mode = WAL").scalar() != "wal":
            raise BoardUnreachable(
                f"{self.file.shown} is on a file system where processes cannot share it: put it on a local disk"
            )

    def _need_ours(self, tables: frozenset[str]) -> None:
        strange = sorted(name for name in tables if not sqlite_schema.is_ours(frozenset({name})))
        if strange:
            names = ", ".join(visible(name, 40) for name in strange[:_SHOWN]) + (", …" if len(strange) > _SHOWN else "")
            raise BoardUnreachable(
                f"{self.file.shown} is another program's database (it has {names}): name another file, "
                "it was left as it is"
            )

    def _need_version(self, connection: sa.Connection) -> None:
        strange = sqlite_schema.strange_columns(connection)
        version = sqlite_schema.version_of(connection)
        if version > sqlite_schema.VERSION:
            raise BoardUnreachable(
                f"{self.file.shown} holds a board of a newer version ({version}; this program knows "
                f"{sqlite_schema.VERSION}): use the conductor-console that made it"
            )
        if strange:
            raise BoardUnreachable(f"{self.file.shown} holds a board of another version: it has no column {strange}")

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
        self.file.need_same()
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
            begin_writing(connection, self._timeout)
            # As late as can be: what is written to a file that is no longer there is lost.
            self.file.need_same()
            yield connection
            connection.commit()

    def rescue(self, connection: sa.Connection) -> None:
        """Writes what the log holds into the file itself, before what belongs together is opened anew, in parts.

        Where that cannot be done the log stays as it is, for whoever opens the file next.
        """
        with suppress(ConsoleError):
            self.ask(connection, "PRAGMA wal_checkpoint(PASSIVE)")

    @contextmanager
    def _explained(self, *, writing: bool = False) -> Iterator[None]:
        try:
            yield
        except (sa_exc.SQLAlchemyError, sqlite3.Error) as error:
            raise self._explain(error, writing) from error
        except UnicodeEncodeError as error:
            raise Refused(f"{visible(error.object, 100)} holds what is no text: nothing was done") from error

    def _explain(self, error: Exception, writing: bool) -> ConsoleError:
        cause = error.orig if isinstance(error, sa_exc.DBAPIError) else error
        code = str(getattr(cause, "sqlite_errorname", ""))
        shown = self.file.shown
        if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            told = f"{shown} is locked by another process: "
            return BoardUnreachable(told + ("nothing was done, try again" if writing else "it cannot be read now"))
        if code.startswith(("SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_FULL")):
            return self._explain_file(code, writing, visible(cause, 200))
        if code == "SQLITE_NOTADB":
            return BoardUnreachable(f"{shown} is not a SQLite database")
        if code.startswith("SQLITE_CORRUPT"):
            return BoardUnreachable(f"{shown} is damaged: restore it from a backup")
        if code == "SQLITE_TOOBIG":
            return Refused(f"{shown} cannot hold a text of that size: nothing was done")
        if "no such table" in str(cause):
            return BoardUnreachable(f"{shown} has no board: {self.file.init}")
        return BoardUnreachable(f"{shown} does not answer: {visible(cause, 200)}")

    def _explain_file(self, code: str, writing: bool, cause: str) -> ConsoleError:
        shown, trouble = self.file.shown, self.file.trouble()
        if writing and trouble:
            return Refused(f"{trouble}: nothing was done")
        if trouble:
            return BoardUnreachable(trouble)
        if code == "SQLITE_FULL":  # it is no longer, or as far as this user may fill it
            return Refused(f"the disk of {shown} is full: nothing was done")
        if code.startswith("SQLITE_READONLY"):
            if writing:
                return Refused(f"{shown} may not be written here (read-only): nothing was done")
            # Readers share memory through a file beside the database; the last one to close it takes it away.
            return BoardUnreachable(f"{shown} cannot be read: nobody has it open, and its folder may not be written")
        if code.startswith("SQLITE_CANTOPEN"):
            return BoardUnreachable(f"{shown} cannot be opened: may this user write the file and its folder?")
        return BoardUnreachable(
            f"{shown} cannot be {'written' if writing else 'read'} ({cause}): is its disk full, over quota or failing?"
        )

    def close(self) -> None:
        """Closes what is open; a later use opens it again."""
        self._engine.dispose()

    def forget(self) -> None:
        """After a fork, in the child: leaves the parent's connections alone and begins anew."""
        _inherited.append(self._engine)
        self._engine = self._make_engine("ro" if self._read_only else "rw")
