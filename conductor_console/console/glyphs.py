"""Every state as glyph, word and role; and the ASCII set for terminals that widen what is not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from conductor_console.jobboards.attempts import Outcome
from conductor_console.jobboards.base import ConnectionState
from conductor_console.observatory.snapshot import ConductorState, Standing


@dataclass(frozen=True, slots=True)
class Sign:
    """How a state is told: always glyph, then a space, then the word, both in the role's colour."""

    glyph: str
    word: str
    role: str


STANDINGS: Final[Mapping[Standing, Sign]] = {
    "cycling": Sign("↻", "cycling", "amber"),
    "malformed": Sign("!", "malformed", "red"),
    "no-access": Sign("⊘", "no-access", "soft"),
    "suspect": Sign("?", "suspect", "amber"),
    "held": Sign("◌", "held", "soft"),
    "claimed": Sign("▸", "claimed", "accent"),
    "waiting": Sign("◦", "waiting", "dim"),
    "binned": Sign("▾", "binned", "soft"),
}

RUNNING: Final = Sign("▸", "running", "accent")
OUTCOMES: Final[Mapping[Outcome, Sign]] = {
    "consumed": Sign("✓", "consumed", "soft"),
    "failed": Sign("✗", "failed", "red"),
    "abandoned": Sign("✗", "abandoned", "red"),
    "crashed": Sign("✗", "crashed", "red"),
    "suspended": Sign("║", "suspended", "soft"),
    "revoked": Sign("⊘", "revoked", "soft"),
    "released": Sign("◦", "released", "dim"),
    "unknown": Sign("?", "unknown", "soft"),
}

CONDUCTORS: Final[Mapping[ConductorState, Sign]] = {
    "running": Sign("▸", "running", "accent"),
    "paused": Sign("║", "paused", "soft"),
    "draining": Sign("▾", "draining", "soft"),
    "stopped": Sign("◦", "stopped", "dim"),
    "crashed": Sign("✗", "crashed", "red"),
}

CONNECTIONS: Final[Mapping[ConnectionState, Sign]] = {
    "live": Sign("◉", "live", "accent"),
    "connecting": Sign("◦", "connecting", "dim"),
    "lost": Sign("✗", "lost", "red"),
    "closed": Sign("✗", "closed", "red"),
}

#: From nothing to full, for throughput.
SPARKS: Final = "▁▂▃▄▅▆▇█"

_ASCII: Final[Mapping[str, str]] = {
    **dict(zip(SPARKS, "_.:-=+*#", strict=True)),
    "↻": "@",
    "⊘": "#",
    "◌": "~",
    "▸": ">",
    "◂": "<",
    "◦": ".",
    "▾": "v",
    "✓": "+",
    "✗": "x",
    "║": "=",
    "↺": "<",
    "◉": "o",
    "▌": "|",
    "⋯": "~",
    "›": ">",
    "─": "-",
    "━": "=",
    "│": "|",
    "┅": ":",
    "┄": ".",
}

_ascii_only: list[bool] = [False]


def use_ascii(only: bool) -> None:
    """Whether everything that is painted from now on keeps to ASCII (foreign names are left as they are)."""
    _ascii_only[0] = only


def ascii_only() -> bool:
    """Whether the ASCII set is in force."""
    return _ascii_only[0]


def shape(glyph: str) -> str:
    """A glyph as the set in force draws it; one cell for one cell."""
    return "".join(_ASCII.get(char, char) for char in glyph) if _ascii_only[0] else glyph
