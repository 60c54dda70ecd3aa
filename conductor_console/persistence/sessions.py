"""Sessions with PostgreSQL and MySQL: how long they wait for an answer and for a lock, and what they never alter."""

from __future__ import annotations

import functools
import math
import select
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import sqlalchemy as sa
from sqlalchemy import exc as sa_exc

#: Seconds for which a server may be silent before its connection is given up.
ANSWER_TIMEOUT: Final = 30.0
#: Seconds for which a connection may take to be made.
CONNECT_TIMEOUT: Final = 10
#: In a connection's ``info``: the octets that one statement may have; MySQL only.
PACKET: Final = "cc_packet"
#: There: when (monotonic) it was used last.
_USED: Final = "cc_used"
#: There: whether it was made, or asked whether it is alive, when it was taken.
_SURE: Final = "cc_sure"
#: Seconds after which an unused connection counts as idle.
_IDLE: Final = 1.0
_FOR_READING: Final = select.POLLIN | select.POLLPRI


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds: ``lock`` for a lock that another holds, ``answer`` for any word from the server. None: for ever."""

    lock: float | None
    answer: float | None


def arguments(url: sa.URL, patience: Patience) -> dict[str, Any]:
    """What the driver is told at connecting, where the URL does not say otherwise."""
    answer = math.ceil(patience.answer or CONNECT_TIMEOUT)
    chosen: dict[str, Any] = {"connect_timeout": min(CONNECT_TIMEOUT, answer)}
    if url.get_backend_name() == "postgresql":
        # A database in SQL_ASCII would else answer in octets, one in LATIN1 lose what it cannot tell.
        chosen["client_encoding"] = "utf8"
    else:
        chosen["charset"] = "utf8mb4"
        if patience.answer is not None:
            chosen |= dict.fromkeys(("read_timeout", "write_timeout"), answer)
    return {key: value for key, value in chosen.items() if key not in url.query}


def look_after(engine: sa.Engine) -> None:
    """Has a connection that lay idle asked whether it is alive before it is used: that takes as long as most reads do.

    Whoever uses one that broke a moment ago has to try again, or to call :func:`make_sure` first.
    """

    def taken(connection: Any, record: Any, _proxy: Any) -> None:
        used = record.info.get(_USED)
        record.info[_SURE] = used is None or time.monotonic() - used >= _IDLE
        if used is not None and record.info[_SURE]:
            try:
                engine.dialect.do_ping(connection)
            except engine.dialect.loaded_dbapi.Error as error:
                # The others are of the same age.
                raise sa_exc.InvalidatePoolError from error

    def given_back(_connection: Any, record: Any) -> None:
        record.info[_USED] = time.monotonic()

    sa.event.listen(engine, "checkout", taken)
    sa.event.listen(engine, "checkin", given_back)


def make_sure(connection: sa.Connection) -> None:
    """Asks whether a connection that was just taken is alive, if that was not asked; it is made anew where it is not.

    :raises sqlalchemy.exc.DBAPIError: there is no other to be had.
    """
    if connection.info.get(_SURE, True):
        return
    try:
        connection.dialect.do_ping(cast(Any, connection.connection.dbapi_connection))
    except connection.dialect.loaded_dbapi.Error as error:
        give_up(connection.engine, connection.connection, error)
        connection.invalidate(error)
        _ = connection.connection


def give_up(engine: sa.Engine, connection: sa.PoolProxiedConnection, why: BaseException) -> None:
    """Has a broken connection, and all that were made before now, made anew; as SQLAlchemy does where it finds one."""
    engine.pool._invalidate(connection, why)


def arrange(engine: sa.Engine, patience: Patience, conf: Mapping[str, Any]) -> None:
    """Has every new session of the engine set up.

    :param conf: of TaskFlow's settings ``mysql_sql_mode``.
    """
    if engine.dialect.name != "postgresql":
        sa.event.listen(engine, "connect", functools.partial(_set_mysql, patience, conf.get("mysql_sql_mode")))
        return
    sa.event.listen(engine, "connect", functools.partial(_set_postgresql, patience))
    if engine.dialect.driver == "psycopg" and patience.answer is not None:
        # psycopg itself waits for ever: TCP tells of a host that is gone, but not of a server that stands still.
        kind = _patient(patience.answer)
        sa.event.listen(engine, "do_connect", lambda _dialect, _record, args, options: kind.connect(*args, **options))


def _set_postgresql(patience: Patience, connection: Any, _record: Any) -> None:
    if patience.lock is None:
        return
    with connection.cursor() as cursor:
        cursor.execute(f"SET lock_timeout = {math.ceil(patience.lock * 1000)}")
    connection.commit()


def _set_mysql(patience: Patience, mode: str | None, connection: Any, record: Any) -> None:
    # Without a strict mode a text that is too long is cut, and one that cannot be told is altered, with no error.
    base = "@@SESSION.sql_mode" if mode is None else "%s"
    settings = [f"sql_mode = CONCAT({base}, ',STRICT_ALL_TABLES')"]
    if patience.lock is not None:
        seconds = max(1, math.ceil(patience.lock))
        settings += [f"innodb_lock_wait_timeout = {seconds}", f"lock_wait_timeout = {seconds}"]
    with connection.cursor() as cursor:
        cursor.execute(f"SET SESSION {', '.join(settings)}", None if mode is None else [mode])
        cursor.execute("SELECT @@max_allowed_packet")
        record.info[PACKET] = int(cursor.fetchone()[0])


@functools.cache
def _patient(seconds: float) -> Any:
    """psycopg's connection class, made to give a server up that says nothing for so long."""
    import psycopg

    class PatientConnection(psycopg.Connection[Any]):
        def wait(self, gen: Any, interval: float = 0.0, timeout: float | None = None) -> Any:  # noqa: ARG002
            try:
                # psycopg tells what it waits for, and is told what there is: 1 reading, 2 writing.
                wanted = next(gen)
                poll, socket = select.poll(), self.pgconn.socket
                while True:
                    poll.register(socket, _FOR_READING * bool(wanted & 1) | select.POLLOUT * bool(wanted & 2))
                    found = poll.poll(seconds * 1000)
                    if not found:
                        self.pgconn.finish()
                        told = f"the server has not answered for {seconds:g} s; the connection was given up"
                        # Thrown in, so that what the generator has begun is ended by itself.
                        gen.throw(psycopg.OperationalError(told))
                    # What is wrong with the socket is found by reading or writing it.
                    event = found[0][1]
                    ready = bool(event & ~select.POLLOUT) | bool(event & ~_FOR_READING) << 1
                    wanted = gen.send(ready)
            except StopIteration as end:
                return end.value

    return PatientConnection
