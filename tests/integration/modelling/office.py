"""Two operators, two conductors and a guard on one board, and all that can be true after what they were told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from taskflow.types import entity

from conductor_console.clock import utcnow
from conductor_console.jobboards import breaker
from conductor_console.jobboards.attempts import make_cause
from conductor_console.jobboards.base import BinEntry, JobEntry, LedgerBoard
from conductor_console.operations import Verdict
from conductor_console.operations.undo import FINAL, Step
from tests.integration.modelling.grounds import Ground
from tests.integration.modelling.players import Sight
from tests.integration.modelling.possible import Event, Possible, orders
from tests.integration.modelling.ruled import NO_RULES, RULES, Ended, Excuse, Ruled
from tests.integration.modelling.staff import BREAKER, Conductor, Operator, Run, Sentry
from tests.integration.modelling.truth import Act, Home, Impossible, need

MOST_JOBS: Final = 5
#: What jobs are called after, as often as named.
KINDS: Final = ("bin", "bin", "bin", "delete", "hold", "report")
#: Seconds for which the guard stays when others act at the same moment.
STAY: Final = 0.02
#: The verbs that are for what was seen on the board, and for what was seen in the bin.
TO_JOBS: Final = ("bin", "bin", "delete", "retry", "hold", "release")
TO_BINNED: Final = ("restore", "restore", "purge")
ENDS: Final = ("consume", "fail", "fail", "fail", "suspend")
#: How each ending of an attempt is called where jobs are told of.
VERBS: Final = {"consume": "consume", "delete": "consume", "trash": "trash", "abandon": "abandon"}

Deeds = list[tuple[str, Event[Ruled]]]


@dataclass(frozen=True)
class Plan:
    """What one of them is about to do. ``do`` returns what that says of each job, in order; ``then`` follows."""

    who: str
    board: LedgerBoard
    line: str
    do: Callable[[], Deeds]
    then: Callable[[], None] = lambda: None


class Office:
    """The truths that are possible of each job, and the order in which all came about, for who has to understand it."""

    def __init__(self, ground: Ground, folder: Path) -> None:
        """:param folder: for the audit trails."""
        self._ground = ground
        # As in a console that has conductors of its own: each sits with an operator, on one board object.
        boards = [ground.board() for _ in range(3)]
        for board, name in zip(boards, ("c0", "c1"), strict=False):
            board.register_entity(entity.Entity("conductor", f"{name}@model:1", {}))
        self._boards = boards
        self._operators = [Operator(2, "anna", boards[0], folder), Operator(3, "bob", boards[1], folder)]
        self._conductors = [Conductor(0, "c0", boards[0], RULES), Conductor(1, "c1", boards[1], NO_RULES)]
        self._sentry = Sentry(4, "guard", boards[2], folder)
        self._names = {one.number: one.name for one in self._conductors}
        self._jobs = Possible[Ruled]()
        self._ids: dict[int, str] = {}
        self._sights: list[Sight] = []
        self._tokens = 0
        self._excuse = Excuse()
        self.log: list[str] = []
        self._pool = ThreadPoolExecutor(8, "office")

    def close(self) -> None:
        self._pool.shutdown()
        for board in self._boards:
            board.close()
        self._ground.close()

    # -- a sequence ----------------------------------------------------------------------------------------------------
    def play(self, turns: Sequence[int]) -> None:
        """Does this and that on an empty board, then has everybody look.

        :raises Impossible: with all that was done, when something cannot be.
        """
        self._ground.clear(self._operators[0].board)
        self._reset_breaker()
        self._jobs.clear()
        self._ids.clear()
        self._sights.clear()
        self.log.clear()
        staff: list[Operator | Conductor | Sentry] = [*self._operators, *self._conductors, self._sentry]
        for one in staff:
            one.begin()
        choice = Random(sum(turns))
        try:
            self._post(choice)
            self._post(choice)
            # Of whose board it tells all that is there: nothing of an earlier sequence may be left on it.
            self._look(self._sentry.board)
            for turn in turns:
                self._turn(Random(turn))
            self._end(choice.choice(self._boards))
        except Exception as error:
            error.add_note("\n".join(self.log))
            raise

    def _end(self, board: LedgerBoard) -> None:
        """The guard lets nothing pass, and all is as it must be."""
        if self._guarded_fresh() or board is not self._sentry.board:
            self._look(board)
        for one in self._conductors:
            for run in one.runs if one.board is board else ():
                truth = self._jobs[run.uuid][0]
                stands = truth.where == "board" and truth.holding == run.token
                need(one.port.holds(run.job) == stands, f"holds() of claim {run.token} is not true")

    def _turn(self, choice: Random) -> None:
        offers = self._offers()
        if choice.randrange(3) == 0:
            self._both(
                [plan for _ in range(choice.choice((2, 2, 3))) if (plan := choice.choice(offers)(choice))], choice
            )
        elif choice.randrange(8) == 0 and len(self._jobs) < MOST_JOBS:
            self._post(choice)
        elif choice.randrange(10) == 0:
            self._look(choice.choice(self._boards))
        elif choice.randrange(20) == 0:
            self._guarded_fresh()
        elif choice.randrange(12 if not self._excuse.open else 3) == 0:
            self._move_breaker(choice)
        elif plan := choice.choice(offers)(choice):
            self._alone(plan)

    def _offers(self) -> list[Callable[[Random], Plan | None]]:
        """What may be done next, as often as listed."""
        offers: list[Callable[[Random], Plan | None]] = [*[self._take] * 4, self._stay, *[self._operate] * 4]
        if any(one.runs for one in self._conductors):
            offers += [self._finish] * 4
        if any(one.steps for one in self._operators):
            offers += [self._undo] * 2
        return offers

    # -- looking -------------------------------------------------------------------------------------------------------
    def _look(self, board: LedgerBoard) -> None:
        self._ground.catch_up(board)
        try:
            self._see(board)
        except Impossible:
            if not self._ground.trails:
                raise
            board.refresh()
            self._see(board)

    def _see(self, board: LedgerBoard) -> None:
        """Compares a listing with what can be true, and remembers it."""
        listing = board.listing()
        self.log.append("a look")
        need(listing.jobs.keys() | listing.binned.keys() <= self._jobs.keys(), "a job that nobody posted")
        for uuid in self._jobs:
            entry, binned = listing.jobs.get(uuid), listing.binned.get(uuid)

            def fits(truth: Ruled, entry: JobEntry | None = entry, binned: BinEntry | None = binned) -> None:
                truth.shows(entry, "board", self._names, self._ids)
                truth.shows(binned, "bin", self._names, self._ids)

            truth = self._jobs.narrow(uuid, fits)
            if entry is not None and entry.claim is not None and truth.holding is not None:
                self._ids[truth.holding] = entry.claim.id
            seen = entry or binned
            if seen is not None:
                self._keep(Sight(uuid, seen, truth.place, truth.holding))

    def _keep(self, sight: Sight) -> None:
        self._sights[:] = [*(other for other in self._sights if other != sight), sight]

    def _see_own(self, uuid: str, board: LedgerBoard, *, moved: bool) -> None:
        """What somebody did is shown by the own board, without a look at what others did.

        :param moved: whether that was to put it elsewhere: else the bin may show an earlier stay.
        """
        truths = self._jobs[uuid]
        truth, entry, binned = truths[0], board.find(uuid), board.find_binned(uuid)
        if any((other.where, other.holding) != (truth.where, truth.holding) for other in truths):
            return
        claim = entry.claim if entry is not None else None
        if claim is not None and truth.holding is not None:
            holder = self._conductors[truth.tries[truth.holding].client]
            if holder.board is board and claim.owner == holder.name:
                self._ids.setdefault(truth.holding, claim.id)
        # It may trail what others did.
        if entry is not None and truth.where == "board":
            if (claim and claim.id) == (truth.holding and self._ids.get(truth.holding, "?")):
                self._keep(Sight(uuid, entry, truth.place, truth.holding))
        elif moved and binned is not None and truth.where == "bin":
            self._keep(Sight(uuid, binned, truth.place, None))

    def _post(self, choice: Random) -> None:
        name = f"{choice.choice(KINDS)}-{len(self._jobs)}"
        uuid = choice.choice(self._conductors).board.post(name).uuid
        self._jobs[uuid] = [Ruled(name=name)]
        self.log.append(f"{name} is {uuid[:8]}")

    # -- acting --------------------------------------------------------------------------------------------------------
    def _alone(self, plan: Plan) -> None:
        for uuid, event in self._did(plan):
            before = self._jobs[uuid][0].place
            self._jobs.advance(uuid, [[event]])
            self._see_own(uuid, plan.board, moved=self._jobs[uuid][0].place != before)
        plan.then()

    def _both(self, plans: Sequence[Plan], choice: Random) -> None:
        """What several do at the same moment; where that leaves it open, a listing tells what came of it."""
        plans = list({plan.who: plan for plan in plans}.values())
        if len(plans) < 2:
            for plan in plans:
                self._alone(plan)
            return
        self.log.append(f"{len(plans)} at once:")
        start = threading.Barrier(len(plans))
        done = list(self._pool.map(lambda plan: self._did(plan, start), plans))
        for uuid in {uuid: None for deeds in done for uuid, _ in deeds}:
            self._jobs.advance(
                uuid, list(orders([[event for about, event in deeds if about == uuid] for deeds in done]))
            )
        for plan in plans:
            plan.then()
        if any(len(truths) > 1 for truths in self._jobs.values()) or choice.randrange(8) == 0:
            self._look(choice.choice(self._boards))

    def _did(self, plan: Plan, start: threading.Barrier | None = None) -> Deeds:
        if start is not None:
            start.wait(30)
        self.log.append(plan.line)
        return plan.do()

    # -- conductors ----------------------------------------------------------------------------------------------------
    def _take(self, choice: Random) -> Plan | None:
        one = choice.choice(self._conductors)
        # Whoever is at work on a job does not take it.
        own = {run.uuid for run in one.runs}
        jobs = [job for job in one.port.look()[0] if job.uuid in self._jobs] if choice.randrange(2) else []
        jobs = [job for job in jobs if job.uuid not in own]
        if not jobs:
            # It goes by what was there some time ago.
            seen = [sight.entry for sight in self._sights[-8:] if isinstance(sight.entry, JobEntry)]
            jobs = [one.board.make_job(entry) for entry in seen if entry.uuid not in own]
        if not jobs:
            return None
        job, fails = choice.choice(jobs), choice.randrange(3) == 0
        self._tokens += 1
        run = Run(job.uuid, self._tokens, job)

        def do() -> Deeds:
            deeds = self._taken(one, run)
            # Jobs that fail fail soon.
            return deeds + (self._ended(one, run, "fail") if fails and run in one.runs else [])

        return Plan(one.name, one.board, f"{one.name} takes {job.uuid[:8]} as claim {run.token}", do)

    def _taken(self, one: Conductor, run: Run) -> Deeds:
        entry = one.board.find(run.uuid) or one.board.find_binned(run.uuid)
        seen, known = run.job.entry.record, entry.record if entry is not None else None
        came = one.take(run.job)
        self.log.append(f"  {one.name}: {came}{f' ({one.refusal})' if came == 'unclaimable' else ''}")
        if came == "claimed":
            one.runs.append(run)
        act = Act("claim", one.number, run.uuid, token=run.token)
        excuse = self._excuse
        return [(run.uuid, lambda truth: truth.tried(act, came, seen, known, one.policy, one.name, excuse))]

    def _finish(self, choice: Random) -> Plan | None:
        one = choice.choice([one for one in self._conductors if one.runs])
        run, how = choice.choice(one.runs), choice.choice(ENDS)
        line = f"{one.name} ends claim {run.token} on {run.uuid[:8]}: {how}"
        return Plan(one.name, one.board, line, lambda: self._ended(one, run, how))

    def _ended(self, one: Conductor, run: Run, how: str) -> Deeds:
        one.runs.remove(run)
        stands, ending, told = one.end(run, how)
        self.log.append(f"  {one.name}: {ending.act}, {'done' if told is None else told!r}")
        verb = "suspend" if ending.outcome == "suspended" else VERBS[ending.act]
        excuse = self._excuse
        act = Ended(verb, one.number, run.uuid, claim=run.token, outcome=ending.outcome, by=one.name)
        return [
            (run.uuid, lambda truth: truth.lost(run.token, holds=stands)),
            (run.uuid, lambda truth: truth.ended(act, ending, told, one.policy, excuse, failed=how == "fail")),
        ]

    # -- the guard -----------------------------------------------------------------------------------------------------
    def _stay(self, choice: Random) -> Plan:
        patience = choice.choice((0.0, STAY))
        return Plan(self._sentry.name, self._sentry.board, "the guard looks", lambda: self._guard(patience))

    def _guard(self, patience: float) -> Deeds:
        excuse = self._excuse
        told = self._sentry.look(patience, breaker_open=excuse.open)
        self.log.extend(f"  guard: {act.what} {(act.uuid or '')[:8]}" for act in told)
        number, name = self._sentry.number, self._sentry.name

        def event(what: str) -> Event[Ruled]:
            return lambda truth: truth.guarded(what, number, name, excuse)

        return [(act.uuid or "", event(act.what)) for act in told]

    def _guarded_fresh(self) -> bool:
        """The guard sees all that there is, and lets nothing pass. Returns whether it told anything."""
        self._look(self._sentry.board)
        self.log.append("the guard looks, and knows all")
        told: set[str] = set()
        for uuid, event in self._guard(0.0):
            self._jobs.advance(uuid, [[event]])
            told.add(uuid)
        for uuid in self._jobs.keys() - told:
            self._jobs.advance(uuid, [[lambda truth: truth.unguarded(self._excuse)]])
        return bool(told)

    # -- the circuit breaker -------------------------------------------------------------------------------------------
    def _move_breaker(self, choice: Random) -> None:
        """It opens, since others on the board said so; or an operator closes it."""
        if self._excuse.open:
            one = choice.choice(self._operators)
            one.book.full = choice.randrange(6) == 0
            closed = one.close_breaker()
            one.book.full = False
            self.log.append(f"{one.name}: the circuit breaker is {'closed' if closed else 'left open'}")
            if not closed:
                return
            self._excuse = Excuse(upto=self._tokens)
        else:
            board = choice.choice(self._boards)
            cause = make_cause("Outage", "too many to tell")
            state = breaker.opened(board.breaker, "cause", "others failed", utcnow(), "c9@model:9", BREAKER, cause)
            need(board.set_breaker(state, board.breaker), "the circuit breaker moved by itself")
            self.log.append("the circuit breaker is open")
            self._excuse = Excuse(open=True, upto=self._tokens)
        for board in self._boards:
            self._ground.catch_up(board)

    def _reset_breaker(self) -> None:
        """Nothing of an earlier sequence is excused."""
        if self._excuse != Excuse():
            board, *others = self._boards
            need(board.set_breaker(breaker.CLOSED, board.breaker), "the circuit breaker moved by itself")
            for other in others:
                self._ground.catch_up(other)
            self._excuse = Excuse()

    # -- operators -----------------------------------------------------------------------------------------------------
    def _operate(self, choice: Random) -> Plan | None:
        one = choice.choice(self._operators)
        kind = choice.choice((JobEntry, JobEntry, BinEntry))
        verb = choice.choice(TO_JOBS if kind is JobEntry else TO_BINNED)
        seen = [sight for sight in reversed(self._sights) if isinstance(sight.entry, kind)]
        if verb == "release":
            seen = [sight for sight in seen if sight.token is not None]
        # Little is learnt from acts on what is gone; some of them are enough.
        if choice.randrange(4):
            seen = [sight for sight in seen if self._jobs[sight.uuid][0].where != "gone"]
        picked = {sight.uuid: sight for sight in choice.sample(seen[:6], min(len(seen), choice.choice((1, 1, 2, 3))))}
        if not picked:
            return None
        sights, full = list(picked.values()), choice.randrange(12) == 0
        home: Home = "board" if kind is JobEntry else "bin"

        def do() -> Deeds:
            before = one.board.listing()
            one.book.full = full
            results = one.act(verb, [sight.entry for sight in sights])
            one.book.full = False
            after = one.board.listing()
            self.log.append(f"  {one.name}: {[(result.result, result.why) for result in results]}")
            deeds: Deeds = []
            for sight, result in zip(sights, results, strict=True):
                if full:
                    continue
                act = Act(verb, one.number, sight.uuid, home, sight.place, sight.token)
                cycles = verb in ("bin", "delete") and _cycles(sight.entry)
                entry = after.jobs.get(sight.uuid)
                trails = before.version != after.version or entry is None or entry.claim is not None

                def told(
                    truth: Ruled,
                    act: Act = act,
                    result: Verdict = result.result,
                    cycles: bool = cycles,
                    trails: bool = trails,
                ) -> None:
                    truth.operated(act, result, one.name, cycles=cycles, trails=trails)

                deeds.append((sight.uuid, told))
            return deeds

        about = ", ".join(f"{sight.uuid[:8]} (claim {sight.token})" for sight in sights)
        return Plan(one.name, one.board, f"{one.name}: {verb} {about}{', with a full book' if full else ''}", do)

    def _undo(self, choice: Random) -> Plan | None:
        one = choice.choice([one for one in self._operators if one.steps])
        full = choice.randrange(12) == 0
        posted: dict[str, str] = {}

        def do() -> Deeds:
            known = {key: one.board.find(key) for key in one.steps[-1].keys}
            one.book.full = full
            step, results = one.undo()
            one.book.full = False
            self.log.append(f"  {one.name}: {step.label}: {[(result.result, result.why) for result in results]}")
            deeds: Deeds = []
            for result in results:
                if step.action in FINAL:
                    need(result.result == "refused", "what is final was undone")
                elif not result.why.startswith("Nothing done, the audit trail"):
                    entry = known[result.key]
                    trails = entry is not None and entry.claim is not None
                    deeds.append((result.key, _undoing(step, one, result.key, result.result, trails=trails)))
                    if step.action == "delete" and result.result == "done":
                        posted[result.why.removeprefix("posted again as ")] = result.name
            return deeds

        def then() -> None:
            for uuid, name in posted.items():
                self._jobs[uuid] = [Ruled(name=name)]

        return Plan(one.name, one.board, f"{one.name}: undo{', with a full book' if full else ''}", do, then)


def _undoing(step: Step, one: Operator, uuid: str, verdict: Verdict, *, trails: bool) -> Event[Ruled]:
    def undone(truth: Ruled) -> None:
        if step.action == "bin":
            truth.unbinned(Act("restore", one.number, uuid, "bin"), verdict, one.name)
        elif step.action == "restore":
            truth.unrestored(Act("bin", one.number, uuid), verdict, one.name, trails=trails)
        elif step.action == "delete":
            truth.undeleted(verdict)
        else:
            seen = next(entry for entry in step.seen if entry.key == uuid)
            truth.unheld(verdict, seen.record, trails=trails)

    return undone


def _cycles(entry: JobEntry | BinEntry) -> bool:
    """Whether it is acted on between two claims as well."""
    record = entry.record
    return isinstance(entry, JobEntry) and (entry.claim is not None or (record is not None and record.failures > 0))
