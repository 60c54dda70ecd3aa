"""The last line: the keys of what is on screen, made from its bindings; and the notice line above it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from textual.binding import Binding
from textual.widgets import Input

from conductor_console.console.frame import Frame, Progress
from conductor_console.console.glyphs import shape
from conductor_console.console.keys import FIRST_TO_GO, acting
from conductor_console.console.paint import Line
from conductor_console.console.widgets.counts import unsaid
from conductor_console.console.widgets.panel import Panel
from conductor_console.console.words import GERUNDS
from conductor_console.text import elide_end


class Footer(Panel):
    """Never cuts a word: a key for which there is no room is dropped, and stays in the help."""

    DEFAULT_CSS = """
    Footer { height: 1; }
    """

    def lines(self, frame: Frame, width: int) -> Sequence[Line]:
        active = self.screen.active_bindings.values()
        typing = self.screen.focused if isinstance(self.screen.focused, Input) else None
        # While something is typed the other keys are text.
        shown = _unique(one.binding for one in active if one.binding.show and typing in (None, one.node))
        # There is something to stop only while many jobs are acted upon.
        shown = [binding for binding in shown if binding.action != "stop_act" or frame.progress is not None]
        withheld = [binding for binding in shown if acting(binding)] if frame.lost or frame.read_only else []
        tail = ""
        if withheld and not frame.read_only:
            tail = " ".join(_key(binding) for binding in withheld if binding.action != "undo") + " wait for the board"
        kept = [binding for binding in shown if binding not in withheld]
        return [_keys(kept, tail, width)]


def _unique(bindings: Iterable[Binding]) -> list[Binding]:
    """One binding an action: the first of several keys is the one to tell."""
    seen: dict[str, Binding] = {}
    for binding in bindings:
        seen.setdefault(binding.action, binding)
    return list(seen.values())


def _key(binding: Binding) -> str:
    return shape(binding.key_display or binding.key)


def _keys(bindings: Sequence[Binding], tail: str, width: int) -> Line:
    kept = list(bindings)
    room = width - 2 - (len(tail) + 3 if tail else 0)

    def needed(between: int) -> int:
        return sum(len(_key(one)) + 1 + len(one.description) for one in kept) + between * (len(kept) - 1)

    for action in FIRST_TO_GO:
        if needed(2) <= room:
            break
        kept = [binding for binding in kept if binding.action != action]
    between = 3 if needed(3) <= room else 2
    line = Line().gap(1)
    for place, binding in enumerate(kept):
        line.gap(between if place else 0).put(_key(binding), "accent", bold=True).gap(1)
        line.put(binding.description, "soft")
    return line.right(tail, "dim", end=width - 1) if tail else line


class Notice(Panel):
    """One line of what just happened; empty most of the time."""

    DEFAULT_CSS = """
    Notice { height: 1; }
    """

    standing: Callable[[], tuple[str, str]] | None = None
    """What to tell while there is nothing newer, and its role; asked each time it is drawn."""

    def lines(self, frame: Frame, width: int) -> Sequence[Line]:
        if frame.progress is not None:
            return [progress_line(frame.progress, width)]
        text, role = frame.notice
        if not text and self.standing is not None:
            text, role = self.standing()
        if not text and not frame.fold.tiny:
            text, role = unsaid(frame, width), "amber"
        elif not text:
            text, role = f"80x24 needed, this is {frame.fold.width}x{frame.fold.height}", "amber"
        return [Line().gap(1).put(elide_end(text, width - 2, shape("⋯")), role)]


def progress_line(progress: Progress, width: int) -> Line:
    """``Moving to the bin  =====-----  3,210 of 10,000  x stops it``."""
    done = f"{progress.done:,} of {progress.total:,}"
    end = "no more is begun" if progress.stopped else "x stops it"
    line = Line().gap(1).put(GERUNDS[progress.verb]).gap(2)
    cells = max(0, min(40, width - line.cells - len(done) - len(end) - 6))
    full = cells * progress.done // max(1, progress.total)
    line.glyph("━" * full, "accent").glyph("─" * (cells - full), "line").gap(2 if cells else 0)
    return line.put(done).gap(2).put(end, "amber" if progress.stopped else "soft")
