"""Ending an attempt: judged by the policy, written into the journal, told to the board, then to whoever listens."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from taskflow import exceptions as excp
from taskflow.jobs.base import Job

from conductor_console.clock import utcnow
from conductor_console.conductors.backoff import Backoff
from conductor_console.conductors.boards import Ending
from conductor_console.conductors.causes import cause_of
from conductor_console.conductors.dispatch import Host, JobRun
from conductor_console.conductors.stores import StorePort
from conductor_console.errors import BoardUnreachable
from conductor_console.jobboards.attempts import Attempt, AttemptRecord, Cause, make_cause
from conductor_console.jobboards.base import Refused
from conductor_console.text import visible

LOG = logging.getLogger(__name__)

#: Seconds for which a conductor that is to stop asks a board that does not answer to take an ending; after that a
#: thread of its own goes on asking for as long as the claim may stand.
PATIENCE: Final = 15.0
#: Seconds for which a job is held that cannot be moved to the bin.
STUCK_HOLD: Final = 60.0
#: How attempts end of which nobody tells the journal: their conductor died, or was told that it lost its claim.
_UNTOLD: Final = frozenset({"crashed", "revoked", "unknown"})
_EVENTS: Final = {
    "consume": "job_consumed",
    "abandon": "job_abandoned",
    "trash": "job_trashed",
    "delete": "job_deleted",
}


def close_attempt(host: Host, job: Job, run: JobRun, ending: Ending, attempt: int | None, began: float) -> None:
    """Ends the attempt. A job whose claim was lost is left alone; in every other case it is let go.

    :param began: ``time.monotonic()`` at the claim.
    """
    seconds = time.monotonic() - began
    done: Ending | None = None
    if not run.lost:
        done = _done(host, job, _journalled(host, job, run, host.board.judged(job, ending), attempt, seconds))
    if done is not None:
        ending = done
        host.tell(_EVENTS[ending.act], {"job": job, "conductor": host, "persistence": host.store.backend})
    else:
        ending = _lost(host, job)
    host.tell(
        "attempt_closed",
        {
            "job": job,
            "conductor": host,
            "outcome": ending.outcome,
            "error": ending.error,
            "seconds": seconds,
            "flow_uuid": run.flow_uuid,
        },
    )


def _journalled(host: Host, job: Job, run: JobRun, ending: Ending, attempt: int | None, seconds: float) -> Ending:
    """Writes the attempt down before the job goes; a job that cannot be written down is not consumed."""
    detail: dict[str, Any] = {"outcome": ending.outcome, "name": job.name, "seconds": round(seconds, 6)}
    if ending.error is not None:
        detail["error"] = _error(ending.error)
    try:
        host.store.record_attempt(
            at=utcnow(),
            flow_uuid=run.flow_uuid,
            job_uuid=job.uuid,
            conductor=host.name,
            attempt=attempt,
            detail=detail,
        )
    except excp.StorageFailure as error:
        if ending.act == "consume":
            return host.board.judged(job, run.internal(error))
        if ending.act == "delete":
            # It would leave no trace at all.
            return replace(ending, act="abandon", hold=STUCK_HOLD)
        LOG.warning("the end of an attempt at job %s is not in the journal: %s", visible(job.uuid), visible(str(error)))
    return ending


def journal_untold(store: StorePort, job: Job, record: AttemptRecord) -> None:
    """Writes down the attempts that ended without a word in the journal.

    To be called by whoever has the job, and by nobody else at the same time: each is written once then, and one that
    its finder could not write, dying as well, is written by the next.
    """
    untold = [attempt for attempt in record.history if attempt.outcome in _UNTOLD]
    if not untold:
        return
    try:
        told = store.attempts_told(job.uuid)
        for attempt in reversed(untold):
            if attempt.n not in told:
                _journal_past(store, job, attempt)
    except excp.StorageFailure as error:
        LOG.warning("earlier attempts at job %s are not in the journal: %s", visible(job.uuid), visible(str(error)))


def _journal_past(store: StorePort, job: Job, attempt: Attempt) -> None:
    ended = attempt.ended or utcnow()
    detail: dict[str, Any] = {
        "outcome": attempt.outcome,
        "name": job.name,
        "seconds": (ended - attempt.began).total_seconds(),
    }
    if attempt.error is not None:
        detail["error"] = _error(attempt.error)
    store.record_attempt(
        at=ended,
        flow_uuid=attempt.flow,
        job_uuid=job.uuid,
        conductor=attempt.who.rpartition("@")[0] or attempt.who,
        attempt=attempt.n,
        detail=detail,
    )


def _error(cause: Cause) -> Mapping[str, str]:
    return {
        "type": cause.type,
        "message": cause.message,
        "where": cause.where,
        "fingerprint": cause.fingerprint,
    }


def _let_go(host: Host, job: Job, ending: Ending) -> None:
    """The end of an attempt whose conductor did not wait for it."""
    if _done(host, job, ending, patient=True) is not None:
        LOG.warning("job %s was let go at last", visible(job.uuid))


def _done(host: Host, job: Job, ending: Ending, *, patient: bool = False) -> Ending | None:
    """Lets the job go, and tells how; None when it is no longer ours to let go.

    :param patient: whether to go on for as long as the claim may stand, although the conductor is to stop.
    """
    pause = threading.Event()
    backoff = Backoff(first=0.1, most=5.0)
    deadline = None if patient else time.monotonic() + PATIENCE
    while True:
        try:
            host.board.close(job, ending)
            return ending
        except BoardUnreachable as error:
            if host.board.closed or not host.board.holds(job):
                LOG.warning("job %s could not be let go: %s", visible(job.uuid), error)
                return None
            if host.stopping and deadline is not None and time.monotonic() > deadline:
                # Given up, the claim would stand for as long as this process and its session live.
                LOG.warning("job %s is not let go yet, it is tried in the background: %s", visible(job.uuid), error)
                threading.Thread(target=_let_go, args=(host, job, ending), name="letting-go", daemon=True).start()
                return None
            pause.wait(backoff.next())
        except Refused as error:
            if ending.act == "abandon":
                LOG.warning("job %s cannot be let go: %s", visible(job.uuid), error)
                return None
            LOG.warning("job %s is put back, since it cannot go: %s", visible(job.uuid), error)
            if ending.act == "consume":
                # It would come again for ever: one that cannot go is a failure as any other.
                ending = host.board.judged(job, Ending("abandoned", "abandon", ending.error or cause_of(error)))
            else:
                ending = replace(ending, act="abandon", hold=STUCK_HOLD)
        except (excp.JobFailure, excp.NotFound) as error:
            LOG.warning("the claim on job %s was lost: %s", visible(job.uuid), visible(str(error), 500))
            return None


def _lost(host: Host, job: Job) -> Ending:
    try:
        taken = host.board.taken(job)
    except (excp.JobFailure, excp.NotFound):
        taken = False
    if taken:
        return Ending("revoked", "abandon")
    return Ending("crashed", "abandon", make_cause("ClaimLost", "the claim was lost while the job ran"))
