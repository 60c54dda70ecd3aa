"""What becomes of running jobs when the store under them is gone for a while: they wait or come again, and all end."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tenacity
from taskflow import states, storage

from conductor_console.persistence.backend import SQLBackend
from tests import flows
from tests.databases import KINDS, Database
from tests.integration.conducting import Rig, board_at
from tests.support import eventually

OUTAGE_SECONDS = 20.0


@contextlib.contextmanager
def rigged(url: str, folder: Path, **conf: Any) -> Iterator[Rig]:
    """A rig on a SQLite board and a store of ours at ``url``."""
    with (
        contextlib.closing(SQLBackend({"connection": url, **conf})) as store,
        board_at({"board": "sqlite", "path": str(folder / "board.db")}, store) as board,
    ):
        store.ensure()
        rig = Rig(board, store, folder)
        try:
            yield rig
        finally:
            rig.stop()


class Gated:
    """Jobs that each do something of their own, wait for their gate, and do something more."""

    def __init__(self, rig: Rig, count: int, gate: str) -> None:
        self._rig = rig
        self._gate = rig.folder / gate
        self._files = [rig.folder / f"{gate}-{number}" for number in range(count)]
        self.posted = [rig.post("gated", str(file), str(self._gate), name=file.name) for file in self._files]

    def wait(self) -> None:
        """Until all of them stand before the gate."""
        eventually(
            lambda: all("two-began" in flows.lines(file) for file in self._files),
            timeout=120,
            what="every job to stand before its gate",
        )

    def open(self) -> None:
        self._gate.touch()

    def effects(self) -> list[list[str]]:
        return [flows.lines(file) for file in self._files]

    def ended(self, timeout: float = 120) -> None:
        """Waits until all are gone from the board; all went well, and what each did is told once in the journal."""
        board, store = self._rig.board, self._rig.store
        keys = {job.uuid for job, _ in self.posted}
        eventually(lambda: not keys & board.listing().jobs.keys(), timeout=timeout, what="every job to be consumed")
        assert not board.listing().binned
        for job, flow in self.posted:
            assert store.flow_state(flow.uuid) == states.SUCCESS
            outcomes = [row.to_state for row in self._rig.attempt_rows(job)]
            assert outcomes.count("consumed") == 1
            rows = store.journal(flow_uuid=flow.uuid)
            done = Counter(row.atom_name for row in rows if row.kind == "task" and row.to_state == states.SUCCESS)
            assert done == Counter(dict.fromkeys(done, 1))
            assert {"one", "two", "three"} <= done.keys()


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest, database: Callable[[str], Database]) -> Database:
    return database(request.param)


def test_fifty_jobs_outlast_a_database_that_is_stopped(server: Database, tmp_path: Path) -> None:
    """Half of them are let go on a moment before it stops, half while it is away."""
    with rigged(server.url(server.database()), tmp_path) as rig:
        early, late = Gated(rig, 25, "early"), Gated(rig, 25, "late")
        for number in range(2):
            rig.start(f"c{number}", "nonblocking", max_simultaneous_jobs=25)
        for jobs in (early, late):
            jobs.wait()
        early.open()
        server.stop()
        late.open()
        back = time.monotonic() + OUTAGE_SECONDS
        eventually(lambda: time.monotonic() >= back, timeout=2 * OUTAGE_SECONDS, what="the outage to last")
        assert rig.board.listing().jobs
        server.start()
        for jobs in (early, late):
            jobs.ended()
            assert jobs.effects() == [["one", "two-began", "two", "three"]] * 25
            for job, _ in jobs.posted:
                assert [row.to_state for row in rig.attempt_rows(job)] == ["consumed"]


@pytest.fixture
def hasty_taskflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """TaskFlow tries a write that failed twice more, after 5 s each: that is not what is tested here."""
    for act in (storage.Storage._save_atom_detail, storage.Storage._save_flow_detail):
        monkeypatch.setattr(act.retry, "wait", tenacity.wait_none())


@pytest.mark.usefixtures("hasty_taskflow")
def test_jobs_come_again_when_the_database_was_away_for_too_long(server: Database, tmp_path: Path) -> None:
    """What was finished before stays finished; the step of which nothing is known is done again; nobody failed."""
    with rigged(server.url(server.database()), tmp_path, retry_for=0.5) as rig:
        jobs = Gated(rig, 6, "gate")
        running = rig.start("c1", "nonblocking", max_simultaneous_jobs=6)
        jobs.wait()
        server.stop()
        jobs.open()
        eventually(lambda: len(running.closed()) >= 6, timeout=60, what="every job to be let go")
        for details in running.closed():
            assert details["outcome"] == "released"
            assert details["error"].type == "StoreUnreachable"
        for job, _ in jobs.posted:
            entry = rig.board.listing().jobs[job.uuid]
            assert entry.record.failures == 0
        server.start()
        jobs.ended()
        for done in jobs.effects():
            assert done == ["one", "two-began", "two", "two-began", "two", "three"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 16 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("only root can make a disk that gets full")
    made = subprocess.run([mount, "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(place)], capture_output=True, text=True)
    if made.returncode != 0:
        pytest.skip(f"a disk that gets full cannot be made here: {made.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.usefixtures("hasty_taskflow")
def test_jobs_are_held_while_the_disk_is_full(small_disk: Path, tmp_path: Path) -> None:
    filler = small_disk / "filler"
    with rigged(f"sqlite:///{small_disk}/flows.db", tmp_path) as rig:
        jobs = Gated(rig, 4, "gate")
        running = rig.start("c1", "nonblocking", max_simultaneous_jobs=4)
        jobs.wait()
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"\0" * 4096)
        jobs.open()
        eventually(lambda: len(running.closed()) >= 4, timeout=60, what="every job to be let go")
        for details in running.closed():
            assert details["outcome"] == "released"
            assert "is full; make room there" in details["error"].message
        assert not rig.store.answers()
        for job, flow in jobs.posted:
            entry = rig.board.listing().jobs[job.uuid]
            assert (entry.claim, entry.record.failures) == (None, 0)
            assert entry.record.hold_until is not None
            assert rig.store.flow_state(flow.uuid) == states.RUNNING
        filler.unlink()
        jobs.ended()
        for done in jobs.effects():
            assert done.count("one") == done.count("three") == 1
