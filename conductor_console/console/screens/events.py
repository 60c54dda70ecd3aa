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
from conductor_console.text import clock_time, elide_end

_KIND, _TEXT = 17, 33
_RED = frozenset({"crashed", "connection"})


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

    def heads(self, frame: Frame, _width: int) -> Line:
        return Line(frame.palette).to(3).put("when", "dim").to(_KIND).put("what", "dim")

    def draw(self, _frame: Frame, row: EventView, line: Line, chosen: bool, width: int) -> None:
        line.put(clock_time(row.at), "dim").to(_KIND)
        line.put(elide_end(row.kind.replace("_", " "), _TEXT - _KIND - 2, shape("⋯")), "soft").to(_TEXT)
        line.put(elide_end(row.text, width - _TEXT - 1, shape("⋯")), "red" if row.kind in _RED else "text", bold=chosen)

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
            f"{clock_time(event.at)}\t{event.kind}\t{event.text}" for event in self.console_app.frame.snapshot.events
        ]
        self.console_app.copy("\n".join(events), f"{len(events):,} events")
