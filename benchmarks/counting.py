"""Counts what a process asks of its servers: SQL statements, commits that wrote, ZooKeeper requests that are no pings.

Counting takes time itself: it is done in a turn of its own, which is not timed.
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any, Final

import sqlalchemy as sa
from kazoo.protocol import connection as kazoo_connection

from conductor_console.persistence import books, bulk

_PING: Final = 11
_WRITES: Final = ("insert", "update", "delete", "replace")
#: ZooKeeper's numbers of what is asked for, by name.
_KINDS: Final = {1: "create", 2: "delete", 3: "exists", 4: "get", 5: "set", 8: "children", 9: "sync", 12: "children",
                 14: "multi", 15: "create", 22: "multi-read", -10: "create-session", -11: "close"}  # fmt: skip


class Counts:
    """All that this process asked for since :meth:`start`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def start(self) -> None:
        """Listens in on every engine and every ZooKeeper connection there is and will be."""
        sa.event.listen(sa.Engine, "before_cursor_execute", self._statement)
        sa.event.listen(sa.Engine, "commit", self._commit)
        self._count_what_goes_past_sqlalchemy()
        submit = kazoo_connection.ConnectionHandler._submit

        def counted(handler: Any, request: Any, *args: Any, **options: Any) -> Any:
            if request.type != _PING:
                self._add("requests", f"request {_KINDS.get(request.type, request.type)}")
            return submit(handler, request, *args, **options)

        kazoo_connection.ConnectionHandler._submit = counted

    def _count_what_goes_past_sqlalchemy(self) -> None:
        run, find = bulk.DriverStatement.run, books.find_by_driver

        def counted_run(statement: bulk.DriverStatement, connection: sa.Connection, rows: Any) -> int:
            self._statement(connection, None, statement.text)
            return run(statement, connection, rows)

        def counted_find(*args: Any) -> books.Found:
            self._add("statements")
            return find(*args)

        replaced = ((bulk.DriverStatement, "run", counted_run), (books, "find_by_driver", counted_find))
        for place, name, counted in replaced:
            setattr(place, name, counted)

    def reset(self) -> None:
        with self._lock:
            self._counts.clear()

    def so_far(self) -> dict[str, int]:
        """``commits``, ``statements`` and ``requests``, and each kind of request by itself."""
        with self._lock:
            return {"commits": 0, "statements": 0, "requests": 0} | dict(self._counts)

    def _add(self, *names: str) -> None:
        with self._lock:
            self._counts.update(names)

    def _statement(self, connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        self._add("statements")
        if statement.lstrip()[:7].lower().startswith(_WRITES):
            connection.info["bench wrote"] = True

    def _commit(self, connection: Any) -> None:
        if connection.info.pop("bench wrote", False):
            self._add("commits")
