"""The claims: who holds what, since when, by which session; those whose owner is no live conductor come first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType

from conductor_console.console import keys
from conductor_console.console.frame import Frame
from conductor_console.console.glyphs import STANDINGS, shape
from conductor_console.console.paint import Line
from conductor_console.console.rows import Ghost
from conductor_console.console.screens.acting import JobsView
from conductor_console.console.widgets.attempts import Attempts
from conductor_console.console.widgets.counts import Counts, views_hint
from conductor_console.console.widgets.filtered_table import FilteredTable
from conductor_console.console.words import Departures, held_for, seconds_between, who
from conductor_console.observatory.snapshot import JobView
from conductor_console.text import elide_middle, plural, visible


def claims(jobs: Sequence[JobView]) -> list[JobView]:
    """The claimed jobs: suspects first, then by owner, the longest held first."""
    return sorted((job for job in jobs if job.owner is not None), key=_order)


def _order(job: JobView) -> tuple[bool, str, float, str]:
    since = job.claimed_at.timestamp() if job.claimed_at is not None else 0.0
    return (job.owner_alive is not False, job.owner or "", since, job.key)


class _ClaimCounts(Counts):
    def counts(self, frame: Frame, width: int) -> Line:
        held = [job for job in frame.snapshot.jobs if job.owner is not None]
        suspects = sum(1 for job in held if job.owner_alive is False)
        owners = len({job.owner for job in held})
        line = Line().gap(1).put(f"{len(held):,}", bold=True).gap(1)
        line.put("claim" if len(held) == 1 else "claims", "soft")
        line.gap(3).put(f"{owners:,}", "accent", bold=True).gap(1).put("owner" if owners == 1 else "owners", "soft")
        line.gap(3).put(f"{suspects:,}", "amber" if suspects else "dim", bold=suspects > 0).gap(1)
        line.put("held by no live conductor", "soft" if suspects else "dim")
        hint = views_hint(frame)
        return line.right(hint, "dim", end=width - 1) if hint else line


class ClaimsTable(FilteredTable[JobView]):
    """One line a claim."""

    _of: Sequence[JobView] = ()
    _claims: Sequence[JobView] = ()

    def key_of(self, row: JobView) -> str:
        return row.key

    def view_of(self, row: JobView) -> JobView:
        return row

    def all_rows(self, frame: Frame) -> Sequence[JobView]:
        if frame.snapshot.jobs is not self._of:
            self._of, self._claims = frame.snapshot.jobs, claims(frame.snapshot.jobs)
        return self._claims

    def list_rows(self, frame: Frame) -> None:
        held = self.all_rows(frame)
        departures = Departures(frame.snapshot)

        def why(key: str) -> str:
            return "let go" if key in frame.snapshot.by_key else departures.why(key)

        self.rows.take(self.fitting(held, frame.data_now), {job.key: job for job in held}, frame.now, why)

    @staticmethod
    def _columns(cells: int) -> tuple[int, int, int, int]:
        """Cells of the owner, where the name begins, where the time held ends, where the session begins."""
        owner = 14 if cells < 100 else 22
        name = 16 + owner + 2
        held = cells - (36 if cells >= 100 else 16)
        return owner, name, held, held + 2

    def heads(self, frame: Frame, width: int) -> Line:
        _, name, held, session = self._columns(width)
        line = Line(frame.palette).to(3).put("state", "dim").to(16).put("owner", "dim").to(name).put("job", "dim")
        return line.right("for", "dim", end=held).to(session).put("session", "dim")

    def draw(self, frame: Frame, row: JobView, line: Line, chosen: bool, width: int) -> None:
        owner, name, held, session = self._columns(width)
        dead = row.owner_alive is False
        line.sign(STANDINGS[row.standing]).to(16)
        line.put(elide_middle(who(row.owner or "-"), owner, shape("⋯")), "red" if dead else "text", bold=chosen)
        line.to(name).put(elide_middle(row.name, held - name - 9, shape("⋯")), bold=chosen)
        since = held_for(seconds_between(row.claimed_at, frame.data_now)) if row.claimed_at else "-"
        line.right(since, "amber" if dead else "text", end=held).to(session)
        claim = row.entry.claim
        told = visible(claim.session, 80) if claim is not None and claim.session else "-"
        line.put(elide_middle(told, width - 1 - session, shape("⋯")), "line" if told == "-" else "soft")

    def draw_ghost(self, _frame: Frame, ghost: Ghost[JobView], line: Line, width: int) -> None:
        _, name, held, _ = self._columns(width)
        line.put("gone", "dim").to(16).put(elide_middle(who(ghost.item.owner or "-"), name - 18, shape("⋯")), "dim")
        line.to(name).put(elide_middle(ghost.item.name, held - name - 9, shape("⋯")), "dim")
        line.gap(2).put(ghost.why, "soft")

    def empty(self, frame: Frame) -> Sequence[Line]:
        if self.chosen and self.total:
            return self.nothing_fits(frame, plural(self.total, "claim"))
        return [Line(frame.palette), Line(frame.palette).to(3).put("Nobody holds any job", "soft")]


class ClaimsScreen(JobsView):
    """What is known of the attempts of the chosen claim's job stands below."""

    view = "claims"
    AUTO_FOCUS = "ClaimsTable"
    BINDINGS: ClassVar[list[BindingType]] = [
        keys.OPEN,
        keys.MARK,
        keys.MARK_ALL,
        keys.FILTER,
        keys.BIN,
        keys.DELETE,
        keys.shown(keys.RELEASE),
        keys.UNDO,
        keys.REPLAY,
        keys.COPY,
        keys.CLEAR,
        keys.HELP,
        keys.QUIT,
    ]

    def top_line(self) -> Counts:
        return _ClaimCounts()

    def body(self) -> ComposeResult:
        yield ClaimsTable()
        yield Attempts()
        yield from self.filter_line()

    def take(self, frame: Frame) -> None:
        attempts = self.query_one(Attempts)
        attempts.display = not frame.fold.tiny
        attempts.styles.height = frame.fold.attempts + 1
        super().take(frame)
        self.show_attempts()
