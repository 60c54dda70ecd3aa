"""Each atom's lane: the bars to draw for it, and what state it is in wherever the player stands."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from taskflow import states

from conductor_console.persistence.journal import JournalRow
from conductor_console.replay.tape import AtomTrack, Tape, atom_key, is_inferred
from conductor_console.replay.words import BROKEN, only_intends, state_word

SegmentKind = Literal["ran", "failed", "reverting", "reverted"]
Standing = Literal["pending", "running", "done", "failed", "reverting", "reverted", "other"]


@dataclass(frozen=True, slots=True)
class Segment:
    """One bar. ``began`` and ``ended`` are seconds from the tape's start, ``began <= ended``.

    :ivar kind: ``reverting`` is a revert that did not come to its good end.
    :ivar first: index of the row that began it; ``last`` of the one that ended it, None when nothing did: the tape
        ended first, or the conductor died.
    """

    began: float
    ended: float
    kind: SegmentKind
    first: int
    last: int | None
    inferred: bool


@dataclass(frozen=True, slots=True)
class Lane:
    """An atom's bars, oldest first, and the indexes of its changes of state and of those that are failures."""

    flow_uuid: str
    atom: AtomTrack
    segments: tuple[Segment, ...]
    changes: tuple[int, ...]
    failures: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Boundary:
    """Where an attempt of a flow begins: at row ``index``, ``at`` seconds from the tape's start."""

    index: int
    at: float
    flow_uuid: str | None
    attempt: int
    conductor: str | None


@dataclass(frozen=True, slots=True)
class AtomAt:
    """An atom as it was at some row of the tape.

    :ivar word: the state as it is said; ``since`` seconds from the tape's start, None when it has none yet.
    :ivar tries: how often it began to run until then; ``failure``: index of the row of the failure it stands in.
    """

    atom: AtomTrack
    standing: Standing
    word: str
    since: float | None = None
    tries: int = 0
    failure: int | None = None


_STANDINGS: Final[dict[str | None, Standing]] = {
    None: "pending",
    states.PENDING: "pending",
    states.RUNNING: "running",
    states.RETRYING: "running",
    states.SUCCESS: "done",
    states.FAILURE: "failed",
    states.REVERT_FAILURE: "failed",
    states.REVERTING: "reverting",
    states.REVERTED: "reverted",
}
#: A flow that goes from one of these to work again is in a new attempt.
_AT_REST: Final = frozenset({states.SUSPENDED, states.FAILURE, states.REVERTED, states.SUCCESS})


def boundaries(tape: Tape) -> tuple[Boundary, ...]:
    """Where each attempt after a flow's first begins; also where only a flow's own states tell of a resumption."""
    found: list[Boundary] = []
    current: dict[str | None, int] = {}
    resuming: set[str | None] = set()
    for index, row in enumerate(tape.rows):
        flow = row.flow_uuid
        if row.kind == "operator":
            continue
        if row.attempt is not None:
            begins = flow in current and row.attempt != current[flow]
            number = row.attempt
        else:
            begins = flow not in resuming and _resumes(row)
            number = current.get(flow, 1) + (1 if begins else 0)
            if begins:
                resuming.add(flow)
        if row.kind == "flow" and row.to_state == states.RUNNING:
            resuming.discard(flow)
        if begins:
            found.append(Boundary(index, tape.offsets[index], flow, number, row.conductor))
        if row.attempt is not None or row.kind == "flow":
            current[flow] = number
    return tuple(found)


def _resumes(row: JournalRow) -> bool:
    if row.kind != "flow":
        return False
    return row.to_state == states.RESUMING or (
        row.from_state in _AT_REST and row.to_state in (states.RUNNING, states.PENDING)
    )


def lanes_of(tape: Tape, starts: Sequence[Boundary]) -> tuple[Lane, ...]:
    """A lane for each atom, flow by flow, in the order in which the atoms first did something; idle ones last.

    :param starts: the tape's :func:`boundaries`; a bar does not reach into the next attempt.
    """
    changes: dict[tuple[str | None, str], list[int]] = {}
    for index, row in enumerate(tape.rows):
        if row.kind in ("task", "retry") and not only_intends(row):
            changes.setdefault((row.flow_uuid, atom_key(row)), []).append(index)
    lanes: list[Lane] = []
    for flow in tape.flows:
        begins = [start for start in starts if start.flow_uuid == flow.uuid]
        own = [_lane(tape, flow.uuid, atom, changes.get((flow.uuid, atom.uuid), []), begins) for atom in flow.atoms]
        own.sort(key=lambda lane: lane.segments[0].first if lane.segments else len(tape.rows))
        lanes += own
    return tuple(lanes)


def _lane(tape: Tape, flow_uuid: str, atom: AtomTrack, changes: list[int], starts: Sequence[Boundary]) -> Lane:
    segments: list[Segment] = []
    opened: int | None = None
    for index in changes:
        state = tape.rows[index].to_state
        if opened is not None:
            segments.append(_segment(tape, opened, index, starts))
        elif state in BROKEN or state in (states.SUCCESS, states.REVERTED):
            segments.append(_segment(tape, index, index, starts))  # the log tells its end, and not its beginning
        opened = index if state in (states.RUNNING, states.REVERTING) else None
    if opened is not None:
        segments.append(_segment(tape, opened, None, starts))
    failures = tuple(index for index in changes if tape.rows[index].to_state in BROKEN)
    return Lane(flow_uuid, atom, tuple(segments), tuple(changes), failures)


def _segment(tape: Tape, first: int, last: int | None, starts: Sequence[Boundary]) -> Segment:
    # What ran when its conductor died is cut off where the next attempt begins.
    cut = next((start for start in starts if first < start.index and (last is None or start.index <= last)), None)
    if cut is not None:
        last = None
    ended = cut.at if cut is not None else tape.length if last is None else tape.offsets[last]
    inferred = is_inferred(tape.rows[first]) or (last is not None and is_inferred(tape.rows[last]))
    begun = tape.rows[first].to_state
    end = tape.rows[last].to_state if last is not None else None
    kind: SegmentKind
    if begun in (states.REVERTING, states.REVERTED, states.REVERT_FAILURE):
        kind = "reverted" if end == states.REVERTED else "reverting"
    else:
        kind = "failed" if end == states.FAILURE else "ran"
    return Segment(tape.offsets[first], ended, kind, first, last, inferred)


def atom_at(tape: Tape, lane: Lane, index: int) -> AtomAt:
    """The lane's atom as it was just after row ``index`` (below 0: before anything)."""
    seen = lane.changes[: bisect_right(lane.changes, index)]
    if not seen:
        return AtomAt(lane.atom, "pending", state_word(None))
    row = tape.rows[seen[-1]]
    state = row.to_state
    standing = _STANDINGS.get(state, "other")
    word = state_word(state)
    tries = sum(1 for change in seen if tape.rows[change].to_state == states.RUNNING)
    failure = _failure(tape, seen)
    if standing == "reverted" and failure is not None:
        standing, word = "failed", state_word(states.FAILURE)  # an atom that failed and was then reverted: failed
    if lane.atom.kind == "retry" and tries > 1 and standing in ("running", "done"):
        word = f"retry {tries}"
    return AtomAt(lane.atom, standing, word, tape.offsets[seen[-1]], tries, failure)


def _failure(tape: Tape, seen: Sequence[int]) -> int | None:
    """The failure that still counts: one that no later try took back."""
    for change in reversed(seen):
        state = tape.rows[change].to_state
        if state in BROKEN:
            return change
        if state in (None, states.PENDING, states.RUNNING, states.SUCCESS):
            return None
    return None
