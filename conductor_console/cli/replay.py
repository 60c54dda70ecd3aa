"""``replay``: what a flow did, on the screen, as text, or as JSON."""

from __future__ import annotations

from typing import Annotated

import typer

from conductor_console.cli import options, output


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(
        "replay",
        epilog=options.example(
            "conductor-console replay 3f1c0c64-5b1e-4d0e-9d55-0d1f4d1c9a10 --store sqlite:////srv/flows.db",
            "conductor-console replay 3f1c0c64-5b1e-4d0e-9d55-0d1f4d1c9a10 --store sqlite:////srv/flows.db --json",
        ),
    )(replay)


def replay(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="The uuid of a job, a flow or a logbook.")],
    store: options.NeededStore,
    text: Annotated[bool, typer.Option("--text", help="Print the events instead of showing them.")] = False,
    as_json: options.Json = False,
) -> None:
    """Play back what a flow did: its atoms over time, and each event. Without a terminal it is printed."""
    from conductor_console.cli.wiring import open_store
    from conductor_console.replay import report, tape

    output.warn_password(store)
    with open_store(store) as opened:
        loaded = tape.load(opened, source)
    if as_json:
        output.print_json(report.summary(loaded) | {"events": report.events(loaded)})
    elif text or not output.interactive():
        output.lines(report.text(loaded))
    else:
        from conductor_console.console.replay_app import ReplayApp

        ReplayApp(loaded).run()
