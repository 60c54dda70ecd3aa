"""Answers that are lost, sessions that end or live on: what a board says of its claims, and what becomes of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kazoo.client import KazooClient
from taskflow import exceptions as excp
from taskflow.types import entity

from conductor_console.clock import utcnow
from conductor_console.conductors import closing
from conductor_console.errors import BoardUnreachable
from conductor_console.jobboards import zk_claims, zk_client
from conductor_console.jobboards.base import BoardEvent, BoardJob
from conductor_console.jobboards.zookeeper import ZookeeperJobBoard
from tests.faults.wire import Cut, Wire
from tests.integration.conducting import rig
from tests.servers import Zookeeper, expire_session
from tests.support import eventually


@pytest.fixture
def wire(zookeeper: Zookeeper) -> Iterator[Wire]:
    made = Wire(zookeeper.port)
    yield made
    made.close()


@pytest.fixture
def raw(zookeeper: Zookeeper) -> Iterator[KazooClient]:
    with zookeeper.kazoo() as client:
        yield client


@pytest.fixture
def board(wire: Wire, zk_path: str) -> Iterator[ZookeeperJobBoard]:
    """A board at the other end of the wire."""
    made = ZookeeperJobBoard("ours", {"hosts": wire.hosts, "path": zk_path, "timeout": 10.0})
    made.ensure()
    made.connect()
    yield made
    made.close()


@pytest.fixture
def other(zookeeper: Zookeeper, board: ZookeeperJobBoard, zk_path: str) -> Iterator[ZookeeperJobBoard]:
    """Somebody else's board, with a connection that nothing happens to."""
    made = ZookeeperJobBoard("theirs", {"hosts": zookeeper.hosts, "path": zk_path})
    made.connect()
    yield made
    made.close()


def live(board: ZookeeperJobBoard) -> None:
    eventually(lambda: board.listing().connection.state == "live", what="the board to be live")


def lock_of(raw: KazooClient, board: ZookeeperJobBoard, job: BoardJob) -> Any:
    return raw.exists(f"{board.path}/{job.entry.node}.lock")


def all_came(wire: Wire) -> None:
    eventually(lambda: wire.cuts_left == 0, what="the cuts to have come")


def outcomes(board: ZookeeperJobBoard, job: BoardJob) -> list[str | None]:
    def told() -> list[str | None] | None:
        try:
            return [attempt.outcome for attempt in board.attempts(job).history]
        except BoardUnreachable:  # the connection that is to break does so just now
            return None

    return eventually(told, what="the attempts to be told") or []


class TestAClaimInDoubt:
    @pytest.mark.parametrize(
        "cuts",
        [("answer",), ("answer", "request", "request"), ("answer", "answer", "answer")],
        ids="-".join,
    )
    def test_one_that_was_made_is_let_go(
        self, board: ZookeeperJobBoard, wire: Wire, raw: KazooClient, cuts: tuple[Cut, ...]
    ) -> None:
        """However often the connection breaks while that is tried."""
        job = board.post("a")
        wire.cut_transactions(*cuts)
        with pytest.raises(BoardUnreachable):
            board.claim(job, "c1")
        all_came(wire)
        eventually(lambda: lock_of(raw, board, job) is None, what="the claim to be let go")
        assert not board.holds(job)
        eventually(lambda: board.candidates(utcnow())[0], what="the job to be free")
        assert outcomes(board, job) == ["released"]
        assert board.attempts(job).failures == 0
        board.claim(job, "c1")
        board.consume(job, "c1")

    def test_one_that_did_not_arrive(self, board: ZookeeperJobBoard, wire: Wire) -> None:
        job = board.post("a")
        wire.cut_transactions("request")
        with pytest.raises(BoardUnreachable):
            board.claim(job, "c1")
        live(board)
        board.claim(job, "c1")
        board.refresh()
        assert board.holds(job)
        assert outcomes(board, job) == [None]
        board.consume(job, "c1")

    def test_another_claims_that_follows_is_left_alone(
        self, board: ZookeeperJobBoard, other: ZookeeperJobBoard, wire: Wire
    ) -> None:
        job = board.post("a")
        wire.cut_transactions("request")
        wire.down()
        wire.up()
        live(board)
        with pytest.raises(BoardUnreachable):
            board.claim(job, "c1")
        found = eventually(lambda: next(iter(other.candidates(utcnow())[0]), None), what="the job there")
        other.claim(found, "c1")
        live(board)
        board.refresh()
        board.refresh()
        assert other.holds(found)
        other.consume(found, "c1")


class TestAnEndInDoubt:
    @pytest.mark.parametrize("cuts", [("answer",), ("request", "answer")], ids="-".join)
    @pytest.mark.parametrize("act", ["consume", "abandon", "trash"])
    def test_it_is_done_once(
        self, board: ZookeeperJobBoard, wire: Wire, raw: KazooClient, act: str, cuts: tuple[Cut, ...]
    ) -> None:
        job = board.post("a")
        board.claim(job, "c1")
        wire.cut_transactions(*cuts)
        getattr(board, act)(job, "c1")
        all_came(wire)
        assert lock_of(raw, board, job) is None
        live(board)
        board.refresh()
        listing = board.listing()
        assert (job.uuid in listing.jobs) == (act == "abandon")
        assert (job.uuid in listing.binned) == (act == "trash")
        if act != "consume":
            assert outcomes(board, job) == ["abandoned"]
        assert not board.holds(job)

    @pytest.mark.parametrize("act", ["consume", "abandon", "trash"])
    def test_it_is_asked_for_again(
        self, board: ZookeeperJobBoard, wire: Wire, monkeypatch: pytest.MonkeyPatch, act: str
    ) -> None:
        """Whoever could not be told asks again, and is told what became of the first time."""
        job = board.post("a")
        board.claim(job, "c1")
        monkeypatch.setattr(board._claims, "_wait_connected", lambda _seconds: False)
        wire.cut_transactions("answer")
        with pytest.raises(BoardUnreachable):
            getattr(board, act)(job, "c1")
        live(board)
        board.refresh()
        assert board.holds(job)
        getattr(board, act)(job, "c1")
        assert not board.holds(job)
        with pytest.raises(excp.NotFound):
            getattr(board, act)(job, "c1")
        board.refresh()
        assert (job.uuid in board.listing().jobs) == (act == "abandon")

    @pytest.mark.parametrize("act", ["consume", "abandon", "trash"])
    def test_what_an_operator_did_meanwhile_is_not_told_as_ours(
        self,
        board: ZookeeperJobBoard,
        other: ZookeeperJobBoard,
        wire: Wire,
        monkeypatch: pytest.MonkeyPatch,
        act: str,
    ) -> None:
        job = board.post("a")
        board.claim(job, "c1")
        entry = eventually(lambda: next((e for e in other.listing().jobs.values() if e.claim), None), what="the claim")
        monkeypatch.setattr(board._claims, "_wait_connected", lambda _seconds: False)
        wire.cut_transactions("request")
        with pytest.raises(BoardUnreachable):
            getattr(board, act)(job, "c1")
        other.bin(entry, "someone", "it is sick")
        live(board)
        with pytest.raises(excp.NotFound):
            getattr(board, act)(job, "c1")
        assert not board.holds(job)
        assert outcomes(other, job) == ["revoked"]


class TestGivenUp:
    @pytest.mark.parametrize("cuts", [(), ("request",), ("answer",)], ids=lambda cuts: "-".join(cuts) or "none")
    def test_a_claim_that_a_worker_was_told_is_lost_is_let_go(
        self,
        board: ZookeeperJobBoard,
        wire: Wire,
        raw: KazooClient,
        monkeypatch: pytest.MonkeyPatch,
        cuts: tuple[Cut, ...],
    ) -> None:
        """However often the connection breaks while that is tried; the session lives on."""
        job = board.post("a")
        board.claim(job, "c1")
        ahead = 0.0
        monkeypatch.setattr(zk_claims, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + ahead))
        wire.down()
        eventually(lambda: board._claims._silent_since is not None, what="the silence to be noticed")
        ahead = 60.0
        assert not board.holds(job)
        ahead = 0.0
        wire.cut_transactions(*cuts)
        wire.up()
        all_came(wire)
        eventually(lambda: lock_of(raw, board, job) is None, what="the claim to be let go")
        assert not board.holds(job)
        live(board)
        eventually(lambda: outcomes(board, job) == ["crashed"], what="the attempt to be told as crashed")

    def test_the_silence_counts_from_its_beginning_whatever_the_boards_thread_waits_for(
        self, board: ZookeeperJobBoard, wire: Wire, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A request that slips into the client's queue as the connection goes is answered when it is back."""
        job = board.post("a")
        board.claim(job, "c1")
        waits, go_on = threading.Event(), threading.Event()

        def held_up(*args: Any, **options: Any) -> Any:
            waits.set()
            go_on.wait(60)
            return zk_client.answer(*args, **options)

        monkeypatch.setattr("conductor_console.jobboards.zk_mirror.answer", held_up)
        board._mirror.look_again()
        assert waits.wait(30)
        wire.down()
        try:
            eventually(lambda: board._claims._silent_since is not None, what="the silence to be noticed")
            monkeypatch.setattr(zk_claims, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + 60.0))
            assert not board.holds(job)
        finally:
            go_on.set()
            wire.up()

    def test_a_conductor_ends_its_job_however_late(
        self, wire: Wire, zk_path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A board that does not answer for long, its session living on, does not leave a claim that nobody works on."""
        monkeypatch.setattr(closing, "PATIENCE", 0.0)
        with rig({"board": "zookeeper", "hosts": wire.hosts, "path": zk_path}, tmp_path) as made:
            gate = tmp_path / "gate"
            job, _ = made.post("gated", made.effects, str(gate))
            running = made.start()
            eventually(lambda: "two-began" in made.done(), what="the job to be under way")
            wire.down()
            eventually(lambda: made.board.listing().connection.state == "lost", what="the connection to be lost")
            gate.touch()
            eventually(lambda: made.attempt_rows(job), what="the attempt to be over")
            eventually(lambda: made.board._claims._silent_since is not None, what="the silence to be noticed")
            wire.up()
            made.gone(job)
            eventually(running.closed, what="the attempt to be told")
            assert [told["outcome"] for told in running.closed()] == ["consumed"]
            assert made.done() == ["one", "two-began", "two", "three"]


class TestExpired:
    def test_all_is_known_within_one_event(
        self, zookeeper: Zookeeper, board: ZookeeperJobBoard, other: ZookeeperJobBoard
    ) -> None:
        """Nothing is handed out before the board is known again; claims are lost, and told so, at once."""
        board.register_entity(entity.Entity("conductor", "c1@host:12", {}))
        jobs = [board.post(f"job {n}") for n in range(3)]
        for job in jobs[:2]:
            board.claim(job, "c1")
        told: list[tuple[str, bool, int]] = []

        def hear(event: BoardEvent) -> None:
            state = event.kind if event.kind != "connection" else board.listing().connection.state
            told.append((state, any(board.holds(job) for job in jobs), len(board.candidates(utcnow())[0])))

        board.subscribe(hear)
        session = board._client.client_id[0]
        expire_session(board._client, zookeeper.hosts)
        eventually(
            lambda: [state for state, _, _ in told].count("released") >= 2, what="both claims to be told as lost"
        )
        live(board)
        eventually(lambda: len(board.candidates(utcnow())[0]) == 3, what="the jobs to be free")
        assert board._client.client_id[0] != session
        first = [state for state, _, _ in told].index("released")
        assert all(not held for _, held, _ in told[first:])
        found = eventually(
            lambda: next((e for e in other.listing().entities.values() if e.session != hex(session)), None),
            what="the conductor to be registered anew",
        )
        assert found.name == "c1@host:12"
        for job in jobs[:2]:
            with pytest.raises(excp.NotFound):
                board.consume(job, "c1")
        assert {entry.uuid for entry in other.listing().jobs.values()} == {job.uuid for job in jobs}
