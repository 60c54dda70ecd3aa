"""Claims of others in the ledger: counted once, whoever tells of them, in whatever order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from conductor_console.jobboards import attempts, foreign
from conductor_console.jobboards.attempts import HISTORY_LENGTH, Attempt, AttemptRecord, make_cause

NOW = datetime(2026, 1, 1, tzinfo=UTC)
BOOM = make_cause("StorageFailure", "cannot save")
EMPTY = AttemptRecord("j1")


def claim(number: int) -> Attempt:
    return Attempt(0, "c1", hex(number), NOW + timedelta(seconds=number))


def noted(record: AttemptRecord, number: int, open_claim: str | None = None) -> AttemptRecord:
    return foreign.noted(record, claim(number), NOW, open_claim)


def test_a_claim_is_counted_once() -> None:
    once = noted(EMPTY, 5)
    assert (once.attempts, once.failures) == (1, 0)
    assert once.open_attempt is not None
    assert once.open_attempt.claim == "0x5"
    assert noted(once, 5) is once


def test_the_next_claim_ends_the_one_before_in_an_unknown_way_until_somebody_knows() -> None:
    record = noted(noted(EMPTY, 5), 9)
    assert [(attempt.n, attempt.claim, attempt.outcome) for attempt in record.history] == [
        (2, "0x9", None),
        (1, "0x5", "unknown"),
    ]
    better = foreign.ended(record, "0x5", "abandoned", NOW, BOOM)
    assert (better.attempts, better.failures) == (2, 1)
    assert better.history[1].error == BOOM
    assert foreign.ended(better, "0x5", "crashed", NOW) is better
    assert foreign.ended(better, "0x5", "unknown", NOW) is better


def test_an_older_claim_that_is_told_late_takes_its_place() -> None:
    record = noted(noted(EMPTY, 9), 5)
    assert [(attempt.n, attempt.claim, attempt.outcome) for attempt in record.history] == [
        (2, "0x9", None),
        (1, "0x5", "unknown"),
    ]
    assert record.attempts == 2


def test_what_fell_out_of_the_history_is_not_counted_again() -> None:
    record = EMPTY
    for number in range(1, HISTORY_LENGTH + 5):
        record = foreign.ended(noted(record, number), hex(number), "abandoned", NOW)
    assert record.attempts == record.failures == HISTORY_LENGTH + 4
    assert record.counted_to == "0x4"
    assert noted(record, 3) is record
    assert noted(record, 4) is record


def test_an_attempt_of_ours_that_is_open_keeps_its_claim_when_an_older_one_is_told() -> None:
    """Its claim is told by the version of the record, which the write changes."""
    ours = attempts.opened(EMPTY, "w1@here:1", NOW, None)
    record = noted(ours, 5, open_claim="0x9")
    assert [attempts.claim_order(str(attempt.claim)) for attempt in record.history] == [9, 5]
    assert record.history[0].open
    assert noted(ours, 9, open_claim="0x9") is ours
    # So it does when only the end of the older one is told.
    known = attempts.opened(foreign.noted(EMPTY, claim(5), NOW), "w1@here:1", NOW, None)
    record = foreign.ended(known, "0x5", "abandoned", NOW, open_claim="0x9")
    assert [attempts.claim_order(str(attempt.claim)) for attempt in record.history] == [9, 5]
    assert record.failures == 1
    # It is still one of ours, which crashed when it is left open, and its claim is told as the board has it.
    left = attempts.deserted(record, NOW, "0x9")
    assert (left.history[0].outcome, left.history[0].claim) == ("crashed", "0x9")


def test_an_attempt_of_ours_that_was_left_open_crashed_one_of_others_ended_somehow() -> None:
    ours = attempts.opened(EMPTY, "w1@here:1", NOW, None)
    record = noted(ours, 9, open_claim="0x5")
    assert record.history[1].outcome == "crashed"
    assert record.history[1].claim == "0x5"
    assert record.failures == 1
    settled = attempts.settled(record, claimed=False, now=NOW)
    assert settled is not None
    assert settled.history[0].outcome == "unknown"
    assert settled.failures == 1


def test_a_foreign_attempt_leaves_a_hold_as_it_is() -> None:
    held = AttemptRecord("j1", hold_until=NOW + timedelta(hours=1))
    record = foreign.ended(noted(held, 5), "0x5", "abandoned", NOW)
    assert record.hold_until == held.hold_until


def test_what_was_counted_in_memory_is_added_to_what_others_wrote() -> None:
    own = foreign.ended(noted(noted(EMPTY, 5), 7), "0x7", "abandoned", NOW, BOOM)
    theirs = foreign.ended(noted(noted(EMPTY, 7), 9), "0x9", "crashed", NOW)
    merged = foreign.merged(theirs, own, NOW)
    assert [(attempt.claim, attempt.outcome) for attempt in merged.history] == [
        ("0x9", "crashed"),
        ("0x7", "abandoned"),
        ("0x5", "unknown"),
    ]
    assert (merged.attempts, merged.failures) == (3, 2)
    assert foreign.merged(merged, own, NOW) == merged


@given(st.lists(st.integers(1, 12), min_size=1, max_size=12).flatmap(lambda seen: st.permutations([*seen, *seen])))
def test_any_order_gives_the_same_count(told: list[int]) -> None:
    """Each claim is told of at least twice, the first time as it begins and then as it ends, in any order of claims."""
    record = EMPTY
    for number in told:
        if foreign.tells(record, hex(number)):
            record = foreign.ended(record, hex(number), "abandoned", NOW)
        record = noted(record, number)
    assert record.attempts == record.failures == len(set(told))
    assert [attempt.n for attempt in record.history] == list(range(record.attempts, 0, -1))
    claims = [int(attempt.claim or "0", 16) for attempt in record.history]
    assert claims == sorted(claims, reverse=True)
