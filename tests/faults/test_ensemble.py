"""Three ZooKeeper servers, one after the other killed or paused, while boards and conductors of ours are at work."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from taskflow import exceptions as excp

from conductor_console.clock import utcnow
from conductor_console.jobboards.base import BoardEvent
from conductor_console.jobboards.zookeeper import ZookeeperJobBoard
from tests.ensemble import SIZE, Ensemble
from tests.faults.crew import Crew, check_events, open_board
from tests.integration.conducting import Rig, sql_store
from tests.servers import Zookeeper, expire_session
from tests.support import eventually

JOBS = 60


@pytest.fixture
def crew(ensemble: Ensemble, zk_path: str) -> Iterator[Crew]:
    made = Crew(ensemble, zk_path)
    yield made
    made.close()


def clients_of(crew: Crew, server: Zookeeper) -> list[ZookeeperJobBoard]:
    return [board for board in crew.boards if crew.ensemble.serving(board._client) is server]


def moved(ensemble: Ensemble, board: ZookeeperJobBoard, away_from: Zookeeper) -> None:
    """Waits until a board's client is connected to another server."""
    eventually(
        lambda: ensemble.serving(board._client) not in (away_from, None), what=f"{board.name} to go to another server"
    )


def test_nothing_is_lost_or_doubled(ensemble: Ensemble, crew: Crew) -> None:
    """Six workers on three boards go on through all of it, and what each was told is what the server has."""
    crew.start()
    crew.works("at first")

    killed = ensemble.leader()
    killed.kill()
    crew.works("without the old leader")
    killed.launch()
    ensemble.whole()

    paused = eventually(
        lambda: next((server for server in ensemble.followers() if clients_of(crew, server)), None),
        what="a follower that has clients",
    )
    moving = clients_of(crew, paused)
    paused.pause()
    for board in moving:
        moved(ensemble, board, paused)
    crew.works("while a follower is paused")
    paused.resume()
    ensemble.whole()

    board = crew.boards[0]
    served = eventually(lambda: ensemble.serving(board._client), what="a server to serve it")
    served.kill()
    crew.works("after the server of one went")
    served.launch()
    ensemble.whole()

    expire_session(board._client, ensemble.hosts)
    crew.works("after one session was lost")

    crew.stop()
    with ensemble.kazoo() as client:
        crew.check(client)


def test_conductors_drain_the_board_though_the_leader_goes(ensemble: Ensemble, zk_path: str, tmp_path: Path) -> None:
    """Each effect happens, and happens once unless the claim was lost under way."""
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(sql_store(tmp_path / "flows.db"))
        boards: list[ZookeeperJobBoard] = []
        for number in range(SIZE):
            boards.append(open_board(ensemble, zk_path, number, persistence=store))
            stack.callback(boards[-1].close)
        rigs = [Rig(board, store, tmp_path) for board in boards]
        for rig in rigs:
            stack.callback(rig.stop)
        names = {
            rigs[n % SIZE].post("line", rigs[0].effects, f"effect {n}")[0].uuid: f"effect {n}" for n in range(JOBS)
        }
        running = [rig.start(f"c{number}") for number, rig in enumerate(rigs)]

        eventually(lambda: len(set(rigs[0].done())) > JOBS // 6, what="some of the jobs to be done")
        killed = ensemble.leader()
        killed.kill()
        eventually(lambda: len(set(rigs[0].done())) > JOBS // 3, what="more of the jobs to be done")
        killed.launch()
        ensemble.whole()
        eventually(lambda: len(set(rigs[0].done())) > JOBS // 2, what="more of the jobs to be done")
        ensemble.leader().kill()

        eventually(lambda: set(rigs[0].done()) == set(names.values()), timeout=60, what="all effects")
        eventually(lambda: not any(board.listing().jobs for board in boards), timeout=60, what="the board to be empty")
        assert not any(board.listing().binned for board in boards)
        for rig in rigs:
            rig.stop()
        closed = [attempt for one in running for attempt in one.closed()]
        effects = Counter(rigs[0].done())
        for uuid, effect in names.items():
            outcomes = [attempt["outcome"] for attempt in closed if attempt["job"].uuid == uuid]
            assert outcomes.count("consumed") <= 1, (effect, outcomes)
            if outcomes == ["consumed"]:
                assert effects[effect] == 1, (effect, outcomes)
            else:
                assert "crashed" in outcomes, (effect, outcomes)
        with ensemble.kazoo() as client:
            assert client.get_children(zk_path) == []
            assert client.get_children(boards[0].trash_path) == []


def test_a_follower_that_lags_does_not_go_back(ensemble: Ensemble, zk_path: str) -> None:
    """What was done elsewhere while the server of one slept comes in order when it wakes; none of it comes twice."""
    number = ensemble.servers.index(ensemble.followers()[0])
    slow = ensemble.servers[number]
    with contextlib.ExitStack() as stack:
        # A long session: it waits for its server, and goes to no other.
        sleeper = open_board(ensemble, zk_path, number, conf={"hosts": slow.hosts, "timeout": 30.0})
        stack.callback(sleeper.close)
        other = open_board(ensemble, zk_path, number + 1)
        stack.callback(other.close)
        heard: list[BoardEvent] = []
        sleeper.subscribe(heard.append)
        jobs = [other.post(f"job {n}") for n in range(6)]
        eventually(lambda: len(sleeper.listing().jobs) == 6, what="all jobs to be seen")
        slow.pause()
        for job in jobs[:4]:
            other.claim(job, "c1")
        other.consume(jobs[0], "c1")
        other.abandon(jobs[1], "c1")
        other.claim(jobs[1], "c2")
        other.trash(jobs[2], "c1")
        late = other.post("late")
        assert len(sleeper.listing().jobs) == 6
        slow.resume()
        found = eventually(lambda: sleeper.listing().jobs.get(late.uuid), what="the late job")
        assert found.claim is None
        eventually(lambda: sleeper.listing().jobs.keys() == other.listing().jobs.keys(), what="the two to be the same")
        sleeper.refresh()
        assert sleeper.listing().jobs == other.listing().jobs
        assert set(sleeper.listing().binned) == {jobs[2].uuid}
        check_events(heard)
        with pytest.raises(excp.NotFound):
            sleeper.claim(jobs[0], "c3")
        with pytest.raises(excp.UnclaimableJob):
            sleeper.claim(jobs[1], "c3")
        assert [job.name for job in sleeper.candidates(utcnow())[0]] == ["job 4", "job 5", "late"]
