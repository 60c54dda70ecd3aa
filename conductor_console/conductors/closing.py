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
from conductor_console.conductors.boards import Ending
from conductor_console.conductors.causes import cause_of
from conductor_console.conductors.dispatch import Host, JobRun
from conductor_console.conductors.stores import StorePort
from conductor_console.errors import BoardUnreachable
from conductor_console.jobboards.attempts import Attempt, Cause, make_cause
from conductor_console.jobboards.base import Refused
from conductor_console.text import visible

LOG = logging.getLogger(__name__)

#: Seconds for which a conductor that is to stop asks a board that does not answer to take an ending; after that the
#: claim ends with its session. One that goes on asks for as long as the claim may stand.
PATIENCE: Final = 60.0
_EVENTS: Final = {"consume": "job_consumed", "abandon": "job_abandoned", "trash": "job_trashed"}


class Backoff:
    """Waits that double, up to a bound (seconds)."""

    def __init__(self, first: float = 0.2, most: float = 15.0) -> None:
        self._first = first
        self._most = most
        self._next = first

    def next(self) -> float:
        wait, self._next = self._next, min(self._most, self._next * 2)
        return wait

    def reset(self) -> None:
        self._next = self._first


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
        LOG.warning("the end of an attempt at job %s is not in the journal: %s", visible(job.uuid), visible(str(error)))
    return ending


def journal_crash(store: StorePort, job: Job, attempt: Attempt) -> None:
    """Writes down an attempt whose process died before it could; told by whoever finds the job."""
    ended = attempt.ended or utcnow()
    detail: dict[str, Any] = {
        "outcome": "crashed",
        "name": job.name,
        "seconds": (ended - attempt.began).total_seconds(),
    }
    if attempt.error is not None:
        detail["error"] = _error(attempt.error)
    try:
        store.record_attempt(
            at=ended,
            flow_uuid=attempt.flow,
            job_uuid=job.uuid,
            conductor=attempt.who.rpartition("@")[0] or attempt.who,
            attempt=attempt.n,
            detail=detail,
        )
    except excp.StorageFailure as error:
        LOG.warning("a crashed attempt at job %s is not in the journal: %s", visible(job.uuid), visible(str(error)))


def _error(cause: Cause) -> Mapping[str, str]:
    return {
        "type": cause.type,
        "message": cause.message,
        "where": cause.where,
        "fingerprint": cause.fingerprint,
    }


def _done(host: Host, job: Job, ending: Ending) -> Ending | None:
    """Lets the job go, and tells how; None when it is no longer ours to let go."""
    pause = threading.Event()
    backoff = Backoff(first=0.1, most=5.0)
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            host.board.close(job, ending)
            return ending
        except BoardUnreachable as error:
            # Given up, the claim would stand for as long as the process and its session live, and nobody have the job.
            if not host.board.holds(job) or (host.stopping and time.monotonic() > deadline):
                LOG.warning("job %s could not be let go: %s", visible(job.uuid), error)
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
                ending = replace(ending, act="abandon", hold=PATIENCE)
        except (excp.JobFailure, excp.NotFound) as error:
            LOG.warning("the claim on job %s was lost: %s", visible(job.uuid), visible(str(error), 500))
            return None


def _lost(host: Host, job: Job) -> Ending:
    try:
        taken = host.board.left(job)
    except (excp.JobFailure, excp.NotFound):
        taken = False
    if taken:
        return Ending("revoked", "abandon")
    return Ending("crashed", "abandon", make_cause("ClaimLost", "the claim was lost while the job ran"))
