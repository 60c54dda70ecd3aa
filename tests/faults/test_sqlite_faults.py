"""A SQLite board whose surroundings fail under it, and what it costs to do nothing, or very much."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from taskflow import exceptions as excp
from taskflow.persistence import models
from taskflow.types.entity import Entity

from conductor_console import persistence
from conductor_console.clock import utcnow
from conductor_console.errors import BoardUnreachable
from conductor_console.jobboards import sqlite_acts, sqlite_liveness
from conductor_console.jobboards.sqlite import SQLiteJobBoard
from conductor_console.jobboards.sqlite_liveness import Sessions
from tests import sqlite_boards
from tests.sqlite_boards import OBEYS, Child, connected, lock_files, overheard, owner, reach, refusal
from tests.support import eventually, freeze

#: Fixtures.
path, board, start = sqlite_boards.path, sqlite_boards.board, sqlite_boards.start

CONDUCTOR = Entity("conductor", "c1@host:42", {"hostname": "host", "pid": 42})


# -- the file --------------------------------------------------------------------------------------------------------


def test_a_file_with_two_names_is_refused(board: SQLiteJobBoard, path: Path) -> None:
    """SQLite's log and our lock files lie beside a name: by two of them, processes would not see each other."""
    job = board.post("a")
    board.claim(job, "c1")
    other = path.with_name("other.db")
    os.link(path, other)
    for name in (path, other):
        told = f"{name} has 2 names (hard links), and a board must have one: remove the others"
        assert refusal(name) == refusal(name, read_only=True) == refusal(name, "ensure") == told
    # Who has it open goes on.
    assert board.holds(job)
    board.consume(job, "c1")
    other.unlink()
    with connected(path) as again:
        assert again.job_count == 0


def test_a_copy_is_not_worked_while_its_original_is_there(board: SQLiteJobBoard, path: Path) -> None:
    board.claim(board.post("a"), "c1")
    copy = path.with_name("copy.db")
    for tail in ("", "-wal"):
        shutil.copy(f"{path}{tail}", f"{copy}{tail}")
    for act in ("connect", "ensure"):
        assert refusal(copy, act) == (
            f"{copy} is a copy of the board {path}, which is still there, and its jobs would run twice: "
            "use that one, or take it away first"
        )
    reader = SQLiteJobBoard("reader", {"path": str(copy)}, read_only=True)
    reader.connect()
    assert [job.name for job in reader.iterjobs()] == ["a"]
    reader.close()
    board.close()
    path.unlink()
    with connected(copy) as moved:
        moved.claim(next(moved.iterjobs()), "c1")
    # It is the board now: the former is the copy, should it come back.
    shutil.copy(copy, path)
    assert "is a copy of the board" in refusal(path)


def test_a_board_is_moved_when_nobody_works_on_it(board: SQLiteJobBoard, path: Path) -> None:
    board.post("a")
    board.close()
    folder = path.parent / "elsewhere"
    folder.mkdir()
    moved = path.rename(folder / "b.db")
    for _ in range(2):
        with connected(moved) as found:
            assert [job.name for job in found.iterjobs()] == ["a"]
    # A new board at the old place is no hindrance.
    with connected(path) as fresh:
        assert fresh.job_count == 0
        with connected(moved) as found:
            assert found.job_count == 1


def test_a_board_that_was_moved_in_use_is_refused_until_it_is_whole_and_free(
    path: Path, start: Callable[..., Child]
) -> None:
    with connected(path) as board:
        job = board.post("a")
    child = start(OBEYS, path)
    child.claim(job)
    freeze(child.process.pid)
    moved = path.rename(path.with_name("moved.db"))
    for act in ("connect", "ensure"):
        assert refusal(moved, act) == f"{moved} was moved from {path} while processes work on it: end them first"
    child.kill()
    told = refusal(moved)
    assert told == f"{moved} was moved from {path} without its newest changes: move {path}-wal to {moved}-wal"
    Path(f"{path}-wal").rename(f"{moved}-wal")
    with connected(moved) as found:
        found.claim(next(found.iterjobs()), "c1")
        assert [attempt.outcome for attempt in found.attempts(job).history] == [None, "crashed"]


def test_nothing_is_written_to_a_file_that_is_no_longer_there(board: SQLiteJobBoard, path: Path) -> None:
    job = board.post("a")
    with board._mirror.lock:  # so that nothing but the act itself can notice
        path.unlink()
        for act in (lambda: board.post("b"), lambda: board.claim(job, "c1"), lambda: job.state):
            with pytest.raises(BoardUnreachable, match="is no longer there"):
                act()


def test_a_file_that_replaced_another_in_use_is_not_overwritten_by_the_formers_log(
    board: SQLiteJobBoard, path: Path
) -> None:
    for number in range(20):
        board.post(f"old{number}", details={"x": "y" * 1000})
    other = path.with_name("other.db")
    with connected(other) as new:
        new.post("new")
    other.replace(path)
    eventually(lambda: [job.name for job in board.iterjobs()] == ["new"], what="the new file's jobs")
    board.post("more")
    board.close()
    with connected(path) as again:
        assert sorted(job.name for job in again.iterjobs()) == ["more", "new"]
    assert len(list(path.parent.glob("board.db-wal.replaced-*"))) == 1


def test_jobs_outlive_a_log_that_was_taken_away_in_use(board: SQLiteJobBoard, path: Path) -> None:
    held = board.post("held")
    board.claim(held, "c1")
    with connected(path) as other:
        for tail in ("-wal", "-shm"):
            Path(f"{path}{tail}").unlink()
        for each in (board, other):
            with pytest.raises(BoardUnreachable, match=r"-wal was taken away while the board was in use"):
                each.refresh()
        for each in (board, other):
            eventually(lambda: _reads(each), what="the board to be opened anew")  # noqa: B023
            assert each.job_count == 1
        assert board.holds(held)
        board.consume(held, "c1")
        eventually(lambda: other.job_count == 0, what="the job's end")


def _reads(board: SQLiteJobBoard) -> bool:
    with contextlib.suppress(BoardUnreachable):
        board.refresh()
        return True
    return False


#: What a process does that cannot make its files longer than so many bytes (-1: than any).
LIMITED = """
import resource
def limit(octets):
    resource.setrlimit(resource.RLIMIT_FSIZE, (octets, resource.RLIM_INFINITY))
"""


def test_a_disk_that_fills_up_leaves_nothing_half_done(path: Path, start: Callable[..., Child]) -> None:
    acts = {
        "post": "board.post('more') and None",
        "claim": "board.claim(job('waiting'), 'child') and None",
        "consume": "board.consume(job('consume'), 'child')",
        "abandon": "board.abandon(job('abandon'), 'child')",
        "trash": "board.trash(job('trash'), 'child')",
        "bin": "board.bin(board.listing().jobs[job('bin').uuid], 'op', '') and None",
        "restore": "board.restore(next(e for e in board.listing().binned.values() if e.name == 'binned')) and None",
    }
    with connected(path) as board:
        for name in ("waiting", "consume", "abandon", "trash", "bin", "binned"):
            board.post(name)
        board.bin(next(entry for entry in board.listing().jobs.values() if entry.name == "binned"), "op", "")
        child = start(LIMITED + OBEYS.replace("job.uuid == uuid", "job.name == uuid"), path)
        for name in ("consume", "abandon", "trash"):
            assert child.ask(f"board.claim(job({name!r}), 'child')").startswith("AttemptRecord(")
        eventually(lambda: sum(entry.claim is not None for entry in board.listing().jobs.values()) == 3, what="claims")
        before, rows = dataclasses.replace(board.listing(), taken_at=utcnow()), _rows(path)
        assert child.ask(f"limit({Path(f'{path}-wal').stat().st_size})") == "None"
        for act in acts.values():
            assert child.ask(act) == (
                f"BoardUnreachable: {path} cannot be written (disk I/O error): is its disk full, over quota or failing?"
            )
        assert child.ask("[board.holds(job(name)) for name in ('consume', 'waiting')]") == "[True, False]"
        board.refresh()
        assert _rows(path) == rows
        assert (board.listing().jobs, board.listing().binned) == (before.jobs, before.binned)
        assert child.ask("limit(-1)") == "None"
        for act in acts.values():
            assert child.ask(act) == "None"
        board.refresh()
        assert sorted(entry.name for entry in board.listing().jobs.values()) == ["abandon", "binned", "more", "waiting"]
        assert sorted(entry.name for entry in board.listing().binned.values()) == ["bin", "trash"]


def _rows(path: Path) -> list[str]:
    """All that is in the database."""
    with contextlib.closing(sqlite3.connect(path)) as raw:
        return list(raw.iterdump())


# -- conductors on the board -------------------------------------------------------------------------------------------


def test_conductors_are_shown_again_after_their_session_ended(board: SQLiteJobBoard, path: Path) -> None:
    board.register_entity(CONDUCTOR)
    board.register_entity(Entity("conductor", "c2@host:42", {}))
    with connected(path) as other:
        (before,) = lock_files(path)
        before.unlink()
        eventually(lambda: lock_files(path) not in ([], [before]), what="a new session")
        for each in (board, other):
            eventually(
                lambda: {entity.session for entity in each.listing().entities.values()} == {lock_files(path)[0].name},  # noqa: B023
                what="the new session's conductors",
            )
            assert sorted(each.listing().entities) == ["c1@host:42", "c2@host:42"]
    with contextlib.closing(sqlite3.connect(path)) as raw:
        assert raw.execute("SELECT count(*) FROM cc_entities").fetchone() == (2,)


def test_conductors_are_shown_on_the_board_that_took_the_place_of_theirs(board: SQLiteJobBoard, path: Path) -> None:
    board.register_entity(CONDUCTOR)
    other = path.with_name("other.db")
    with connected(other) as new:
        new.post("new")
    other.replace(path)
    with connected(path) as looker:
        eventually(lambda: list(looker.listing().entities) == ["c1@host:42"], what="the conductor")
        assert looker.job_count == 1
    board.close()
    with connected(path) as looker:
        assert not looker.listing().entities


def test_conductors_are_shown_once_lock_files_can_be_made_again(
    board: SQLiteJobBoard, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    board.register_entity(CONDUCTOR)
    job = board.post("a")
    (lock,) = lock_files(path)
    lock.unlink()
    folder = lock.parent
    folder.rmdir()
    folder.write_text("in the way")
    eventually(lambda: "are not shown on the board" in caplog.text, what="the trouble to be told")
    with pytest.raises(BoardUnreachable, match=r"^cannot claim: no lock file can be made in .*: Not a directory$"):
        board.claim(job, "c1")
    assert board.listing().connection.state == "live"
    folder.unlink()
    eventually(lambda: list(board.listing().entities) == ["c1@host:42"], what="the conductor")
    board.claim(job, "c1")
    assert caplog.text.count("are not shown on the board") == 1


def test_records_without_a_job_go_when_a_conductor_comes(board: SQLiteJobBoard, path: Path) -> None:
    kept, binned, gone = board.post("kept"), board.post("binned"), board.post("gone")
    for job in (kept, binned, gone):
        board.claim(job, "c1")
        board.abandon(job, "c1")
    board.bin(board.listing().jobs[binned.uuid], "op", "")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("DELETE FROM cc_jobs WHERE uuid = ?", (gone.uuid,))
        board.register_entity(CONDUCTOR)
        assert {key for (key,) in raw.execute("SELECT job FROM cc_attempts")} == {kept.uuid, binned.uuid}


# -- claims ------------------------------------------------------------------------------------------------------------


def test_a_claim_that_failed_is_no_claim_when_another_gets_its_number(board: SQLiteJobBoard, path: Path) -> None:
    job = board.post("a")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("CREATE TRIGGER no BEFORE UPDATE ON cc_jobs BEGIN SELECT RAISE(ABORT, 'no'); END")
        with pytest.raises(BoardUnreachable, match="does not answer: no"):
            board.claim(job, "c1")
        raw.execute("DROP TRIGGER no")
    with connected(path) as other:
        other.claim(job, "c1")
        eventually(lambda: owner(board, job) == "c1", what="the other's claim")
        assert not board.holds(job)
        with pytest.raises(excp.JobFailure, match="c1 holds it"):
            board.consume(job, "c1")
        assert other.holds(job)


def test_lock_files_are_for_all_who_may_use_the_database(path: Path) -> None:
    """Else one user's claims could not be told from a dead one's by another, nor be made at all."""
    umask = os.umask(0o077)
    try:
        for mode, folder_mode, lock_mode in ((0o600, 0o700, 0o600), (0o664, 0o775, 0o664), (0o666, 0o777, 0o666)):
            with connected(path) as board:
                path.chmod(mode)
                board.claim(board.post("a"), "c1")
                (lock,) = lock_files(path)
                assert (lock.parent.stat().st_mode & 0o777, lock.stat().st_mode & 0o777) == (folder_mode, lock_mode)
    finally:
        os.umask(umask)


def test_a_session_whose_life_cannot_be_told_is_alive_and_told_once(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = path.with_name("board.db.locks")
    folder.mkdir()
    (folder / ("a" * 16)).symlink_to("a" * 16)
    sessions = Sessions(folder)
    assert [sessions.alive("a" * 16) for _ in range(3)] == [True] * 3
    assert caplog.text.count("cannot tell whether session") == 1
    assert not sessions.alive("b" * 16)
    assert not sessions.alive("../board.db")


# -- doing nothing, and doing much -------------------------------------------------------------------------------------


def test_an_idle_board_asks_for_the_data_version_alone(board: SQLiteJobBoard, path: Path) -> None:
    for number in range(3):
        board.claim(board.post(f"j{number}"), "c1")
    board.register_entity(CONDUCTOR)
    watcher = SQLiteJobBoard("watcher", {"path": str(path)})
    with overheard(watcher) as said, contextlib.closing(watcher):
        watcher.connect()
        eventually(lambda: said[-3:] == ["PRAGMA data_version"] * 3, what="the first reading to be over")
        said.clear()
        # Long enough for the lock files to be tried a few times, too.
        eventually(lambda: len(said) >= 50, what="fifty looks")
        assert set(said) == {"PRAGMA data_version"}
        # Another program's commit in the same file makes it look for changes, and for nothing else.
        store = persistence.fetch(f"sqlite:///{path}")
        store.ensure()
        eventually(lambda: said[-3:] == ["PRAGMA data_version"] * 3, what="the tables to be made")
        said.clear()
        with contextlib.closing(store), contextlib.closing(store.get_connection()) as connection:
            connection.save_logbook(models.LogBook("book"))
            eventually(lambda: any("cc_changes" in line for line in said), what="a look for changes")
            eventually(lambda: said[-3:] == ["PRAGMA data_version"] * 3, what="quiet")
        asked = {line for line in said if not line.startswith(("PRAGMA data_version", "BEGIN", "ROLLBACK"))}
        assert len(asked) == 1
        assert "FROM cc_changes" in asked.pop()


#: Rounds of five changes each in which nothing may grow; `make soak` may ask for more.
ROUNDS = int(os.environ.get("CHURN_ROUNDS", "1000"))


def test_thousands_of_changes_leave_nothing_behind(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_acts, "CHANGES_KEPT", 500)
    monkeypatch.setattr(sqlite_acts, "PRUNE_EVERY", 100)
    monkeypatch.setattr(sqlite_liveness, "_REMEMBERED", 5)

    def work(rounds: int) -> None:
        for number in range(rounds):
            job = board.post("a")
            board.claim(job, "c1")
            board.abandon(job, "c1")
            board.claim(job, "c1")
            if number % 20 == 0:
                # Lost to an operator, and to the death of another.
                watcher.refresh()
                watcher.delete(watcher.listing().jobs[job.uuid])
                left = board.post("b")
                with connected(path) as dying:
                    dying.claim(left, "c2")
                board.claim(left, "c1")
                board.consume(left, "c1")
            else:
                board.consume(job, "c1")

    def weigh() -> tuple[int, int, int]:
        for each in (board, watcher):
            each.refresh()
            assert each.job_count == 0
        with contextlib.closing(sqlite3.connect(path)) as raw:
            tables = ("cc_jobs", "cc_attempts", "cc_bin", "cc_entities", "cc_changes")
            rows = [raw.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables]
            pages = raw.execute("PRAGMA page_count").fetchone()[0]
        return reach((board, watcher)), sum(rows), pages

    with connected(path) as board, connected(path) as watcher:
        work(ROUNDS // 5)
        before = weigh()
        work(ROUNDS - ROUNDS // 5)
        after = weigh()
    assert after[0] <= before[0] + 20
    assert after[1] <= 600
    assert after[2] <= before[2] + 2
