"""The failures by cause: how often, since when, on which conductors, which jobs; what acts, acts on all of these."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import ClassVar, Final

from textual.app import ComposeResult
from textual.binding import BindingType

from conductor_console.console import keys
from conductor_console.console.frame import Frame
from conductor_console.console.glyphs import STANDINGS, shape
from conductor_console.console.messages import CursorMoved, Opened
from conductor_console.console.paint import Line
from conductor_console.console.rows import Ghost
from conductor_console.console.screens.view import ViewScreen
from conductor_console.console.theme import Palette
from conductor_console.console.widgets.counts import Counts, views_hint
from conductor_console.console.widgets.keyed_table import KeyedTable
from conductor_console.console.widgets.panel import Panel
from conductor_console.console.widgets.side import MANY, sparkline
from conductor_console.console.words import jobs, next_try, place, seconds_between, who
from conductor_console.observatory.causes import BAR
from conductor_console.observatory.groups import CauseGroup, cause_groups
from conductor_console.observatory.snapshot import JobView, Snapshot
from conductor_console.text import age, elide_end, elide_front, elide_middle, plural, visible

#: Cells of the hour's bars, of five minutes each.
BARS: Final = 12
#: Where the conductors stand, where there is room beside the jobs.
ASIDE: Final = 40


def bars(group: CauseGroup, frame: Frame) -> str:
    """The last hour in bars of five minutes, the newest at the right."""
    last = int(frame.data_now.timestamp()) // BAR
    counts = dict(group.bars)
    heights = [counts.get(last - BARS + 1 + place, 0) for place in range(BARS)]
    return sparkline(heights, BARS, max(heights)) if any(heights) else ""


class _FailureCounts(Counts):
    def counts(self, frame: Frame, width: int) -> Line:
        causes = frame.snapshot.causes
        failures = sum(cause.count for cause in causes)
        line = Line().gap(1).put(f"{failures:,}", bold=True).gap(1)
        line.put(f"{'failure' if failures == 1 else 'failures'} in the last hour", "soft")
        cycling = frame.snapshot.counts.get("cycling", 0)
        line.gap(3).put(f"{cycling:,}", "amber" if cycling else "dim", bold=cycling > 0).gap(1).put("cycling", "soft")
        hint = views_hint(frame)
        return line.right(hint, "dim", end=width - 1) if hint else line


class CausesTable(KeyedTable[CauseGroup]):
    """One line a cause, worst first."""

    _of: tuple[object, object, object] = (None, None, None)
    _groups: Sequence[CauseGroup] = ()

    def key_of(self, row: CauseGroup) -> str:
        return row.fingerprint

    def groups(self, snapshot: Snapshot) -> Sequence[CauseGroup]:
        """The groups of a picture, made once."""
        made_of = snapshot.jobs, snapshot.causes, snapshot.binned
        if any(new is not old for new, old in zip(made_of, self._of, strict=True)):
            self._of, self._groups = made_of, cause_groups(snapshot)
        return self._groups

    def list_rows(self, frame: Frame) -> None:
        groups = self.groups(frame.snapshot)
        present = {group.fingerprint: group for group in groups}
        self.rows.take(groups, present, frame.now, lambda _: "no job fails so any more")

    @staticmethod
    def _columns(cells: int) -> tuple[int, int, int, bool]:
        """Where the place begins, where the numbers of jobs and of ages end, and whether there is room for bars."""
        wide = cells >= 100
        last = cells - 1 - (2 + BARS if wide else 0)
        return 10 + (24 if wide else 26) + 2, last - 7, last, wide

    def heads(self, frame: Frame, width: int) -> Line:
        where, jobs, last, wide = self._columns(width)
        line = Line(frame.palette).right("count", "dim", end=8).to(10).put("cause", "dim").to(where).put("where", "dim")
        line.right("jobs", "dim", end=jobs).right("last", "dim", end=last)
        return line.gap(2).put("last hour", "dim") if wide else line

    def draw(self, frame: Frame, row: CauseGroup, line: Line, chosen: bool, width: int) -> None:
        where, jobs, last, wide = self._columns(width)
        many = row.count >= MANY
        count = f"{row.count:,}x" if row.count else "-"
        line.right(count, "amber" if many else "text" if row.count else "line", end=8, bold=many)
        line.to(10).put(elide_end(row.example.type, where - 12, shape("⋯")), bold=chosen).to(where)
        room = jobs - 6 - where
        told = elide_front(place(row.example), room, shape("⋯")) or elide_end(row.example.message, room, shape("⋯"))
        line.put(told, "soft").right(f"{row.affected:,}", end=jobs)
        line.right(age(seconds_between(row.last, frame.data_now)), "dim", end=last)
        if wide:
            line.gap(2).glyph(bars(row, frame), "amber" if many else "soft")

    def draw_ghost(self, _frame: Frame, ghost: Ghost[CauseGroup], line: Line, width: int) -> None:
        where = self._columns(width)[0]
        line.to(10).put(elide_end(ghost.item.example.type, where - 12, shape("⋯")), "dim").to(where)
        line.put(ghost.why, "soft")

    def empty(self, frame: Frame) -> Sequence[Line]:
        said = "No job fails, none failed in the last hour"
        return [Line(frame.palette), Line(frame.palette).to(3).put(said, "soft")]


class GroupDetail(Panel):
    """The chosen cause: its message and place, its jobs, its conductors."""

    group: CauseGroup | None = None

    def show(self, group: CauseGroup | None) -> None:
        """Shows another cause; None: there is none."""
        if group is not self.group:
            self.group = group
            self.redraw()

    def lines(self, frame: Frame, width: int) -> Sequence[Line]:
        group, palette, height = self.group, frame.palette, self.size.height
        if group is None:
            return ()
        first = age(seconds_between(group.first, frame.data_now))
        last = age(seconds_between(group.last, frame.data_now))
        note = f"cause {visible(group.fingerprint, 16)}, first {first} ago, last {last} ago"
        title = elide_end(group.example.type, max(12, width - len(note) - 6), shape("⋯"))
        drawn = [Line(palette).gap(1).section(title, note, end=width - 1)]
        message = wrap(group.example.message, max(20, width - 4))[: 2 if height > 10 else 1]
        drawn += [Line(palette).gap(2).put(part) for part in message]
        if group.example.where:
            drawn.append(Line(palette).gap(2).put(elide_front(group.example.where, width - 4, shape("⋯")), "dim"))
        aside = width >= 100
        if not aside and group.conductors:
            drawn.append(_in_a_line(group, palette, width))
        if height > 10:
            drawn.append(Line(palette))
        told = "What acts on a cause acts on all its jobs; they are listed first."
        room = height - len(drawn) - 1
        drawn += _beside(group, frame, palette, width, room) if aside else _jobs(group, frame, palette, width, room)
        drawn += [Line(palette)] * (height - len(drawn) - 1)
        return [*drawn[: height - 1], Line(palette).gap(1).put(elide_end(told, width - 2, shape("⋯")), "soft")]


def _in_a_line(group: CauseGroup, palette: Palette, cells: int) -> Line:
    line = Line(palette).gap(2).put("on", "dim")
    for place_, (name, count) in enumerate(group.conductors):
        text = f"{elide_middle(_conductor(name), 20, shape('⋯'))} {count:,}x"
        left = len(group.conductors) - place_
        if line.cells + 2 + len(text) + 10 > cells:
            return line.gap(2).put(f"{left:,} more", "dim")
        line.gap(2 if place_ else 1).put(text, "soft")
    return line


def _conductor(name: str) -> str:
    return who(name) if name else "not known"


def _jobs(group: CauseGroup, frame: Frame, palette: Palette, cells: int, room: int) -> list[Line]:
    """Its jobs, as many as there is room for, and how many more there are."""
    count = group.affected
    drawn = [Line(palette).gap(2).put(f"{jobs(count)} fail{'s' if count == 1 else ''} for this reason", bold=True)]
    listed = [_job(job, frame, palette, cells) for job in group.jobs]
    for entry in group.binned:
        tries = f"{entry.record.failures}x" if entry.record is not None else ""
        listed.append(_row("binned", entry.name, "in the bin", tries, palette, cells))
    fitting = listed if len(listed) < room and not group.left else listed[: max(0, room - 2)]
    drawn += fitting
    more = [f"{len(listed) - len(fitting):,} more, enter lists them"] if len(fitting) < len(listed) else []
    more += [f"{group.left:,} left the board"] if group.left else []
    return [*drawn, Line(palette).gap(2).put(", ".join(more), "dim")] if more else drawn


def _job(job: JobView, frame: Frame, palette: Palette, cells: int) -> Line:
    tries = f"{job.failures}/{job.limit}" if job.limit is not None else f"{job.failures}x"
    holder = who(job.owner) if job.owner else next_try(job, frame.data_now) or "nobody"
    return _row(job.standing, job.name, holder, tries, palette, cells)


def _row(standing: str, name: str, holder: str, tries: str, palette: Palette, cells: int) -> Line:
    line = Line(palette).gap(2).sign(STANDINGS[standing]).to(15)  # type: ignore[index]
    room = max(12, min(60, cells - 15 - 24))
    line.put(elide_middle(visible(name), room, shape("⋯"))).to(15 + room + 1).right(
        tries, "soft" if standing == "binned" else "amber", end=15 + room + 7
    )
    return line.gap(2).put(elide_middle(holder, 14, shape("⋯")), "soft")


def _beside(group: CauseGroup, frame: Frame, palette: Palette, cells: int, room: int) -> list[Line]:
    """The jobs at the left, how the conductors share in it at the right."""
    left = _jobs(group, frame, palette, cells - ASIDE, room)
    right = _shares(group, room)
    drawn = []
    for place_ in range(max(len(left), len(right))):
        line = left[place_] if place_ < len(left) else Line(palette)
        if place_ < len(right):
            name, bar, count = right[place_]
            line.to(cells - ASIDE)
            if not count:
                line.put(name, bold=not place_, role="text" if not place_ else "dim")
            else:
                line.put(elide_middle(name, 16, shape("⋯")), "soft").to(cells - ASIDE + 18).glyph("━" * bar, "amber")
                line.right(count, end=cells - 1)
        drawn.append(line)
    return drawn


def _shares(group: CauseGroup, room: int) -> list[tuple[str, int, str]]:
    """Name, cells of its bar, count; a head before them, and what there is no room for after them."""
    told = [(name, count) for name, count in group.conductors if name]
    if not told:
        return []
    many = len(told)
    head = f"On {plural(many, 'conductor')}" if many > 1 else "On one conductor alone"
    shown = told if many < room else told[: max(0, room - 2)]
    most = max(count for _, count in told)
    rows = [(who(name), max(1, round(14 * count / most)), f"{count:,}") for name, count in shown]
    more = [(f"{many - len(shown):,} more", 0, "")] if len(shown) < many else []
    return [(head, 0, ""), *rows, *more]


class FailuresScreen(ViewScreen):
    """What acts here acts on every job of the chosen cause that is on the board."""

    view = "failures"
    AUTO_FOCUS = "CausesTable"
    BINDINGS: ClassVar[list[BindingType]] = [
        keys.LIST,
        keys.shown(keys.RETRY, "retry them"),
        keys.shown(keys.BIN, "bin them"),
        keys.shown(keys.DELETE, "delete them"),
        keys.TRACEBACK,
        keys.UNDO,
        keys.COPY,
        keys.HELP,
        keys.QUIT,
    ]

    def top_line(self) -> Counts:
        return _FailureCounts()

    def body(self) -> ComposeResult:
        yield CausesTable()
        yield GroupDetail()

    def take(self, frame: Frame) -> None:
        detail = self.query_one(GroupDetail)
        detail.display = not frame.fold.tiny
        detail.styles.height = 18 if frame.fold.height >= 32 else 9
        super().take(frame)
        self._show()

    def on_cursor_moved(self, message: CursorMoved) -> None:
        message.stop()
        self._show()

    def _show(self) -> None:
        self.query_one(GroupDetail).show(self.chosen)

    @property
    def chosen(self) -> CauseGroup | None:
        """The cause under the cursor."""
        return self.query_one(CausesTable).rows.current

    def _targets(self) -> Sequence[JobView]:
        group = self.chosen
        if group is None or not group.jobs:
            self.console_app.say("None of its jobs is on the board" if group else "No cause is chosen", "soft")
            return ()
        return group.jobs

    async def on_opened(self, message: Opened) -> None:
        message.stop()
        await self.action_open()

    async def action_open(self) -> None:
        if self._targets() and (group := self.chosen) is not None:
            # A record may be foreign, and hold anything for a fingerprint.
            cause = group.fingerprint if group.fingerprint.isalnum() else f'"{group.fingerprint}"'
            await self.console_app.show_jobs(f"cause:{cause} fails:>0")

    def action_bin(self) -> None:
        if targets := self._targets():
            self.console_app.acts.bin(targets, ask=True)

    def action_delete(self) -> None:
        if targets := self._targets():
            self.console_app.acts.delete(targets)

    def action_retry(self) -> None:
        if targets := self._targets():
            self.console_app.acts.retry(targets, ask=True)

    def action_traceback(self) -> None:
        if targets := self._targets():
            self.console_app.acts.traceback(targets)

    def action_copy(self) -> None:
        group = self.chosen
        if group is not None:
            error = group.example
            rows = [f"{error.type}: {error.message} ({error.where})", f"cause {group.fingerprint}"]
            rows += [f"{job.standing}\t{job.name}\t{job.key}\t{job.failures}" for job in group.jobs]
            self.console_app.copy("\n".join(visible(row) for row in rows), "the cause and its jobs")
