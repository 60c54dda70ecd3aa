"""Workers on boards of their own, and a witness that notes what each was told, to be held against the server."""

from __future__ import annotations

import itertools
import random
import threading
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from kazoo.client import KazooClient
from taskflow import exceptions as excp
from taskflow.types import entity

from conductor_console import jobboards
from conductor_console.clock import utcnow
from conductor_console.errors import BoardUnreachable
from conductor_console.jobboards.attempts import AttemptRecord, from_json
from conductor_console.jobboards.base import BoardEvent, BoardJob
from conductor_console.jobboards.postings import parse
from conductor_console.jobboards.zk_client import as_hex, session_of
from conductor_console.jobboards.zookeeper import ZookeeperJobBoard
from tests.ensemble import SIZE, Ensemble
from tests.support import eventually

#: Seconds: short, so that faults are noticed soon, and long enough to outlive an election.
SESSION_SECONDS = 6.0
_ENOUGH_JOBS = 40
#: Each worker's name is its own at every try, so that a record tells which try it counted.
_NAMES = itertools.count()
#: The order in which things were told, whoever they were told to.
_ORDER = itertools.count()


@dataclass
class Try:
    """One try to claim a job, by ``who``, a name that serves once; ``claim`` is its id where it stood.

    :ivar board: the board object's name. :ivar doubtful: the claim's answer was lost: it may have been made.
    :ivar ending: what was told of the claim's end, for certain. ``ending_doubtful``: an answer was lost on the way.
    :ivar stood_at, end_began_at: places in the order of things.
    """

    who: str
    job: str
    board: str
    session: int | None
    claim: str | None = None
    doubtful: bool = False
    ending: Literal["consumed", "abandoned", "lost"] | None = None
    ending_doubtful: bool = False
    stood_at: int = -1
    end_began_at: int = -1


class Worker:
    """Posts, claims, consumes and abandons on a board without end, each time something else.

    :param number: the seed of its doings.
    """

    def __init__(self, board: ZookeeperJobBoard, number: int) -> None:
        self.board = board
        self.name = f"w{number}"
        self.posted: list[str] = []
        self.tries: list[Try] = []
        self.kept: list[tuple[BoardJob, Try]] = []
        self.consumed = 0
        self._random = random.Random(number)
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends its work, its last claims being kept; raises what it met."""
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive(), f"{self.name} would not stop"
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while not self._stop.wait(0.002):
                self._step()
        except BaseException as error:  # told by stop()
            self._error = error

    def _step(self) -> None:
        if self.kept and (len(self.kept) > 2 or self._random.random() < 0.5):
            self._end(*self.kept.pop(0))
        elif self.board.job_count < _ENOUGH_JOBS and self._random.random() < 0.5:
            self._post()
        else:
            self._claim()

    def _post(self) -> None:
        try:
            self.posted.append(self.board.post(f"{self.name}-{next(_NAMES)}").uuid)
        except BoardUnreachable:
            return

    def _claim(self) -> None:
        jobs, _ = self.board.candidates(utcnow())
        if not jobs:
            return
        # One of the best few, so that workers meet.
        job = jobs[self._random.randrange(min(4, len(jobs)))]
        attempt = Try(f"{self.name}-{next(_NAMES)}", job.uuid, self.board.name, session_of(self.board._client))
        self.tries.append(attempt)
        try:
            self.board.claim(job, attempt.who)
        except BoardUnreachable:
            attempt.doubtful = True
        except (excp.UnclaimableJob, excp.NotFound):
            self.tries.remove(attempt)
        else:
            attempt.stood_at = next(_ORDER)
            held = self.board._claims.held(job)
            if held is not None:
                attempt.claim = held.id
                attempt.session = held.session
            self.kept.append((job, attempt))

    def _end(self, job: BoardJob, attempt: Try) -> None:
        consume = self._random.random() < 0.7
        attempt.end_began_at = next(_ORDER)
        while True:
            try:
                if consume:
                    self.board.consume(job, attempt.who)
                else:
                    self.board.abandon(job, attempt.who)
            except BoardUnreachable:
                attempt.ending_doubtful = True
                if self._stop.wait(0.05) and not self.board.connected:
                    return
            except (excp.NotFound, excp.JobFailure):
                attempt.ending = "lost"
                return
            else:
                attempt.ending = "consumed" if consume else "abandoned"
                self.consumed += consume
                return


@dataclass(frozen=True)
class Found:
    """A job as it lies on the server: the claim's id and session, its record, all of them hexadecimal or None."""

    claim: str | None
    session: str | None
    record: AttemptRecord | None


def entity_of(board: ZookeeperJobBoard) -> str:
    """The conductor that a board registers."""
    return f"{board.name}@host:1"


def open_board(ensemble: Ensemble, path: str, number: int, **options: Any) -> ZookeeperJobBoard:
    """A connected board that prefers the ensemble's server ``number``, and has all three to go to.

    :param options: for the fetch; those of ``conf`` come on top of what is said here.
    """
    conf = {
        "board": "zookeeper",
        "hosts": ensemble.hosts_from(number % SIZE),
        "randomize_hosts": False,
        "path": path,
        "timeout": SESSION_SECONDS,
        **options.pop("conf", {}),
    }
    board: ZookeeperJobBoard = jobboards.fetch(conf, name=f"b{number}", **options)
    try:
        board.ensure()
        board.connect()
    except BaseException:
        board.close()
        raise
    return board


def live(board: ZookeeperJobBoard) -> None:
    eventually(lambda: board.listing().connection.state == "live", what=f"{board.name} to be live")


def check_events(events: list[BoardEvent]) -> None:
    """No board goes back in time: a job comes once and goes once, and a later claim is a later claim."""
    posted: set[str] = set()
    removed: set[str] = set()
    claims: dict[str, int] = {}
    for event in list(events):
        key = event.key or ""
        if event.kind == "posted":
            assert key not in posted | removed, f"{key} was there before"
            posted.add(key)
        elif event.kind == "removed":
            assert key in posted - removed, f"{key} was not there"
            removed.add(key)
        elif event.kind == "claimed":
            assert event.entry is not None
            assert event.entry.claim is not None
            claim = int(event.entry.claim.id, 16)
            assert claim > claims.get(key, 0), f"{key} was claimed later before"
            claims[key] = claim


class Crew:
    """Workers on board objects at one path, and what must be true of all that they were told.

    :param boards: so many board objects, each preferring another server. :param hands: so many workers on each.
    """

    def __init__(self, ensemble: Ensemble, path: str, boards: int = SIZE, hands: int = 2) -> None:
        self.ensemble = ensemble
        self.path = path
        self.boards: list[ZookeeperJobBoard] = []
        self._heard: dict[str, list[BoardEvent]] = {}
        self._silences: dict[str, list[timedelta]] = {}
        self.workers: list[Worker] = []
        try:
            for number in range(boards):
                board = open_board(ensemble, path, number)
                self.boards.append(board)
                self._listen(board)
                board.register_entity(entity.Entity("conductor", entity_of(board), {}))
        except BaseException:
            self.close()
            raise
        self.workers = [Worker(self.boards[number % boards], number) for number in range(boards * hands)]

    def _listen(self, board: ZookeeperJobBoard) -> None:
        heard: list[BoardEvent] = []
        silences: list[timedelta] = []
        self._heard[board.name], self._silences[board.name] = heard, silences
        lost_at: list[datetime] = []

        def hear(event: BoardEvent) -> None:
            heard.append(event)
            if event.kind == "connection":
                now = board.listing().connection
                if now.state != "live":
                    lost_at.append(now.since)
                elif lost_at:
                    silences.append(now.since - lost_at[0])
                    lost_at.clear()

        board.subscribe(hear)

    def start(self) -> None:
        for worker in self.workers:
            worker.start()

    def close(self) -> None:
        for worker in self.workers:
            worker._stop.set()
        for board in self.boards:
            board.close()

    def works(self, what: str) -> None:
        """Waits until each of the workers consumed something more."""
        before = {worker.name: worker.consumed for worker in self.workers}
        eventually(
            lambda: all(w.consumed > before[w.name] + 2 or w._error for w in self.workers),
            timeout=60,
            what=f"each worker to go on {what}",
        )

    def stop(self) -> None:
        """Ends the work; returns when each board is live and shows what is on the server."""
        for worker in self.workers:
            worker.stop()
        for board in self.boards:
            live(board)

    def read(self, client: KazooClient) -> dict[str, Found]:
        """The jobs on the server, read by plain means."""
        client.sync(self.path)
        children = set(client.get_children(self.path))
        parent, _, base = self.path.rpartition("/")
        jobs: dict[str, Found] = {}
        for node in children:
            if node.endswith(".lock"):
                continue
            uuid = parse(client.get(f"{self.path}/{node}")[0], node).uuid
            assert uuid is not None
            assert uuid not in jobs, "posted twice"
            stat = client.exists(f"{self.path}/{node}.lock")
            record = f"{parent}/.attempts/{base}/{uuid}"
            jobs[uuid] = Found(
                as_hex(stat.czxid) if stat else None,
                as_hex(stat.ephemeralOwner) if stat else None,
                from_json(client.get(record)[0], uuid) if client.exists(record) else None,
            )
        return jobs

    def shown(self, board: ZookeeperJobBoard) -> dict[str, Found]:
        """The jobs as a board shows them."""
        return {
            key: Found(
                entry.claim.id if entry.claim else None,
                entry.claim.session if entry.claim else None,
                entry.record,
            )
            for key, entry in board.listing().jobs.items()
        }

    # -- what must be true ---------------------------------------------------------------------------------------------
    def check(self, client: KazooClient) -> None:
        """Holds all that was told against the server, which nobody works on any more."""
        self._check_claims(client)
        jobs = self.read(client)
        for board in self.boards:
            board.refresh()
            self._check_shown(board, jobs)
        self._check_entities(client)
        for events in self._heard.values():
            check_events(events)
        tries: dict[str, list[Try]] = {}
        for attempt in itertools.chain.from_iterable(worker.tries for worker in self.workers):
            tries.setdefault(attempt.job, []).append(attempt)
        posted = set(itertools.chain.from_iterable(worker.posted for worker in self.workers))
        for uuid in posted | tries.keys() | jobs.keys():
            self._check_job(uuid, tries.get(uuid, []), jobs.get(uuid))

    def _check_claims(self, client: KazooClient) -> None:
        """What a board says it holds is really its own, and nothing else is held by anybody."""

        def held() -> dict[str, tuple[str | None, str | None]]:
            kept = [(w, job, attempt) for w in self.workers for job, attempt in w.kept if w.board.holds(job)]
            return {job.uuid: (attempt.claim, as_hex(session_of(w.board._client) or 0)) for w, job, attempt in kept}

        def locked() -> dict[str, tuple[str | None, str | None]]:
            return {uuid: (job.claim, job.session) for uuid, job in self.read(client).items() if job.claim is not None}

        eventually(lambda: held() == locked(), what="all locks to be of claims that stand")

    def _check_entities(self, client: KazooClient) -> None:
        folder = self.boards[0].entity_path + "/conductor"

        def registered() -> dict[str, int]:
            found = {name: client.exists(f"{folder}/{name}") for name in client.get_children(folder)}
            return {name: stat.ephemeralOwner for name, stat in found.items() if stat is not None}

        wanted = {entity_of(board): session_of(board._client) for board in self.boards}
        eventually(lambda: registered() == wanted, what="all entities to be registered in the sessions of now")
        for board in self.boards:
            self._check_shown_entities(board, set(wanted))

    def _check_shown(self, board: ZookeeperJobBoard, jobs: dict[str, Found]) -> None:
        eventually(lambda: self.shown(board) == jobs, what=f"{board.name} to show what is there")

    def _check_shown_entities(self, board: ZookeeperJobBoard, wanted: set[str]) -> None:
        eventually(lambda: set(board.listing().entities) == wanted, what=f"{board.name} to show all conductors")

    def _check_job(self, uuid: str, tries: list[Try], job: Found | None) -> None:
        consumed = [attempt for attempt in tries if attempt.ending == "consumed"]
        stood = sorted((t for t in tries if t.claim is not None), key=lambda t: int(t.claim or "", 16))
        story = f"{uuid}: {tries}, {job}"
        assert len(consumed) <= 1, story
        for attempt in tries:
            # Nobody took a claim away: what is told as lost went with its session, or was given up.
            assert attempt.ending != "lost" or self._session_over(attempt) or self._was_silent(attempt), story
        if job is None:
            # Nobody but who holds a job takes it off, and is told so; unless the session ended before the answer came.
            assert consumed or any(t.ending == "lost" and self._session_over(t) for t in tries), story
        else:
            assert not consumed, story
            self._check_count(tries, job, story)
        for earlier, later in itertools.pairwise(stood):
            assert earlier.ending != "consumed", story
            if earlier.ending == "abandoned":
                assert earlier.end_began_at < later.stood_at, story

    def _session_over(self, attempt: Try) -> bool:
        return attempt.session not in {session_of(board._client) for board in self.boards}

    def _was_silent(self, attempt: Try) -> bool:
        """Whether its board heard nothing for a session's time, once: what it held was given up then."""
        return any(silence.total_seconds() >= SESSION_SECONDS for silence in self._silences[attempt.board])

    def _check_count(self, tries: list[Try], job: Found, story: str) -> None:
        """Each claim that stood is counted once, in its own name; one whose answer was lost once or not at all."""
        counted = [] if job.record is None else [attempt.who.partition("@")[0] for attempt in job.record.history]
        assert len(counted) == len(set(counted)), story
        assert (0 if job.record is None else job.record.attempts) == len(counted), story
        certain = {attempt.who for attempt in tries if not attempt.doubtful}
        assert certain <= set(counted) <= {attempt.who for attempt in tries}, story
        for attempt in job.record.history if job.record is not None else ():
            told = next(t for t in tries if t.who == attempt.who.partition("@")[0])
            if told.claim is not None and attempt.claim is not None:
                assert told.claim == attempt.claim, story
