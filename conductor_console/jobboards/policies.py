"""Which policy holds for which job: one for the board, and others for names that fit a pattern.

Read from a profile's table or from the command line, the same way; what cannot be meant is a ``UsageError``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, Final, get_args

from conductor_console.errors import UsageError
from conductor_console.jobboards.attempts import Action, AttemptRecord, Policy
from conductor_console.text import plural, visible

ACTIONS: Final = get_args(Action)
#: What a table calls the parts of a policy.
_FIELDS: Final[Mapping[str, str]] = {
    "max-failures": "max_attempts",
    "action": "action",
    "backoff": "base",
    "cap": "cap",
    "jitter": "jitter",
}
_EXAMPLE: Final = "lb-*: max-failures=3, action=report"


@dataclass(frozen=True, slots=True)
class Policies:
    """The policy of a board, and the exceptions to it by the job's name; the first pattern that fits decides."""

    default: Policy = field(default_factory=Policy)
    rules: tuple[tuple[str, Policy], ...] = ()

    def of(self, name: str) -> Policy:
        """The policy for a job of that name."""
        return next((policy for pattern, policy in self.rules if fnmatchcase(name, pattern)), self.default)


#: Whatever tells the policy of a job by its name.
AnyPolicy = Policy | Policies


def with_limit(policy: AnyPolicy, max_attempts: int) -> AnyPolicy:
    """The same with another limit, but for the names that have one of their own.

    :raises ValueError: for one that makes no sense.
    """
    if isinstance(policy, Policies):
        return replace(policy, default=replace(policy.default, max_attempts=max_attempts))
    return replace(policy, max_attempts=max_attempts)


def changed(policy: Policy, table: Mapping[str, Any]) -> Policy:
    """The policy with what the table says: ``max-failures``, ``action``, ``backoff``, ``cap`` (both s), ``jitter``.

    :raises UsageError: one line that says what is wrong with it.
    """
    values: dict[str, Any] = {}
    for name, value in table.items():
        called = name.replace("_", "-")
        if called not in _FIELDS:
            raise UsageError(f"A policy has no {visible(name, 40)!r}, there are {', '.join(_FIELDS)}")
        values[_FIELDS[called]] = _checked(called, value)
    return replace(policy, **values)


def _checked(name: str, value: Any) -> Any:
    if name == "action":
        if value not in ACTIONS:
            raise UsageError(f"An action is one of {', '.join(ACTIONS)}, not {visible(value, 40)!r}")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UsageError(f"{name} is a number, not {visible(value, 40)!r}")
    if name == "max-failures":
        if value != int(value) or value < 1:
            raise UsageError(f"max-failures is a whole number from 1 on, not {value}")
        return int(value)
    if value < 0 or (name == "jitter" and value > 1):
        wanted = "from 0 to 1" if name == "jitter" else "of seconds from 0 on"
        raise UsageError(f"{name} is a number {wanted}, not {value}")
    return float(value)


def from_table(table: Mapping[str, Any], base: Policy) -> Policies:
    """What a profile says: the parts of a policy, and ``rules``, each with the ``name`` pattern it is for.

    A rule changes the board's policy; what it does not name stays as it is there.

    :raises UsageError: one line that says what is wrong with it.
    """
    given = dict(table)
    rules = given.pop("rules", [])
    default = changed(base, given)
    if not isinstance(rules, Sequence) or not all(isinstance(rule, Mapping) for rule in rules):
        raise UsageError("A policy's rules are tables, each with the name pattern that it is for")
    read = []
    for rule in rules:
        own = dict(rule)
        pattern = own.pop("name", None)
        if not isinstance(pattern, str) or not pattern:
            raise UsageError('A rule needs the pattern of job names that it is for (example: name = "lb-*")')
        read.append((pattern, changed(default, own)))
    return Policies(default, tuple(read))


def rule(text: str) -> dict[str, Any]:
    """A rule as the command line writes it (``lb-*: max-failures=3, action=report``), as a table.

    :raises UsageError: one line that says what is wrong with it.
    """
    pattern, colon, rest = text.rpartition(":")
    parts = [part.strip() for part in rest.split(",") if part.strip()]
    if not colon or not pattern.strip() or not parts or not all("=" in part for part in parts):
        raise UsageError(f"A rule reads {_EXAMPLE!r}, not {visible(text, 80)!r}")
    table: dict[str, Any] = {"name": pattern.strip()}
    for part in parts:
        name, _, value = (piece.strip() for piece in part.partition("="))
        table[name] = value if name == "action" else _number(name, value)
    return table


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{visible(name, 40)} is a number, not {visible(text, 40)!r}") from None


def in_a_row(failures: int) -> str:
    """How often a job failed without a break, in words."""
    return f"failed {plural(failures, 'time')} in a row"


def why(record: AttemptRecord) -> str:
    """Why a policy acts on a job: how often it failed without a break, and its newest cause."""
    cause = record.cause
    return in_a_row(record.failures) + (f": {cause.type}: {cause.message}"[:300] if cause else "")
