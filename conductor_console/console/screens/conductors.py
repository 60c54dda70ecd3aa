"""The conductors: those of this process or of its worker processes, and those that others registered on the board."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType

from conductor_console.console import keys
from conductor_console.console.frame import Frame
from conductor_console.console.glyphs import CONDUCTORS, shape
from conductor_console.console.messages import CursorMoved
from conductor_console.console.paint import Line
from conductor_console.console.rows import Ghost
from conductor_console.console.screens.view import ViewScreen
from conductor_console.console.widgets.footer import Notice
from conductor_console.console.widgets.keyed_table import KeyedTable
from conductor_console.console.words import seconds_between
from conductor_console.observatory.snapshot import ConductorView
from conductor_console.text import age, elide_end, elide_front, elide_middle, width

_NAME, _PLACE, _JOBS, _SINCE, _NOTE = 14, 34, 56, 64, 67


class ConductorsTable(KeyedTable[ConductorView]):
    """As the board tells them; ours first or last as they come."""

    def key_of(self, row: ConductorView) -> str:
        # Two hosts may have a conductor of one name; of ours its process may be another than before.
        return f"{row.name} {'here' if row.here else row.place}"

    def list_rows(self, frame: Frame) -> None:
        conductors = frame.snapshot.conductors
        self.rows.take(
            conductors, {self.key_of(one): one for one in conductors}, frame.now, lambda _: "no longer registered"
        )

    def heads(self, frame: Frame, _width: int) -> Line:
        line = Line(frame.palette).to(3).put("state", "dim").to(_NAME).put("name", "dim").to(_PLACE).put("where", "dim")
        line.right("jobs", "dim", end=_JOBS).right("since", "dim", end=_SINCE)
        return line.to(_NOTE).put("note", "dim")

    def draw(self, frame: Frame, row: ConductorView, line: Line, chosen: bool, width: int) -> None:
        sign = CONDUCTORS[row.state]
        line.sign(sign).to(_NAME).put(elide_middle(row.name, _PLACE - _NAME - 2, shape("⋯")), bold=chosen)
        line.to(_PLACE).put(elide_front(row.place, _JOBS - _PLACE - 6, shape("⋯")), "soft")
        line.right(f"{row.jobs:,}", "text" if row.jobs else "dim", end=_JOBS)
        since = age(seconds_between(row.since, frame.data_now)) if row.since else "-"
        line.right(since, "dim" if row.since else "line", end=_SINCE).to(_NOTE)
        line.put(
            elide_end(row.note, max(0, width - _NOTE - 1), shape("⋯")), "red" if row.state == "crashed" else "soft"
        )

    def draw_ghost(self, _frame: Frame, ghost: Ghost[ConductorView], line: Line, _width: int) -> None:
        line.put("gone", "dim").to(_NAME).put(elide_middle(ghost.item.name, 18, shape("⋯")), "dim")
        line.to(_PLACE).put(ghost.why, "soft")

    def empty(self, frame: Frame) -> Sequence[Line]:
        said = ("No conductor is registered on this board", "Start one: conductor-console run BOARD --store URL")
        return [Line(frame.palette), *(Line(frame.palette).to(3).put(text, "soft") for text in said)]


class ConductorsScreen(ViewScreen):
    """``P`` and ``N`` here are for the chosen one."""

    view = "conductors"
    AUTO_FOCUS = "ConductorsTable"
    BINDINGS: ClassVar[list[BindingType]] = [
        keys.shown(keys.MORE),
        keys.shown(keys.FEWER),
        keys.shown(keys.PAUSE),
        keys.shown(keys.DRAIN),
        keys.COPY,
        keys.HELP,
        keys.QUIT,
    ]

    def body(self) -> ComposeResult:
        yield ConductorsTable()

    def on_mount(self) -> None:
        self.query_one(Notice).standing = self._note

    def _note(self) -> tuple[str, str]:
        """The chosen one's note, where its column is too narrow for it."""
        chosen = self.query_one(ConductorsTable).rows.current
        cut = chosen is not None and width(chosen.note) > self.size.width - _NOTE - 1
        return (f"{chosen.name}: {chosen.note}" if chosen is not None and cut else ""), "soft"

    def on_cursor_moved(self, message: CursorMoved) -> None:
        message.stop()
        self.query_one(Notice).redraw()

    def action_pause(self) -> None:
        chosen = self._ours("paused")
        if chosen is not None:
            self.console_app.acts.pause(chosen)

    def action_drain(self) -> None:
        chosen = self._ours("drained")
        if chosen is not None:
            self.console_app.acts.drain(chosen)

    def _ours(self, done: str) -> str | None:
        """The chosen one's name, where it is a conductor of this process; else says why nothing can be done."""
        chosen = self.query_one(ConductorsTable).rows.current
        if chosen is not None and not chosen.here:
            self.console_app.say(f"{chosen.name} runs elsewhere: it can be {done} only there", "amber")
            return None
        return None if chosen is None else chosen.name

    def action_copy(self) -> None:
        self.console_app.copy(self.query_one(ConductorsTable).text, "the list")
