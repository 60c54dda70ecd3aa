"""What is known of a ZooKeeper board: fed by reads and by our own acts, in whatever order they arrive.

Reads travel on one thread and acts on others, so an old answer may come in after a newer act. ZooKeeper's
transaction numbers put them in order: what exists is decided by a folder's listing alone, by its ``pzxid``
(the last transaction that added or removed a child); what it holds by the node's ``czxid`` and ``mzxid``.
What survives that goes into the board's :class:`~.picture.Picture`, which makes listings and events of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from conductor_console.clock import utcnow
from conductor_console.jobboards import foreign
from conductor_console.jobboards.attempts import AttemptRecord
from conductor_console.jobboards.base import BinEntry, Claim, EntityEntry, JobEntry
from conductor_console.jobboards.picture import Picture
from conductor_console.jobboards.postings import Posting
from conductor_console.jobboards.zk_bin import BinnedJobs, Shown
from conductor_console.jobboards.zk_client import LOG
from conductor_console.jobboards.zk_creations import Creations
from conductor_console.jobboards.zk_nodes import Ledger, Lock, read_entity, read_job
from conductor_console.jobboards.zk_paths import JOB_PREFIX, LOCK_SUFFIX
from conductor_console.text import plural, visible


class BoardModel:
    """The truth so far of one board, put in order. Thread safe; nothing here waits for anything."""

    def __init__(self, picture: Picture) -> None:
        self._picture = picture
        self._guard = threading.RLock()
        self._keys: dict[str, str] = {}
        self._born: dict[str, int] = {}
        self._locks: dict[str, Lock] = {}
        self._ledgers: dict[str, Ledger] = {}
        self._bin = BinnedJobs(picture, self._shown_record)
        #: By uuid: the nodes that gave way to another of that uuid.
        self._twins: dict[str, set[str]] = {}
        #: The records that may not be touched.
        self._barred: set[str] = set()
        self._gone_jobs: dict[str, int] = {}
        self._gone_locks: dict[str, int] = {}
        #: Postings that have to be read again; records that may have lost their job.
        self._unsure: set[str] = set()
        self._loose: set[str] = set()
        self._entities: dict[str, EntityEntry] = {}
        #: What is counted in memory alone, where the ledger may not be written.
        self._own_counts: dict[str, AttemptRecord] = {}
        self._true = False
        self._clock_offset = 0.0
        self._uncounted: str | None = None
        self.creations = Creations()
        #: Counts the times that the connection went: a reading that spans one did not find the whole truth.
        self.epoch = 0

    # -- what is known -----------------------------------------------------------------------------------------------
    def entry_at(self, node: str) -> JobEntry | None:
        with self._guard:
            key = self._keys.get(node)
            return None if key is None else self._picture.get(key)

    def is_known(self, node: str, czxid: int) -> bool:
        """Whether this is the very node that was read, and not another's of that name."""
        with self._guard:
            return node in self._keys and self._born[node] == czxid

    def known(self, entry: JobEntry) -> JobEntry:
        """The job as it is known now; as it was where it is no longer listed."""
        return self.entry_at(entry.node) or entry

    def twin(self, entry: BinEntry) -> JobEntry | None:
        """A binned job as it was last seen on the board; one that only its node names is another there."""
        return self._picture.get(entry.key) if entry.key != entry.node else None

    def lock(self, node: str) -> Lock | None:
        with self._guard:
            return self._locks.get(node)

    def ledger(self, key: str) -> Ledger:
        """The record of a job as last seen; an empty one where none was."""
        with self._guard:
            return self._ledgers.get(key) or Ledger(AttemptRecord(job=key))

    def orphans(self, jobs: Iterable[str] = (), binned: Iterable[str] = ()) -> list[tuple[str, int]]:
        """Records (key, version) of jobs that are neither on the board nor in the bin.

        :param jobs, binned: the nodes that are there now; while one of them is not known yet, nothing is told.
        """
        with self._guard:
            unread = {node for node in binned if node.startswith(JOB_PREFIX)} - self._bin.keys.keys()
            if unread or not self._keys.keys() >= set(jobs):
                return []
            self._loose = {key for key in self._loose if key in self._ledgers and not self._kept(key)}
            return [(key, version) for key in self._loose if (version := self._ledgers[key].version) is not None]

    def _kept(self, key: str) -> bool:
        return self._picture.get(key) is not None or self._picture.get_binned(key) is not None

    # -- the connection --------------------------------------------------------------------------------------------
    def lost(self, detail: str, expired: bool = False) -> None:
        """The connection went; what is known is kept.

        :param expired: the session is over: a new one may find the server's numbers begun anew (its data lost, or
            restored), so that the order of what is known means nothing there.
        """
        with self._guard:
            self.epoch += 1
            self._true = False
            self._picture.set_connection("lost", detail)
            if expired:
                self._born = dict.fromkeys(self._born, 0)
                self._unsure = set(self._born)
                self._locks = {node: replace(lock, czxid=0) for node, lock in self._locks.items()}
                self._ledgers = {key: replace(ledger, mzxid=-1, czxid=0) for key, ledger in self._ledgers.items()}
                self._gone_jobs.clear()
                self._gone_locks.clear()
                self._uncounted = None
                self._barred.clear()
                self._bin.doubt()

    def in_step(self, epoch: int, detail: str) -> bool:
        """All was read in ``epoch``: the picture is true, and live, unless the connection went meanwhile."""
        with self._guard:
            if epoch != self.epoch:
                return False
            if not self._true:
                self._picture.complete()
                self._true = True
            self._picture.set_connection("live", detail)
            return True

    # -- notes -----------------------------------------------------------------------------------------------------
    @property
    def uncounted(self) -> str | None:
        """Why not all is counted; None where all is."""
        if self._uncounted is not None or not self._barred:
            return self._uncounted
        return f"no rights to the attempts of {plural(len(self._barred), 'job')}"

    def uncounted_at(self, key: str) -> bool:
        """Whether there is no use in trying to count this job's attempts."""
        return self._uncounted is not None or key in self._barred

    def bar(self, key: str) -> None:
        """The record of this one job may not be read, or not be written."""
        with self._guard:
            if key not in self._barred:
                LOG.warning("the attempts of %s are not counted: no rights to its record", visible(key))
                self._barred.add(key)

    def set_uncounted(self, reason: str) -> None:
        self._uncounted = reason

    @property
    def clock_offset(self) -> timedelta:
        """To be added to the local clock to get the board's."""
        return timedelta(seconds=self._clock_offset)

    def learn_clock(self, mtime: int, seconds: float) -> None:
        """The board's clock, by the time (ms) of a write that took ``seconds`` to be answered."""
        offset = mtime / 1000 - utcnow().timestamp() + seconds / 2
        # Small differences are the network's, not the clock's.
        if seconds > 1 or abs(offset - self._clock_offset) < max(0.05, seconds):
            return
        self._clock_offset = offset

    # -- jobs and locks ----------------------------------------------------------------------------------------------
    def jobs_listed(self, jobs: set[str], locked: set[str], pzxid: int) -> list[str]:
        """Takes in the board's children: postings, and those that are locked. Returns what to read, oldest first."""
        with self._guard:
            # No sets made for it: a big board is listed many times a second, and every thread waits meanwhile.
            for node in [node for node in self._locks if node not in locked]:
                if self._locks[node].czxid <= pzxid:
                    self._unlock(node)
            for node in [node for node in self._keys if node not in jobs]:
                if self._born[node] <= pzxid:
                    self._remove(node)
            # A name that a listing shows no more cannot come back by an old answer: reads are answered in order.
            self._gone_jobs = {n: z for n, z in self._gone_jobs.items() if n in jobs}
            self._gone_locks = {n: z for n, z in self._gone_locks.items() if n in locked}
            return sorted({node for node in jobs if node not in self._keys} | (jobs & self._unsure))

    def board_missing(self) -> None:
        """The board's own node is gone, and with it all that was on it."""
        with self._guard:
            self._locks.clear()
            for node in list(self._keys):
                self._remove(node)

    def job_read(self, node: str, raw: bytes | None, stat: Any) -> None:
        """Takes in a posting; ``raw`` is None where it may not be read."""
        with self._guard:
            if stat.czxid <= max(self._born.get(node, -1), self._gone_jobs.get(node, -1)):
                return
            entry = read_job(node, raw, stat)
            other = self._picture.get(entry.key)
            if other is not None and other.node != node:
                self._twins.setdefault(entry.key, set()).add(node)
                entry = replace(entry, key=node, problem=f"{other.node} has the same uuid")
            self.creations.seen(node, stat.czxid)
            lock = self._locks.get(node)
            if self._keys.get(node, entry.key) != entry.key:
                self._remove(node)
            self._gone_jobs.pop(node, None)
            self._keys[node] = entry.key
            self._born[node] = stat.czxid
            self._unsure.discard(node)
            shown = self._shown_record(entry.key)
            if lock is not None or shown.record is not None:
                claim = lock.claim if lock else None
                entry = replace(entry, claim=claim, record=shown.record, record_version=shown.version)
            self._picture.put(entry)
            self._bin.record_changed(entry.key)

    def removed(self, node: str) -> None:
        """A job was consumed, binned or deleted by ourselves."""
        with self._guard:
            lock = self._locks.pop(node, None)
            if lock is not None:
                self._gone_locks[node] = lock.czxid
            if node in self._keys:
                self._gone_jobs[node] = self._born[node]
                self._remove(node)

    def _remove(self, node: str) -> None:
        del self._born[node]
        key = self._keys.pop(node)
        self._forget_twin(node, self._picture.get(key))
        self._picture.drop(key)
        self._bin.record_changed(key)
        for twin in self._twins.pop(key, set()) & self._keys.keys():
            # It is the only one of its uuid now, or the first of those that are left.
            self._born[twin] = 0
            self._unsure.add(twin)
        if key in self._ledgers:
            self._loose.add(key)
        if not self._kept(key):
            self._own_counts.pop(key, None)

    def _forget_twin(self, node: str, entry: JobEntry | None) -> None:
        if entry is None or entry.uuid is None or entry.key != node:
            return
        twins = self._twins.get(entry.uuid, set())
        twins.discard(node)
        if not twins:
            self._twins.pop(entry.uuid, None)

    def locked(self, node: str, lock: Lock) -> None:
        """Takes in a lock, read or made by ourselves."""
        with self._guard:
            known = self._locks.get(node)
            if lock.czxid <= self._gone_locks.get(node, 0) or (known is not None and lock.czxid < known.czxid):
                return
            self.creations.seen(node + LOCK_SUFFIX, lock.czxid)
            self._locks[node] = lock
            self._gone_locks.pop(node, None)
            self._claim_changed(node, lock.claim)

    def locked_by(self, session: str | None, nodes: Iterable[str]) -> set[str]:
        """Those of these whose lock, as far as is known, is of that session."""
        with self._guard:
            known = ((node, self._locks.get(node)) for node in nodes)
            return {node for node, lock in known if lock is not None and lock.claim.session == session}

    def unlocked(self, node: str, czxid: int) -> None:
        """The claim that began with ``czxid`` was ended by ourselves."""
        with self._guard:
            self._gone_locks[node] = max(czxid, self._gone_locks.get(node, 0))
            lock = self._locks.get(node)
            if lock is not None and lock.czxid <= czxid:
                self._unlock(node)

    def _unlock(self, node: str) -> None:
        del self._locks[node]
        self._claim_changed(node, None)

    def _claim_changed(self, node: str, claim: Claim | None) -> None:
        entry = self.entry_at(node)
        if entry is not None:
            self._picture.put(replace(entry, claim=claim))

    # -- the ledger --------------------------------------------------------------------------------------------------
    def records_listed(self, present: set[str], pzxid: int) -> None:
        """Takes in which records there are."""
        with self._guard:
            self._barred &= present
            for key in [k for k, ledger in self._ledgers.items() if k not in present and ledger.czxid <= pzxid]:
                self.record_gone(key)

    def recorded(self, key: str, ledger: Ledger) -> None:
        """Takes in a record, read or written by ourselves."""
        with self._guard:
            known = self._ledgers.get(key)
            if known is None or known.mzxid < ledger.mzxid:
                self._ledgers[key] = ledger
                self._barred.discard(key)
                self._record_changed(key)
                if not self._kept(key):
                    self._loose.add(key)

    def record_gone(self, key: str) -> None:
        with self._guard:
            self._loose.discard(key)
            if self._ledgers.pop(key, None) is not None:
                self._record_changed(key)

    def count_here(self, key: str, change: Callable[[Ledger], AttemptRecord]) -> None:
        """Changes the record of a job that is here still, in memory alone: it may not be written."""
        with self._guard:
            if not self._kept(key):
                return
            real = self.ledger(key)
            own = self._own_counts.get(key)
            self._own_counts[key] = change(replace(real, record=own) if own is not None else real)
            self._record_changed(key)

    def _shown_record(self, key: str) -> Shown:
        ledger, own = self._ledgers.get(key), self._own_counts.get(key)
        if ledger is None:
            return Shown(own)
        record = ledger.record
        if own is not None:
            record = foreign.merged(record, own, self.now(), ledger.open_claim)
        return Shown(record, ledger.version, ledger.mzxid)

    def _record_changed(self, key: str) -> None:
        shown = self._shown_record(key)
        entry = self._picture.get(key)
        if entry is not None:
            self._picture.put(replace(entry, record=shown.record, record_version=shown.version))
        self._bin.record_changed(key)

    # -- the bin and the entities --------------------------------------------------------------------------------------
    def bin_listed(self, nodes: Iterable[str], pzxid: int | None = None) -> list[str]:
        """Takes in what lies in the bin; returns the nodes to read."""
        with self._guard:
            gone, new = self._bin.listed(nodes, pzxid)
            for node in gone:
                self.bin_gone(node)
            return new

    def bin_read(self, node: str, raw: bytes | None, stat: Any, posting: Posting | None = None) -> None:
        """Takes in a binned posting; ``raw`` is None where it may not be read."""
        with self._guard:
            self._bin.read(node, raw, stat, posting)

    def bin_doubted(self, node: str) -> None:
        """Another job may lie there by now: it is read again with the next listing."""
        with self._guard:
            self._bin.doubt(node)

    def binned_key(self, node: str) -> str | None:
        """The key of what lies at this node of the bin, as last seen."""
        with self._guard:
            return self._bin.keys.get(node)

    def in_bin(self, key: str) -> bool:
        """Whether a binned job is called so, as last seen."""
        return self._picture.get_binned(key) is not None

    def bin_gone(self, node: str) -> None:
        with self._guard:
            key = self._bin.gone(node)
            if key is not None:
                if key in self._ledgers:
                    self._loose.add(key)
                if not self._kept(key):
                    self._own_counts.pop(key, None)

    def entities_read(self, found: dict[str, tuple[bytes | None, Any]]) -> None:
        """Takes in all the conductors that are registered now; of one that may not be read the name tells."""
        self._entities = {name: read_entity(name, raw, stat) for name, (raw, stat) in found.items()}
        self._picture.set_entities(self._entities.values())

    def is_registered(self, name: str) -> bool:
        """Whether the last reading found this entity."""
        return name in self._entities

    def entity_of(self, session: str | None) -> EntityEntry | None:
        """A conductor that is registered by the session of that id."""
        if session is None:
            return None
        return next((entity for entity in self._entities.values() if entity.session == session), None)

    def now(self) -> datetime:
        """The board's time."""
        return utcnow() + self.clock_offset
