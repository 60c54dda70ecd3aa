"""``jobs retry``, ``hold`` and ``release``: when jobs may be tried, and by whom."""

from __future__ import annotations

from typing import Annotated

import typer

from conductor_console.cli import acting, options
from conductor_console.cli.jobs_app import (
    DryRun,
    FailuresOver,
    Filter,
    Health,
    Name,
    OlderThan,
    State,
    Uuids,
    Yes,
    opened,
    selection_of,
)
from conductor_console.cli.options import example


def retry_jobs(
    board: options.BoardUrl,
    uuids: Uuids = None,
    name: Name = None,
    failures_over: FailuresOver = None,
    state: State = None,
    health: Health = None,
    terms: Filter = None,
    older_than: OlderThan = None,
    dry_run: DryRun = False,
    as_json: options.Json = False,
) -> None:
    """End the hold of jobs, so that the next free conductor takes them."""
    selection = selection_of(uuids, name, failures_over, state, health, terms, older_than)
    acting.act_on(
        opened(board),
        selection,
        "retry",
        lambda operations, entries: operations.retry(entries),
        dry_run=dry_run,
        as_json=as_json,
    )


def hold_jobs(
    board: options.BoardUrl,
    how_long: Annotated[str, typer.Option("--for", metavar="TIME", help="How long, such as 90s, 30m, 1h or 2d.")],
    uuids: Uuids = None,
    name: Name = None,
    failures_over: FailuresOver = None,
    state: State = None,
    health: Health = None,
    terms: Filter = None,
    older_than: OlderThan = None,
    dry_run: DryRun = False,
    as_json: options.Json = False,
) -> None:
    """Have conductors of this project leave jobs alone for a while, until it is over or they are retried.

    It does not bind TaskFlow's own conductors: they know no holds.
    """
    from conductor_console.observatory import filters

    seconds = filters.seconds(how_long)
    selection = selection_of(uuids, name, failures_over, state, health, terms, older_than)
    acting.act_on(
        opened(board),
        selection,
        "hold",
        lambda operations, entries: operations.hold(entries, seconds),
        dry_run=dry_run,
        as_json=as_json,
    )


def release_jobs(
    board: options.BoardUrl,
    uuids: Uuids = None,
    name: Name = None,
    failures_over: FailuresOver = None,
    state: State = None,
    health: Health = None,
    terms: Filter = None,
    older_than: OlderThan = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: options.Json = False,
) -> None:
    """End the claims of jobs, so that another conductor takes them; always asks, and cannot be undone.

    Whoever holds a job may still be at work: it may then be run twice at once. Release only when you know that its
    owner is dead.
    """
    from conductor_console.text import plural

    selection = selection_of(uuids, name, failures_over, state, health, terms, older_than)
    acting.act_on(
        opened(board),
        selection,
        "release",
        lambda operations, entries: operations.release(entries),
        question=lambda items: (
            f"Release the claims of {plural(len(items), 'job')}? Whoever holds one may still be at work: the job may "
            "then be run twice at once. Release only when you know that its owner is dead."
        ),
        dry_run=dry_run,
        yes=yes,
        as_json=as_json,
    )


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("retry", epilog=example("conductor-console jobs retry sqlite:///board.db --state held"))(retry_jobs)
    app.command("hold", epilog=example("conductor-console jobs hold sqlite:///board.db --name 'report-*' --for 1h"))(
        hold_jobs
    )
    app.command(
        "release", epilog=example("conductor-console jobs release zk://zk1:2181/taskflow/jobs 3f1c0c64 --dry-run")
    )(release_jobs)
