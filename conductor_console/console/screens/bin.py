"""The bin: what lies in it, since when, by whom and why; from here it goes back to the board."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import ClassVar, Final

from textual.app import ComposeResult
from textual.binding import BindingType

from conductor_console.console import keys
from conductor_console.console.frame import Frame
from conductor_console.console.glyphs import shape
from conductor_console.console.messages import CursorMoved
from conductor_console.console.paint import Line
from conductor_console.console.rows import Ghost
from conductor_console.console.screens.filtered import FilteredScreen
from conductor_console.console.widgets.attempts import attempt_lines
from conductor_console.console.widgets.counts import Counts, views_hint
from conductor_console.console.widgets.filtered_table import FilteredTable
from conductor_console.console.widgets.panel import Panel
from conductor_console.console.words import bin_reason, jobs, seconds_between, who
from conductor_console.jobboards.base import BinEntry
from conductor_console.observatory.filters import Filter
from conductor_console.observatory.snapshot import JobView
from conductor_console.observatory.views import binned_view
from conductor_console.text import age, clock_time, elide_end, elide_middle, plural, visible
from conductor_console.text import width as cells_of

#: Cells of the last cause, where there is room for it.
CAUSE: Final = 24


class _BinCounts(Counts):
    def counts(self, frame: Frame, width: int) -> Line:
        binned = frame.snapshot.binned
        line = Line().gap(1).put(f"{len(binned):,}", "text", bold=True).gap(1).put("in the bin", "soft")
        note = views_hint(frame) or "kept until restored or purged"
        reasons = Counter(bin_reason(entry).partition(":")[0] for entry in binned)
        for reason, count in reasons.most_common(3):
            if line.cells + 4 + len(f"{count:,}") + cells_of(reason) + 3 + len(note) > width:
                break
            line.gap(3).put(f"{count:,}", bold=True).gap(1).put(reason, "soft")
        return line.right(note, "dim", end=width - 1)


class BinTable(FilteredTable[BinEntry]):
    """Newest first; what nobody dated comes last."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._views: dict[str, tuple[BinEntry, JobView]] = {}

    def key_of(self, row: BinEntry) -> str:
        return row.key

    def view_of(self, row: BinEntry) -> JobView:
        known = self._views.get(row.key)
        if known is None or known[0] is not row:
            known = self._views[row.key] = (row, binned_view(row))
        return known[1]

    def all_rows(self, frame: Frame) -> Sequence[BinEntry]:
        return frame.snapshot.binned

    def filter(self, chosen: Filter) -> None:
        if not chosen:
            self._views = {}
        super().filter(chosen)

    def list_rows(self, frame: Frame) -> None:
        binned = frame.snapshot.binned
        present = {entry.key: entry for entry in binned}
        listed = self.fitting(binned, frame.data_now)
        self.rows.take(listed, present, frame.now, lambda _: "no longer in the bin")

    def _columns(self, cells: int) -> tuple[int, int, int, int]:
        """Cells of the name, and where ``binned``, ``by`` and ``why`` begin."""
        if cells >= 100:
            return 36, 41, 50, 69
        return 24, 29, 37, 48

    def _cause_at(self, cells: int) -> int:
        """Where the last cause begins; 0 where there is no room for it."""
        return cells - 1 - 5 - 2 - CAUSE if cells >= 130 else 0

    def heads(self, frame: Frame, width: int) -> Line:
        _, binned, by, why = self._columns(width)
        line = Line(frame.palette).to(3).put("name", "dim").to(binned).put("binned", "dim").to(by).put("by", "dim")
        line.to(why).put("why", "dim")
        if cause := self._cause_at(width):
            line.to(cause).put("last cause", "dim")
        return line.right("fails", "dim", end=width - 1)

    def draw(self, frame: Frame, row: BinEntry, line: Line, chosen: bool, width: int) -> None:
        name, binned, by, why = self._columns(width)
        line.put(elide_middle(visible(row.name), name, shape("⋯")), bold=chosen).to(binned)
        since = f"{age(seconds_between(row.binned_at, frame.data_now))} ago" if row.binned_at else "-"
        line.put(since, "soft" if row.binned_at else "line").to(by)
        line.put(elide_middle(who(visible(row.who or "-")), why - by - 2, shape("⋯")), "text" if row.who else "line")
        cause = self._cause_at(width)
        end = cause - 2 if cause else width - 8
        line.to(why).put(elide_end(row.problem or bin_reason(row), end - why, shape("⋯")))
        if cause:
            last = row.record.cause if row.record else None
            told = elide_end(visible(last.type), CAUSE, shape("⋯")) if last else "-"
            line.to(cause).put(told, "soft" if last else "line")
        failures = row.record.failures if row.record else 0
        line.right(str(failures) if failures else "-", "amber" if failures > 1 else "line", end=width - 1)

    def draw_ghost(self, _frame: Frame, ghost: Ghost[BinEntry], line: Line, width: int) -> None:
        name, binned, _, _ = self._columns(width)
        line.put(elide_middle(visible(ghost.item.name), name, shape("⋯")), "dim").to(binned).put(ghost.why, "soft")

    def empty(self, frame: Frame) -> Sequence[Line]:
        if self.chosen and frame.snapshot.binned:
            return self.nothing_fits(frame, f"{jobs(len(frame.snapshot.binned))} in the bin")
        return [Line(frame.palette), Line(frame.palette).to(3).put("Nothing is in the bin", "soft")]


class _BinDetail(Panel):
    """What the chosen one was when it was binned."""

    entry: BinEntry | None = None

    def show(self, entry: BinEntry | None) -> None:
        """Shows another entry; None: there is none to show."""
        if entry is not self.entry:
            self.entry = entry
            self.redraw()

    def lines(self, frame: Frame, width: int) -> Sequence[Line]:
        entry, palette, height = self.entry, frame.palette, self.size.height
        if entry is None:
            return ()
        when = f"binned {clock_time(entry.binned_at)}" if entry.binned_at else "when is not known"
        title = elide_middle(visible(entry.name), max(12, width - 30), shape("⋯"))
        drawn = [Line(palette).gap(1).section(title, when, end=width - 1)]
        for label, text in (("uuid", entry.uuid or "none"), ("was", entry.node), ("why", bin_reason(entry))):
            drawn.append(Line(palette).gap(2).put(label, "dim").to(14).put(elide_end(text, width - 15, shape("⋯"))))
        cause = entry.record.cause if entry.record is not None else None
        if cause is not None and height >= 12:
            line = Line(palette).gap(2).put("last cause", "dim").to(14).put(cause.type, "red", bold=True)
            told = f": {visible(cause.message)}" if cause.message else ""
            drawn.append(line.put(elide_end(told, max(0, width - 1 - line.cells), shape("⋯"))))
        if entry.record is not None and entry.record.history:
            drawn += attempt_lines(entry.record.history, frame, palette, width, height - len(drawn) - 2)
        drawn += [Line(palette)] * max(0, height - len(drawn) - 1)
        told = "Restoring puts the job back, its failures counted from 0, its history kept."
        return [*drawn[: height - 1], Line(palette).gap(1).put(elide_end(told, width - 2, shape("⋯")), "soft")]


class BinScreen(FilteredScreen):
    """From here jobs go back to the board, or for good."""

    view = "bin"
    AUTO_FOCUS = "BinTable"
    BINDINGS: ClassVar[list[BindingType]] = [
        keys.RESTORE,
        keys.MARK,
        keys.MARK_ALL,
        keys.FILTER,
        keys.PURGE,
        keys.REPLAY,
        keys.UNDO,
        keys.COPY,
        keys.CLEAR,
        keys.HELP,
        keys.QUIT,
    ]

    def top_line(self) -> Counts:
        return _BinCounts()

    def body(self) -> ComposeResult:
        yield BinTable()
        yield _BinDetail()
        yield from self.filter_line()

    @property
    def table(self) -> BinTable:
        return self.query_one(BinTable)

    def take(self, frame: Frame) -> None:
        detail = self.query_one(_BinDetail)
        detail.display = not frame.fold.tiny
        detail.styles.height = 12 if frame.fold.height >= 32 else 8
        super().take(frame)
        detail.show(self.table.rows.current)

    def on_cursor_moved(self, message: CursorMoved) -> None:
        message.stop()
        self.query_one(_BinDetail).show(self.table.rows.current)

    def action_mark(self) -> None:
        self.table.toggle_mark()

    def action_restore(self) -> None:
        self.console_app.acts.restore(self.table.rows.targets(), self.table.hidden_marks)

    def action_purge(self) -> None:
        self.console_app.acts.purge(self.table.rows.targets(), self.table.hidden_marks)

    def action_replay(self) -> None:
        entry = self.table.rows.current
        if entry is not None:
            self.console_app.acts.replay(self.table.view_of(entry).entry, visible(entry.name))

    def action_copy(self) -> None:
        rows = [
            "\t".join(visible(part) for part in (entry.name, entry.key, entry.who or "-", bin_reason(entry)))
            for entry in self.table.rows.targets()
        ]
        self.console_app.copy("\n".join(rows), plural(len(rows), "line"))
