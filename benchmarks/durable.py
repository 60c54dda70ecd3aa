"""Servers that sync to disk before they answer, as in production; those of the tests do not, for speed."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.databases import Database, PostgreSQL
from tests.servers import Zookeeper


class DurableZookeeper(Zookeeper):
    """One that forces its log to disk before it answers."""

    def _config(self) -> str:
        # Read as the system property zookeeper.forceSync, after those of the command line.
        return super()._config() + "forceSync=yes\n"


class DurablePostgreSQL(PostgreSQL):
    """One with PostgreSQL's own defaults for what a commit waits for."""

    def _command(self) -> list[str]:
        settings = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "shared_buffers": "128MB"}
        return [*super()._command(), *(word for key, value in settings.items() for word in ("-c", f"{key}={value}"))]


@contextlib.contextmanager
def running_zookeeper() -> Iterator[Zookeeper]:
    """A ZooKeeper of one's own, gone on leaving."""
    with tempfile.TemporaryDirectory(prefix="bench-zk-", ignore_cleanup_errors=True) as folder:
        server = DurableZookeeper(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop()


@contextlib.contextmanager
def running_database() -> Iterator[Database]:
    """A PostgreSQL of one's own, gone on leaving."""
    with tempfile.TemporaryDirectory(prefix="bench-db-", ignore_cleanup_errors=True) as folder:
        server = DurablePostgreSQL(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop()
