"""Moving many jobs on ZooKeeper: what is asked, and what is done, is under way all at once.

Only what goes as expected is done here, in the very transactions that a single act makes. What does not is left as it
is, for the single act: that looks closer, tries again, and tells what is in the way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from kazoo import exceptions as k_exceptions
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.protocol.states import ZnodeStat

from conductor_console.errors import BoardUnreachable
from conductor_console.jobboards.base import BinEntry, Changed, JobEntry, Refused, Unless
from conductor_console.jobboards.postings import Posting
from conductor_console.jobboards.zk_client import ANSWER_SECONDS, OutcomeUnknown, StepFailed, need_connection
from conductor_console.jobboards.zk_ledger import Built, Done
from conductor_console.jobboards.zk_nodes import Ledger
from conductor_console.jobboards.zk_operator import Move, OperatorActs
from conductor_console.jobboards.zk_reads import Reads

Entry = TypeVar("Entry", JobEntry, BinEntry)
Outcomes = list[str | Exception | None]
#: What is to be read of a posting: bytes, stat, and rights.
Read = tuple[bytes, Any, Any]
_TROUBLE: Final = (k_exceptions.KazooException, KazooTimeoutError, BoardUnreachable)


class BulkActs:
    """Each call gives for each job its new key, None where nothing was done, or an error: nobody knows.

    :param reads_many: whether the server is known to read many nodes at once.
    """

    def __init__(self, acts: OperatorActs, reads_many: Callable[[], bool]) -> None:
        self._acts = acts
        self._reads_many = reads_many
        self._client = acts.client
        self._paths = acts.paths
        self._model = acts.model

    def bin(self, entries: Sequence[JobEntry], who: str, why: str) -> Outcomes:
        """Moves jobs that nobody holds to the bin."""
        acts = self._acts

        def plain(entry: JobEntry) -> bool:
            known = self._model.binned_key(entry.node) is not None or self._model.in_bin(entry.key)
            return entry.claim is None and entry.key == entry.uuid and not known

        def build(entry: JobEntry, read: Read, ledger: Ledger | None) -> Built:
            raw, found, acl = read
            if not self._model.is_known(entry.node, found.czxid):
                acts.need_same(raw, entry)
            steps = acts.binning(entry, who, why, None, Move(raw, acl, entry.node))
            return steps(ledger, acts.while_free(acts.multi(), entry))

        def done(entry: JobEntry, read: Read, result: Done) -> str:
            if result[1] is None or result[1].record.open_attempt is None:
                # No end of an attempt has to be heard of before the job is gone: it is shown once less.
                self._model.removed(entry.node)
            acts.binned(entry, result)
            posting = Posting(entry.uuid, entry.name, entry.priority, problem=entry.problem)
            made = _made(read[0], result)
            if made is not None:
                self._model.bin_read(entry.node, read[0], made, posting)
            return entry.key

        try:
            acts.ensure_folder(self._paths.trash)
        except _TROUBLE:
            return [None] * len(entries)
        return self._each("bin", entries, plain, self._paths.job, build, done)

    def restore(self, entries: Sequence[BinEntry], unless: Unless) -> Outcomes:
        """Puts binned jobs of which the board has a record back at their old places."""
        acts = self._acts
        try:
            # Its counter only grows: what is past it now stays so.
            stat = acts.ask(self._client.exists_async, self._paths.board)
        except _TROUBLE:
            stat = None
        if stat is None:
            return [None] * len(entries)

        def plain(entry: BinEntry) -> bool:
            known = entry.record is not None and entry.key == entry.uuid
            return known and self._model.twin(entry) is None and acts.old_node(entry, stat) is not None

        def build(entry: BinEntry, read: Read, ledger: Ledger | None) -> Built:
            raw, found, acl = read
            if raw != entry.posting:
                raise Changed("another is in its place")
            return acts.restoring(entry, found.version, acl, acts.old_node(entry, stat), unless)(ledger)

        def done(entry: BinEntry, read: Read, result: Done) -> str:
            self._model.bin_gone(entry.node)
            node = acts.restored(entry, result)
            made = _made(read[0], result)
            if made is not None:
                self._model.job_read(node, read[0], made)
            return entry.key

        return self._each("restore", entries, plain, self._paths.binned, build, done)

    def _each(
        self,
        act: str,
        entries: Sequence[Entry],
        plain: Callable[[Entry], bool],
        path: Callable[[str], str],
        build: Callable[[Entry, Read, Ledger | None], Built],
        done: Callable[[Entry, Read, Done], str],
    ) -> Outcomes:
        """
        :param plain: whether nothing known stands in the way. :param path: of a node's posting.
        :param build: the whole transaction. :param done: takes in that it was committed, and gives the new key.
        """
        outcomes: Outcomes = [None] * len(entries)
        chosen = [
            (place, entry)
            for place, entry in enumerate(entries)
            if plain(entry) and not self._model.uncounted_at(entry.key)
        ]
        sent: list[tuple[int, Entry, Read, Any, Ledger, Built]] = []
        try:
            found = self._read([path(entry.node) for _, entry in chosen])
            for (place, entry), read in zip(chosen, found, strict=True):
                if read is None:
                    continue
                ledger = self._model.ledger(entry.key)
                try:
                    built = build(entry, read, ledger)
                    sent.append((place, entry, read, built[0].send(), ledger, built))
                except (Changed, Refused):
                    continue
        except _TROUBLE:
            # What was sent before may be done: its answers tell.
            pass
        if sent:
            sent[-1][3].wait(ANSWER_SECONDS)
        for place, entry, read, promise, ledger, (multi, record) in sent:
            try:
                results = self._acts.counted_in(multi.outcome(promise))
            except (StepFailed, BoardUnreachable):
                continue
            except OutcomeUnknown:
                outcomes[place] = self._acts.unknown(act, entry.name)
                continue
            outcomes[place] = done(entry, read, (results, ledger, record))
        return outcomes

    def _read(self, paths: Sequence[str]) -> list[Read | None]:
        """Postings with their rights; None for what cannot be read whole."""
        need_connection(self._client)
        if not paths:
            return []
        reads = Reads(self._client, proven=True)
        every = reads.plain if self._reads_many() else reads.singly
        postings = every(paths, str)
        return [
            (posting[0], posting[1], acl) if isinstance(posting, tuple) and not isinstance(acl, Exception) else None
            for acl, (_, posting) in zip(reads.rights(paths), postings, strict=True)
        ]


def _made(raw: bytes, done: Done) -> ZnodeStat | None:
    """The stat of the posting's node that was made just now, so that it need not be read; None where that is not known.

    The record was written in the same transaction, whose number and time are that node's, too.
    """
    wrote = done[0].get("record")
    if not isinstance(wrote, ZnodeStat):
        return None
    made = {"czxid": wrote.mzxid, "mzxid": wrote.mzxid, "ctime": wrote.mtime, "mtime": wrote.mtime, "version": 0}
    return wrote._replace(**made, aversion=0, ephemeralOwner=0, dataLength=len(raw))
