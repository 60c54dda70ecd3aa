"""What is true of one job, and whether what a client was told can be true. Pure: nothing here knows a board."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from taskflow import exceptions as excp

from conductor_console.jobboards.attempts import FAILURES, HISTORY_LENGTH, AttemptRecord, Outcome, claim_order
from conductor_console.jobboards.base import BinEntry, Changed, Gone, JobEntry

Home = Literal["board", "bin"]
#: What is done by the holder of a claim, and how its attempt ends then.
ENDINGS: Final[dict[str, Outcome]] = {
    "consume": "consumed",
    "abandon": "abandoned",
    "suspend": "suspended",
    "trash": "failed",
}
#: What is done to a job that nobody need hold, and who may be refused as what.
TAKES: Final = ("claim", "settle")
NOTES: Final = ("note", "note end")


class Impossible(AssertionError):
    """What was told or shown cannot be."""


def need(fact: object, what: str) -> None:
    if not fact:
        raise Impossible(what)


@dataclass(frozen=True)
class Act:
    """One thing that a client does to one job.

    :ivar home: where the client believes the job to be, ``place`` which of its stays there it saw.
    :ivar claim: the claim that the client saw the job under, that it means to end, or that it tells of.
    :ivar token: a claim that comes of it bears this number; a later claim has a greater one.
    :ivar strict: whether a refusal must be truthful: TaskFlow's own need not be.
    """

    verb: str
    client: int
    uuid: str
    home: Home = "board"
    place: int = 0
    claim: int | None = None
    token: int = 0
    foreign: bool = False
    strict: bool = True
    outcome: Outcome = "unknown"


@dataclass
class Try:
    """One claim, and what the ledger has of it. ``client`` made it."""

    client: int
    foreign: bool
    counted: bool = False
    outcome: Outcome | None = None


@dataclass
class Truth:
    """One job as it really is. Claims go by their numbers; ``history`` holds the newest that are counted."""

    where: Literal["board", "bin", "gone"] = "board"
    place: int = 0
    holding: int | None = None
    tries: dict[int, Try] = field(default_factory=dict)
    history: list[int] = field(default_factory=list)
    counted_to: int = 0
    attempts: int = 0
    failures: int = 0
    recorded: bool = False
    binned: bool = False

    # -- what was told -------------------------------------------------------------------------------------------------
    def judge(self, act: Act, told: Exception | None) -> None:
        """Takes in that an act was done (``told`` is None) or refused.

        :raises Impossible: when it cannot have been.
        """
        if told is None:
            self._done(act)
        elif act.strict:
            self._refused(act, told)

    def _done(self, act: Act) -> None:
        if act.verb in NOTES:
            self._noted(act)
            return
        need(self.where == act.home, "done to a job that was not there")
        if act.verb in ENDINGS:
            need(self.mine(act), "done to a job that another holds, or nobody")
        elif act.verb in TAKES:
            need(self.holding is None, "done to a job that was held")
        elif act.home == "board":
            need(self.holding == act.claim, "done to a claim that was not seen")
        self._do(act)

    def mine(self, act: Act) -> bool:
        """Whether the claim that is to be ended stands."""
        return self.where == "board" and self.holding is not None and self.holding == act.claim

    def _refused(self, act: Act, told: Exception) -> None:
        gone = isinstance(told, excp.NotFound)
        if act.verb in TAKES:
            need(gone or isinstance(told, excp.UnclaimableJob), "refused in no way that is known")
            need(self.where != "board" if gone else self.where == "board" and self.holding is not None, "not so")
        elif act.verb in ENDINGS:
            need(not self.mine(act), "refused, though its claim stands")
            need(gone or self.holding is not None, "told that another holds it, though nobody does")
        else:
            need(act.verb not in NOTES, "a note was refused")
            need(isinstance(told, Gone | Changed), "refused in no way that is known")
            need(isinstance(told, Gone) == (self.where != act.home), "told as gone, or as there, though it is not")
            if isinstance(told, Changed):
                need(self._changed(act), "told as changed, though it is as it was seen")

    def _changed(self, act: Act) -> bool:
        if act.home == "bin":
            return self.place != act.place
        # A job that is held is not to be retried.
        return self.holding != act.claim or (act.verb == "retry" and act.claim is not None)

    # -- what happens --------------------------------------------------------------------------------------------------
    def _do(self, act: Act) -> None:
        verb = act.verb
        if verb == "claim":
            self._claimed(act)
        elif verb in ("settle", "retry"):
            self._desert()
        elif verb in ("consume", "delete", "purge"):
            self._move("gone")
        elif verb == "bin":
            if self.holding is None or self._open() != self.holding:
                self._desert()
            self._close("revoked")
            self._to_bin()
        elif verb == "restore":
            self._desert()
            self.failures, self.binned = 0, False
            self._move("board")
        elif act.foreign:
            # TaskFlow's conductors write no ledger.
            self.holding = None
            if verb == "trash":
                self._move("bin")
        else:
            self._close(ENDINGS[verb])
            self.holding = None
            if verb == "trash":
                self._to_bin()

    def _claimed(self, act: Act) -> None:
        self.holding = act.token
        self.tries[act.token] = Try(act.client, act.foreign)
        if not act.foreign:
            self._desert()
            self._count(act.token)
            self.binned = False

    def _to_bin(self) -> None:
        self.recorded = self.binned = True
        self._move("bin")

    def _move(self, where: Literal["board", "bin", "gone"]) -> None:
        self.where = where
        self.place += 1
        self.holding = None

    def died(self, client: int) -> None:
        """A client's process or session ended, and its claim with it."""
        if self.holding is not None and self.tries[self.holding].client == client:
            self.holding = None

    # -- the ledger ----------------------------------------------------------------------------------------------------
    def _noted(self, act: Act) -> None:
        token = act.claim
        assert token is not None
        if self.where != act.home:
            return
        if not self.tries[token].counted and token > self.counted_to:
            newest = self.history[0] if self.history else 0
            if newest < token:
                self._desert()
            self._count(token, None if newest < token else "unknown")
        if act.verb == "note end" and token in self.history:
            attempt = self.tries[token]
            if attempt.outcome in (None, "unknown"):
                self.failures += act.outcome in FAILURES
                attempt.outcome = act.outcome

    def _count(self, token: int, outcome: Outcome | None = None) -> None:
        self.tries[token].counted = True
        self.tries[token].outcome = outcome
        self.attempts += 1
        self.recorded = True
        self.history = sorted([*self.history, token], reverse=True)
        self.counted_to = max([self.counted_to, *self.history[HISTORY_LENGTH:]])
        del self.history[HISTORY_LENGTH:]

    def _open(self) -> int | None:
        return self.history[0] if self.history and self.tries[self.history[0]].outcome is None else None

    def _close(self, outcome: Outcome) -> None:
        token = self._open()
        if token is not None:
            self.tries[token].outcome = outcome
            self.failures += outcome in FAILURES

    def _desert(self) -> None:
        """Whoever comes across an attempt that is open though its claim is over closes it."""
        token = self._open()
        if token is not None:
            self._close("unknown" if self.tries[token].foreign else "crashed")

    # -- what is shown -------------------------------------------------------------------------------------------------
    def shows(
        self, entry: JobEntry | BinEntry | None, home: Home, names: Mapping[int, str], ids: Mapping[int, str]
    ) -> None:
        """A listing of all there is shows the job so, or not at all, on the board or in the bin.

        :param names: what each client's claims bear. ``ids``: the claims' own, as far as they were ever shown.
        :raises Impossible: when it cannot be.
        """
        need((entry is not None) == (self.where == home), f"lost, or doubled: it is {self.where}, not in the {home}")
        if entry is None:
            return
        if isinstance(entry, JobEntry):
            owner = None if self.holding is None else names[self.tries[self.holding].client]
            shown = entry.claim.owner if entry.claim is not None else None
            need(shown == owner, f"held by {shown}, not {owner}")
            if entry.claim is not None and self.holding is not None:
                need(ids.get(self.holding, entry.claim.id) == entry.claim.id, "a claim changed its id")
        need((entry.record is not None) == self.recorded, "the record is lost, or nobody wrote it")
        if entry.record is not None:
            self._tells(entry.record, names, ids)

    def _tells(self, record: AttemptRecord, names: Mapping[int, str], ids: Mapping[int, str]) -> None:
        need(record.attempts == self.attempts, f"{record.attempts} attempts, not {self.attempts}")
        need(record.failures == self.failures, f"{record.failures} failures, not {self.failures}")
        need((record.binned is not None) == self.binned, "told as binned, or as not binned, though it is not so")
        outcomes = [self.tries[token].outcome for token in self.history]
        told = [attempt.outcome for attempt in record.history]
        need(told == outcomes, f"outcomes {told}, not {outcomes}")
        owners = [names[self.tries[token].client] for token in self.history]
        need([attempt.who.partition("@")[0] for attempt in record.history] == owners, "told of another")
        numbers = [attempt.n for attempt in record.history]
        need(numbers == list(range(self.attempts, self.attempts - len(numbers), -1)), f"numbered {numbers}")
        claims = [attempt.claim for attempt in record.history]
        known = [ids.get(token) for token in self.history]
        pairs = [(told, id_) for told, id_ in zip(claims, known, strict=True) if told is not None and id_ is not None]
        need(all(claim_order(told) == claim_order(id_) for told, id_ in pairs), f"claims {claims}")
        orders = [claim_order(claim) for claim in claims if claim is not None]
        need(orders == sorted(set(orders), reverse=True), f"claims out of order: {claims}")
        need(None not in claims[1:] or all(claim is None for claim in claims), f"claims missing: {claims}")
        need((record.counted_to is not None) == (self.counted_to > 0), f"counted to {record.counted_to}")
