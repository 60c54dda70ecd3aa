"""A text over the view: a traceback, or what came of each of many jobs."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import ClassVar, Final

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen

from conductor_console.console.frame import Frame
from conductor_console.console.glyphs import ascii_only, shape
from conductor_console.console.paint import Line
from conductor_console.console.widgets.panel import Panel
from conductor_console.text import elide_end, visible, width

#: Lines that one row takes at most.
LONGEST: Final = 60


class _Text(Panel):
    def __init__(self, title: str, rows: Sequence[str]) -> None:
        super().__init__()
        self._title = title
        self._rows = rows
        self._top = 0

    def move(self, by: int) -> None:
        """Scrolls by so many lines."""
        self._top = max(0, min(self._top + by, self._last_top()))
        self.redraw()

    def _last_top(self) -> int:
        """The first row in sight when the last one is at the bottom."""
        top, room = len(self._rows), self.size.height - 1
        while top and (room := room - len(self._pieces(self._rows[top - 1], self.size.width))) >= 0:
            top -= 1
        return min(top, len(self._rows) - 1)

    def needed(self, cells: int, most: int) -> int:
        """For how many lines of so many cells there is text; more than ``most`` are not counted."""
        count = 0
        for row in self._rows:
            if count >= most:
                break
            count += len(self._pieces(row, cells))
        return min(count, most)

    @staticmethod
    def _pieces(row: str, cells: int) -> list[str]:
        """A row as it is shown: one that is too long goes on below itself."""
        if width(row) <= cells:
            return [row]
        hang = " " * min(len(row) - len(row.lstrip()) + 4, cells // 2)
        # No more of a huge one than there is room for.
        parts = wrap(row[: cells * LONGEST], cells, subsequent_indent=hang, break_on_hyphens=False)
        return [elide_end(part, cells, shape("⋯")) for part in parts]

    def lines(self, _frame: Frame, width: int) -> Sequence[Line]:
        room, last = self.size.height - 1, self._top
        shown: list[str] = []
        while last < len(self._rows) and len(shown) < room:
            shown += self._pieces(self._rows[last], width)
            last += 1
        more = self._top > 0 or last < len(self._rows) or len(shown) > room
        note = f"{f'{self._top + 1}-{last} of {len(self._rows):,}, ' if more else ''}y copies, esc closes"
        drawn = [Line().section(elide_end(self._title, max(8, width - len(note) - 4), shape("⋯")), note, end=width)]
        return drawn + [Line().put(part) for part in shown[:room]]


class PagerScreen(ModalScreen[None]):
    """Rows of text; those too long for a line go on below themselves, and are one line each when they are copied."""

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
        dialog.styles.width = wide = min(120, size.width - 4)
        # A border, an empty line or two cells within it, and the title.
        dialog.styles.height = self.query_one(_Text).needed(wide - 6, size.height - 7) + 5

    def take(self, frame: Frame) -> None:
        """Hands the frame on."""
        self.query_one(_Text).take(frame)

    def action_move(self, by: int) -> None:
        self.query_one(_Text).move(by)

    def action_copy(self) -> None:
        self.app.copy_to_clipboard("\n".join([self._title, *self._rows]))
