"""What a flow must have done, told from its rows alone: for flows that ran on TaskFlow's own store, without a journal.

Rows are overwritten in place and keep only each atom's last state, what it returned, why it failed, and, for a retry
controller, the tries so far. TaskFlow also stamps every row of a flow anew whenever the flow's own state is written. So
of an atom no more is known than that it began after ``created_at`` and had reached its state by ``updated_at``. Its
states are therefore laid in their only possible order between these two, evenly, and each is marked as inferred.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal

from taskflow import states

from conductor_console.persistence.journal import JournalRow, failure_digest
from conductor_console.persistence.rows import AtomRow, FlowRows

#: The key of ``JournalRow.detail`` that marks a time nobody wrote down.
INFERRED: Final = "inferred"
#: A flow in one of these has stopped: its row's ``updated_at`` is when.
STOPPED: Final = frozenset({states.SUCCESS, states.FAILURE, states.REVERTED, states.SUSPENDED})

Step = tuple[str, Mapping[str, Any] | None]
#: Steps and the part of the atom's time (0 to 1) in which they lie.
Span = tuple[float, float, list[Step]]


def rebuild(flow: FlowRows) -> list[JournalRow]:
    """The flow's events, oldest first, each with ``detail["inferred"]`` but for the one whose time is in the rows.

    A flow that never ran has none.
    """
    histories = [atom for atom in flow.atoms if atom.kind == "retry" and _tries(atom)]
    rows = [row for atom in flow.atoms for row in _atom_rows(flow, atom, histories)]
    stopped = flow.state in STOPPED and flow.updated_at is not None
    if rows or flow.state is not None:
        made = [atom.created_at for atom in flow.atoms if atom.created_at is not None]
        start = min(made, default=flow.created_at or flow.updated_at)
        if start is not None:
            rows.append(_flow_row(flow, None, states.RUNNING, start, inferred=True))
        if flow.state is not None and flow.state != states.RUNNING and (end := flow.updated_at or start) is not None:
            rows.append(_flow_row(flow, states.RUNNING, flow.state, end, inferred=not stopped))
    # The flow begins before its atoms and ends after them, where the times are the same.
    return sorted(rows, key=lambda row: (row.at, _rank(row)))


def amend(flow: FlowRows, journal: Sequence[JournalRow]) -> list[JournalRow]:
    """What the rows know and the journal does not, marked as inferred: another program's conductor went on with it."""
    reached: dict[str | None, set[str | None]] = {}
    for row in journal:
        reached.setdefault(row.atom_uuid if row.kind in ("task", "retry") else None, set()).add(row.to_state)
    rows = []
    for atom in flow.atoms:
        when = atom.updated_at or atom.created_at
        if atom.state not in (None, states.PENDING, *reached.get(atom.uuid, ())) and when is not None:
            rows.append(_row(flow, atom, None, atom.state, when, _failure(atom, atom.state)))
    if flow.state not in (None, states.PENDING, *reached.get(None, ())) and flow.updated_at is not None:
        rows.append(_flow_row(flow, None, flow.state, flow.updated_at, inferred=True))
    return rows


def _rank(row: JournalRow) -> int:
    if row.kind != "flow":
        return 1
    return 0 if row.to_state == states.RUNNING else 2


def _atom_rows(flow: FlowRows, atom: AtomRow, histories: Sequence[AtomRow]) -> list[JournalRow]:
    low = atom.created_at or flow.created_at
    high = atom.updated_at or low
    if low is None or high is None:
        return []
    if flow.state in STOPPED and flow.updated_at is not None:
        high = min(high, flow.updated_at)  # the flow's last write stamped the atom's row once more, a little later
    high = max(low, high)
    spans = _retry_spans(atom) if atom.kind == "retry" else _task_spans(atom, histories)
    rows: list[JournalRow] = []
    before: str | None = None
    for begin, end, steps in spans:
        for index, (state, failure) in enumerate(steps):
            # A lone step stands at its span's end: that is when the row was last written.
            part = index / (len(steps) - 1) if len(steps) > 1 else 1.0
            when = low + (high - low) * (begin + (end - begin) * part)
            rows.append(_row(flow, atom, before, state, when, failure))
            before = state
    return rows


def _task_spans(atom: AtomRow, histories: Sequence[AtomRow]) -> list[Span]:
    """The tries a retry controller remembers that this atom failed in, then the one its row tells of."""
    spans: list[Span] = []
    begin = 0.0
    for history in histories:
        tries = _tries(history)
        for index, failures in enumerate(tries[:-1]):
            failure = failures.get(atom.name)
            if isinstance(failure, Mapping):
                slice_begin, slice_end = index / len(tries), (index + 1) / len(tries)
                spans.append((slice_begin, slice_end - 0.1 / len(tries), _failed_try(failure)))
                begin = max(begin, slice_end)
    spans.sort(key=lambda span: span[0])
    last = _last_steps(atom)
    return [*spans, (begin, 1.0, last)] if last else spans


def _failed_try(failure: Mapping[str, Any]) -> list[Step]:
    return [
        (states.RUNNING, None),
        (states.FAILURE, failure),
        (states.REVERTING, None),
        (states.REVERTED, None),
        (states.PENDING, None),
    ]


def _last_steps(atom: AtomRow) -> list[Step]:
    """The only order in which TaskFlow leads a task to the state its row shows."""
    failed = isinstance(atom.failure, Mapping)
    executed: list[Step] = [
        (states.RUNNING, None),
        (states.FAILURE, atom.failure) if failed else (states.SUCCESS, None),
    ]
    match atom.state:
        case None | states.PENDING:
            # A row that went back to pending keeps what the try before it left.
            ran = failed or atom.results is not None or atom.revert_results is not None
            undone: list[Step] = [(states.REVERTING, None), (states.REVERTED, None), (states.PENDING, None)]
            return executed + undone if ran else []
        case states.SUCCESS | states.FAILURE:
            return executed
        case states.REVERTING:
            return [*executed, (states.REVERTING, None)]
        case states.REVERTED:
            return [*executed, (states.REVERTING, None), (states.REVERTED, None)]
        case states.REVERT_FAILURE:
            return [*executed, (states.REVERTING, None), (states.REVERT_FAILURE, atom.revert_failure)]
        case _:
            return [(atom.state, None)]


def _retry_spans(atom: AtomRow) -> list[Span]:
    tries = _tries(atom)
    if atom.state in (None, states.PENDING, states.IGNORE) or not tries:
        # An empty history is what a controller starts with, and is no sign that it ran.
        idle = atom.state in (None, states.PENDING)
        return [] if idle else [(0.0, 1.0, _last_steps(atom))]
    spans: list[Span] = []
    for index in range(len(tries)):
        steps: list[Step] = [(states.RETRYING, None)] if index else []
        steps += [(states.RUNNING, None), (states.SUCCESS, None)]
        # A controller decides in no time; what lasts is the try after it.
        spans.append((index / len(tries), (index + 0.1) / len(tries), steps))
    after = _AFTER_TRIES.get(atom.state, ())
    return [*spans, (0.95, 1.0, [(state, _failure(atom, state)) for state in after])] if after else spans


#: What a controller with a history did since its last try, by its state.
_AFTER_TRIES: Final[Mapping[str | None, tuple[str, ...]]] = {
    states.RETRYING: (states.RETRYING,),
    states.RUNNING: (states.RETRYING, states.RUNNING),
    states.FAILURE: (states.RETRYING, states.RUNNING, states.FAILURE),
    states.REVERTING: (states.REVERTING,),
    states.REVERTED: (states.REVERTING, states.REVERTED),
    states.REVERT_FAILURE: (states.REVERTING, states.REVERT_FAILURE),
}


def _tries(atom: AtomRow) -> list[Mapping[str, Any]]:
    """A retry controller's history: what failed in each of its tries, by atom name."""
    if not isinstance(atom.results, Sequence) or isinstance(atom.results, str):
        return []
    tries: list[Mapping[str, Any]] = []
    for item in atom.results:
        failures = item[1] if isinstance(item, Sequence) and not isinstance(item, str) and len(item) == 2 else {}
        tries.append(failures if isinstance(failures, Mapping) else {})
    return tries


def _failure(atom: AtomRow, state: str | None) -> Mapping[str, Any] | None:
    failure = {states.FAILURE: atom.failure, states.REVERT_FAILURE: atom.revert_failure}.get(str(state))
    return failure if isinstance(failure, Mapping) else None


def _row(
    flow: FlowRows,
    atom: AtomRow,
    before: str | None,
    state: str | None,
    when: datetime,
    failure: Mapping[str, Any] | None,
) -> JournalRow:
    detail: dict[str, Any] = {INFERRED: True}
    if isinstance(failure, Mapping):
        detail["failure"] = failure_digest(failure)
    kind: Literal["task", "retry"] = "retry" if atom.kind == "retry" else "task"
    return JournalRow(
        kind, when, flow.uuid, None, atom.uuid, atom.name, before, state, atom.intention, None, None, detail
    )


def _flow_row(flow: FlowRows, before: str | None, state: str | None, when: datetime, *, inferred: bool) -> JournalRow:
    detail = {INFERRED: True} if inferred else {}
    return JournalRow("flow", when, flow.uuid, from_state=before, to_state=state, detail=detail)
