"""Who acts in an office: operators, conductors and a guard, each with all that the product gives to one of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from taskflow import exceptions as excp

from conductor_console.conductors.boards import Ending, LedgerPort
from conductor_console.jobboards.attempts import AttemptRecord, make_cause
from conductor_console.jobboards.base import LedgerBoard
from conductor_console.jobboards.breaker import Rule
from conductor_console.jobboards.policies import AnyPolicy
from conductor_console.observatory.guard import Act, Guard
from conductor_console.operations import FileAudit, Operations, Result
from conductor_console.operations.undo import Step, Undoable
from tests.integration.modelling.ruled import RULES, Taking
from tests.integration.modelling.truth import need

#: Seconds for which operators hold jobs back: longer than any test.
HOLD: Final = 10_000.0
#: Of the circuit breaker: what it holds back is held for longer than any test, too.
BREAKER: Final = Rule(window=HOLD, hold=HOLD)
#: What audit trails call the board.
TITLE: Final = "office"
UNWRITTEN: Final = "Nothing done, the audit trail cannot be written"
#: The acts by which others are undone.
UNDONE_BY: Final[Mapping[str, str]] = {
    "bin": "restore",
    "restore": "bin",
    "delete": "post again",
    "hold": "retry",
    "retry": "hold",
}
#: What the guard tells, and what its audit says of it.
TOLD: Final = {"binned": "done", "deleted": "done", "gone": "gone", "left": "changed"}
#: What its audit says where it spared a job, of which it does not tell.
SPARED: Final = ("changed: its failures were forgiven", "changed: the circuit breaker is open")


@dataclass
class Line:
    """An intent in an audit trail, and its outcome."""

    action: str
    uuid: str | None
    before: Mapping[str, Any]
    outcome: str | None = None


class Book:
    """One person's audit trail, in a file that may not be written for a while.

    :param folder: of its own, where files may be made.
    """

    def __init__(self, folder: Path, operator: str) -> None:
        folder.mkdir()
        # In the place of the folder that a file is to lie in there is a file: that fails whoever runs the tests.
        self._good, in_the_way = folder / "audit.jsonl", folder / "full"
        in_the_way.touch()
        self._bad = in_the_way / "audit.jsonl"
        self._operator = operator
        self._read = 0
        self.audit = FileAudit(self._good)

    @property
    def full(self) -> bool:
        """Whether it cannot be written."""
        return self.audit.path == self._bad

    @full.setter
    def full(self, full: bool) -> None:
        self.audit.path = self._bad if full else self._good

    def news(self) -> list[Line]:
        """What was not read yet; whoever wrote it is at rest."""
        if not self._good.exists():
            return []
        with self._good.open("rb") as file:
            file.seek(self._read)
            raw = file.read()
        self._read += len(raw)
        lines: dict[int, Line] = {}
        for told in map(json.loads, raw.splitlines()):
            number = told["seq"]
            if "outcome" in told:
                need(lines[number].outcome is None, "an outcome told twice")
                lines[number].outcome = told["outcome"]
            else:
                need(number not in lines, "two intents of one number")
                about = (told["operator"], told["board"])
                need(about == (self._operator, TITLE) and told["job_name"], f"an intent that tells not all: {told}")
                lines[number] = Line(told["action"], told["job_uuid"], told["before"])
        need(all(line.outcome is not None for line in lines.values()), "an intent without an outcome")
        return list(lines.values())


class Operator:
    """One who acts on what somebody saw at some time."""

    def __init__(self, number: int, name: str, board: LedgerBoard, folder: Path) -> None:
        self.number, self.name, self.board = number, name, board
        self.book = Book(folder / name, self.full_name)
        self.begin()

    @property
    def full_name(self) -> str:
        return f"{self.name}@desk"

    def begin(self) -> None:
        self.book.news()
        self.book.full = False
        self.operations = Operations(self.board, operator=self.full_name, audit=self.book.audit, title=TITLE)
        self.steps: list[Step] = []

    def act(self, verb: str, entries: Sequence[Any]) -> list[Result]:
        """Does it, and compares what was told, what was written down, and what could be undone."""
        results = self._call(verb, entries)
        need([result.uuid for result in results] == [entry.uuid for entry in entries], "results of other jobs")
        lines = self.book.news()
        if self.book.full:
            need(not lines and all(_unwritten(result) for result in results), "done without an intent")
            return results
        told = [(verb, result.uuid, _outcome(result)) for result in results]
        need([(line.action, line.uuid, line.outcome) for line in lines] == told, f"{lines} is not {told}")
        seen = [_claim(entry) for entry in entries]
        need([_told_claim(line) for line in lines] == seen, "written down otherwise than it was seen")
        pairs = zip(results, entries, strict=True)
        self._did(verb, [(result.key, entry) for result, entry in pairs if result.result == "done"])
        self._check_undo()
        return results

    def _call(self, verb: str, entries: Sequence[Any]) -> list[Result]:
        if verb == "hold":
            return self.operations.hold(entries, HOLD)
        results: list[Result] = getattr(self.operations, "delete" if verb == "purge" else verb)(entries)
        return results

    def close_breaker(self) -> bool:
        """Closes the circuit breaker, which is open. Returns whether that was done."""
        done, why = self.operations.close_breaker()
        told = [(line.action, line.outcome) for line in self.book.news()]
        need(done or (self.book.full and UNWRITTEN in why), f"not closed: {why}")
        need(told == ([("close breaker", "done")] if done else []), f"closed: {done}, and wrote {told}")
        return done

    def undo(self) -> tuple[Step, list[Result]]:
        """Takes the newest step back; see :meth:`act`."""
        step = self.steps.pop()
        results = self.operations.undo()
        need([result.key for result in results] == list(step.keys), "not what was to be undone")
        lines = self.book.news()
        verb = UNDONE_BY.get(step.action)
        written = Counter((line.action, line.uuid or "", (line.outcome or "").partition(":")[0]) for line in lines)
        told = Counter((verb or "", result.uuid or "", str(result.result)) for result in results)
        need(not written - told, f"{lines} was not told")
        need(all(result.result != "done" for result in results) or written, "done without an intent")
        need(not [left for left in told - written if left[2] == "done"], "done without an intent")
        need(not (self.book.full and lines), "written into a full book")
        # What could not be written down can be tried again.
        again = {result.key for result in results if _unwritten(result)}
        if again:
            kept = tuple(entry for entry in step.seen if entry.key in again)
            self.steps.append(Step(step.action, tuple(key for key in step.keys if key in again), kept))
        self._check_undo()
        return step, results

    def _did(self, verb: str, done: list[tuple[str, Any]]) -> None:
        if done:
            action: Undoable = verb  # type: ignore[assignment]
            self.steps.append(Step(action, tuple(key for key, _ in done), tuple(entry for _, entry in done)))

    def _check_undo(self) -> None:
        label = self.steps[-1].label if self.steps else ""
        need(self.operations.can_undo == label, f"can undo {self.operations.can_undo!r}, not {label!r}")


@dataclass
class Run:
    """Somebody is at work on a job, under a claim that may be lost by now."""

    uuid: str
    token: int
    job: Any


class Conductor:
    """One that claims what its policy lets it, and ends what it claimed as its policy has it."""

    def __init__(self, number: int, name: str, board: LedgerBoard, policy: AnyPolicy) -> None:
        self.number, self.name, self.board, self.policy = number, name, board, policy
        self.begin()

    def begin(self) -> None:
        self.runs: list[Run] = []
        self.refusal = ""
        self._aside: list[str] = []
        entity = f"{self.name}@model:1"
        self.port = LedgerPort(self.board, self.name, lambda: entity, self.policy, self._put_aside, BREAKER)

    def _put_aside(self, job: Any, record: AttemptRecord) -> None:
        need(self.policy.of(job.name).removes(record), "put aside by a record that does not ask for it")
        self._aside.append(job.uuid)

    def take(self, job: Any) -> Taking:
        """As conductors do it. Returns what came of it."""
        self._aside.clear()
        try:
            if not self.port.fit(job):
                return "put aside" if self._aside else "unfit"
            self.port.claim(job)
        except excp.UnclaimableJob as refusal:
            self.refusal = str(refusal)
            return "unclaimable"
        except excp.NotFound:
            return "gone"
        finally:
            need(self._aside in ([], [job.uuid]), "another was put aside")
        return "claimed"

    def end(self, run: Run, how: str) -> tuple[bool, Ending, Exception | None]:
        """Ends an attempt. Returns whether its claim seemed to stand, its ending, and what that was refused as."""
        stands = self.port.still_ours(run.job)
        endings = {
            "consume": Ending("consumed", "consume"),
            "suspend": Ending("suspended", "abandon"),
            # Of each its own cause: many of one would open the circuit breaker.
            "fail": Ending("abandoned", "abandon", make_cause(f"Boom{run.uuid}", "boom")),
        }
        ending = endings[how]
        try:
            ending = self.port.judged(run.job, ending)
            self.port.close(run.job, ending)
        except (excp.JobFailure, excp.NotFound) as refusal:
            return stands, ending, refusal
        return stands, ending, None


class Sentry:
    """A guard, who looks at the board from time to time."""

    def __init__(self, number: int, name: str, board: LedgerBoard, folder: Path) -> None:
        self.number, self.name, self.board = number, name, board
        self.book = Book(folder / name, self.full_name)

    @property
    def full_name(self) -> str:
        return f"{self.name}@post"

    def begin(self) -> None:
        self.book.news()

    def look(self, patience: float, *, breaker_open: bool) -> list[Act]:
        """Guards for so many seconds, if there is something to guard. Returns what it told."""
        told: list[Act] = []
        remarks: list[str] = []
        operations = Operations(self.board, operator=self.full_name, audit=self.book.audit, title=TITLE)
        Guard(self.board, operations, RULES, rule=BREAKER, tell=told.append, remark=remarks.append).run(patience)
        if breaker_open:
            remarks = [remark for remark in remarks if not remark.startswith("the circuit breaker is open: ")]
        need(not remarks, f"the guard remarked: {remarks}")
        lines = self.book.news()
        acts = Counter((act.uuid, TOLD[act.what]) for act in told if act.what in TOLD)
        spared = [line for line in lines if line.outcome in SPARED]
        written = Counter((line.uuid, (line.outcome or "").partition(":")[0]) for line in lines if line not in spared)
        need(written == acts, f"the guard told {acts}, and wrote {written}")
        kinds = {line.uuid: line.action for line in lines}
        did = {"binned": "bin", "deleted": "delete"}
        need(all(kinds[act.uuid or ""] == did[act.what] for act in told if act.what in did), "written as another act")
        return told


def _outcome(result: Result) -> str:
    return f"{result.result}: {result.why}" if result.why else result.result


def _unwritten(result: Result) -> bool:
    return result.result == "refused" and result.why.startswith(UNWRITTEN)


def _claim(entry: Any) -> str | None:
    claim = getattr(entry, "claim", None)
    return None if claim is None else claim.id


def _told_claim(line: Line) -> str | None:
    claim = line.before.get("claim")
    return None if claim is None else claim["id"]
