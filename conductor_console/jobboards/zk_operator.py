"""What an operator does to jobs on ZooKeeper: only if they are still as they were seen, their claims included."""

from __future__ import annotations

from collections.abc import Callable

from kazoo import exceptions as k_exceptions

from conductor_console.jobboards import attempts, postings
from conductor_console.jobboards.base import BinEntry, Changed, Claim, Gone, JobEntry, Refused
from conductor_console.jobboards.zk_client import NO_RIGHTS, Multi, OutcomeUnknown, StepFailed, as_hex
from conductor_console.jobboards.zk_ledger import TRIES, Built, Done, LedgerRequests
from conductor_console.jobboards.zk_model import Ledger, read_lock
from conductor_console.jobboards.zk_paths import number_of
from conductor_console.jobboards.zk_requests import CONFLICTS
from conductor_console.text import visible


class OperatorActs(LedgerRequests):
    """Bin, delete, restore, retry. Each raises ``Changed``, ``Gone`` or ``Refused`` when nothing was done."""

    def retry(self, entry: JobEntry) -> None:
        """Ends a job's hold while nobody holds the job."""
        if entry.claim is not None:
            raise Changed(f"job {visible(entry.name)} is claimed by {visible(entry.claim.owner)}")
        moment = self.model.now()

        def build(ledger: Ledger | None, multi: Multi) -> Built:
            multi.check("job", self.paths.job(entry.node), entry.version)
            if ledger is None or ledger.version is None:
                return multi, None
            record = attempts.retried(attempts.crashed(ledger.record, moment, ledger.open_claim))
            return self.write(multi, entry.key, ledger, record), record

        self.note(entry.key, self._as_seen(entry, "retry", build))

    def bin(self, entry: JobEntry, who: str, why: str) -> None:
        """Moves a job to the bin; an attempt under way is told as revoked."""
        raw, acl = self.posting(entry)
        moment = self.model.now()

        def build(ledger: Ledger | None, multi: Multi) -> Built:
            record = None
            if ledger is not None:
                record, mine = ledger.record, ledger.open_claim
                if entry.claim is None or mine != entry.claim.id:
                    # The attempt that is open is not the claim's: its process died before.
                    record = attempts.crashed(record, moment, mine)
                record = attempts.closed(record, "revoked", moment, mine)
                record = attempts.put_in_bin(record, who, moment, why)
            return self.to_bin(multi, entry, raw, acl, ledger, record)

        self.note(entry.key, self._as_seen(entry, "bin", build))
        self.model.removed(entry.node)

    def delete(self, entry: JobEntry) -> None:
        """Deletes a job and its record."""

        def build(ledger: Ledger | None, multi: Multi) -> Built:
            multi.delete("job", self.paths.job(entry.node), entry.version)
            return self.forget(multi, entry.key, ledger), None

        self._as_seen(entry, "delete", build)
        self.model.removed(entry.node)
        self.model.record_gone(entry.key)

    def purge(self, entry: BinEntry, record_too: bool) -> None:
        """Deletes a binned job.

        :param record_too: and its record; not where the same job is on the board as well.
        """

        def build(ledger: Ledger | None) -> Built:
            multi = self.multi().delete("binned", self.paths.binned(entry.node), entry.version)
            return (self.forget(multi, entry.key, ledger) if record_too else multi), None

        self._commit(entry, "delete", build)
        self.model.bin_gone(entry.node)
        if record_too:
            self.model.record_gone(entry.key)

    def restore(self, entry: BinEntry) -> str:
        """Puts a binned job back, at its old number where that is safe. Returns the node's name."""
        stat = self.ask(self.client.exists_async, self.paths.board)
        if stat is None:
            raise Gone(f"there is no board at {self.paths.board} any more")
        acl = self.acl(self.paths.binned(entry.node))
        # A node made by hand at or above the board's counter would make every later post fail.
        number = number_of(entry.node)
        created = (stat.cversion + stat.numChildren) // 2
        if number is not None and number < created:
            old = f"job{number:010d}"
            if self.ask(self.client.exists_async, self.paths.job(old)) is None:
                return self._restore(entry, acl, old)
        return self._restore(entry, acl, None)

    def _restore(self, entry: BinEntry, acl: object, node: str | None) -> str:
        named_by_node = postings.key_of(entry.uuid, "") == ""

        def build(ledger: Ledger | None) -> Built:
            path = self.paths.posting if node is None else self.paths.job(node)
            multi = self.multi().create("job", path, entry.posting, acl=acl, sequence=node is None)
            multi.delete("binned", self.paths.binned(entry.node), entry.version)
            if ledger is None or ledger.version is None:
                return multi, None
            if named_by_node and entry.key != node:
                # The record bears the old node's name; under the new one, which nobody knows yet, it would be lost.
                return self.forget(multi, entry.key, ledger), None
            record = attempts.restored(ledger.record)
            return self.write(multi, entry.key, ledger, record), record

        done = self._commit(entry, "restore", build)
        self.note(entry.key, done)
        self.model.bin_gone(entry.node)
        path: str = done[0]["job"]
        return path.rpartition("/")[2]

    def _commit(self, entry: JobEntry | BinEntry, act: str, build: Callable[[Ledger | None], Built]) -> Done:
        try:
            return self.counted(entry.key, build)
        except StepFailed as failed:
            raise self.refused(failed, act, entry.name) from failed
        except OutcomeUnknown as error:
            raise self.unknown(act, entry.name) from error

    def _as_seen(self, entry: JobEntry, act: str, build: Callable[[Ledger | None, Multi], Built]) -> Done:
        """Commits an act together with the steps that fail unless the claim is as ``entry`` shows it."""
        for _ in range(TRIES):
            version = 0 if entry.claim is None else self._confirm(entry, entry.claim, act)

            def whole(ledger: Ledger | None, version: int = version) -> Built:
                if entry.claim is None:
                    return build(ledger, self.while_free(self.multi(), entry))
                return build(ledger, self.multi().delete("lock", self.paths.lock(entry.node), version))

            try:
                return self.counted(entry.key, whole)
            except StepFailed as failed:
                if failed.step == "lock" and isinstance(failed.error, k_exceptions.BadVersionError):
                    continue
                raise self.refused(failed, act, entry.name) from failed
            except OutcomeUnknown as error:
                raise self.unknown(act, entry.name) from error
        raise Changed(f"cannot {act} job {visible(entry.name)}: its lock keeps changing")

    def _confirm(self, entry: JobEntry, claim: Claim, act: str) -> int:
        """Makes sure that the claim is the one the operator saw, and marks its lock as no fresh lock is marked.

        :returns: the lock's version now, 2 at least.
        """
        path = self.paths.lock(entry.node)
        changed = f"job {visible(entry.name)} changed under you: "
        try:
            raw, stat = self.ask(self.client.get_async, path)
            if as_hex(stat.czxid) != claim.id:
                raise Changed(changed + f"it is claimed by {visible(read_lock(raw, stat).claim.owner)} now")
            multi = self.multi().write("touched", path, raw, stat.version)
            if stat.version == 0:
                multi.write("touched again", path, raw, 1)
            results = multi.commit()
        except k_exceptions.NoNodeError as error:
            raise Changed(changed + "nobody holds it now") from error
        except NO_RIGHTS as error:
            raise Refused(f"no rights to touch the claim on job {visible(entry.name)}") from error
        except StepFailed as failed:
            if isinstance(failed.error, CONFLICTS):
                raise Changed(changed + "its claim has changed") from failed
            raise self.refused(failed, act, entry.name) from failed
        except OutcomeUnknown as error:
            raise self.unknown(act, entry.name) from error
        touched = results.get("touched again") or results["touched"]
        if as_hex(touched.czxid) != claim.id:
            raise Changed(changed + "it is claimed by another now")
        version: int = touched.version
        return version
