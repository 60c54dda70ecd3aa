"""Text for people: foreign text made safe, lengths cut so that they still tell, durations and ages.

Whatever comes off a board or a database is hostile until it went through :func:`visible`.
"""

from __future__ import annotations

import unicodedata
from datetime import datetime

from wcwidth import wcswidth, wcwidth

_UNSAFE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"}


def visible(text: object, limit: int | None = None) -> str:
    """``text`` on one line, with control characters, escapes and bidirectional marks shown as ``\\x1b``.

    :param limit: at most so many characters; what was cut is told.
    """
    raw = text if isinstance(text, str) else str(text)
    if limit is not None and len(raw) > limit:
        raw = f"{raw[:limit]} ({len(raw) - limit} more)"
    if raw.isascii() and raw.isprintable():
        return raw
    return "".join(_shown(char) for char in raw)


def _shown(char: str) -> str:
    if char in "\n\t\r":
        return {"\n": "\\n", "\t": "\\t", "\r": "\\r"}[char]
    if char != " " and unicodedata.category(char) in _UNSAFE:
        code = ord(char)
        if code < 0x100:
            return f"\\x{code:02x}"
        return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    return char


def width(text: str) -> int:
    """The number of terminal cells ``text`` takes."""
    if text.isascii():
        return len(text)
    cells = wcswidth(text)
    return cells if cells >= 0 else len(text)


def _take(text: str, cells: int) -> str:
    taken = 0
    for index, char in enumerate(text):
        taken += max(0, wcwidth(char))
        if taken > cells:
            return text[:index]
    return text


def elide_middle(text: str, cells: int, mark: str = "\N{MIDLINE HORIZONTAL ELLIPSIS}") -> str:
    """``text`` in at most ``cells`` cells; its middle goes, so that the id at its end survives."""
    if width(text) <= cells:
        return text
    if cells <= 1:
        return mark[:cells]
    tail = (cells - 1) // 2
    head = cells - 1 - tail
    end = _take(text[::-1], tail)[::-1]
    return _take(text, head) + mark + end


def elide_front(text: str, cells: int, mark: str = "\N{MIDLINE HORIZONTAL ELLIPSIS}") -> str:
    """``text`` in at most ``cells`` cells; its front goes (paths: the file at the end matters)."""
    if width(text) <= cells:
        return text
    if cells <= 1:
        return mark[:cells]
    return mark + _take(text[::-1], cells - 1)[::-1]


def elide_end(text: str, cells: int, mark: str = "\N{MIDLINE HORIZONTAL ELLIPSIS}") -> str:
    """``text`` in at most ``cells`` cells; its end goes."""
    if width(text) <= cells:
        return text
    if cells <= 1:
        return mark[:cells]
    return _take(text, cells - 1) + mark


def duration(seconds: float) -> str:
    """A running time: ``0:12``, ``38:10``, ``2:03:10``, ``4d 02h``."""
    total = max(0, int(seconds))
    if total < 3600:
        return f"{total // 60}:{total % 60:02d}"
    if total < 86400:
        return f"{total // 3600}:{total % 3600 // 60:02d}:{total % 60:02d}"
    return f"{total // 86400}d {total % 86400 // 3600:02d}h"


def age(seconds: float) -> str:
    """How long ago, in one unit: ``12s``, ``5m``, ``2h``, ``3d``."""
    total = max(0, int(seconds))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if total >= size:
            return f"{total // size}{unit}"
    return f"{total}s"


def clock_time(when: datetime) -> str:
    """A time of day with its zone: ``03:14:07 UTC``."""
    return when.strftime("%H:%M:%S UTC")


def size(octets: int) -> str:
    """A size: ``212 bytes``, ``3.2 KB``."""
    if octets < 1024:
        return plural(octets, "byte")
    if octets < 1024 * 1024:
        return f"{octets / 1024:.1f} KB"
    return f"{octets / 1024 / 1024:.1f} MB"


def plural(number: int, word: str, many: str | None = None) -> str:
    """``1 job``, ``3 jobs``, ``1,204 jobs``."""
    return f"{number:,} {word if number == 1 else many or word + 's'}"
