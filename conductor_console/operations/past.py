"""Jobs that are gone, as the audit trail or the flow log knows them, and their posting again as new jobs."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from taskflow import exceptions as excp
from taskflow import states
from taskflow.jobs.base import JobPriority

from conductor_console.clock import iso
from conductor_console.errors import ConsoleError, UsageError
from conductor_console.jobboards.base import Gone, JobEntry, LedgerBoard
from conductor_console.operations import again
from conductor_console.operations.audit import Audit, FileAudit, StoreAudit
from conductor_console.operations.audited import Audited, Result
from conductor_console.operations.course import Course
from conductor_console.operations.undo import held, post_again
from conductor_console.persistence.audit import AuditRow
from conductor_console.text import visible

#: Acts of one job that are looked at, and of a board where the last deletions are looked for.
_ONE: Final = 10_000
_ALL: Final = 20_000
#: Shorter than this a beginning of a uuid means nothing.
_PREFIX: Final = 4
#: Deletions that are no farther from each other belong together.
_TOGETHER: Final = timedelta(seconds=10)
_LEAVING: Final = frozenset({"delete", "purge"})
_AGAIN: Final = "post again"


@dataclass(frozen=True, slots=True)
class Past:
    """A job that is gone and can be posted again.

    :ivar entry: as it was posted; its node, version and time say nothing any more.
    :ivar told: how it left, one clean line: ``deleted by anna@ops-1, 2026-01-01T00:00:00Z``.
    :ivar cautions: what speaks against posting it again, for a person to answer; a clean line each.
    :ivar trail: where it is told of, and where its posting again is to be.
    """

    entry: JobEntry
    told: str
    cautions: tuple[str, ...] = ()
    trail: Audit | None = None


class PastActs:
    """The part of :class:`~.acts.Operations` that knows of jobs that are gone."""

    _board: LedgerBoard
    _store: Any
    _operator: str
    _title: str
    _audited: Audited
    _read_only: bool

    def past(self, uuid: str, supplied: Mapping[str, Any] | None = None) -> Past:
        """A job that is gone, by its uuid or a beginning of it that means no other.

        Looked for in the audit trails that can be read from here (the store's, the local file), then in the store's
        flow log. Nothing is written.

        :param supplied: those of its details that the audit has masked, nested as they were.
        :raises Gone: when nothing is known of it. :raises UsageError: when ``uuid`` means several jobs, or ``supplied``
            holds more than what was masked. :raises ConsoleError: when it is not gone, or not enough of it is known.
        """
        if len(uuid) < _PREFIX:
            raise UsageError(f"{visible(uuid, 40)!r} is too short: give {_PREFIX} characters of a uuid at least")
        rows = self._acts_on(uuid)
        uuids = {str(row.job_uuid) for _, row in rows}
        if uuid in uuids:
            rows = [(trail, row) for trail, row in rows if row.job_uuid == uuid]
        elif len(uuids) > 1:
            raise UsageError(f"{visible(uuid, 40)!r} is the beginning of {len(uuids)} jobs' uuids: give more of it")
        elif uuids:
            (uuid,) = uuids
        self._board.refresh()
        self._require_gone(uuid)
        return self._of_audit(rows, supplied or {}) or self._of_journal(uuid, rows, supplied or {})

    def deleted_before(self) -> list[Past]:
        """What this operator deleted last on this board, as the audit trail of this console tells, newest first.

        Deletions that came within seconds of each other belong together; left out is what was posted again since, what
        is back on the board, and what not enough is known of.

        :raises ConsoleError, StorageFailure: when the audit trail or the board cannot be read.
        """
        trail = self._audited.trail
        rows = trail.read(_ALL)
        self._board.refresh()
        known = self._board.listing()
        seen: set[str] = set()
        found: list[Past] = []
        last: datetime | None = None
        for row in rows:
            uuid = str(row.job_uuid)
            if row.action == _AGAIN and _done(row):
                seen.add(uuid)
            if row.action != "delete" or not _done(row) or row.operator != self._operator or row.board != self._title:
                continue
            if uuid in seen or uuid in known.jobs or uuid in known.binned:
                continue
            seen.add(uuid)
            if last is not None and abs(last - row.at) > _TOGETHER:
                break
            with contextlib.suppress(ConsoleError):
                found.append(self._made(row, [row], trail, {}))
                last = row.at
        return found

    def post_again(self, pasts: Sequence[Past], course: Course | None = None) -> list[Result]:
        """Posts jobs that are gone again, as new ones, whatever their cautions say. Audited where they were told of."""
        act = functools.partial(post_again, self._board)
        own = self._audited.trail if any(past.trail is None for past in pasts) else None
        trails = {id(past.trail or own): past.trail or own for past in pasts}
        came: dict[str, Result] = {}
        for trail in trails.values():
            those = [past.entry for past in pasts if (past.trail or own) is trail]
            audited = Audited(self._operator, self._title, self._store, trail, read_only=self._read_only)
            came |= {result.key: result for result in audited.each(_AGAIN, those, act, course=course)}
        return [came[past.entry.key] for past in pasts]

    # -- how it is found -----------------------------------------------------------------------------------------------
    def _trails(self) -> Iterator[Audit]:
        """Every audit trail that can be read from here, this console's own first."""
        own = self._audited.trail
        yield own
        if not isinstance(own, FileAudit):
            yield FileAudit()
        if not isinstance(own, StoreAudit) and getattr(self._store, "has_audit", False):
            yield StoreAudit(self._store)

    def _acts_on(self, uuid: str) -> list[tuple[Audit, AuditRow]]:
        """All that was done to jobs whose uuid begins so, newest first."""
        found = [(trail, row) for trail in self._trails() for row in trail.read(_ONE, uuid)]
        # A database may take a pattern's letters for each other.
        found = [(trail, row) for trail, row in found if str(row.job_uuid).startswith(uuid)]
        # Trails are in order by themselves, and times of one are not exact enough to change it.
        return sorted(found, key=lambda one: one[1].at, reverse=True)

    def _require_gone(self, uuid: str) -> None:
        known = self._board.listing()
        if uuid in known.jobs:
            raise ConsoleError(f"{uuid} is on the board: nothing to post again")
        if uuid in known.binned:
            raise ConsoleError(f"{uuid} lies in the bin: jobs restore BOARD {uuid} brings it back")

    def _of_audit(self, rows: Sequence[tuple[Audit, AuditRow]], supplied: Mapping[str, Any]) -> Past | None:
        told = [(trail, row) for trail, row in rows if again.told_of(row)]
        if not told:
            return None
        acts = [row for _, row in rows]
        left = next((one for one in told if one[1].action in _LEAVING and _done(one[1])), told[0])
        return self._made(left[1], acts, left[0], supplied)

    def _made(self, row: AuditRow, acts: Sequence[AuditRow], trail: Audit, supplied: Mapping[str, Any]) -> Past:
        """:param row: what tells of its posting. ``acts``: all that was done to it, newest first.

        :raises ConsoleError: when not enough is known of it.
        """
        entry = again.posting(row)
        entry = again.unmasked(entry, again.places(row), supplied)
        entry, cautions = self._with_book(entry)
        return Past(entry, _left(acts), (*_history(acts, self._title), *cautions), trail)

    def _of_journal(self, uuid: str, rows: Sequence[tuple[Audit, AuditRow]], supplied: Mapping[str, Any]) -> Past:
        """What the flow log knows: the job's name and its flow, as conductors of ours write them down."""
        journal = getattr(self._store, "journal", None)
        attempts = [one for one in journal(job_uuid=uuid) if one.kind == "attempt"] if journal is not None else []
        if rows and not attempts:
            raise ConsoleError(f"the audit does not tell what {uuid} was, an older version wrote it: {again.BY_HAND}")
        if not attempts:
            where = "the audit" if self._store is not None else "the local audit file: --store URL looks there as well"
            raise Gone(f"no job {visible(uuid, 80)} in {where}")
        if supplied:
            raise UsageError(f"nothing of {uuid} was masked, so nothing can be given")
        last = attempts[-1]
        name = last.detail.get("name")
        flow = self._flow(last.flow_uuid)
        if flow is None or flow.book_uuid is None or not isinstance(name, str):
            raise ConsoleError(f"the flow of {uuid} is not in the store any more: {again.BY_HAND}")
        entry = JobEntry(
            key=uuid,
            node="",
            uuid=uuid,
            name=name,
            priority=JobPriority.NORMAL,
            created_at=last.at,
            details={"flow_uuid": flow.uuid},
            book_uuid=flow.book_uuid,
            book_name=flow.book_name,
        )
        entry, cautions = self._with_book(entry)
        acts = [row for _, row in rows]
        outcome = visible(str(last.detail.get("outcome")), 40)
        unknown = "only the flow log knows it: priority NORMAL, and no details but its flow"
        again_ = tuple(one for one in _history(acts, self._title) if acts and one != _UNTOLD)
        return Past(entry, f"{outcome} by {visible(last.conductor, 80)}, {iso(last.at)}", (*again_, unknown, *cautions))

    def _flow(self, flow_uuid: str | None) -> Any:
        try:
            return None if flow_uuid is None else self._store.flow_rows(flow_uuid)
        except excp.NotFound:
            return None

    def _with_book(self, entry: JobEntry) -> tuple[JobEntry, tuple[str, ...]]:
        """The job with its logbook's name, and what the store has against it.

        :raises ConsoleError: when the name is not known and cannot be asked for.
        """
        if entry.book_uuid is None:
            return entry, ()
        if self._store is None:
            if entry.book_name is None:
                raise ConsoleError(f"the audit does not tell the name of the logbook of {entry.uuid}: add --store URL")
            return entry, ()
        with contextlib.closing(self._store.get_connection()) as connection:
            try:
                name = connection.get_logbook(entry.book_uuid, lazy=True).name
            except excp.NotFound:
                gone = f"its logbook {visible(entry.book_uuid, 80)} is not in the store: a conductor would bin it"
                return replace(entry, book_name=entry.book_name or ""), (gone,)
            entry = replace(entry, book_name=entry.book_name or name)
            if entry.flow_uuid is None:
                return entry, ()
            try:
                state = connection.get_flow_details(entry.flow_uuid, lazy=True).state
            except excp.NotFound:
                return entry, (
                    f"its flow {visible(entry.flow_uuid, 80)} is not in the store: a conductor would bin it",
                )
        if state == states.SUCCESS:
            return entry, ("its flow ended well (SUCCESS): whoever takes it finds nothing left to do",)
        return entry, ()


_UNTOLD: Final = "no deletion of it is told: it was consumed, or removed by another hand"


def _done(row: AuditRow) -> bool:
    """Whether an act was done, or may have been: one whose process died in it tells nothing."""
    return row.outcome is None or row.outcome.partition(":")[0] == "done"


def _left(acts: Sequence[AuditRow]) -> str:
    """How a job left its board."""
    row = next((one for one in acts if one.action in _LEAVING and _done(one)), None)
    if row is None:
        return "not known how it left"
    return f"{row.action}d by {visible(row.operator, 80)}, {iso(row.at)}"


def _history(acts: Sequence[AuditRow], title: str) -> Iterator[str]:
    """What its past has against posting it again."""
    posted = next((one for one in acts if one.action == _AGAIN and _done(one)), None)
    if posted is not None:
        outcome = (posted.outcome or "done: not known whether it was").partition(": ")[2]
        what = visible(outcome or "posted again", 120)
        yield f"{what}, already: by {visible(posted.operator, 80)}, {iso(posted.at)}"
    left = next((one for one in acts if one.action in _LEAVING and _done(one)), None)
    if left is None:
        yield _UNTOLD
        left = acts[0] if acts else None
    elif isinstance(claim := left.before.get("claim"), dict):
        yield held(str(claim.get("owner")))
    if left is not None and left.board != title:
        yield f"it was on another board, {visible(left.board, 80)}"
