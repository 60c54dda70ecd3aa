"""Times: always aware, always UTC, written the one way everything else reads them."""

from __future__ import annotations

from datetime import UTC, datetime


def utcnow() -> datetime:
    """The local clock's time, aware, in UTC."""
    return datetime.now(UTC)


def iso(when: datetime) -> str:
    """``when`` as ISO 8601 with microseconds and Z, e.g. ``2026-01-01T00:00:00.000000Z``."""
    # Not strftime: it writes the year 1 as 1, which nothing reads again.
    return (when if when.tzinfo is UTC else when.astimezone(UTC)).isoformat(timespec="microseconds")[:-6] + "Z"


def from_iso(text: str) -> datetime:
    """The inverse of :func:`iso`; also reads other ISO 8601 with a zone.

    :raises ValueError: for anything else (a time without a zone is nobody's time).
    """
    when = datetime.fromisoformat(text)
    if when.tzinfo is None:
        raise ValueError(f"no zone in {text!r}")
    return when.astimezone(UTC)


def from_millis(millis: int) -> datetime:
    """A ZooKeeper stat's ``ctime`` or ``mtime`` (ms since the epoch, the server's clock)."""
    return datetime.fromtimestamp(millis / 1000, UTC)


def naive_utc(when: datetime | None) -> datetime | None:
    """A database's naive UTC column made aware (TaskFlow writes ``timeutils.utcnow``)."""
    return None if when is None else when.replace(tzinfo=UTC)


def for_column(when: datetime) -> datetime:
    """``when`` as a database's naive UTC column holds it: the inverse of :func:`naive_utc`."""
    return when.astimezone(UTC).replace(tzinfo=None)
