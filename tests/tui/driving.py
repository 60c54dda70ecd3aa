"""Helpers to drive the app under test and to read what it shows."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from textual.pilot import Pilot
from textual.strip import Strip

from conductor_console.console.app import ConsoleApp
from conductor_console.console.screens.jobs import JobsScreen
from conductor_console.console.widgets.jobs_table import JobsTable
from tests.tui.board import FrozenSource, RecordedHand


class Driven:
    """An app under test, and what it shows."""

    def __init__(self, app: ConsoleApp, pilot: Pilot[Any]) -> None:
        self.app = app
        self.pilot = pilot

    @property
    def table(self) -> JobsTable:
        """The jobs list."""
        screen = self.app.screen_stack[0]
        assert isinstance(screen, JobsScreen)
        return screen.table

    @property
    def text(self) -> str:
        """Everything on the screen, line by line."""
        return "\n".join(strip.text for strip in self.strips()).rstrip()

    def strips(self) -> list[Strip]:
        """What is on the screen, with its looks."""
        return list(self.app.screen._compositor.render_strips())

    def line(self, containing: str) -> str:
        """The first line of the screen that holds a text."""
        return next(line for line in self.text.splitlines() if containing in line)

    async def press(self, *keys: str) -> None:
        """Presses keys, and waits until what they did is on the screen."""
        await self.pilot.press(*keys)
        await self.pilot.pause()

    async def until(self, true: Callable[[], object], what: str, timeout: float = 30.0) -> None:
        """Waits for what another thread brings about."""
        deadline = time.monotonic() + timeout
        while not true():
            if time.monotonic() > deadline:
                raise AssertionError(f"waited in vain for {what}; the screen shows:\n{self.text}")
            await self.pilot.pause(0.02)
        await self.pilot.pause()

    async def until_left(self) -> None:
        """Waits until the app has been told to end."""
        await self.until(lambda: self.app.return_code is not None, "the app to end")


class Desk(Driven):
    """The app on a frozen board: its source, and the hand it acts with."""

    def __init__(self, app: ConsoleApp, source: FrozenSource, hand: RecordedHand, pilot: Pilot[Any]) -> None:
        super().__init__(app, pilot)
        self.source = source
        self.hand = hand

    async def deliver(self) -> None:
        """Has the app look at its source now."""
        self.app.deliver()
        await self.pilot.pause()


@asynccontextmanager
async def desk(source: FrozenSource | None = None, size: tuple[int, int] = (120, 36), **kw: Any) -> AsyncIterator[Desk]:
    """The app on a frozen board."""
    source = source or FrozenSource()
    hand = kw.pop("hand", None) or RecordedHand()
    app = ConsoleApp(source, hand, now=source.clock, **kw)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        yield Desk(app, source, hand, pilot)
