"""The SQLAlchemy engines of a store: its URL, its driver, its pools, and SQLite's particulars."""

from __future__ import annotations

import contextlib
import functools
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, cast

import sqlalchemy as sa
from sqlalchemy import exc as sa_exc
from sqlalchemy import pool as sa_pool

from conductor_console.errors import UsageError
from conductor_console.persistence import schema, sessions
from conductor_console.persistence.sessions import ANSWER_TIMEOUT, Patience
from conductor_console.persistence.sqlite_lock import begin_writing
from conductor_console.settings import masked as masked_url
from conductor_console.settings import store_conf
from conductor_console.text import visible

#: Execution option of a connection that is going to write: SQLite then takes its write lock at BEGIN, where it can
#: wait for it, and not in mid-transaction, where it cannot.
WRITING = "cc_writing"
#: Execution option of a connection that reads by one statement, which sees one moment by itself.
SINGLE = "cc_single"

_EXAMPLE = "it looks like sqlite:////srv/flows.db or postgresql://user@host/flows"
#: Seconds for which a lock that another program holds is waited for at once.
BUSY_TIMEOUT: Final = 5.0
#: What an engine is for: on SQLite one serves all. ``single``: for reading by one statement, without a transaction.
Purpose = Literal["reading", "single", "writing", "upgrading"]


def parse(connection: object) -> sa.URL:
    """A store's URL, with the driver filled in where it names none.

    :raises UsageError: when it is no such URL, of an unknown kind, or its driver is not installed.
    """
    if not isinstance(connection, str) or not connection.strip():
        raise UsageError(f"a store is named by a URL; {_EXAMPLE}")
    text = connection.strip().removeprefix("cc-")
    kind = text.partition(":")[0].partition("+")[0].lower()
    if kind != "sqlite":
        text = store_conf(text)["connection"]
        kind = text.partition(":")[0].partition("+")[0]
        if kind not in ("postgresql", "mysql", "mariadb"):
            raise UsageError(f"{visible(kind, 40)!r} is no kind of store (sqlite, postgresql, mysql); {_EXAMPLE}")
    try:
        url = sa.make_url(text)
        url.get_dialect().import_dbapi()
    except (sa_exc.NoSuchModuleError, ImportError):
        driver = visible(url.drivername.partition("+")[2], 40)
        raise UsageError(f"the driver {driver} for {kind} is not installed; name none, or {install(kind)}") from None
    except (sa_exc.ArgumentError, ValueError):
        raise UsageError(f"not a store's URL: {visible(masked_url(text), 200)}; {_EXAMPLE}") from None
    if url.get_backend_name() == "mariadb":
        # SQLAlchemy finds out by itself what it speaks to. By this name TaskFlow's migrations would leave out what
        # they do for MySQL alone, such as giving results more room than 64 KiB.
        url = url.set(drivername=url.drivername.replace("mariadb", "mysql", 1))
    return url


def install(kind: str) -> str:
    """The command that installs what a kind of database needs."""
    return f"pip install 'conductor-console[{'mysql' if kind == 'mariadb' else kind}]'"


def masked(url: sa.URL) -> str:
    """The URL for people, without what is secret in it."""
    return visible(masked_url(url.render_as_string(hide_password=False)), 200)


def sqlite_path(url: sa.URL) -> Path | None:
    """The file of a SQLite store; None for one in memory and for other databases."""
    database = url.database
    if url.get_backend_name() != "sqlite" or not database or database == ":memory:":
        return None
    return Path(database)


def _opener(path: Path | None, *, read_only: bool, busy: float) -> Callable[[], sqlite3.Connection]:
    """What opens a connection to SQLite. It never makes the file: that is ``upgrade``'s alone."""
    target = ":memory:" if path is None else f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rw'}"

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(
            target, timeout=busy, isolation_level=None, check_same_thread=False, uri=path is not None
        )
        try:
            connection.execute("PRAGMA foreign_keys=ON")
            connection.execute("PRAGMA synchronous=FULL")
            if read_only:
                connection.execute("PRAGMA query_only=ON")
        except BaseException:
            connection.close()
            raise
        return connection

    return connect


def _begin(busy: float, connection: sa.Connection) -> None:
    # The sqlite3 module's own transaction handling would begin too late for a consistent read, and break savepoints.
    options = connection.get_execution_options()
    if options.get(WRITING, False):
        begin_writing(connection, busy)
    elif not options.get(SINGLE, False):
        connection.exec_driver_sql("BEGIN")


def for_one_statement(connection: sa.Connection) -> sa.Connection:
    """The connection, made to read without a transaction where beginning and ending one is more than the reading."""
    if connection.dialect.name == "sqlite":
        return connection.execution_options(**{SINGLE: True})
    if connection.dialect.name == "postgresql":
        return connection.execution_options(isolation_level="AUTOCOMMIT")
    return connection  # MySQL would have to be asked for it, twice


@contextlib.contextmanager
def driver_of(engine: sa.Engine) -> Iterator[Any]:
    """A connection of the driver's own, from the engine's pool, to read by one statement.

    :raises sqlalchemy.exc.DBAPIError: as SQLAlchemy would.
    """
    dialect = engine.dialect
    kinds = cast(Any, dialect.loaded_dbapi).Error
    connection: sa.PoolProxiedConnection | None = None
    try:
        connection = engine.raw_connection()
        yield connection.driver_connection
    except kinds as error:
        gone = connection is not None and dialect.is_disconnect(error, cast(Any, connection.driver_connection), None)
        if gone and connection is not None:
            sessions.give_up(engine, connection, error)
            connection = None
        raise sa_exc.DBAPIError.instance(
            None, None, error, kinds, hide_parameters=True, connection_invalidated=gone, dialect=dialect
        ) from error
    finally:
        if connection is not None:
            connection.close()


def create(url: sa.URL, conf: Mapping[str, Any], *, read_only: bool, purpose: Purpose) -> sa.Engine:
    """An engine for ``url``; nothing is opened yet.

    :param conf: of TaskFlow's settings ``echo``, ``idle_timeout`` (s), ``max_pool_size``, ``max_overflow``,
        ``pool_timeout`` (s), ``isolation_level``, ``mysql_sql_mode`` and ``engine_args``; of ours ``busy_timeout``
        and, on servers, ``answer_timeout`` (s).
    """
    # Errors carry their statement: its parameters are users' data, and may be secret.
    options: dict[str, Any] = {"hide_parameters": True, "echo": conf.get("echo") in (True, "true", "True", "1")}
    for ours, theirs in (("pool_size", "max_pool_size"), ("max_overflow", "max_overflow"), ("pool_timeout",) * 2):
        if theirs in conf:
            options[ours] = int(conf[theirs])
    busy = float(conf.get("busy_timeout", url.query.get("timeout", BUSY_TIMEOUT)))
    if url.get_backend_name() != "sqlite":
        return _create_for_server(url, conf, options, busy, purpose)
    path = sqlite_path(url)
    options["creator"] = _opener(path, read_only=read_only, busy=busy)
    if path is None:
        options = {key: value for key, value in options.items() if not key.startswith(("pool", "max"))}
        options["poolclass"] = sa_pool.StaticPool
    else:
        options = {"poolclass": sa_pool.QueuePool, "pool_size": 32, "max_overflow": 32} | options
    engine = sa.create_engine(url, **options | dict(conf.get("engine_args", {})))
    sa.event.listen(engine, "begin", functools.partial(_begin, busy))
    return engine


def _create_for_server(
    url: sa.URL, conf: Mapping[str, Any], options: dict[str, Any], busy: float, purpose: Purpose
) -> sa.Engine:
    given = dict(conf.get("engine_args", {}))
    answer = float(conf.get("answer_timeout", ANSWER_TIMEOUT))
    # Making and altering tables takes the time it takes, and breaking it off leaves MySQL's half altered.
    patience = Patience(None, None) if purpose == "upgrading" else Patience(busy, answer)
    if purpose in ("reading", "single"):
        # Several rows are read by several statements: they are to tell of one moment.
        options["isolation_level"] = "REPEATABLE READ" if purpose == "reading" else "AUTOCOMMIT"
        # As many as SQLAlchemy opens at most, but none of them for a single read: opening one takes longer than that.
        if not options.keys() & {"pool_size", "max_overflow"}:
            options |= {"pool_size": 15 if purpose == "reading" else 8, "max_overflow": 0}
    else:
        options["isolation_level"] = conf.get("isolation_level", "READ COMMITTED")
        # One thread writes. Whoever upgrades does so once.
        options |= {"pool_size": 1, "max_overflow": 1}
    options["pool_recycle"] = int(conf.get("idle_timeout", 3600))
    if url.get_backend_name() == "postgresql":
        options["json_serializer"] = schema.dumps
    if "poolclass" in given:
        options = {key: value for key, value in options.items() if key not in ("pool_size", "max_overflow")}
    connect_args = sessions.arguments(url, patience) | dict(given.pop("connect_args", {}))
    engine = sa.create_engine(url, **options | {"connect_args": connect_args} | given)
    sessions.arrange(engine, patience, conf)
    sessions.look_after(engine)
    return engine


def make_file(path: Path) -> None:
    """Makes an empty SQLite file, in write-ahead mode, so that readers never wait for the writer.

    :raises sqlite3.Error: when it cannot be made or is not a database.
    """
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode=WAL").fetchone()
    finally:
        connection.close()
