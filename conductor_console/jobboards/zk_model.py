"""What is known of a ZooKeeper board: fed by reads and by our own acts, in whatever order they arrive.

Reads travel on one thread and acts on others, so an old answer may come in after a newer act. ZooKeeper's
transaction numbers put them in order: what exists is decided by a folder's listing alone, by its ``pzxid``
(the last transaction that added or removed a child); what it holds by the node's ``czxid`` and ``mzxid``.
What survives that goes into the board's :class:`~.picture.Picture`, which makes listings and events of it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from conductor_console.clock import from_millis, utcnow
from conductor_console.jobboards import attempts, postings
from conductor_console.jobboards.attempts import AttemptRecord
from conductor_console.jobboards.base import BinEntry, Claim, EntityEntry, JobEntry
from conductor_console.jobboards.picture import Picture
from conductor_console.jobboards.zk_client import LOG, as_hex
from conductor_console.text import visible

#: The owner of a claim whose lock tells none.
NO_OWNER: Final = "?"


@dataclass(frozen=True, slots=True)
class Ledger:
    """A job's record as it lies on the board. ``version`` is None where there is no node for it yet.

    ``mzxid`` is the transaction that wrote it: the id of the claim that opened its newest attempt, if that is open.
    """

    record: AttemptRecord
    version: int | None = None
    mzxid: int = 0
    czxid: int = 0

    @property
    def open_claim(self) -> str | None:
        """The claim of the attempt that is open, where the attempt does not tell it."""
        return as_hex(self.mzxid) if self.version is not None and self.record.open_attempt else None


@dataclass(frozen=True, slots=True)
class Lock:
    """A claim and where it stands in the order of transactions."""

    claim: Claim
    czxid: int


def read_lock(raw: bytes | None, stat: Any) -> Lock:
    """A lock node as a claim; whatever is odd about it is told in its ``problem``. ``raw`` None: may not be read."""
    owner = ""
    problems: list[str] = []
    if raw is None:
        problems.append("the lock may not be read")
    elif not raw:
        problems.append("the lock is empty")
    else:
        try:
            data = json.loads(raw)
            owner = data["owner"] if isinstance(data, dict) and isinstance(data.get("owner"), str) else ""
            if not owner:
                problems.append("the lock names no owner")
        except (ValueError, RecursionError):
            problems.append("the lock is not JSON")
    session = stat.ephemeralOwner
    if not session:
        problems.append("the lock is persistent: no session ends it")
    claim = Claim(
        owner=owner or NO_OWNER,
        id=as_hex(stat.czxid),
        claimed_at=from_millis(stat.ctime),
        session=as_hex(session) if session else None,
        version=stat.version,
        problem="; ".join(problems) or None,
    )
    return Lock(claim, stat.czxid)


def read_record(raw: bytes, key: str, stat: Any) -> Ledger:
    """A ledger node; what is no record of this job is started afresh, and told in the log."""
    try:
        record = attempts.from_json(raw, key)
    except attempts.NotARecord as error:
        LOG.warning("the ledger of %s is started afresh: %s", visible(key), visible(error, 200))
        record = AttemptRecord(job=key)
    return Ledger(record, stat.version, stat.mzxid, stat.czxid)


def read_job(node: str, raw: bytes | None, stat: Any) -> JobEntry:
    """A posting as an entry, without its claim and record; ``raw`` None: it may not be read."""
    posting = postings.parse(raw if raw is not None else b"", node)
    return JobEntry(
        key=postings.key_of(posting.uuid, node),
        node=node,
        uuid=posting.uuid,
        name=posting.name,
        priority=posting.priority,
        created_at=from_millis(stat.ctime),
        version=stat.version,
        details=posting.details,
        book_uuid=posting.book_uuid,
        book_name=posting.book_name,
        size=stat.dataLength,
        problem=posting.problem if raw is not None else None,
        access=raw is not None,
    )


class BoardModel:
    """The truth so far of one board, put in order. Thread safe; nothing here waits for anything."""

    def __init__(self, picture: Picture) -> None:
        self._picture = picture
        self._guard = threading.RLock()
        self._keys: dict[str, str] = {}
        self._born: dict[str, int] = {}
        self._locks: dict[str, Lock] = {}
        self._ledgers: dict[str, Ledger] = {}
        self._bin_keys: dict[str, str] = {}
        self._gone_jobs: dict[str, int] = {}
        self._gone_locks: dict[str, int] = {}
        #: Postings that have to be read again; records that may have lost their job.
        self._unsure: set[str] = set()
        self._loose: set[str] = set()
        self._entities: set[str] = set()
        self._true = False
        self._clock_offset = 0.0
        self._uncounted: str | None = None
        #: Counts the times that the connection went: a reading that spans one did not find the whole truth.
        self.epoch = 0

    # -- what is known -----------------------------------------------------------------------------------------------
    def entry_at(self, node: str) -> JobEntry | None:
        with self._guard:
            key = self._keys.get(node)
            return None if key is None else self._picture.get(key)

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
            if not (self._keys.keys() >= set(jobs) and self._bin_keys.keys() >= set(binned)):
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

    def in_step(self, epoch: int, detail: str) -> bool:
        """All was read in ``epoch``: the picture is true, and live, unless the connection went meanwhile."""
        with self._guard:
            if epoch != self.epoch:
                return False
            if not self._true:
                known = self._picture.listing()
                self._picture.replace(known.jobs.values(), known.binned.values(), known.entities.values())
                self._true = True
            self._picture.set_connection("live", detail)
            return True

    # -- notes -----------------------------------------------------------------------------------------------------
    @property
    def uncounted(self) -> str | None:
        return self._uncounted

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
            for node in self._locks.keys() - locked:
                if self._locks[node].czxid <= pzxid:
                    self._unlock(node)
            for node in self._keys.keys() - jobs:
                if self._born[node] <= pzxid:
                    self._remove(node)
            # A name that a listing shows no more cannot come back by an old answer: reads are answered in order.
            self._gone_jobs = {n: z for n, z in self._gone_jobs.items() if n in jobs}
            self._gone_locks = {n: z for n, z in self._gone_locks.items() if n in locked}
            return sorted((jobs - self._keys.keys()) | (jobs & self._unsure))

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
                entry = replace(entry, key=node, problem=f"{other.node} has the same uuid")
            lock = self._locks.get(node)
            ledger = self._ledgers.get(entry.key)
            if self._keys.get(node, entry.key) != entry.key:
                self._remove(node)
            self._gone_jobs.pop(node, None)
            self._keys[node] = entry.key
            self._born[node] = stat.czxid
            self._unsure.discard(node)
            self._picture.put(
                replace(
                    entry,
                    claim=lock.claim if lock else None,
                    record=ledger.record if ledger else None,
                    record_version=ledger.version if ledger else None,
                )
            )

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
        self._picture.drop(key)
        if key in self._ledgers:
            self._loose.add(key)

    def locked(self, node: str, lock: Lock) -> None:
        """Takes in a lock, read or made by ourselves."""
        with self._guard:
            known = self._locks.get(node)
            if lock.czxid <= self._gone_locks.get(node, 0) or (known is not None and lock.czxid < known.czxid):
                return
            self._locks[node] = lock
            self._gone_locks.pop(node, None)
            self._claim_changed(node, lock.claim)

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
            for key in [k for k, ledger in self._ledgers.items() if k not in present and ledger.czxid <= pzxid]:
                self.record_gone(key)

    def recorded(self, key: str, ledger: Ledger) -> None:
        """Takes in a record, read or written by ourselves."""
        with self._guard:
            known = self._ledgers.get(key)
            if known is None or known.mzxid < ledger.mzxid:
                self._ledgers[key] = ledger
                self._record_changed(key)
                if not self._kept(key):
                    self._loose.add(key)

    def record_gone(self, key: str) -> None:
        with self._guard:
            if self._ledgers.pop(key, None) is not None:
                self._record_changed(key)

    def _record_changed(self, key: str) -> None:
        ledger = self._ledgers.get(key)
        entry = self._picture.get(key)
        if entry is not None:
            record, version = (ledger.record, ledger.version) if ledger else (None, None)
            self._picture.put(replace(entry, record=record, record_version=version))
        binned = self._picture.get_binned(key)
        if binned is not None:
            self._picture.put_binned(self._with_record(binned))

    # -- the bin and the entities --------------------------------------------------------------------------------------
    def bin_listed(self, nodes: Iterable[str]) -> list[str]:
        """Takes in what lies in the bin; returns the nodes to read."""
        with self._guard:
            present = set(nodes)
            for node in [n for n in self._bin_keys if n not in present]:
                self.bin_gone(node)
            return sorted(present - self._bin_keys.keys())

    def bin_read(self, node: str, raw: bytes | None, version: int) -> None:
        """Takes in a binned posting; ``raw`` is None where it may not be read."""
        with self._guard:
            if node in self._bin_keys:
                return
            posting = postings.parse(raw if raw is not None else b"", node)
            key = postings.key_of(posting.uuid, node)
            if self._picture.get_binned(key) is not None:
                key = node
            entry = BinEntry(
                key=key,
                node=node,
                uuid=posting.uuid,
                name=posting.name,
                priority=posting.priority,
                posting=raw or b"",
                version=version,
                problem=posting.problem if raw is not None else "the posting may not be read",
            )
            self._bin_keys[node] = key
            self._picture.put_binned(self._with_record(entry))

    def _with_record(self, entry: BinEntry) -> BinEntry:
        ledger = self._ledgers.get(entry.key)
        binned = ledger.record.binned if ledger else None
        return replace(
            entry,
            binned_at=binned.when if binned else None,
            who=binned.who if binned else None,
            why=binned.why if binned else None,
            record=ledger.record if ledger else None,
            record_version=ledger.version if ledger else None,
        )

    def bin_gone(self, node: str) -> None:
        with self._guard:
            key = self._bin_keys.pop(node, None)
            if key is not None:
                self._picture.drop_binned(key)
                if key in self._ledgers:
                    self._loose.add(key)

    def entities_read(self, found: dict[str, tuple[bytes, Any]]) -> None:
        """Takes in all the conductors that are registered now."""
        self._entities = set(found)
        self._picture.set_entities(_entity(name, raw, stat) for name, (raw, stat) in found.items())

    def is_registered(self, name: str) -> bool:
        """Whether the last reading found this entity."""
        return name in self._entities

    def now(self) -> datetime:
        """The board's time."""
        return utcnow() + self.clock_offset


def _entity(name: str, raw: bytes, stat: Any) -> EntityEntry:
    host, _, pid = name.partition("@")[2].rpartition(":")
    try:
        metadata = json.loads(raw)["metadata"]
        host = str(metadata.get("hostname", host))
        pid = str(metadata.get("pid", pid))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        pass
    session = as_hex(stat.ephemeralOwner) if stat.ephemeralOwner else None
    return EntityEntry(name, host, int(pid) if pid.isascii() and pid.isdecimal() and len(pid) < 20 else None, session)
