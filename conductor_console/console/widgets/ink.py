"""Rows of pieces: what the replay's widgets make before the brush (:mod:`~conductor_console.console.paint`) paints it.

A lane is made cell by cell, one thing over another; so its row is a list that can be written into, not yet a line.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Final

from textual.strip import Strip

from conductor_console.console import glyphs
from conductor_console.console.paint import Line
from conductor_console.text import elide_end, width

#: A text and the role it is in; ``*`` before the role makes it bold, e.g. ``("12.9 s", "*accent")``.
Piece = tuple[str, str]

#: What only the replay draws, in ASCII.
_ASCII: Final = str.maketrans({"╍": "~", "┿": "+", "┊": "'", "┃": "|"})


def drawn(glyph: str) -> str:
    """A glyph of ours in the set in force."""
    return glyphs.shape(glyph).translate(_ASCII) if glyphs.ascii_only() else glyph


def strip(pieces: Iterable[Piece], cells: int, ground: str = "bg") -> Strip:
    """The pieces in a row of exactly ``cells`` cells. None of their texts is parsed as markup."""
    line = Line(ground=ground)
    for name, group in groupby(pieces, key=lambda piece: piece[1]):
        text = "".join(text for text, _ in group)
        # Blanks go by themselves, in a role of their own: some viewers of a screenshot drop those a text begins with.
        inner = text.lstrip(" ")
        line.put(" " * (len(text) - len(inner)), "on-accent")
        line.put(inner, name.removeprefix("*"), name.startswith("*"))
    return line.strip(cells)


def fit(text: str, cells: int) -> str:
    """``text`` in exactly ``cells`` cells."""
    text = elide_end(text, cells)
    return text + " " * (cells - width(text))


def measure(pieces: Iterable[Piece]) -> int:
    """The cells that the pieces take."""
    return sum(width(text) for text, _ in pieces)


def spread(left: Sequence[Piece], right: Sequence[Piece], cells: int) -> list[Piece]:
    """``left`` at the left end and ``right`` at the right one; ``right`` goes where there is no room for both."""
    gap = cells - measure(left) - measure(right)
    return [*left, (" " * gap, "line"), *right] if gap > 0 else list(left)


def heading(title: str, note: str, cells: int, role: str = "text") -> list[Piece]:
    """A section's head: a bold title, a thin rule, a dim note at the right end."""
    rule = cells - width(title) - width(note) - (2 if note else 1)
    if rule < 1:
        return [(elide_end(title, cells), f"*{role}")]
    end: list[Piece] = [(f" {note}", "dim")] if note else []
    return [(f"{title} ", f"*{role}"), (drawn("─") * rule, "line"), *end]


def overlay(row: list[Piece], at: int, text: str, role: str) -> None:
    """Writes ``text`` into a row of one-cell pieces from cell ``at`` on, if it fits in. One cell a character."""
    if at >= 0 and at + len(text) <= len(row):
        row[at : at + len(text)] = [(char, role) for char in text]
