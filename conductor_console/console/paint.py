"""Lines of cells, built from left to right out of text and roles: the one brush of every panel.

Whatever is put on a line goes through :func:`text.visible`, and nothing is ever parsed as markup.
"""

from __future__ import annotations

from rich.cells import cell_len
from rich.segment import Segment
from textual.strip import Strip

from conductor_console.console import theme
from conductor_console.console.glyphs import Sign, shape
from conductor_console.console.theme import Palette
from conductor_console.text import visible


class Line:
    """One line under the brush. Columns count from 0; methods return the line, so that calls chain."""

    __slots__ = ("_ground", "_palette", "_segments", "cells")

    def __init__(self, palette: Palette | None = None, ground: str = "bg") -> None:
        """
        :param palette: the one in force by default. ``ground``: the role that fills the whole line; a Line API
            widget's own background is not painted beneath its strips.
        """
        self._palette = palette or theme.active()
        self._ground = ground
        self._segments: list[Segment] = []
        self.cells = 0

    def put(self, text: str, role: str = "text", bold: bool = False, ground: str | None = None) -> Line:
        """Adds text at the end of what is there."""
        if text:
            text = visible(text)
            self._add(text, len(text) if text.isascii() else cell_len(text), role, bold, ground or self._ground)
        return self

    def _add(self, text: str, cells: int, role: str, bold: bool, ground: str) -> None:
        self._segments.append(Segment(text, self._palette.style(role, bold, ground)))
        self.cells += cells

    def glyph(self, glyphs: str, role: str, bold: bool = False) -> Line:
        """Adds glyphs of ours, in the set in force; each is one cell."""
        self._add(shape(glyphs), len(glyphs), role, bold, self._ground)
        return self

    def sign(self, sign: Sign, word: str | None = None, bold: bool = False) -> Line:
        """Adds a state: glyph, space, word."""
        return self.glyph(sign.glyph, sign.role, True).gap(1).put(word or sign.word, sign.role, bold)

    def gap(self, cells: int) -> Line:
        """Adds empty cells."""
        if cells > 0:
            self._add(" " * cells, cells, "text", False, self._ground)
        return self

    def to(self, column: int) -> Line:
        """Goes on at a column; where the line is already past it, it stays there."""
        return self.gap(column - self.cells)

    def right(self, text: str, role: str = "text", *, end: int, bold: bool = False) -> Line:
        """Adds text that ends before column ``end``."""
        return self.to(end - cell_len(visible(text))).put(text, role, bold)

    def rule(self, end: int) -> Line:
        """A thin rule up to column ``end``."""
        return self.glyph("─" * (end - self.cells), "line") if end > self.cells else self

    def section(self, title: str, note: str = "", *, end: int, role: str = "text") -> Line:
        """A section's head: a bold title, a thin rule, a dim note that ends before column ``end``."""
        self.put(title, role, bold=True)
        if self.cells + 1 < end:
            self.gap(1)
        if not note:
            return self.rule(end)
        return self.rule(end - cell_len(visible(note)) - 1).gap(1).put(note, "dim")

    def strip(self, width: int) -> Strip:
        """The finished line: exactly ``width`` cells, cut or filled."""
        self.gap(width - self.cells)
        whole = Strip(self._segments, self.cells)
        return whole if self.cells == width else whole.crop(0, width)

    @property
    def text(self) -> str:
        """What it reads, without its looks."""
        return "".join(segment.text for segment in self._segments).rstrip()
