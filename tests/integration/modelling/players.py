"""Those who act on a board: what they saw of it, what they hold, and what they can do with that.

Sights are shared: any client may act on what another saw, as people do who read one screen and type at another.
None of them is forgotten, so that much of what is acted on is long past.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from taskflow.types import entity

from conductor_console.jobboards.attempts import Outcome, Policy
from conductor_console.jobboards.base import BinEntry, Claim, EntityEntry, JobEntry, LedgerBoard
from tests.boards import BOOM
from tests.integration.modelling.grounds import STRANGER, Ground
from tests.integration.modelling.truth import ENDINGS, Act, Home

CLIENTS = 4
#: The fifth, who is not one of ours, or lives in a process of its own.
OUTSIDER = CLIENTS
OWNERS: Mapping[int, str] = {**{number: f"c{number}" for number in range(CLIENTS)}, OUTSIDER: STRANGER}
NO_HOLD = Policy(max_attempts=10**6, base=0.0)
MOST_JOBS = 4

#: What may be done where there is a job to be seen; in the bin; and where a foreign claim was seen. As often as named.
TO_JOBS = ("claim", "claim", "claim", "claim", "claim", "settle", "bin", "bin", "delete", "retry")
TO_BINNED = ("restore", "restore", "restore", "purge")
TO_CLAIMS = ("note",) * 4 + ("note end",) * 4
#: TaskFlow's board knows no other way to let go.
THEIR_ENDINGS = ("abandon", "consume", "trash")
ENDS: tuple[Outcome, ...] = ("abandoned", "unknown", "crashed", "failed")


@dataclass(frozen=True)
class Sight:
    """What was seen of a job, which of its stays it was, and under which claim."""

    uuid: str
    entry: JobEntry | BinEntry
    place: int
    token: int | None


@dataclass(frozen=True)
class Witness:
    """A foreign claim that was seen, with the conductor that its session had registered."""

    uuid: str
    token: int
    entry: JobEntry
    claim: Claim
    entity: EntityEntry | None


@dataclass(frozen=True)
class Handle:
    """A claim that a client made, and may have lost since."""

    uuid: str
    token: int
    job: Any


class Plan(tuple[Act, Callable[[], object], "Handle | None"]):
    """An act, how it is done, and the claim that it makes or ends."""


@dataclass
class Client:
    board: LedgerBoard
    handles: list[Handle] = field(default_factory=list)


class Players(abc.ABC):
    """Four boards of ours, the outsider's, and what each could do next."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.clients = [Client(self.make_board(number)) for number in range(CLIENTS)]
        self.outsider = ground.outsider()
        self.theirs: dict[str, Any] = {}
        self.their_handles: list[Handle] = []
        self.sights: list[Sight] = []
        self.witnessed: list[Witness] = []
        self.tokens = 0

    def make_board(self, number: int) -> LedgerBoard:
        board = self.ground.board()
        board.register_entity(entity.Entity("conductor", f"{OWNERS[number]}@model:{number + 1}", {}))
        return board

    def forget(self) -> None:
        """All that was seen and made is of another world."""
        self.sights.clear()
        self.witnessed.clear()
        self.theirs = {}
        self.their_handles.clear()
        for client in self.clients:
            client.handles.clear()

    @abc.abstractmethod
    def held(self, uuid: str) -> int | None:
        """The claim that the job is under in truth."""

    @abc.abstractmethod
    def exists(self, uuid: str) -> bool:
        """Whether the job is on the board or in the bin in truth."""

    # -- what could be done --------------------------------------------------------------------------------------------
    def offers(self) -> list[tuple[str, Sequence[int]]]:
        """Acts on jobs that somebody could try now, and who could."""
        ours, everybody = range(CLIENTS), (*range(CLIENTS), OUTSIDER, OUTSIDER, OUTSIDER)
        found: list[tuple[str, Sequence[int]]] = []
        if self._seen(JobEntry):
            found += [(verb, everybody if verb == "claim" and self.outsider else ours) for verb in TO_JOBS]
        if self._seen(BinEntry):
            found += [(verb, ours) for verb in TO_BINNED]
        if self.witnessed:
            found += [(verb, ours) for verb in TO_CLAIMS]
        holders = [number for number, client in enumerate(self.clients) if client.handles]
        if holders:
            found += [(verb, holders) for verb in (*ENDINGS, "abandon", "abandon")]
        if self.their_handles:
            found += [(verb, [OUTSIDER]) for verb in (*THEIR_ENDINGS, "abandon", "abandon")]
        return found

    def _seen(self, kind: type[JobEntry | BinEntry]) -> list[Sight]:
        """Newest first."""
        return [sight for sight in reversed(self.sights) if isinstance(sight.entry, kind)]

    def plan(self, verb: str, number: int, pick: int, wanted: str | None = None) -> Plan | None:
        """What a client does to something that it saw or made, on the wanted job if it may be.

        :param pick: 0 is the newest of them.
        :returns: None where there is nothing after all.
        """
        self.tokens += 1
        if number == OUTSIDER:
            return self._their_plan(verb, pick, wanted)
        client, board = self.clients[number], self.clients[number].board
        if verb in ENDINGS:
            handle = _picked(client.handles[::-1], pick, wanted)
            if handle is None:
                return None
            act = Act(verb, number, handle.uuid, claim=handle.token)
            return Plan((act, lambda: _finish(board, verb, handle.job, OWNERS[number]), handle))
        if verb in TO_CLAIMS:
            return self._note(verb, number, pick, wanted)
        kind = BinEntry if verb in TO_BINNED else JobEntry
        seen = self._seen(kind)
        if pick:
            # Little is learnt from acts on what is gone; some of them are enough.
            seen = [sight for sight in seen if self.exists(sight.uuid)] or seen
        sight = _picked(seen, pick, wanted)
        if sight is None:
            return None
        home: Home = "bin" if kind is BinEntry else "board"
        act = Act(verb, number, sight.uuid, home, sight.place, sight.token, self.tokens)
        if verb != "claim":
            return Plan((act, lambda: _operate(board, verb, sight.entry), None))
        job = board.make_job(sight.entry)
        return Plan((act, lambda: board.claim(job, OWNERS[number]), Handle(sight.uuid, self.tokens, job)))

    def _their_plan(self, verb: str, pick: int, wanted: str | None) -> Plan | None:
        outsider = self.outsider
        if outsider is None:
            return None
        if verb == "claim" and pick < 4:
            # Else it goes by what it saw some time ago.
            self.theirs = outsider.look()
        made = [Handle(uuid, self.tokens, job) for uuid, job in self.theirs.items()]
        handle = _picked(made[::-1] if verb == "claim" else self.their_handles[::-1], pick, wanted)
        if handle is None:
            return None
        foreign = outsider.foreign
        act = Act(
            verb, OUTSIDER, handle.uuid, claim=handle.token, token=handle.token, foreign=foreign, strict=not foreign
        )
        return Plan((act, lambda: outsider.do(verb, handle.job), handle))

    def _note(self, verb: str, number: int, pick: int, wanted: str | None) -> Plan | None:
        """A watcher's note of a foreign claim; by what was seen of the job then, or since."""
        board, seen = self.clients[number].board, self.witnessed[::-1]
        if pick:
            seen = [witness for witness in seen if self.exists(witness.uuid)] or seen
        if verb == "note end":
            seen = [witness for witness in seen if self.held(witness.uuid) != witness.token]
        witness = _picked(seen, pick // 2, wanted)
        if witness is None:
            return None
        since = [sight.entry for sight in reversed(self.sights) if sight.uuid == witness.uuid]
        entry = since[0] if since and pick % 2 else witness.entry
        claim, outcome = witness.claim, ENDS[pick % len(ENDS)]
        if verb == "note end":
            home: Home = "bin" if isinstance(entry, BinEntry) else "board"
            act = Act(verb, number, witness.uuid, home, claim=witness.token, outcome=outcome)
            return Plan((act, lambda: board.count_end(entry, claim, outcome, BOOM), None))
        there = entry if isinstance(entry, JobEntry) else witness.entry
        act = Act(verb, number, witness.uuid, claim=witness.token)
        return Plan((act, lambda: board.count_claim(there, claim), None))

    def settle_handles(self, plan: Plan, told: Exception | None) -> None:
        """Takes in what came of a claim, or of an attempt to end one."""
        act, _, handle = plan
        if handle is None:
            return
        theirs = act.client == OUTSIDER
        handles = self.their_handles if theirs else self.clients[act.client].handles
        # The outsider goes by the owner's name: of two claims of its own on one job it has the newer.
        handles[:] = [
            other for other in handles if other != handle and not (theirs and told is None and other.uuid == act.uuid)
        ]
        if act.verb == "claim" and told is None:
            handles.append(handle)


def _finish(board: LedgerBoard, verb: str, job: Any, who: str) -> None:
    if verb == "consume":
        board.consume(job, who)
    elif verb == "trash":
        board.trash(job, who, why="broken", outcome=ENDINGS[verb], error=BOOM)
    else:
        board.abandon(job, who, outcome=ENDINGS[verb], error=BOOM)


def _operate(board: LedgerBoard, verb: str, entry: Any) -> None:
    if verb == "settle":
        board.settle(board.make_job(entry), NO_HOLD)
    elif verb == "bin":
        board.bin(entry, "anna", "for a test")
    elif verb in ("delete", "purge"):
        board.delete(entry)
    else:
        getattr(board, verb)(entry)


def _picked(things: Sequence[Any], pick: int, wanted: str | None) -> Any:
    """One of those that concern the wanted job, or else of all; None of none."""
    about = [thing for thing in things if thing.uuid == wanted] or things
    return about[pick % len(about)] if about else None
