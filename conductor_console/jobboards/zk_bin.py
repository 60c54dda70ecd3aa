"""What lies in a ZooKeeper board's bin, which boards of one parent share, and whose record is whose.

A record is named by its job's uuid, and by its node's name in the bin where that is not usable. A node's name comes
again (another board's job, a name that was free again), so by itself it does not tell that the two belong together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from conductor_console.jobboards import postings
from conductor_console.jobboards.attempts import AttemptRecord
from conductor_console.jobboards.base import BinEntry
from conductor_console.jobboards.picture import Picture
from conductor_console.jobboards.postings import Posting
from conductor_console.jobboards.zk_paths import JOB_PREFIX


@dataclass(frozen=True, slots=True)
class Shown:
    """A record as it is to be shown; the version and the last transaction of the one that lies on the board."""

    record: AttemptRecord | None = None
    version: int | None = None
    mzxid: int = 0


class BinnedJobs:
    """Puts what lies in the bin into the board's picture, with the records that the board has of it.

    Not thread safe: the model calls it under its lock.

    :param shown: gives the record of that name.
    """

    def __init__(self, picture: Picture, shown: Callable[[str], Shown]) -> None:
        self._picture = picture
        self._shown = shown
        #: By node: its key in the picture, and the transaction that made it.
        self.keys: dict[str, str] = {}
        self._born: dict[str, int] = {}
        self._unsure: set[str] = set()

    def listed(self, nodes: Iterable[str], pzxid: int | None) -> tuple[list[str], list[str]]:
        """Takes in what lies in the bin. Returns the nodes that are gone, and those to read.

        :param pzxid: the last transaction that the listing shows; None: nothing came since, there is no bin.
        """
        present = {node for node in nodes if node.startswith(JOB_PREFIX)}
        absent = [node for node in self.keys if node not in present]
        gone = [n for n in absent if pzxid is None or n in self._unsure or self._born[n] <= pzxid]
        self._unsure &= present
        return gone, sorted((present - self.keys.keys()) | self._unsure)

    def doubt(self, node: str | None = None) -> None:
        """This one, or whatever lies there, may be another job by now: it is to be read again."""
        self._unsure.update(self.keys if node is None else {node})

    def read(self, node: str, raw: bytes | None, stat: Any, posting: Posting | None = None) -> None:
        """Takes in a posting; ``raw`` is None where it may not be read.

        :param posting: what it says, where that is known.
        """
        if node in self.keys and node not in self._unsure:
            return
        self._unsure.discard(node)
        posting = posting or postings.parse(raw if raw is not None else b"", node)
        old = self.keys.pop(node, None)
        self._born[node] = stat.czxid
        key = self._key(node, posting.uuid)
        if old not in (None, key):
            self._picture.drop_binned(old)
        entry = BinEntry(
            key=key,
            node=node,
            uuid=posting.uuid,
            name=posting.name,
            priority=posting.priority,
            posting=raw or b"",
            version=stat.version,
            problem=posting.problem if raw is not None else "the posting may not be read",
        )
        self.keys[node] = key
        self._picture.put_binned(self._with_record(entry))

    def gone(self, node: str) -> str | None:
        """Takes a node out. Returns the key that it had, if it was there."""
        self._born.pop(node, None)
        key = self.keys.pop(node, None)
        if key is not None:
            self._picture.drop_binned(key)
        return key

    def record_changed(self, key: str) -> None:
        """The record of that name changed, or the job that it belongs to came to the board, or left it."""
        known = self.keys.get(key)
        if known is not None and known != key and self._binned_as(key):
            # The record came in after the posting, and tells that it is not the other of the same uuid.
            entry = self._picture.get_binned(known)
            if entry is not None and entry.node == key:
                self._picture.drop_binned(known)
                self.keys[key] = key
                self._picture.put_binned(self._with_record(replace(entry, key=key)))
            return
        binned = self._picture.get_binned(key)
        if binned is not None:
            self._picture.put_binned(self._with_record(binned))

    def _key(self, node: str, uuid: str | None) -> str:
        key = postings.key_of(uuid, node)
        other = self._picture.get_binned(key)
        return node if self._binned_as(node) or (other is not None and other.node != node) else key

    def _binned_as(self, node: str) -> bool:
        """Whether the record that is named by this node was written when the node was moved here, or later."""
        shown = self._shown(node)
        moved = shown.record is not None and shown.record.binned is not None
        return moved and shown.mzxid >= self._born.get(node, 0)

    def _with_record(self, entry: BinEntry) -> BinEntry:
        shown = self._shown(entry.key)
        if shown.record is not None and not self._belongs(entry, shown.record):
            shown = Shown()
        record = shown.record
        binned = record.binned if record else None
        return replace(
            entry,
            binned_at=binned.when if binned else None,
            who=binned.who if binned else None,
            why=binned.why if binned else None,
            record=record,
            record_version=shown.version,
        )

    def _belongs(self, entry: BinEntry, record: AttemptRecord) -> bool:
        if record.binned is None:
            # TaskFlow moved it; or the record is that of a job on the board which is called the same.
            return self._picture.get(entry.key) is None
        return entry.key != entry.node or self._binned_as(entry.node)
