"""How much of what was created on a ZooKeeper board no listing showed.

Every child ever created is counted by the board's node, so what came and went between two listings is known in
number, though not whose it was: claims that lasted a moment, mostly. Thread safe.
"""

from __future__ import annotations

import threading
from datetime import datetime
from typing import Any

from conductor_console.clock import utcnow
from conductor_console.jobboards.zk_paths import created


class Creations:
    """Compares what was created with what was seen.

    :ivar unseen: so many nodes (claims at most) came and went unseen; below zero for a moment, while no listing shows
        what we did. ``since``: from when on that is known.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._board = 0
        self._count = 0
        self._settled = 0
        self._pending: set[tuple[int, str]] = set()
        self.unseen = 0
        self.since: datetime | None = None

    def seen(self, name: str, czxid: int) -> None:
        """A node was seen, or made by ourselves, that was created by this transaction."""
        with self._guard:
            if czxid > self._settled:
                self._pending.add((czxid, name))

    def came_and_went(self) -> None:
        """We made a node ourselves and deleted it in the same transaction: nobody's claim."""
        with self._guard:
            self.unseen -= 1

    def explains(self, stat: Any) -> bool:
        """Whether all that was created up to a listing with this stat of the board's node was seen."""
        with self._guard:
            if stat.czxid != self._board or stat.pzxid < self._settled:
                return False
            return created(stat) - self._count == sum(zxid <= stat.pzxid for zxid, _ in self._pending)

    def settle(self, stat: Any) -> None:
        """All that a listing with this stat of the board's node showed was read."""
        count = created(stat)
        with self._guard:
            known = {node for node in self._pending if node[0] <= stat.pzxid}
            if stat.czxid != self._board or count < self._count or stat.pzxid < self._settled:
                # Another board than before, or its history is begun anew.
                self._board, self.unseen, self.since = stat.czxid, 0, utcnow()
            else:
                self.unseen += count - self._count - len(known)
            self._count, self._settled = count, stat.pzxid
            self._pending -= known
