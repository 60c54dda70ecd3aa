"""``jobs``: the command line twins of the console's keys."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from conductor_console.cli import acting, jobs_again, options, output
from conductor_console.cli.jobs_app import (
    DryRun,
    FailuresOver,
    Filter,
    Health,
    Name,
    OlderThan,
    State,
    Uuids,
    Why,
    Yes,
    opened,
    selection_of,
)
from conductor_console.cli.jobs_app import app as app
from conductor_console.cli.options import example

if TYPE_CHECKING:
    from conductor_console.cli.select import Item
    from conductor_console.cli.wiring import Workplace


@app.command(
    "list",
    epilog=example(
        "conductor-console jobs list sqlite:///board.db --state held",
        "conductor-console jobs list zk://zk1:2181/taskflow/jobs --failures-over 2 --json",
    ),
)
def list_jobs(
    board: options.BoardUrl,
    uuids: Uuids = None,
    name: Name = None,
    failures_over: FailuresOver = None,
    state: State = None,
    health: Health = None,
    terms: Filter = None,
    older_than: OlderThan = None,
    in_bin: Annotated[bool, typer.Option("--bin", help="List the bin.")] = False,
    as_json: options.Json = False,
) -> None:
    """List jobs, worst first; or the bin, newest first."""
    selection = selection_of(uuids, name, failures_over, state, health, terms, older_than)
    with opened(board) as place:
        chosen, missing = selection.among(acting.items(place, binned=in_bin or state == "binned"))
    from conductor_console.cli import shapes
    from conductor_console.text import plural, visible

    if as_json:
        output.print_json([shapes.job_json(item) for item in chosen])
    elif chosen:
        output.show(shapes.job_table(chosen))
    else:
        output.tell("no job fits" if not selection.empty else f"no job {'in the bin' if in_bin else 'on the board'}")
    if missing:
        output.tell(f"{plural(len(missing), 'uuid')} not there: {', '.join(visible(uuid, 80) for uuid in missing)}")
        raise typer.Exit(1)


@app.command(
    "show", epilog=example("conductor-console jobs show sqlite:///board.db 3f1c0c64 --store sqlite:///flows.db")
)
def show_job(
    board: options.BoardUrl,
    uuid: Annotated[str, typer.Argument(help="The job, by uuid or a beginning that means no other.")],
    store: options.StoreUrl = None,
    as_json: options.Json = False,
) -> None:
    """Show one job: its fields, attempts, details (secrets masked) and, with a store, its flow."""
    from conductor_console.cli import shapes
    from conductor_console.errors import ConsoleError
    from conductor_console.text import visible

    selection = selection_of([uuid])
    with opened(board, store) as place:
        chosen, _ = selection.among([*acting.items(place, binned=False), *acting.items(place, binned=True)])
        if not chosen:
            raise ConsoleError(f"no job {visible(uuid, 80)} on the board or in its bin")
        item = chosen[0]
        flow = _flow(place, item)
    if as_json:
        output.print_json(shapes.full_json(item, flow))
    else:
        output.show(*shapes.job_lines(item, flow))


@app.command(
    "post",
    epilog=example(
        "conductor-console jobs post sqlite:///board.db --store sqlite:///flows.db "
        "--factory shop.flows:checkout --kwargs '{\"order\": 7}'",
        "conductor-console jobs post zk://zk1:2181/taskflow/jobs --store sqlite:///flows.db "
        "--factory shop.flows:checkout --inject @values.json --count 10",
        "conductor-console jobs post zk://zk1:2181/taskflow/jobs --again 3f1c0c64 --dry-run",
    ),
)
def post_jobs(
    board: options.BoardUrl,
    store: options.StoreUrl = None,
    factory: Annotated[
        str | None, typer.Option("--factory", metavar="PKG.MOD:FUNCTION", help="What makes the job's flow.")
    ] = None,
    args: Annotated[str, typer.Option("--args", metavar="JSON", help="The factory's arguments, an array.")] = "[]",
    kwargs: Annotated[str, typer.Option("--kwargs", metavar="JSON", help="The factory's keywords, an object.")] = "{}",
    inject: Annotated[
        str | None,
        typer.Option(
            "--inject",
            metavar="@FILE|-",
            help="The flow's values, a JSON object, from a file or stdin; with --again: the details that were masked.",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="The job's name; by default the function's.")
    ] = None,
    priority: Annotated[
        str, typer.Option("--priority", metavar="NAME", help="VERY_HIGH, HIGH, NORMAL, LOW or VERY_LOW.")
    ] = "NORMAL",
    count: Annotated[int, typer.Option("--count", metavar="N", help="Post so many of it.")] = 1,
    again: Annotated[
        list[str] | None,
        typer.Option(
            "--again", metavar="UUID", help="A job that is gone, deleted or purged, as the audit knows it: a new job."
        ),
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: options.Json = False,
) -> None:
    """Post jobs: a logbook with its flow in the store, and a posting on the board. Runs nobody's code.

    With --again, one that is gone is posted anew with the name, priority, details and logbook that it had; asks where
    something speaks against it. It is looked for in the local audit file and, with --store, in the store's.
    """
    from conductor_console.errors import UsageError
    from conductor_console.operations import PostRequest
    from conductor_console.text import visible

    values = _json("--inject", _values(inject), dict) if inject is not None else {}
    if again:
        given = {"--factory": factory, "--name": name, "--args": args != "[]", "--kwargs": kwargs != "{}"}
        given |= {"--priority": priority != "NORMAL", "--count": count != 1}
        if those := ", ".join(option for option, value in given.items() if value):
            raise UsageError(f"--again posts what was there: it does not go with {those}")
        if values and len(again) > 1:
            raise UsageError("--inject gives what was masked of one job: give --again once")
        jobs_again.post_again(board, store, again, values, dry_run=dry_run, yes=yes, as_json=as_json)
        return
    if factory is None:
        raise UsageError("post what? --factory PKG.MOD:FUNCTION makes a new job, --again UUID posts one that is gone")
    request = PostRequest(
        factory=factory,
        name=name if name is not None else factory.replace(":", ".").rpartition(".")[2],
        args=_json("--args", args, list),
        kwargs=_json("--kwargs", kwargs, dict),
        inject=values,
        priority=priority,
        count=count,
    )
    with opened(board, store, posting=True) as place:
        posted = place.operations.post(request, dry_run=dry_run)
    if as_json:
        pairs = zip(posted or [None] * count, request.names(), strict=True)
        output.print_json([{"uuid": uuid, "name": job} for uuid, job in pairs])
    elif dry_run:
        output.lines(f"dry run: would post {visible(job)}" for job in request.names())
    else:
        output.lines(posted)


@app.command(
    "bin",
    epilog=example("conductor-console jobs bin sqlite:///board.db --name 'create-lb-*' --failures-over 3 --dry-run"),
)
def bin_jobs(
    board: options.BoardUrl,
    uuids: Uuids = None,
    name: Name = None,
    failures_over: FailuresOver = None,
    state: State = None,
    health: Health = None,
    terms: Filter = None,
    older_than: OlderThan = None,
    why: Why = "by an operator",
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: options.Json = False,
) -> None:
    """Move jobs to the bin; asks where one is claimed. They can be restored."""
    from conductor_console.text import plural

    def question(items: Sequence[Item]) -> str | None:
        claimed = [item for item in items if item.view.state == "claimed"]
        if not claimed:
            return None
        return f"Move {plural(len(items), 'job')} to the bin, {len(claimed)} of them claimed?"

    selection = selection_of(uuids, name, failures_over, state, health, terms, older_than)
    acting.act_on(
        opened(board),
        selection,
        "bin",
        lambda operations, entries: operations.bin(entries, why),
        question=question,
        dry_run=dry_run,
        yes=yes,
        as_json=as_json,
    )


@app.command("delete", epilog=example("conductor-console jobs delete sqlite:///board.db 3f1c0c64 --yes"))
def delete_jobs(
    board: options.BoardUrl,
    uuids: Uuids = None,
    name: Name = None,
    failures_over: FailuresOver = None,
    state: State = None,
    health: Health = None,
    terms: Filter = None,
    older_than: OlderThan = None,
    in_bin: Annotated[bool, typer.Option("--bin", help="Delete from the bin.")] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: options.Json = False,
) -> None:
    """Delete jobs for good; always asks, and refuses where nobody can be asked without --yes."""
    from conductor_console.text import plural

    selection = selection_of(uuids, name, failures_over, state, health, terms, older_than)
    acting.act_on(
        opened(board),
        selection,
        "delete",
        lambda operations, entries: operations.delete(entries),
        question=lambda items: f"Delete {plural(len(items), 'job')} for good?",
        binned=in_bin or state == "binned",
        dry_run=dry_run,
        yes=yes,
        as_json=as_json,
    )


@app.command(
    "purge",
    epilog=example("conductor-console jobs purge zk://zk1:2181/taskflow/jobs --older-than 30d --dry-run"),
)
def purge_jobs(
    board: options.BoardUrl,
    uuids: Uuids = None,
    name: Name = None,
    failures_over: FailuresOver = None,
    terms: Filter = None,
    older_than: OlderThan = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: options.Json = False,
) -> None:
    """Delete jobs from the bin for good; asks for a typed word, and needs --yes where nobody can be asked.

    What TaskFlow put into the bin tells no time: --older-than leaves it there.
    """
    from conductor_console.operations.course import purge_word
    from conductor_console.text import plural, visible

    selection = selection_of(uuids, name, failures_over, terms=terms, older_than=older_than)
    acting.act_on(
        opened(board),
        selection,
        "purge",
        lambda operations, entries: operations.delete(entries),
        question=lambda items: f"Purge {plural(len(items), 'job')} from the bin for good?",
        word=lambda items: purge_word([visible(item.entry.name) for item in items]),
        binned=True,
        dry_run=dry_run,
        yes=yes,
        as_json=as_json,
    )


@app.command("restore", epilog=example("conductor-console jobs restore sqlite:///board.db --name 'create-lb-*'"))
def restore_jobs(
    board: options.BoardUrl,
    uuids: Uuids = None,
    name: Name = None,
    failures_over: FailuresOver = None,
    terms: Filter = None,
    older_than: OlderThan = None,
    dry_run: DryRun = False,
    as_json: options.Json = False,
) -> None:
    """Put jobs back from the bin on the board; their failures are forgiven, their history stays."""
    selection = selection_of(uuids, name, failures_over, terms=terms, older_than=older_than)
    acting.act_on(
        opened(board),
        selection,
        "restore",
        lambda operations, entries: operations.restore(entries),
        binned=True,
        dry_run=dry_run,
        as_json=as_json,
    )


def _flow(place: Workplace, item: Item) -> Any:
    """The job's flow as stored; None without a store, or where it does not know it."""
    from taskflow.exceptions import NotFound

    store = place.store
    if store is None:
        return None
    entry = item.view.entry
    known = entry.flow_uuid or next(iter(store.resolve(entry.book_uuid)) if entry.book_uuid else iter(()), None)
    try:
        return store.flow_rows(known) if known else None
    except NotFound:
        return None


def _values(source: str) -> str:
    """The text of ``@FILE`` or of ``-``, standard input. :raises UsageError: for anything else."""
    from conductor_console.errors import UsageError
    from conductor_console.text import visible

    if source == "-":
        return sys.stdin.read()
    if not source.startswith("@"):
        raise UsageError("--inject takes @FILE or - (values in an argument could be seen by other users)")
    try:
        return Path(source[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(f"--inject cannot read {visible(source[1:], 200)}: {why}") from error


def _json(option: str, text: str, kind: type[list[Any]] | type[dict[str, Any]]) -> Any:
    """:raises UsageError: when ``text`` is not JSON of that kind; its content is not told, it may be secret."""
    from conductor_console.errors import UsageError

    wanted = "a JSON array, such as [1, 2]" if kind is list else 'a JSON object, such as {"order": 7}'
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        where = f" (line {error.lineno}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        raise UsageError(f"{option} must be {wanted}; this is not JSON{where}") from None
    if not isinstance(value, kind):
        raise UsageError(f"{option} must be {wanted}")
    return value
