"""An operator's acts on real boards with a real store: done, told, audited, undone."""

from __future__ import annotations

import json
import stat
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from taskflow import exceptions as excp
from taskflow.persistence import backends as taskflow_backends

from conductor_console import persistence
from conductor_console.errors import ConsoleError, Unreachable, UsageError
from conductor_console.jobboards.attempts import make_cause
from conductor_console.jobboards.base import JobEntry, LedgerBoard
from conductor_console.operations import Course, FileAudit, Operations, PostRequest, acts
from conductor_console.operations.course import NOT_REACHED
from tests.integration.helpers import claimed, in_bin, job, opened, take
from tests.support import eventually

BOOM = make_cause("ValueError", "no such port", "shop/flows.py:41 in save")


@pytest.fixture
def ops(board: LedgerBoard, store: Any) -> Operations:
    return Operations(board, operator="anna@ops-1", store=store, title="shop")


def posted(ops: Operations, board: LedgerBoard, name: str, count: int = 1) -> list[JobEntry]:
    uuids = ops.post(PostRequest("shop.flows:checkout", name, count=count))
    return [job(board, uuid) for uuid in uuids]


def verdicts(results: list[Any]) -> list[str]:
    return [result.result for result in results]


# -- bin, restore, delete, retry, undo ---------------------------------------------------------------------------------
def test_binning_is_told_audited_and_undone(ops: Operations, board: LedgerBoard, store: Any) -> None:
    entries = posted(ops, board, "order", 3)
    assert ops.can_undo == ""
    results = ops.bin(entries[:2], "customer\x1b[2J left")
    assert [(one.key, one.name, one.result, one.why) for one in results] == [
        (entries[0].key, "order-1", "done", ""),
        (entries[1].key, "order-2", "done", ""),
    ]
    binned = in_bin(board, entries[0].key)
    assert (binned.who, binned.why) == ("anna@ops-1", "customer\\x1b[2J left")
    assert ops.can_undo == "move of 2 jobs to the bin"

    row = store.audit_rows(1)[0]
    assert (row.operator, row.board, row.action, row.job_uuid, row.outcome) == (
        "anna@ops-1", "shop", "bin", entries[1].uuid, "done",
    )  # fmt: skip
    assert row.before["node"] == entries[1].node
    assert row.before["why"] == "customer\\x1b[2J left"

    assert verdicts(ops.undo()) == ["done", "done"]
    assert job(board, entries[0].key).name == "order-1"
    eventually(lambda: not board.listing().binned, what="an empty bin")
    assert ops.can_undo == ""
    assert ops.undo() == []


def test_what_changed_since_it_was_seen_is_left_alone_and_stops_nothing(
    ops: Operations, board: LedgerBoard, other: LedgerBoard, store: Any
) -> None:
    first, second, third = posted(ops, board, "order", 3)
    take(other, first.key)
    Operations(other, operator="bob", store=store).delete([job(other, second.key)])
    results = ops.bin([first, second, third])
    assert verdicts(results) == ["changed", "gone", "done"]
    assert all(result.why and "\n" not in result.why for result in results[:2])
    assert job(board, first.key).uuid == first.uuid
    assert [row.outcome.partition(":")[0] for row in store.audit_rows(3)] == ["done", "gone", "changed"]
    assert ops.can_undo == "move of 1 job to the bin"


def test_a_claimed_job_that_was_seen_claimed_is_binned(
    ops: Operations, board: LedgerBoard, other: LedgerBoard, store: Any
) -> None:
    (entry,) = posted(ops, board, "order")
    take(other, entry.key, "c9")
    seen = claimed(board, entry.key)
    assert verdicts(ops.bin([seen])) == ["done"]
    assert store.audit_rows(1)[0].before["claim"]["owner"] == "c9"
    record = in_bin(board, entry.key).record
    assert record is not None
    assert record.history[0].outcome == "revoked"


@pytest.mark.parametrize("verb", ["bin", "delete"])
def test_a_job_that_goes_from_claim_to_claim_is_taken_between_two(
    ops: Operations, board: LedgerBoard, other: LedgerBoard, verb: str
) -> None:
    (entry,) = posted(ops, board, "order")
    held = take(other, entry.key, "c9")
    seen = claimed(board, entry.key)
    over = threading.Event()

    def cycle() -> None:
        mine = held
        while not over.is_set():
            try:
                other.abandon(mine, "c9", error=BOOM)
                over.wait(0.05)
                if other.find(entry.key) is None:
                    return
                mine = take(other, entry.key, "c9")
            except (excp.NotFound, AssertionError):
                return
            over.wait(0.05)

    cycling = threading.Thread(target=cycle, daemon=True)
    job(board, entry.key, lambda now: now.claim)
    other.abandon(held, "c9", error=BOOM)
    held = take(other, entry.key, "c9")
    eventually(lambda: claimed(board, entry.key).claim != seen.claim, what="a claim that was not seen")
    cycling.start()
    try:
        assert verdicts(getattr(ops, verb)([seen])) == ["done"]
        eventually(lambda: entry.key not in other.listing().jobs, what="the job to be gone for the other")
    finally:
        over.set()
        cycling.join(60)
    assert not cycling.is_alive()


def test_a_claim_that_was_not_seen_is_never_broken(
    ops: Operations, board: LedgerBoard, other: LedgerBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acts, "PATIENCE", 0.2)
    (entry,) = posted(ops, board, "order")
    held = take(other, entry.key, "c9")
    seen = claimed(board, entry.key)
    other.abandon(held, "c9", error=BOOM)
    take(other, entry.key, "c8")
    eventually(lambda: claimed(board, entry.key).claim != seen.claim, what="the claim that was not seen")
    (result,) = ops.delete([seen])
    assert (result.result, "c8 holds it now" in result.why) == ("changed", True)
    assert claimed(board, entry.key).claim is not None


def test_restoring_and_undoing_it(ops: Operations, board: LedgerBoard, other: LedgerBoard) -> None:
    first, second = posted(ops, board, "order", 2)
    ops.bin([first, second])
    results = ops.restore([in_bin(board, first.key), in_bin(board, second.key)])
    assert verdicts(results) == ["done", "done"]
    assert ops.can_undo == "restore of 2 jobs"
    take(other, second.key, "c9")
    claimed(board, second.key)
    undone = ops.undo()
    assert verdicts(undone) == ["done", "changed"]
    assert "c9" in undone[1].why
    assert in_bin(board, first.key).why == "restore undone"
    assert ops.can_undo == "move of 2 jobs to the bin"


def test_deleting_and_purging(ops: Operations, board: LedgerBoard, store: Any) -> None:
    first, second = posted(ops, board, "order", 2)
    ops.bin([second])
    binned = in_bin(board, second.key)
    assert verdicts(ops.delete([first, binned])) == ["done", "done"]
    eventually(lambda: not board.listing().jobs and not board.listing().binned, what="nothing left")
    assert [row.action for row in store.audit_rows(2)] == ["purge", "delete"]
    assert verdicts(ops.delete([first, binned])) == ["gone", "gone"]
    assert ops.can_undo == "deletion of 1 job"


def test_a_deleted_job_is_posted_again_as_a_new_one(
    ops: Operations, board: LedgerBoard, other: LedgerBoard, store: Any
) -> None:
    first, second = posted(ops, board, "order", 2)
    take(other, second.key, "c9")
    held = claimed(board, second.key)
    assert verdicts(ops.delete([first, held])) == ["done", "done"]
    assert ops.can_undo == "deletion of 2 jobs"
    undone, left = ops.undo()
    assert (undone.key, undone.result, left.result) == (first.key, "done", "refused")
    assert left.why == "c9 held it when it was deleted, and may run its flow still"
    uuid = undone.why.removeprefix("posted again as ")
    again = job(board, uuid)
    assert (again.name, again.priority, again.details, again.book_uuid, again.book_name) == (
        first.name, first.priority, first.details, first.book_uuid, first.book_name,
    )  # fmt: skip
    assert next(one for one in board.iterjobs() if one.uuid == uuid).book.uuid == first.book_uuid
    assert [(row.action, row.outcome) for row in store.audit_rows(1)] == [("post again", f"done: {undone.why}")]
    # What cannot be had again is not tried for ever.
    assert ops.can_undo == ""


def test_what_is_final_is_told_as_such_and_nothing_else_is_undone_in_its_place(
    ops: Operations, board: LedgerBoard
) -> None:
    first, second = posted(ops, board, "order", 2)
    ops.bin([first, second])
    ops.delete([in_bin(board, second.key)])
    (refused,) = ops.undo()
    assert (refused.result, refused.why) == (
        "refused",
        "what was purged does not come back; jobs post --again posts a new job like it",
    )
    assert verdicts(ops.undo()) == ["done", "gone"]


def test_many_jobs_are_told_of_one_by_one_and_stopped_half_way(ops: Operations, board: LedgerBoard) -> None:
    entries = posted(ops, board, "order", 60)
    course = Course()
    seen: list[int] = []
    step = course.step

    def stepping() -> None:
        step()
        seen.append(course.done)
        if course.done >= 20:
            course.stop()

    course.step = stepping  # type: ignore[method-assign]
    results = ops.bin(entries, course=course)
    assert [result.key for result in results] == [entry.key for entry in entries]
    done = [result for result in results if result.result == "done"]
    assert 20 <= len(done) == course.done < 60
    assert (course.total, sorted(seen)) == (60, list(range(1, len(done) + 1)))
    assert {result.why for result in results if result.result != "done"} == {NOT_REACHED}
    eventually(lambda: len(board.listing().binned) == len(done), what="the bin to hold what was moved")
    assert ops.can_undo == f"move of {len(done)} jobs to the bin"
    assert set(verdicts(ops.undo())) == {"done"}
    eventually(lambda: len(board.listing().jobs) == 60 and not board.listing().binned, what="all back on the board")


def test_retry_ends_a_hold(ops: Operations, board: LedgerBoard, other: LedgerBoard) -> None:
    (entry,) = posted(ops, board, "order")
    other.abandon(take(other, entry.key), "c9", error=BOOM, hold=300)
    held = job(board, entry.key, lambda one: one.record and one.record.hold_until and not one.claim)
    assert verdicts(ops.retry([held])) == ["done"]
    after = job(board, entry.key, lambda one: one.record and one.record.hold_until is None)
    assert after.record is not None
    assert after.record.failures == 1
    assert ops.can_undo == "retry of 1 job"
    assert held.record is not None
    until = held.record.hold_until
    assert verdicts(ops.undo()) == ["done"]
    assert job(board, entry.key, lambda one: one.record and one.record.hold_until == until)
    assert ops.can_undo == ""


def test_a_hold_comes_and_goes_and_is_put_back_unless_the_job_was_tried_since(
    ops: Operations, board: LedgerBoard, other: LedgerBoard, store: Any
) -> None:
    first, second, third = posted(ops, board, "order", 3)
    assert verdicts(ops.hold([first, second, third], 600)) == ["done"] * 3
    until = {}
    for entry in (first, second, third):
        record = job(board, entry.key, lambda one: one.record and one.record.hold_until).record
        assert record is not None
        until[entry.key] = record.hold_until
    row = store.audit_rows(1)[0]
    assert (row.action, row.outcome, row.before["why"].partition(" until ")[0]) == ("hold", "done", "held")
    assert ops.can_undo == "hold of 3 jobs"
    assert verdicts(ops.retry([board.listing().jobs[entry.key] for entry in (first, second, third)])) == ["done"] * 3
    other.abandon(take(other, second.key), "c9", error=BOOM)
    take(other, third.key)
    claimed(board, third.key)
    job(board, second.key, lambda one: not one.claim and one.record and one.record.attempts == 1)
    undone = ops.undo()
    assert [(one.result, one.why) for one in undone[1:]] == [
        ("changed", "it was tried since"), ("changed", "claimed by c9 since"),
    ]  # fmt: skip
    record = job(board, first.key, lambda one: one.record and one.record.hold_until).record
    assert record is not None
    assert (undone[0].result, record.hold_until) == ("done", until[first.key])
    assert verdicts(ops.undo()) == ["done", "changed", "changed"]
    assert job(board, first.key, lambda one: one.record and one.record.hold_until is None)


def test_the_intents_of_many_are_durable_before_the_first_act_and_outcomes_come_after(
    ops: Operations, board: LedgerBoard, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever dies in it leaves intents without outcome, never an act without intent."""
    entries = posted(ops, board, "order", 40)

    class Killed(BaseException):
        pass

    def dies(*_: Any, **__: Any) -> Any:
        raise Killed

    told: list[bool] = []
    for verb in ("bin", "bin_many"):
        real = getattr(board, verb)

        def looking(what: Any, *rest: Any, real: Any = real, **options: Any) -> Any:
            meant = {one.uuid for one in (what if isinstance(what, list) else [what])}
            told.append(meant <= {row.job_uuid for row in store.audit_rows(100) if row.action == "bin"})
            return real(what, *rest, **options)

        monkeypatch.setattr(board, verb, looking)
    monkeypatch.setattr(type(store), "audit_end_all", dies)
    with pytest.raises(Killed):
        ops.bin(entries)
    assert told
    assert all(told)
    intents = {row.job_uuid for row in store.audit_rows(100) if row.action == "bin" and row.outcome is None}
    assert {entry.uuid for entry in board.listing().binned.values()} <= intents


def test_one_of_many_that_cannot_be_told_of_is_not_done_and_stops_no_other(
    ops: Operations, board: LedgerBoard, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = posted(ops, board, "order", 33)
    real = store.audit_begin_all

    def begin(operator: str, title: str, intents: Any) -> Any:
        if any(intent.job_uuid == entries[7].uuid for intent in intents):
            raise ConsoleError("no room")
        return real(operator, title, intents)

    monkeypatch.setattr(store, "audit_begin_all", begin)
    results = ops.bin(entries)
    assert [one.key for one in results if one.result == "refused"] == [entries[7].key]
    assert "the audit trail cannot be written: no room" in results[7].why
    eventually(lambda: list(board.listing().jobs) == [entries[7].key], what="that one alone on the board")
    assert len(board.listing().binned) == 32


# -- refusals ----------------------------------------------------------------------------------------------------------
def test_read_only_does_nothing(board: LedgerBoard, ops: Operations, store: Any) -> None:
    (entry,) = posted(ops, board, "order")
    told = len(store.audit_rows(100))
    guest = Operations(board, operator="guest", store=store, read_only=True)
    for results in (guest.bin([entry]), guest.delete([entry]), guest.retry([entry]), guest.release([entry])):
        assert (results[0].result, results[0].why) == ("refused", "this console is read-only")
    with pytest.raises(ConsoleError, match="read-only"):
        guest.post(PostRequest("shop.flows:checkout", "order"))
    assert entry.key in board.listing().jobs
    assert len(store.audit_rows(100)) == told


def test_what_cannot_be_audited_is_not_done(board: LedgerBoard, ops: Operations, tmp_path: Path) -> None:
    (entry,) = posted(ops, board, "order")
    (tmp_path / "file").write_text("no folder")
    blind = Operations(board, operator="anna", audit=FileAudit(tmp_path / "file" / "audit.jsonl"))
    (result,) = blind.delete([entry])
    assert result.result == "refused"
    assert result.why.startswith("Nothing done, the audit trail cannot be written: ")
    assert entry.key in board.listing().jobs


def test_a_board_that_is_away_refuses_in_one_line(
    url: str, board: LedgerBoard, ops: Operations, store: Any, tmp_path: Path
) -> None:
    (entry,) = posted(ops, board, "order")
    with opened(url, store) as gone:
        away = Operations(gone, operator="anna", store=store)
        seen = job(gone, entry.key)
        assert verdicts(away.bin([seen])) == ["done"]
        gone.close()
        (result,) = away.retry([seen])
        assert result.result == "refused"
        assert result.why
        assert verdicts(away.undo()) == ["refused"]
        assert away.can_undo == "move of 1 job to the bin"
        with pytest.raises(ConsoleError, match="Nothing posted"):
            away.post(PostRequest("shop.flows:checkout", "order"))


def test_without_an_audit_table_a_private_local_file_tells(
    board: LedgerBoard, ops: Operations, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (entry,) = posted(ops, board, "order")
    assert verdicts(Operations(board, operator="anna", title="shop").bin([entry], "why not")) == ["done"]
    (path,) = (tmp_path / "state").rglob("audit.jsonl")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    intent, outcome = (json.loads(line) for line in path.read_text().splitlines())
    assert (intent["operator"], intent["board"], intent["action"], intent["job_uuid"]) == (
        "anna", "shop", "bin", entry.uuid,
    )  # fmt: skip
    assert (outcome["seq"], outcome["outcome"]) == (intent["seq"], "done")


# -- posting -----------------------------------------------------------------------------------------------------------
def test_posting_saves_a_book_that_any_conductor_can_load(ops: Operations, board: LedgerBoard, store: Any) -> None:
    request = PostRequest(
        "shop.flows:checkout",
        "order",
        args=[1],
        kwargs={"password": "hunter2"},
        inject={"card": "4711"},
        priority="high",
        count=2,
    )
    uuids = ops.post(request)
    entries = [job(board, uuid) for uuid in uuids]
    assert [entry.name for entry in entries] == ["order-1", "order-2"]
    assert {entry.priority.value for entry in entries} == {"HIGH"}
    assert "4711" not in repr(entries[0].details)
    loaded = next(one for one in board.iterjobs() if one.uuid == uuids[0])
    (flow,) = list(loaded.book)
    assert flow.uuid == entries[0].flow_uuid
    factory: Mapping[str, Any] = {
        "name": "shop.flows.checkout",
        "args": [1],
        "kwargs": {"password": "hunter2"},
    }
    assert flow.meta == {"factory": factory, "store": {"card": "4711"}}
    row = store.audit_rows(1)[0]
    assert (row.action, row.job_name) == ("post", "order")
    assert uuids[0] in row.outcome
    assert "hunter2" not in repr(row)
    assert "4711" not in repr(row)
    assert "4711" not in repr(request)


def test_posting_into_a_store_of_taskflows_own(board: LedgerBoard, tmp_path: Path) -> None:
    backend = taskflow_backends.fetch({"connection": "memory"})
    audit = FileAudit(tmp_path / "audit.jsonl")
    (uuid,) = Operations(board, operator="anna", store=backend, audit=audit).post(PostRequest("a.b", "one"))
    flow = job(board, uuid).flow_uuid
    books = list(backend.get_connection().get_logbooks())
    assert [(book.name, next(iter(book)).uuid) for book in books] == [("one", flow)]


@pytest.mark.parametrize(
    ("request_", "line"),
    [
        (PostRequest("a:b", " "), "needs a name"),
        (PostRequest("a:b", "x\x1b"), "needs a name"),
        (PostRequest("a:b", "x" * 256), "at most 255"),
        (PostRequest("a:b", "x", count=0), "from 1"),
        (PostRequest("a:b", "x", priority="soon"), "VERY_HIGH"),
        (PostRequest("b", "x"), "Not a factory"),
        (PostRequest("a.b:c.d", "x"), "Not a factory"),
        (PostRequest("a:b c", "x"), "Not a factory"),
        (PostRequest("os;system", "x"), "Not a factory"),
        (PostRequest("a:b", "x", args=[object()]), "must be JSON"),
        (PostRequest("a:b", "x", kwargs={"v": float("nan")}), "must be JSON"),
        (PostRequest("a:b", "x", inject={"v": {1, 2}}), "must be JSON"),
        (PostRequest("a:b", "x", inject={1: 2}), "named by text"),  # type: ignore[dict-item]
    ],
)
def test_a_bad_request_is_one_line_and_posts_nothing(
    request_: PostRequest, line: str, tmp_path: Path, store: Any
) -> None:
    with opened(f"sqlite:///{tmp_path / 'board.db'}", store) as board:
        with pytest.raises(UsageError, match=line) as raised:
            Operations(board, operator="anna", store=store).post(request_)
        assert "\n" not in str(raised.value)
        assert not board.listing().jobs
        assert not store.audit_rows(10)


def test_posting_needs_a_store_with_tables(tmp_path: Path, store: Any) -> None:
    with opened(f"sqlite:///{tmp_path / 'board.db'}", store) as board:
        with pytest.raises(UsageError, match="needs a store"):
            Operations(board, operator="anna").post(PostRequest("a:b", "x"))
        bare = persistence.fetch(f"sqlite:///{tmp_path / 'bare.db'}")
        audit = FileAudit(tmp_path / "audit.jsonl")
        try:
            with pytest.raises(Unreachable, match=r"^Nothing posted: "):
                Operations(board, operator="anna", store=bare, audit=audit).post(PostRequest("a:b", "x"))
        finally:
            bare.close()
        assert not board.listing().jobs
        assert "refused" in (tmp_path / "audit.jsonl").read_text().splitlines()[-1]
