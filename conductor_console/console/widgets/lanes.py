"""The atoms of a replay: glyph, name, state, and a lane of bars along the time, for any number of atoms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from textual import events
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widget import Widget

from conductor_console.console.widgets.ink import Piece, drawn, fit, heading, overlay, strip
from conductor_console.replay.lanes import Lane, Segment, Standing
from conductor_console.replay.player import Player
from conductor_console.replay.tape import FlowTrack
from conductor_console.replay.words import moment
from conductor_console.text import duration, elide_middle, visible, width

#: Glyph and role of what an atom is at a time.
LOOKS: Final[dict[Standing, tuple[str, str]]] = {
    "pending": ("◦", "dim"),
    "running": ("▸", "accent"),
    "done": ("✓", "soft"),
    "failed": ("✗", "red"),
    "reverting": ("↺", "amber"),
    "reverted": ("↺", "soft"),
    "other": (" ", "soft"),
}
RAN: Final = "━"
INFERRED: Final = "╍"
REVERTED: Final = "┅"
NEVER: Final = "┄"
CURSOR: Final = "│"
CROSSED: Final = "┿"
BOUNDARY: Final = "┊"
BAR: Final = "▌"
CROSS: Final = LOOKS["failed"][0]
_WORD_CELLS: Final = 9
_STEPS: Final = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)
_LONG_STEPS: Final = (60, 120, 180, 300, 600, 900, 1200, 1800, 3600, 7200, 10800, 21600, 43200, 86400)


@dataclass(frozen=True, slots=True)
class Columns:
    """Where things stand in a row of ``whole`` cells: cursor bar 0, glyph 2, name 4, then the state, then the lane."""

    whole: int

    @property
    def name(self) -> int:
        """Cells of the name."""
        return max(12, min(32, self.whole // 4 - 2))

    @property
    def lane_at(self) -> int:
        """The lane's first column."""
        return 4 + self.name + 1 + _WORD_CELLS + 1

    @property
    def lane(self) -> int:
        """Cells of the lane."""
        return max(4, self.whole - self.lane_at - 1)


def cell_of(seconds: float, length: float, cells: int) -> int:
    """The cell, from 0, of a time on a lane of ``cells`` cells that shows ``length`` seconds."""
    if length <= 0:
        return 0
    return max(0, min(cells - 1, int(seconds / length * cells)))


def lane_pieces(player: Player, lane: Lane, cells: int) -> list[Piece]:
    """The lane as one piece a cell. What lies after the player's position is dim."""
    length = player.tape.length
    here = cell_of(player.position, length, cells)
    row: list[Piece] = [(" ", "text")] * cells
    if not lane.segments:
        row = [(drawn(NEVER), "line")] * cells
    for start in player.boundaries:
        if start.flow_uuid == lane.flow_uuid:
            row[cell_of(start.at, length, cells)] = (drawn(BOUNDARY), "dim")
    for bar in lane.segments:
        first, last = cell_of(bar.began, length, cells), cell_of(bar.ended, length, cells)
        for cell in range(first, max(last, first + 1)):
            row[cell] = (drawn(_glyph(bar)), _role(player, bar, cell > here))
    crosses = {cell_of(player.tape.offsets[index], length, cells): index for index in reversed(lane.failures)}
    for cell, index in crosses.items():
        row[cell] = (drawn(CROSS), "red" if index <= player.index else "dim")
    if here not in crosses and player.tape.rows:
        crossed = row[here][0] in (drawn(RAN), drawn(INFERRED), drawn(REVERTED))
        row[here] = (drawn(CROSSED), row[here][1]) if crossed else (drawn(CURSOR), "accent")
    return row


def _glyph(bar: Segment) -> str:
    if bar.kind in ("reverting", "reverted"):
        return REVERTED
    return INFERRED if bar.inferred else RAN


def _role(player: Player, bar: Segment, after: bool) -> str:
    """A bar's colour: what it is known to be at the player's row, dim where that lies ahead."""
    if after or bar.first > player.index:
        return "dim"
    if bar.kind in ("reverting", "reverted"):
        return "amber"
    return "red" if bar.kind == "failed" and bar.last is not None and bar.last <= player.index else "accent"


def ticks(length: float, cells: int) -> list[tuple[float, str]]:
    """Times for an axis of ``cells`` cells, with their labels; round numbers, at most one each dozen cells."""
    if length <= 0:
        return [(0.0, "0 s")]
    least = length / max(1, cells // 12)
    scale = 1.0
    while scale > least:
        scale /= 10
    while scale * 10 <= least:
        scale *= 10
    step = next((scale * each for each in (*_STEPS, 10.0) if scale * each >= least), scale * 10)
    if length >= 600:
        step = next((float(each) for each in _LONG_STEPS if each >= least), step)
    times = [number * step for number in range(int(length / step) + 1)]
    return [(each, duration(each) if length >= 600 else f"{each:.10g} s") for each in times]


def axis_pieces(player: Player, cells: int) -> list[Piece]:
    """The axis over the lanes: round times in dim, the player's own in its place."""
    length = player.tape.length
    row: list[Piece] = [(" ", "text")] * cells
    now = moment(player.position, length)
    place = max(0, min(cells - len(now), cell_of(player.position, length, cells) - len(now) // 2))
    overlay(row, place, now, "*accent")
    for seconds, label in ticks(length, cells):
        at = max(0, min(cells - len(label), cell_of(seconds, length, cells) - (len(label) // 2 if seconds else 0)))
        around = row[max(0, at - 2) : at + len(label) + 2]
        if all(text == " " for text, _ in around):
            overlay(row, at, label, "dim")
    return row


class LanesHead(Widget):
    """``Atoms`` with its rule, and the axis."""

    DEFAULT_CSS = "LanesHead { height: 2; }"

    def __init__(self, player: Player) -> None:
        super().__init__()
        self.player = player

    def render_line(self, y: int) -> Strip:
        cells = self.size.width
        if y == 0:
            return strip([(" ", "text"), *heading("Atoms", "", cells - 2)], cells)
        columns = Columns(cells)
        return strip([(" " * columns.lane_at, "text"), *axis_pieces(self.player, columns.lane)], cells)


class Legend(Widget):
    """What the bars mean."""

    DEFAULT_CSS = "Legend { height: 1; }"

    def __init__(self, player: Player) -> None:
        super().__init__()
        self.player = player

    def render_line(self, y: int) -> Strip:  # noqa: ARG002 - there is but one
        cells = self.size.width
        shown = [(RAN, "accent", "executed"), (RAN, "red", "failed"), (REVERTED, "amber", "reverted")]
        shown.append((NEVER, "dim", "never ran"))
        if self.player.tape.inferred:
            shown.insert(1, (INFERRED, "accent", "time inferred"))
        pieces: list[Piece] = []
        for glyph, name, word in shown:
            pieces += [(drawn(glyph), name), (f" {word}", "dim"), ("   ", "text")]
        columns = Columns(cells)
        taken = sum(width(text) for text, _ in pieces) - 3
        indent = columns.lane_at if columns.lane >= taken else max(1, cells - taken - 1)
        return strip([(" " * indent, "text"), *pieces], cells)


class AtomLanes(ScrollView, can_focus=False):
    """A row for each atom (and one for each flow, where there are several), drawn only where it is seen."""

    DEFAULT_CSS = """
    AtomLanes { height: 1fr; overflow-x: hidden; scrollbar-size-vertical: 1; scrollbar-color: $line;
        scrollbar-color-hover: $dim; scrollbar-color-active: $dim; scrollbar-background: $bg;
        scrollbar-background-hover: $bg; scrollbar-background-active: $bg; }
    """

    class Chosen(Message):
        """Somebody pointed at an atom; ``lane`` is its number."""

        def __init__(self, lane: int) -> None:
            super().__init__()
            self.lane = lane

    ALLOW_SELECT: ClassVar[bool] = False

    def __init__(self, player: Player) -> None:
        super().__init__()
        self.player = player
        self.selected: int | None = None
        self.rows: list[int | FlowTrack] = _rows(player)
        self._row_of = {row: number for number, row in enumerate(self.rows) if isinstance(row, int)}
        self.virtual_size = Size(0, len(self.rows))

    def show(self, selected: int | None) -> None:
        """Draws the player's position anew, with that lane under the cursor bar and in sight."""
        self.selected = selected
        if selected is not None:
            row = self._row_of[selected]
            top, height = round(self.scroll_y), self.size.height
            if height and not top <= row < top + height:
                self.scroll_to(y=max(0, row - height // 2), animate=False, immediate=True)
        self.refresh()

    def on_resize(self) -> None:
        self.show(self.selected)

    def on_click(self, event: events.Click) -> None:
        row = event.y + round(self.scroll_y)
        if row < len(self.rows) and isinstance(number := self.rows[row], int):
            self.post_message(self.Chosen(number))

    def render_line(self, y: int) -> Strip:
        cells = self.size.width
        number = y + round(self.scroll_y)
        if number >= len(self.rows):
            return strip((), cells)
        row = self.rows[number]
        if isinstance(row, FlowTrack):
            return strip([("  ", "text"), (visible(row.name, 200), "*soft")], cells)
        return self._lane(row, Columns(cells))

    def _lane(self, number: int, columns: Columns) -> Strip:
        lane = self.player.lanes[number]
        atom = self.player.atom(lane)
        glyph, role = LOOKS[atom.standing]
        chosen = number == self.selected
        name_role = role if atom.standing in ("failed", "pending") else "text"
        word = "failed" if atom.standing == "failed" else atom.word
        pieces: list[Piece] = [
            (drawn(BAR) if chosen else " ", "accent"),
            (f" {drawn(glyph)} ", role),
            (fit(elide_middle(visible(atom.atom.name or "-", 300), columns.name), columns.name), name_role),
            (" ", "text"),
            (fit(word, _WORD_CELLS), role),
            (" ", "text"),
            *lane_pieces(self.player, lane, columns.lane),
        ]
        return strip(pieces, columns.whole, "sel" if chosen else "bg")


def _rows(player: Player) -> list[int | FlowTrack]:
    """Lane numbers, each flow's after its head where there are several flows."""
    flows: Sequence[FlowTrack] = player.tape.flows
    if len(flows) < 2:
        return list(range(len(player.lanes)))
    rows: list[int | FlowTrack] = []
    for flow in flows:
        rows.append(flow)
        rows += [number for number, lane in enumerate(player.lanes) if lane.flow_uuid == flow.uuid]
    return rows
