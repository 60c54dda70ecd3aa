"""The jobs list: the board, worst first, or sorted and filtered as the operator wants it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from conductor_console.console.frame import Frame
from conductor_console.console.glyphs import STANDINGS, shape
from conductor_console.console.layout import Column, columns
from conductor_console.console.paint import Line
from conductor_console.console.rows import Ghost
from conductor_console.console.widgets.filtered_table import FilteredTable
from conductor_console.console.words import (
    PRIORITIES,
    URGENT,
    Departures,
    held_for,
    jobs,
    next_try,
    place,
    seconds_between,
    who,
)
from conductor_console.jobboards.base import PRIORITY_ORDER
from conductor_console.observatory.snapshot import JobView
from conductor_console.text import age, elide_end, elide_front, elide_middle, size, width


@dataclass(frozen=True, slots=True)
class Order:
    """A way to sort: by which column, and what the last line calls it. Ties stay worst first."""

    column: str
    told: str
    key: Callable[[JobView], object] | None = None


def _created(job: JobView) -> float:
    return job.entry.created_at.timestamp()


def _held_since(job: JobView) -> float:
    return job.claimed_at.timestamp() if job.claimed_at else float("inf")


#: Cells that the name of a vanished job keeps.
GONE_NAME: Final = 24

_RANKS: Final = {priority.value: rank for priority, rank in PRIORITY_ORDER.items()}

ORDERS: Final = (
    Order("state", "worst first"),
    Order("name", "by name", lambda job: job.name),
    Order("fails", "most failures first", lambda job: -job.failures),
    Order("for", "longest held first", _held_since),
    Order("owner", "by owner", lambda job: (job.owner is None, job.owner or "")),
    Order("prio", "most urgent first", lambda job: _RANKS.get(job.priority, _RANKS["NORMAL"])),
    Order("age", "oldest first", _created),
)


class JobsTable(FilteredTable[JobView]):
    """The jobs of a snapshot."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.order = ORDERS[0]

    def key_of(self, row: JobView) -> str:
        return row.key

    def view_of(self, row: JobView) -> JobView:
        return row

    def all_rows(self, frame: Frame) -> Sequence[JobView]:
        return frame.snapshot.jobs

    def next_order(self) -> Order:
        """Sorts by the next column."""
        self.order = ORDERS[(ORDERS.index(self.order) + 1) % len(ORDERS)]
        self.again()
        return self.order

    def list_rows(self, frame: Frame) -> None:
        snapshot = frame.snapshot
        listed = self.fitting(snapshot.jobs, frame.data_now)
        if self.order.key is not None:
            listed = sorted(listed, key=self.order.key)  # type: ignore[arg-type]
        self.rows.take(listed, snapshot.by_key, frame.now, Departures(snapshot).why)

    # -- drawing ---------------------------------------------------------------------------------------------------
    def heads(self, frame: Frame, width: int) -> Line:
        line = Line(frame.palette)
        for column in columns(width):
            title = f"{column.title} {shape('▾')}" if column.id == self.order.column else column.title
            if column.right:
                line.right(title, "dim", end=column.end)
            else:
                line.to(column.start).put(title, "dim")
        return line

    def draw(self, frame: Frame, row: JobView, line: Line, chosen: bool, width: int) -> None:
        for column in columns(width):
            text, role = self._cell(frame, row, column)
            if column.id == "state":
                line.sign(STANDINGS[row.standing])
            elif column.id == "name":
                _put_name(line.to(column.start), row, column.width, chosen)
            elif column.id == "cause":
                _put_cause(line.to(column.start), row, column.width)
            elif column.right:
                line.right(text, role, end=column.end)
            else:
                line.to(column.start).put(elide_middle(text, column.width, shape("⋯")), role)

    def _cell(self, frame: Frame, job: JobView, column: Column) -> tuple[str, str]:
        """The text and role of a plain cell; ``-`` where there is nothing to tell."""
        now = frame.data_now
        match column.id:
            case "fails" if job.failures:
                text = str(job.failures) if job.limit is None else f"{job.failures}/{job.limit}"
                return text, "amber" if job.standing in ("cycling", "suspect") else "soft"
            case "for" if job.claimed_at is not None:
                since = held_for(seconds_between(job.claimed_at, now))
                return since, "amber" if job.owner_alive is False else "text"
            case "owner" if job.owner is not None:
                return who(job.owner), "red" if job.owner_alive is False else "text"
            case "owner" if job.hold_until is not None:
                return next_try(job, now), "soft"
            case "prio":
                known = "" if job.problem and not job.entry.workable else PRIORITIES.get(job.priority, job.priority)
                return known, "text" if job.priority in URGENT else "dim"
            case "age":
                return age(seconds_between(job.entry.created_at, now)), "dim"
            case "posted":
                return job.entry.created_at.strftime("%H:%M"), "dim"
        return "-", "line"

    def draw_ghost(self, _frame: Frame, ghost: Ghost[JobView], line: Line, width: int) -> None:
        name_at = next(column for column in columns(width) if column.id == "name")
        line.put("gone", "dim").to(name_at.start)
        _put_gone(line, ghost, name_at.width, width - 1)

    def below_fold(self, line: Line) -> None:
        super().below_fold(line)
        if self.rows.below or self.rows.top:
            line.put(f", {self.order.told}", "dim")

    def empty(self, frame: Frame) -> Sequence[Line]:
        def says(text: str, role: str = "soft") -> Line:
            return Line(frame.palette).to(3).put(text, role)

        snapshot = frame.snapshot
        if self.chosen and snapshot.total:
            return self.nothing_fits(frame, jobs(snapshot.total))
        if frame.lost or not snapshot.complete:
            return [Line(frame.palette), says("The board has not been read yet")]
        return [
            Line(frame.palette),
            says("No jobs on this board", "text"),
            Line(frame.palette),
            says("Post one:"),
            says("  conductor-console jobs post BOARD --store URL \\"),
            says("    --factory pkg.mod:function --name NAME"),
            says("It shows up here by itself."),
        ]


def _put_name(line: Line, job: JobView, cells: int, chosen: bool) -> None:
    role = "soft" if job.standing == "waiting" and not chosen else "text"
    problem = job.problem or ("may not be read" if not job.entry.access else "")
    if not problem or job.entry.workable:
        line.put(elide_middle(job.name, cells, shape("⋯")), role, bold=chosen)
        return
    name = elide_middle(job.name, min(cells, max(13, cells - 24)), shape("⋯"))
    note = f"({size(job.entry.size)}, {problem})" if job.entry.size else f"({problem})"
    line.put(name, role, bold=chosen)
    room = cells - width(name) - 2
    if room >= 8:
        line.gap(2).put(elide_end(note, room, shape("⋯")), "dim")


def _put_gone(line: Line, ghost: Ghost[JobView], cells: int, end: int) -> None:
    """Name and reason; a reason for which there is no room beside the name takes of the name's cells."""
    spare = end - line.cells - 2 - width(ghost.why)
    name = min(cells, max(GONE_NAME, spare))
    start = line.cells
    line.put(elide_middle(ghost.item.name, name, shape("⋯")), "dim").to(start + name + 2)
    line.put(elide_end(ghost.why, max(8, end - line.cells), shape("⋯")), "soft")


def _put_cause(line: Line, job: JobView, cells: int) -> None:
    cause = job.cause
    if cause is None:
        line.put("-", "line")
        return
    kind = elide_end(cause.type, cells, shape("⋯"))
    line.put(kind, "text" if job.failures else "soft")
    room = cells - width(kind) - 2
    if room >= 8 and cause.where:
        line.gap(2).put(elide_front(place(cause), room, shape("⋯")), "dim")
