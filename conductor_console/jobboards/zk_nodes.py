"""The nodes of a ZooKeeper board, read: postings, locks, records and conductors, whoever wrote them."""

from __future__ import annotations

import json
from collections.abc import ItemsView, Iterator, Mapping
from dataclasses import dataclass
from sys import intern
from types import MappingProxyType
from typing import Any, Final

from conductor_console.clock import from_millis
from conductor_console.jobboards import attempts, postings
from conductor_console.jobboards.attempts import AttemptRecord, claim_order
from conductor_console.jobboards.base import Claim, EntityEntry, JobEntry
from conductor_console.jobboards.zk_client import LOG, as_hex
from conductor_console.text import visible

#: The owner of a claim whose lock tells none.
NO_OWNER: Final = "?"


_NONE: Final[Mapping[str, Any]] = MappingProxyType({})


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
        """The claim of the attempt that is open."""
        attempt = self.record.open_attempt
        if self.version is None or attempt is None:
            return None
        return as_hex(self.mzxid if attempt.claim is None else claim_order(attempt.claim))


@dataclass(frozen=True, slots=True)
class Lock:
    """A claim and where it stands in the order of transactions."""

    claim: Claim
    czxid: int
    readable: bool = True


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
        owner=intern(owner) if owner else NO_OWNER,
        id=as_hex(stat.czxid),
        claimed_at=from_millis(stat.ctime),
        session=intern(as_hex(session)) if session else None,
        version=stat.version,
        problem="; ".join(problems) or None,
    )
    return Lock(claim, stat.czxid, readable=raw is not None)


def read_record(raw: bytes, key: str, stat: Any) -> Ledger:
    """A ledger node; what is no record of this job is started afresh, and told in the log."""
    try:
        record = attempts.from_json(raw, key)
    except attempts.NotARecord as error:
        LOG.warning("the ledger of %s is started afresh: %s", visible(key), visible(error, 200))
        record = AttemptRecord(job=key)
    return Ledger(record, stat.version, stat.mzxid, stat.czxid)


class PostedDetails(Mapping[str, Any]):
    """A posting's details, kept as JSON, and read each time they are asked for.

    They are seldom looked at, and would take a third of a big board's memory.
    """

    __slots__ = ("_json",)

    def __init__(self, details: Mapping[str, Any]) -> None:
        self._json = json.dumps(details, separators=(",", ":"))

    def _read(self) -> dict[str, Any]:
        details: dict[str, Any] = json.loads(self._json)
        return details

    def __getitem__(self, key: str) -> Any:
        return self._read()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def items(self) -> ItemsView[str, Any]:
        # Read once for all of them.
        return self._read().items()

    def __eq__(self, other: object) -> bool:
        if isinstance(other, PostedDetails):
            return self._json == other._json
        return self._read() == other

    def __hash__(self) -> int:
        return hash(self._json)

    def __repr__(self) -> str:
        return repr(self._read())


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
        details=PostedDetails(posting.details) if posting.details else _NONE,
        book_uuid=posting.book_uuid,
        # Mostly the same text: kept once.
        book_name=posting.name if posting.book_name == posting.name else posting.book_name,
        size=stat.dataLength,
        problem=posting.problem if raw is not None else None,
        access=raw is not None,
    )


def read_entity(name: str, raw: bytes | None, stat: Any) -> EntityEntry:
    """A conductor's node; what it does not tell is taken from its name."""
    host, _, pid = name.partition("@")[2].rpartition(":")
    try:
        metadata = json.loads(raw or b"{}")["metadata"]
        host = str(metadata.get("hostname", host))
        pid = str(metadata.get("pid", pid))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        pass
    session = as_hex(stat.ephemeralOwner) if stat.ephemeralOwner else None
    return EntityEntry(name, host, int(pid) if pid.isascii() and pid.isdecimal() and len(pid) < 20 else None, session)
