"""What a watcher writes into the ledger of a ZooKeeper board for conductors that do not write it themselves.

Each write is conditional on the job being there still; it is made by whoever comes first of those who watch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kazoo import exceptions as k_exceptions
from kazoo.client import KazooClient

from conductor_console.jobboards import foreign
from conductor_console.jobboards.attempts import AttemptRecord, Cause, Outcome
from conductor_console.jobboards.base import BinEntry, Claim, EntityEntry, Fate, JobEntry
from conductor_console.jobboards.zk_client import StepFailed, as_hex
from conductor_console.jobboards.zk_ledger import Built, LedgerRequests
from conductor_console.jobboards.zk_model import BoardModel
from conductor_console.jobboards.zk_nodes import Ledger
from conductor_console.jobboards.zk_paths import BoardPaths

#: A lock of this version was made by a board of ours, which counts for itself.
OURS: Final = 1

Change = Callable[[Ledger], AttemptRecord]


class _Nothing(Exception):
    """The record says it already, or the ledger may not be written: there is nothing to commit."""


class WatcherActs(LedgerRequests):
    """Counting for others. Gone jobs are passed over in silence.

    ``BoardUnreachable`` and ``OutcomeUnknown`` are raised when the connection does not hold; to call again is safe.

    :param in_memory: nothing is written; what is counted is shown by this board alone.
    """

    def __init__(self, client: KazooClient, paths: BoardPaths, model: BoardModel, *, in_memory: bool) -> None:
        super().__init__(client, paths, model)
        self._in_memory = in_memory

    def count_claim(self, entry: JobEntry, claim: Claim) -> None:
        """Opens the attempt of a claim that was seen."""
        self._amend(entry, self._noting(entry, claim))

    def count_end(self, entry: JobEntry | BinEntry, claim: Claim, outcome: Outcome, error: Cause | None) -> None:
        """Closes the attempt of a claim that was seen to end, and counts it where that was not done yet."""
        moment, noting = self.model.now(), self._noting(entry, claim)

        def change(known: Ledger) -> AttemptRecord:
            return foreign.ended(noting(known), claim.id, outcome, moment, error, known.open_claim)

        self._amend(entry, change)

    def _noting(self, entry: JobEntry | BinEntry, claim: Claim) -> Change:
        attempt, moment = self.attempt_of(entry, claim), self.model.now()
        return lambda known: foreign.noted(known.record, attempt, moment, known.open_claim)

    def fate(self, claim: Claim, entity: EntityEntry | None) -> Fate:
        """What became of the session that held a claim which is no more.

        :param entity: the conductor that its session had registered, where one was seen.
        """
        if entity is None or claim.session is None or entity.session != claim.session:
            return "unknown"
        stat = self.ask(self.client.exists_async, self.paths.conductor(entity.name))
        if stat is not None and claim.session == as_hex(stat.ephemeralOwner):
            return "alive"
        # A session that ends takes all that it held in one transaction.
        folders = [self.ask(self.client.exists_async, path) for path in (self.paths.conductors, self.paths.board)]
        at_once = all(folders) and folders[0].pzxid == folders[1].pzxid
        return "died" if at_once else "ended"

    def _amend(self, entry: JobEntry | BinEntry, change: Change) -> None:
        if self._in_memory or self.model.uncounted_at(entry.key):
            self.model.count_here(entry.key, change)
            return
        known = self.model.ledger(entry.key)
        if change(known) is known.record:
            return

        def build(ledger: Ledger | None) -> Built:
            if ledger is None:
                raise _Nothing
            record = change(ledger)
            if record is ledger.record:
                self.model.recorded(entry.key, ledger)
                raise _Nothing
            multi = self.multi()
            if isinstance(entry, BinEntry):
                multi.check("binned", self.paths.binned(entry.node), entry.version)
            else:
                multi.check("job", self.paths.job(entry.node), entry.version)
            return self.write(multi, entry.key, ledger, record), record

        try:
            done = self.counted(entry.key, build, known)
        except _Nothing:
            if self.model.uncounted_at(entry.key):
                self.model.count_here(entry.key, change)
            return
        except StepFailed as failed:
            if failed.step in ("job", "binned") and isinstance(failed.error, k_exceptions.NoNodeError):
                return
            raise
        self.note(entry.key, done)
