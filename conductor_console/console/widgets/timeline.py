"""The whole tape in three lines: failures marked above, a bar as far as the player is, the times below."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar, Final

from textual import events
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from conductor_console.console.widgets.ink import Piece, drawn, overlay, strip
from conductor_console.console.widgets.lanes import BOUNDARY, CROSS, RAN, cell_of
from conductor_console.replay.player import Player
from conductor_console.replay.report import flow_names
from conductor_console.replay.words import moment, row_subject
from conductor_console.text import elide_middle, width

AHEAD: Final = "─"
HERE: Final = "┃"
_LABEL_CELLS: Final = 30
_CLOCK_CELLS: Final = 8


def failure_labels(player: Player) -> dict[int, str]:
    """What each failure is called, by its row's index: ``compute-create, try 1``; clean."""
    names = flow_names(player.tape)
    labels: dict[int, str] = {}
    tries = {index: lane for lane in player.lanes for index in lane.failures}
    for index in player.failures:
        label = elide_middle(row_subject(player.tape.rows[index], names), _LABEL_CELLS)
        lane = tries.get(index)
        runs = [bar.first for bar in lane.segments if bar.kind in ("ran", "failed")] if lane else []
        if len(runs) > 1:
            label += f", try {sum(1 for first in runs if first <= index)}"
        labels[index] = label
    return labels


def marks_pieces(player: Player, labels: dict[int, str], cells: int) -> list[Piece]:
    """The line of marks: each failure's ``✗``, with its name where there is room to the next mark."""
    row: list[Piece] = [(" ", "text")] * cells
    length = player.tape.length
    places: dict[int, int] = {}
    for index in labels:
        places.setdefault(cell_of(player.tape.offsets[index], length, cells), index)
    ordered = sorted(places)
    for place, following in pairwise([*ordered, cells + 2]):
        index = places[place]
        role = "red" if index <= player.index else "dim"
        label = f" {labels[index]}"
        # A name is put in whole or not at all, and only if it is one cell a character.
        if place + 1 + len(label) > following - 2 or width(label) != len(label):
            label = ""
        overlay(row, place, drawn(CROSS) + label, role)
    return row


def bar_pieces(player: Player, cells: int) -> list[Piece]:
    """The bar as far as the player is, the rule after it, and where attempts begin."""
    length = player.tape.length
    here = cell_of(player.position, length, cells)
    row: list[Piece] = [(drawn(RAN), "accent") if cell < here else (drawn(AHEAD), "soft") for cell in range(cells)]
    for start in player.boundaries:
        row[cell_of(start.at, length, cells)] = (drawn(BOUNDARY), "text")
    row[here] = (drawn(HERE), "*text")
    return row


def times_pieces(player: Player, cells: int) -> list[Piece]:
    """The clock at both ends, and the player's own time under its place."""
    tape = player.tape
    row: list[Piece] = [(" ", "text")] * cells
    now = moment(player.position, tape.length)
    place = max(0, min(cells - len(now), cell_of(player.position, tape.length, cells) - len(now) // 2))
    overlay(row, place, now, "*text")
    for at, clock in ((0, tape.began), (cells - _CLOCK_CELLS, tape.ended)):
        if at + _CLOCK_CELLS < place - 1 or at > place + len(now) + 1:
            overlay(row, at, f"{clock:%H:%M:%S}", "dim")
    return row


class Timeline(Widget):
    """The three lines; a click leads to that time."""

    DEFAULT_CSS = "Timeline { height: 3; }"
    ALLOW_SELECT: ClassVar[bool] = False

    class Chosen(Message):
        """Somebody pointed at a time, in seconds from the tape's start."""

        def __init__(self, seconds: float) -> None:
            super().__init__()
            self.seconds = seconds

    def __init__(self, player: Player) -> None:
        super().__init__()
        self.player = player
        self._labels = failure_labels(player)

    def on_click(self, event: events.Click) -> None:
        cells = max(1, self.size.width - 2)
        self.post_message(self.Chosen(max(0, event.x - 1) / cells * self.player.tape.length))

    def render_line(self, y: int) -> Strip:
        cells = max(1, self.size.width - 2)
        if y == 0:
            pieces = marks_pieces(self.player, self._labels, cells)
        elif y == 1:
            pieces = bar_pieces(self.player, cells)
        else:
            pieces = times_pieces(self.player, cells)
        return strip([(" ", "text"), *pieces], self.size.width)
