"""What the audit keeps of a posting, and the posting made of that again.

Secrets are masked there, and where they were is kept beside them: what was masked is never posted in their place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from taskflow.jobs.base import JobPriority

from conductor_console.errors import ConsoleError, UsageError
from conductor_console.jobboards.base import JobEntry
from conductor_console.jobboards.postings import Posting
from conductor_console.masking import masked
from conductor_console.persistence.audit import AuditRow
from conductor_console.text import visible

#: The place of a value in details: ``("store", "password")``, ``("urls", 0)``.
Place = tuple[str | int, ...]

#: The audit's column for a job's name.
_NAME: Final = 255
_SHOWN: Final = 80
#: How the values that were masked read where the audit does not tell their places.
_MASKED: Final = re.compile(r"masked, \S+ \S+|not shown, nested deeper than \d+|.*\*\*\*.*", re.DOTALL)

#: What is left to do where the audit does not tell enough.
BY_HAND: Final = "post it by hand, jobs post BOARD --factory PKG.MOD:FUNCTION"
_GIVE: Final = 'give that with --inject @FILE, as {"store": {"password": "…"}}'


def kept(posting: JobEntry | Posting, *, workable: bool) -> dict[str, Any]:
    """The fields of a posting for the audit; secrets masked, and told where."""
    details = masked(posting.details)
    told: dict[str, Any] = {
        "book": posting.book_uuid,
        "book_name": posting.book_name,
        "details": details,
        "masked": [] if details == posting.details else [list(place) for place in _differing(posting.details, details)],
    }
    if visible(posting.name) != posting.name or len(posting.name) > _NAME:
        told["name"] = posting.name
    return told if workable else told | {"workable": False}


def _differing(value: Any, shown: Any, at: Place = ()) -> Iterator[Place]:
    if isinstance(value, Mapping) and isinstance(shown, Mapping):
        for key, inner in value.items():
            yield from _differing(inner, shown.get(str(key)), (*at, str(key)))
    elif isinstance(value, list) and isinstance(shown, list) and len(value) == len(shown):
        for number, (inner, other) in enumerate(zip(value, shown, strict=True)):
            yield from _differing(inner, other, (*at, number))
    elif value != shown:
        yield at


def told_of(row: AuditRow) -> bool:
    """Whether an act's row tells of a posting at all."""
    return isinstance(row.before.get("details"), dict)


def posting(row: AuditRow) -> JobEntry:
    """The job as it was posted, of a row that tells of it; what was masked is masked still, see :func:`unmasked`.

    :raises ConsoleError: when it cannot be had of this row; one line.
    """
    before = row.before
    if before.get("workable") is False:
        raise ConsoleError("its posting was none that could be worked on")
    if "cut_from" in before:
        raise ConsoleError(f"the audit cut it, of {before['cut_from']} octets: {BY_HAND}")
    uuid = str(row.job_uuid)
    try:
        priority = JobPriority.convert(before["priority"])
    except (KeyError, ValueError):
        raise ConsoleError("the audit does not tell its priority: an older version wrote it") from None
    name = before.get("name", row.job_name)
    if not isinstance(name, str) or not name:
        raise ConsoleError("the audit does not tell its name: an older version wrote it")
    return JobEntry(
        key=uuid,
        node=str(before.get("node", "")),
        uuid=uuid,
        name=name,
        priority=priority,
        created_at=row.at,
        details=before["details"],
        book_uuid=_text(before.get("book")),
        book_name=_text(before.get("book_name")),
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def places(row: AuditRow) -> list[Place]:
    """Where the details of a row are masked."""
    told = row.before.get("masked")
    if isinstance(told, list):
        return [tuple(place) for place in told]
    # Rows of older versions: whatever reads as if it was.
    return list(_looking_masked(row.before["details"]))


def _looking_masked(value: Any, at: Place = ()) -> Iterator[Place]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _looking_masked(inner, (*at, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _looking_masked(inner, (*at, number))
    elif isinstance(value, str) and _MASKED.fullmatch(value):
        yield at


def unmasked(entry: JobEntry, hidden: Sequence[Place], supplied: Mapping[str, Any]) -> JobEntry:
    """The job with what was masked put in from ``supplied``: details of which only that is given.

    :raises UsageError: when more is given. :raises ConsoleError: when less is, with what is missing.
    """
    given, extra = _given(supplied, hidden)
    if extra:
        raise UsageError(f"only what was masked can be given for {entry.uuid}, and that is not {_named(extra)}")
    missing = [place for place in hidden if not any(place[: len(one)] == one for one in given)]
    if missing:
        raise ConsoleError(f"the audit has {_named(missing)} masked: {_GIVE}, or {BY_HAND} --inject @FILE")
    return replace(entry, details=_with(entry.details, supplied)) if supplied else entry


def _given(supplied: Mapping[str, Any], hidden: Sequence[Place], at: Place = ()) -> tuple[list[Place], list[Place]]:
    """The places that ``supplied`` gives anew, and those that it may not."""
    given: list[Place] = []
    extra: list[Place] = []
    for key, value in supplied.items():
        place = (*at, key)
        if place in hidden:
            given.append(place)
        elif isinstance(value, Mapping) and value:
            for found, more in zip((given, extra), _given(value, hidden, place), strict=True):
                found += more
        elif isinstance(value, list) and any(one[: len(place)] == place for one in hidden):
            # An array is given whole: its elements have no names.
            given.append(place)
        else:
            extra.append(place)
    return given, extra


def _with(details: Any, supplied: Mapping[str, Any]) -> dict[str, Any]:
    made = dict(details) if isinstance(details, Mapping) else {}
    for key, value in supplied.items():
        within = isinstance(value, Mapping) and isinstance(made.get(key), Mapping)
        made[key] = _with(made[key], value) if within else value
    return made


def _named(where: Sequence[Place]) -> str:
    """``store.password, urls[0] and 3 more``."""
    names = ["".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)[1:] for place in where]
    shown = ", ".join(visible(name, _SHOWN) for name in names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown
