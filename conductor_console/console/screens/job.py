"""The job page: its posting, its claim, its attempts, and the cause of the chosen one in full."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from textwrap import wrap
from typing import ClassVar, Final

from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from conductor_console.console import keys
from conductor_console.console.frame import Frame
from conductor_console.console.glyphs import OUTCOMES, RUNNING, STANDINGS, shape
from conductor_console.console.paint import Line
from conductor_console.console.screens.view import ViewScreen
from conductor_console.console.theme import Palette
from conductor_console.console.widgets.attempts import attempt_lines
from conductor_console.console.widgets.counts import Counts
from conductor_console.console.widgets.panel import Panel
from conductor_console.console.words import Departures, failed_of, held_for, seconds_between, who
from conductor_console.jobboards.attempts import FAILURES, Attempt, Outcome
from conductor_console.masking import masked
from conductor_console.observatory.snapshot import EventView, JobView
from conductor_console.text import age, clock_time, elide_end, elide_middle, size, visible

#: Where the second column of facts begins, where there is room for one.
SECOND: Final = 61


class _Crumb(Counts):
    """Where we are, and how the job stands."""

    job: JobView | None = None
    gone = ""

    def counts(self, _frame: Frame, width: int) -> Line:
        job = self.job
        line = Line().gap(1).put("Jobs ", "dim").glyph("›", "dim").gap(1)
        if job is None:
            return line
        line.put(elide_middle(job.name, max(12, width - 44), shape("⋯")), bold=True).gap(3)
        if self.gone:
            return line.put(elide_end(self.gone, width - 1 - line.cells, shape("⋯")), "soft")
        line.sign(STANDINGS[job.standing], bold=True).gap(2)
        told = ""
        if job.failures:
            told = f"failed {job.failures} of {job.limit}" if job.limit else f"failed {job.failures} times in a row"
            if job.limit is not None and job.failures + 1 >= job.limit:
                told += ", next failure goes to the bin"
        return line.put(elide_end(told, width - 1 - line.cells, shape("⋯")), "soft")


class _Page(Panel, can_focus=True):
    """Everything below the crumb; the cursor is on an attempt, held by its number."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", show=False, tooltip="The attempt above, below"),
        Binding("down,j", "move(1)", show=False, tooltip="The attempt above, below"),
    ]
    job: JobView | None = None
    gone = False
    _number: int | None = None

    def chosen(self) -> int:
        """The place of the attempt with the cursor; until it is moved that is the newest with a cause."""
        attempts = self.job.attempts if self.job else ()
        if self._number is None:
            return next((place for place, attempt in enumerate(attempts) if attempt.error), 0)
        return next((place for place, attempt in enumerate(attempts) if attempt.n == self._number), 0)

    def action_move(self, by: int) -> None:
        attempts = self.job.attempts if self.job else ()
        if attempts:
            self._number = attempts[max(0, min(self.chosen() + by, len(attempts) - 1))].n
            self.redraw()

    def lines(self, frame: Frame, width: int) -> Sequence[Line]:
        job, palette = self.job, frame.palette
        if job is None:
            return ()
        drawn = [*_facts(job, frame, palette, width, gone=self.gone), Line()]
        place = self.chosen()
        below = _cause(job.attempts[place], frame, palette, width) if job.attempts else []
        details = _details(job, palette, width)
        room = max(2, self.size.height - len(drawn) - 2 - len(below) - min(len(details), 5))
        top = max(0, min(place - room + 1, len(job.attempts) - room))
        drawn.append(Line(palette).gap(1).section("Attempts", failed_of(job), end=width - 1))
        if not job.attempts:
            drawn.append(Line(palette).gap(2).put("nobody has tried it yet", "dim"))
        drawn += attempt_lines(job.attempts[top:], frame, palette, width, room, place - top)
        return [*drawn, *below, *details]


def _facts(job: JobView, frame: Frame, palette: Palette, width: int, *, gone: bool) -> list[Line]:
    entry, now = job.entry, frame.data_now
    posted = f"{clock_time(entry.created_at)}, {age(seconds_between(entry.created_at, now))} ago"
    claim = ("nobody holds it", "text")
    if job.owner is not None and not gone:
        held = f", for {held_for(seconds_between(job.claimed_at, now))}" if job.claimed_at else ""
        dead = ", conductor gone" if job.owner_alive is False else ""
        claim = (f"{who(job.owner)}{held}{dead}", "red" if dead else "text")
    if gone:
        trial = ("none, it is not on the board", "text")
    elif job.hold_until is not None and job.owner is None:
        wait = held_for(seconds_between(now, job.hold_until))
        trial = (f"in {wait}, back-off after a failure", "amber")
    else:
        trial = ("under way" if job.owner else "as soon as a conductor is free", "text")
    book = visible(entry.book_name or entry.book_uuid or "none", 80)
    left = [
        ("uuid", entry.uuid or "none", "text"),
        ("posted", posted, "text"),
        ("priority", job.priority.lower().replace("_", " "), "text"),
        ("node", f"{entry.node}, {size(entry.size)}" if entry.size else entry.node, "soft"),
    ]
    right = [
        ("claim", *claim),
        ("next try", *trial),
        ("logbook", book, "text"),
        ("flow", entry.flow_uuid or "-", "soft"),
    ]
    if job.problem:
        right[2] = ("problem", job.problem, "red")
    second = SECOND if width >= 118 else 0
    drawn = [Line(palette)]
    pairs = zip(left, right, strict=True) if second else ((pair, None) for pair in left + right)
    for one, two in pairs:
        line = Line(palette).gap(1).put(one[0], "dim").to(11)
        line.put(elide_end(visible(one[1]), (second or width) - 13, shape("⋯")), one[2])
        if two is not None:
            line.to(second).put(two[0], "dim").to(second + 10)
            line.put(elide_end(visible(two[1]), width - second - 11, shape("⋯")), two[2])
        drawn.append(line)
    return drawn


def _cause(attempt: Attempt, frame: Frame, palette: Palette, width: int) -> list[Line]:
    """The cause of one attempt in full, or that there is none."""
    sign = OUTCOMES[attempt.outcome] if attempt.outcome else RUNNING
    ended = attempt.ended or frame.data_now
    took = held_for(seconds_between(attempt.began, ended))
    role = "red" if attempt.outcome in FAILURES else "text"
    title = f"#{attempt.n} {sign.word} {'for' if attempt.open else 'after'} {took}"
    note = f"{who(attempt.who)}, began {clock_time(attempt.began)}"
    drawn = [Line(palette), Line(palette).gap(1).section(title, note, end=width - 1, role=role)]
    error = attempt.error
    if error is None:
        flow = f"flow {attempt.flow}" if attempt.flow else "nothing more is known"
        return [*drawn, Line(palette).gap(2).put(flow, "soft")]
    message = visible(error.message)
    first = Line(palette).gap(2).put(error.type, "red", bold=True)
    rest = wrap(f"{visible(error.type)}: {message}", max(20, width - 4))[:4]
    if rest:
        first.put(rest[0][len(visible(error.type)) :])
    drawn += [first, *(Line(palette).gap(4).put(text) for text in rest[1:])]
    where = f"{error.where}   " if error.where else ""
    return [*drawn, Line(palette).gap(2).put(where, "soft").put(f"cause {error.fingerprint}", "dim")]


def _details(job: JobView, palette: Palette, width: int) -> list[Line]:
    """The posting's details, secrets masked."""
    if not job.entry.details:
        return []
    drawn = [Line(palette), Line(palette).gap(1).section("Details", "secrets masked", end=width - 1)]
    for key, value in masked(job.entry.details).items():
        text = value if isinstance(value, str) else json.dumps(value, default=str)
        line = Line(palette).gap(2).put(elide_end(visible(key), 20, shape("⋯")), "soft").to(23)
        drawn.append(line.put(elide_end(visible(text, 4 * width), width - 24, shape("⋯"))))
    return drawn


def _ended(job: JobView, ending: EventView | None, at: datetime) -> JobView:
    """A job that has left the board: its last attempt runs no more, whether or not anybody told how it ended."""
    if not job.attempts or not (job.attempts[0].open or job.attempts[0].outcome == "unknown"):
        return job
    outcome: Outcome = "unknown" if ending is None else "consumed" if ending.kind == "done" else "failed"
    last = replace(job.attempts[0], outcome=outcome, ended=ending.at if ending else at)
    return replace(job, attempts=(last, *job.attempts[1:]))


class JobScreen(ViewScreen):
    """Pushed over the first screen; it follows its job for as long as it is there, and says why when it has gone."""

    view = "jobs"
    AUTO_FOCUS = "_Page"
    BINDINGS: ClassVar[list[BindingType]] = [
        keys.BACK,
        keys.REPLAY,
        keys.RETRY,
        keys.BIN,
        keys.DELETE,
        keys.RELEASE,
        keys.HOLD,
        keys.UNDO,
        keys.TRACEBACK,
        keys.COPY,
        keys.HELP,
        keys.QUIT,
    ]

    def __init__(self, job: JobView) -> None:
        super().__init__()
        self._job = job
        self._gone = ""
        self._gone_at: datetime | None = None

    def top_line(self) -> Counts:
        return _Crumb()

    def body(self) -> ComposeResult:
        yield _Page()

    def take(self, frame: Frame) -> None:
        found = frame.snapshot.by_key.get(self._job.key)
        if found is not None:
            self._job, self._gone, self._gone_at = found, "", None
        else:
            departures = Departures(frame.snapshot)
            self._gone_at = self._gone_at or frame.data_now
            self._gone = departures.why(self._job.key)
            self._job = _ended(self._job, departures.ending(self._job.key), self._gone_at)
        crumb, page = self.query_one(_Crumb), self.query_one(_Page)
        page.gone = bool(self._gone)
        crumb.job, crumb.gone, page.job = self._job, self._gone, self._job
        super().take(frame)

    async def action_view(self, view: str) -> None:
        self.dismiss()
        if view != self.view:
            await super().action_view(view)

    def action_back(self) -> None:
        self.dismiss()

    def _targets(self) -> list[JobView]:
        if self._gone:
            self.console_app.say("That job is gone", "amber")
            return []
        return [self._job]

    def action_bin(self) -> None:
        if targets := self._targets():
            self.console_app.acts.bin(targets)

    def action_delete(self) -> None:
        if targets := self._targets():
            self.console_app.acts.delete(targets)

    def action_retry(self) -> None:
        if targets := self._targets():
            self.console_app.acts.retry(targets)

    def action_hold(self) -> None:
        if targets := self._targets():
            self.console_app.acts.hold(targets)

    def action_release(self) -> None:
        if targets := self._targets():
            self.console_app.acts.release(targets)

    def action_traceback(self) -> None:
        self.console_app.acts.traceback([self._job])

    def action_replay(self) -> None:
        self.console_app.acts.replay(self._job.entry, self._job.name)

    def action_copy(self) -> None:
        self.console_app.copy(f"{self._job.name}\n{self.query_one(_Page).text}", "the page")
