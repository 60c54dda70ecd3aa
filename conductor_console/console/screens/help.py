"""The help: every key of the view it was asked from, made from the bindings that act; and what the glyphs mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import ClassVar, Final

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen

from conductor_console.console.frame import Frame
from conductor_console.console.glyphs import STANDINGS, ascii_only, shape
from conductor_console.console.keys import STOP
from conductor_console.console.paint import Line
from conductor_console.console.widgets.panel import Panel
from conductor_console.observatory.snapshot import Standing
from conductor_console.text import elide_end

MEANINGS: Final[Mapping[Standing, str]] = {
    "cycling": "fails again and again",
    "malformed": "not a posting anyone can work on",
    "no-access": "we may not read it",
    "suspect": "failed twice, or its conductor is gone",
    "held": "waits out the time after a failure",
    "claimed": "a conductor works on it",
    "waiting": "for a conductor",
}


class _Keys(Panel):
    """Scrolls by lines where the terminal is too low."""

    def __init__(self, bindings: Sequence[Binding]) -> None:
        super().__init__()
        self._told = bindings
        self._top = 0

    def move(self, by: int) -> None:
        """Scrolls."""
        self._top = max(0, min(self._top + by, len(self.told(self.size.width)) - self.size.height))
        self.redraw()

    def lines(self, _frame: Frame, width: int) -> Sequence[Line]:
        drawn, height = self.told(width), self.size.height
        if len(drawn) > height:
            drawn[0] = Line().section("Keys", "down for more, esc closes this", end=width)
        return drawn[:1] + drawn[self._top + 1 : self._top + height]

    def told(self, width: int) -> list[Line]:
        """All of it, in lines of so many cells; what a key does is never cut."""
        drawn = [Line().section("Keys", "esc closes this", end=width)]
        for key, tells in described(self._told):
            first, *more = wrap(tells, max(20, width - 18))
            drawn.append(Line().gap(1).put(key, "accent", bold=True).to(17).put(first))
            drawn += [Line().to(17).put(part) for part in more]
        drawn += [Line(), Line().section("States", end=width)]
        for standing, meaning in MEANINGS.items():
            line = Line().gap(1).sign(STANDINGS[standing])
            drawn.append(line.to(17).put(elide_end(meaning, width - 18, shape("⋯")), "soft"))
        return drawn


def described(bindings: Sequence[Binding]) -> list[tuple[str, str]]:
    """Keys and what they do; those of which the same is told stand on one line."""
    keys: dict[str, list[str]] = {}
    # What the footer always shows comes first here too.
    for binding in sorted(bindings, key=lambda binding: not binding.show or binding.action == STOP.action):
        if binding.tooltip:
            shown = shape(binding.key_display or binding.key)
            names = keys.setdefault(binding.tooltip, [])
            if shown not in names:
                names.append(shown)
    return [(" ".join(names), tells) for tells, names in keys.items()]


class HelpScreen(ModalScreen[None]):
    """Any of the keys it tells closes it as well as esc."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q,enter,ctrl+c", "dismiss", "close", key_display="esc"),
        Binding("down,j", "move(1)", show=False),
        Binding("up,k", "move(-1)", show=False),
        Binding("pagedown,space", "move(10)", show=False),
        Binding("pageup", "move(-10)", show=False),
    ]

    def __init__(self, bindings: Sequence[Binding]) -> None:
        super().__init__()
        self._told = bindings

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog", classes="-ascii" if ascii_only() else ""):
            yield _Keys(self._told)

    def on_mount(self) -> None:
        self.on_resize()

    def on_resize(self) -> None:
        size, dialog = self.app.size, self.query_one("#dialog")
        dialog.styles.width = width = min(78, size.width - 4)
        # A border, and an empty line or two cells within it.
        dialog.styles.height = min(len(self.query_one(_Keys).told(width - 6)) + 4, size.height - 2)

    def take(self, frame: Frame) -> None:
        """Hands the frame on."""
        self.query_one(_Keys).take(frame)

    def action_move(self, by: int) -> None:
        self.query_one(_Keys).move(by)
