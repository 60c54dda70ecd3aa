"""``guard``: takes jobs that fail again and again off a board, as a service or from cron."""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from conductor_console.cli import options, output, policy

if TYPE_CHECKING:
    from conductor_console.observatory.guard import Act, Guard

#: Seconds for which ``--once`` waits for jobs that are claimed to be let go.
PATIENCE: Final = 10.0
ACTED: Final = 4
_ACTIONS: Final = ("bin", "delete", "report")
_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(
        "guard",
        epilog=options.example(
            "conductor-console guard zk://zk1:2181/octavia_jobboard --store mysql://reader@db/octavia --max-failures 5",
            "conductor-console guard sqlite:////srv/board.db --max-failures 3 --rule 'report-*: action=report' --once",
        ),
    )(guard)


def guard(
    board: options.BoardUrl,
    store: options.StoreUrl = None,
    max_failures: Annotated[
        int | None,
        typer.Option("--max-failures", metavar="N", min=1, help="Act after so many failures in a row."),
    ] = None,
    action: Annotated[
        str | None,
        typer.Option("--action", metavar="WHAT", help="bin (the default), delete, or report: tell, and do nothing."),
    ] = None,
    rule: policy.Rules = None,
    name: Annotated[
        list[str] | None,
        typer.Option("--name", metavar="PATTERN", help="Look at no other jobs than these; may be repeated."),
    ] = None,
    once: Annotated[
        bool,
        typer.Option("--once", help="See to what is on the board now, and end: 0 nothing to do, 4 acted, 1 refused."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Do nothing, tell what would be done.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON an act.")] = False,
) -> None:
    """Bin (or delete, or report) jobs that fail again and again, on a board whose conductors would go on for ever.

    Counts the failures of TaskFlow's own conductors, and takes a job only while nobody holds it. Runs until it is told
    to end by a signal.
    """
    from conductor_console.cli.wiring import open_workplace, operator
    from conductor_console.errors import BoardUnreachable, UsageError
    from conductor_console.jobboards.attempts import Policy

    output.warn_password(board, store)
    if action is not None and action not in _ACTIONS:
        raise UsageError(f"--action is one of {', '.join(_ACTIONS)}")
    place = policy.where(board, store)
    given = {"max-failures": max_failures, "action": action}
    policies, chosen = policy.policies(place.profile, Policy(), given, rule or [])
    if "max-failures" not in chosen:
        raise UsageError("say after how many failures in a row to act: --max-failures 5")
    # Two of them on one host must be told apart.
    who = f"guard of {operator()}:{os.getpid()}"
    with open_workplace(place.board, store_url=place.store, read_only=dry_run, who=who) as opened:
        from conductor_console.observatory.guard import Guard

        made = Guard(
            opened.board,
            opened.operations,
            policies,
            store=opened.store,
            names=name or (),
            dry_run=dry_run,
            tell=_json_line if as_json else _line,
            remark=_remark,
        )
        _run(made, None if not once else PATIENCE, f"guards {opened.title}")
        connection = opened.board.listing().connection
        if once and connection.state != "live":
            raise BoardUnreachable(f"the board went away before all was seen to: {connection.detail}")
    if once:
        raise typer.Exit(1 if made.refused else ACTED if made.acted else 0)


def _run(made: Guard, patience: float | None, what: str) -> None:
    with ExitStack() as stack:
        for number in _SIGNALS:
            stack.callback(signal.signal, number, signal.signal(number, lambda *_: made.stop()))
        if patience is None:
            _remark(what)
        made.run(patience)
        if patience is None:
            _remark("ended")


def _remark(line: str) -> None:
    from conductor_console.clock import iso, utcnow

    output.tell(f"{iso(utcnow())} {line}")


def _line(act: Act) -> None:
    """What was done, or why it was not: time, what, job, failures, cause."""
    from conductor_console.clock import iso
    from conductor_console.text import plural, visible

    what = {"would": f"would {act.line}", "outrun": "outrun at", "left": "left"}.get(act.what, act.what)
    line = f"{iso(act.at)} {what} {act.name} {visible(act.uuid or act.key)} after {plural(act.failures, 'failure')}"
    if act.line and act.what != "would":
        line += f" ({act.line})"
    if act.cause is not None:
        line += f": {_masked(act.cause.type)}: {_masked(act.cause.message)} {_masked(act.cause.where)}".rstrip()
    _put(line)


def _json_line(act: Act) -> None:
    from conductor_console.cli.shapes import cause_json
    from conductor_console.clock import iso

    cause = cause_json(act.cause)
    shape: dict[str, Any] = {
        "at": iso(act.at),
        "act": f"would {act.line}" if act.what == "would" else act.what,
        "uuid": act.uuid or act.key,
        "name": act.name,
        "failures": act.failures,
        "cause": cause and {name: _masked(value) for name, value in cause.items()},
        "why": act.line if act.what != "would" and act.line else None,
    }
    _put(json.dumps(shape, ensure_ascii=True).replace("\x7f", "\\u007f"))


def _masked(text: str) -> str:
    from conductor_console.cli.headless import safe

    return safe(text)


def _put(line: str) -> None:
    """At once: whoever reads it wants to know now."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
