"""The jobs whose flows run in this process, whichever of its conductors runs them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final


class InFlight:
    """Keeps a job from being run twice at a time here: one whose claim was lost may still be at its last atom."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, set[Callable[[], None]]] = {}

    def enter(self, uuid: str, wake: Callable[[], None]) -> bool:
        """Whether the job may be run now; where not, ``wake`` is called once it may be tried again."""
        with self._lock:
            waiting = self._waiting.get(uuid)
            if waiting is None:
                self._waiting[uuid] = set()
                return True
            waiting.add(wake)
            return False

    def leave(self, uuid: str) -> None:
        """It no longer runs, or never did."""
        with self._lock:
            waiting = self._waiting.pop(uuid, set())
        for wake in waiting:
            wake()


IN_FLIGHT: Final = InFlight()
