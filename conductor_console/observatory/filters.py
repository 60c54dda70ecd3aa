"""The filter: what an operator types after ``/``, and which jobs it means. Pure; screen and command line share it.

Terms are parted by blanks and all of them must fit: ``state:held fails:>3 !owner:c1 port``. A term without a field is
looked for in name, uuid, owner, state and cause; ``!`` before a term inverts it; ``"two words"`` are one text.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, get_args

from taskflow.jobs.base import JobPriority

from conductor_console.errors import UsageError
from conductor_console.observatory.snapshot import Health, JobView, State
from conductor_console.text import visible

#: Whether a job fits, at a moment (the board's clock).
Test = Callable[[JobView, datetime], bool]

STATES: Final[tuple[str, ...]] = get_args(State)
HEALTHS: Final[tuple[str, ...]] = get_args(Health)
#: The short names of the list, beside the priorities' own.
_SHORT: Final = {"v.hi": "very_high", "v.lo": "very_low"}
_PRIORITIES: Final = tuple(priority.value.lower() for priority in JobPriority)

_TOKEN: Final = re.compile(r'(?P<not>!?)(?:(?P<field>[A-Za-z_]+):(?!/))?(?P<value>"[^"]*"?|\S*)')
_AMOUNT: Final = re.compile(r"(?P<sign>>=|<=|>|<|=|)(?P<number>\d{1,9}(?:\.\d{1,9})?)(?P<unit>[a-z]*)")
_SIGNS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "=": operator.eq,
    "": operator.eq,
}
UNITS: Final[Mapping[str, float]] = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


class Texts:
    """What terms without a field look through; kept for as long as a job's view is the same."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[JobView, str]] = {}

    def of(self, job: JobView) -> str:
        """The job's text, folded."""
        known = self._known.get(job.key)
        if known is not None and known[0] is job:
            return known[1]
        text = _text(job)
        self._known[job.key] = (job, text)
        return text

    def forget(self) -> None:
        """Lets go of all of it."""
        self._known = {}


@dataclass(frozen=True, slots=True)
class Filter:
    """What was typed, and its terms: ``texts`` are looked for (True) or must not be there (False), ``tests`` asked."""

    text: str = ""
    tests: tuple[Test, ...] = ()
    texts: tuple[tuple[str, bool], ...] = ()

    def __bool__(self) -> bool:
        """Whether it leaves anything out at all."""
        return bool(self.tests or self.texts)

    def fits(self, job: JobView, now: datetime, texts: Texts | None = None) -> bool:
        """Whether every term fits."""
        if not all(test(job, now) for test in self.tests):
            return False
        if not self.texts:
            return True
        whole = texts.of(job) if texts is not None else _text(job)
        return all((text in whole) is wanted for text, wanted in self.texts)


#: All jobs.
EVERYTHING: Final = Filter()


def parse(text: str) -> Filter:
    """
    :raises UsageError: one clean line on the first term that cannot be meant.
    """
    tests: list[Test] = []
    texts: list[tuple[str, bool]] = []
    for inverse, field, value in _terms(text):
        if field is None:
            if not value:
                raise UsageError("! inverts the term after it (example: !state:claimed)")
            texts.append((value.casefold(), not inverse))
            continue
        make = FIELDS.get(field.lower())
        if make is None:
            quoted = visible(f'"{field}:{value}"', 60)
            raise UsageError(f"no field '{visible(field, 30)}', there are {', '.join(FIELDS)}; {quoted} is a text")
        test = make(value)
        tests.append(_inverse(test) if inverse else test)
    return Filter(text.strip(), tuple(tests), tuple(texts))


def seconds(text: str) -> float:
    """A time as people write it: ``90s``, ``1.5h``, ``30d``.

    :raises UsageError: when it is none.
    """
    found = _AMOUNT.fullmatch(text)
    if found is None or found["sign"] or found["unit"] not in UNITS:
        raise UsageError(f"not a time: '{visible(text, 30)}', it takes a number and s, m, h, d or w (example: 30d)")
    return float(found["number"]) * UNITS[found["unit"]]


def _terms(text: str) -> Iterator[tuple[bool, str | None, str]]:
    """Inverted or not, the field if there is one, the value without its quotes."""
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        found = _TOKEN.match(text, at)
        assert found is not None
        at = max(found.end(), at + 1)
        value = found["value"]
        yield bool(found["not"]), found["field"], value.strip('"') if value.startswith('"') else value


def _text(job: JobView) -> str:
    parts = [job.name, job.key, job.owner or "", job.standing, job.state, job.problem or ""]
    if job.cause is not None:
        parts += [job.cause.type, job.cause.message, job.cause.where]
    return "\n".join(parts).casefold()


def _inverse(test: Test) -> Test:
    return lambda job, now: not test(job, now)


# -- one field each ----------------------------------------------------------------------------------------------------
def _one_of(field: str, value: str, known: Iterable[str]) -> frozenset[str]:
    """The names that ``value`` is, or is a beginning of."""
    wanted = value.casefold().replace("-", "_")
    names = list(known)
    exact = [name for name in names if name.replace("-", "_") == wanted]
    fitting = exact or [name for name in names if wanted and name.replace("-", "_").startswith(wanted)]
    if not fitting:
        unknown = f"no {field} '{visible(value, 30)}', there" if value else f"{field}: there"
        raise UsageError(f"{unknown} are {', '.join(names)}")
    return frozenset(fitting)


def _state(value: str) -> Test:
    # What the first column shows is asked for by either name: cycling and suspect are healths.
    names = _one_of("state", value, (*STATES, *(health for health in HEALTHS if health != "ok")))
    return lambda job, _: job.state in names or job.health in names


def _health(value: str) -> Test:
    names = _one_of("health", value, HEALTHS)
    return lambda job, _: job.health in names


def _priority(value: str) -> Test:
    names = _one_of("prio", _SHORT.get(value.casefold(), value), _PRIORITIES)
    return lambda job, _: job.priority.lower() in names


def _pattern(field: str, value: str) -> Callable[[str], bool]:
    """A part of a text; with ``*`` or ``?`` the whole of it, as in a shell."""
    if not value:
        raise UsageError(f"{field}: needs a text, * and ? as in a shell (example: {field}:create-*)")
    wanted = value.casefold()
    if "*" not in wanted and "?" not in wanted:
        return lambda text: wanted in text.casefold()
    shape = re.compile(re.escape(wanted).replace(r"\*", ".*").replace(r"\?", "."), re.DOTALL)
    return lambda text: shape.fullmatch(text.casefold()) is not None


def _name(value: str) -> Test:
    fits = _pattern("name", value)
    return lambda job, _: fits(job.name)


def _owner(value: str) -> Test:
    fits = _pattern("owner", value)
    return lambda job, _: job.owner is not None and fits(job.owner)


def _cause(value: str) -> Test:
    fits = _pattern("cause", value)

    def test(job: JobView, _: datetime) -> bool:
        cause = job.cause
        return cause is not None and (
            cause.fingerprint == value or any(fits(text) for text in (cause.type, cause.message, cause.where))
        )

    return test


def _fails(value: str) -> Test:
    found = _AMOUNT.fullmatch(value)
    if found is None or found["unit"] or "." in found["number"]:
        raise UsageError("fails: takes a number, with >, >=, < or <= before it (example: fails:>3)")
    compare, number = _SIGNS[found["sign"]], int(found["number"])
    return lambda job, _: compare(job.failures, number)


def _age(value: str) -> Test:
    found = _AMOUNT.fullmatch(value)
    if found is None or found["sign"] in ("", "=") or found["unit"] not in UNITS:
        raise UsageError("age: takes > or <, a number and s, m, h, d or w (example: age:>1h)")
    compare, limit = _SIGNS[found["sign"]], float(found["number"]) * UNITS[found["unit"]]

    def test(job: JobView, now: datetime) -> bool:
        since = job.binned_at if job.state == "binned" else job.created_at
        return since is not None and compare((now - since).total_seconds(), limit)

    return test


#: How each field reads its value.
FIELDS: Final[Mapping[str, Callable[[str], Test]]] = {
    "state": _state,
    "health": _health,
    "owner": _owner,
    "name": _name,
    "cause": _cause,
    "fails": _fails,
    "age": _age,
    "prio": _priority,
}
