"""The Textual app: it pulls pictures, hands frames to the screen that is shown, and carries messages. No I/O here."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Final

from textual.app import App
from textual.binding import BindingType
from textual.screen import Screen

from conductor_console.clock import utcnow
from conductor_console.console import glyphs
from conductor_console.console import theme as themes
from conductor_console.console.acts import Acts
from conductor_console.console.background import run_aside
from conductor_console.console.frame import Frame
from conductor_console.console.layout import fold
from conductor_console.console.messages import Failed, Finished
from conductor_console.console.screens.bin import BinScreen
from conductor_console.console.screens.claims import ClaimsScreen
from conductor_console.console.screens.conductors import ConductorsScreen
from conductor_console.console.screens.confirm import ConfirmScreen
from conductor_console.console.screens.events import EventsScreen
from conductor_console.console.screens.failures import FailuresScreen
from conductor_console.console.screens.filtered import FilteredScreen
from conductor_console.console.screens.help import HelpScreen
from conductor_console.console.screens.jobs import JobsScreen
from conductor_console.console.screens.pager import PagerScreen
from conductor_console.console.screens.view import ViewScreen
from conductor_console.console.sources import Crew, Hand, OpenReplay, SnapshotSource
from conductor_console.operations import Result
from conductor_console.replay.tape import Tape

#: Seconds between two looks at the observatory; and how long a notice stays.
PULL: Final = 0.1
NOTICE: Final = 6.0
#: For how many times as long as a repaint took no other is begun by itself.
RESTS: Final = 3


class ConsoleApp(App[int]):
    """The console on one board."""

    CSS_PATH = "console.tcss"
    TITLE = "conductor-console"
    ENABLE_COMMAND_PALETTE = False
    AUTO_FOCUS = None
    DEFAULT_MODE = "jobs"
    BINDINGS: ClassVar[list[BindingType]] = []
    MODES: ClassVar[dict[str, str | Callable[[], Screen[Any]]]] = {
        "jobs": JobsScreen,
        "claims": ClaimsScreen,
        "failures": FailuresScreen,
        "bin": BinScreen,
        "conductors": ConductorsScreen,
        "events": EventsScreen,
    }

    def __init__(
        self,
        observatory: SnapshotSource,
        operations: Hand,
        *,
        fleet: Crew | None = None,
        open_replay: OpenReplay | None = None,
        operator: str = "operator",
        ascii_only: bool = False,
        theme: str = "dark",
        read_only: bool = False,
        now: Callable[[], datetime] = utcnow,
    ) -> None:
        """
        :param now: the clock, UTC; a test freezes it.
        """
        palette = themes.choose(theme, os.environ)
        themes.use(palette)
        glyphs.use_ascii(ascii_only)
        # With colours of the terminal's own Textual must not turn them into shades of its choice.
        super().__init__(ansi_color=True if palette.ansi else None)
        for each in themes.css_themes():
            self.register_theme(each)
        self.theme = palette.name
        self.source = observatory
        self._operator = operator
        self._read_only = read_only
        self._notice = ("", "soft")
        self._notice_until = 0.0
        self._second = 0
        self._resting_until = 0.0
        self.now = now
        self.painted = threading.Event()
        """Set once the first screen has been painted: from then on other work may take its share."""
        self.acts = Acts(self, operations, fleet, open_replay)
        self.frame = self._framed()

    # -- frames ----------------------------------------------------------------------------------------------------
    def _framed(self) -> Frame:
        now, snapshot = self.now(), self.source.snapshot()
        if self._notice[0] and now.timestamp() > self._notice_until:
            self._notice = ("", "soft")
        screen = self.screen_stack[-1] if self._running and self.screen_stack else None
        return Frame(
            snapshot=snapshot,
            now=now,
            fold=fold(*self.size) if self._running else fold(80, 24),
            operator=self._operator,
            view=screen.view if isinstance(screen, ViewScreen) else self.current_mode,
            read_only=self._read_only or snapshot.read_only,
            step=self.source.step,
            notice=self._notice,
            progress=self.acts.progress(),
        )

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Every role is a variable of the style sheet, before any theme is in force as well."""
        return dict(themes.css_colours(themes.active()))

    def on_mount(self) -> None:
        self.set_interval(PULL, self._pull)
        self.call_after_refresh(self.painted.set)

    def _pull(self) -> None:
        """Repaints when the picture moved, and each second for the clocks."""
        if time.perf_counter() < self._resting_until:
            return
        second = int(self.now().timestamp())
        moved = self.source.snapshot().version != self.frame.snapshot.version
        if moved or second != self._second or self.acts.progress() != self.frame.progress:
            self._second = second
            self.deliver()

    def deliver(self) -> None:
        """Hands a new frame to everything that is in sight."""
        if not self.is_running:
            return  # leaving: widgets go one by one
        began = time.perf_counter()
        self.frame = self._framed()
        for screen in self.screen_stack:
            if isinstance(screen, (ViewScreen, ConfirmScreen, HelpScreen, PagerScreen)) and screen.is_mounted:
                screen.take(self.frame)
        # On a board so big that this takes long (a filter, a sort), most of the time is still left for keys.
        ended = time.perf_counter()
        self._resting_until = ended + RESTS * (ended - began)

    def on_resize(self) -> None:
        self.call_later(self.deliver)

    # -- what screens ask for --------------------------------------------------------------------------------------
    def say(self, text: str, role: str = "text", *, stays: bool = False) -> None:
        """Tells one line for some seconds, or until the next."""
        self._notice = (text, role)
        self._notice_until = self.now().timestamp() + (3600.0 if stays else NOTICE)
        self.deliver()

    def push(self, screen: Screen[Any], answered: Callable[[Any], None] | None = None) -> None:
        """Puts a page or a dialog over what is shown."""
        self.push_screen(screen, answered)
        self.call_after_refresh(self.deliver)

    async def show_view(self, view: str) -> None:
        """Changes to another view."""
        await self.switch_mode(view)
        self.deliver()

    async def show_jobs(self, filtered: str) -> None:
        """The first view, with that filter."""
        await self.show_view("jobs")
        if isinstance(self.screen, JobsScreen):
            self.screen.set_filter(filtered)

    def show_help(self) -> None:
        """The keys of the screen that is shown."""
        bindings = [active.binding for active in self.screen.active_bindings.values() if active.node is not self]
        self.push(HelpScreen(bindings))

    def show_tape(self, tape: Tape) -> None:
        """Shows a replay."""
        from conductor_console.console.screens.replay import ReplayScreen

        self.say("", "soft")
        self.push(ReplayScreen(tape))

    def copy(self, text: str, what: str) -> None:
        """To the clipboard, by the terminal."""
        if text:
            self.copy_to_clipboard(text)
            self.say(f"Copied {what}", "soft")

    def save_picture(self) -> None:
        """Saves what is shown as an SVG file in the working directory."""
        drawn = self.export_screenshot()
        path = Path(f"conductor-console-{self.now():%Y%m%d-%H%M%S}.svg")

        def write() -> str:
            path.write_text(drawn, encoding="utf-8")
            return str(path.absolute())

        run_aside(self, "screenshot", write, lambda saved: self.say(f"Saved {saved}", "soft"))

    def after_act(self, results: Sequence[Result]) -> None:
        """Takes marks off what was acted upon."""
        done = {result.key for result in results if result.result in ("done", "gone")}
        for screen in self.screen_stack:
            if isinstance(screen, FilteredScreen):
                rows = screen.filtered.rows
                rows.marks = {key: None for key in rows.marks if key not in done}

    async def action_quit(self) -> None:
        """Textual's own key for it, ctrl+q, leaves in good order too."""
        self.acts.leave()

    # -- messages from threads -------------------------------------------------------------------------------------
    def on_finished(self, message: Finished) -> None:
        message.then()

    def on_failed(self, message: Failed) -> None:
        self.say(message.line, "red")
