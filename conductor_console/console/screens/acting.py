"""The keys that act on jobs, for every view whose rows are jobs."""

from __future__ import annotations

from conductor_console.console.messages import CursorMoved, Opened
from conductor_console.console.rows import Ghost
from conductor_console.console.screens.filtered import FilteredScreen
from conductor_console.console.widgets.attempts import Attempts
from conductor_console.console.widgets.filtered_table import FilteredTable
from conductor_console.observatory.snapshot import JobView
from conductor_console.text import plural, visible


class JobsView(FilteredScreen):
    """A list of jobs, and the attempts of the one under the cursor: open, mark, bin, delete, retry, replay, copy."""

    @property
    def table(self) -> FilteredTable[JobView]:
        """The list."""
        return self.filtered

    def _targets(self) -> list[JobView]:
        rows = self.table.rows
        if not rows.marks and rows.shown and rows.current is None:
            self.console_app.say("That job is gone", "amber")
        return rows.targets()

    def show_attempts(self) -> None:
        """Of the job under the cursor; of one that vanished what was last known."""
        rows = self.table.rows
        row = rows.shown[rows.index] if rows.shown else None
        self.query_one(Attempts).show(row.item if isinstance(row, Ghost) else row)

    def on_cursor_moved(self, message: CursorMoved) -> None:
        message.stop()
        self.show_attempts()

    def on_opened(self, message: Opened) -> None:
        message.stop()
        self.action_open()

    def action_open(self) -> None:
        from conductor_console.console.screens.job import JobScreen

        job = self.table.rows.current
        if job is not None:
            self.console_app.push(JobScreen(job))

    def action_mark(self) -> None:
        self.table.toggle_mark()

    def action_bin(self) -> None:
        if targets := self._targets():
            self.console_app.acts.bin(targets, self.table.hidden_marks)

    def action_delete(self) -> None:
        if targets := self._targets():
            self.console_app.acts.delete(targets, self.table.hidden_marks)

    def action_retry(self) -> None:
        if targets := self._targets():
            self.console_app.acts.retry(targets, ask=bool(self.table.hidden_marks))

    def action_hold(self) -> None:
        if targets := self._targets():
            self.console_app.acts.hold(targets, ask=bool(self.table.hidden_marks))

    def action_release(self) -> None:
        if targets := self._targets():
            self.console_app.acts.release(targets, self.table.hidden_marks)

    def action_replay(self) -> None:
        job = self.table.rows.current
        if job is not None:
            self.console_app.acts.replay(job.entry, job.name)

    def action_copy(self) -> None:
        rows = [row_text(job) for job in self._targets()]
        self.console_app.copy("\n".join(rows), plural(len(rows), "line"))


def row_text(job: JobView) -> str:
    """A row as tab-separated text: state, name, key, failures, owner, cause."""
    cause = job.cause
    parts = [job.standing, job.name, job.key, str(job.failures), job.owner or "-"]
    parts.append(f"{cause.type}: {cause.message} ({cause.where})" if cause else "-")
    return "\t".join(visible(part) for part in parts)
