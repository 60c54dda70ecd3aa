"""``run``: conductors in worker threads or processes, with the screen or without."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from conductor_console.cli import boards, logs, options, output, policy

_KINDS = ("blocking", "nonblocking")
_ON_FAILURE = ("consume", "abandon", "bin")
#: Seconds that a child has for what it runs when its parent is gone.
ORPHAN_GRACE = 5.0


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(
        "run",
        epilog=options.example(
            "conductor-console run zk://zk1:2181/taskflow/jobs --store sqlite:////srv/flows.db "
            "--allow-factory 'shop.flows.*' -j 4",
            "conductor-console run sqlite:///board.db --store sqlite:///flows.db --allow-any-factory --headless",
            "conductor-console run zk://zk1:2181/taskflow/jobs --store postgresql://flows@db1/flows "
            "--allow-factory 'shop.flows.*' -j 8 --processes 4",
        ),
    )(run)


def run(
    board: options.BoardUrl,
    store: options.StoreUrl = None,
    allow_factory: Annotated[
        list[str] | None,
        typer.Option("--allow-factory", metavar="PATTERN", help="Run flows of these factories; may be repeated."),
    ] = None,
    allow_any_factory: Annotated[
        bool, typer.Option("--allow-any-factory", help="Run whatever is posted: a factory's name is code.")
    ] = False,
    jobs: Annotated[int, typer.Option("--jobs", "-j", metavar="N", min=1, max=1000, help="Jobs at once.")] = 2,
    processes: Annotated[
        int,
        typer.Option("--processes", metavar="N", min=1, max=64, help="Processes, each for as many jobs at once."),
    ] = 1,
    kind: Annotated[
        str, typer.Option("--kind", metavar="KIND", help="blocking: a thread each; nonblocking: one conductor.")
    ] = "blocking",
    engine: Annotated[
        str, typer.Option("--engine", metavar="ENGINE", help="serial, parallel or worker-based, within one flow.")
    ] = "serial",
    engine_option: Annotated[
        list[str] | None,
        typer.Option(
            "--engine-option", metavar="KEY=VALUE", help="What the engine takes: max_workers=4; may be repeated."
        ),
    ] = None,
    headless: Annotated[bool, typer.Option("--headless", help="No screen; one line an event on stderr.")] = False,
    name: Annotated[str | None, typer.Option("--name", metavar="PREFIX", help="How the conductors are called.")] = None,
    max_attempts: Annotated[
        int | None,
        typer.Option("--max-attempts", metavar="N", min=1, help="Failures in a row until the bin; 5 by default."),
    ] = None,
    action: Annotated[
        str | None,
        typer.Option("--action", metavar="WHAT", help="What then: bin (the default), delete, hold, or report."),
    ] = None,
    on_failure: Annotated[
        str,
        typer.Option(
            "--on-failure", metavar="WHAT", help="A job whose task failed: consume (as TaskFlow), abandon or bin."
        ),
    ] = "consume",
    backoff: Annotated[
        float | None,
        typer.Option(
            "--backoff", metavar="SECONDS", min=0.0, help="The first hold, 2 by default; it doubles each time."
        ),
    ] = None,
    backoff_cap: Annotated[
        float | None,
        typer.Option("--backoff-cap", metavar="SECONDS", min=0.0, help="The longest hold, 300 by default."),
    ] = None,
    jitter: Annotated[
        float | None,
        typer.Option(
            "--jitter", metavar="PART", min=0.0, max=1.0, help="The part of a hold that is left to chance; 0.2."
        ),
    ] = None,
    rule: policy.Rules = None,
    exit_when_empty: Annotated[
        bool, typer.Option("--exit-when-empty", help="With --headless: end when nothing is left to do.")
    ] = False,
    with_stdin: Annotated[
        bool, typer.Option("--until-stdin-ends", hidden=True, help="With --headless: end with the parent process.")
    ] = False,
    ascii_only: options.Ascii = False,
    log: options.Log = None,
) -> None:
    """Run conductors on a board. Makes the board's paths and the store's tables where they are missing."""
    from conductor_console.cli.wiring import STOP_TIMEOUT, FleetPlan, open_workplace
    from conductor_console.conductors.processes import ProcessFleet
    from conductor_console.errors import UsageError
    from conductor_console.jobboards.attempts import Policy

    output.warn_password(board, store)
    named = policy.where(board, store)
    if named.store is None:
        raise UsageError("conductors need the flows' database: --store sqlite:////srv/flows.db")
    for option, value, known in (
        ("--kind", kind, _KINDS),
        ("--on-failure", on_failure, _ON_FAILURE),
    ):
        if value not in known:
            raise UsageError(f"{option} is one of {', '.join(known)}")
    if exit_when_empty and not headless:
        raise UsageError("--exit-when-empty goes with --headless")
    if not headless:
        boards.need_terminal("without one, add --headless")
    plan = FleetPlan(
        count=(jobs if kind == "blocking" else 1) * processes,
        kind=kind,
        prefix=name if name is not None else default_prefix(),
        options={
            "engine": engine,
            "engine_options": _engine_options(engine, engine_option or []),
            **_conductors(allow_factory, allow_any_factory, kind, jobs, on_failure),
        },
        processes=processes,
    )
    given = {
        "max-failures": max_attempts,
        "action": action,
        "backoff": backoff,
        "cap": backoff_cap,
        "jitter": jitter,
    }
    policies, _ = policy.policies(named.profile, Policy(), given, rule or [])
    if not headless or log is not None:
        logs.to_file(log)
    with open_workplace(
        named.board, store_url=named.store, access="own", policy=policies, fleet=plan, watch=not headless
    ) as place:
        assert place.fleet is not None
        if headless:
            from conductor_console.cli.headless import Headless

            grace = ORPHAN_GRACE if with_stdin else STOP_TIMEOUT
            code = Headless(
                place.board, place.fleet, when_empty=exit_when_empty, with_stdin=with_stdin, grace=grace
            ).run()
        else:
            place.fleet.start()
            # Worker processes must not go on for long where this one leaves at once.
            tidy = place.fleet.kill if isinstance(place.fleet, ProcessFleet) else lambda: None
            boards.show(place, ascii_only=ascii_only, tidy=tidy)
            code = 0
    raise typer.Exit(code)


def _conductors(allowed: list[str] | None, any_factory: bool, kind: str, jobs: int, on_failure: str) -> dict[str, Any]:
    """What each conductor is told. :raises UsageError: when it is not said which factories may run."""
    from conductor_console.errors import UsageError

    if allowed and any_factory:
        raise UsageError("--allow-any-factory and --allow-factory contradict each other: give one of them")
    if not allowed and not any_factory:
        raise UsageError("say which factories may run: --allow-factory 'shop.flows.*', or --allow-any-factory")
    told: dict[str, Any] = {
        "allow_factories": None if any_factory else tuple(allowed or ()),
        "on_failure": on_failure,
    }
    if kind == "nonblocking":
        told["max_simultaneous_jobs"] = jobs
    return told


def _engine_options(engine: str, given: list[str]) -> dict[str, Any]:
    """The options, their values read as JSON where they are JSON. :raises UsageError: when the engine refuses them."""
    from conductor_console.conductors import engines
    from conductor_console.errors import UsageError
    from conductor_console.text import visible

    told: dict[str, Any] = {}
    for one in given:
        key, equals, value = one.partition("=")
        if not equals or not key:
            raise UsageError(f"--engine-option reads KEY=VALUE, such as max_workers=4, not {visible(one, 80)}")
        try:
            told[key] = json.loads(value)
        except ValueError:
            told[key] = value
    try:
        engines.check(engine, told)
    except UsageError as error:
        raise UsageError(f"--engine: {error}") from error
    return told


def default_prefix() -> str:
    """The host's own name, so that conductors of several hosts on one board can be told apart."""
    import socket

    return f"{socket.gethostname().partition('.')[0][:16]}-w"
