"""Making and upgrading a store's tables, however many programs do so at the same moment."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from typing import Final

import sqlalchemy as sa

from conductor_console.errors import StoreUnreachable, UsageError
from conductor_console.persistence import engine as engines
from conductor_console.persistence import schema
from conductor_console.persistence.faults import insisting, is_raced, is_transient

#: Seconds for which another program that makes tables is waited for.
TURN_TIMEOUT: Final = 300
#: The number of our lock in PostgreSQL, where it is the database's own: any will do that nobody else takes.
_POSTGRESQL_LOCK: Final = 0x63635F7570677264
#: Alembic runs one upgrade at a time in a process: what it works on is a global.
_one_at_a_time = threading.Lock()


def after_fork() -> None:
    """In a child made by fork: whoever was upgrading is not here."""
    global _one_at_a_time
    _one_at_a_time = threading.Lock()


def on_sqlite(engine: sa.Engine, url: sa.URL, retry_for: float) -> None:
    """Makes TaskFlow's tables and ours in a SQLite file, which is made as well, or in memory.

    :raises StoreUnreachable: when the file is another program's; else what the database raises.
    """
    path = engines.sqlite_path(url)

    def make() -> None:
        if path is not None:
            if path.exists() and path.stat().st_size:
                with engine.connect() as connection:
                    schema.refuse_foreign(connection, engines.masked(url))
            engines.make_file(path)
        with engine.connect().execution_options(**{engines.WRITING: True}) as connection, connection.begin():
            schema.create_taskflow(connection)
            schema.create_ours(connection)

    insisting(make, _passes, retry_for)


def on_server(engine: sa.Engine, url: sa.URL, retry_for: float) -> None:
    """Brings TaskFlow's tables to its newest revision, by its own migrations, and makes ours.

    :param engine: one that waits as long as altering tables takes.
    :raises UsageError: when alembic is not installed.
    :raises StoreUnreachable: when the database is another program's or a newer TaskFlow's, or another program does not
        come to an end with its upgrade; else what the database raises.
    """
    try:
        from alembic.util import CommandError
        from taskflow.persistence.backends.sqlalchemy import migration
    except ImportError:
        kind = url.get_backend_name()
        raise UsageError(f"making tables on {kind} needs alembic; {engines.install(kind)}") from None
    shown = engines.masked(url)
    turn = _postgresql_turn if url.get_backend_name() == "postgresql" else _mysql_turn

    def make() -> None:
        with engine.connect() as connection, turn(connection, shown):
            migration.db_sync(connection)
            schema.create_ours(connection)

    try:
        with _one_at_a_time:
            insisting(make, _passes, retry_for)
    except CommandError as error:
        told = str(error).splitlines()[0]
        raise StoreUnreachable(
            f"the tables of {shown} were made by another program or by a newer TaskFlow ({told}); name another database"
        ) from error


@contextlib.contextmanager
def _postgresql_turn(connection: sa.Connection, shown: str) -> Iterator[None]:
    """All in one transaction, which a lock of ours begins: it is done as a whole, or not at all."""
    with connection.begin():
        connection.execute(sa.text(f"SET LOCAL lock_timeout = '{TURN_TIMEOUT}s'"))
        try:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_POSTGRESQL_LOCK)))
        except sa.exc.OperationalError as error:
            if getattr(error.orig, "sqlstate", getattr(error.orig, "pgcode", None)) == "55P03":
                raise _too_long(shown) from error
            raise
        yield


@contextlib.contextmanager
def _mysql_turn(connection: sa.Connection, shown: str) -> Iterator[None]:
    """Under a lock of the session's: MySQL commits at every statement that makes or alters a table."""
    # Locks are the whole server's; their names are short.
    name = "cc-upgrade-" + hashlib.sha256(str(connection.engine.url.database).encode()).hexdigest()[:24]
    if connection.scalar(sa.select(sa.func.get_lock(name, TURN_TIMEOUT))) != 1:
        raise _too_long(shown)
    try:
        yield
        connection.commit()
    finally:
        # The session goes back to the pool, and the lock would go with it. One that broke has lost it.
        if not connection.invalidated:
            connection.rollback()
            connection.execute(sa.select(sa.func.release_lock(name)))
            connection.commit()


def _too_long(shown: str) -> StoreUnreachable:
    return StoreUnreachable(
        f"another program has been making the tables of {shown} for {TURN_TIMEOUT} s; look for it, then try again"
    )


def _passes(error: Exception) -> bool:
    """Whether it failed of a lock, of a lost connection, or of somebody who makes the same tables without asking for a
    turn, as TaskFlow does.
    """
    # The last is alembic's own word for a revision that somebody else has just moved on.
    return is_transient(error) or is_raced(error) or "expected to match" in str(error)
