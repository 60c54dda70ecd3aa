"""Players on a real board, and all that can be true of it after what they were told.

What is true is known but for the order of two things done at once: then several truths are possible until a listing
tells them apart.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from random import Random

from taskflow import exceptions as excp

from conductor_console.jobboards.base import Claim, JobEntry
from tests.integration.modelling.grounds import STRANGER_ENTITY, Ground
from tests.integration.modelling.players import (
    CLIENTS,
    MOST_JOBS,
    OUTSIDER,
    OWNERS,
    Client,
    Plan,
    Players,
    Sight,
    Witness,
)
from tests.integration.modelling.possible import Event, Possible
from tests.integration.modelling.truth import Act, Truth, need
from tests.support import eventually

PICKS = range(6)
#: How many attempts a ``cycle`` makes: a few of them fill a history.
CYCLE = 8
_REFUSALS = (excp.JobFailure, excp.NotFound, excp.UnclaimableJob)
Deed = tuple[Act, Exception | None]


class World(Players):
    """The truths that are possible of each job, and the order in which all came about, for who has to understand it."""

    def __init__(self, ground: Ground) -> None:
        super().__init__(ground)
        self.jobs = Possible[Truth]()
        self.ids: dict[int, str] = {}
        self.log: list[str] = []
        self._pool = ThreadPoolExecutor(CLIENTS + 1, "model")

    def close(self) -> None:
        self._pool.shutdown()
        for client in self.clients:
            client.board.close()
        if self.outsider is not None:
            self.outsider.close()
        self.ground.close()

    def held(self, uuid: str) -> int | None:
        return self.jobs[uuid][0].holding

    def exists(self, uuid: str) -> bool:
        return self.jobs[uuid][0].where != "gone"

    # -- a sequence ----------------------------------------------------------------------------------------------------
    def play(self, turns: Sequence[int]) -> None:
        """Does this and that on an empty board, then has everybody look.

        :param turns: a number for each thing that is done: it tells what that is, of all that could be done then.
        :raises Impossible: with all that was done, when something cannot be.
        """
        self.ground.clear(self.clients[0].board)
        self.forget()
        self.jobs.clear()
        self.ids.clear()
        self.log.clear()
        try:
            self._post(0)
            self._look(0)
            for turn in turns:
                self._turn(Random(turn))
            self._end()
        except AssertionError as error:
            error.add_note("\n".join(self.log))
            raise

    def _end(self) -> None:
        for client in self._pool.map(_refreshed, self.clients):
            self._see(client)
        self._look(OUTSIDER)
        lying = self.ground.records()
        if lying is not None:
            gone = {uuid for uuid, truths in self.jobs.items() if truths[0].where == "gone"}
            recorded = {uuid for uuid, truths in self.jobs.items() if truths[0].recorded}
            need(lying | gone == recorded | gone, "a record is lost, or of no job")
            eventually(lambda: not gone & (self.ground.records() or set()), what="the records of gone jobs to be swept")

    def _turn(self, choice: Random) -> None:
        acts = self.offers()
        verb, clients = choice.choice([*acts, *acts, *self._deeds(len(acts))])
        number, pick = choice.choice(clients), choice.choice(PICKS)
        if verb == "post":
            self._post(number)
        elif verb == "look":
            self._look(number)
        elif verb == "die":
            self._die(number)
        elif verb == "expire":
            self._expire(number)
        elif verb == "fate":
            self._fate(number, pick)
        elif verb == "cycle":
            self._cycle(number, pick)
        elif verb == "both":
            self._both(choice, acts)
        elif self._judge(self.plan(verb, number, pick)) and verb == "claim" and number == OUTSIDER and pick % 3:
            # Whoever watches sees it, as a rule.
            self._look(choice.randrange(CLIENTS))

    def _deeds(self, acts: int) -> list[tuple[str, Sequence[int]]]:
        """What else may be done, in proportion to the acts on jobs that could be."""
        everybody, ours = range(CLIENTS + (self.outsider is not None)), range(CLIENTS)
        deeds: list[tuple[str, Sequence[int]]] = [("look", everybody)] * 6
        deeds += [("both", ours)] * (acts // 3)
        if len(self.jobs) < MOST_JOBS:
            deeds += [("post", everybody)] * 3
        deeds += [("cycle", ours), ("die", everybody)]
        if self.ground.expires:
            deeds.append(("expire", ours))
        if self.witnessed:
            deeds += [("fate", ours)] * 2
        return deeds

    # -- looking -------------------------------------------------------------------------------------------------------
    def _look(self, number: int) -> None:
        if number == OUTSIDER:
            self._they_look()
        else:
            self._see(_refreshed(self.clients[number]))

    def _they_look(self) -> None:
        outsider = self.outsider
        if outsider is None:
            return
        there = {uuid for uuid, truths in self.jobs.items() if truths[0].where == "board"}

        def look() -> bool:
            self.theirs = outsider.look()
            return self.theirs.keys() == there

        eventually(look, what="the outsider to see the jobs that there are")

    def _see(self, client: Client) -> None:
        """Compares a listing with what can be true."""
        listing = client.board.listing()
        self.log.append(f"c{self.clients.index(client)} looks")
        need(listing.jobs.keys() | listing.binned.keys() <= self.jobs.keys(), "a job that nobody posted")
        for uuid in self.jobs:
            entry, binned = listing.jobs.get(uuid), listing.binned.get(uuid)

            def fits(truth: Truth, entry: JobEntry | None = entry) -> None:
                truth.shows(entry, "board", OWNERS, self.ids)

            def fits_binned(truth: Truth, uuid: str = uuid) -> None:
                truth.shows(listing.binned.get(uuid), "bin", OWNERS, self.ids)

            self.jobs.narrow(uuid, fits)
            truth = self.jobs.narrow(uuid, fits_binned)
            if entry is not None and entry.claim is not None:
                self._see_claim(client, uuid, entry, entry.claim, truth)
            seen = entry or binned
            if seen is not None:
                self._keep(Sight(uuid, seen, truth.place, truth.holding))
        for handle in client.handles:
            truth = self.jobs[handle.uuid][0]
            stands = truth.where == "board" and truth.holding == handle.token
            need(client.board.holds(handle.job) == stands, f"holds() of claim {handle.token} is not true")
        alive = {name.partition("@")[0] for name in listing.entities}
        need(alive >= {OWNERS[number] for number in range(CLIENTS)}, f"conductors alive: {alive}")

    def _see_claim(self, client: Client, uuid: str, entry: JobEntry, claim: Claim, truth: Truth) -> None:
        token = truth.holding
        assert token is not None
        self.ids[token] = claim.id
        foreign = truth.tries[token].foreign
        need(client.board.foreign(claim) == foreign, "told as foreign, or as ours, though it is not")
        if foreign and all(witness.token != token for witness in self.witnessed):
            conductor = client.board.listing().entities.get(STRANGER_ENTITY)
            self.witnessed.append(Witness(uuid, token, entry, claim, conductor))

    def _keep(self, sight: Sight) -> None:
        if sight in self.sights:
            self.sights.remove(sight)
        self.sights.append(sight)

    def _see_own(self, act: Act) -> None:
        """What a board did itself it shows at once."""
        client, truths = self.clients[act.client], self.jobs[act.uuid]
        entry = client.board.find(act.uuid)
        if act.verb == "claim" and entry is not None:
            # It may never have listed the job: the sight was another's.
            need(entry.claim is not None and entry.claim.owner == OWNERS[act.client], "its claim is not shown at once")
            assert entry.claim is not None
            self.ids[act.token] = entry.claim.id
        elif act.verb in ("consume", "abandon", "suspend"):
            need(entry is None or entry.claim is None, "the end of its own claim is not shown at once")
        if act.verb in ("claim", "abandon", "suspend", "restore") and entry is not None:
            self._keep(Sight(act.uuid, entry, truths[0].place, truths[0].holding))
        binned = client.board.find_binned(act.uuid)
        if act.verb == "bin" and binned is not None:
            self._keep(Sight(act.uuid, binned, truths[0].place, None))

    # -- acting --------------------------------------------------------------------------------------------------------
    def _post(self, number: int) -> None:
        name = f"j{len(self.jobs)}"
        if number == OUTSIDER and self.outsider is not None:
            uuid = self.outsider.post(name)
        else:
            uuid = self.clients[number % CLIENTS].board.post(name).uuid
        self.jobs[uuid] = [Truth()]
        self.log.append(f"c{number} posts {uuid[:8]}")

    def _judge(self, plan: Plan | None) -> bool:
        """Does it, and takes in what came of it. Returns whether it was done."""
        if plan is None:
            return False
        act, told = plan[0], _did(plan)
        self.log.append(_line(act, told))
        self.jobs.advance(act.uuid, [[_judging((act, told))]])
        self.settle_handles(plan, told)
        if told is None and act.client != OUTSIDER:
            self._see_own(act)
        return told is None

    def _both(self, choice: Random, acts: Sequence[tuple[str, Sequence[int]]]) -> None:
        """Two acts at once, on one job if may be; the listing tells afterwards what came of it."""
        plans: list[Plan] = []
        for _ in range(2):
            verb, clients = choice.choice(acts)
            wanted = plans[0][0].uuid if plans else None
            plan = self.plan(verb, choice.choice(clients), choice.choice(PICKS), wanted)
            # Two claims of one board object on one job: the second is refused whatever comes of the first.
            if plan is not None and all(plan[0].client != other[0].client for other in plans):
                plans.append(plan)
        if len(plans) < 2:
            self._judge(plans[0] if plans else None)
            return
        start = threading.Barrier(2)
        told = list(self._pool.map(lambda plan: _did(plan, start), plans))
        deeds: list[Deed] = [(plan[0], error) for plan, error in zip(plans, told, strict=True)]
        self.log.append(f"at once: {' | '.join(_line(*deed) for deed in deeds)}")
        if deeds[0][0].uuid != deeds[1][0].uuid:
            for deed in deeds:
                self.jobs.advance(deed[0].uuid, [[_judging(deed)]])
        else:
            order = [_judging(deed) for deed in deeds]
            self.jobs.advance(deeds[0][0].uuid, [order, order[::-1]])
        for plan, error in zip(plans, told, strict=True):
            self.settle_handles(plan, error)
        self._look(choice.randrange(CLIENTS))

    def _cycle(self, number: int, pick: int) -> None:
        """A job that one client claims and lets go again and again."""
        for _ in range(CYCLE):
            if not self._judge(self.plan("claim", number, pick)):
                return
            self._judge(self.plan("abandon", number, 0))
            pick = 0

    # -- ends of sessions ----------------------------------------------------------------------------------------------
    def _die(self, number: int) -> None:
        self.log.append(f"c{number} dies")
        if number != OUTSIDER:
            self.clients[number].board.close()
            self.clients[number] = Client(self.make_board(number))
        elif self.outsider is not None:
            self.outsider.die()
            self.their_handles.clear()
        self._died(number)

    def _expire(self, number: int) -> None:
        self.ground.expire(self.clients[number].board)
        self.log.append(f"c{number}'s session ends")
        self._died(number)
        client = self.clients[number]
        for handle in client.handles:
            need(not client.board.holds(handle.job), f"holds claim {handle.token} after its session")

    def _died(self, number: int) -> None:
        for truths in self.jobs.values():
            for truth in truths:
                truth.died(number)

    def _fate(self, number: int, pick: int) -> None:
        """What a watcher is told of the session of a claim that it saw."""
        witness = self.witnessed[-1 - pick % len(self.witnessed)]
        if witness.entity is None or self.outsider is None:
            return
        told = self.clients[number].board.fate(witness.claim, witness.entity)
        lives = self.outsider.session == witness.claim.session
        need((told == "alive") == lives, f"told as {told}, though its session {'lives' if lives else 'is over'}")


def _refreshed(client: Client) -> Client:
    client.board.refresh()
    return client


def _did(plan: Plan, start: threading.Barrier | None = None) -> Exception | None:
    """Does it. Returns what it was refused as."""
    if start is not None:
        start.wait(30)
    try:
        plan[1]()
    except _REFUSALS as refusal:
        return refusal
    return None


def _judging(deed: Deed) -> Event[Truth]:
    return lambda truth: truth.judge(*deed)


def _line(act: Act, told: Exception | None) -> str:
    claim = "" if act.claim is None else f" claim {act.claim}"
    outcome = f" as {act.outcome}" if act.verb == "note end" else ""
    came = "done" if told is None else f"{type(told).__name__}: {told}"
    return f"c{act.client} {act.verb} {act.uuid[:8]} ({act.home}){claim}{outcome}: {came}"
