"""Stores for benchmarks: empty databases with TaskFlow's tables and ours, looked at by connections of their own."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from typing import Any

import psycopg
import sqlalchemy as sa

from benchmarks.common import Servers
from conductor_console import persistence


class Store:
    """One database, by its URL."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))

    def states(self) -> dict[str, int]:
        """How many flows are in which state."""
        with self.engine.connect() as connection:
            rows = connection.execute(sa.text("SELECT state, COUNT(*) FROM flowdetails GROUP BY state")).all()
        return {str(state): int(count) for state, count in rows}

    def raw(self) -> Any:
        """A connection of the driver's own, each commit synced to disk; close it."""
        if self.url.startswith("postgresql"):
            return psycopg.connect(self.url)
        connection = sqlite3.connect(self.url.removeprefix("sqlite:///"), isolation_level="IMMEDIATE")
        connection.execute("PRAGMA synchronous=FULL")
        return connection


@contextlib.contextmanager
def made(servers: Servers, database: str) -> Iterator[Store]:
    """An empty store on ``sqlite`` (a file of its own) or ``postgresql`` (a database of its own)."""
    if database == "postgresql":
        server = servers.postgresql
        url = server.url(server.database())
    else:
        url = f"sqlite:///{servers.folder() / 'flows.db'}"
    maker = persistence.fetch(url)
    try:
        # In write-ahead mode, which TaskFlow's backend gains from as well.
        maker.ensure()
    finally:
        maker.close()
    store = Store(url)
    try:
        yield store
    finally:
        store.engine.dispose()
