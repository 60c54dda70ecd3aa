"""Rows that TaskFlow's own store holds tell a flow's life, as far as they know it, and say what they do not know."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conductor_console.persistence.rows import AtomRow
from conductor_console.replay.player import Player
from conductor_console.replay.rebuild import rebuild
from conductor_console.replay.report import provenance
from conductor_console.replay.tape import Tape, is_inferred, make_tape
from conductor_console.replay.words import cause_of
from tests.tapes import BEGAN, SAMPLES, atom_row, flow_rows, numbered, row, sample_flow

BOOM = {"exception_str": "boom: 3", "exc_type_names": ["app.errors.Boom", "Exception"], "traceback_str": ""}


def tape_of(name: str) -> Tape:
    return make_tape("a store", [sample_flow(name)], [])


def story(tape: Tape, name: str | None) -> list[str | None]:
    """The states of one atom (None: of the flow), in order."""
    return [each.to_state for each in tape.rows if each.atom_name == name]


@pytest.mark.parametrize("name", SAMPLES)
def test_every_sample_can_be_played_and_ends_as_its_rows_say(name: str) -> None:
    flow = sample_flow(name)
    tape = make_tape("a store", [flow], [])
    assert not tape.complete
    for each in tape.rows:
        assert flow.created_at is not None
        assert each.at >= flow.created_at
        assert flow.updated_at is None or each.at <= max(
            [flow.updated_at, *(atom.updated_at for atom in flow.atoms if atom.updated_at)]
        )
    for atom in flow.atoms:
        told = story(tape, atom.name)
        assert (told[-1] if told else "PENDING") == atom.state
        before = [each.from_state for each in tape.rows if each.atom_name == atom.name]
        assert before == [None, *told[:-1]] if told else not before, "each step begins where the one before ended"
    if tape.rows:
        assert tape.rows[0].to_state == "RUNNING"
        assert tape.rows[0].kind == "flow"
        assert story(tape, None)[-1] == flow.state
    player = Player(tape)
    for _ in tape.rows:
        player.next()
    assert len(player.atoms()) == len(flow.atoms)


@pytest.mark.parametrize("name", ["01-unclaimed", "10-factory-raises", "09-missing-dependency-consumed"])
def test_a_flow_that_never_ran_has_no_events(name: str) -> None:
    tape = tape_of(name)
    assert tape.rows == ()
    assert provenance(tape) == "nothing happened yet"
    assert all(atom.word == "pending" for atom in Player(tape).atoms())


def test_only_the_time_at_which_the_flow_stopped_is_known() -> None:
    tape = tape_of("05-success-consumed")
    known = [each for each in tape.rows if not is_inferred(each)]
    assert [(each.kind, each.to_state) for each in known] == [("flow", "SUCCESS")]
    assert known[0].at == sample_flow("05-success-consumed").updated_at
    assert tape.rows[-1] == known[0], "no atom outlives its flow"
    assert provenance(tape) == "rebuilt from rows, 7 times inferred"


def test_a_failure_and_its_revert() -> None:
    tape = tape_of("06-task-fails-reverted-consumed")
    assert story(tape, "a") == ["RUNNING", "SUCCESS", "REVERTING", "REVERTED"]
    assert story(tape, "b") == ["RUNNING", "FAILURE", "REVERTING", "REVERTED"]
    assert story(tape, "c") == []
    [failed] = Player(tape).failures
    assert cause_of(tape.rows[failed]) == ("ValueError", "boom: upstream said no", "app/bench_flows.py:30 in execute")


def test_a_revert_that_failed() -> None:
    tape = tape_of("07-revert-fails-FAILURE")
    assert story(tape, "a") == ["RUNNING", "SUCCESS", "REVERTING", "REVERT_FAILURE"]
    player = Player(tape)
    assert [tape.rows[index].atom_name for index in player.failures] == ["b", "a"]
    player.end()
    words = {atom.atom.name: atom.word for atom in player.atoms()}
    assert words == {"a": "revert failed", "b": "failed"}


def test_an_atom_that_waits_again_ran_before() -> None:
    tape = tape_of("21-cycle-execution-failure-at-end")
    assert story(tape, "a") == ["RUNNING", "SUCCESS", "REVERTING", "REVERTED", "PENDING"]
    assert story(tape, "b") == ["RUNNING", "FAILURE", "REVERTING", "REVERTED", "PENDING"]
    assert story(tape, "c") == []


def test_a_flow_that_was_killed_is_still_running() -> None:
    tape = tape_of("20-kill9-s10-right-after-kill")
    assert [story(tape, name) for name in "abc"] == [["RUNNING", "SUCCESS"], ["RUNNING"], []]
    assert story(tape, None) == ["RUNNING"]
    bars = {lane.atom.name: [(bar.kind, bar.last) for bar in lane.segments] for lane in Player(tape).lanes}
    assert bars["b"] == [("ran", None)]


def test_a_retrys_history_tells_the_tries() -> None:
    history = [[1, {"build": BOOM}], [2, {"build": BOOM}], [3, {}]]
    atoms = [
        atom_row("times", "SUCCESS", "retry", results=history),
        atom_row("build", "SUCCESS", results="vm-1"),
        atom_row("plug", "SUCCESS", results=None),
    ]
    tape = make_tape("a store", [flow_rows("SUCCESS", atoms)], [])
    again = ["RUNNING", "FAILURE", "REVERTING", "REVERTED", "PENDING"]
    assert story(tape, "build") == [*again, *again, "RUNNING", "SUCCESS"]
    assert story(tape, "times") == [
        "RUNNING",
        "SUCCESS",
        "RETRYING",
        "RUNNING",
        "SUCCESS",
        "RETRYING",
        "RUNNING",
        "SUCCESS",
    ]
    player = Player(tape)
    assert [cause_of(tape.rows[index]) for index in player.failures] == [("Boom", "boom: 3", "")] * 2
    player.end()
    assert {atom.atom.name: atom.word for atom in player.atoms()} == {
        "times": "retry 3",
        "build": "done",
        "plug": "done",
    }


def test_an_exhausted_retrys_last_try_is_the_one_in_the_row() -> None:
    history = [[1, {"build": BOOM}], [2, {"build": BOOM}]]
    atoms = [
        atom_row("times", "REVERTING", "retry", results=history),
        atom_row("build", "REVERTED", failure=BOOM),
    ]
    tape = make_tape("a store", [flow_rows("RUNNING", atoms)], [])
    assert story(tape, "build").count("FAILURE") == 2
    assert story(tape, "times")[-1] == "REVERTING"


@pytest.mark.parametrize(
    "results", [[[1, None]], [[1, ["x"]]], ["xy"], [7], [None], [[1, {"build": "text"}]], "text", {"a": 1}, []]
)
def test_a_history_that_is_none_breaks_nothing(results: object) -> None:
    atoms = [atom_row("times", "SUCCESS", "retry", results=results), atom_row("build", "SUCCESS")]
    tape = make_tape("a store", [flow_rows("SUCCESS", atoms)], [])
    assert story(tape, "build") == ["RUNNING", "SUCCESS"]
    assert story(tape, "times")[-1] == "SUCCESS"


@st.composite
def atoms_of_anything(draw: st.DrawFn) -> AtomRow:
    def time() -> object:
        return draw(
            st.one_of(st.none(), st.integers(-100, 100).map(lambda seconds: BEGAN + timedelta(seconds=seconds)))
        )

    states = [
        "PENDING",
        "RUNNING",
        "SUCCESS",
        "FAILURE",
        "REVERTING",
        "REVERTED",
        "REVERT_FAILURE",
        "RETRYING",
        "IGNORE",
    ]
    return atom_row(
        draw(st.text(max_size=3)),
        draw(st.sampled_from([*states, None, "\x1b[31mODD"])),
        draw(st.sampled_from(["task", "retry"])),
        created_at=time(),
        updated_at=time(),
        failure=draw(st.sampled_from([None, BOOM, {}])),
        revert_failure=draw(st.sampled_from([None, BOOM])),
        results=draw(st.sampled_from([None, 1, [], [[1, {}]], [[1, {"a": BOOM}], [2, {"a": BOOM}]], "x"])),
    )


@given(
    st.lists(atoms_of_anything(), max_size=6, unique_by=lambda atom: atom.uuid),
    st.sampled_from(["SUCCESS", "RUNNING", "SUSPENDED", None, "ODD"]),
)
@settings(max_examples=300, deadline=None)
def test_rows_of_any_kind_make_a_tape(atoms: list[AtomRow], state: str | None) -> None:
    flow = flow_rows(state, atoms)
    tape = make_tape("a store", [flow], [])
    assert [each.at for each in tape.rows] == sorted(each.at for each in tape.rows)
    player = Player(tape)
    player.end()
    assert len(player.atoms()) == len(atoms)
    assert rebuild(flow) == rebuild(flow)


def test_a_log_that_another_programs_conductor_went_on_without_is_amended_and_says_so() -> None:
    log = numbered(
        [
            row(0, None, "RUNNING", "PENDING"),
            row(0, "a", "RUNNING", "PENDING"),
            row(1, "a", "SUCCESS", "RUNNING"),
            row(1, None, "SUSPENDED", "SUSPENDING"),
        ]
    )
    atoms = [atom_row("a", "SUCCESS"), atom_row("b", "SUCCESS"), atom_row("c", "PENDING")]
    tape = make_tape("a store", [flow_rows("SUCCESS", atoms)], log)
    assert [(each.atom_name, each.to_state) for each in tape.rows if is_inferred(each)] == [
        ("b", "SUCCESS"),
        (None, "SUCCESS"),
    ]
    assert not tape.complete
    assert provenance(tape) == "log with gaps, 2 times inferred"


def test_a_journal_newer_than_the_rows_is_complete() -> None:
    log = numbered(
        [row(0, None, "RUNNING", "PENDING"), row(0, "a", "RUNNING", "PENDING"), row(1, "a", "SUCCESS", "RUNNING")]
    )
    tape = make_tape("a store", [flow_rows("RUNNING", [atom_row("a", "RUNNING")])], log)
    assert tape.complete
    assert provenance(tape) == "complete log, nothing inferred"
