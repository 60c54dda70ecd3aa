"""The replay alone on the terminal: what ``conductor-console replay`` shows."""

from __future__ import annotations

import os

from textual.app import App

from conductor_console.console import glyphs, theme
from conductor_console.console.screens.replay import ReplayScreen
from conductor_console.console.theme import Palette
from conductor_console.replay.tape import Tape


class ReplayApp(App[None]):
    """Shows one tape; ends when the replay is left.

    :param palette: by default the dark one, or what the terminal allows. ``ascii_only``: draw with ASCII alone.
    """

    CSS_PATH = "console.tcss"
    TITLE = "conductor-console"
    ENABLE_COMMAND_PALETTE = False

    def __init__(self, tape: Tape, *, palette: Palette | None = None, ascii_only: bool = False) -> None:
        chosen = palette or theme.choose("dark", os.environ)
        theme.use(chosen)
        glyphs.use_ascii(ascii_only)
        super().__init__(ansi_color=True if chosen.ansi else None)
        for each in theme.css_themes():
            self.register_theme(each)
        self.theme = chosen.name
        self.tape = tape

    def on_mount(self) -> None:
        self.push_screen(ReplayScreen(self.tape), lambda _: self.exit())
