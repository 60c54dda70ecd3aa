"""What a command line and a profile say of the board, and of jobs that fail: the command line comes first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from conductor_console.jobboards.attempts import Policy
    from conductor_console.jobboards.policies import Policies
    from conductor_console.settings import Profile

Rules = Annotated[
    list[str] | None,
    typer.Option(
        "--rule",
        metavar="RULE",
        help="Another policy by job name: 'lb-*: max-failures=3, action=report'; may be repeated, the first counts.",
    ),
]


@dataclass(frozen=True, slots=True)
class Where:
    """A board and its store as URLs, and the profile that named them, if one did."""

    board: str
    store: str | None
    profile: Profile | None = None


def where(board: str, store: str | None) -> Where:
    """What ``BOARD`` and ``--store`` mean: a URL each, or a profile's name in the place of the first.

    :raises UsageError: when it is neither.
    """
    from conductor_console import settings

    if "://" in board:
        return Where(board, store)
    profile = settings.profile(board)
    return Where(profile.board, store if store is not None else profile.store, profile)


def policies(
    profile: Profile | None, base: Policy, given: dict[str, Any], rules: Sequence[str]
) -> tuple[Policies, frozenset[str]]:
    """The policies that hold, and the names of the parts that somebody chose (``max-failures`` …).

    :param given: the parts that the command line names; None where it does not.
    :param rules: as the command line writes them; they come before the profile's.
    :raises UsageError: for what cannot be meant.
    """
    from conductor_console.errors import UsageError
    from conductor_console.jobboards import policies as reading
    from conductor_console.text import visible

    table = dict(profile.policy) if profile is not None else {}
    own = table.pop("rules", [])
    try:
        from_profile = reading.from_table({**table, "rules": own}, base)
    except UsageError as error:
        assert profile is not None
        raise UsageError(f"the profile {visible(profile.name, 80)}: {error}") from error
    said = {name: value for name, value in given.items() if value is not None}
    default = reading.changed(from_profile.default, said)
    if own:
        # A profile's rule changes what holds for the board, which the command line may have changed.
        from_profile = reading.from_table({"rules": own}, default)
    first = reading.from_table({"rules": [reading.rule(text) for text in rules]}, default)
    chosen = frozenset(name.replace("_", "-") for name in (*table, *said))
    return replace(first, rules=(*first.rules, *from_profile.rules)), chosen
