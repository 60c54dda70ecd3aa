"""What reaches the screen from threads, and from one widget to another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from textual.message import Message


@dataclass
class Finished(Message):
    """Work on another thread is done; ``then`` is called with nothing on the screen's own thread."""

    then: Callable[[], None]


@dataclass
class Failed(Message):
    """Work on another thread could not be done; ``line`` is one clean line for a person."""

    line: str


@dataclass
class CursorMoved(Message):
    """The cursor of a list is on another row now, or its marks changed."""

    key: str | None

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, CursorMoved)


@dataclass
class Opened(Message):
    """A row was opened (enter, double click)."""

    key: str
