"""TaskFlow's own tests of a jobboard, run on our SQLite board, and TaskFlow's own conductor working it."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Any

from oslo_utils import uuidutils
from taskflow import states, task, test
from taskflow.conductors import backends as conductors
from taskflow.engines import helpers
from taskflow.jobs import backends
from taskflow.patterns import linear_flow
from taskflow.persistence import backends as persistence_backends
from taskflow.persistence import models
from taskflow.tests.unit.jobs import base

from conductor_console.jobboards.sqlite import SQLiteJobBoard
from tests.support import eventually


class SQLiteJobboardTest(test.TestCase, base.BoardTestMixin):
    """The mixin's ``client`` is the board itself: a SQLite board has no connection apart from its own."""

    def setUp(self) -> None:
        super().setUp()
        self.client, self.board = self.create_board()

    def create_board(self, persistence: Any = None) -> tuple[Any, SQLiteJobBoard]:
        path = Path(self.makeTmpDir()) / "board.db"
        board = SQLiteJobBoard("test-board", {"board": "sqlite", "path": str(path)}, persistence=persistence)
        board.ensure()
        self.addCleanup(board.close)
        return board, board

    def close_client(self, client: SQLiteJobBoard) -> None:
        client.close()


class Shout(task.Task):
    def execute(self, text: str) -> str:
        return text.upper()


def make_flow() -> Any:
    return linear_flow.Flow("shouting").add(Shout(provides="shout"))


def test_taskflows_own_conductor_works_our_board(tmp_path: Path) -> None:
    """The board is loaded by TaskFlow, by the name under which it is registered there."""
    path = tmp_path / "board.db"
    SQLiteJobBoard("ops", {"path": str(path)}).ensure()
    store = persistence_backends.fetch({"connection": "memory"})
    with contextlib.closing(store), contextlib.closing(store.get_connection()) as connection:
        book, flow = models.LogBook("book"), models.FlowDetail("flow", uuidutils.generate_uuid())
        book.add(flow)
        connection.save_logbook(book)
        helpers.save_factory_details(flow, make_flow, [], {}, backend=store)
        with backends.backend("ops", {"board": "cc-sqlite", "path": str(path)}, persistence=store) as board:
            assert isinstance(board, SQLiteJobBoard)
            job = board.post("shout", book=book, details={"flow_uuid": flow.uuid, "store": {"text": "hello"}})
            conductor = conductors.fetch("blocking", "c1", board, persistence=store, engine="serial")
            running = threading.Thread(target=conductor.run)
            running.start()
            try:
                eventually(lambda: job.state == states.COMPLETE, what="the job to be done")
                assert connection.get_flow_details(flow.uuid).state == states.SUCCESS
                assert list(board.listing().entities) == [conductor.conductor.name]
            finally:
                conductor.stop()
                running.join(30)
