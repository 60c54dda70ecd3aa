"""What is true of a job that a policy rules, and whether what those who act on it were told can be true.

Those are two operators, two conductors and a guard: each goes through what the product gives it, which does one thing
to the board or several. Here that is judged by what it says came of it, never by what it did.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from conductor_console.conductors.boards import Ending
from conductor_console.jobboards.attempts import AttemptRecord, Outcome, Policy
from conductor_console.jobboards.base import BinEntry, Changed, Gone, JobEntry
from conductor_console.jobboards.policies import AnyPolicy, Policies
from conductor_console.operations import Verdict
from tests.integration.modelling.truth import Act, Home, Truth, need

#: The policy of the first conductor and of the guard. Jobs are called after what it does to them.
RULES: Final = Policies(
    Policy(max_attempts=2, base=0.0),
    (
        ("delete-*", Policy(max_attempts=2, base=0.0, action="delete")),
        ("hold-*", Policy(max_attempts=1, base=0.0, action="hold")),
        ("report-*", Policy(max_attempts=1, base=0.0, action="report")),
    ),
)
#: The policy of the second, who goes on for ever: what the guard is for.
NO_RULES: Final = Policy(max_attempts=10**6, base=0.0)

#: What came of it when a conductor tried to take a job.
Taking = Literal["claimed", "put aside", "unfit", "unclaimable", "gone"]


@dataclass(frozen=True)
class Ended(Act):
    """The end of an attempt. ``by`` bins the job with it."""

    by: str = ""


@dataclass(frozen=True)
class Excuse:
    """What the circuit breaker does to failures: none counts while it is open, or of a claim made by then.

    :ivar upto: the last claim that was made before it was closed.
    """

    open: bool = False
    upto: int = 0

    def covers(self, token: int | None) -> bool:
        return self.open or (token or 0) <= self.upto


@dataclass
class Ruled(Truth):
    """One job as it really is.

    :ivar held: it is not to be tried until it is retried. ``by`` put it into the bin.
    :ivar running: the claims under which somebody is at work on it, but for those that an operator knew of and ended.
    :ivar taken: it was held when it was deleted.
    :ivar once_held, most_failures: what was true of it at some time, and may be all that a board knows yet.
    """

    name: str = ""
    held: bool = False
    by: str = ""
    running: set[int] = field(default_factory=set)
    taken: bool = False
    once_held: bool = False
    most_failures: int = 0

    def is_over(self, policy: AnyPolicy = RULES) -> bool:
        """Whether it failed so often that the policy has it leave the board."""
        rule = policy.of(self.name)
        return rule.action in ("bin", "delete") and self.failures >= rule.max_attempts

    def is_told(self) -> bool:
        """Whether it failed so often that a guard tells of it, and leaves it where it is."""
        rule = RULES.of(self.name)
        return rule.action in ("hold", "report") and self.failures >= rule.max_attempts

    @property
    def is_free(self) -> bool:
        return self.where == "board" and self.holding is None

    # -- what happens --------------------------------------------------------------------------------------------------
    def _do(self, act: Act) -> None:
        if act.verb == "trash":
            self._close(act.outcome)
            self._to_bin()
        elif act.verb == "release":
            self._close("revoked")
            self.holding = None
        elif act.verb == "abandon" and act.outcome == "released":
            self._close("released")
            self.holding = None
        elif act.verb == "hold":
            self._desert()
            self.recorded = self.held = True
        else:
            super()._do(act)
        if act.verb in ("retry", "bin", "trash", "restore", "claim"):
            self.held = False
        self._remember()

    def _remember(self) -> None:
        self.once_held |= self.held
        # Who knows of an attempt that is under way, and not that it ended, takes it for a crash.
        self.most_failures = max(self.most_failures, self.failures + (self._open() is not None))

    def _changed(self, act: Act) -> bool:
        return super()._changed(act) or (act.verb == "hold" and act.claim is not None)

    def _count(self, token: int, outcome: Outcome | None = None) -> None:
        earlier = list(self.history)
        super()._count(token, outcome)
        # Of two who take it and let it go at once it is not known beforehand who is first: numbers are no order here.
        self.history = [token, *earlier]

    def _take(self, verb: str, client: int, by: str = "") -> None:
        """Somebody takes it off the board, which nobody may do while it is held."""
        need(self.is_free, f"{verb}: it was held, or not there")
        need(not self.running, f"{verb}: somebody is at work on it")
        self.judge(Act(verb, client, ""), None)
        self.by = by

    # -- what operators are told ---------------------------------------------------------------------------------------
    def operated(self, act: Act, verdict: Verdict, who: str, *, cycles: bool, trails: bool) -> None:
        """An operator was told what came of an act on a job as it was seen.

        :param cycles: it is also done between two claims.
        :param trails: the operator's board may not have known yet that nobody holds it.
        """
        if verdict == "done":
            if cycles and self.holding is None:
                act = replace(act, claim=None)
            self.taken = act.verb == "delete" and self.holding is not None
            if self.holding is not None:
                # Whoever is at work on it is known to be.
                self.running.discard(self.holding)
            self.judge(act, None)
            self.by = who if act.verb == "bin" else ""
        elif verdict == "changed":
            need(not (cycles and self.is_free) or trails, "told as changed, though nobody holds it")
            self.judge(act, Changed(""))
        else:
            need(verdict == "gone", f"told as {verdict}")
            self.judge(act, Gone(""))

    def unbinned(self, act: Act, verdict: Verdict, who: str) -> None:
        """An operator takes back that it was binned."""
        if verdict == "done":
            need(self.by == who, f"taken back, though {self.by} had binned it")
            self.judge(act, None)
        elif verdict == "changed":
            need(self.where == "bin" and self.by != who, "told as changed, though it is not")
        else:
            need(verdict == "gone", f"told as {verdict}")
            need(self.where != "bin", "told as gone, though it is there")

    def unrestored(self, act: Act, verdict: Verdict, who: str, *, trails: bool) -> None:
        """An operator takes back that it was restored."""
        if verdict == "done":
            self._take("bin", act.client, who)
        elif verdict == "changed":
            need(trails or (self.where == "board" and self.holding is not None), "told as changed, though it is not")
        else:
            need(verdict == "gone", f"told as {verdict}")
            need(self.where != "board", "told as gone, though it is there")

    def unheld(self, verdict: Verdict, seen: AttemptRecord | None, *, trails: bool) -> None:
        """An operator takes back that it was held, or retried: it is as it was ``seen`` before, if nobody tried it."""
        tried = self.attempts != (seen.attempts if seen is not None else 0)
        if verdict == "done":
            need(self.is_free and not tried, "taken back, though it was tried since")
            self._desert()
            self.held = seen is not None and seen.hold_until is not None
            self._remember()
        elif verdict == "changed":
            claimed = trails or (self.where == "board" and self.holding is not None)
            need(claimed or (self.where == "board" and tried), "told as changed, though it is not")
        else:
            need(verdict == "gone", f"told as {verdict}")
            need(self.where != "board", "told as gone, though it is there")

    def undeleted(self, verdict: Verdict) -> None:
        """An operator has a deleted job posted again."""
        need(self.where == "gone", "posted again, though it is there")
        need(verdict == ("refused" if self.taken else "done"), f"told as {verdict}")

    # -- what conductors are told --------------------------------------------------------------------------------------
    def tried(
        self,
        act: Act,
        came: Taking,
        seen: AttemptRecord | None,
        known: AttemptRecord | None,
        policy: AnyPolicy,
        who: str,
        excuse: Excuse,
    ) -> None:
        """A conductor tried to take it.

        :param seen: the record that the conductor went by; ``known`` the one that its board knew of.
        """
        rule = policy.of(self.name)
        thought_over = rule.removes(seen)
        if came == "claimed":
            need(not self.is_over(policy), "claimed, though it failed too often")
            need(not self.held, "claimed, though it is held back")
            self.judge(act, None)
            need(not self.running, f"run by {len(self.running) + 1} at once")
            self.running.add(act.token)
        elif came == "put aside":
            need(self.is_over(policy), f"put aside after {self.failures} failures")
            need(not excuse.open, "put aside, though the circuit breaker is open")
            self._take("delete" if rule.action == "delete" else "bin", act.client, who)
        elif came == "unfit":
            thought_held = seen is not None and seen.hold_until is not None
            if seen is not None and seen.open_attempt is not None:
                # It asked the board how that attempt had ended.
                thought_over, thought_held = self.is_over(policy), self.held
            need(thought_over or thought_held, "not tried, and nobody knows why")
            hindered = excuse.open or not (self.is_free and self.is_over(policy) and rule.removes(known))
            need(hindered or not thought_over, "not put aside, though nothing hinders")
        elif came == "unclaimable":
            # A board may turn it down by the record that it knows, which may trail.
            once_over = rule.action in ("bin", "delete") and self.most_failures >= rule.max_attempts
            barred = self.once_held or once_over
            need(barred or self.where == "board", "told as claimed, though it is gone")
            need(barred or self.holding is not None, "told as claimed, though nobody has it")
        else:
            need(self.where != "board", "told as gone, though it is there")

    def ended(
        self, act: Ended, ending: Ending, told: Exception | None, policy: AnyPolicy, excuse: Excuse, *, failed: bool
    ) -> None:
        """A conductor ended an attempt, as its policy had judged it.

        :param failed: whether it had failed.
        """
        if told is None and failed and excuse.covers(act.claim):
            let_off = (ending.outcome, ending.act) == ("released", "abandon") and ending.hold > 0
            need(let_off, f"ended as {ending.outcome} by {ending.act}, though the circuit breaker excuses it")
        elif told is None and failed:
            need(ending.outcome == "abandoned", f"told as {ending.outcome}, though nothing excuses it")
            rule = policy.of(self.name)
            over = self.failures + 1 >= rule.max_attempts
            wanted = {"bin": "trash", "delete": "delete"}.get(rule.action, "abandon") if over else "abandon"
            need(ending.act == wanted, f"ended by {ending.act}, not {wanted}")
            need((ending.hold > 0) == (over and rule.action == "hold"), f"held for {ending.hold} s")
        self.judge(act, told)
        self.running.discard(act.claim or 0)
        if told is None:
            self.held = ending.hold > 0
            self._remember()
            self.by = act.by if act.verb == "trash" else ""

    def lost(self, token: int, *, holds: bool) -> None:
        """A conductor was told whether its claim stands, and does not end an attempt whose claim is gone."""
        stands = self.where == "board" and self.holding == token
        need(holds or not stands, "told that its claim is gone, though it stands")
        if not holds:
            self.running.discard(token)

    # -- what the guard tells ------------------------------------------------------------------------------------------
    def guarded(self, what: str, client: int, who: str, excuse: Excuse) -> None:
        """The guard told of an act, or why there was none."""
        need(not excuse.open or what in ("gone", "left", "outrun"), f"{what}, though the circuit breaker is open")
        if what in ("binned", "deleted"):
            need(self.is_over(), f"{what} after {self.failures} failures")
            need((what == "deleted") == (RULES.of(self.name).action == "delete"), f"{what} against the policy")
            self._take("delete" if what == "deleted" else "bin", client, who)
        elif what == "gone":
            need(self.where != "board", "told as gone, though it is there")
        elif what == "reported":
            need(RULES.of(self.name).action in ("hold", "report"), "reported against the policy")
        else:
            need(what in ("left", "outrun"), f"the guard told: {what}")

    def unguarded(self, excuse: Excuse) -> None:
        """The guard, who knew all there is to know, told nothing of it."""
        if excuse.open:
            return
        need(not (self.where == "board" and self.is_told()), "not told of, though it failed too often")
        need(not (self.is_free and self.is_over()), "left alone, though it failed too often and nobody holds it")

    # -- what is shown -------------------------------------------------------------------------------------------------
    def shows(
        self, entry: JobEntry | BinEntry | None, home: Home, names: Mapping[int, str], ids: Mapping[int, str]
    ) -> None:
        super().shows(entry, home, names, ids)
        if entry is None:
            return
        need(entry.name == self.name, "it bears another's name")
        if isinstance(entry, BinEntry):
            need((entry.who or "").partition("@")[0] == self.by, f"binned by {entry.who}, not {self.by}")
        hold = entry.record.hold_until if entry.record is not None else None
        need((hold is not None) == self.held, f"held until {hold}, though it is held: {self.held}")
