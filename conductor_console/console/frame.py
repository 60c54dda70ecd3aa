"""What every panel draws from: one picture, one moment, one size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from conductor_console.console import theme
from conductor_console.console.layout import Fold
from conductor_console.console.theme import Palette
from conductor_console.observatory.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an act on many jobs is; ``verb`` is the act's name (``bin``)."""

    verb: str
    done: int
    total: int
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class Frame:
    """A moment of the screen.

    :ivar now: the console's clock, UTC. ``notice``: one line of what just happened, and its role.
    :ivar step: where a flow that runs is now, by its uuid; empty where that is not known (yet).
    :ivar progress: the act on many jobs that is under way.
    :ivar view: the name of the view that is shown.
    """

    snapshot: Snapshot
    now: datetime
    fold: Fold
    operator: str = ""
    view: str = "jobs"
    read_only: bool = False
    notice: tuple[str, str] = ("", "soft")
    step: Callable[[str], str] = lambda _flow: ""
    progress: Progress | None = None

    @property
    def lost(self) -> bool:
        """Whether what is shown is old."""
        return self.snapshot.connection.state in ("lost", "closed")

    @property
    def data_now(self) -> datetime:
        """The moment the data is of: durations and ages stand still while the connection is lost."""
        return self.snapshot.taken_at if self.lost else self.now

    @property
    def palette(self) -> Palette:
        """The palette for data: half way to the ground while it is old."""
        active = theme.active()
        return active.fade() if self.lost else active
