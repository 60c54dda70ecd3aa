"""An open circuit breaker on the screen: a banner that tells why and what it means, and the key that closes it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from conductor_console.jobboards.attempts import make_cause
from conductor_console.jobboards.breaker import CLOSED, Breaker, opened
from tests.tui.board import NOW, FrozenSource, picture
from tests.tui.driving import desk

SINCE = NOW - timedelta(minutes=2)
MANY = opened(
    CLOSED, "cause", "14 jobs fail with StorageFailure", SINCE, "c1", cause=make_cause("StorageFailure", "no")
)
DOWN = opened(CLOSED, "store", "the store does not answer", SINCE, "c1")


@pytest.mark.parametrize(
    ("breaker", "line"),
    [
        (
            MANY,
            "! Breaker open 2m: 14 jobs fail with StorageFailure; no failure counts, nothing is binned   c closes it",
        ),
        (DOWN, "! Breaker open 2m: the store does not answer; no failure counts, nothing is binned   c asks the store"),
    ],
)
async def test_an_open_breaker_is_a_banner_until_it_is_closed(breaker: Breaker, line: str) -> None:
    source = FrozenSource()
    source.show(replace(picture(), breaker=breaker))
    async with desk(source) as at:
        assert line in at.text
        await at.press("c")
        await at.until(lambda: "The circuit breaker is closed" in at.text, "the answer")
        assert at.hand.calls == [("close breaker", [])]
        source.show(picture())
        await at.deliver()
        assert "Breaker open" not in at.text
        await at.press("c")
        assert "The circuit breaker is closed: there is nothing to close" in at.text
        assert len(at.hand.calls) == 1


async def test_on_a_small_screen_it_is_told_as_well() -> None:
    source = FrozenSource()
    source.show(replace(picture(), breaker=MANY))
    async with desk(source, size=(80, 24)) as at:
        assert "Breaker open 2m: 14 jobs fail with StorageFailure   c closes it" in at.text
        assert "While the breaker is open no failure counts, nothing is binned" in at.text
    async with desk(source, size=(60, 20)) as at:
        assert "Breaker open 2m: 14 jobs fail" in at.text
