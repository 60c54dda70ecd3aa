"""What every view shares: header, tabs, counts or banner, notice, keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen

from conductor_console.console import keys
from conductor_console.console.frame import Frame
from conductor_console.console.widgets.counts import Counts
from conductor_console.console.widgets.footer import Footer, Notice
from conductor_console.console.widgets.header import Header
from conductor_console.console.widgets.panel import Panel
from conductor_console.console.widgets.tabs import VIEWS, Tabs

if TYPE_CHECKING:
    from conductor_console.console.app import ConsoleApp


_VIEWS = f"Views: {', '.join(title for _, title in VIEWS)}"


class ViewScreen(Screen[None]):
    """A view, or a page over one. It is handed each new frame by :meth:`take`."""

    view: ClassVar[str] = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            Binding(str(number), f"view('{view}')", title, show=False, tooltip=_VIEWS)
            for number, (view, title) in enumerate(VIEWS, 1)
        ),
        keys.MORE,
        keys.FEWER,
        keys.PAUSE,
        keys.STOP,
        keys.BREAKER,
        keys.OUTCOME,
        keys.SCREENSHOT,
        keys.QUIT_TOO,
    ]

    @property
    def console_app(self) -> ConsoleApp:
        """The app, as what it is."""
        from conductor_console.console.app import ConsoleApp

        assert isinstance(self.app, ConsoleApp)
        return self.app

    def compose(self) -> ComposeResult:
        yield Header()
        yield Tabs()
        yield self.top_line()
        yield from self.body()
        yield Notice()
        yield Footer()

    def top_line(self) -> Counts:
        """The line under the tabs."""
        return Counts()

    def body(self) -> ComposeResult:
        """What the view itself shows."""
        raise NotImplementedError

    def take(self, frame: Frame) -> None:
        """Shows a frame."""
        tabs = self.query_one(Tabs)
        tabs.display = frame.fold.tabs
        self.query_one(Counts).display = not frame.fold.tiny or frame.lost or frame.snapshot.breaker is not None
        self.set_class(frame.fold.tiny, "-tiny")
        for panel in self.query(Panel):
            panel.take(frame)

    def on_screen_resume(self) -> None:
        self.console_app.deliver()

    def on_descendant_focus(self) -> None:
        """The footer tells the keys of what is focused now."""
        self.query_one(Footer).redraw()

    # -- keys ------------------------------------------------------------------------------------------------------
    async def action_view(self, view: str) -> None:
        await self.console_app.show_view(view)

    def action_scale(self, by: int) -> None:
        self.console_app.acts.scale(by)

    def action_pause(self) -> None:
        self.console_app.acts.pause()

    def action_undo(self) -> None:
        self.console_app.acts.undo()

    def action_stop_act(self) -> None:
        self.console_app.acts.stop()

    def action_close_breaker(self) -> None:
        self.console_app.acts.close_breaker()

    def action_outcome(self) -> None:
        self.console_app.acts.tell_results()

    def action_screenshot(self) -> None:
        self.console_app.save_picture()

    def action_help(self) -> None:
        self.console_app.show_help()

    def action_quit(self) -> None:
        self.console_app.acts.leave()
