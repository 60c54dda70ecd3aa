"""Listing a folder that has tens of thousands of children, many times a second."""

from __future__ import annotations

from typing import Any, Final

from kazoo.client import KazooClient
from kazoo.protocol.serialization import GetChildren2, int_struct, stat_struct
from kazoo.protocol.states import ZnodeStat

from conductor_console.jobboards.zk_client import Answer, sent
from conductor_console.jobboards.zk_paths import split_children

#: A name's length in its four octets, but for the last of these: no name has a zero in it, and none is empty.
_ZEROS: Final = "\0\0\0"


def listing(client: KazooClient, path: str, watch: Any = None) -> Answer:
    """The promise of a node's children and its stat, as kazoo's ``get_children`` gives them; the watch is told when
    they change.
    """
    return sent(client, _Listing(client.chroot + path, watch))


class _Listing(GetChildren2):
    """kazoo's request, whose answer is taken to pieces all at once: by kazoo's way, name by name, a big one would keep
    every thread waiting for longer than the server took.
    """

    @classmethod
    def deserialize(cls, octets: bytes, offset: int) -> tuple[list[str], Any]:
        end = len(octets) - stat_struct.size
        (count,) = int_struct.unpack_from(octets, offset)
        names = _names(octets[offset + int_struct.size : end])
        if names is None or len(names) != count:
            names = GetChildren2.deserialize(octets, offset)[0]
        return names, ZnodeStat._make(stat_struct.unpack_from(octets, end))


def _names(octets: bytes) -> list[str] | None:
    """Names, each behind its length; None where one is not plain ASCII. One of 256 octets or more is not found."""
    if not octets.isascii():
        return None
    _, *pieces = octets.decode("ascii").split(_ZEROS)
    return [piece[1:] for piece in pieces]


class Listed:
    """A board's children as they were last listed: only what differs from then is looked at."""

    def __init__(self) -> None:
        self._children: set[str] = set()
        self._jobs: set[str] = set()
        self._locked: set[str] = set()

    def split(self, names: list[str]) -> tuple[set[str], set[str]]:
        """The postings, and those of them that are locked; neither is to be changed."""
        listed = set(names)
        new = listed - self._children
        gone = self._children - listed if len(listed) - len(new) != len(self._children) else set()
        for some, put in ((gone, set.difference_update), (new, set.update)):
            jobs, locked = split_children(some)
            put(self._jobs, jobs)
            put(self._locked, locked)
            # Not the new set in place of the old: its names would be kept twice, here and by whoever was told of them.
            put(self._children, some)
        return self._jobs, self._locked
