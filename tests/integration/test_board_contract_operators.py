"""What every board of ours promises to those who watch and operate it, on each kind of board."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from taskflow import exceptions as excp
from taskflow import states
from taskflow.jobs.base import POSTED, REMOVAL
from taskflow.types.entity import Entity

from conductor_console.clock import utcnow
from conductor_console.errors import BoardUnreachable
from conductor_console.jobboards.base import (
    BoardEvent,
    BoardJob,
    Changed,
    Gone,
    JobEntry,
    LedgerBoard,
    Refused,
)
from tests import boards
from tests.boards import (
    Place,
    binned_of,
    claimed,
    entry_of,
    fail,
    free,
    names,
    ready,
    same_job,
    seen,
    seen_binned,
    unseen,
)
from tests.support import eventually

#: Fixtures.
nowhere, place, ours, theirs = boards.nowhere, boards.place, boards.ours, boards.theirs


# -- being there -------------------------------------------------------------------------------------------------------


def test_a_board_that_is_not_there_is_told_in_one_line_and_not_made(nowhere: Place) -> None:
    board = nowhere.board()
    for _ in range(2):
        with pytest.raises(BoardUnreachable) as told:
            board.connect()
        assert "conductor-console init" in str(told.value)
        assert "\n" not in str(told.value)
        assert not board.connected
    assert board.listing().connection.state == "closed"


def test_ensuring_makes_the_board_once(nowhere: Place) -> None:
    board = nowhere.board()
    board.ensure()
    board.connect()
    board.post("kept")
    board.ensure()
    nowhere.board().ensure()
    board.refresh()
    assert names(board) == ["kept"]


def test_connection_and_listing_through_a_boards_life(place: Place) -> None:
    board = place.board()
    assert (board.connected, board.listing().complete) == (False, False)
    board.connect()
    board.connect()
    first = board.listing()
    assert (board.connected, first.complete, first.connection.state) == (True, True, "live")
    assert (dict(first.jobs), dict(first.binned), dict(first.entities)) == ({}, {}, {})
    board.post("a")
    second = board.listing()
    assert second.version > first.version
    assert second.taken_at >= first.taken_at
    assert (len(first.jobs), len(second.jobs)) == (0, 1)
    board.close()
    board.close()
    assert (board.connected, board.listing().connection.state) == (False, "closed")
    board.connect()
    assert names(board) == ["a"]


def test_a_closed_board_answers_with_job_failures(place: Place) -> None:
    board = place.connected()
    job = board.post("a")
    board.close()
    with pytest.raises(excp.JobFailure):
        _ = job.state
    with pytest.raises(excp.JobFailure):
        board.post("b")
    with pytest.raises(excp.JobFailure):
        board.claim(job, "c1")
    with pytest.raises(excp.JobFailure):
        board.refresh()
    assert not board.holds(job)
    assert list(board.candidates(utcnow())[0]) == []


# -- an operator's acts ------------------------------------------------------------------------------------------------


def test_binning_a_waiting_job(ours: LedgerBoard, theirs: LedgerBoard) -> None:
    job = ours.post("a")
    fail(ours, job, hold=60)
    theirs.bin(seen(theirs, job, lambda entry: entry.record and free(entry)), "op@host", "cycling")
    for board in (ours, theirs):
        entry = seen_binned(board, job, lambda binned: binned.who)
        unseen(board, job)
        assert (entry.who, entry.why) == ("op@host", "cycling")
        assert entry.record is not None
        assert entry.record.hold_until is None
        assert [attempt.outcome for attempt in entry.record.history] == ["abandoned"]
    assert ours.attempts(job).binned is not None


def test_binning_a_job_that_was_never_tried(ours: LedgerBoard) -> None:
    job = ours.post("a")
    ours.bin(seen(ours, job), "op", "")
    assert seen_binned(ours, job).name == "a"
    assert ours.attempts(job).attempts == 0


@pytest.mark.parametrize("act", ["bin", "delete"])
def test_acting_on_anothers_claim_ends_it(ours: LedgerBoard, theirs: LedgerBoard, act: str) -> None:
    job = ours.post("a")
    ours.claim(job, "c1")
    entry = seen(theirs, job, claimed)
    if act == "bin":
        theirs.bin(entry, "op", "stuck")
        assert theirs.attempts(same_binned(theirs, job)).history[0].outcome == "revoked"
    else:
        theirs.delete(entry)
    eventually(lambda: not ours.holds(job), what="the claim's loss to be noticed")
    for end in (ours.consume, ours.abandon, ours.trash):
        with pytest.raises(excp.NotFound):
            end(job, "c1")
    assert job.state == states.COMPLETE


def same_binned(board: LedgerBoard, job: BoardJob) -> BoardJob:
    """A binned job can still be asked about by the job object it was."""
    seen_binned(board, job)
    return job


def acts(board: LedgerBoard, entry: JobEntry) -> list[Callable[[], object]]:
    return [lambda: board.bin(entry, "op", ""), lambda: board.delete(entry)]


def test_what_was_claimed_since_it_was_seen_is_left_alone(ours: LedgerBoard, theirs: LedgerBoard) -> None:
    job = ours.post("a")
    entry = seen(theirs, job)
    ours.claim(job, "c1")
    for act in [*acts(theirs, entry), lambda: theirs.retry(entry)]:
        with pytest.raises(Changed):
            act()
    assert ours.holds(job)
    ours.consume(job, "c1")


def test_what_was_let_go_and_claimed_again_since_is_left_alone(ours: LedgerBoard, theirs: LedgerBoard) -> None:
    job = ours.post("a")
    ours.claim(job, "c1")
    entry = seen(theirs, job, claimed)
    ours.abandon(job, "c1")
    for act in acts(theirs, entry):
        with pytest.raises(Changed):
            act()
    ours.claim(job, "c1")
    for act in acts(theirs, entry):
        with pytest.raises(Changed):
            act()
    assert ours.holds(job)
    other = seen(theirs, job, lambda now: now.claim and entry.claim and now.claim.id != entry.claim.id)
    theirs.delete(other)
    unseen(ours, job)


def test_what_is_gone_is_told_as_gone(ours: LedgerBoard, theirs: LedgerBoard) -> None:
    job = ours.post("a")
    entry = seen(theirs, job)
    ours.claim(job, "c1")
    ours.consume(job, "c1")
    for act in [*acts(theirs, entry), lambda: theirs.retry(entry)]:
        with pytest.raises(Gone):
            act()


def test_deleting_leaves_nothing(ours: LedgerBoard, theirs: LedgerBoard) -> None:
    job = ours.post("a")
    fail(ours, job)
    theirs.delete(seen(theirs, job, lambda entry: entry.record and free(entry)))
    for board in (ours, theirs):
        unseen(board, job)
        assert binned_of(board, job.uuid) is None
    with pytest.raises(excp.NotFound):
        ours.attempts(job)


def test_restoring_puts_the_job_back_in_its_place_with_its_failures_forgiven(
    ours: LedgerBoard, theirs: LedgerBoard
) -> None:
    jobs = [ours.post(name) for name in ("a", "b", "c")]
    job = jobs[1]
    fail(ours, job)
    ours.bin(seen(ours, job, lambda entry: entry.record and free(entry)), "op", "")
    key = theirs.restore(seen_binned(theirs, job, lambda binned: binned.record))
    assert key == seen(theirs, job).key
    for board in (ours, theirs):
        entry = seen(board, job, lambda now: now.record and not now.record.failures)
        eventually(lambda board=board: binned_of(board, job.uuid) is None, what="an empty bin")  # type: ignore[misc]
        assert names(board) == ["a", "b", "c"]
        assert entry.record is not None
        assert (entry.record.attempts, entry.record.failures, entry.record.binned) == (1, 0, None)
    again = same_job(ours, job)
    ours.claim(again, "c1")
    assert ours.attempts(again).attempts == 2
    ours.consume(again, "c1")


def test_a_bin_entry_serves_once(ours: LedgerBoard, theirs: LedgerBoard) -> None:
    job = ours.post("a")
    ours.bin(seen(ours, job), "op", "")
    old = seen_binned(theirs, job)
    ours.restore(seen_binned(ours, job))
    for act in (theirs.restore, theirs.delete):
        with pytest.raises((Gone, Changed)):
            act(old)
    assert seen(theirs, job)


def test_purging_a_binned_job(ours: LedgerBoard, theirs: LedgerBoard) -> None:
    job = ours.post("a")
    fail(ours, job)
    ours.bin(seen(ours, job, lambda entry: entry.record and free(entry)), "op", "")
    entry = seen_binned(theirs, job)
    theirs.delete(entry)
    for board in (ours, theirs):
        eventually(lambda board=board: binned_of(board, job.uuid) is None, what="an empty bin")  # type: ignore[misc]
    for act in (ours.restore, ours.delete):
        with pytest.raises(Gone):
            act(entry)
    with pytest.raises(excp.NotFound):
        ours.attempts(job)


def test_retrying_ends_the_hold_for_all(ours: LedgerBoard, theirs: LedgerBoard) -> None:
    job = ours.post("a")
    fail(ours, job, hold=600)
    entry = seen(theirs, job, lambda now: now.record and now.record.hold_until and free(now))
    theirs.retry(entry)
    for board in (ours, theirs):
        seen(board, job, lambda now: now.record and not now.record.hold_until)
        assert ready(board) == ["a"]
    record = ours.attempts(job)
    assert (record.attempts, record.failures) == (1, 1)


def test_retrying_what_is_claimed(ours: LedgerBoard, theirs: LedgerBoard) -> None:
    job = ours.post("a")
    ours.claim(job, "c1")
    with pytest.raises(Changed):
        theirs.retry(seen(theirs, job, claimed))


def test_holding_keeps_a_job_from_conductors_of_ours_until_it_is_over(ours: LedgerBoard, theirs: LedgerBoard) -> None:
    job, until = ours.post("a"), utcnow() + timedelta(seconds=600)
    theirs.hold(seen(theirs, job), until)
    for board in (ours, theirs):
        entry = seen(board, job, lambda now: now.record and now.record.hold_until)
        assert entry.record is not None
        assert (entry.record.attempts, entry.record.failures) == (0, 0)
        assert (ready(board), ready(board, later=660)) == ([], ["a"])
    ours.hold(seen(ours, job), None)
    assert ready(ours) == ["a"]
    with pytest.raises(Changed):
        ours.hold(seen(ours, job), until, unless=lambda record: record.attempts == 0)
    assert ready(ours) == ["a"]


def test_only_what_nobody_holds_can_be_held(ours: LedgerBoard, theirs: LedgerBoard) -> None:
    job, until = ours.post("a"), utcnow() + timedelta(seconds=600)
    free_entry = seen(theirs, job)
    ours.claim(job, "c1")
    for entry in (free_entry, seen(theirs, job, claimed)):
        with pytest.raises(Changed):
            theirs.hold(entry, until)
    ours.consume(job, "c1")
    with pytest.raises(Gone):
        theirs.hold(free_entry, until)


def test_releasing_ends_the_claim_and_leaves_the_job(ours: LedgerBoard, theirs: LedgerBoard) -> None:
    job = ours.post("a")
    fail(ours, job)
    ours.claim(job, "c1")
    # Not the claim that ended with the failure.
    theirs.release(seen(theirs, job, lambda now: claimed(now) and now.record and now.record.attempts == 2))
    for board in (ours, theirs):
        entry = seen(board, job, lambda now: free(now) and now.record and now.record.attempts == 2)
        assert entry.record is not None
        assert (entry.record.failures, entry.record.open_attempt) == (1, None)
        assert [attempt.outcome for attempt in entry.record.history] == ["revoked", "abandoned"]
        assert ready(board) == ["a"]
    eventually(lambda: not ours.holds(job), what="the claim's loss to be noticed")
    for end in (ours.consume, ours.abandon, ours.trash):
        with pytest.raises(excp.NotFound):
            end(job, "c1")
    again = same_job(theirs, job)
    theirs.claim(again, "c2")
    with pytest.raises((excp.NotFound, excp.JobFailure)):
        ours.consume(job, "c1")
    theirs.consume(again, "c2")


def test_only_the_claim_that_was_seen_is_released(ours: LedgerBoard, theirs: LedgerBoard) -> None:
    job = ours.post("a")
    unclaimed = seen(theirs, job)
    ours.claim(job, "c1")
    entry = seen(theirs, job, claimed)
    ours.abandon(job, "c1")
    for old in (unclaimed, entry):
        with pytest.raises(Changed):
            theirs.release(old)
    ours.claim(job, "c1")
    for old in (unclaimed, entry):
        with pytest.raises(Changed):
            theirs.release(old)
    assert ours.holds(job)
    ours.consume(job, "c1")
    with pytest.raises(Gone):
        theirs.release(entry)


def test_retrying_what_was_never_tried_changes_nothing(ours: LedgerBoard) -> None:
    job = ours.post("a")
    ours.retry(seen(ours, job))
    assert ready(ours) == ["a"]


# -- news --------------------------------------------------------------------------------------------------------------


def follow(board: LedgerBoard) -> tuple[list[BoardEvent], Callable[[], None]]:
    events: list[BoardEvent] = []
    return events, board.subscribe(events.append)


def kinds(events: list[BoardEvent], key: str) -> list[str]:
    """What happened to the job; changes of its record alone left out, which come with all the rest."""
    return [event.kind for event in list(events) if event.key == key and event.kind != "changed"]


def test_a_jobs_life_is_told_to_both_boards(ours: LedgerBoard, theirs: LedgerBoard) -> None:
    heard = [follow(board)[0] for board in (ours, theirs)]
    job = ours.post("a")
    key = seen(theirs, job).key
    ours.claim(job, "c1")
    seen(theirs, job, claimed)
    ours.abandon(job, "c1")
    seen(theirs, job, free)
    ours.claim(job, "c2")
    seen(theirs, job, claimed)
    ours.consume(job, "c2")
    unseen(theirs, job)
    expected = ["posted", "claimed", "released", "claimed", "removed"]
    for events in heard:
        eventually(
            lambda events=events: kinds(events, key)[-1:] == ["removed"],  # type: ignore[misc]
            what="the last event",
        )
        assert kinds(events, key)[:4] == expected[:4]
        assert [kind for kind in kinds(events, key) if kind in ("posted", "removed")] == ["posted", "removed"]
        entries = [event.entry for event in events if event.key == key and event.entry]
        assert {entry.name for entry in entries} == {"a"}


def test_a_changed_record_and_the_bin_are_told(ours: LedgerBoard, theirs: LedgerBoard) -> None:
    job = ours.post("a")
    fail(ours, job, hold=60)
    entry = seen(theirs, job, lambda now: now.record and now.record.hold_until and free(now))
    heard = [follow(board)[0] for board in (ours, theirs)]
    ours.retry(entry)
    for events in heard:
        eventually(lambda events=events: any(e.kind == "changed" and e.key == entry.key for e in events))  # type: ignore[misc]
    ours.bin(seen(ours, job, lambda now: now.record and not now.record.hold_until), "op", "")
    for events in heard:
        eventually(lambda events=events: {"bin", "removed"} <= {e.kind for e in events})  # type: ignore[misc]


def test_listeners_come_and_go_and_do_not_harm_each_other(ours: LedgerBoard) -> None:
    def harmful(event: BoardEvent) -> None:
        raise RuntimeError("a listener's own fault")

    ours.subscribe(harmful)
    events, unsubscribe = follow(ours)
    ours.post("a")
    eventually(lambda: any(event.kind == "posted" for event in events), what="the event")
    unsubscribe()
    unsubscribe()
    told = len(events)
    later, _ = follow(ours)
    ours.post("b")
    eventually(lambda: any(event.kind == "posted" for event in later), what="the later event")
    assert len(events) == told


def test_taskflows_notifier_tells_of_posting_and_removal(place: Place) -> None:
    ours, theirs, silent = place.board(), place.board(), place.board(emit_notifications=False)
    told: dict[LedgerBoard, list[tuple[str, str]]] = {ours: [], theirs: [], silent: []}
    for board, heard in told.items():
        for kind in (POSTED, REMOVAL):
            board.notifier.register(kind, lambda kind, details, heard=heard: heard.append((kind, details["job"].name)))
        board.connect()
    job = ours.post("a")
    seen(theirs, job)
    ours.claim(job, "c1")
    ours.consume(job, "c1")
    for board in (ours, theirs):
        eventually(lambda board=board: len(told[board]) == 2, what="both notifications")  # type: ignore[misc]
        assert told[board] == [(POSTED, "a"), (REMOVAL, "a")]
    assert told[silent] == []


# -- conductors --------------------------------------------------------------------------------------------------------


def test_conductors_are_seen_while_they_live(place: Place, ours: LedgerBoard) -> None:
    theirs = place.connected()
    entity = Entity("conductor", "c1@host:42", {"hostname": "host", "pid": 42})
    theirs.register_entity(entity)
    theirs.register_entity(entity)
    for board in (ours, theirs):
        found = eventually(lambda board=board: dict(board.listing().entities), what="the entity")  # type: ignore[misc]
        assert list(found) == ["c1@host:42"]
        assert (found["c1@host:42"].owner, found["c1@host:42"].host, found["c1@host:42"].pid) == ("c1", "host", 42)
    theirs.close()
    eventually(lambda: not ours.listing().entities, what="the entity to go")


def test_conductors_that_register_at_once_are_all_seen(place: Place, ours: LedgerBoard) -> None:
    theirs = place.connected()
    names = {f"c{number}@host:42" for number in range(40)}
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(theirs.register_entity, Entity("conductor", name, {})) for name in names]:
            done.result(60)
    for board in (ours, theirs):
        eventually(lambda board=board: board.listing().entities.keys() == names, what="all of them")  # type: ignore[misc]


def test_only_conductors_register(ours: LedgerBoard) -> None:
    with pytest.raises(NotImplementedError):
        ours.register_entity(Entity("gardener", "g", {}))


# -- reading only ------------------------------------------------------------------------------------------------------


def test_a_board_that_only_reads_refuses_every_act(place: Place, ours: LedgerBoard) -> None:
    waiting, binned, held = ours.post("waiting"), ours.post("binned"), ours.post("held")
    ours.bin(seen(ours, binned), "op", "")
    ours.claim(held, "c1")
    reader = place.connected(read_only=True)
    entry, gone = seen(reader, waiting), seen_binned(reader, binned)
    job = same_job(reader, waiting)
    refused: list[Callable[[], Any]] = [
        reader.ensure,
        lambda: reader.post("x"),
        lambda: reader.claim(job, "c1"),
        lambda: reader.consume(same_job(reader, held), "c1"),
        lambda: reader.abandon(same_job(reader, held), "c1"),
        lambda: reader.trash(same_job(reader, held), "c1"),
        lambda: reader.bin(entry, "op", ""),
        lambda: reader.delete(entry),
        lambda: reader.delete(gone),
        lambda: reader.restore(gone),
        lambda: reader.retry(entry),
        lambda: reader.hold(entry, utcnow()),
        lambda: reader.release(entry),
        lambda: reader.register_entity(Entity("conductor", "c@h:1", {})),
    ]
    for act in refused:
        with pytest.raises(Refused):
            act()
    assert reader.find_owner(same_job(reader, held)) == "c1"
    assert reader.attempts(same_job(reader, held)).attempts == 1
    ours.post("later")
    eventually(lambda: "later" in names(reader), what="a later job")


def test_refreshing_shows_what_is_there(ours: LedgerBoard, theirs: LedgerBoard) -> None:
    job = ours.post("a")
    theirs.refresh()
    assert entry_of(theirs, job.uuid) is not None
    ours.claim(job, "c1")
    theirs.refresh()
    entry = entry_of(theirs, job.uuid)
    assert entry is not None
    assert entry.claim is not None
