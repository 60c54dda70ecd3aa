"""The attempt ledger's rules: what each step counts, how long jobs are held, and that nothing written is lost."""

from __future__ import annotations

import json
import string
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conductor_console.jobboards import attempts
from conductor_console.jobboards.attempts import Attempt, AttemptRecord, Binned, Cause, Outcome, Policy

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)
BOOM = attempts.make_cause("StorageFailure", "cannot save", "pkg/mod.py:41 in save")
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)


def opened(record: AttemptRecord | None = None, claim: str = "1") -> AttemptRecord:
    return attempts.opened(record or AttemptRecord("j"), "c1", NOW, "f", claim=claim)


def after(*outcomes: Outcome) -> AttemptRecord:
    """The record of a job whose attempts ended like this."""
    record = AttemptRecord("j")
    for number, outcome in enumerate(outcomes, 1):
        record = attempts.closed(opened(record, str(number)), outcome, LATER)
    return record


def failed(times: int) -> AttemptRecord:
    outcome: Outcome = "failed"
    return after(*(outcome for _ in range(times)))


# -- opening and closing -----------------------------------------------------------------------------------------------


def test_opening_counts_an_attempt_and_ends_hold_and_bin() -> None:
    before = replace(after("abandoned"), hold_until=LATER, binned=Binned("op", NOW, "why"))
    record = opened(before, "2")
    assert (record.attempts, record.failures, record.hold_until, record.binned) == (2, 1, None, None)
    assert record.open_attempt == Attempt(2, "c1", "2", NOW, flow="f")
    assert record.history[1].outcome == "abandoned"


def test_closing_tells_how_it_ended() -> None:
    record = attempts.closed(opened(), "abandoned", LATER, error=BOOM, hold=30)
    assert record.open_attempt is None
    assert record.history[0] == Attempt(1, "c1", "1", NOW, LATER, "abandoned", "f", BOOM)
    assert record.hold_until == LATER + timedelta(seconds=30)
    assert record.cause == BOOM


def test_closing_fills_in_a_claim_that_was_not_known_and_changes_none_that_was() -> None:
    unknown = attempts.opened(AttemptRecord("j"), "c1", NOW, None)
    assert attempts.closed(unknown, "suspended", LATER, claim="0x9").history[0].claim == "0x9"
    assert attempts.closed(opened(), "suspended", LATER, claim="0x9").history[0].claim == "1"


def test_closing_what_is_not_open_changes_nothing() -> None:
    record = after("suspended")
    assert attempts.closed(record, "failed", LATER) is record
    assert attempts.deserted(record, LATER) is record


@pytest.mark.parametrize(
    ("outcomes", "failures"),
    [
        (("abandoned", "failed", "crashed"), 3),
        (("abandoned", "suspended", "abandoned"), 2),
        (("abandoned", "revoked", "released", "unknown"), 1),
        (("abandoned", "consumed"), 0),
        (("abandoned", "consumed", "failed"), 1),
        (("suspended",), 0),
    ],
)
def test_failures_are_the_last_unbroken_run(outcomes: tuple[Outcome, ...], failures: int) -> None:
    record = after(*outcomes)
    assert record.failures == failures
    assert record.attempts == len(outcomes)


def test_an_attempt_left_open_crashed_before_the_next_began() -> None:
    record = attempts.opened(opened(), "c2", LATER, None, claim="2", prior_claim="0x7")
    assert (record.attempts, record.failures) == (2, 1)
    crash = record.history[1]
    assert (crash.outcome, crash.ended, crash.claim) == ("crashed", LATER, "1")
    assert crash.error is not None
    assert crash.error.message == attempts.CRASHED


def test_a_crash_is_held_by_the_policy_from_the_second_in_a_row() -> None:
    policy = Policy(base=10, jitter=0)
    first = attempts.deserted(opened(), NOW, policy=policy)
    assert first.hold_until is None
    second = attempts.deserted(opened(first, "2"), NOW, policy=policy)
    assert second.hold_until == NOW + timedelta(seconds=20)


def test_settled_is_the_record_while_somebody_holds_the_job() -> None:
    record = opened()
    assert attempts.settled(record, claimed=True, now=LATER) is record
    assert attempts.settled(None, claimed=False, now=LATER) is None
    crash = attempts.settled(record, claimed=False, now=LATER)
    assert crash is not None
    assert crash.history[0].outcome == "crashed"


# -- bin, restore, retry -----------------------------------------------------------------------------------------------


def test_the_bin_revokes_what_is_under_way_and_ends_the_hold() -> None:
    record = attempts.put_in_bin(replace(opened(after("failed"), "2"), hold_until=LATER), "op", LATER, "cycling")
    assert record.binned == Binned("op", LATER, "cycling")
    assert record.history[0].outcome == "revoked"
    assert (record.failures, record.hold_until) == (1, None)


def test_restoring_forgives_and_keeps_the_history() -> None:
    binned = attempts.put_in_bin(after("failed", "failed"), "op", LATER, "")
    record = attempts.restored(binned)
    assert (record.failures, record.attempts, record.binned, record.hold_until) == (0, 2, None, None)
    assert record.history == binned.history


def test_retrying_only_ends_the_hold() -> None:
    record = replace(after("failed"), hold_until=LATER)
    assert attempts.held(record, None) == replace(record, hold_until=None)


def test_held_until_the_moment_itself() -> None:
    record = replace(AttemptRecord("j"), hold_until=LATER)
    assert record.held(NOW)
    assert not record.held(LATER)
    assert not AttemptRecord("j").held(NOW)


# -- holds -------------------------------------------------------------------------------------------------------------


def test_holds_double_up_to_the_cap() -> None:
    policy = Policy(max_attempts=10, base=2, cap=30, jitter=0)
    assert [policy.hold(n, "abandoned") for n in range(1, 7)] == [2, 4, 8, 16, 30, 30]


def test_what_is_due_for_the_bin_is_not_held() -> None:
    policy = Policy(max_attempts=3, base=2, jitter=0)
    assert [policy.hold(n, "crashed") for n in range(1, 6)] == [0, 4, 0, 0, 0]


@pytest.mark.parametrize("outcome", sorted(attempts.OUTCOMES - attempts.FAILURES))
def test_what_is_no_failure_is_not_held(outcome: Outcome) -> None:
    assert Policy().hold(3, outcome) == 0


def test_no_failures_no_hold_and_a_first_crash_is_free() -> None:
    assert Policy().hold(0, "failed") == 0
    assert Policy().hold(1, "crashed") == 0
    assert Policy(jitter=0).hold(2, "crashed") == 4


@given(st.integers(1, 10**6), st.floats(0, 1, exclude_max=True), st.floats(0, 1))
def test_jitter_stays_within_its_fraction(failures: int, chance: float, jitter: float) -> None:
    policy = Policy(max_attempts=10**7, base=2, cap=300, jitter=jitter)
    plain = Policy(max_attempts=10**7, base=2, cap=300, jitter=0).hold(failures, "failed")
    hold = policy.hold(failures, "failed", chance)
    assert max(0.0, plain * (1 - jitter) - 1e-9) <= hold <= plain * (1 + jitter) + 1e-9


def test_exhausted_at_the_limit() -> None:
    policy = Policy(max_attempts=2)
    assert not policy.exhausted(None)
    assert not policy.exhausted(after("failed"))
    assert policy.exhausted(after("failed", "failed"))


# -- fingerprints ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("port 80 refused", "port 8443 refused"),
        ("took 0.25 s", "took 1e-05 s"),
        ("1,204 rows", "7 rows"),
        ("at 0x7f00deadbeef", "at 0x1"),
        ("no flow 6f8c2f5e-1111-4222-8333-944445555666", "no flow 00000000-aaaa-bbbb-cccc-dddddddddddd"),
        ("no flow 6F8C2F5E-1111-4222-8333-944445555666", "no flow 00000000-aaaa-bbbb-cccc-dddddddddddd"),
        ("digest d41d8cd98f00b204e9800998ecf8427e", "digest deadbeefdeadbeefdeadbeefdeadbeef"),
        ("job 9f2c41ab failed", "job 1b3d55ff failed"),
        ("host 10.0.0.1 down", "host 192.168.100.200 down"),
        ("host 2001:db8::1 down", "host fe80::dead:beef down"),
        ("port fa:16:3e:00:00:01", "port fa:16:3e:aa:bb:cc"),
        ("no key 'a'", "no key 'something else'"),
        ('no key "a"', 'no key "b c"'),
        ("can't open 'a'", "can't open 'b'"),
        ("can't open 'it's'", "can't open 'b'"),
        ("bad value '" + "x" * 2000 + "' given", "bad value 'y' given"),
    ],
)
def test_one_cause_has_one_fingerprint_whatever_the_values(one: str, other: str) -> None:
    first, second = attempts.make_cause("E", one), attempts.make_cause("E", other)
    assert first.fingerprint == second.fingerprint


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("E", "cannot save", "a.py:1 in f"), ("F", "cannot save", "a.py:1 in f")),
        (("E", "cannot save", "a.py:1 in f"), ("E", "cannot load", "a.py:1 in f")),
        (("E", "cannot save", "a.py:1 in f"), ("E", "cannot save", "b.py:1 in f")),
        (("E", "cannot save", "a.py:1 in f"), ("E", "cannot save", "a.py:1 in g")),
        (("E", "faded", ""), ("E", "facade", "")),
    ],
)
def test_other_causes_have_other_fingerprints(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    assert attempts.fingerprint(*one) != attempts.fingerprint(*other)


def test_a_moved_line_is_the_same_cause() -> None:
    assert attempts.fingerprint("E", "m", "a.py:1 in f") == attempts.fingerprint("E", "m", "a.py:99 in f")


@given(st.integers(), st.integers(), st.uuids(), st.uuids(), st.ip_addresses(), st.ip_addresses())
def test_generated_values_do_not_tell(a: int, b: int, c: Any, d: Any, e: Any, f: Any) -> None:
    text = "cannot reach {} for {} after {} tries"
    assert attempts.fingerprint("E", text.format(e, c, a), "") == attempts.fingerprint("E", text.format(f, d, b), "")


@given(st.text(), st.text(max_size=3000), st.text())
def test_any_text_makes_a_cause_within_its_limits(error_type: str, message: str, where: str) -> None:
    cause = attempts.make_cause(error_type, message, where)
    assert len(cause.fingerprint) == 8
    assert message.startswith(cause.message)
    assert len(cause.message) <= attempts.MESSAGE_LENGTH
    assert len(cause.where) <= attempts.PLACE_LENGTH


# -- limits ------------------------------------------------------------------------------------------------------------


def test_the_newest_attempts_are_kept_and_the_counts_lose_nothing() -> None:
    record = failed(25)
    assert (record.attempts, record.failures) == (25, 25)
    assert [attempt.n for attempt in record.history] == list(range(25, 5, -1))
    assert record.counted_to == "5"


def test_claims_are_ordered_as_numbers_not_as_text() -> None:
    record = AttemptRecord("j")
    for claim in ["0x9", "0xff", "0x100", *(hex(0x200 + n) for n in range(20))]:
        record = attempts.closed(opened(record, claim), "failed", LATER)
    assert record.counted_to == "0x100"


def test_history_stays_within_its_bytes() -> None:
    record = AttemptRecord("j")
    wide = attempts.make_cause("E", "\N{PILE OF POO}" * attempts.MESSAGE_LENGTH)
    for claim in range(1, 13):
        record = attempts.closed(opened(record, str(claim)), "failed", LATER, error=wide)
    assert len(attempts.to_json(record)) <= attempts.HISTORY_BYTES + 1024
    assert 1 < len(record.history) < 12
    assert record.history[0].n == record.attempts == record.failures == 12
    assert record.counted_to == str(12 - len(record.history))


def test_names_of_any_length_do_not_burst_a_record() -> None:
    record = attempts.opened(AttemptRecord("j"), "w" * 10**6, NOW, "f" * 10**6, claim="1")
    record = attempts.put_in_bin(record, "o" * 10**6, NOW, "y" * 10**6)
    assert len(attempts.to_json(record)) < 8192


def test_shrunk_keeps_the_newest_attempt_whatever_the_room() -> None:
    record = failed(10)
    small = attempts.shrunk(record, 0)
    assert [attempt.n for attempt in small.history] == [10]
    assert (small.attempts, small.failures, small.counted_to) == (10, 10, "9")
    some = attempts.shrunk(record, 1000)
    assert 1 < len(some.history) < 10
    assert len(attempts.to_json(some)) <= 1000


# -- written and read again --------------------------------------------------------------------------------------------

times = st.datetimes(datetime(1970, 1, 2), datetime(9000, 1, 1), timezones=st.just(UTC))
claims = st.integers(0, 2**63).flatmap(lambda number: st.sampled_from([str(number), hex(number)]))
causes = st.builds(Cause, st.text(max_size=40), st.text(max_size=200), st.text(max_size=60), st.text(max_size=8))
histories = st.lists(
    st.builds(
        Attempt,
        n=st.integers(0, 10**9),
        who=st.text(max_size=60),
        claim=st.none() | claims,
        began=times,
        ended=st.none() | times,
        outcome=st.none() | st.sampled_from(OUTCOMES),
        flow=st.none() | st.text(max_size=40),
        error=st.none() | causes,
    ),
    max_size=5,
).map(tuple)
records = st.builds(
    AttemptRecord,
    job=st.text(max_size=60),
    attempts=st.integers(0, 10**9),
    failures=st.integers(0, 10**9),
    hold_until=st.none() | times,
    counted_to=st.none() | claims,
    binned=st.none() | st.builds(Binned, st.text(max_size=40), times, st.text(max_size=100)),
    history=histories,
)


@given(records)
def test_records_survive_being_written(record: AttemptRecord) -> None:
    assert attempts.from_json(attempts.to_json(record), record.job) == record


def test_the_written_form_is_the_one_documented() -> None:
    record = attempts.closed(opened(), "abandoned", LATER, error=BOOM, hold=1)
    assert json.loads(attempts.to_json(record)) == {
        "v": 1,
        "job": "j",
        "attempts": 1,
        "failures": 1,
        "hold_until": "2026-01-01T00:05:01.000000Z",
        "counted_to": None,
        "binned": None,
        "history": [
            {
                "n": 1,
                "who": "c1",
                "claim": "1",
                "began": "2026-01-01T00:00:00.000000Z",
                "ended": "2026-01-01T00:05:00.000000Z",
                "outcome": "abandoned",
                "flow": "f",
                "error": {
                    "type": "StorageFailure",
                    "message": "cannot save",
                    "where": "pkg/mod.py:41 in save",
                    "fingerprint": BOOM.fingerprint,
                },
            }
        ],
    }


def test_an_outcome_of_a_later_version_reads_as_unknown() -> None:
    raw = attempts.to_json(after("failed")).replace(b'"failed"', b'"exploded"')
    assert attempts.from_json(raw, "j").history[0].outcome == "unknown"


def changed(**fields: Any) -> bytes:
    return json.dumps(json.loads(attempts.to_json(after("failed"))) | fields).encode()


def changed_attempt(**fields: Any) -> bytes:
    attempt = json.loads(attempts.to_json(after("failed")))["history"][0]
    return changed(history=[attempt | fields])


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[]",
        b'"text"',
        b"{}",
        b"[" * 100_000,
        changed(v=2),
        changed(job="another"),
        changed(attempts=None),
        changed(attempts="many"),
        changed(attempts=float("inf")),
        changed(failures=[]),
        changed(hold_until="2026-01-01"),
        changed(hold_until=7),
        changed(hold_until="0001-01-01T00:00:00+14:00"),
        changed(counted_to="../x"),
        changed(counted_to=5),
        changed(binned={}),
        changed(history=None),
        changed(history=["x"]),
        changed(history={"a": 1}),
        changed_attempt(n="x"),
        changed_attempt(claim="job0000000001"),
        changed_attempt(began=None),
        changed_attempt(outcome=["failed"]),
        changed_attempt(error="boom"),
    ],
    ids=lambda raw: raw[:24].decode("ascii", "replace") if len(raw) < 200 else "altered",
)
def test_what_is_no_record_is_told_as_such(raw: bytes) -> None:
    with pytest.raises(attempts.NotARecord):
        attempts.from_json(raw, "j")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(string.printable, max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.sampled_from(["v", "job", "attempts", "failures", "hold_until", "counted_to", "binned", "history"]), json_values
)
def test_a_record_with_anything_in_a_field_is_read_or_refused_and_can_be_written_again(name: str, value: Any) -> None:
    try:
        record = attempts.from_json(changed(**{name: value}), "j")
    except attempts.NotARecord:
        return
    assert attempts.from_json(attempts.to_json(record), "j") == record


@given(st.lists(st.sampled_from(["open", *OUTCOMES, "bin", "restore", "retry", "crash"]), max_size=60))
def test_no_sequence_of_steps_loses_a_count(steps: list[Any]) -> None:
    record, begun, run = AttemptRecord("j"), 0, 0
    for step in steps:
        open_before = record.open_attempt is not None
        if step == "open":
            run += open_before
            begun += 1
            record = opened(record, str(begun))
        elif step == "bin":
            record = attempts.put_in_bin(record, "op", LATER, "")
        elif step == "restore":
            record, run = attempts.restored(record), 0
        elif step == "retry":
            record = attempts.held(record, None)
        elif step == "crash":
            run += open_before
            record = attempts.deserted(record, LATER)
        else:
            record = attempts.closed(record, step, LATER)
            if open_before:
                run = 0 if step == "consumed" else run + (step in attempts.FAILURES)
        assert (record.attempts, record.failures) == (begun, run)
        kept = [int(attempt.claim) for attempt in record.history if attempt.claim]
        assert kept == list(range(begun, begun - len(kept), -1))
        assert record.counted_to == (str(begun - len(kept)) if begun > len(kept) else None)
        assert attempts.from_json(attempts.to_json(record), "j") == record


@pytest.mark.parametrize("number", [0, -1])
def test_a_policy_lets_a_job_be_tried_at_least_once(number: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Policy(max_attempts=number)
