"""The first line: product, connection, board, operator, clock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from conductor_console.console.frame import Frame
from conductor_console.console.glyphs import CONNECTIONS, Sign, shape
from conductor_console.console.paint import Line
from conductor_console.console.widgets.panel import Panel
from conductor_console.text import elide_front, visible, width

PRODUCT: Final = "conductor-console"


class Header(Panel):
    """Folds the product's name first, then the operator, then the board's front."""

    DEFAULT_CSS = """
    Header { height: 1; background: $raised; }
    """

    sign: Sign | None = None
    """What stands in place of the connection's state, e.g. for a replay."""

    def lines(self, frame: Frame, width: int) -> Sequence[Line]:
        line = Line(ground="raised").gap(1)
        if frame.fold.product:
            line.put(PRODUCT, bold=True).gap(3)
        state = frame.snapshot.connection.state
        line.sign(self.sign or CONNECTIONS[state], bold=frame.lost).gap(2)
        clock = f"{frame.now:%H:%M:%S} UTC" if frame.fold.product else f"{frame.now:%H:%M:%SZ}"
        tail = [("read-only", "amber")] if frame.read_only else []
        tail += [(frame.operator, "dim")] if frame.operator and not frame.fold.tiny else []
        between = 4 if frame.fold.product else 2
        tail_cells = sum(_cells(text) + between for text, _ in tail)
        room = width - 1 - len(clock) - tail_cells - line.cells - 1
        line.put(elide_front(visible(frame.snapshot.board), max(8, room), shape("⋯")), "soft")
        line.to(width - 1 - len(clock) - tail_cells)
        for text, role in tail:
            line.put(text, role).gap(between)
        return [line.put(clock)]


def _cells(text: str) -> int:
    return width(visible(text))
