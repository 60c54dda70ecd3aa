"""A section's head as a widget: a bold title, a thin rule, a dim note at the right end."""

from __future__ import annotations

from textual.strip import Strip
from textual.widget import Widget

from conductor_console.console.paint import Line


class Section(Widget):
    """One line; title and note may be changed at any time. Both may be foreign text."""

    DEFAULT_CSS = """
    Section { height: 1; width: 1fr; }
    """

    def __init__(self, title: str = "", note: str = "", role: str = "text", *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._said = (title, note, role)

    def say(self, title: str, note: str = "", role: str = "text") -> None:
        """Changes what it says."""
        if self._said != (title, note, role):
            self._said = (title, note, role)
            self.refresh()

    def render_line(self, _y: int) -> Strip:
        title, note, role = self._said
        width = self.size.width
        return Line().section(title, note, end=width, role=role).strip(width)
