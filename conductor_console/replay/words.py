"""How a replay says things: states as words, what an event is, times at the precision that the whole needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from taskflow import states

from conductor_console.jobboards.attempts import FAILURES
from conductor_console.persistence.journal import JournalRow
from conductor_console.text import duration, visible

#: TaskFlow's states as the console says them; others are shown as they are, in lower case.
STATE_WORDS: Final[Mapping[str | None, str]] = {
    None: "pending",
    states.PENDING: "pending",
    states.RUNNING: "running",
    states.SUCCESS: "done",
    states.FAILURE: "failed",
    states.REVERTING: "reverting",
    states.REVERTED: "reverted",
    states.REVERT_FAILURE: "revert failed",
    states.RETRYING: "retrying",
    states.IGNORE: "ignored",
    states.RESUMING: "resuming",
    states.SUSPENDING: "suspending",
    states.SUSPENDED: "suspended",
}
#: Reached by an atom, these are failures.
BROKEN: Final = frozenset({states.FAILURE, states.REVERT_FAILURE})
_INTENTIONS: Final = {
    states.EXECUTE: "to be run",
    states.REVERT: "to be reverted",
    states.RETRY: "to be retried",
    states.IGNORE: "to be ignored",
}
_WORD_LENGTH: Final = 40


def state_word(state: str | None) -> str:
    """A state as one clean word or two: ``done``, ``revert failed``."""
    known = STATE_WORDS.get(state)
    return known if known is not None else visible(state, _WORD_LENGTH).lower()


def row_word(row: JournalRow) -> str:
    """What a row tells, in a word or two: a state, an attempt's outcome, an operator's act."""
    if row.kind in ("attempt", "operator"):
        told = row.detail.get("outcome") or row.detail.get("action") or row.to_state
        return visible(told, _WORD_LENGTH) if told else ("began" if row.kind == "attempt" else "acted")
    if only_intends(row):
        return _INTENTIONS.get(row.intention or "", "noted")
    return state_word(row.to_state)


def only_intends(row: JournalRow) -> bool:
    """Whether the row tells only what the engine means to do with an atom next, not a new state."""
    return row.kind in ("task", "retry") and row.from_state == row.to_state


def row_subject(row: JournalRow, flow_names: Mapping[str, str]) -> str:
    """What a row is about: an atom's name, a flow's, ``attempt 7``, ``operator``; clean.

    :param flow_names: flow uuid to name.
    """
    if row.kind in ("task", "retry"):
        return visible(row.atom_name or row.atom_uuid or "-", 200)
    if row.kind == "attempt":
        return f"attempt {row.attempt}" if row.attempt is not None else "attempt"
    if row.kind == "operator":
        return "operator"
    return visible(flow_names.get(row.flow_uuid or "") or row.flow_uuid or "flow", 200)


def broken(row: JournalRow) -> bool:
    """Whether the row tells of a failure: of an atom, of a flow, or of an attempt."""
    if row.kind == "attempt":
        return str(row.detail.get("outcome") or row.to_state).lower() in FAILURES
    return row.kind != "operator" and row.to_state in BROKEN and not only_intends(row)


def cause_of(row: JournalRow) -> tuple[str, str, str] | None:
    """A failure's type, message and place, clean; empty where the store does not tell. None: the row tells of none."""
    told = row.detail.get("failure") or row.detail.get("error")
    if not isinstance(told, Mapping):
        return None
    return _clean(told, "type", 200), _clean(told, "message", 2000), _clean(told, "where", 300)


def _clean(told: Mapping[str, Any], key: str, limit: int) -> str:
    value = told.get(key)
    return "" if value is None else visible(value, limit)


def moment(seconds: float, whole: float) -> str:
    """A time on a tape of ``whole`` seconds, with as many digits as tell its events apart: ``0.013 s``, ``12.9 s``.

    From ten minutes on it is ``12:34``, as a running time is written.
    """
    if whole >= 600:
        return duration(seconds)
    return f"{number(seconds, whole)} s"


def number(seconds: float, whole: float) -> str:
    """:func:`moment` without its unit, for a column whose head tells it."""
    if whole >= 600:
        return duration(seconds)
    return f"{seconds:.{1 if whole >= 5 else 3}f}"
