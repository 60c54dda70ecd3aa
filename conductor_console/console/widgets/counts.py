"""The counts, which add up; or the banner that tells of a lost connection, or of an open circuit breaker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from conductor_console.console.frame import Frame
from conductor_console.console.glyphs import STANDINGS, shape
from conductor_console.console.paint import Line
from conductor_console.console.widgets.panel import Panel
from conductor_console.console.widgets.tabs import VIEWS
from conductor_console.console.words import seconds_between
from conductor_console.jobboards.breaker import Breaker
from conductor_console.observatory.snapshot import STANDINGS as ORDER
from conductor_console.observatory.snapshot import Snapshot
from conductor_console.text import age, clock_time, elide_end, plural, visible, width

#: These are told also when there are none: a count that comes and goes would move its neighbours.
ALWAYS = frozenset({"cycling", "held", "claimed", "waiting", "binned"})

#: What an open circuit breaker means.
MEANS: Final = "no failure counts, nothing is binned"


class Counts(Panel):
    """One line."""

    DEFAULT_CSS = """
    Counts { height: 1; }
    """

    def lines(self, frame: Frame, width: int) -> Sequence[Line]:
        if frame.lost:
            return [_banner(frame, width)]
        breaker = frame.snapshot.breaker
        return [self.counts(frame, width) if breaker is None else _open(breaker, frame, width)]

    def counts(self, frame: Frame, width: int) -> Line:
        """The line while all is well; views other than jobs have their own."""
        snapshot = frame.snapshot
        end = width - 1
        line = Line().gap(1)
        between = 3 if frame.fold.product else 2
        note = counting_note(snapshot)
        tail = note or views_hint(frame)
        least = end - (len(tail) + 2 if tail and not note else 0)
        total = f"{snapshot.total:,}"
        line.put(total, "text", bold=True).gap(1).put("job" if snapshot.total == 1 else "jobs", "soft")
        for standing in ORDER:
            count = snapshot.counts.get(standing, 0)
            if not count and standing not in ALWAYS:
                continue
            sign = STANDINGS[standing]
            if line.cells + between + len(f"{count:,} {sign.word}") > least:
                break
            role = "dim" if not count else "soft" if sign.role == "dim" else sign.role
            line.gap(between).put(f"{count:,}", role, bold=count > 0)
            line.gap(1).put(sign.word, "soft" if count else "dim")
        room = end - line.cells - between
        if tail and room >= min(len(tail), 24):
            line.right(elide_end(tail, room, shape("⋯")), "amber" if snapshot.uncounted else "dim", end=end)
        return line


def counting_note(snapshot: Snapshot) -> str:
    """What the numbers of attempts leave out, or are worth; empty where they are whole and shared."""
    if snapshot.uncounted:
        return f"! attempts are counted here alone: {visible(snapshot.uncounted, 120)}"
    if snapshot.unseen and snapshot.unseen_since is not None:
        number = plural(snapshot.unseen, "claim")
        return f"up to {number} unseen since {clock_time(snapshot.unseen_since)}"
    return "read only: attempts are counted here alone" if snapshot.counted_here else ""


def views_hint(frame: Frame) -> str:
    """Where the tabs are folded: how to get to the other views."""
    return "" if frame.fold.tabs else f"1-{len(VIEWS)} views"


def _open(breaker: Breaker, frame: Frame, cells: int) -> Line:
    """One amber line: for how long, why, what that means, and the key that closes it; the last two go first."""
    line = _why(breaker, frame, cells)
    if line.cells + len(MEANS) + 2 < cells:
        line.put(f"; {MEANS}", "soft")
    key = f"c {'asks the store' if breaker.kind == 'store' else 'closes it'}"
    if not frame.read_only and line.cells + 3 + len(key) < cells:
        line.gap(3).put(key, "dim")
    return line


def unsaid(frame: Frame, cells: int) -> str:
    """What an open breaker means, where its banner has no room for that; empty otherwise."""
    breaker = frame.snapshot.breaker
    if breaker is None or frame.lost or _why(breaker, frame, cells).cells + len(MEANS) + 2 < cells:
        return ""
    return f"While the breaker is open {MEANS}"


def _why(breaker: Breaker, frame: Frame, cells: int) -> Line:
    line = Line(ground="amber-ground").glyph("▌", "amber").gap(1).glyph("!", "amber", bold=True).gap(1)
    since = seconds_between(breaker.since or frame.now, frame.now)
    line.put(f"Breaker open {age(since)}", "amber", bold=True).put(": ")
    why = visible(breaker.why, 200)
    return line.put(elide_end(why, cells - 1 - line.cells, shape("⋯")), "text")


def _banner(frame: Frame, cells: int) -> Line:
    """One red line: since when, when it is tried again, why, and of when the data is. The reason goes first."""
    connection = frame.snapshot.connection
    line = Line(ground="red-ground").glyph("▌", "red").gap(1).glyph("✗", "red", bold=True).gap(1)
    if connection.state == "closed":
        line.put("Connection closed", "red", bold=True)
    else:
        since = seconds_between(connection.since, frame.now)
        ago = f"{since:.0f} s" if since < 120 else age(since)
        line.put(f"Connection lost {ago} ago", "red", bold=True)
    if connection.next_try is not None:
        line.gap(3).put("next try in ").put(f"{seconds_between(frame.now, connection.next_try):.0f} s", bold=True)
    elif connection.state == "lost":
        # A client that tries every moment has no countdown worth the name.
        line.gap(3).put("tried again all the time")
    dated = clock_time(frame.snapshot.taken_at) if frame.fold.product else f"{frame.snapshot.taken_at:%H:%M:%SZ}"
    data = 3 + len("data of ") + len(dated)
    detail = visible(connection.detail, 200)
    room = cells - 1 - line.cells - data - 3
    if detail and room >= min(12, width(detail)):
        line.gap(3).put(elide_end(detail, room, shape("⋯")), "soft")
    if line.cells + data < cells:
        line.gap(3).put("data of ", "soft").put(dated, bold=True)
    return line
