"""The attempt ledger in ZooKeeper: written in the transactions of the acts, never in their way.

On a conflict a record is read again; where there are no rights to write it, the act goes on *uncounted*, and the
board's listing tells why.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from kazoo import exceptions as k_exceptions

from conductor_console.jobboards import attempts
from conductor_console.jobboards.attempts import AttemptRecord
from conductor_console.jobboards.base import JobEntry
from conductor_console.jobboards.zk_client import LARGEST_REQUEST, NO_RIGHTS, Multi, StepFailed, describe
from conductor_console.jobboards.zk_model import Ledger, read_record
from conductor_console.jobboards.zk_paths import split_children
from conductor_console.jobboards.zk_requests import CONFLICTS, Requests

#: How often an act is tried again when it meets a conflict.
TRIES: Final = 6
_ROOM: Final = LARGEST_REQUEST - 8192

#: A transaction, and the record that it writes (None: it writes none).
Built = tuple[Multi, AttemptRecord | None]
#: A transaction's results, the record as it was found (None: uncounted), and the one that was written.
Done = tuple[dict[str, Any], Ledger | None, AttemptRecord | None]


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
        if self.model.uncounted is None:
            ledger = ledger or self.model.ledger(key)
            for _ in range(TRIES):
                multi, record = build(ledger)
                try:
                    return multi.commit(), ledger, record
                except StepFailed as failed:
                    if failed.step != "record":
                        raise
                    reason = self._make_way(failed, ledger)
                try:
                    ledger = self.read_ledger(key) if reason is None else ledger
                    verify()
                except NO_RIGHTS:
                    reason = f"no rights to read the ledger at {self.paths.attempts}"
                if reason is not None:
                    self.model.set_uncounted(reason)
                    break
        verify()
        multi, _ = build(None)
        return multi.commit(), None, None

    def _make_way(self, failed: StepFailed, ledger: Ledger) -> str | None:
        """A record could not be written: makes its folder where that is missing, or tells why it stays uncounted."""
        if isinstance(failed.error, k_exceptions.NoNodeError) and ledger.version is None:
            try:
                self.ensure_folder(self.paths.attempts)
            except NO_RIGHTS:
                return f"no rights to make {self.paths.attempts}"
            return None
        if isinstance(failed.error, CONFLICTS):
            return None
        if isinstance(failed.error, NO_RIGHTS):
            return f"no rights to write the ledger at {self.paths.attempts}"
        return f"the ledger cannot be written: {describe(failed.error)}"

    def write(self, multi: Multi, key: str, ledger: Ledger, record: AttemptRecord) -> Multi:
        """The step that writes a record in the place of ``ledger``."""
        value = attempts.to_json(record)
        if ledger.version is None:
            return multi.create("record", self.paths.record(key), value)
        return multi.write("record", self.paths.record(key), value, ledger.version)

    def forget(self, multi: Multi, key: str, ledger: Ledger | None) -> Multi:
        """The step that deletes a record, if there is one."""
        if ledger is not None and ledger.version is not None:
            multi.delete("record", self.paths.record(key), ledger.version)
        return multi

    def to_bin(
        self, multi: Multi, entry: JobEntry, raw: bytes, acl: Any, ledger: Ledger | None, record: AttemptRecord | None
    ) -> Built:
        """The steps that move a posting to the bin; the record is cut where both do not fit in one request."""
        multi.create("bin", self.paths.binned(self.bin_name(entry)), raw, acl=acl)
        multi.delete("job", self.paths.job(entry.node), entry.version)
        if ledger is None or record is None:
            return multi, None
        record = attempts.shrunk(record, _ROOM - len(raw))
        return self.write(multi, entry.key, ledger, record), record

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
