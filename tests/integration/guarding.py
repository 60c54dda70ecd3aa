"""A guard in a thread of the test's own."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from conductor_console.jobboards.base import LedgerBoard
from conductor_console.jobboards.policies import AnyPolicy
from conductor_console.observatory.guard import Act, Guard
from conductor_console.operations import FileAudit, Operations
from tests.integration.helpers import found


class Watch:
    """A guard on a thread of its own, with all that it told."""

    def __init__(self, board: LedgerBoard, folder: Path, policy: AnyPolicy, **options: Any) -> None:
        self.acts: list[Act] = []
        self.remarks: list[str] = []
        operations = Operations(
            board,
            operator="guard of t",
            audit=FileAudit(folder / "audit.jsonl"),
            read_only=bool(options.get("dry_run")),
        )
        self.guard = Guard(board, operations, policy, tell=self.acts.append, remark=self.remarks.append, **options)
        self._thread = threading.Thread(target=self.guard.run, name="test-guard", daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.guard.stop()
        self._thread.join(30)
        assert not self._thread.is_alive()

    def told(self, what: str, key: str) -> Act:
        return found(
            lambda: next((act for act in list(self.acts) if (act.what, act.key) == (what, key)), None),
            f"{what} {key} to be told",
        )
