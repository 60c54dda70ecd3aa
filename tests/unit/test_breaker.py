"""The circuit breaker's rule, against a plain reading of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conductor_console.jobboards.attempts import Attempt, Cause, make_cause
from conductor_console.jobboards.breaker import (
    CLOSED,
    RULE,
    Breaker,
    Rule,
    Trend,
    blame,
    closed,
    from_json,
    opened,
    stepped,
    to_json,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
CAUSES = [
    make_cause("StorageFailure", "no room", "a.py:1 in save"),
    make_cause("Timeout", "too slow", "b.py:2 in call"),
]


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


#: (second, length, job, cause or none), each an attempt of its own.
Closings = list[tuple[int, int, int, int | None]]
CLOSINGS = st.lists(
    st.tuples(st.integers(0, 150), st.integers(0, 20), st.integers(0, 14), st.sampled_from([0, 0, 0, 1, None])),
    max_size=60,
)


def trend_of(closings: Closings, rule: Rule = RULE) -> Trend:
    trend = Trend(rule)
    for n, (second, length, job, cause) in enumerate(closings):
        began = at(second - length)
        trend.add(f"j{job}", n, at(second), None if cause is None else CAUSES[cause], began=began)
    return trend


def fulfilled(closings: Closings, now: float, cleared: float) -> set[str]:
    """The rule, as it is told: the fingerprints of at least 10 distinct jobs and half of the attempts of 60 s."""
    recent = [(job, cause) for at, long, job, cause in closings if at > now - 60 and at - long > cleared]
    attempts = Counter(cause for _, cause in recent if cause is not None)
    return {
        CAUSES[cause].fingerprint
        for cause, number in attempts.items()
        if len({job for job, other in recent if other == cause}) >= 10 and 2 * number >= len(recent)
    }


@given(CLOSINGS, st.integers(150, 220), st.integers(-50, 200))
def test_it_opens_exactly_by_the_rule(closings: Closings, now: int, cleared: int) -> None:
    verdict = trend_of(closings).verdict(at(now), at(cleared))
    wanted = fulfilled(closings, now, cleared)
    assert (verdict is not None) == bool(wanted)
    assert verdict is None or verdict.cause.fingerprint in wanted
    state = stepped(replace(CLOSED, cleared=at(cleared)), trend_of(closings), at(now), "c1")
    assert state.open(at(now)) == bool(wanted)


@given(CLOSINGS)
def test_the_same_attempts_told_twice_and_in_any_order_are_the_same(closings: Closings) -> None:
    twice = trend_of(closings)
    for n, (second, _, job, cause) in reversed(list(enumerate(closings))):
        assert not twice.add(f"j{job}", n, at(second), None if cause is None else CAUSES[cause])
    assert twice.verdict(at(150)) == trend_of(closings).verdict(at(150))


def test_a_lone_sick_job_among_fifty_healthy_ones_never_opens_it() -> None:
    trend = Trend()
    for n in range(200):
        trend.add("sick", n, at(n / 10), CAUSES[0])
    for n in range(50):
        trend.add(f"well{n}", 1, at(n / 10))
    assert trend.verdict(at(20)) is None


def test_an_attempt_that_turns_out_to_have_failed_is_one_that_failed() -> None:
    trend = Trend()
    for n in range(10):
        assert trend.add(f"j{n}", 1, at(n))
    assert trend.verdict(at(10)) is None
    for n in range(10):
        assert trend.add(f"j{n}", 1, at(n), CAUSES[1])
    verdict = trend.verdict(at(10))
    assert verdict is not None
    assert (verdict.jobs, verdict.attempts, verdict.why) == (10, 10, "10 jobs fail with Timeout")


def test_it_closes_sixty_seconds_after_the_condition_was_last_seen() -> None:
    trend = Trend()
    for n in range(12):
        trend.add(f"j{n}", 1, at(0), CAUSES[0])
    state = stepped(CLOSED, trend, at(0), "c1")
    assert state.open(at(0))
    # It holds as long as the attempts are of the last 60 s, and is said again when a quarter of the time is over.
    assert stepped(state, trend, at(10), "c1") is state
    state = stepped(state, trend, at(59), "c2")
    assert (state.since, state.by) == (at(0), "c2")
    assert stepped(state, trend, at(118), "c1") is state
    assert state.open(at(118))
    assert not state.open(at(119))
    shut = stepped(state, trend, at(125), "c1")
    assert (shut.kind, shut.cleared) == (None, at(119))
    assert stepped(shut, trend, at(126), "c1") is shut


def test_a_store_that_does_not_answer_comes_before_a_cause() -> None:
    cause = opened(CLOSED, "cause", "12 jobs fail", at(0), "c1", cause=CAUSES[0])
    store = opened(cause, "store", "the store does not answer", at(5), "c2")
    assert (store.kind, store.cause, store.since) == ("store", None, at(0))
    assert opened(store, "cause", "12 jobs fail", at(6), "c1", cause=CAUSES[0]) is store


def test_what_ran_while_it_was_open_is_excused_and_opens_nothing() -> None:
    state = closed(opened(CLOSED, "store", "gone", at(0), "c1"), at(30), "c1")
    assert state.excuses(at(29), at(100))
    assert not state.excuses(at(31), at(100))
    assert not state.excuses(None, at(100))
    trend = trend_of([(40, 15, job, 0) for job in range(12)])
    assert stepped(state, trend, at(41), "c1") is state


@pytest.mark.parametrize(
    ("outcome", "error", "blamed"),
    [
        ("abandoned", CAUSES[0], True),
        ("failed", CAUSES[0], True),
        ("crashed", CAUSES[0], True),
        ("released", CAUSES[0], True),
        ("released", make_cause("NotAllowed", "not here"), False),
        ("suspended", CAUSES[0], False),
        ("abandoned", None, False),
    ],
)
def test_what_an_attempt_failed_with(outcome: str, error: Cause | None, blamed: bool) -> None:
    assert blame(outcome, error) == (error if blamed else None)  # type: ignore[arg-type]


def test_a_record_tells_its_newest_attempts() -> None:
    def attempt(n: int, ended: float) -> Attempt:
        return Attempt(n, "c1@h:1", None, at(0), at(ended), "abandoned", None, CAUSES[0])

    trend = Trend(Rule(jobs=1))
    history = (Attempt(4, "c1@h:1", None, at(100)), attempt(3, 100), attempt(2, 90), attempt(1, 5))
    assert trend.add_history("j", history, at(101))
    assert not trend.add_history("j", history, at(101))
    verdict = trend.verdict(at(101))
    assert verdict is not None
    assert verdict.attempts == 2


@pytest.mark.parametrize("state", [CLOSED, opened(CLOSED, "cause", "12 jobs fail", at(0), "c1@h:1", cause=CAUSES[0])])
def test_it_lies_on_the_board_as_json(state: Breaker) -> None:
    assert from_json(to_json(state)) == state


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"{}", b'{"v":1,"kind":"odd"}', b'{"v":1,"kind":"store","cause":3}', b"\xff"]
)
def test_what_is_no_state_is_a_closed_one(raw: bytes) -> None:
    assert from_json(raw) is CLOSED
