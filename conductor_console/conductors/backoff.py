"""Waits between tries of what may work again by itself."""

from __future__ import annotations


class Backoff:
    """Waits that double, up to a bound (seconds)."""

    def __init__(self, first: float = 0.2, most: float = 15.0) -> None:
        self._first = first
        self._most = most
        self._next = first

    def next(self) -> float:
        wait, self._next = self._next, min(self._most, self._next * 2)
        return wait

    def reset(self) -> None:
        self._next = self._first
