"""Whether the demo's numbers add up: each counted from its own source, none assumed.

Posted is what the board took; left and binned are what lies on it now; done and failed are what the store's flow log
tells of closed attempts, checked against the state of each flow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from taskflow import states

from conductor_console.demo.steps import Sample
from conductor_console.jobboards.attempts import FAILURES
from conductor_console.observatory.snapshot import CauseView, Snapshot
from conductor_console.persistence.journal import JournalRow

Fate = Literal["done", "failed", "binned", "left", "unaccounted"]
#: How the flow of a consumed job must have ended.
_ENDED: Final[Mapping[str, tuple[Fate, frozenset[str]]]] = {
    "consumed": ("done", frozenset({states.SUCCESS})),
    "failed": ("failed", frozenset({states.REVERTED, states.FAILURE})),
}


class Log(Protocol):
    """The store, as far as it is asked."""

    def journal(self, *, flow_uuid: str | None = None, job_uuid: str | None = None) -> list[JournalRow]: ...
    def flow_state(self, flow_uuid: str) -> str | None: ...


@dataclass(frozen=True, slots=True)
class JobLine:
    """One job: how it ended, and how often it was tried and failed.

    :ivar why: why it was binned, or what does not add up; empty elsewhere.
    """

    uuid: str
    name: str
    sample: str
    fate: Fate
    standing: str
    attempts: int
    failures: int
    why: str = ""


@dataclass(frozen=True, slots=True)
class Tally:
    """The report's numbers. ``cycling`` are those of ``left`` that do.

    :ivar problems: what does not add up, one line each.
    """

    seconds: float
    posted: int
    done: int
    failed: int
    binned: int
    left: int
    cycling: int
    deaths: int
    jobs: tuple[JobLine, ...]
    causes: tuple[CauseView, ...]
    problems: tuple[str, ...]

    @property
    def adds_up(self) -> bool:
        return not self.problems and self.posted == self.done + self.failed + self.binned + self.left


def tally(posted: Mapping[str, Sample], snapshot: Snapshot, store: Log, *, seconds: float, deaths: int) -> Tally:
    """Counts. ``snapshot`` is of the board with nobody at work on it any more."""
    closed = [row for row in store.journal() if row.kind == "attempt" and row.detail.get("outcome")]
    by_job: dict[str, list[JournalRow]] = {}
    for row in closed:
        by_job.setdefault(row.job_uuid or "", []).append(row)
    jobs = tuple(_line(uuid, sample, snapshot, by_job.get(uuid, ()), store) for uuid, sample in posted.items())
    outcomes = [str(row.detail["outcome"]) for row in closed]
    counted = {
        "done": outcomes.count("consumed"),
        "failed": outcomes.count("failed"),
        "binned": len(snapshot.binned),
        "left": snapshot.total,
    }
    return Tally(
        seconds=seconds,
        posted=len(posted),
        cycling=snapshot.counts.get("cycling", 0),
        deaths=deaths,
        jobs=jobs,
        causes=tuple(snapshot.causes),
        problems=tuple(_problems(jobs, counted)),
        **counted,
    )


def _line(uuid: str, sample: Sample, snapshot: Snapshot, closed: Sequence[JournalRow], store: Log) -> JobLine:
    view = snapshot.by_key.get(uuid)
    if view is not None:
        failed = sum(1 for attempt in view.attempts if attempt.outcome in FAILURES)
        return JobLine(uuid, view.name, sample.name, "left", view.standing, view.tries, failed)
    entry = next((entry for entry in snapshot.binned if entry.key == uuid), None)
    if entry is not None:
        history = entry.record.history if entry.record else ()
        failed = sum(1 for attempt in history if attempt.outcome in FAILURES)
        tries = entry.record.attempts if entry.record else 0
        return JobLine(uuid, entry.name, sample.name, "binned", "binned", tries, failed, entry.why or "")
    return _consumed(uuid, sample, closed, store)


def _consumed(uuid: str, sample: Sample, closed: Sequence[JournalRow], store: Log) -> JobLine:
    failed = sum(1 for row in closed if row.detail["outcome"] in FAILURES)
    last = closed[-1] if closed else None
    name = str(last.detail.get("name") or sample.name) if last else sample.name
    outcome = str(last.detail["outcome"]) if last else "no attempt"
    state = store.flow_state(last.flow_uuid) if last and last.flow_uuid else None
    fate, states_then = _ENDED.get(outcome, ("unaccounted", frozenset()))
    why = ""
    if fate == "unaccounted":
        why = f"neither on the board nor in the bin, its last outcome is {outcome}"
    elif state not in states_then:
        fate, why = "unaccounted", f"{outcome}, but its flow stands at {state}"
    return JobLine(uuid, name, sample.name, fate, fate, max([len(closed), *_numbers(closed)]), failed, why)


def _numbers(closed: Iterable[JournalRow]) -> list[int]:
    return [row.attempt for row in closed if row.attempt is not None]


def _problems(jobs: Sequence[JobLine], counted: Mapping[str, int]) -> list[str]:
    told = [f"{job.name} ({job.uuid}): {job.why}" for job in jobs if job.fate == "unaccounted"]
    for fate, number in counted.items():
        lines = sum(1 for job in jobs if job.fate == fate)
        if lines != number:
            told.append(f"{fate}: {number} counted, but {lines} of the jobs that were posted")
    return told
