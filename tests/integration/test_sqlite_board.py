"""The SQLite board among real processes and threads, and what it notices by itself."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from taskflow import exceptions as excp
from taskflow import states

from conductor_console.clock import utcnow
from conductor_console.errors import BoardUnreachable
from conductor_console.jobboards import sqlite_acts
from conductor_console.jobboards.base import BoardEvent
from conductor_console.jobboards.sqlite import SQLiteJobBoard
from tests import sqlite_boards
from tests.sqlite_boards import OBEYS, Child, connected, lock_files, owner
from tests.support import eventually, freeze

#: Fixtures.
path, board, start = sqlite_boards.path, sqlite_boards.board, sqlite_boards.start

#: A process that works the board off, and prints what it consumed.
DRAINS = """
import sys
from taskflow import exceptions as excp
from conductor_console import jobboards
from conductor_console.clock import utcnow
board = jobboards.fetch({"board": "sqlite", "path": sys.argv[1], "timeout": 60}, name=sys.argv[2])
board.connect()
print("ready", flush=True)
sys.stdin.readline()
while board.job_count:
    for job in board.candidates(utcnow())[0]:
        try:
            board.claim(job, sys.argv[2])
        except (excp.UnclaimableJob, excp.NotFound):
            continue
        assert board.holds(job)
        board.consume(job, sys.argv[2])
        print(job.uuid, flush=True)
    board.refresh()
board.close()
"""


# -- several processes -------------------------------------------------------------------------------------------------


def test_many_processes_do_each_job_once(board: SQLiteJobBoard, path: Path, start: Callable[..., Child]) -> None:
    posted = {board.post(f"j{number}").uuid for number in range(60)}
    children = [start(DRAINS, path, f"c{number}") for number in range(3)]
    for child in children:
        assert child.process.stdin is not None
        child.process.stdin.write("go\n")
        child.process.stdin.flush()
    done: list[str] = []
    for child in children:
        assert child.process.stdout is not None
        done.extend(line.strip() for line in child.process.stdout)
        assert child.process.wait(60) == 0
    assert sorted(done) == sorted(posted)
    eventually(lambda: board.job_count == 0, what="an empty board")
    assert lock_files(path) == []


def test_a_second_board_on_the_file_does_not_blind_the_first(
    board: SQLiteJobBoard, path: Path, start: Callable[..., Child]
) -> None:
    """POSIX locks are the process's: closing any other handle on the file drops those that SQLite holds."""
    with connected(path) as second:
        second.refresh()
    board.ensure()
    for number in range(3):
        # Who closes the file last takes its log away: a board whose locks were dropped would go on reading the old one.
        child = start(OBEYS, path)
        assert child.ask(f"board.post('j{number}').name") == f"j{number}"
        assert child.ask("board.close()") == "None"
        eventually(lambda: board.job_count == number + 1, what="the other process's posting")  # noqa: B023


def test_a_killed_process_frees_its_claim_at_once(
    board: SQLiteJobBoard, path: Path, start: Callable[..., Child]
) -> None:
    job = board.post("a")
    child = start(OBEYS, path)
    child.claim(job)
    eventually(lambda: owner(board, job) == "child", what="the claim")
    heard: list[BoardEvent] = []
    board.subscribe(heard.append)
    child.kill()
    # No look at the database is needed: the next transaction asks the kernel.
    assert job.state == states.UNCLAIMED
    assert board.find_owner(job) is None
    board.claim(job, "c1")
    record = board.attempts(job)
    assert (record.attempts, record.failures) == (2, 1)
    assert [attempt.outcome for attempt in record.history] == [None, "crashed"]
    assert record.history[1].who.startswith("child@")
    board.consume(job, "c1")
    eventually(lambda: any(event.kind == "removed" for event in heard), what="the job's end")
    assert [event.kind for event in heard] == ["released", "claimed", "removed"]


def test_a_killed_process_is_noticed_though_nobody_writes(
    board: SQLiteJobBoard, path: Path, start: Callable[..., Child]
) -> None:
    job = board.post("a")
    child = start(OBEYS, path)
    child.claim(job)
    child.ask(
        "board.register_entity(__import__('taskflow.types.entity').types.entity.Entity"
        "('conductor', 'child@h:1', {'hostname': 'h', 'pid': 1}))"
    )
    eventually(lambda: owner(board, job) == "child" and board.listing().entities, what="claim and entity")
    heard: list[str] = []
    board.subscribe(lambda event: heard.append(event.kind))
    child.kill()
    eventually(lambda: owner(board, job) is None and not board.listing().entities, what="the death")
    eventually(lambda: {"released", "entities"} <= set(heard), what="the events")
    assert [found.uuid for found in board.candidates(utcnow())[0]] == [job.uuid]
    eventually(lambda: lock_files(path) == [], what="the dead one's lock file to go")


def test_a_stopped_process_keeps_its_claim(board: SQLiteJobBoard, path: Path, start: Callable[..., Child]) -> None:
    job = board.post("a")
    child = start(OBEYS, path)
    child.claim(job)
    freeze(child.process.pid)
    try:
        eventually(lambda: owner(board, job) == "child", what="the claim")
        with connected(path) as other:
            for looker in (board, other):
                looker.refresh()
                with pytest.raises(excp.UnclaimableJob):
                    looker.claim(looker.make_job(looker.listing().jobs[job.uuid]), "c1")
                assert owner(looker, job) == "child"
    finally:
        child.process.send_signal(signal.SIGCONT)
    assert child.ask(f"board.consume(job({job.uuid!r}), 'child')") == "None"
    assert job.wait(30)


def test_a_claim_does_not_outlive_its_process_in_a_fork(
    board: SQLiteJobBoard, path: Path, start: Callable[..., Child]
) -> None:
    job = board.post("a")
    child = start(OBEYS, path)
    child.claim(job)
    # The fork lives until its end of our pipe is closed, and can neither use nor keep what its parent had.
    forked = child.ask(
        "[pid := os.fork(), pid or answer(sys.stdin.readline()) or answer(board.connected)"
        " or answer(sys.stdin.readline()), pid][2]"
    )
    assert int(forked) > 0
    eventually(lambda: owner(board, job) == "child", what="the claim")
    child.kill()
    eventually(lambda: owner(board, job) is None, what="the death of the one that claimed")
    board.claim(job, "c1")


def test_a_fork_connects_anew(board: SQLiteJobBoard, path: Path, start: Callable[..., Child]) -> None:
    script = """
import os, sys
from conductor_console import jobboards
board = jobboards.fetch({"board": "sqlite", "path": sys.argv[1]}, name="child")
board.connect()
job = next(board.iterjobs())
board.claim(job, "parent")
pid = os.fork()
if pid == 0:
    told = [board.connected, board.holds(job)]
    try:
        board.find_owner(job)
    except Exception as error:
        told.append(type(error).__name__)
    board.close()
    board.connect()
    told += [board.connected, board.find_owner(job), len(list(board.iterjobs()))]
    board.post("by the fork")
    board.close()
    print(told, flush=True)
    os._exit(0)
os.waitpid(pid, 0)
print(board.holds(job), board.find_owner(job), flush=True)
board.consume(job, "parent")
board.close()
"""
    board.post("a")
    result = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, timeout=60)
    assert result.stdout.splitlines() == [
        "[False, False, 'BoardUnreachable', True, 'parent', 1]",
        "True parent",
    ], result.stderr
    eventually(lambda: [job.name for job in board.iterjobs()] == ["by the fork"], what="the fork's posting")


def test_a_lock_file_that_was_removed_ends_its_claims(board: SQLiteJobBoard, path: Path) -> None:
    job = board.post("a")
    board.claim(job, "c1")
    assert board.holds(job)
    (lock,) = lock_files(path)
    lock.unlink()
    eventually(lambda: not board.holds(job), what="the loss to be noticed")
    with pytest.raises(excp.NotFound):
        board.consume(job, "c1")
    board.claim(job, "c1")
    assert [attempt.outcome for attempt in board.attempts(job).history] == [None, "crashed"]
    board.consume(job, "c1")


def test_a_claim_that_a_worker_was_told_is_lost_is_free_when_the_file_is_back(
    board: SQLiteJobBoard, path: Path
) -> None:
    job = board.post("a")
    board.claim(job, "c1")
    away = path.rename(path.with_name("away.db"))
    eventually(lambda: not board.holds(job), what="the loss to be noticed")
    away.rename(path)
    eventually(lambda: board.listing().connection.state == "live", what="the file to be found again")
    assert not board.holds(job)
    assert board.find_owner(job) is None
    board.claim(job, "c1")
    assert board.holds(job)
    assert [attempt.outcome for attempt in board.attempts(job).history] == [None, "crashed"]


def test_a_claim_is_seen_by_whatever_link_the_file_is_reached(
    board: SQLiteJobBoard, path: Path, tmp_path: Path, start: Callable[..., Child]
) -> None:
    file_link, folder_link = tmp_path / "link.db", tmp_path / "link"
    file_link.symlink_to(path)
    folder_link.symlink_to(tmp_path, target_is_directory=True)
    mine = board.post("mine")
    board.claim(mine, "c1")
    for link in (file_link, folder_link / path.name):
        child = start(OBEYS, link)
        assert "is claimed by c1" in child.ask(f"board.claim(job({mine.uuid!r}), 'child')")
        theirs = board.post("theirs")
        child.claim(theirs)
        with pytest.raises(excp.UnclaimableJob):
            board.claim(theirs, "c1")
        with connected(link) as other:
            assert owner(other, mine) == "c1"
    assert board.holds(mine)


def test_lock_files_of_the_dead_are_swept_and_connecting_makes_none(
    board: SQLiteJobBoard, path: Path, start: Callable[..., Child]
) -> None:
    assert lock_files(path) == []
    job = board.post("a")
    assert lock_files(path) == []
    child = start(OBEYS, path)
    child.claim(job)
    child.ask(f"board.consume(job({job.uuid!r}), 'child')")
    assert len(lock_files(path)) == 1
    child.kill()
    assert len(lock_files(path)) == 1
    board.claim(board.post("b"), "c1")
    assert len(lock_files(path)) == 1
    board.close()
    assert lock_files(path) == []


def test_a_claim_that_comes_while_the_board_is_closed_leaves_nothing_behind(
    board: SQLiteJobBoard, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = board.post("a")
    looked, closed = threading.Event(), threading.Event()
    look = board._need_connection

    def looks_and_falls_asleep() -> None:
        look()
        looked.set()
        closed.wait(30)

    monkeypatch.setattr(board, "_need_connection", looks_and_falls_asleep)
    told: list[str] = []

    def claim() -> None:
        try:
            board.claim(job, "c1")
        except BoardUnreachable as error:
            told.append(str(error))

    claiming = threading.Thread(target=claim)
    claiming.start()
    assert looked.wait(30)
    board.close()
    closed.set()
    claiming.join(30)
    assert told == ["the board is not connected"]
    assert lock_files(path) == []
    with connected(path) as looker:
        assert looker.find_owner(job) is None


def test_a_fork_of_a_fork_claims_for_itself(path: Path, start: Callable[..., Child]) -> None:
    script = """
import os, sys
from conductor_console import jobboards
board = jobboards.fetch({"board": "sqlite", "path": sys.argv[1]}, name="child")
board.connect()
board.claim(next(board.iterjobs()), "parent")
if os.fork() == 0 and os.fork() == 0:
    board.connect()
    board.claim(next(board.iterjobs(only_unclaimed=True)), "grandchild")
    print("ready", flush=True)
sys.stdin.read()
"""
    with connected(path) as board:
        first, second = board.post("first"), board.post("second")
        child = start(script, path)
        eventually(lambda: (owner(board, first), owner(board, second)) == ("parent", "grandchild"), what="both claims")
        child.kill()
        eventually(lambda: owner(board, first) is None, what="the parent's end")
        assert board.find_owner(second) == "grandchild"
        # The grandchild reads from the same pipe, whose end is its own.
        child.end()
        eventually(lambda: owner(board, second) is None, what="the grandchild's end")


def test_a_process_in_another_folder_sees_the_claims(
    board: SQLiteJobBoard, path: Path, start: Callable[..., Child]
) -> None:
    job = board.post("a")
    board.claim(job, "child")
    folder = path.parent / "folder"
    folder.mkdir()
    script = f"import os; os.chdir({str(folder)!r})\n{OBEYS}"
    child = start(script, os.path.join("..", path.name))  # noqa: PTH118
    assert "is claimed by child already" in child.ask(f"board.claim(job({job.uuid!r}), 'child')")
    # It has the same name and still is another.
    assert "child holds it" in child.ask(f"board.consume(job({job.uuid!r}), 'child')")
    assert board.holds(job)


# -- the watch ---------------------------------------------------------------------------------------------------------


def test_a_reader_that_fell_far_behind_reads_anew(
    board: SQLiteJobBoard, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_acts, "CHANGES_KEPT", 5)
    monkeypatch.setattr(sqlite_acts, "PRUNE_EVERY", 1)
    gone = board.post("gone")
    with connected(path) as slow:
        # As long as its lock is held, it cannot read.
        with slow._mirror.lock:
            board.claim(gone, "c1")
            board.consume(gone, "c1")
            for number in range(20):
                board.post(f"j{number}")
        eventually(lambda: slow.listing().jobs.keys() == board.listing().jobs.keys(), what="both to agree")
        with sqlite3.connect(path) as raw:
            assert raw.execute("SELECT count(*) FROM cc_changes").fetchone()[0] == 5
        raw.close()


def test_what_a_board_did_itself_is_told_once(board: SQLiteJobBoard, path: Path) -> None:
    heard: list[str] = []
    board.subscribe(lambda event: heard.append(event.kind))
    job = board.post("a")
    board.claim(job, "c1")
    board.abandon(job, "c1")
    with connected(path) as other:
        other.post("b")
        eventually(lambda: board.job_count == 2, what="the other's posting")
    eventually(lambda: len(heard) >= 4, what="all events")
    assert heard == ["posted", "claimed", "released", "posted"]


def test_a_file_that_goes_away_loses_the_connection_until_a_board_is_back(board: SQLiteJobBoard, path: Path) -> None:
    job = board.post("a")
    board.claim(job, "c1")
    for tail in ("", "-wal", "-shm"):
        path.with_name(path.name + tail).rename(path.with_name("away" + tail))
    eventually(lambda: board.listing().connection.state == "lost", what="the loss")
    listing = board.listing()
    assert "no longer there" in listing.connection.detail
    assert list(listing.jobs) == [job.uuid]
    assert not board.holds(job)
    assert list(board.candidates(utcnow())[0]) == []
    assert list(board.iterjobs()) == []
    SQLiteJobBoard("new", {"path": str(path)}).ensure()
    eventually(lambda: board.listing().connection.state == "live", what="the new board")
    assert board.job_count == 0
    assert not board.holds(job)
    board.post("b")
    assert board.job_count == 1


def test_connecting_and_reading_write_nothing(board: SQLiteJobBoard, path: Path) -> None:
    board.post("a")
    board.close()
    before = path.read_bytes()
    reader = SQLiteJobBoard("reader", {"path": str(path)})
    reader.connect()
    job = next(reader.iterjobs(ensure_fresh=True))
    assert (job.state, reader.attempts(job).attempts) == (states.UNCLAIMED, 0)
    reader.refresh()
    reader.close()
    assert path.read_bytes() == before
    assert sorted(found.name for found in path.parent.iterdir()) == ["board.db"]


def test_many_threads_share_a_board(board: SQLiteJobBoard) -> None:
    jobs = [board.post(f"j{number}") for number in range(40)]
    done: list[str] = []
    failed: list[BaseException] = []

    def work(who: str) -> None:
        try:
            for job in jobs:
                try:
                    board.claim(job, who)
                except (excp.UnclaimableJob, excp.NotFound):
                    continue
                assert board.holds(job)
                board.consume(job, who)
                done.append(job.uuid)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(f"c{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []
    assert sorted(done) == sorted(job.uuid for job in jobs)
    assert board.job_count == 0
