"""Random doings of several clients on a real board, against a simple model: nothing lost, doubled, or told wrongly.

Each client acts on what it saw, which may be long past. Whatever is done must have been allowed by what was true at
that moment; whatever is refused must leave everything as it was, and must have had a reason.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from taskflow import exceptions as excp

from conductor_console.clock import utcnow
from conductor_console.jobboards.attempts import Policy, settled
from conductor_console.jobboards.base import BinEntry, JobEntry, LedgerBoard
from tests.boards import BOOM, Place
from tests.servers import Zookeeper

#: Sequences for each kind of board; `make soak` asks for more.
SEQUENCES = int(os.environ.get("MODEL_SEQUENCES", "150"))
CLIENTS = 4
NO_HOLD = Policy(max_attempts=10**6, base=0.0)

VERBS = (
    "post", "look", "look", "claim", "claim", "claim", "consume", "abandon", "suspend", "trash",
    "settle", "bin", "delete", "restore", "purge", "retry", "die",
)  # fmt: skip
STEPS = st.lists(
    st.tuples(st.sampled_from(VERBS), st.integers(0, CLIENTS - 1), st.integers(0, 5)), min_size=4, max_size=24
)


@dataclass
class Truth:
    """One job as it really is. ``token`` names the claim, ``place`` the stay on the board or in the bin."""

    where: str = "board"
    place: int = 0
    holder: int | None = None
    token: int = 0
    attempts: int = 0
    failures: int = 0
    open: bool = False

    @property
    def counted(self) -> tuple[int, int]:
        """Attempts and failures as a reader is to be told them."""
        return self.attempts, self.failures + (self.open and self.holder is None)

    def let_go(self) -> None:
        """Closes an attempt whose process died, as any writer does that comes across it."""
        if self.open and self.holder is None:
            self.failures += 1
            self.open = False

    def close(self, failed: bool) -> None:
        self.failures += failed
        self.open = False
        self.holder = None

    def move(self, where: str) -> None:
        self.where = where
        self.place += 1
        self.holder = None


@dataclass(frozen=True)
class Sight:
    """What a client saw of a job, and what was true then."""

    uuid: str
    entry: JobEntry | BinEntry
    place: int
    holder: int | None
    token: int


@dataclass
class Client:
    board: LedgerBoard
    sights: dict[str, Sight] = field(default_factory=dict)
    held: dict[str, tuple[Any, int]] = field(default_factory=dict)


class World:
    """A board, those who act on it, and the truth about it."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.clients = [Client(place.connected()) for _ in range(CLIENTS)]
        self.jobs: dict[str, Truth] = {}
        self.tokens = 0

    def begin(self) -> None:
        self.jobs.clear()
        for client in self.clients:
            client.sights.clear()
            client.held.clear()

    def end(self) -> None:
        """An empty board for the next; whatever is left is taken away as an operator does."""
        one = self.clients[0].board
        one.refresh()
        left: list[JobEntry | BinEntry] = [*one.listing().jobs.values(), *one.listing().binned.values()]
        for entry in left:
            one.delete(entry)

    # -- steps ---------------------------------------------------------------------------------------------------------
    def step(self, verb: str, number: int, pick: int) -> None:
        client = self.clients[number]
        if verb == "post":
            uuid = client.board.post(f"j{len(self.jobs)}").uuid
            self.jobs[uuid] = Truth()
        elif verb == "look":
            self.look(client)
        elif verb == "die":
            self.die(number)
        elif verb in ("consume", "abandon", "suspend", "trash"):
            self.finish(verb, number, pick)
        else:
            wanted = BinEntry if verb in ("restore", "purge") else JobEntry
            sights = [sight for sight in client.sights.values() if isinstance(sight.entry, wanted)]
            if sights:
                self.act(verb, number, sights[pick % len(sights)])

    def look(self, client: Client) -> None:
        client.board.refresh()
        listing = client.board.listing()
        assert set(listing.jobs) == {uuid for uuid, truth in self.jobs.items() if truth.where == "board"}
        assert set(listing.binned) == {uuid for uuid, truth in self.jobs.items() if truth.where == "bin"}
        for uuid, entry in listing.jobs.items():
            truth = self.jobs[uuid]
            assert (entry.claim is not None) == (truth.holder is not None)
            if entry.claim is not None:
                assert entry.claim.owner == f"c{truth.holder}"
            self.count(truth, entry)
        for uuid, binned in listing.binned.items():
            self.count(self.jobs[uuid], binned)
        everything: dict[str, JobEntry | BinEntry] = {**listing.jobs, **listing.binned}
        client.sights = {
            uuid: Sight(uuid, entry, self.jobs[uuid].place, self.jobs[uuid].holder, self.jobs[uuid].token)
            for uuid, entry in everything.items()
        }

    def count(self, truth: Truth, entry: JobEntry | BinEntry) -> None:
        record = settled(entry.record, truth.holder is not None, utcnow())
        assert (record.attempts, record.failures) == truth.counted if record else truth.counted == (0, 0)
        assert record is None or (record.open_attempt is not None) == (truth.open and truth.holder is not None)

    def die(self, number: int) -> None:
        client = self.clients[number]
        client.board.close()
        self.clients[number] = Client(self.place.connected())
        for truth in self.jobs.values():
            if truth.holder == number:
                truth.holder = None

    def act(self, verb: str, number: int, sight: Sight) -> None:
        client, truth = self.clients[number], self.jobs[sight.uuid]
        entry = sight.entry
        as_seen = (sight.place, sight.holder, sight.token) == (truth.place, truth.holder, truth.token)
        home = "bin" if isinstance(entry, BinEntry) else "board"
        try:
            self.do(verb, number, entry)
        except (excp.JobFailure, excp.NotFound, excp.UnclaimableJob):
            free = truth.where == home and truth.holder is None
            assert not (as_seen and (free or verb in ("bin", "delete"))), f"{verb} was refused without a reason"
            return
        assert truth.where == home, f"{verb} was done to a job that was not there"
        if verb in ("claim", "settle", "retry"):
            assert truth.holder is None, f"{verb} was done to a job that was held"
        elif home == "board":
            assert (sight.holder, sight.token if sight.holder is not None else 0) == (
                truth.holder,
                truth.token if truth.holder is not None else 0,
            ), f"{verb} broke a claim that was not seen"
        self.done(verb, number, sight.uuid, client)

    def do(self, verb: str, number: int, entry: Any) -> None:
        board = self.clients[number].board
        if verb in ("claim", "settle"):
            job = board.make_job(entry)
            if verb == "settle":
                board.settle(job, NO_HOLD)
                return
            board.claim(job, f"c{number}")
            self.clients[number].held[entry.key] = (job, self.tokens + 1)
        elif verb == "bin":
            board.bin(entry, "anna", "for a test")
        elif verb in ("delete", "purge"):
            board.delete(entry)
        else:
            getattr(board, verb)(entry)

    def done(self, verb: str, number: int, uuid: str, client: Client) -> None:
        truth = self.jobs[uuid]
        if verb == "claim":
            truth.let_go()
            self.tokens += 1
            truth.holder, truth.token = number, self.tokens
            truth.attempts += 1
            truth.open = True
            assert client.board.holds(client.held[uuid][0])
        elif verb in ("settle", "retry"):
            truth.let_go()
        elif verb == "bin":
            truth.let_go()
            truth.open = False
            truth.move("bin")
        elif verb == "restore":
            truth.move("board")
            truth.failures = 0
        else:
            truth.move("gone")

    def finish(self, verb: str, number: int, pick: int) -> None:
        """What a conductor does with a job that it claimed, and may have lost since."""
        client = self.clients[number]
        if not client.held:
            return
        uuid = sorted(client.held)[pick % len(client.held)]
        job, token = client.held.pop(uuid)
        truth, who = self.jobs[uuid], f"c{number}"
        mine = (truth.where, truth.holder, truth.token) == ("board", number, token)
        try:
            if verb == "consume":
                client.board.consume(job, who)
            elif verb == "abandon":
                client.board.abandon(job, who, error=BOOM)
            elif verb == "suspend":
                client.board.abandon(job, who, outcome="suspended")
            else:
                client.board.trash(job, who, why="broken", error=BOOM)
        except (excp.JobFailure, excp.NotFound):
            assert not mine, f"{verb} of a job of one's own was refused"
            return
        assert mine, f"{verb} was done to a job that another holds, or nobody"
        if verb == "consume":
            truth.move("gone")
            return
        truth.close(failed=verb != "suspend")
        if verb == "trash":
            truth.move("bin")


@pytest.fixture(scope="module", params=["sqlite", "zookeeper"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    if request.param == "sqlite":
        folder: Path = tmp_path_factory.mktemp("model")
        place = Place({"board": "sqlite", "path": str(folder / "board.db")})
    else:
        server: Zookeeper = request.getfixturevalue("zookeeper")
        place = Place({"board": "zookeeper", "hosts": server.hosts, "path": f"/model{os.getpid()}/jobs"})
    board = place.board()
    board.ensure()
    made = World(place)
    yield made
    for opened in place.opened:
        opened.close()


# kazoo's threads draw from ``random`` for themselves, also while a sequence is being made up.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module")
@settings(
    max_examples=SEQUENCES,
    deadline=None,
    database=None,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(steps=STEPS)
def test_no_job_is_lost_doubled_or_told_wrongly(world: World, steps: list[tuple[str, int, int]]) -> None:
    world.begin()
    try:
        for verb, number, pick in [
            ("post", 0, 0),
            ("look", 0, 0),
            *steps,
            *(("look", one, 0) for one in range(CLIENTS)),
        ]:
            world.step(verb, number, pick)
    finally:
        world.end()
