"""What happened, newest first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType

from conductor_console.console import keys
from conductor_console.console.frame import Frame
from conductor_console.console.glyphs import shape
from conductor_console.console.paint import Line
from conductor_console.console.rows import Ghost
from conductor_console.console.screens.view import ViewScreen
from conductor_console.console.widgets.keyed_table import KeyedTable
from conductor_console.observatory.snapshot import EventView
from conductor_console.text import clock_time, elide_end, elide_middle

_RED = frozenset({"crashed", "problem", "failed"})


def _columns(width: int) -> tuple[int, int]:
    """Where the subject begins, and where what happened to it."""
    return (17, 55) if width >= 100 else (14, 42)


def _role(event: EventView) -> str:
    lost = event.kind == "connection" and event.what != "live"
    return "red" if lost or event.kind in _RED else "text"


class EventsTable(KeyedTable[EventView]):
    """The events the observatory keeps."""

    _seen: Sequence[EventView] = ()
    _newest_first: Sequence[EventView] = ()

    def key_of(self, row: EventView) -> str:
        return f"{row.at.isoformat()} {row.kind} {row.key} {row.text}"

    def list_rows(self, frame: Frame) -> None:
        events = frame.snapshot.events
        if events is not self._seen:
            self._seen = events
            self._newest_first = sorted(events, key=lambda event: event.at, reverse=True)
        listed = self._newest_first
        self.rows.take(listed, {self.key_of(event): event for event in listed}, frame.now)

    def heads(self, frame: Frame, width: int) -> Line:
        whom, what = _columns(width)
        return Line(frame.palette).to(3).put("when", "dim").to(whom).put("whom", "dim").to(what).put("what", "dim")

    def draw(self, frame: Frame, row: EventView, line: Line, chosen: bool, width: int) -> None:
        whom, what = _columns(width)
        line.put(clock_time(row.at) if frame.fold.product else f"{row.at:%H:%M:%SZ}", "dim").to(whom)
        if row.subject:
            line.put(elide_middle(row.subject, what - whom - 2, shape("⋯")), bold=chosen).to(what)
        line.put(elide_end(row.what, width - line.cells - 1, shape("⋯")), _role(row), bold=chosen)

    def draw_ghost(self, frame: Frame, ghost: Ghost[EventView], line: Line, width: int) -> None:
        self.draw(frame, ghost.item, line, False, width)

    def empty(self, frame: Frame) -> Sequence[Line]:
        return [Line(frame.palette), Line(frame.palette).to(3).put("Nothing happened since this console came", "soft")]


class EventsScreen(ViewScreen):
    """View 4."""

    view = "events"
    AUTO_FOCUS = "EventsTable"
    BINDINGS: ClassVar[list[BindingType]] = [keys.COPY, keys.HELP, keys.QUIT]

    def body(self) -> ComposeResult:
        yield EventsTable()

    def action_copy(self) -> None:
        events = [
            f"{clock_time(event.at)}\t{event.subject or '-'}\t{event.what}"
            for event in self.console_app.frame.snapshot.events
        ]
        self.console_app.copy("\n".join(events), f"{len(events):,} events")
