"""The tape: what a flow did, in order, from the store's journal, or rebuilt from its rows where there is none.

A tape is data only; :mod:`~conductor_console.replay.player` stands on it, :mod:`~conductor_console.replay.lanes`
draws each atom's bars from it. Texts on it are the store's own and must go through :func:`text.visible` to be shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Final, Protocol

from taskflow import exceptions as taskflow_exceptions

from conductor_console.errors import ConsoleError, UsageError
from conductor_console.persistence.journal import JournalRow
from conductor_console.persistence.rows import FlowRows
from conductor_console.replay.rebuild import INFERRED, amend, rebuild
from conductor_console.settings import short_store
from conductor_console.text import visible

#: A clock that goes back by more than this is told; less is two threads stamping their rows.
CLOCK_JUMP: Final = timedelta(seconds=1)


class TapeStore(Protocol):
    """What a tape is read from; the SQL store is one."""

    @property
    def url(self) -> str: ...
    @property
    def has_journal(self) -> bool: ...
    def check(self) -> None: ...
    def resolve(self, uuid: str) -> list[str]: ...
    def flow_rows(self, flow_uuid: str) -> FlowRows: ...
    def journal(
        self, *, flow_uuid: str | None = None, job_uuid: str | None = None, after: int = 0, limit: int | None = None
    ) -> list[JournalRow]: ...


@dataclass(frozen=True, slots=True)
class AtomTrack:
    """An atom of a flow on the tape; ``kind`` is ``task`` or ``retry``."""

    uuid: str
    name: str
    kind: str


@dataclass(frozen=True, slots=True)
class FlowTrack:
    """A flow on the tape. ``state`` is its state in the store when the tape was made (None: it never ran)."""

    uuid: str
    name: str
    state: str | None
    atoms: tuple[AtomTrack, ...]


@dataclass(frozen=True)
class Tape:
    """What happened to some flows.

    :ivar source: the store it came from, fit to show. ``book`` is the logbook's name.
    :ivar rows: in the order they happened. A row whose time nobody wrote down has ``detail["inferred"]`` true.
    :ivar complete: the journal told everything, nothing is inferred.
    :ivar began: the first row's time (of a flow that did nothing yet: when it was made); ``ended`` the last one's.
    """

    source: str
    book: str
    flows: tuple[FlowTrack, ...]
    rows: tuple[JournalRow, ...]
    complete: bool
    began: datetime
    ended: datetime

    @cached_property
    def offsets(self) -> tuple[float, ...]:
        """Each row's distance from the first in seconds, never decreasing.

        A clock that was set back (or another host's) does not reorder anything: that step counts as no time at all,
        and the steps after it keep their true lengths.
        """
        zero = timedelta(0)
        steps = (max(zero, two.at - one.at) for one, two in pairwise(self.rows))
        return tuple(whole.total_seconds() for whole in accumulate(steps, initial=zero)) if self.rows else ()

    @property
    def length(self) -> float:
        """Seconds from the first row to the last."""
        return self.offsets[-1] if self.rows else 0.0

    @cached_property
    def inferred(self) -> int:
        """How many rows' times are inferred."""
        return sum(1 for row in self.rows if is_inferred(row))

    @cached_property
    def clock_jumps(self) -> int:
        """How often the clock went back from one row to the next."""
        return sum(1 for one, two in pairwise(self.rows) if one.at - two.at > CLOCK_JUMP)

    @property
    def name(self) -> str:
        """The flow's name, or the book's when there are several."""
        return self.flows[0].name if len(self.flows) == 1 else self.book


def is_inferred(row: JournalRow) -> bool:
    """Whether the row's time was inferred rather than written down."""
    return bool(row.detail.get(INFERRED))


def ordered(rows: Iterable[JournalRow]) -> tuple[JournalRow, ...]:
    """Rows in the order they happened.

    ``seq`` tells it where every row has one: a flow is one conductor's at a time, which appends in order, while its
    clock may jump. Else the time does.
    """
    kept = list(rows)
    if all(row.seq > 0 for row in kept):
        return tuple(sorted(kept, key=lambda row: row.seq))
    return tuple(sorted(kept, key=lambda row: row.at))


def make_tape(source: str, flows: Sequence[FlowRows], journal: Sequence[JournalRow]) -> Tape:
    """A tape of ``flows``; of those without a row in ``journal`` the events are rebuilt from their rows.

    ``flows`` must have been read before ``journal``: what is newer in the journal is then no contradiction.
    :raises ValueError: when both are empty.
    """
    rows: list[JournalRow] = list(journal)
    logged = {row.flow_uuid for row in journal if row.kind in ("flow", "task", "retry")}
    for flow in flows:
        if flow.uuid in logged:
            rows += amend(flow, [row for row in journal if row.flow_uuid == flow.uuid])
        else:
            rows += rebuild(flow)
    placed = ordered(rows)
    times = [row.at for row in placed] or [flow.created_at for flow in flows if flow.created_at is not None]
    if not times:
        raise ValueError("no flow and no row: there is nothing to make a tape of")
    return Tape(
        source=source,
        book=next((flow.book_name for flow in flows if flow.book_name), ""),
        flows=_tracks(flows, journal),
        rows=placed,
        complete=bool(logged) and all(flow.uuid in logged for flow in flows) and not any(map(is_inferred, placed)),
        began=times[0],
        ended=times[-1],
    )


def _tracks(flows: Sequence[FlowRows], journal: Sequence[JournalRow]) -> tuple[FlowTrack, ...]:
    """The flows with their atoms; what only the journal knows (deleted since, or not yet read) is added."""
    known: dict[str, dict[str, AtomTrack]] = {}
    for row in journal:
        if row.flow_uuid is not None:
            atoms = known.setdefault(row.flow_uuid, {})
            if row.kind in ("task", "retry"):
                track = AtomTrack(atom_key(row), row.atom_name or "", row.kind)
                atoms.setdefault(track.uuid, track)
    tracks = []
    for flow in flows:
        own = {atom.uuid: AtomTrack(atom.uuid, atom.name, atom.kind) for atom in flow.atoms}
        atoms = own | {key: track for key, track in known.pop(flow.uuid, {}).items() if key not in own}
        tracks.append(FlowTrack(flow.uuid, flow.name, flow.state, tuple(atoms.values())))
    tracks += [FlowTrack(uuid, uuid, None, tuple(atoms.values())) for uuid, atoms in known.items()]
    return tuple(tracks)


def atom_key(row: JournalRow) -> str:
    """What tells one atom of a flow from another: its uuid, its name where there is none."""
    return row.atom_uuid or row.atom_name or ""


def load(store: TapeStore, uuid: str) -> Tape:
    """The tape of a flow, of a logbook's flows, or of a job's.

    :raises UsageError: when ``uuid`` is empty.
    :raises ConsoleError: when the store knows nothing by that uuid; one line that tells what was looked for.
    :raises StoreUnreachable: when the store does not answer or has no tables.
    """
    if not uuid.strip():
        raise UsageError("a replay needs the uuid of a flow, a logbook or a job")
    store.check()
    flows: list[FlowRows] = []
    for flow_uuid in store.resolve(uuid):
        try:
            flows.append(store.flow_rows(flow_uuid))
        except taskflow_exceptions.NotFound:
            continue  # deleted between the two reads
    rows = _journal(store, uuid, flows) if store.has_journal else []
    if not flows and not rows:
        raise ConsoleError(f"no flow, logbook or job {visible(uuid, 80)!r} in {short_store(store.url)}")
    return make_tape(store.url, flows, rows)


def _journal(store: TapeStore, uuid: str, flows: Sequence[FlowRows]) -> list[JournalRow]:
    """The rows of the job ``uuid``, of the flows, and what is told of the flows' jobs alone (an operator's acts)."""
    found = {row.seq: row for row in store.journal(job_uuid=uuid)}
    for flow in flows:
        found |= {row.seq: row for row in store.journal(flow_uuid=flow.uuid)}
    for job_uuid in {row.job_uuid for row in found.values() if row.job_uuid not in (None, uuid)}:
        found |= {row.seq: row for row in store.journal(job_uuid=job_uuid) if row.flow_uuid is None}
    return list(found.values())
