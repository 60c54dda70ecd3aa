"""The SQLite board among real processes, and in front of files that are not what they should be."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from taskflow import exceptions as excp
from taskflow import states
from taskflow.persistence import models

from conductor_console import jobboards, persistence
from conductor_console.clock import utcnow
from conductor_console.errors import BoardUnreachable, UsageError
from conductor_console.jobboards import sqlite_acts
from conductor_console.jobboards.base import BoardEvent, BoardJob, Refused
from conductor_console.jobboards.sqlite import SQLiteJobBoard
from tests.support import eventually

#: A process that does what it is told, line by line, and answers each line with one.
OBEYS = """
import os, sys
from conductor_console import jobboards
board = jobboards.fetch({"board": "sqlite", "path": sys.argv[1]}, name="child")
board.connect()
def job(uuid):
    return next(job for job in board.iterjobs(ensure_fresh=True) if job.uuid == uuid)
def answer(text):
    print(text, flush=True)
answer("ready")
for line in sys.stdin:
    try:
        answer(eval(line))
    except Exception as error:
        answer(f"{type(error).__name__}: {error}")
"""

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


class Child:
    """A process of this test's, spoken to by lines."""

    def __init__(self, script: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", script, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        assert self.hear() == "ready"

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def ask(self, expression: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(expression + "\n")
        self.process.stdin.flush()
        return self.hear()

    def claim(self, job: BoardJob) -> None:
        assert self.ask(f"board.claim(job({job.uuid!r}), 'child')") == "None"

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(30)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "board.db"


@pytest.fixture
def board(path: Path) -> Iterator[SQLiteJobBoard]:
    with connected(path) as board:
        yield board


@contextmanager
def connected(path: Path, **conf: Any) -> Iterator[SQLiteJobBoard]:
    """A board that is there and connected."""
    board = SQLiteJobBoard("test", {"path": str(path), **conf})
    board.ensure()
    board.connect()
    try:
        yield board
    finally:
        board.close()


@pytest.fixture
def start() -> Iterator[Callable[..., Child]]:
    """Starts processes, which end with the test."""
    children: list[Child] = []

    def run(script: str, *arguments: object) -> Child:
        children.append(Child(script, *map(str, arguments)))
        return children[-1]

    yield run
    for child in children:
        child.end()


def owner(board: SQLiteJobBoard, job: BoardJob) -> str | None:
    entry = board.listing().jobs.get(job.uuid)
    return entry.claim.owner if entry is not None and entry.claim is not None else None


def lock_files(path: Path) -> list[Path]:
    folder = path.with_name(path.name + ".locks")
    return sorted(folder.iterdir()) if folder.exists() else []


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
    child.process.send_signal(signal.SIGSTOP)
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


# -- files that are not what they should be ----------------------------------------------------------------------------


def refusal(path: Path, act: str = "connect", **options: Any) -> str:
    """The one line with which the board refuses."""
    board = SQLiteJobBoard("test", {"path": str(path)}, **options)
    with pytest.raises(BoardUnreachable) as told:
        getattr(board, act)()
    board.close()
    assert "\n" not in str(told.value)
    return str(told.value)


def test_no_file_and_no_folder(tmp_path: Path) -> None:
    path = tmp_path / "none.db"
    assert refusal(path) == f"{path} is not there: make it with `conductor-console init sqlite:///{path}`"
    assert not path.exists()
    path = tmp_path / "no" / "such" / "board.db"
    assert refusal(path) == f"the folder {path.parent} is not there"
    assert "make it first" in refusal(path, "ensure")
    assert refusal(tmp_path) == f"{tmp_path} is not a file"
    assert refusal(tmp_path, "ensure") == f"{tmp_path} is not a file"


def test_a_file_that_is_no_database_is_left_as_it_is(path: Path) -> None:
    path.write_text("these are my notes, not a database\n" * 100)
    before = path.read_bytes()
    for act in ("connect", "ensure"):
        assert refusal(path, act) == f"{path} is not a SQLite database"
    assert path.read_bytes() == before


def test_a_damaged_database(board: SQLiteJobBoard, path: Path) -> None:
    for number in range(50):
        board.post(f"j{number}", details={"text": "x" * 500})
    board.close()
    raw = bytearray(path.read_bytes())
    raw[100:] = b"\xa5" * (len(raw) - 100)
    path.write_bytes(raw)
    for act in ("connect", "ensure"):
        assert "is damaged" in refusal(path, act)


def test_another_programs_database_is_left_as_it_is(path: Path) -> None:
    with sqlite3.connect(path) as raw:
        raw.execute('CREATE TABLE "cookies\x1b[31m" (a)')
        raw.execute("CREATE TABLE logbooks (a)")
    raw.close()
    before = path.read_bytes()
    for act in ("connect", "ensure"):
        told = refusal(path, act)
        assert "another program's database (it has cookies\\x1b[31m)" in told
    assert path.read_bytes() == before


def test_an_empty_file_becomes_a_board(path: Path) -> None:
    path.touch()
    assert "has no board: make it with `conductor-console init" in refusal(path)
    with connected(path) as board:
        board.post("a")


def test_a_board_of_another_version(board: SQLiteJobBoard, path: Path) -> None:
    board.close()
    with sqlite3.connect(path) as raw:
        raw.execute("ALTER TABLE cc_jobs RENAME COLUMN session TO lease")
    raw.close()
    assert "another version: it has no column cc_jobs.session" in refusal(path)


def test_a_database_that_is_locked(path: Path) -> None:
    with connected(path, timeout=0.1) as board:
        job = board.post("a")
        raw = sqlite3.connect(path, isolation_level=None)
        raw.execute("BEGIN IMMEDIATE")
        for act in (lambda: board.post("b"), lambda: board.claim(job, "c1")):
            with pytest.raises(BoardUnreachable, match=r"is locked by another process: nothing was done, try again"):
                act()
        # Reading goes on.
        assert job.state == states.UNCLAIMED
        board.refresh()
        raw.execute("ROLLBACK")
        raw.close()
        board.claim(job, "c1")


def test_a_full_disk(path: Path) -> None:
    with connected(path) as board:
        job = board.post("a")

        def full(connection: sqlite3.Connection, _record: object) -> None:
            connection.execute("PRAGMA max_page_count = 1")  # as many as there are

        sa.event.listen(board._database._engine, "connect", full)
        board._database.close()
        with pytest.raises(Refused, match="is full: nothing was done"):
            board.post("b", details={"x": "y" * 1_000_000})
        assert [found.name for found in board.iterjobs(ensure_fresh=True)] == ["a"]
        assert job.state == states.UNCLAIMED


#: Runs as a user who may read the file and not write it; root gives its rights up for that.
READS = """
import os, sys
from taskflow import exceptions
from conductor_console import jobboards
board = jobboards.fetch({"board": "sqlite", "path": sys.argv[1]}, name="child", read_only=sys.argv[2] == "reader")
import conductor_console.jobboards.sqlite
if os.geteuid() == 0:
    os.setegid(65534)
    os.seteuid(65534)
def told(act):
    try:
        return act()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
print(told(board.connect))
print(told(lambda: [job.name for job in board.iterjobs()]))
print(told(lambda: board.post("b")))
print(told(lambda: board.claim(next(board.iterjobs()), "c1")))
board.close()
"""


@pytest.mark.parametrize("kind", ["worker", "reader"])
@pytest.mark.parametrize("open_elsewhere", [True, False])
def test_a_file_that_may_not_be_written(kind: str, open_elsewhere: bool) -> None:
    folder = Path(tempfile.mkdtemp())
    path = folder / "board.db"
    try:
        with connected(path) as board:
            board.post("a")
            if not open_elsewhere:
                board.close()
            for found in folder.iterdir():
                found.chmod(0o444)
            folder.chmod(0o555)
            result = subprocess.run(
                [sys.executable, "-W", "error", "-c", READS, str(path), kind],
                capture_output=True,
                text=True,
                timeout=60,
            )
            folder.chmod(0o755)
    finally:
        shutil.rmtree(folder)
    told = result.stdout.splitlines()
    assert len(told) == 4, result.stderr
    assert result.stderr == ""
    if open_elsewhere:
        assert told[:2] == ["None", "['a']"]
        assert told[2].startswith("Refused: ")
        assert told[3].startswith(("Refused: ", "BoardUnreachable: cannot claim: no lock file can be made"))
    else:
        # Reading a database in WAL mode takes a file beside it, which cannot be made here.
        assert told[0].endswith("cannot be read: nobody has it open, and its folder may not be written")
        assert told[0].startswith("BoardUnreachable: ")


# -- one file for board and store --------------------------------------------------------------------------------------


def test_board_and_store_share_a_file(path: Path) -> None:
    url = f"sqlite:///{path}"
    store = persistence.fetch(url)
    store.ensure()
    assert "has no board: make it with `conductor-console init" in refusal(path)
    with connected(path) as board:
        job = board.post("a")
        version = board.listing().version
        heard: list[str] = []
        board.subscribe(lambda event: heard.append(event.kind))
        reads: list[object] = []
        load = board._mirror.load
        board._mirror.load = lambda: reads.append(load())  # type: ignore[method-assign]
        connection = store.get_connection()
        book = models.LogBook("book")
        connection.save_logbook(book)
        connection.close()
        board.claim(job, "c1")
        eventually(lambda: "claimed" in heard, what="the claim's event")
        assert (heard, reads) == (["claimed"], [])
        assert board.listing().version == version + 1
        store.ensure()
        connection = store.get_connection()
        assert connection.get_logbook(book.uuid).name == "book"
        connection.close()
    store.close()


def test_a_store_is_added_to_a_boards_file(board: SQLiteJobBoard, path: Path) -> None:
    job = board.post("a")
    store = persistence.fetch(f"sqlite:///{path}")
    store.ensure()
    store.close()
    board.refresh()
    assert job.state == states.UNCLAIMED


# -- loading -----------------------------------------------------------------------------------------------------------


def test_fetching_by_url_and_by_conf(board: SQLiteJobBoard, path: Path) -> None:
    board.post("a")
    for named in (f"sqlite:///{path}", {"board": "sqlite", "path": str(path)}):
        found = jobboards.fetch(named, name="n", read_only=True)
        assert isinstance(found, SQLiteJobBoard)
        assert found.name == "n"
        found.connect()
        assert [job.name for job in found.iterjobs()] == ["a"]
        found.close()


@pytest.mark.parametrize(
    ("conf", "told"),
    [
        ({"board": "nonsense\x1b"}, "no board of kind"),
        ({"path": "x"}, "names its kind"),
        ({"board": "sqlite"}, "needs a file"),
        ({"board": "sqlite", "path": ":memory:"}, "needs a file"),
        ({"board": "sqlite", "path": "x", "timeout": "soon"}, "cannot be loaded"),
        ("sqlite://", "sqlite"),
    ],
)
def test_what_cannot_be_fetched_is_told_in_one_line(conf: Any, told: str) -> None:
    with pytest.raises(UsageError) as error:
        jobboards.fetch(conf)
    assert told in str(error.value)
    assert "\n" not in str(error.value)
    assert "\x1b" not in str(error.value)


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
