"""The attempts of the selected job: what came of each, when, how long, by whom, and why."""

from __future__ import annotations

from collections.abc import Sequence

from conductor_console.console.frame import Frame
from conductor_console.console.glyphs import OUTCOMES, RUNNING, shape
from conductor_console.console.paint import Line
from conductor_console.console.theme import Palette
from conductor_console.console.widgets.panel import Panel
from conductor_console.console.words import failed_of, held_for, place, seconds_between, who
from conductor_console.jobboards.attempts import Attempt
from conductor_console.observatory.snapshot import JobView
from conductor_console.text import age, elide_end, elide_middle, width


class Attempts(Panel):
    """A section of the first screen; its height tells how many attempts are shown, newest first."""

    job: JobView | None = None

    def show(self, job: JobView | None) -> None:
        """Shows another job's attempts; None: there is no job to show."""
        if job is not self.job:
            self.job = job
            self.redraw()

    def lines(self, frame: Frame, width: int) -> Sequence[Line]:
        job, palette = self.job, frame.palette
        if job is None:
            return ()
        short = not frame.fold.product
        note = failed_of(job, short=short)
        title = elide_middle(job.name, max(12, width - 6 - len(note)), shape("⋯"))
        drawn = [Line(palette).gap(1).section(title, note, end=width - 1)]
        return drawn + attempt_lines(job.attempts, frame, palette, width, self.size.height - 1)


def attempt_lines(
    attempts: Sequence[Attempt], frame: Frame, palette: Palette, cells: int, count: int, chosen: int | None = None
) -> list[Line]:
    """The newest ``count`` attempts, one a line; ``chosen`` is the place of the one with the cursor, if any."""
    drawn = []
    for index, attempt in enumerate(attempts[:count]):
        before = attempts[index - 1] if index else None
        line = Line(palette, ground="sel" if index == chosen else "bg")
        if index == chosen:
            line.glyph("▌", "accent")
        _attempt(line, attempt, before, frame, cells)
        drawn.append(line)
    return drawn


def _attempt(line: Line, attempt: Attempt, before: Attempt | None, frame: Frame, cells: int) -> None:
    """``before`` is the attempt on the line above, to tell where a cause is the same."""
    now = frame.data_now
    sign = OUTCOMES[attempt.outcome] if attempt.outcome is not None else RUNNING
    line.right(f"#{attempt.n}", "dim", end=4).to(5).sign(sign)
    ended = attempt.ended or now
    told = "now" if attempt.open else f"{age(seconds_between(ended, now))} ago"
    line.right(told, "soft", end=25).right(held_for(seconds_between(attempt.began, ended)), "text", end=31)
    room = 26 if cells >= 110 else 12 if cells >= 100 else 10
    owner = elide_middle(who(attempt.who), room, shape("⋯"))
    line.to(33).put(owner, "soft").to(max(43, 35 + width(owner)))
    _why(line, attempt, before, frame, cells)


def _why(line: Line, attempt: Attempt, before: Attempt | None, frame: Frame, cells: int) -> None:
    room = cells - 1 - line.cells
    error = attempt.error
    if attempt.open:
        if attempt.flow:
            told = frame.step(attempt.flow) or f"flow {attempt.flow}"
            line.put(elide_end(told, room, shape("⋯")), "accent")
        return
    if error is None:
        return
    if before is not None and before.error is not None and before.error.fingerprint == error.fingerprint:
        line.put("same cause", "dim")
        return
    if attempt.outcome == "crashed":
        line.put(elide_end(error.message or error.type, room, shape("⋯")))
        return
    line.put(elide_end(error.type, room, shape("⋯")))
    short = place(error, 2 if cells >= 85 else 1)
    room = cells - 1 - line.cells
    if short and width(short) + 2 <= room:
        line.gap(2 if width(short) + 2 <= room else 1).put(short)
        room = cells - 1 - line.cells
    if room >= 20 and error.message:
        line.gap(2).put(elide_end(error.message, room - 2, shape("⋯")), "soft")
