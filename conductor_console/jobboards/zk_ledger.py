"""The attempt ledger in ZooKeeper: written in the transactions of the acts, never in their way.

On a conflict a record is read again; where there are no rights to write it, the act goes on *uncounted*, and the
board's listing tells why.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from kazoo import exceptions as k_exceptions

from conductor_console.jobboards import attempts
from conductor_console.jobboards.attempts import Attempt, AttemptRecord
from conductor_console.jobboards.base import BinEntry, Claim, JobEntry
from conductor_console.jobboards.zk_client import NO_RIGHTS, Multi, StepFailed, describe
from conductor_console.jobboards.zk_nodes import Ledger, read_record
from conductor_console.jobboards.zk_paths import split_children
from conductor_console.jobboards.zk_requests import CONFLICTS, Requests

#: How often an act is tried again when it meets a conflict.
TRIES: Final = 6

#: A transaction, and the record that it writes (None: it writes none).
Built = tuple[Multi, AttemptRecord | None]
#: A transaction's results, the record as it was found (None: uncounted), and the one that was written.
Done = tuple[dict[str, Any], Ledger | None, AttemptRecord | None]


def name_was_taken(failed: StepFailed) -> bool:
    """Whether somebody took the name in the bin meanwhile: another is to be tried."""
    return failed.step == "bin" and isinstance(failed.error, k_exceptions.NodeExistsError)


class LedgerRequests(Requests):
    """Requests and transactions that count."""

    def read_ledger(self, key: str) -> Ledger:
        """A job's record as it lies on the board now; an empty one where there is none."""
        try:
            raw, stat = self.ask(self.client.get_async, self.paths.record(key))
        except k_exceptions.NoNodeError:
            return Ledger(AttemptRecord(job=key))
        return read_record(raw, key, stat)

    def counted(
        self,
        key: str,
        build: Callable[[Ledger | None], Built],
        ledger: Ledger | None = None,
        verify: Callable[[], object] = lambda: None,
    ) -> Done:
        """Commits what ``build`` makes of the job's record as it is; None: without a record.

        :param build: called once for each try; its step that touches the record is named ``record``.
        :param ledger: the record as far as it is known; read again when that turns out to be old.
        :param verify: called each time the record was read again, before the next try: raises where the act must not
            be tried any more. What changes after it changes the record too, and makes that try fail.
        :raises StepFailed: another step failed.
        """
        if not self.model.uncounted_at(key):
            ledger = ledger or self.model.ledger(key)
            for _ in range(TRIES):
                multi, record = build(ledger)
                try:
                    return self._commit_counted(multi), ledger, record
                except StepFailed as failed:
                    if failed.step != "record":
                        raise
                    self._make_way(failed, key, ledger)
                if self.model.uncounted_at(key):
                    break
                try:
                    ledger = self.read_ledger(key)
                except NO_RIGHTS:
                    self.model.bar(key)
                    break
                verify()
        verify()
        multi, _ = build(None)
        return self._commit_counted(multi), None, None

    def _commit_counted(self, multi: Multi) -> dict[str, Any]:
        return self.counted_in(multi.commit())

    def counted_in(self, results: dict[str, Any]) -> dict[str, Any]:
        """A transaction's results; what it made and took away at once is no claim that nobody saw."""
        if "freed" in results:
            self.model.creations.came_and_went()
        return results

    def _make_way(self, failed: StepFailed, key: str, ledger: Ledger) -> None:
        """A record could not be written: makes its folder where that is missing, or notes what stays uncounted."""
        if isinstance(failed.error, k_exceptions.NoNodeError) and ledger.version is None:
            try:
                self.ensure_folder(self.paths.attempts)
            except NO_RIGHTS:
                self.model.set_uncounted(f"no rights to make {self.paths.attempts}")
        elif isinstance(failed.error, NO_RIGHTS):
            if ledger.version is None:
                self.model.set_uncounted(f"no rights to write the ledger at {self.paths.attempts}")
            else:
                self.model.bar(key)
        elif not isinstance(failed.error, CONFLICTS):
            self.model.set_uncounted(f"the ledger cannot be written: {describe(failed.error)}")

    def write(self, multi: Multi, key: str, ledger: Ledger, record: AttemptRecord, value: bytes | None = None) -> Multi:
        """The step that writes a record in the place of ``ledger``; ``value`` is its JSON, where that is known."""
        value = value or attempts.to_json(record)
        if ledger.version is None:
            return multi.create("record", self.paths.record(key), value)
        return multi.write("record", self.paths.record(key), value, ledger.version)

    def fitting(self, multi: Multi, record: AttemptRecord, key: str) -> tuple[AttemptRecord, bytes] | None:
        """The record, cut where it is too much for this request, and its JSON; None where not even its newest attempt
        fits in.

        It stays as it is then: one that says less is better than a job that cannot be moved.
        """
        room = multi.room(self.paths.record(key))
        value = attempts.to_json(record)
        if len(value) > room:
            record = attempts.shrunk(record, room)
            value = attempts.to_json(record)
        return (record, value) if len(value) <= room else None

    def absent(self, multi: Multi, key: str) -> Multi:
        """Two steps that fail where there is a record after all: one may have come since the last reading."""
        path = self.paths.record(key)
        return multi.create("record", path, b"{}").delete("no record", path, 0)

    def forget(self, multi: Multi, key: str, ledger: Ledger | None) -> Multi:
        """The step that deletes a record, if there is one."""
        if ledger is not None and ledger.version is not None:
            multi.delete("record", self.paths.record(key), ledger.version)
        return multi

    def to_bin(
        self,
        multi: Multi,
        entry: JobEntry,
        name: str,
        raw: bytes,
        acl: Any,
        ledger: Ledger | None,
        record: AttemptRecord | None,
    ) -> Built:
        """The steps that move a posting to the bin; the record is cut where both do not fit in one request.

        A record that is named by the node takes the node's name in the bin, which may be another than on the board.
        """
        multi.create("bin", self.paths.binned(name), raw, acl=acl)
        multi.delete("job", self.paths.job(entry.node), entry.version)
        if ledger is None or record is None:
            return multi, None
        fitting = self.fitting(multi, record, name if entry.key == entry.node else entry.key)
        if fitting is None:
            return multi, None
        record = fitting[0]
        if entry.key != entry.node or name == entry.node:
            return self.write(multi, entry.key, ledger, *fitting), record
        moved = "record" if ledger.version is None else "record moved"
        self.forget(multi, entry.key, ledger)
        multi.create(moved, self.paths.record(name), attempts.to_json(replace(record, job=name)))
        return multi, None

    def binned_from(self, key: str) -> str | None:
        """The path of the board beside this one, of the same bin, whose ledger tells that it binned the job."""
        ledgers, _, own = self.paths.attempts.rpartition("/")
        try:
            others = [name for name in self.children(ledgers) if name != own]
        except NO_RIGHTS:
            return None
        for name in others:
            try:
                raw, stat = self.ask(self.client.get_async, f"{ledgers}/{name}/{key}")
            except (k_exceptions.NoNodeError, *NO_RIGHTS):
                continue
            if read_record(raw, key, stat).record.binned is not None:
                return f"{self.paths.board.rpartition('/')[0]}/{name}"
        return None

    def attempt_of(self, entry: JobEntry | BinEntry, claim: Claim) -> Attempt:
        """A claim that was seen, as an attempt that is under way; the record gives it its number."""
        entity = self.model.entity_of(claim.session)
        who = entity.name if entity is not None and entity.owner == claim.owner else claim.owner
        flow = entry.flow_uuid if isinstance(entry, JobEntry) else None
        return Attempt(0, who, claim.id, claim.claimed_at, flow=flow)

    def note(self, key: str, done: Done, zxid: int = 0) -> Ledger | None:
        """Shows a record that was written at once.

        :param zxid: the transaction's number, where another step told it: a create tells no stat.
        :returns: the record as it lies there now; None: uncounted.
        """
        results, before, record = done
        if before is None or record is None:
            return None
        stat = results["record"]
        if before.version is not None:
            ledger = Ledger(record, stat.version, stat.mzxid, stat.czxid)
        else:
            ledger = Ledger(record, 0, zxid, zxid)
        if ledger.mzxid:
            self.model.recorded(key, ledger)
        return ledger

    def sweep(self) -> None:
        """Deletes the records of jobs that others consumed, and that nobody wrote since.

        The board and the bin are listed after the records, in this order: a job that has a record is found in one of
        them, unless it is gone (one that is restored meanwhile gets its record written, which saves it).
        """
        nodes, _ = split_children(self.children(self.paths.board))
        for key, version in self.model.orphans(nodes, self.children(self.paths.trash)):
            try:
                self.ask(self.client.delete_async, self.paths.record(key), version)
            except (k_exceptions.BadVersionError, k_exceptions.NoNodeError):
                continue
            self.model.record_gone(key)
