"""What is known of one atom where the player stands: why it failed, what it went through, who ran it."""

from __future__ import annotations

from collections.abc import Mapping

from textual.strip import Strip
from textual.widget import Widget

from conductor_console.console.widgets.ink import Piece, heading, strip
from conductor_console.console.widgets.lanes import LOOKS
from conductor_console.persistence.journal import JournalRow
from conductor_console.replay.lanes import AtomAt, Lane
from conductor_console.replay.player import Player
from conductor_console.replay.report import flow_names, safe_cause
from conductor_console.replay.words import broken, moment, row_subject, row_word, state_word
from conductor_console.text import elide_front, elide_middle, size, visible, width


def wrapped(text: str, cells: int) -> list[str]:
    """``text`` in lines of at most ``cells`` cells, broken at spaces where there are any."""
    lines: list[str] = []
    line = ""
    for word in text.split(" "):
        if line and width(line) + 1 + width(word) > cells:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
        while width(line) > cells:
            head = line[:cells]
            while width(head) > cells:
                head = head[:-1]
            lines.append(head)
            line = line[len(head) :]
    return [*lines, line] if line else lines


def atom_lines(player: Player, lane: Lane, cells: int, height: int) -> list[list[Piece]]:
    """The block of an atom, at most ``height`` lines, the first of them its head."""
    atom = player.atom(lane)
    _, role = LOOKS[atom.standing]
    name = elide_middle(visible(atom.atom.name or "-", 300), max(8, cells // 2))
    at = f"{name} at {moment(player.position, player.tape.length)}"
    lines = [heading(at, _note(player, lane, atom), cells, "red" if atom.standing == "failed" else "text")]
    last = _last_change(player, lane)
    if atom.failure is not None:
        lines += _cause_lines(player.tape.rows[atom.failure], cells, max(1, height - 3))
    if last is None:
        lines.append([(" it has not begun", "dim")])
    else:
        lines += _about(player, lane, last, role)
    return lines[:height]


def row_lines(player: Player, row: JournalRow, cells: int, height: int) -> list[list[Piece]]:
    """The block of a row that is no atom's: a flow's change, an attempt's end, an operator's act."""
    subject = elide_middle(row_subject(row, flow_names(player.tape)), max(8, cells // 2))
    at = f"{subject} at {moment(player.position, player.tape.length)}"
    lines = [heading(at, row_word(row), cells, "red" if broken(row) else "text")]
    lines += _cause_lines(row, cells, max(1, height - 2))
    facts: list[Piece] = []
    if row.kind == "flow":
        facts = [(" before  ", "dim"), (state_word(row.from_state), "soft"), ("    after  ", "dim")]
        facts.append((state_word(row.to_state), "soft"))
    if row.conductor:
        facts += [("    by  " if facts else " by  ", "dim"), (visible(row.conductor, 60), "soft")]
    return [*lines, facts][:height]


def _cause_lines(row: JournalRow, cells: int, most: int) -> list[list[Piece]]:
    cause = safe_cause(row)
    if cause is None:
        return []
    kind, message, where = cause
    texts = wrapped(f"{kind}: {message}" if kind and message else kind or message, cells - 1)
    room = max(1, most - (1 if where else 0))
    lines: list[list[Piece]] = []
    for number, text in enumerate(texts[:room]):
        # The type is the first word, wherever the line was broken.
        bold = kind if number == 0 and kind and text.startswith(kind) else ""
        lines.append([(" ", "text"), (bold, "*red"), (text[len(bold) :], "text")])
    if where:
        place, mark, function = where.partition(" in ")
        shown = elide_front(place, max(8, cells - width(function) - 4))
        lines.append([(f" {shown}", "soft"), (f"  {function}" if mark else "", "dim")])
    return lines


def _last_change(player: Player, lane: Lane) -> int | None:
    return next((index for index in reversed(lane.changes) if index <= player.index), None)


def _note(player: Player, lane: Lane, atom: AtomAt) -> str:
    """``failed after 2.3 s``, ``running for 1.0 s``."""
    length = player.tape.length
    bar = next((bar for bar in reversed(lane.segments) if bar.first <= player.index), None)
    if bar is None:
        return atom.word
    if bar.last is None or bar.last > player.index:
        return f"{atom.word} for {moment(max(0.0, player.position - bar.began), length)}"
    about = "about " if bar.inferred else ""
    if atom.failure is not None:
        bar = next((each for each in reversed(lane.segments) if each.last == atom.failure), bar)
    return f"{atom.word} after {about}{moment(bar.ended - bar.began, length)}"


def _about(player: Player, lane: Lane, last: int, role: str) -> list[list[Piece]]:
    row = player.tape.rows[last]
    facts: list[Piece] = [(" before  ", "dim"), (state_word(row.from_state), "soft"), ("    now  ", "dim")]
    facts.append((state_word(row.to_state), role))
    following = next((index for index in lane.changes if index > player.index), None)
    if following is not None:
        facts += [("    then  ", "dim"), (state_word(player.tape.rows[following].to_state), "dim")]
    more: list[Piece] = []
    if row.conductor:
        more += [(" by  ", "dim"), (visible(row.conductor, 60), "soft"), ("   ", "text")]
    result = row.detail.get("result")
    if isinstance(result, Mapping) and isinstance(result.get("size"), int):
        told = f"{visible(result.get('type', 'value'), 20)}, {size(result['size'])}"
        more += [(" result  ", "dim"), (told, "soft")]
    return [facts, more] if more else [facts]


class AtomDetail(Widget):
    """The block under the lanes."""

    DEFAULT_CSS = "AtomDetail { height: 6; }"

    def __init__(self, player: Player) -> None:
        super().__init__()
        self.player = player
        self._lane: Lane | None = None
        self._lines: list[list[Piece]] = []

    def show(self, lane: Lane | None) -> None:
        """Shows that atom, or without one the row the player stands on."""
        self._lane = lane
        self._lines = self._made()
        self.refresh()

    def on_resize(self) -> None:
        self.show(self._lane)

    def _made(self) -> list[list[Piece]]:
        cells, height = max(8, self.size.width - 2), max(1, self.size.height)
        if self._lane is not None:
            return atom_lines(self.player, self._lane, cells, height)
        row = self.player.row
        return row_lines(self.player, row, cells, height) if row is not None else [[("nothing happened yet", "dim")]]

    def render_line(self, y: int) -> Strip:
        pieces = self._lines[y] if y < len(self._lines) else []
        return strip([(" ", "text"), *pieces], self.size.width)
