"""The first screen: the jobs, worst first; attempts and causes of the selected one; conductors, throughput, bin."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical

from conductor_console.console import keys
from conductor_console.console.frame import Frame
from conductor_console.console.screens.acting import JobsView
from conductor_console.console.widgets.attempts import Attempts
from conductor_console.console.widgets.jobs_table import JobsTable
from conductor_console.console.widgets.side import Side, Summary


class JobsScreen(JobsView):
    """Folds by :func:`conductor_console.console.layout.fold`."""

    view = "jobs"
    AUTO_FOCUS = "JobsTable"
    BINDINGS: ClassVar[list[BindingType]] = [
        keys.OPEN,
        keys.MARK,
        keys.MARK_ALL,
        keys.FILTER,
        keys.RETRY,
        keys.BIN,
        keys.DELETE,
        keys.RELEASE,
        keys.HOLD,
        keys.UNDO,
        keys.REPLAY,
        keys.SORT,
        keys.COPY,
        keys.CLEAR,
        keys.HELP,
        keys.QUIT,
    ]

    def body(self) -> ComposeResult:
        with Horizontal(id="body"):
            with Vertical(id="main"):
                yield JobsTable()
                yield Attempts()
            yield Side()
        yield Summary()
        yield from self.filter_line()

    @property
    def table(self) -> JobsTable:
        return self.query_one(JobsTable)

    def take(self, frame: Frame) -> None:
        fold = frame.fold
        side, attempts = self.query_one(Side), self.query_one(Attempts)
        side.display = bool(fold.side)
        side.styles.width = fold.side + 3
        self.query_one(Summary).display = not fold.side and not fold.tiny
        attempts.display = not fold.tiny
        attempts.styles.height = fold.attempts + 1
        super().take(frame)
        self.show_attempts()

    def action_sort(self) -> None:
        order = self.table.next_order()
        self.console_app.say(f"Sorted {order.told}", "soft")
