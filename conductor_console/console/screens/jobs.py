"""The first screen: the jobs, worst first; attempts and causes of the selected one; conductors, throughput, bin."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Input

from conductor_console.console import keys
from conductor_console.console.background import run_aside
from conductor_console.console.frame import Frame
from conductor_console.console.messages import CursorMoved, Opened
from conductor_console.console.rows import Ghost
from conductor_console.console.screens.job import JobScreen
from conductor_console.console.screens.view import ViewScreen
from conductor_console.console.widgets.attempts import Attempts
from conductor_console.console.widgets.filter_box import FilterBox
from conductor_console.console.widgets.footer import Notice
from conductor_console.console.widgets.jobs_table import JobsTable
from conductor_console.console.widgets.side import Side, Summary
from conductor_console.observatory.snapshot import JobView
from conductor_console.text import visible


class JobsScreen(ViewScreen):
    """Folds by :func:`conductor_console.console.layout.fold`."""

    view = "jobs"
    AUTO_FOCUS = "JobsTable"
    BINDINGS: ClassVar[list[BindingType]] = [
        keys.OPEN,
        keys.MARK,
        keys.FILTER,
        keys.RETRY,
        keys.BIN,
        keys.DELETE,
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
        with Horizontal(id="filter"):
            yield FilterBox()

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
        self._show_attempts()

    def _show_attempts(self) -> None:
        """Of the job under the cursor; of one that vanished what was last known."""
        rows = self.table.rows
        row = rows.shown[rows.index] if rows.shown else None
        self.query_one(Attempts).show(row.item if isinstance(row, Ghost) else row)

    def on_cursor_moved(self, message: CursorMoved) -> None:
        message.stop()
        self._show_attempts()

    def on_opened(self, message: Opened) -> None:
        message.stop()
        self.action_open()

    # -- filter ----------------------------------------------------------------------------------------------------
    def action_filter(self) -> None:
        self._filter_line(shown=True)
        self.query_one(FilterBox).focus()
        run_aside(self.app, "filter", self.table.read_texts, lambda _: None)

    def _filter_line(self, *, shown: bool) -> None:
        self.query_one("#filter").display = shown
        self.query_one(Notice).display = not shown

    def on_input_changed(self, message: Input.Changed) -> None:
        message.stop()
        self.table.filter(message.value)

    def action_keep_filter(self) -> None:
        """Back to the list, with the filter as it was typed."""
        self._filter_line(shown=False)
        self.table.focus()
        needle = self.table.needle
        count = len(self.table.rows.shown)
        said = f"Filter {visible(needle, 60)!r}: {count:,} of {self.console_app.frame.snapshot.total:,}; esc clears it"
        self.console_app.stand(said if needle else "")

    def action_clear(self) -> None:
        """Escape: the filter, then the marks."""
        box = self.query_one(FilterBox)
        if box.has_focus or self.table.needle:
            box.value = ""
            self.table.filter("")
            self.action_keep_filter()
        elif not self.table.clear_marks():
            self.console_app.say("", "soft")

    # -- keys ------------------------------------------------------------------------------------------------------
    def _targets(self) -> list[JobView]:
        rows = self.table.rows
        if not rows.marks and rows.shown and rows.current is None:
            self.console_app.say("That job is gone", "amber")
        return rows.targets()

    def action_open(self) -> None:
        job = self.table.rows.current
        if job is not None:
            self.console_app.push(JobScreen(job))

    def action_mark(self) -> None:
        self.table.toggle_mark()

    def action_sort(self) -> None:
        order = self.table.next_order()
        self.console_app.say(f"Sorted {order.told}", "soft")

    def action_bin(self) -> None:
        hidden = self.table.rows.hidden_marks if self.table.needle else 0
        if targets := self._targets():
            self.console_app.acts.bin(targets, hidden)

    def action_delete(self) -> None:
        if targets := self._targets():
            self.console_app.acts.delete(targets)

    def action_retry(self) -> None:
        if targets := self._targets():
            self.console_app.acts.retry(targets)

    def action_replay(self) -> None:
        job = self.table.rows.current
        if job is not None:
            self.console_app.acts.replay(job.entry.uuid, job.name)

    def action_copy(self) -> None:
        rows = [row_text(job) for job in self._targets()]
        self.console_app.copy("\n".join(rows), f"{len(rows)} line{'s' if len(rows) != 1 else ''}")


def row_text(job: JobView) -> str:
    """A row as tab-separated text: state, name, key, failures, owner, cause."""
    cause = job.cause
    parts = [job.standing, job.name, job.key, str(job.failures), job.owner or "-"]
    parts.append(f"{cause.type}: {cause.message} ({cause.where})" if cause else "-")
    return "\t".join(visible(part) for part in parts)
