"""The replay: a flow's atoms as they were at a time, its events, its failures; stepped, sought, and played."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import ClassVar, Final

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import Screen
from textual.strip import Strip
from textual.timer import Timer
from textual.widget import Widget

from conductor_console.console import keys
from conductor_console.console.frame import Frame
from conductor_console.console.glyphs import Sign
from conductor_console.console.layout import fold
from conductor_console.console.screens.help import HelpScreen
from conductor_console.console.widgets.atom_detail import AtomDetail
from conductor_console.console.widgets.events import EventList, EventsHead
from conductor_console.console.widgets.footer import Footer, Notice
from conductor_console.console.widgets.header import Header
from conductor_console.console.widgets.ink import Piece, drawn, spread, strip
from conductor_console.console.widgets.lanes import AtomLanes, LanesHead, Legend
from conductor_console.console.widgets.panel import Panel
from conductor_console.console.widgets.timeline import Timeline
from conductor_console.jobboards.base import Connection
from conductor_console.observatory.snapshot import Snapshot
from conductor_console.replay import report
from conductor_console.replay.player import Player
from conductor_console.replay.tape import Tape
from conductor_console.replay.words import moment
from conductor_console.settings import short_store
from conductor_console.text import elide_middle, visible

FRAMES_A_SECOND: Final = 20
PAUSED: Final = "║"
BACK: Final = "◂"
FORTH: Final = "▸"


def _key(key: str, action: str, word: str, tells: str, shown: str = "") -> Binding:
    """A key of the replay; one without ``word`` is told in the help only, one without ``tells`` by another's line."""
    return Binding(key, action, word, key_display=shown or key, tooltip=tells, show=bool(word))


KEYS: Final = (
    _key("space", "play", "play", "Play, or pause"),
    _key("right", "step(1)", "event", "Event before, next event", f"{BACK} {FORTH}"),
    _key("left", "step(-1)", "", ""),
    _key("shift+right", "failure(1)", "failure", "Failure before, next failure", f"shift {BACK} {FORTH}"),
    _key("shift+left", "failure(-1)", "", ""),
    _key("right_square_bracket", "speed(1)", "speed", "Slower, faster: 1/4x to 64x", "[ ]"),
    _key("left_square_bracket", "speed(-1)", "", ""),
    _key("s", "skip_waits", "waits", "Skip waits: cross each in a second at most"),
    keys.BACK,
    keys.COPY,
    keys.HELP,
    _key(keys.QUIT.key, "quit", "quit", "Quit"),
    _key("home", "end(-1)", "", "First event, last event", "home end"),
    _key("end", "end(1)", "", ""),
    _key("up", "select(-1)", "", "Look at the atom above, below", "up down"),
    _key("down", "select(1)", "", ""),
    _key("pageup", "select(-10)", "", "Ten atoms up, down", "pgup pgdn"),
    _key("pagedown", "select(10)", "", ""),
)


class Line(Widget):
    """One line, made anew from what the screen knows whenever it is drawn."""

    DEFAULT_CSS = "Line { height: 1; }"

    def __init__(self, make: Callable[[int], list[Piece]], *, ground: str = "bg", id: str | None = None) -> None:
        super().__init__(id=id)
        self._make = make
        self._ground = ground

    def render_line(self, y: int) -> Strip:
        return strip(self._make(self.size.width) if y == 0 else (), self.size.width, self._ground)


class ReplayScreen(Screen[None]):
    """Stands on a tape and shows it. Dismissed by ``esc``.

    :param clock: seconds that only go forward; play follows it.
    """

    DEFAULT_CSS = """
    ReplayScreen { layout: vertical; background: $bg; }
    ReplayScreen #main { height: 1fr; }
    ReplayScreen #left { width: 1fr; height: 1fr; }
    ReplayScreen #side { width: 28; height: 1fr; }
    ReplayScreen #rule { width: 1; height: 1fr; }
    ReplayScreen.wide #side { width: 40; }
    ReplayScreen.narrow #side, ReplayScreen.narrow #rule { display: none; }
    ReplayScreen .gap { height: 1; }
    ReplayScreen.short .gap { display: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = list(KEYS)

    def __init__(self, tape: Tape, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.tape = tape
        self.player = Player(tape)
        self._clock = clock
        self._ticked: float | None = None
        self._timer: Timer | None = None
        self._selected: int | None = None
        self._notice = ""

    @property
    def playing(self) -> bool:
        return self._ticked is not None

    def compose(self) -> ComposeResult:
        header = Header()
        header.sign = Sign(PAUSED, "replay", "accent")
        yield header
        yield Line(lambda _: []).add_class("gap")
        yield Line(self._crumb, id="crumb")
        yield Line(lambda _: []).add_class("gap")
        with Horizontal(id="main"):
            with Vertical(id="left"):
                yield LanesHead(self.player)
                yield AtomLanes(self.player)
                yield Legend(self.player)
                yield Line(lambda _: []).add_class("gap")
                yield AtomDetail(self.player)
            yield Rule(id="rule")
            with Vertical(id="side"):
                yield EventsHead(self.player)
                yield EventList(self.player)
        yield Line(_rule).add_class("gap")
        yield Timeline(self.player)
        yield Line(lambda _: []).add_class("gap")
        yield Line(self._transport, id="transport")
        yield Notice()
        yield Footer()

    def on_mount(self) -> None:
        self._timer = self.set_interval(1 / FRAMES_A_SECOND, self._tick, pause=True)
        self._stand()

    def on_resize(self) -> None:
        self.set_class(self.size.width < 110, "narrow")
        self.set_class(self.size.width >= 150, "wide")
        self.set_class(self.size.height < 30, "short")
        self.call_after_refresh(self._fit)
        self._say(self._notice)

    def _fit(self) -> None:
        """The lanes are as high as their atoms, as far as the block below them leaves room."""
        left = self.query_one("#left").size.height
        lanes = self.query_one(AtomLanes)
        gap = 0 if self.has_class("short") else 1
        detail = 4 if self.has_class("short") else 6
        lanes.styles.height = max(1, min(len(lanes.rows), left - 3 - gap - detail))
        self.query_one(AtomDetail).styles.height = "1fr"

    # -- what the lines say ------------------------------------------------------------------------------------------
    def _frame(self) -> Frame:
        """What header and footer draw from: the store in place of a board, the replayed time in place of now."""
        when = self.player.when
        snapshot = Snapshot(0, when, short_store(self.tape.source), Connection("live", when))
        return Frame(snapshot, when, fold(*self.size), view="replay", notice=(self._notice, "soft"))

    def _crumb(self, cells: int) -> list[Piece]:
        attempt = self.player.attempt
        told = report.provenance(self.tape)
        if attempt is not None:
            told = f"attempt {attempt}, {told}"
        role = "soft" if self.tape.complete or not self.tape.rows else "amber"
        name = elide_middle(visible(self.tape.name or "-", 300), max(12, cells - len(told) - 16))
        lead: list[Piece] = [(" Replay ", "dim"), (f"{drawn('›')} ", "dim")]
        return [*lead, (name, "*text"), (f"   {told}", role)]

    def _transport(self, cells: int) -> list[Piece]:
        player = self.player
        state = drawn(FORTH) + " playing" if self.playing else drawn(PAUSED) + " paused"
        left: list[Piece] = [(drawn(f" {BACK}{BACK}  {BACK}  "), "soft")] if cells >= 110 else [(" ", "text")]
        left += [(state[0], "accent"), (state[1:], "*text")]
        left += [(drawn(f"  {FORTH}  {FORTH}{FORTH}   "), "soft")] if cells >= 110 else [("  ", "text")]
        left += [(" speed ", "dim"), (_speed(player.speed), "*text")]
        left += [("   skip waits ", "dim"), ("on" if player.skip_waits else "off", "*text")]
        if cells >= 110:
            left += [("   event ", "dim"), (f"{player.index + 1:,}", "*text"), (f" of {len(self.tape.rows):,}", "dim")]
        if player.failures:
            seen = sum(1 for index in player.failures if index <= player.index)
            left += [("   failure ", "dim"), (f"{seen}", "*red" if seen else "*text")]
            left.append((f" of {len(player.failures)}", "dim"))
        length = self.tape.length
        return spread(left, [(f"{moment(player.position, length)} of {moment(length, length)} ", "text")], cells)

    # -- moving ------------------------------------------------------------------------------------------------------
    def _stand(self) -> None:
        """Draws where the player stands."""
        lane = self.player.lane
        if lane is not None:
            self._selected = lane
        self._draw(self._selected if lane is not None else None)

    def _draw(self, told: int | None) -> None:
        """:param told: number of the lane the block below tells of; None: it tells of the event."""
        self.query_one(AtomLanes).show(self._selected)
        self.query_one(AtomDetail).show(None if told is None else self.player.lanes[told])
        self.query_one(EventList).show()
        for widget in self.query("Line, LanesHead, EventsHead, Timeline"):
            widget.refresh()
        self._say("")

    def _say(self, notice: str) -> None:
        """Tells one line until the next move, and has header and footer drawn anew."""
        self._notice = notice
        # Where there is no line to spare, it takes one only while there is something to tell.
        self.query_one(Notice).display = bool(notice) or not self.has_class("short")
        for panel in self.query(Panel):
            panel.take(self._frame())

    def _tick(self) -> None:
        now = self._clock()
        if self._ticked is None:
            return
        before = self.player.position, self.player.index
        self.player.advance(now - self._ticked)
        self._ticked = now
        if self.player.at_end:
            self._pause()
        if (self.player.position, self.player.index) != before:
            self._stand()

    def _pause(self) -> None:
        self._ticked = None
        if self._timer is not None:
            self._timer.pause()
        self.query_one("#transport").refresh()

    def action_play(self) -> None:
        if self.playing:
            self._pause()
            return
        if self.player.at_end:
            self.player.home()
        if self.player.at_end:
            return  # a tape of one event, or of none, has nothing to play
        self._ticked = self._clock()
        if self._timer is not None:
            self._timer.resume()
        self._stand()

    def action_step(self, by: int) -> None:
        self._pause()
        if by > 0:
            self.player.next()
        else:
            self.player.previous()
        self._stand()

    def action_failure(self, by: int) -> None:
        self._pause()
        if self.player.next_failure() if by > 0 else self.player.previous_failure():
            self._stand()
        else:
            self._say(f"No failure {'after' if by > 0 else 'before'} this")

    def action_end(self, which: int) -> None:
        self._pause()
        if which > 0:
            self.player.end()
        else:
            self.player.home()
        self._stand()

    def action_speed(self, by: int) -> None:
        if by > 0:
            self.player.faster()
        else:
            self.player.slower()
        self.query_one("#transport").refresh()

    def action_skip_waits(self) -> None:
        self.player.skip_waits = not self.player.skip_waits
        self.query_one("#transport").refresh()

    def action_select(self, by: int) -> None:
        if self.player.lanes:
            chosen = 0 if self._selected is None else self._selected + by
            self._select(max(0, min(len(self.player.lanes) - 1, chosen)))

    def _select(self, lane: int) -> None:
        self._selected = lane
        self._draw(lane)

    def on_atom_lanes_chosen(self, message: AtomLanes.Chosen) -> None:
        self._select(message.lane)

    def on_event_list_chosen(self, message: EventList.Chosen) -> None:
        self._pause()
        self.player.go(message.index)
        self._stand()

    def on_timeline_chosen(self, message: Timeline.Chosen) -> None:
        self._pause()
        self.player.at(message.seconds)
        self._stand()

    def action_copy(self) -> None:
        self.app.copy_to_clipboard("\n".join(report.text(self.tape)))
        self._say("Copied the replay as text")

    def action_help(self) -> None:
        told = HelpScreen(KEYS)
        self.app.push_screen(told)
        self.call_after_refresh(lambda: told.take(self._frame()))

    def action_back(self) -> None:
        self._pause()
        self.dismiss(None)

    async def action_quit(self) -> None:
        # The page below tells what quitting waits for.
        self.action_back()
        await self.app.action_quit()


class Rule(Widget):
    """The vertical rule between the atoms and the events."""

    def render_line(self, y: int) -> Strip:  # noqa: ARG002 - every line is the same
        return strip([(drawn("│"), "line")], self.size.width)


def _rule(cells: int) -> list[Piece]:
    return [(" ", "text"), (drawn("─") * max(0, cells - 2), "line")]


def _speed(speed: float) -> str:
    return {0.25: "1/4x", 0.5: "1/2x"}.get(speed, f"{speed:g}x")
