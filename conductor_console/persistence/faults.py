"""What a database's errors mean: whether the same may work a moment later, whose fault it is, what a person is told."""

from __future__ import annotations

import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import sqlalchemy as sa
from sqlalchemy import exc as sa_exc
from taskflow import exceptions as excp

from conductor_console.errors import StoreUnreachable
from conductor_console.persistence.engine import masked, sqlite_path
from conductor_console.persistence.schema import Unstorable
from conductor_console.text import visible

_MISSING_TABLE: Final = re.compile(r"no such table|relation .* does not exist|table '.*' doesn't exist", re.IGNORECASE)
#: Locks waited for in vain, deadlocks, a record changed under a snapshot; connections lost, killed or not to be had;
#: statements interrupted; a server that goes down, is full of connections, or is no primary (any more).
_TRANSIENT_MYSQL: Final = frozenset(
    {1020, 1040, 1047, 1053, 1158, 1159, 1160, 1161, 1205, 1213, 1290, 1317, 1836, 1927, 1969}
    | {2002, 2003, 2006, 2013, 2014, 2055, 3024, 4031}
)
#: The same in PostgreSQL's words; all of class 08 (connections) besides.
_TRANSIENT_POSTGRESQL: Final = frozenset(
    {"25006", "25P03", "25P04", "40001", "40P01", "53300", "55P03", "57014", "57P01", "57P02", "57P03", "57P05"}
)
#: A refused connection has no code in PostgreSQL: what nobody mends by waiting is known by its words alone.
_REFUSED_FOR_GOOD: Final = re.compile(
    r"password authentication failed|no password supplied|no pg_hba\.conf entry|(role|database) \".*\" does not exist"
)
#: Somebody else makes or upgrades the same tables at the same moment.
_RACED_MYSQL: Final = frozenset({1007, 1050, 1054, 1060, 1061, 1062, 1091, 1146})
_RACED_POSTGRESQL: Final = frozenset({"23505", "42701", "42703", "42704", "42710", "42P01", "42P07", "XX000"})
_SQLITE_BUSY, _SQLITE_LOCKED, _SQLITE_READONLY, _SQLITE_IOERR = 5, 6, 8, 10
_SQLITE_CORRUPT, _SQLITE_FULL, _SQLITE_CANTOPEN, _SQLITE_TOOBIG, _SQLITE_NOTADB = 11, 13, 14, 18, 26

T = TypeVar("T")


def insisting(act: Callable[[], T], again: Callable[[Exception], bool], seconds: float) -> T:
    """What ``act`` returns; it is tried again for up to so many seconds while it fails of what ``again`` allows."""
    pause = threading.Event()
    wait = 0.05
    deadline = time.monotonic() + seconds
    while True:
        try:
            return act()
        except Exception as error:
            if time.monotonic() + wait > deadline or not again(error):
                raise
        pause.wait(wait)
        wait = min(2 * wait, 1.0)


def _original(error: BaseException) -> BaseException:
    origin = getattr(error, "orig", None)
    return origin if isinstance(origin, BaseException) else error


def _sqlite_code(error: BaseException) -> int | None:
    code = getattr(_original(error), "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else None


def _sqlstate(error: BaseException) -> str | None:
    """PostgreSQL's code; psycopg and psycopg2 name it differently. (PyMySQL has a sqlstate too, which tells less.)"""
    if _mysql_number(error) is not None:
        return None
    origin = _original(error)
    code = getattr(origin, "sqlstate", None) or getattr(origin, "pgcode", None)
    return code if isinstance(code, str) else None


def _mysql_number(error: BaseException) -> int | None:
    origin = _original(error)
    number = origin.args[0] if isinstance(error, sa_exc.DBAPIError) and origin.args else None
    return number if isinstance(number, int) else None


def is_transient(error: BaseException) -> bool:
    """Whether the same may well work a moment later: a lock held by another, a deadlock, a lost connection."""
    if isinstance(error, sa_exc.TimeoutError):
        return True
    if isinstance(error, sa_exc.DBAPIError) and error.connection_invalidated:
        return True
    if isinstance(_original(error), sqlite3.Error):
        return _sqlite_code(error) in (_SQLITE_BUSY, _SQLITE_LOCKED)
    state = _sqlstate(error)
    if state is not None:
        return state in _TRANSIENT_POSTGRESQL or state.startswith("08")
    number = _mysql_number(error)
    if number is not None:
        return number in _TRANSIENT_MYSQL
    if not isinstance(error, sa_exc.OperationalError):
        return False
    told = str(_original(error))
    return "connect" in told.lower() and _REFUSED_FOR_GOOD.search(told) is None


def may_pass(told: Exception) -> bool:
    """Whether what a caller would be told of (see :func:`failure`) may well be over a moment later."""
    return told.__cause__ is not None and is_transient(told.__cause__)


def is_raced(error: BaseException) -> bool:
    """Whether making tables may have failed because another program was making the same ones."""
    return _sqlstate(error) in _RACED_POSTGRESQL or _mysql_number(error) in _RACED_MYSQL


def blames_store(error: BaseException) -> bool:
    """Whether it is the database that is unwell (not there, full, read-only), and not what was to be written."""
    if _sqlite_code(error) == _SQLITE_TOOBIG:
        return False
    return is_transient(error) or isinstance(error, (sa_exc.OperationalError, sa_exc.InterfaceError))


def told(error: BaseException) -> str:
    """What a database says, in one line without statement, parameters and codes."""
    origin = _original(error)
    numbered = len(origin.args) == 2 and isinstance(origin.args[0], int)
    lines = [line.strip(" \t-") for line in str(origin.args[1] if numbered else origin).strip().splitlines()]
    if len(lines) > 1 and lines[0].startswith("Multiple connection attempts failed"):
        lines = lines[1:]
    return visible(lines[0] if lines and lines[0] else type(error).__name__, 300)


def _about_file(error: BaseException, path: Path) -> str | None:
    """What is wrong with a SQLite file, in words; None where the file is not to blame."""
    code = _sqlite_code(error)
    shown = visible(path, 200)
    if code == _SQLITE_NOTADB:
        return f"{shown} is not a SQLite database; name another file"
    if code == _SQLITE_CORRUPT:
        return f"{shown} is damaged ({told(error)}); restore it from a copy"
    if code == _SQLITE_READONLY:
        return f"{shown} cannot be written (read-only); check its rights, or attach with --read-only"
    if code == _SQLITE_FULL:
        return f"the disk of {shown} is full; make room there"
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
    return f"{shown} cannot be opened ({told(error)}); check the rights of the file and its folder"


def failure(error: BaseException, what: str, url: sa.URL) -> Exception:
    """The error a caller gets for ``error``: one line that says what, and what to do.

    :param what: what was being done, e.g. ``saving flow details``.
    :returns: a ``StoreUnreachable`` where the store is to blame, an ``Unstorable`` where the value is, a
        ``StorageFailure`` else, and what is TaskFlow's or ours already as it is.
    """
    if isinstance(error, excp.TaskFlowException) and isinstance(error, Exception):
        return error
    shown = masked(url)
    path = sqlite_path(url)
    if path is not None and (about := _about_file(error, path)):
        return StoreUnreachable(about)
    if _MISSING_TABLE.search(told(error)):
        lacking = "lost a table of ours" if "cc_" in told(error) else "has no TaskFlow tables"
        return StoreUnreachable(
            f"the store {shown} {lacking}; make them with: conductor-console init BOARD --store URL"
        )
    if _sqlite_code(error) in (_SQLITE_BUSY, _SQLITE_LOCKED):
        return StoreUnreachable(f"the store {shown} is locked by another program; {what} was given up")
    if blames_store(error):
        return StoreUnreachable(f"the store {shown} fails at {what}: {told(error)}")
    if isinstance(error, (sa_exc.DataError, UnicodeError)) or _sqlite_code(error) == _SQLITE_TOOBIG:
        return Unstorable(f"the store {shown} does not take a value at {what}: {told(error)}")
    if isinstance(error, (sa_exc.SQLAlchemyError, sqlite3.Error, ValueError, LookupError)):
        return excp.StorageFailure(f"the store {shown} fails at {what}: {told(error)}")
    return error if isinstance(error, Exception) else excp.StorageFailure(f"{what} was interrupted")
