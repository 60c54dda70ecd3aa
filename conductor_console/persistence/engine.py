"""The SQLAlchemy engine of a store: its URL, its driver, SQLite's particulars, and what its errors mean to a person."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc as sa_exc
from sqlalchemy import pool as sa_pool
from taskflow import exceptions as excp

from conductor_console.errors import StoreUnreachable, UsageError
from conductor_console.settings import masked as masked_url
from conductor_console.settings import store_conf
from conductor_console.text import visible

#: Execution option of a connection that is going to write: SQLite then takes its write lock at BEGIN, where it can
#: wait for it, and not in mid-transaction, where it cannot.
WRITING = "cc_writing"

_EXAMPLE = "it looks like sqlite:////srv/flows.db or postgresql://user@host/flows"
_MISSING_TABLE = re.compile(r"no such table|relation .* does not exist|table '.*' doesn't exist", re.IGNORECASE)
#: MySQL: lock wait, deadlock, connection lost. PostgreSQL: serialisation, deadlock, admin shutdown, connection.
_TRANSIENT_MYSQL = {1205, 1213, 1927, 2002, 2003, 2006, 2013, 2014, 2055}
_TRANSIENT_POSTGRESQL = {"40001", "40P01", "57P01", "57P02", "57P03", "08000", "08001", "08003", "08004", "08006"}
_SQLITE_BUSY, _SQLITE_LOCKED, _SQLITE_READONLY, _SQLITE_IOERR = 5, 6, 8, 10
_SQLITE_CORRUPT, _SQLITE_CANTOPEN, _SQLITE_NOTADB = 11, 14, 26


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


def _begin(connection: sa.Connection) -> None:
    # The sqlite3 module's own transaction handling would begin too late for a consistent read, and break savepoints.
    writing = connection.get_execution_options().get(WRITING, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


def create(url: sa.URL, conf: Mapping[str, Any], *, read_only: bool) -> sa.Engine:
    """The engine for ``url``; nothing is opened yet.

    :param conf: of TaskFlow's settings ``echo``, ``idle_timeout`` (s), ``max_pool_size``, ``max_overflow``,
        ``pool_timeout`` (s), ``isolation_level`` and ``engine_args``; of ours ``busy_timeout`` (s, SQLite).
    """
    # Errors carry their statement: its parameters are users' data, and may be secret.
    options: dict[str, Any] = {"hide_parameters": True, "echo": conf.get("echo") in (True, "true", "True", "1")}
    for ours, theirs in (("pool_size", "max_pool_size"), ("max_overflow", "max_overflow"), ("pool_timeout",) * 2):
        if theirs in conf:
            options[ours] = int(conf[theirs])
    if url.get_backend_name() != "sqlite":
        options |= {"pool_recycle": int(conf.get("idle_timeout", 3600)), "pool_pre_ping": True}
        options["isolation_level"] = conf.get("isolation_level", "READ COMMITTED")
        return sa.create_engine(url, **options | dict(conf.get("engine_args", {})))
    path = sqlite_path(url)
    busy = float(conf.get("busy_timeout", url.query.get("timeout", 5.0)))
    options["creator"] = _opener(path, read_only=read_only, busy=busy)
    if path is None:
        options = {key: value for key, value in options.items() if not key.startswith(("pool", "max"))}
        options["poolclass"] = sa_pool.StaticPool
    else:
        options = {"poolclass": sa_pool.QueuePool, "pool_size": 8, "max_overflow": 56} | options
    engine = sa.create_engine(url, **options | dict(conf.get("engine_args", {})))
    sa.event.listen(engine, "begin", _begin)
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


def _original(error: BaseException) -> BaseException:
    origin = getattr(error, "orig", None)
    return origin if isinstance(origin, BaseException) else error


def _sqlite_code(error: BaseException) -> int | None:
    code = getattr(_original(error), "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else None


def is_transient(error: BaseException) -> bool:
    """Whether the same may well work a moment later: a lock held by another, a deadlock, a lost connection."""
    if isinstance(error, sa_exc.TimeoutError):
        return True
    if isinstance(error, sa_exc.DBAPIError) and error.connection_invalidated:
        return True
    origin = _original(error)
    if isinstance(origin, sqlite3.Error):
        return _sqlite_code(error) in (_SQLITE_BUSY, _SQLITE_LOCKED)
    if getattr(origin, "sqlstate", None) in _TRANSIENT_POSTGRESQL:
        return True
    number = origin.args[0] if origin.args else None
    if isinstance(error, sa_exc.OperationalError) and isinstance(number, int):
        return number in _TRANSIENT_MYSQL
    return isinstance(error, sa_exc.OperationalError) and "connect" in str(origin).lower()


def _told(error: BaseException) -> str:
    lines = str(_original(error)).strip().splitlines()
    return visible(lines[0] if lines else type(error).__name__, 300)


def _about_file(error: BaseException, path: Path) -> str | None:
    """What is wrong with a SQLite file, in words; None where the file is not to blame."""
    code = _sqlite_code(error)
    shown = visible(path, 200)
    if code == _SQLITE_NOTADB:
        return f"{shown} is not a SQLite database; name another file"
    if code == _SQLITE_CORRUPT:
        return f"{shown} is damaged ({_told(error)}); restore it from a copy"
    if code == _SQLITE_READONLY:
        return f"{shown} cannot be written (read-only); check its rights, or attach with --read-only"
    if code in (_SQLITE_CANTOPEN, _SQLITE_IOERR) and path.is_dir():
        return f"{shown} is a folder, not a database file"
    if code != _SQLITE_CANTOPEN:
        return None
    if not path.exists():
        if not path.absolute().parent.is_dir():
            return f"there is no folder {visible(path.absolute().parent, 200)} for the store"
        if not os.access(path.absolute().parent, os.W_OK):
            return f"there is no store at {shown}, and its folder may not be written"
        return f"there is no store at {shown}; make it with: conductor-console init BOARD --store URL"
    if not os.access(path, os.R_OK):
        return f"{shown} may not be read; check its rights"
    return f"{shown} cannot be opened ({_told(error)}); check the rights of the file and its folder"


def failure(error: BaseException, what: str, url: sa.URL) -> Exception:
    """The error a caller gets for ``error``: one line that says what, and what to do.

    :param what: what was being done, e.g. ``saving flow details``.
    :returns: a ``StoreUnreachable`` where the store is to blame, a ``StorageFailure`` where the data is, and what is
        TaskFlow's or ours already as it is.
    """
    if isinstance(error, excp.TaskFlowException) and isinstance(error, Exception):
        return error
    shown = masked(url)
    path = sqlite_path(url)
    if path is not None and (about := _about_file(error, path)):
        return StoreUnreachable(about)
    if _MISSING_TABLE.search(_told(error)):
        lacking = "lost a table of ours" if "cc_" in _told(error) else "has no TaskFlow tables"
        return StoreUnreachable(
            f"the store {shown} {lacking}; make them with: conductor-console init BOARD --store URL"
        )
    if _sqlite_code(error) in (_SQLITE_BUSY, _SQLITE_LOCKED):
        return StoreUnreachable(f"the store {shown} is locked by another program; {what} was given up")
    if is_transient(error) or isinstance(error, (sa_exc.OperationalError, sa_exc.InterfaceError)):
        return StoreUnreachable(f"the store {shown} fails at {what}: {_told(error)}")
    if isinstance(error, (sa_exc.SQLAlchemyError, sqlite3.Error, ValueError, LookupError)):
        return excp.StorageFailure(f"the store {shown} fails at {what}: {_told(error)}")
    return error if isinstance(error, Exception) else excp.StorageFailure(f"{what} was interrupted")
