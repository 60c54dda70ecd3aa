"""Reading many nodes of a ZooKeeper: pipelined, and where no watch is wanted many nodes a request.

A request costs kazoo far more than a node: a first picture of a big board is a matter of requests. ZooKeeper has a
transaction of reads since 3.6, which kazoo does not know: :class:`_ReadMany` is that. A server that does not know it
either says so and hangs up, keeping the session; from then on nodes are read singly there.
"""

from __future__ import annotations

import functools
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from kazoo import exceptions as k_exceptions
from kazoo.client import KazooClient
from kazoo.protocol.serialization import int_struct, multiheader_struct, read_acl, stat_struct, write_string
from kazoo.protocol.states import ZnodeStat

from conductor_console.jobboards.zk_client import ANSWER_SECONDS, LOG, NO_RIGHTS, sent

#: So many single reads, and so many transactions of reads, are under way at once.
_WINDOW: Final = 256
_TRANSACTIONS: Final = 4
#: Fewer nodes than that are read singly: no server is asked for what it may not know without need; and where it is
#: known to know that, one transaction (with watches two requests) must be less than these.
_FEW: Final = 32
_PAIR: Final = 2
#: A transaction reads so many nodes at most, fewer where they are big: the server holds its answer in memory whole.
_FIRST: Final = 16
_MOST: Final = 64
_OCTETS: Final = 256 * 1024
#: The connection broke so often over the first transaction that it is taken for what the server does not know.
_SUSPICIOUS: Final = 2
#: What may be met at a single node, and is the reader's to judge.
_ABOUT_ONE: Final = (k_exceptions.NoNodeError, *NO_RIGHTS)

_LONG: Final = struct.Struct("!q")

Path = Callable[[str], str]
Found = tuple[str, Any]


class Reads:
    """Reads nodes for one thread.

    Each method is given names, and how a name's path is had. It gives for each name, in order, ``(data, stat)`` or the
    ZookeeperError that was met there (no node, no rights), and raises KazooException when the connection breaks,
    KazooTimeoutError after a minute without an answer.

    :param proven: the server is known to read many nodes at once.
    :ivar excused: it is being found out what the server knows: should it hang up now, that is no outage.
    """

    def __init__(self, client: KazooClient, *, proven: bool = False) -> None:
        self.excused = False
        self._client = client
        self._in_transactions = True
        self._answered = proven
        self._broken = 0

    @property
    def proven(self) -> bool:
        """Whether the server has read many nodes at once already."""
        return self._answered

    def watched(self, names: Sequence[str], path: Path, watch: Any) -> Iterator[Found]:
        """Reads each node and leaves a watch on it.

        A node that changed since this client's last word from the server may be told of at once: list them first.
        """
        if self._are_few(names, 1):
            yield from self.singly(names, path, watch)
            return
        watching = []
        for asked, found, zxid in self._transactions(names, path):
            there = [name for name, one in zip(asked, found, strict=True) if isinstance(one, tuple)]
            # What changes after the reading is told at once, the watch being set that much later notwithstanding.
            watching.append(self._watch([path(name) for name in there], watch, zxid))
            yield from zip(asked, found, strict=True)
        for request in watching:
            request.get(timeout=ANSWER_SECONDS)

    def singly(self, names: Iterable[str], path: Path, watch: Any = None) -> Iterator[Found]:
        """Reads each node by a request of its own."""
        under_way: deque[tuple[str, Any]] = deque()
        for name in names:
            under_way.append((name, self._client.get_async(path(name), watch=watch)))
            if len(under_way) >= _WINDOW:
                yield from _answered(under_way, _WINDOW // 2)
        yield from _answered(under_way, len(under_way))
        self.excused = False

    def plain(self, names: Sequence[str], path: Path) -> Iterator[Found]:
        """Reads each node."""
        if self._are_few(names, 0):
            return self.singly(names, path)
        return (one for asked, found, _ in self._transactions(names, path) for one in zip(asked, found, strict=True))

    def rights(self, paths: Sequence[str]) -> list[Any]:
        """Each node's rights (None where it has none), or the ZookeeperError that was met there."""
        asked = [sent(self._client, _ReadRights(self._client.chroot + path)) for path in paths]
        found: list[Any] = []
        for request in asked:
            try:
                found.append(request.get(timeout=ANSWER_SECONDS))
            except _ABOUT_ONE as error:
                found.append(error)
        return found

    def _are_few(self, names: Sequence[str], watching: int) -> bool:
        return len(names) < (_PAIR + watching if self._answered else _FEW) or not self._in_transactions

    def _transactions(self, names: Sequence[str], path: Path) -> Iterator[tuple[Sequence[str], list[Any], int]]:
        """So many names at a time, what was found, and a transaction that the server had done before it looked."""
        under_way: deque[tuple[Sequence[str], Any, int]] = deque()
        # Nothing is known before the first answer: neither whether it comes, nor how big the nodes are.
        begin, many, window = 0, _FIRST, 1
        self.excused = not self._answered
        while begin < len(names) or under_way:
            while begin < len(names) and len(under_way) < window:
                some = names[begin : begin + many]
                begin += len(some)
                zxid = self._client.last_zxid
                under_way.append((some, self._read_many([path(name) for name in some]), zxid))
            asked, request, zxid = under_way.popleft()
            found = self._outcome(request)
            largest = max((len(one[0]) for one in found if isinstance(one, tuple)), default=0)
            many, window = max(1, min(_MOST, _OCTETS // max(1, largest))), _TRANSACTIONS
            yield asked, found, zxid

    def _read_many(self, paths: list[str]) -> Any:
        return sent(self._client, _ReadMany([self._client.chroot + path for path in paths]))

    def _watch(self, paths: list[str], watch: Any, zxid: int) -> Any:
        paths = [self._client.chroot + path for path in paths]
        return sent(self._client, _WatchMany(paths, watch, self._client._data_watchers, zxid))

    def _outcome(self, request: Any) -> list[Any]:
        try:
            found: list[Any] = request.get(timeout=ANSWER_SECONDS)
        except k_exceptions.UnimplementedError:
            self._give_up()
            raise
        except k_exceptions.ConnectionLoss:
            # Its words may be lost with the connection.
            self._broken += not self._answered
            if self._broken >= _SUSPICIOUS:
                self._give_up()
            raise
        self._answered, self.excused = True, False
        for one in found:
            if isinstance(one, Exception) and not isinstance(one, _ABOUT_ONE):
                raise one
        return found

    def _give_up(self) -> None:
        LOG.info("this ZooKeeper reads one node a request: a first picture takes longer than with 3.6 and later")
        self._in_transactions = False


def _answered(under_way: deque[tuple[str, Any]], count: int) -> Iterator[Found]:
    """The answers to the ``count`` oldest requests: when the last of them is in, all are, at one waking."""
    some = [under_way.popleft() for _ in range(count)]
    if some:
        some[-1][1].wait(ANSWER_SECONDS)
    for name, request in some:
        try:
            data, stat = request.get(timeout=ANSWER_SECONDS)
            # Null is what a node made without data holds.
            yield name, (data or b"", stat)
        except _ABOUT_ONE as error:
            yield name, error


class _ReadMany:
    """ZooKeeper's ``multiRead`` of nodes' data, as a request of kazoo's."""

    type = 22
    _DATA: Final = 4
    _ERROR: Final = -1

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = paths

    def serialize(self) -> bytearray:
        octets = bytearray()
        for path in self._paths:
            octets += multiheader_struct.pack(self._DATA, False, -1) + write_string(path) + b"\0"
        return octets + multiheader_struct.pack(-1, True, -1)

    def deserialize(self, octets: bytes, offset: int) -> list[Any]:
        """For each node ``(data, stat)`` or the error that was met."""
        found: list[Any] = []
        while True:
            kind, done, _error = multiheader_struct.unpack_from(octets, offset)
            offset += multiheader_struct.size
            if done:
                return found
            number = int_struct.unpack_from(octets, offset)[0]
            offset += int_struct.size
            if kind == self._ERROR:
                found.append(k_exceptions.EXCEPTIONS[number]())
                continue
            # A node's data may be null: as long as -1.
            end = offset + max(0, number)
            found.append((octets[offset:end], ZnodeStat._make(stat_struct.unpack_from(octets, end))))
            offset = end + stat_struct.size


class _ReadRights:
    """A node's rights: most nodes have the same, which are taken to pieces once."""

    type = 6

    def __init__(self, path: str) -> None:
        self._path = path

    def serialize(self) -> bytes:
        octets: bytes = write_string(self._path)
        return octets

    def deserialize(self, octets: bytes, offset: int) -> Any:
        return _rights(octets[offset : len(octets) - stat_struct.size])


@functools.lru_cache(maxsize=64)
def _rights(octets: bytes) -> list[Any] | None:
    (number,) = int_struct.unpack_from(octets, 0)
    offset, found = int_struct.size, []
    for _ in range(number):
        acl, offset = read_acl(octets, offset)
        found.append(acl)
    return found or None


class _WatchMany:
    """ZooKeeper's ``setWatches``, by which a client comes by its watches after a new connection; kazoo does without.

    :param watchers: kazoo's own, which tell whom an event concerns.
    :param zxid: a node that changed after this transaction is told of at once.
    """

    type = 101

    def __init__(self, paths: Sequence[str], watch: Any, watchers: Any, zxid: int) -> None:
        self._paths = paths
        self._watch = watch
        self._watchers = watchers
        self._zxid = zxid

    def serialize(self) -> bytearray:
        # On the one thread that touches the watchers, and before any event can come.
        for path in self._paths:
            self._watchers[path].add(self._watch)
        none = int_struct.pack(0)
        octets = bytearray(_LONG.pack(self._zxid) + int_struct.pack(len(self._paths)))
        for path in self._paths:
            octets += write_string(path)
        return octets + none + none

    def deserialize(self, _octets: bytes, _offset: int) -> bool:
        return True
