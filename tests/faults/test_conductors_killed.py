"""Conductors that are killed or stopped at any moment: nothing is lost, nothing is done twice that was finished."""

from __future__ import annotations

import collections
import itertools
import json
import os
import random
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from taskflow import states

from conductor_console.conductors import closing
from tests import flows
from tests.faults.wire import Wire
from tests.integration.conducting import Nursery, Rig, process, rig
from tests.servers import Zookeeper
from tests.support import eventually, freeze

#: More, and on both boards, where somebody asks for a long run.
KILLS = int(os.environ.get("KILLS", "20"))
JOBS_A_KILL = 5
SESSION = 2.0
AT_ONCE = 3
ATOMS = 4
SECONDS = 0.02


@pytest.fixture(params=["sqlite", "zookeeper"] if "KILLS" in os.environ else ["sqlite"])
def conf(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    if request.param == "sqlite":
        return {"board": "sqlite", "path": str(tmp_path / "board.db")}
    hosts, path = request.getfixturevalue("zk_hosts"), request.getfixturevalue("zk_path")
    return {"board": "zookeeper", "hosts": hosts, "path": path, "timeout": SESSION}


@pytest.fixture
def here(conf: dict[str, Any], tmp_path: Path) -> Iterator[Rig]:
    with rig(conf, tmp_path) as made:
        yield made


@pytest.fixture
def nursery(tmp_path: Path) -> Iterator[Nursery]:
    made = Nursery(tmp_path)
    yield made
    made.close()


@dataclass(frozen=True)
class Effect:
    """A task that began: what the one before it had made, and what this one makes."""

    job: str
    atom: int
    got: str
    made: str
    pid: int
    at: float


class Crowd:
    """Conductors that work on one board until they are killed, each followed by another.

    Every third is killed at some moment from its start on, the others at some moment after they took their first job.
    """

    def __init__(self, nursery: Nursery, config: dict[str, Any], claims: Path) -> None:
        self._nursery = nursery
        self._config = {**config, "claims": str(claims)}
        self._claims = claims
        self._numbers = itertools.count(1)
        self._random = random.Random(7)
        self._pause = threading.Event()
        self._waiting: collections.deque[tuple[int, int]] = collections.deque()
        for _ in range(AT_ONCE):
            self._begin()

    def _begin(self) -> None:
        number = next(self._numbers)
        self._waiting.append((number, self._nursery.start({**self._config, "name": f"c{number}"})))

    def kill_one(self) -> None:
        number, pid = self._waiting.popleft()
        if number % 3:
            eventually(lambda: any(line.endswith(f" {pid}") for line in flows.lines(self._claims)), what="a claim")
        self._pause.wait(self._random.uniform(0.0, 0.2))
        os.kill(pid, signal.SIGKILL)
        self._begin()


def test_kill_9_at_any_moment_loses_nothing(here: Rig, nursery: Nursery, conf: dict[str, Any]) -> None:
    claims = here.folder / "claims"
    # Whoever was killed is not to blame for it: no job is to end in the bin here, however often it is hit.
    policy = {"max_attempts": 10_000, "base": 0.01, "cap": 0.05, "jitter": 0.0}
    config = {
        "conf": conf,
        "store": f"sqlite:///{here.folder / 'flows.db'}",
        "kind": "blocking",
        "options": {"policy": policy},
    }
    posted: dict[str, Any] = {}

    def post(number: int) -> None:
        while len(posted) < number:
            name = f"job-{len(posted)}"
            posted[name] = here.post("chain", name, here.effects, ATOMS, SECONDS, job_store={"seed": name})

    post(3 * JOBS_A_KILL)
    crowd = Crowd(nursery, config, claims)
    for kill in range(KILLS):
        # There is always work to be torn from.
        post(min(JOBS_A_KILL * (kill + 3), JOBS_A_KILL * KILLS))
        crowd.kill_one()
    eventually(lambda: not here.board.listing().jobs, what="the board to be empty", timeout=60 + KILLS)
    assert here.board.listing().binned == {}
    effects = collections.defaultdict(list)
    for line in here.done():
        effect = Effect(**json.loads(line))
        effects[effect.job].append(effect)
    taken = collections.Counter(line.split()[0] for line in flows.lines(claims))
    attempts = 0
    for name, (job, detail) in posted.items():
        assert here.store.flow_state(detail.uuid) == states.SUCCESS
        _check_effects(name, effects[name])
        rows = here.store.journal(job_uuid=job.uuid)
        # Whoever finds the job of a finished flow goes through the flow's states again, and only consumes it.
        ended = next(row.at for row in rows if row.kind == "flow" and row.to_state == states.SUCCESS)
        late = [effect for effect in effects[name] if effect.at > ended.timestamp()]
        assert not late, "no atom of a finished flow is run again"
        told = [(row.attempt, row.detail["outcome"]) for row in rows if row.kind == "attempt"]
        numbers = [number for number, _ in told]
        assert numbers == list(range(1, len(told) + 1)), f"every attempt is counted: {told}"
        assert taken[job.uuid] <= len(told)
        assert told[-1][1] == "consumed"
        # One that was killed between the journal and the board is told as consumed by both that did it.
        assert {outcome for _, outcome in told} <= {"crashed", "consumed"}
        attempts += len(told)
    assert len(posted) < attempts <= len(posted) + KILLS, f"a kill ends one attempt at most: {attempts}"


def _check_effects(name: str, done: list[Effect]) -> None:
    """What was finished when the next began is neither lost nor done again."""
    assert [effect.atom for effect in done] == sorted(effect.atom for effect in done)
    assert {effect.atom for effect in done} == set(range(ATOMS))
    made = {-1: name}
    for effect in done:
        assert effect.got == made[effect.atom - 1]
        made[effect.atom] = effect.made


def test_a_process_that_was_stopped_beyond_its_session_does_nothing_more(
    zookeeper: Zookeeper, zk_path: str, tmp_path: Path
) -> None:
    """Another took its job over; when it goes on it ends what it was at, sees that, and works on something else."""
    conf = {"board": "zookeeper", "hosts": zookeeper.hosts, "path": zk_path, "timeout": SESSION}
    gate = tmp_path / "gate"
    with rig(conf, tmp_path) as ours:
        job, detail = ours.post("lapses", ours.effects, str(gate))
        with process(conf, f"sqlite:///{tmp_path / 'flows.db'}", "victim", tmp_path) as child:
            victim = str(child.pid)
            eventually(lambda: f"two-began {victim}" in ours.done(), what="the victim to be at work")
            freeze(child.pid)
            eventually(
                lambda: (found := ours.board.find(job.uuid)) is not None and found.claim is None,
                what="the victim's session to end",
            )
            gate.touch()
            heir = ours.start("heir")
            ours.gone(job)
            heir.stop()
            assert ours.store.flow_state(detail.uuid) == states.SUCCESS
            before = ours.store.journal(flow_uuid=detail.uuid)
            child.send_signal(signal.SIGCONT)
            other, _ = ours.post("line", ours.effects, "other")
            ours.gone(other)
            assert child.poll() is None
        here = str(os.getpid())
        assert ours.done() == [
            f"one {victim}",
            f"two-began {victim}",
            f"two-began {here}",
            f"three {here}",
            "other",
        ]
        assert ours.store.journal(flow_uuid=detail.uuid) == before, "nothing of it is written afterwards"
        told = [(row.conductor, row.attempt, row.detail["outcome"]) for row in ours.attempt_rows(job)]
        assert told == [("victim", 1, "crashed"), ("heir", 2, "consumed")]


def test_a_claim_that_a_stopped_conductor_could_not_end_is_ended_when_the_board_answers(
    zookeeper: Zookeeper, zk_path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not wait for the end of a session that may live as long as its program does."""
    monkeypatch.setattr(closing, "PATIENCE", 0.0)
    gate = tmp_path / "gate"
    wire = Wire(zookeeper.port)
    try:
        with rig({"board": "zookeeper", "hosts": wire.hosts, "path": zk_path}, tmp_path) as ours:
            job, _ = ours.post("gated", ours.effects, str(gate))
            running = ours.start()
            eventually(lambda: "two-began" in ours.done(), what="the job to be under way")
            session = ours.board._client.client_id[0]
            wire.down()
            eventually(lambda: ours.board.listing().connection.state == "lost", what="the connection to be lost")
            running.conductor.stop()
            gate.touch()
            running.stop()
            assert ours.done() == ["one", "two-began", "two"]
            wire.up()
            record = ours.released(job)
            assert [attempt.outcome for attempt in record.history] == ["suspended"]
            assert ours.board._client.client_id[0] == session, "the session lives on"
            eventually(
                lambda: not any(thread.name == "letting-go" for thread in threading.enumerate()),
                what="nothing to be left to do",
            )
    finally:
        wire.close()
