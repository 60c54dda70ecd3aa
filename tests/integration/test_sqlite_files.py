"""The SQLite board in front of files that are not what they should be, and beside a store in one file."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from taskflow import states
from taskflow.persistence import models

from conductor_console import jobboards, persistence
from conductor_console.errors import BoardUnreachable, UsageError
from conductor_console.jobboards.base import Refused
from conductor_console.jobboards.sqlite import SQLiteJobBoard
from tests import sqlite_boards
from tests.sqlite_boards import connected, refusal
from tests.support import eventually

#: Fixtures.
path, board = sqlite_boards.path, sqlite_boards.board


# -- files that are not what they should be ----------------------------------------------------------------------------


def test_no_file_and_no_folder(tmp_path: Path) -> None:
    path = tmp_path / "none.db"
    assert refusal(path) == f"{path} is not there: make it with `conductor-console init sqlite:///{path}`"
    assert not path.exists()
    path = tmp_path / "no" / "such" / "board.db"
    for act in ("connect", "ensure"):
        assert refusal(path, act) == f"the folder {path.parent} is not there: make it first"
        assert refusal(tmp_path, act) == f"{tmp_path} is not a file"


def test_paths_that_lead_nowhere(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for act in ("connect", "ensure"):
        assert refusal(tmp_path / "pipe", act).endswith("pipe is not a file")
        assert refusal(tmp_path / "loop", act).endswith("loop cannot be reached: Too many levels of symbolic links")
        assert refusal(tmp_path / ("x" * 300), act).endswith("cannot be reached: File name too long")


def test_a_path_may_hold_any_bytes(tmp_path: Path) -> None:
    for name in (b"caf\xe9.db", b"a?mode=ro#b%41 c.db", "\u00e9\u202e.db".encode()):
        path = Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name)))  # noqa: PTH118
        with connected(path) as board:
            board.claim(board.post("a"), "c1")
            assert path.exists()
        assert refusal(path.with_name("none" + path.name)).isprintable()


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


def test_a_board_of_a_newer_version(board: SQLiteJobBoard, path: Path) -> None:
    board.close()
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE cc_board SET version = 7")
        raw.execute("ALTER TABLE cc_jobs RENAME COLUMN session TO lease")
    raw.close()
    for act in ("connect", "ensure"):
        assert "a board of a newer version (7; this program knows 1)" in refusal(path, act)


def test_rows_that_are_not_what_they_should_be(path: Path) -> None:
    """Each is shown for what it is, and none keeps the others from being worked."""
    sick = {
        "created_at": "UPDATE cc_jobs SET created_at = 'now' WHERE uuid = ?",
        "posting": "UPDATE cc_jobs SET posting = x'ff00' WHERE uuid = ?",
        "other uuid": "UPDATE cc_jobs SET posting = replace(posting, '-', '_') WHERE uuid = ?",
        "claim": "UPDATE cc_jobs SET claim = 'x', session = x'ff', owner = x'ff' WHERE uuid = ?",
        "record": "INSERT INTO cc_attempts VALUES (?, 'x', x'ff')",
    }
    with connected(path) as board:
        posted = {name: board.post(name) for name in sick}
        binned = board.post("binned")
        board.bin(board.listing().jobs[binned.uuid], "op", "")
    with sqlite3.connect(path) as raw:
        for name, statement in sick.items():
            raw.execute(statement, (posted[name].uuid,))
        raw.execute("UPDATE cc_bin SET binned_at = 7, who = x'ff', why = 3.5")
        raw.execute("INSERT INTO cc_entities VALUES (x'00', x'ff', x'ff')")
    raw.close()
    with connected(path) as board:
        assert [name for name, job in posted.items() if board.listing().jobs[job.uuid].problem] == [
            "created_at",
            "posting",
            "other uuid",
        ]
        entry = board.listing().binned[binned.uuid]
        assert (entry.binned_at, entry.who, entry.why) == (None, "\\xff", "3.5")
        for job in list(board.iterjobs()):
            board.claim(job, "c1")
            board.abandon(job, "c1")
            board.claim(job, "c1")
            assert board.attempts(job).attempts == 2
            board.consume(job, "c1")
        board.restore(entry)
        for left in board.listing().jobs.values():
            board.delete(left)
        assert board.job_count == 0


def test_text_that_is_none_is_refused(board: SQLiteJobBoard) -> None:
    """As a name from the command line or the file system may be."""
    job = board.post("a")
    entry = board.listing().jobs[job.uuid]
    for act in (lambda: board.claim(job, "c\udcff"), lambda: board.bin(entry, "me", "caf\udce9")):
        with pytest.raises(Refused, match=r"\\udc.. holds what is no text: nothing was done"):
            act()
    board.claim(job, "c1")


# -- locked, full, not writable ----------------------------------------------------------------------------------------


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


def test_a_database_that_cannot_be_read_for_a_while(path: Path) -> None:
    with connected(path, timeout=0.1) as board:
        board.post("a")
        board.close()
        raw = sqlite3.connect(path, isolation_level=None)
        assert raw.execute("PRAGMA journal_mode = DELETE").fetchone() == ("delete",)
        board.connect()
        raw.execute("BEGIN EXCLUSIVE")
        with pytest.raises(BoardUnreachable, match=r"is locked by another process: it cannot be read now"):
            board.refresh()
        eventually(lambda: board.listing().connection.state == "lost", what="the loss to be told")
        raw.execute("ROLLBACK")
        raw.close()
        eventually(lambda: board.listing().connection.state == "live", what="the board to be read again")
        board.close()
        # Whoever makes sure of the board gives it back the log that lets readers go on.
        board.ensure()
        assert Path(path).read_bytes()[18:20] == b"\2\2"
        board.connect()


def test_a_full_disk(path: Path) -> None:
    # Somebody else has it open as well: the last to close it takes the log away.
    with connected(path) as board, contextlib.closing(sqlite3.connect(path)) as other:
        job = board.post("a")
        other.execute("SELECT count(*) FROM sqlite_master").fetchall()

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


def test_taskflows_own_kinds_load_by_name() -> None:
    found = jobboards.fetch("redis://127.0.0.1/0", name="n", policy=None, read_only=False)
    assert (type(found).__name__, found.name) == ("RedisJobBoard", "n")
    with pytest.raises(UsageError, match="read_only"):
        jobboards.fetch("redis://127.0.0.1/0", read_only=True)
