"""A list with a cursor, marks and a mouse, drawn line by line: only what is in sight costs anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Generic, TypeVar

from textual import events
from textual.binding import Binding, BindingType

from conductor_console.console.frame import Frame
from conductor_console.console.messages import CursorMoved, Opened
from conductor_console.console.paint import Line
from conductor_console.console.rows import Ghost, Rows
from conductor_console.console.widgets.panel import Panel

T = TypeVar("T")


class KeyedTable(Panel, Generic[T], can_focus=True):
    """Rows of ``T`` under one line of column heads; subclasses arrange and draw them."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", show=False, tooltip="Up, down"),
        Binding("down,j", "move(1)", show=False, tooltip="Up, down"),
        Binding("pageup", "page(-1)", show=False, tooltip="A page up, down"),
        Binding("pagedown", "page(1)", show=False, tooltip="A page up, down"),
        Binding("home,g", "first", show=False, tooltip="To the top (the list then keeps to it), to the last"),
        Binding("end,G", "last", show=False, tooltip="To the top (the list then keeps to it), to the last"),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.rows: Rows[T] = Rows(self.key_of)

    # -- for subclasses --------------------------------------------------------------------------------------------
    def key_of(self, row: T) -> str:
        raise NotImplementedError

    def list_rows(self, frame: Frame) -> None:
        """Hands the frame's rows to :attr:`rows`."""
        raise NotImplementedError

    def heads(self, frame: Frame, width: int) -> Line:
        """The column heads."""
        raise NotImplementedError

    def draw(self, frame: Frame, row: T, line: Line, chosen: bool, width: int) -> None:
        """Puts a row on its line, from column 3 on."""
        raise NotImplementedError

    def draw_ghost(self, frame: Frame, ghost: Ghost[T], line: Line, width: int) -> None:
        """Puts a vanished row, and why it went, on its line."""
        raise NotImplementedError

    def empty(self, _frame: Frame) -> Sequence[Line]:
        """What to say where there are no rows."""
        return ()

    def foot(self, frame: Frame) -> Line:
        """The last line: what is below the fold, what is marked."""
        line = Line(frame.palette)
        rows = self.rows
        if rows.marks:
            line.gap(1).put("*", "accent", bold=True).gap(1).put(f"{len(rows.marks):,} marked").gap(3)
        line.to(3)
        self.below_fold(line)
        return line

    def below_fold(self, line: Line) -> None:
        """Counts what is out of sight."""
        rows = self.rows
        if rows.below:
            line.put(f"{rows.below:,} more below", "dim")
        if rows.top and rows.below:
            line.put(", ", "dim")
        if rows.top:
            line.put(f"{rows.top:,} above", "dim")

    # -- drawing ---------------------------------------------------------------------------------------------------
    def take(self, frame: Frame) -> None:
        before = self.rows.cursor
        self.frame = frame
        self._fit()
        self.list_rows(frame)
        self.redraw()
        if self.rows.cursor != before:
            self.post_message(CursorMoved(self.rows.cursor))

    def _fit(self) -> None:
        # One line of heads above the rows, one below that counts what is out of sight.
        self.rows.resize(max(1, self.size.height - 2))

    def lines(self, frame: Frame, width: int) -> Sequence[Line]:
        self._fit()
        rows = self.rows
        drawn = [self.heads(frame, width)]
        if not rows.shown:
            return [*drawn, *self.empty(frame)]
        for place, row in enumerate(rows.viewport, rows.top):
            chosen = place == rows.index
            line = Line(frame.palette, ground="sel" if chosen else "bg")
            if chosen:
                line.glyph("▌", "accent")
            if rows.key_of(row) in rows.marks:
                line.to(1).put("*", "accent", bold=True)
            line.to(3)
            if isinstance(row, Ghost):
                self.draw_ghost(frame, row, line, width)
            else:
                self.draw(frame, row, line, chosen, width)
            drawn.append(line)
        drawn.append(self.foot(frame))
        return drawn

    # -- moving ----------------------------------------------------------------------------------------------------
    def go(self, index: int) -> None:
        """Puts the cursor on the row at that place."""
        self.rows.go(index)
        self.redraw()
        self.post_message(CursorMoved(self.rows.cursor))

    def action_move(self, by: int) -> None:
        self.go(self.rows.index + by)

    def action_page(self, by: int) -> None:
        self.go(self.rows.index + by * max(1, self.rows.height - 1))

    def action_first(self) -> None:
        self.go(0)

    def action_last(self) -> None:
        self.go(len(self.rows.shown) - 1)

    def toggle_mark(self) -> None:
        """Marks the row under the cursor (or takes its mark off) and goes on to the next."""
        self.rows.toggle_mark()
        self.go(self.rows.index + 1)

    def toggle_all(self) -> None:
        """Marks every row of the list, or takes these marks off where all have one."""
        self.rows.toggle_all()
        self.redraw()

    def clear_marks(self) -> bool:
        """Takes every mark off; False where there was none."""
        if not self.rows.marks:
            return False
        self.rows.marks = {}
        self.redraw()
        return True

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.action_move(3)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.action_move(-3)

    def on_click(self, event: events.Click) -> None:
        line = event.y - 1
        if 0 <= line < len(self.rows.viewport):
            self.go(self.rows.top + line)
            if event.chain == 2 and self.rows.cursor is not None:
                self.post_message(Opened(self.rows.cursor))
