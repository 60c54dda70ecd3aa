"""A widget made of lines: it keeps what it painted, and repaints only the lines that changed."""

from __future__ import annotations

from collections.abc import Sequence

from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget

from conductor_console.console.frame import Frame
from conductor_console.console.paint import Line


class Panel(Widget):
    """Draws lines from the newest frame; subclasses give the lines."""

    DEFAULT_CSS = """
    Panel { width: 1fr; height: 1fr; }
    """

    frame: Frame | None = None
    _strips: Sequence[Strip] = ()
    _painted: tuple[Size, int] | None = None
    _made = 0

    def lines(self, frame: Frame, width: int) -> Sequence[Line]:
        """Lines of ``width`` cells; what there are too few is left empty, what there are too many is not shown."""
        raise NotImplementedError

    def take(self, frame: Frame) -> None:
        """Shows another frame."""
        self.frame = frame
        self.redraw()

    def redraw(self) -> None:
        """Draws again, and has the lines repainted that came out differently."""
        self._made += 1
        if not self.is_mounted or not self.size:
            return
        before, shown = self._strips, self._painted
        after = self._drawn()
        if shown is None or shown[0] != self.size:
            self.refresh()
            return
        changed = [y for y, strip in enumerate(after) if y >= len(before) or strip != before[y]]
        if changed:
            self.refresh(*(Region(0, y, self.size.width, 1) for y in changed))

    def _drawn(self) -> Sequence[Strip]:
        size = self.size
        if self._painted != (size, self._made):
            width, height = size
            lines = self.lines(self.frame, width) if self.frame is not None else ()
            strips = [line.strip(width) for line in lines[:height]]
            if len(strips) < height:
                strips += [Line().strip(width)] * (height - len(strips))
            self._strips, self._painted = strips, (size, self._made)
        return self._strips

    def render_line(self, y: int) -> Strip:
        strips = self._drawn()
        return strips[y] if y < len(strips) else Line().strip(self.size.width)

    @property
    def text(self) -> str:
        """What it reads, for copying and for tests."""
        return "\n".join(strip.text.rstrip() for strip in self._drawn()) if self.size else ""
