"""The events of a replay, two lines each; the one the player stands on is lit, what lies ahead is dim."""

from __future__ import annotations

from typing import ClassVar, Final

from taskflow import states
from textual import events
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widget import Widget

from conductor_console.console.widgets.ink import Piece, drawn, heading, strip
from conductor_console.console.widgets.lanes import LOOKS
from conductor_console.persistence.journal import JournalRow
from conductor_console.replay.player import Player
from conductor_console.replay.report import flow_names
from conductor_console.replay.tape import is_inferred
from conductor_console.replay.words import broken, number, only_intends, row_subject, row_word
from conductor_console.text import elide_middle

_LOOKS: Final = {
    states.PENDING: LOOKS["pending"],
    states.RUNNING: LOOKS["running"],
    states.SUCCESS: LOOKS["done"],
    states.REVERTING: LOOKS["reverting"],
    states.REVERTED: LOOKS["reverted"],
    states.RETRYING: LOOKS["running"],
}


def look(row: JournalRow) -> tuple[str, str]:
    """An event's glyph and role."""
    if broken(row):
        return LOOKS["failed"]
    if row.kind in ("attempt", "operator") or only_intends(row):
        return (" ", "soft")
    return _LOOKS.get(row.to_state or "", (" ", "soft"))


class EventsHead(Widget):
    """``Events`` with its rule and where in them the player stands."""

    DEFAULT_CSS = "EventsHead { height: 1; }"

    def __init__(self, player: Player) -> None:
        super().__init__()
        self.player = player

    def render_line(self, y: int) -> Strip:  # noqa: ARG002 - there is but one
        count = len(self.player.tape.rows)
        note = f"{self.player.index + 1:,} of {count:,}"
        cells = self.size.width
        return strip([(" ", "text"), *heading("Events", note, cells - 2)], cells)


class EventList(ScrollView, can_focus=False):
    """All events in order, drawn only where they are seen."""

    DEFAULT_CSS = """
    EventList { height: 1fr; overflow-x: hidden; scrollbar-size-vertical: 0; }
    """

    class Chosen(Message):
        """Somebody pointed at an event; ``index`` is its row's."""

        def __init__(self, index: int) -> None:
            super().__init__()
            self.index = index

    ALLOW_SELECT: ClassVar[bool] = False

    def __init__(self, player: Player) -> None:
        super().__init__()
        self.player = player
        self._names = flow_names(player.tape)
        self._time_cells = max(4, len(number(player.tape.length, player.tape.length)))
        # One line more than there are, so that the last event is whole in a list of odd height.
        self.virtual_size = Size(0, 2 * len(player.tape.rows) + 1)

    def show(self) -> None:
        """Draws the player's position anew, the event it stands on a little below the middle."""
        height = self.size.height
        if height:
            top = max(0, min(2 * self.player.index - height * 3 // 5, self.virtual_size.height - height))
            self.scroll_to(y=top + top % 2, animate=False, immediate=True)
        self.refresh()

    def on_resize(self) -> None:
        self.show()

    def on_click(self, event: events.Click) -> None:
        index = (event.y + round(self.scroll_y)) // 2
        if index < len(self.player.tape.rows):
            self.post_message(self.Chosen(index))

    def render_line(self, y: int) -> Strip:
        cells = self.size.width
        index, second = divmod(y + round(self.scroll_y), 2)
        if index >= len(self.player.tape.rows):
            return strip((), cells)
        row = self.player.tape.rows[index]
        ahead, here = index > self.player.index, index == self.player.index
        left = 1 + self._time_cells + 1
        pieces: list[Piece]
        if second:
            glyph, role = look(row)
            pieces = [(" " * left, "text"), (f"{drawn(glyph)} {row_word(row)}", "dim" if ahead else role)]
        else:
            whole = self.player.tape.length
            told = number(self.player.tape.offsets[index], whole).rjust(self._time_cells)
            mark = "~" if is_inferred(row) else " "
            name = elide_middle(row_subject(row, self._names), max(1, cells - left - 1))
            pieces = [(f" {told}{mark}", "soft" if here else "dim"), (name, "dim" if ahead else "text")]
        return strip(pieces, cells, "sel" if here else "bg")
