"""What an operator does to jobs on ZooKeeper: only if they are still as they were seen, their claims included."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kazoo import exceptions as k_exceptions

from conductor_console.jobboards import attempts, foreign
from conductor_console.jobboards.base import (
    BinEntry,
    Changed,
    Claim,
    Gone,
    JobEntry,
    Refused,
    Unless,
    forbidden,
    unclaimed,
)
from conductor_console.jobboards.zk_client import NO_RIGHTS, Multi, OutcomeUnknown, StepFailed, as_hex
from conductor_console.jobboards.zk_ledger import TRIES, Built, Done, LedgerRequests, name_was_taken
from conductor_console.jobboards.zk_nodes import Ledger, read_lock
from conductor_console.jobboards.zk_paths import is_past, old_name
from conductor_console.jobboards.zk_requests import CONFLICTS
from conductor_console.text import visible

#: Adds an act's steps, made of the job's record as it is, to those that look at its claim.
Steps = Callable[[Ledger | None, Multi], Built]


@dataclass(frozen=True, slots=True)
class Move:
    """A posting's bytes and rights, which never change, and the name that it would get in the bin."""

    raw: bytes
    acl: Any
    name: str


class OperatorActs(LedgerRequests):
    """Bin, delete, restore, hold, release. Each raises ``Changed``, ``Gone`` or ``Refused`` when nothing was done."""

    def hold(self, entry: JobEntry, until: datetime | None, unless: Unless) -> None:
        """Sets, or ends, a job's hold while nobody holds the job."""
        if entry.claim is not None:
            lock = self.read_lock(entry.node)
            raise self._released(entry) if lock is None else _claimed(entry, lock.claim)
        moment = self.model.now()

        def build(ledger: Ledger | None, multi: Multi) -> Built:
            multi.check("job", self.paths.job(entry.node), entry.version)
            if ledger is None:
                if until is not None:
                    raise Refused(f"job {visible(entry.name, 80)} cannot be held: its record may not be written")
                return multi, None
            record = attempts.deserted(ledger.record, moment, ledger.open_claim)
            forbidden(entry, record, unless)
            if ledger.version is None and until is None:
                return self.absent(multi, entry.key), None
            record = attempts.held(record, until)
            return self.write(multi, entry.key, ledger, record), record

        self.note(entry.key, self._as_seen(entry, "retry" if until is None else "hold", build))

    def release(self, entry: JobEntry) -> None:
        """Ends the claim that was seen; one that nobody counted yet is counted with that."""
        claim = entry.claim
        if claim is None:
            raise unclaimed(entry)
        attempt, moment = self.attempt_of(entry, claim), self.model.now()

        def build(ledger: Ledger | None, multi: Multi) -> Built:
            multi.check("job", self.paths.job(entry.node), entry.version)
            if ledger is None:
                return multi, None
            record = foreign.noted(ledger.record, attempt, moment, ledger.open_claim)
            record = attempts.closed(record, "revoked", moment, claim.id)
            return self.write(multi, entry.key, ledger, record), record

        # The record first: what hears of the release must find the attempt ended.
        self.note(entry.key, self._as_seen(entry, "release", build))
        self.model.unlocked(entry.node, int(claim.id, 16))

    def move(self, entry: JobEntry) -> Move:
        """All that has to be read before a job can be moved to the bin.

        :raises Gone, Changed, Refused: it is not what ``entry`` shows, or may not be read.
        """
        raw, acl = self.posting(entry)
        return Move(raw, acl, self.bin_name(entry))

    def bin(self, entry: JobEntry, who: str, why: str, unless: Unless, move: Move | None = None) -> str:
        """Moves a job to the bin; an attempt under way is told as revoked. Returns the node's name there.

        :param move: what was read before: of it only the name in the bin may have been taken since.
        """
        move = move or self.move(entry)
        return self.binned(entry, self._as_seen(entry, "bin", self.binning(entry, who, why, unless, move)))

    def binning(self, entry: JobEntry, who: str, why: str, unless: Unless, move: Move) -> Steps:
        """The steps that move a job to the bin, after those that look at its claim."""
        names = [move.name]
        moment = self.model.now()

        def build(ledger: Ledger | None, multi: Multi) -> Built:
            record = None
            if ledger is not None:
                record, mine = ledger.record, ledger.open_claim
                if entry.claim is None or mine != entry.claim.id:
                    # The attempt that is open is not the claim's: its process died before.
                    record = attempts.deserted(record, moment, mine)
                forbidden(entry, record, unless)
                record = attempts.closed(record, "revoked", moment, mine)
                record = attempts.put_in_bin(record, who, moment, why)
            name = names.pop() if names else self.bin_name(entry)
            return self.to_bin(multi, entry, name, move.raw, move.acl, ledger, record)

        return build

    def binned(self, entry: JobEntry, done: Done) -> str:
        """Takes in that a job went to the bin. Returns the node's name there."""
        self.note(entry.key, done)
        self.model.removed(entry.node)
        path: str = done[0]["bin"]
        return path.rpartition("/")[2]

    def delete(self, entry: JobEntry, unless: Unless) -> None:
        """Deletes a job and its record."""
        moment = self.model.now()

        def build(ledger: Ledger | None, multi: Multi) -> Built:
            if ledger is not None:
                forbidden(entry, attempts.deserted(ledger.record, moment, ledger.open_claim), unless)
            multi.delete("job", self.paths.job(entry.node), entry.version)
            return self.forget(multi, entry.key, ledger), None

        self._as_seen(entry, "delete", build)
        self.model.removed(entry.node)
        self.model.record_gone(entry.key)

    def purge(self, entry: BinEntry, twin: JobEntry | None) -> None:
        """Deletes a binned job, and its record.

        :param twin: the same job as it was last seen on the board: where it is there, the record is left to it.
        """
        version = self._as_binned(entry)
        record_too = entry.record is not None and not self._on_board(twin)

        def build(ledger: Ledger | None) -> Built:
            seen = entry.version if version is None else version
            multi = self.multi().delete("binned", self.paths.binned(entry.node), seen)
            return (self.forget(multi, entry.key, ledger) if record_too else multi), None

        self._commit(entry, "delete", build)
        self.model.bin_gone(entry.node)
        if record_too:
            self.model.record_gone(entry.key)

    def restore(self, entry: BinEntry, twin: JobEntry | None, unless: Unless) -> str:
        """Puts a binned job back, at its old number where that is safe. Returns the node's name.

        :param twin: the same job as it was last seen on the board, where it is not to come twice.
        """
        stat = self.ask(self.client.exists_async, self.paths.board)
        if stat is None:
            raise Gone(f"there is no board at {self.paths.board} any more")
        version = self._as_binned(entry)
        if version is None:
            raise Refused(f"no rights to read job {visible(entry.name, 80)} in the bin: it cannot be put back whole")
        if self._on_board(twin):
            raise Changed(f"job {visible(entry.name, 80)} is on the board already")
        owner = self.binned_from(entry.key) if entry.record is None else None
        if owner is not None:
            job = visible(entry.name, 80)
            raise Refused(f"job {job} was binned from the board at {visible(owner)}: restore it there")
        acl = self.acl(self.client.get_acls_async, self.paths.binned(entry.node))
        node = self.old_node(entry, stat)
        if node is not None and self.ask(self.client.exists_async, self.paths.job(node)):
            node = None
        return self.restored(entry, self._commit(entry, "restore", self.restoring(entry, version, acl, node, unless)))

    @staticmethod
    def old_node(entry: BinEntry, stat: Any) -> str | None:
        """The node's name from before it was binned, if one of that name may be made.

        A node made by hand at or above the board's counter would make every later post fail.

        :param stat: the board's.
        """
        old = old_name(entry.node)
        return old[0] if old is not None and is_past(old[1], stat) else None

    def _on_board(self, twin: JobEntry | None) -> bool:
        """Whether it is there still: a listing may trail."""
        return twin is not None and self.ask(self.client.exists_async, self.paths.job(twin.node)) is not None

    def _as_binned(self, entry: BinEntry) -> int | None:
        """Makes sure that the job in the bin is the one that was seen: its name there may be another's by now.

        :returns: its version; None where it may not be read.
        """
        try:
            raw, stat = self.ask(self.client.get_async, self.paths.binned(entry.node))
        except k_exceptions.NoNodeError as error:
            raise Gone(f"job {visible(entry.name, 80)} is gone") from error
        except NO_RIGHTS:
            return None
        if raw != entry.posting:
            self.model.bin_doubted(entry.node)
            raise Changed(f"job {visible(entry.name, 80)} changed under you: another is in its place in the bin")
        version: int = stat.version
        return version

    def restoring(
        self, entry: BinEntry, version: int, acl: object, node: str | None, unless: Unless
    ) -> Callable[[Ledger | None], Built]:
        """The steps that put a binned job back.

        :param version: of its node in the bin. :param node: its name on the board; None: the sequence's next.
        """
        step = "next" if node is None else "job"
        moment = self.model.now()

        def build(ledger: Ledger | None) -> Built:
            path = self.paths.posting if node is None else self.paths.job(node)
            # The bin first: of two who restore it the second finds it gone, not its place on the board taken.
            multi = self.multi().delete("binned", self.paths.binned(entry.node), version)
            multi.create(step, path, entry.posting, acl=acl, sequence=node is None)
            if ledger is None or (entry.key == entry.node and entry.record is None):
                # A record that bears no more than the node's name is another job's then.
                return multi, None
            if ledger.version is None:
                return self.absent(multi, entry.key), None
            forbidden(entry, ledger.record, unless)
            if entry.key == entry.node != node:
                # The record bears the old node's name; under the new one, which nobody knows yet, it would be lost.
                return self.forget(multi, entry.key, ledger), None
            # An attempt that was left open ended before, too: whatever it came to is forgiven.
            forgiven = attempts.restored(attempts.deserted(ledger.record, moment, ledger.open_claim))
            fitting = self.fitting(multi, forgiven, entry.key)
            return (multi, None) if fitting is None else (self.write(multi, entry.key, ledger, *fitting), fitting[0])

        return build

    def restored(self, entry: BinEntry, done: Done) -> str:
        """Takes in that a job went back to the board. Returns the node's name there."""
        self.note(entry.key, done)
        self.model.bin_gone(entry.node)
        path: str = done[0].get("job") or done[0]["next"]
        return path.rpartition("/")[2]

    def _commit(self, entry: JobEntry | BinEntry, act: str, build: Callable[[Ledger | None], Built]) -> Done:
        try:
            return self.counted(entry.key, build)
        except StepFailed as failed:
            raise self.refused(failed, act, entry.name) from failed
        except OutcomeUnknown as error:
            raise self.unknown(act, entry.name) from error

    def _as_seen(self, entry: JobEntry, act: str, build: Steps) -> Done:
        """Commits an act together with the steps that fail unless the claim is as ``entry`` shows it."""
        for _ in range(TRIES):
            version = 0 if entry.claim is None else self._confirm(entry, entry.claim, act)
            if version is None:
                continue

            def whole(ledger: Ledger | None, version: int = version) -> Built:
                if entry.claim is None:
                    return build(ledger, self.while_free(self.multi(), entry))
                return build(ledger, self.multi().delete("lock", self.paths.lock(entry.node), version))

            try:
                return self.counted(entry.key, whole)
            except StepFailed as failed:
                if failed.step == "lock" and isinstance(failed.error, k_exceptions.BadVersionError):
                    continue
                if failed.step == "lock" and isinstance(failed.error, k_exceptions.NoNodeError):
                    raise self._released(entry) from failed
                if name_was_taken(failed):
                    continue
                raise self.refused(failed, act, entry.name) from failed
            except OutcomeUnknown as error:
                raise self.unknown(act, entry.name) from error
        raise Changed(f"cannot {act} job {visible(entry.name, 80)}: its lock keeps changing")

    def _confirm(self, entry: JobEntry, claim: Claim, act: str) -> int | None:
        """Makes sure that the claim is the one the operator saw, and marks its lock as no fresh lock is marked.

        :returns: the lock's version now, 2 at least; None where another operator marked it at the same moment.
        """
        path = self.paths.lock(entry.node)
        try:
            raw, stat = self.ask(self.client.get_async, path)
            if as_hex(stat.czxid) != claim.id:
                raise _claimed(entry, read_lock(raw, stat).claim)
            multi = self.multi().write("touched", path, raw, stat.version)
            if stat.version == 0:
                multi.write("touched again", path, raw, 1)
            results = multi.commit()
        except k_exceptions.NoNodeError as error:
            raise self._released(entry) from error
        except NO_RIGHTS as error:
            raise Refused(f"no rights to touch the claim on job {visible(entry.name, 80)}") from error
        except StepFailed as failed:
            if isinstance(failed.error, CONFLICTS):
                return None
            raise self.refused(failed, act, entry.name) from failed
        except OutcomeUnknown as error:
            raise self.unknown(act, entry.name) from error
        touched = results.get("touched again") or results["touched"]
        if as_hex(touched.czxid) != claim.id:
            return None
        version: int = touched.version
        return version

    def _released(self, entry: JobEntry) -> Changed | Gone:
        """What a claim means that was seen and is no more."""
        if self.ask(self.client.exists_async, self.paths.job(entry.node)) is None:
            return Gone(f"job {visible(entry.name, 80)} is gone")
        return Changed(f"job {visible(entry.name, 80)} changed under you: nobody holds it now")


def _claimed(entry: JobEntry, claim: Claim) -> Changed:
    same = entry.claim is not None and entry.claim.id == claim.id
    changed = "is claimed by" if same else "changed under you: it is claimed by"
    return Changed(f"job {visible(entry.name, 80)} {changed} {visible(claim.owner)}{'' if same else ' now'}")
