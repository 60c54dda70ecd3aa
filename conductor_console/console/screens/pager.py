"""A text over the view: a traceback, or what came of each of many jobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen

from conductor_console.console.frame import Frame
from conductor_console.console.glyphs import ascii_only, shape
from conductor_console.console.paint import Line
from conductor_console.console.widgets.panel import Panel
from conductor_console.text import elide_end, visible


class _Text(Panel):
    def __init__(self, title: str, rows: Sequence[str]) -> None:
        super().__init__()
        self._title = title
        self._rows = rows
        self._top = 0

    def move(self, by: int) -> None:
        """Scrolls by so many lines."""
        self._top = max(0, min(self._top + by, len(self._rows) - self.size.height + 1))
        self.redraw()

    def lines(self, _frame: Frame, width: int) -> Sequence[Line]:
        room = self.size.height - 1
        more = len(self._rows) > room
        note = f"{self._top + 1}-{min(len(self._rows), self._top + room)} of {len(self._rows):,}" if more else ""
        note = f"{note}{', ' if note else ''}y copies, esc closes"
        drawn = [Line().section(elide_end(self._title, max(8, width - len(note) - 4), shape("⋯")), note, end=width)]
        shown = self._rows[self._top : self._top + room]
        return drawn + [Line().put(elide_end(row, width, shape("⋯"))) for row in shown]


class PagerScreen(ModalScreen[None]):
    """Rows of text, each one line; those too long are cut on the screen, and whole when they are copied."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter,t,ctrl+c", "dismiss", "close", key_display="esc"),
        Binding("down,j", "move(1)", show=False),
        Binding("up,k", "move(-1)", show=False),
        Binding("pagedown,space", "move(10)", show=False),
        Binding("pageup", "move(-10)", show=False),
        Binding("home,g", "move(-1000000)", show=False),
        Binding("end,G", "move(1000000)", show=False),
        Binding("y", "copy", "copy"),
    ]

    def __init__(self, title: str, rows: Sequence[str]) -> None:
        super().__init__()
        self._title = visible(title, 200)
        self._rows = [visible(row) for row in rows]

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog", classes="-ascii" if ascii_only() else ""):
            yield _Text(self._title, self._rows)

    def on_mount(self) -> None:
        self.on_resize()

    def on_resize(self) -> None:
        size, dialog = self.app.size, self.query_one("#dialog")
        dialog.styles.width = min(120, size.width - 4)
        dialog.styles.height = min(len(self._rows) + 5, size.height - 2)

    def take(self, frame: Frame) -> None:
        """Hands the frame on."""
        self.query_one(_Text).take(frame)

    def action_move(self, by: int) -> None:
        self.query_one(_Text).move(by)

    def action_copy(self) -> None:
        self.app.copy_to_clipboard("\n".join([self._title, *self._rows]))
