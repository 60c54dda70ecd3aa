"""TaskFlow's own tests of a jobboard, run on our SQLite board."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from taskflow import test
from taskflow.tests.unit.jobs import base

from conductor_console.jobboards.sqlite import SQLiteJobBoard


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
