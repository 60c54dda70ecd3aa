"""The views: one line of names, and a rule under it that is heavy under the one shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from textual import events

from conductor_console.console.frame import Frame
from conductor_console.console.paint import Line
from conductor_console.console.widgets.panel import Panel

#: The views there are: name, title. The key of each is its place.
VIEWS: Final = (
    ("jobs", "Jobs"),
    ("claims", "Claims"),
    ("failures", "Failures"),
    ("bin", "Bin"),
    ("conductors", "Conductors"),
    ("events", "Events"),
)
BETWEEN: Final = 4


class Tabs(Panel):
    """Two lines; a click changes the view."""

    DEFAULT_CSS = """
    Tabs { height: 2; margin-top: 1; }
    """

    def lines(self, frame: Frame, width: int) -> Sequence[Line]:
        names = Line().gap(1)
        under = Line()
        for number, (view, title) in enumerate(VIEWS, 1):
            shown = view == frame.view
            start = names.cells
            names.put(str(number), "accent" if shown else "dim", bold=shown).gap(1)
            names.put(title, "text" if shown else "soft", bold=shown)
            if shown:
                under.rule(start).glyph("━" * (names.cells - start), "accent")
            names.gap(BETWEEN)
        return [names, under.rule(width)]

    async def on_click(self, event: events.Click) -> None:
        start = 1
        for view, title in VIEWS:
            if start <= event.x < start + 2 + len(title):
                await self.run_action(f"screen.view('{view}')")
                return
            start += 2 + len(title) + BETWEEN
