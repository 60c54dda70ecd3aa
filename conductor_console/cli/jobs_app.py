"""What the ``jobs`` commands share: the options that tell which jobs are meant, and how the board is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from conductor_console.cli import output
from conductor_console.cli.options import example

if TYPE_CHECKING:
    from conductor_console.cli.select import Selection

app = typer.Typer(
    help="List, post, bin, delete, restore, purge, retry, hold and release jobs.",
    no_args_is_help=True,
    epilog=example("conductor-console jobs list zk://zk1:2181/taskflow/jobs --failures-over 2 --json"),
    rich_markup_mode=None,
)

Uuids = Annotated[
    list[str] | None, typer.Argument(metavar="UUID", help="Jobs, by uuid or a beginning that means no other.")
]
Name = Annotated[str | None, typer.Option("--name", metavar="PATTERN", help="Jobs so named; * and ? as in a shell.")]
FailuresOver = Annotated[
    int | None, typer.Option("--failures-over", metavar="N", min=0, help="Jobs with more failures in a row than this.")
]
State = Annotated[
    str | None,
    typer.Option("--state", metavar="STATE", help="waiting, claimed, held, malformed, no-access, binned; or a health."),
]
Health = Annotated[str | None, typer.Option("--health", metavar="HEALTH", help="ok, suspect or cycling.")]
Filter = Annotated[
    str | None,
    typer.Option("--filter", metavar="TERMS", help="Jobs that fit, as after / in the console: 'state:held fails:>3'."),
]
OlderThan = Annotated[
    str | None,
    typer.Option("--older-than", metavar="TIME", help="Posted, or binned, longer ago than that, such as 30d or 12h."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only tell what would be done.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Why = Annotated[str, typer.Option("--why", metavar="TEXT", help="The reason, for the bin and the audit trail.")]


def selection_of(
    uuids: list[str] | None = None,
    name: str | None = None,
    failures_over: int | None = None,
    state: str | None = None,
    health: str | None = None,
    terms: str | None = None,
    older_than: str | None = None,
) -> Selection:
    from conductor_console.cli.select import Selection
    from conductor_console.observatory import filters

    wanted = terms or ""
    if older_than is not None:
        filters.seconds(older_than)
        # First: an open quotation mark takes in whatever follows it.
        wanted = f"age:>{older_than} {wanted}"
    return Selection(tuple(uuids or ()), name, failures_over, state, health, filters.parse(wanted))


def opened(board: str, store: str | None = None, *, posting: bool = False) -> Any:
    """The workplace of one command; a read-only one creates nothing and never will."""
    from conductor_console.cli.wiring import open_workplace

    output.warn_password(board, store)
    return open_workplace(board, store_url=store, access="posting" if posting else "attached")
