"""What a conductor does to jobs on ZooKeeper: each act is one transaction, and every step of it is checked.

A version alone protects nothing: each fresh lock has version 0, and a claimed job's own node does not change. Hence

* our locks are written once more in the transaction that makes them: they have version 1, one of TaskFlow's has 0,
  and an operator who acts on a claim raises it to 2 at least before deleting it (``zk_operator``);
* whatever is done to a job that nobody holds makes its lock first and deletes it, in the same transaction.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kazoo import exceptions as k_exceptions
from taskflow import exceptions as excp
from taskflow.jobs.base import Job

from conductor_console.errors import BoardUnreachable
from conductor_console.jobboards import attempts
from conductor_console.jobboards.attempts import AttemptRecord, Cause, Outcome, Policy
from conductor_console.jobboards.base import Changed, JobEntry, Refused
from conductor_console.jobboards.common import identity
from conductor_console.jobboards.zk_client import LARGEST_POSTING, StepFailed, as_hex, need_connection
from conductor_console.jobboards.zk_ledger import TRIES, Built, Done, LedgerRequests, name_was_taken
from conductor_console.jobboards.zk_nodes import Ledger, read_lock
from conductor_console.jobboards.zk_requests import called
from conductor_console.text import visible


@dataclass(frozen=True, slots=True)
class Held:
    """A claim of ours. ``ledger`` is the record as we wrote it with the claim; None: uncounted."""

    entry: JobEntry
    owner: str
    czxid: int
    session: int
    version: int
    ledger: Ledger | None

    @property
    def id(self) -> str:
        return as_hex(self.czxid)


class ConductorActs(LedgerRequests):
    """Claiming, and what ends a claim of ours. What was done is shown in the model at once.

    Each raises ``OutcomeUnknown`` when the connection breaks during the transaction.
    """

    def post(self, raw: bytes) -> tuple[str, Any]:
        """Posts these bytes. Returns the node's name and stat.

        :raises BoardUnreachable: there is no board. :raises Refused: it is too big, or the next name is taken.
        """
        if len(raw) > LARGEST_POSTING:
            raise Refused(f"the posting is too big for ZooKeeper: {len(raw):,} bytes, {LARGEST_POSTING:,} at most")
        need_connection(self.client)
        try:
            path, stat = self.client.create(self.paths.posting, value=raw, sequence=True, include_data=True)
        except k_exceptions.NoNodeError as error:
            told = f"there is no board at {self.paths.board}: make it with `conductor-console init`"
            raise BoardUnreachable(told) from error
        except k_exceptions.NodeExistsError as error:
            raise self.next_taken("post") from error
        return path.rpartition("/")[2], stat

    def not_held(self, job: Job, who: str, act: str) -> Exception:
        """Why ``who`` cannot end a claim on the job: NotFound where there is none of theirs, else JobFailure."""
        lock = self.read_lock(job.entry.node)
        what = f"cannot {act} job {called(job)}"
        if lock is None:
            return excp.NotFound(f"{what}: nobody holds it, or it is gone")
        if lock.claim.owner == who:
            return excp.NotFound(f"{what}: it was claimed anew since")
        return excp.JobFailure(f"{what}: {visible(lock.claim.owner, 80)} holds it, not {visible(who)}")

    def claim(self, entry: JobEntry, who: str, unless: Callable[[AttemptRecord], bool] | None) -> Held:
        """Takes a job that nobody holds, and opens its attempt.

        :raises UnclaimableJob: somebody holds it, or ``unless`` turns its record down. :raises NotFound: it is gone.
        :raises Refused: no rights.
        """
        lock = self.paths.lock(entry.node)
        value = json.dumps({"owner": who}).encode()
        moment = self.model.now()

        def build(ledger: Ledger | None) -> Built:
            multi = self.multi().check("job", self.paths.job(entry.node), entry.version)
            multi.create("lock", lock, value, ephemeral=True).write("mark", lock, value, 0)
            if ledger is None:
                return multi, None
            record = attempts.deserted(ledger.record, moment, ledger.open_claim)
            if unless is not None and unless(record):
                raise excp.UnclaimableJob(f"job {visible(entry.key)} is not to be tried now")
            record = attempts.opened(record, identity(who), moment, entry.flow_uuid)
            return self.write(multi, entry.key, ledger, record), record

        began = time.monotonic()
        try:
            done = self.counted(entry.key, build)
        except StepFailed as failed:
            job = visible(entry.key)
            if failed.step == "job" and isinstance(failed.error, k_exceptions.NoNodeError):
                raise excp.NotFound(f"job {job} is gone") from failed
            if failed.step == "lock" and isinstance(failed.error, k_exceptions.NodeExistsError):
                raise excp.UnclaimableJob(f"job {job} is claimed already") from failed
            if failed.step == "job" and isinstance(failed.error, k_exceptions.BadVersionError):
                raise excp.UnclaimableJob(f"job {job} has changed") from failed
            raise self.refused(failed, "claim", entry.name) from failed
        stat = done[0]["mark"]
        self.model.learn_clock(stat.mtime, time.monotonic() - began)
        self.model.locked(entry.node, read_lock(value, stat))
        ledger = self.note(entry.key, done, zxid=stat.czxid)
        return Held(entry, who, stat.czxid, stat.ephemeralOwner, stat.version, ledger)

    def consume(self, held: Held) -> None:
        """Deletes a job of ours with its record. :raises NotFound: the claim or the job is gone."""

        def build(ledger: Ledger | None, version: int) -> Built:
            multi = self.multi().delete("lock", self.paths.lock(held.entry.node), version)
            multi.delete("job", self.paths.job(held.entry.node), held.entry.version)
            return self.forget(multi, held.entry.key, ledger), None

        self._ours(held, "consume", build)
        self.model.removed(held.entry.node)
        self.model.record_gone(held.entry.key)

    def abandon(self, held: Held, outcome: Outcome, error: Cause | None, hold: float) -> None:
        """Lets a job of ours go and closes its attempt. :raises NotFound: the claim is gone."""
        moment = self.model.now()

        def build(ledger: Ledger | None, version: int) -> Built:
            multi, record = self.multi(), None
            if ledger is not None:
                record = attempts.closed(ledger.record, outcome, moment, held.id, error, hold)
                self.write(multi, held.entry.key, ledger, record)
            return multi.delete("lock", self.paths.lock(held.entry.node), version), record

        done = self._ours(held, "abandon", build)
        # The record first: what hears of the release must find the hold.
        self.note(held.entry.key, done)
        self.model.unlocked(held.entry.node, held.czxid)

    def trash(self, held: Held, why: str, outcome: Outcome, error: Cause | None) -> None:
        """Moves a job of ours to the bin and closes its attempt. :raises NotFound: the claim or the job is gone."""
        moment = self.model.now()
        raw, acl = self.posting(held.entry)

        def build(ledger: Ledger | None, version: int) -> Built:
            record = None
            if ledger is not None:
                record = attempts.closed(ledger.record, outcome, moment, held.id, error)
                record = attempts.put_in_bin(record, identity(held.owner), moment, why)
            multi = self.multi().delete("lock", self.paths.lock(held.entry.node), version)
            return self.to_bin(multi, held.entry, self.bin_name(held.entry), raw, acl, ledger, record)

        done = self._ours(held, "trash", build)
        self.note(held.entry.key, done)
        self.model.removed(held.entry.node)

    def _ours(self, held: Held, act: str, build: Callable[[Ledger | None, int], Built]) -> Done:
        """Commits an act on a claim of ours, with the lock's version as it is (an operator may have touched it).

        A successor's claim made by a board of ours has a lock of the same version; what tells the two apart is the
        record's version, so that is never taken from a new reading unless the lock is seen to be ours after it.
        """
        version = held.version
        for _ in range(TRIES):

            def whole(ledger: Ledger | None, version: int = version) -> Built:
                return build(ledger, version)

            try:
                return self.counted(held.entry.key, whole, held.ledger, verify=lambda: self._check(held))
            except StepFailed as failed:
                if failed.step == "lock" and isinstance(failed.error, k_exceptions.BadVersionError):
                    version = self._check(held)
                    continue
                if name_was_taken(failed):
                    continue
                if failed.step in ("lock", "job") and isinstance(failed.error, k_exceptions.NoNodeError):
                    what = "claim on job" if failed.step == "lock" else "job"
                    raise excp.NotFound(f"cannot {act}: the {what} {visible(held.entry.key)} is gone") from failed
                raise self.refused(failed, act, held.entry.name) from failed
        raise Changed(f"cannot {act} job {visible(held.entry.key)}: its lock keeps changing")

    def _check(self, held: Held) -> int:
        """The version of our lock. :raises NotFound: it is not ours any more."""
        stat = self.ask(self.client.exists_async, self.paths.lock(held.entry.node))
        if stat is None or stat.czxid != held.czxid:
            raise excp.NotFound(f"the claim on job {visible(held.entry.key)} is gone: another has it now, or nobody")
        version: int = stat.version
        return version

    def settle(self, entry: JobEntry, policy: Policy, *, excused: bool = False) -> AttemptRecord:
        """Closes an attempt that a dead process left open, with the hold that follows; writes only where there is one.

        :raises UnclaimableJob: somebody holds the job. :raises NotFound: it is gone.
        """
        ledger = self.read_ledger(entry.key)
        if ledger.record.open_attempt is None:
            if self.read_lock(entry.node) is not None:
                raise excp.UnclaimableJob(f"job {visible(entry.key)} is claimed")
            self.need_job(entry)
            return ledger.record
        moment = self.model.now()
        settled = attempts.deserted(ledger.record, moment, ledger.open_claim, policy, excused)

        def build(ledger: Ledger | None) -> Built:
            multi = self.while_free(self.multi().check("job", self.paths.job(entry.node), entry.version), entry)
            if ledger is None:
                return multi, None
            record = attempts.deserted(ledger.record, moment, ledger.open_claim, policy, excused)
            return self.write(multi, entry.key, ledger, record), record

        try:
            done = self.counted(entry.key, build, ledger)
        except StepFailed as failed:
            if failed.step == "free" and isinstance(failed.error, k_exceptions.NodeExistsError):
                raise excp.UnclaimableJob(f"job {visible(entry.key)} is claimed") from failed
            raise self.refused(failed, "settle", entry.name) from failed
        self.note(entry.key, done)
        return settled if done[2] is None else done[2]
