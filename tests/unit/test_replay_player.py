"""The player stands where it should, whatever the tape holds."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conductor_console.persistence.journal import JournalRow
from conductor_console.replay.lanes import boundaries, lanes_of
from conductor_console.replay.player import LONGEST_WAIT, SPEEDS, Player, advance
from conductor_console.replay.tape import Tape, make_tape
from tests.tapes import BEGAN, failure, flow_rows, numbered, octavia_tape, row

STATES = [
    "PENDING",
    "RUNNING",
    "SUCCESS",
    "FAILURE",
    "REVERTING",
    "REVERTED",
    "REVERT_FAILURE",
    "RETRYING",
    None,
    "ODD\x1b[",
]
MOVES = ["next", "previous", "next_failure", "previous_failure", "home", "end"]
FLOW_STATES = ["RUNNING", "SUCCESS", "FAILURE", "REVERTED", "SUSPENDED", "SUSPENDING", "RESUMING", "PENDING", None, "X"]


@st.composite
def rows_of_anything(draw: st.DrawFn) -> list[JournalRow]:
    """Rows in no order, with clocks that jump, any states and attempts."""
    made: list[JournalRow] = []
    for number in range(draw(st.integers(0, 25))):
        at = draw(st.one_of(st.floats(0, 50), st.sampled_from([-1e6, 0.0, 7.0, 1e8])))
        attempt = draw(st.sampled_from([None, None, 1, 2, 3]))
        if draw(st.booleans()):
            each = row(at, draw(st.sampled_from("abc")), draw(st.sampled_from(STATES)), draw(st.sampled_from(STATES)))
        else:
            each = row(at, None, draw(st.sampled_from(FLOW_STATES)), draw(st.sampled_from(FLOW_STATES)))
        seq = number + 1 if draw(st.booleans()) else 0
        made.append(
            JournalRow(
                each.kind, each.at, each.flow_uuid, None, each.atom_uuid, each.atom_name, each.from_state,
                each.to_state, attempt=attempt, seq=seq,
            )
        )  # fmt: skip
    return draw(st.permutations(made))


def tape_of(rows: list[JournalRow]) -> Tape:
    return make_tape("a store", [flow_rows(None)], rows)


@given(rows_of_anything(), st.lists(st.sampled_from(MOVES)))
@settings(max_examples=200, deadline=None)
def test_wherever_it_is_led_it_stands_on_the_tape(rows: list[JournalRow], moves: list[str]) -> None:
    tape = tape_of(rows)
    player = Player(tape)
    for move in moves:
        before = player.index
        getattr(player, move)()
        assert player.index in (range(len(rows)) if rows else (-1,))
        assert abs(player.index - before) <= 1 or move not in ("next", "previous")
        assert player.position == (tape.offsets[player.index] if rows else 0.0)
        for atom in player.atoms():
            assert atom.word
            assert atom.since is None or 0 <= atom.since <= player.position
    assert player.when is not None


@given(rows_of_anything())
@settings(max_examples=200, deadline=None)
def test_bars_lie_on_the_tape_in_order_and_do_not_overlap(rows: list[JournalRow]) -> None:
    tape = tape_of(rows)
    assert list(tape.offsets) == sorted(tape.offsets)
    starts = boundaries(tape)
    for lane in lanes_of(tape, starts):
        assert list(lane.changes) == sorted(lane.changes)
        ended = 0.0
        for bar in lane.segments:
            assert ended <= bar.began <= bar.ended <= tape.length
            assert bar.last is None or bar.last >= bar.first
            assert not any(bar.first < start.index and start.at < bar.ended for start in starts)
            ended = bar.ended


@given(rows_of_anything(), st.floats(-5, 1e9))
@settings(max_examples=200, deadline=None)
def test_at_a_time_it_stands_on_the_newest_row_until_then(rows: list[JournalRow], seconds: float) -> None:
    tape = tape_of(rows)
    player = Player(tape)
    player.at(seconds)
    happened = sum(1 for offset in tape.offsets if offset <= max(0.0, seconds))
    assert player.index == happened - 1
    # One step back from between two rows leads to the earlier of them.
    if rows and player.position > tape.offsets[player.index]:
        index = player.index
        player.previous()
        assert player.index == index


OFFSETS = st.lists(st.floats(0, 1000), max_size=20).map(lambda gaps: [sum(gaps[:n]) for n in range(len(gaps) + 1)])


@given(OFFSETS, st.floats(0, 100), st.floats(0, 100), st.sampled_from(SPEEDS), st.booleans())
@settings(max_examples=300, deadline=None)
def test_play_is_additive_goes_forward_and_stays_on_the_tape(
    offsets: list[float], first: float, second: float, speed: float, skip: bool
) -> None:
    whole = advance(offsets, 0.0, first + second, speed, skip)
    halfway = advance(offsets, 0.0, first, speed, skip)
    assert halfway <= whole <= offsets[-1]
    assert advance(offsets, halfway, second, speed, skip) == pytest.approx(whole, rel=1e-6, abs=1e-6)


@given(OFFSETS, st.sampled_from(SPEEDS))
@settings(max_examples=100, deadline=None)
def test_with_waits_skipped_no_gap_takes_longer_than_the_longest_wait(offsets: list[float], speed: float) -> None:
    enough = (len(offsets) + 1) * LONGEST_WAIT * 1.001
    assert advance(offsets, 0.0, enough, speed, True) == pytest.approx(offsets[-1])


def test_play_without_skipping_keeps_the_flows_own_time() -> None:
    assert advance([0.0, 1.0, 9.0], 0.0, 3.0, 2.0, False) == 6.0
    assert advance([0.0, 1.0, 9.0], 0.0, 1.5, 1.0, True) == 5.0, "half of a wait of 8 s in half a second"
    assert advance([0.0, 1.0, 9.0], 5.0, 0.25, 1.0, True) == 7.0, "and on from its middle at the same pace"
    assert advance([], 0.0, 1.0, 1.0, True) == 0.0


def test_steps_through_failures_and_says_so_when_there_are_no_more() -> None:
    player = Player(octavia_tape())
    names = [player.tape.rows[index].atom_name for index in player.failures]
    assert names == ["compute-create", "attach-vip"]
    assert not player.previous_failure()
    assert player.next_failure()
    assert player.position == 3.5
    assert player.next_failure()
    assert player.position == 12.9
    assert not player.next_failure()
    assert player.position == 12.9
    assert player.previous_failure()
    assert player.position == 3.5


def test_shows_the_atoms_as_they_were() -> None:
    player = Player(octavia_tape())
    player.at(12.9)
    player.previous()  # the revert began in the same moment
    words = {atom.atom.name: atom.word for atom in player.atoms()}
    assert words["lookup-load-balancer"] == "done"
    assert words["retry-compute-create"] == "retry 2"
    assert words["compute-create"] == "done"
    assert words["attach-vip"] == "failed"
    assert words["mark-active-in-db"] == "pending"
    player.end()
    after = {atom.atom.name: atom for atom in player.atoms()}
    assert after["allocate-vip"].word == "reverted"
    assert after["attach-vip"].word == "failed", "an atom that failed and was then reverted is told as failed"
    assert after["attach-vip"].failure is not None
    assert after["compute-create"].failure is None, "a later try took its failure back"
    assert [lane.atom.name for lane in player.lanes][-3:] == [
        "amphora-post-plug",
        "configure-haproxy",
        "mark-active-in-db",
    ]


def test_the_bars_of_a_retried_and_of_a_reverted_atom() -> None:
    player = Player(octavia_tape())
    bars = {lane.atom.name: [(bar.kind, bar.began, bar.ended) for bar in lane.segments] for lane in player.lanes}
    assert bars["compute-create"] == [
        ("failed", 2.2, 3.5),
        ("reverted", 3.5, 4.0),
        ("ran", 4.3, 7.0),
        ("reverted", pytest.approx(16.9), pytest.approx(20.1)),
    ]
    assert bars["mark-active-in-db"] == []


def test_speed_moves_between_its_ends() -> None:
    player = Player(octavia_tape())
    for _ in SPEEDS:
        player.faster()
    assert player.speed == 64
    for _ in SPEEDS:
        player.slower()
    assert player.speed == 0.25


def test_play_comes_to_the_last_row_and_stays() -> None:
    player = Player(octavia_tape())
    player.advance(1e9)
    assert player.at_end
    player.advance(1.0)
    assert player.at_end
    assert player.when == BEGAN + timedelta(seconds=24)


def test_a_flow_without_length_can_be_stepped_and_played() -> None:
    tape = tape_of(numbered([row(0, "a", "RUNNING"), row(0, "a", "SUCCESS"), row(0, None, "SUCCESS", "RUNNING")]))
    player = Player(tape)
    player.next()
    assert (player.index, player.position, tape.length) == (1, 0.0, 0.0)
    player.advance(0.1)
    assert player.at_end


def test_an_empty_tape_can_be_played() -> None:
    tape = tape_of([])
    player = Player(tape)
    for move in (player.next, player.previous, player.home, player.end, player.next_failure, player.previous_failure):
        move()
    player.advance(5.0)
    player.at(3.0)
    assert (player.index, player.row, player.attempt, player.lane, player.atoms()) == (-1, None, None, None, ())
    assert player.when == tape.began


def test_a_clock_that_was_set_back_reorders_nothing() -> None:
    rows = [row(0, "a", "RUNNING"), row(5, "a", "SUCCESS"), row(-3600, "b", "RUNNING"), row(-3597, "b", "SUCCESS")]
    tape = tape_of(numbered(rows))
    assert tape.offsets == (0.0, 5.0, 5.0, 8.0)
    assert tape.clock_jumps == 1
    assert [each.atom_name for each in tape.rows] == ["a", "a", "b", "b"]


def test_what_ran_when_its_conductor_died_is_cut_off_at_the_next_attempt() -> None:
    rows = [
        row(0, None, "RUNNING", "PENDING", attempt=1, conductor="c1"),
        row(1, "slow", "RUNNING", "PENDING", attempt=1, conductor="c1"),
        row(9, None, "RESUMING", "RUNNING", attempt=2, conductor="c2"),
        row(9, "slow", "PENDING", "RUNNING", attempt=2, conductor="c2"),
        row(10, "slow", "RUNNING", "PENDING", attempt=2, conductor="c2"),
        row(12, "slow", "SUCCESS", "RUNNING", attempt=2, conductor="c2"),
    ]
    player = Player(tape_of(numbered(rows)))
    [start] = player.boundaries
    assert (start.index, start.at, start.attempt, start.conductor) == (2, 9.0, 2, "c2")
    bars = [(bar.kind, bar.began, bar.ended, bar.last) for bar in player.lanes[0].segments]
    assert bars == [("ran", 1.0, 9.0, None), ("ran", 10.0, 12.0, 5)]
    player.at(5)
    assert player.attempt == 1
    player.end()
    assert player.attempt == 2


def test_a_resumption_without_attempt_numbers_is_one_boundary() -> None:
    rows = [
        row(0, None, "RUNNING", "PENDING"),
        row(1, None, "SUSPENDING", "RUNNING"),
        row(2, None, "SUSPENDED", "SUSPENDING"),
        row(3, None, "RUNNING", "SUSPENDED"),
        row(4, None, "RESUMING", "RUNNING"),
        row(4, None, "SUSPENDED", "RESUMING"),
        row(4, None, "RUNNING", "SUSPENDED"),
    ]
    assert [start.at for start in Player(tape_of(numbered(rows))).boundaries] == [3.0, 4.0]


def test_an_attempts_failure_counts_only_where_no_atom_told_it() -> None:
    lost = {"outcome": "abandoned", "error": {"type": "StorageFailure", "message": "disk full", "where": ""}}
    rows = [
        row(0, "a", "RUNNING", attempt=1),
        row(1, "a", "FAILURE", attempt=1, detail=failure("ValueError", "no", "m.py:1 in f")),
        row(2, None, "FAILURE", "RUNNING", attempt=1),
        row(2, None, "failed", kind="attempt", attempt=1, detail={"outcome": "failed"}),
        row(3, "a", "RUNNING", attempt=2),
        row(4, None, None, kind="attempt", attempt=2, detail=lost),
    ]
    assert Player(tape_of(numbered(rows))).failures == (1, 5)


def test_thousands_of_atoms() -> None:
    rows = [
        each
        for number in range(5000)
        for each in (row(number, f"t{number}", "RUNNING"), row(number + 0.5, f"t{number}", "SUCCESS", "RUNNING"))
    ]
    player = Player(tape_of(numbered(rows)))
    player.at(2500)
    atoms = player.atoms()
    assert sum(atom.standing == "done" for atom in atoms) == 2500
    assert sum(atom.standing == "running" for atom in atoms) == 1
    assert player.lane == 2500
