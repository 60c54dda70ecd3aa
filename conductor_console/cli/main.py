"""The command line: which commands there are, and what becomes of an error.

Errors reach a person as one line on standard error and an exit code: 0 done, 1 not done, 2 usage, 3 cannot reach.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from conductor_console.cli import boards, collector, demo, exporter, guard, jobs, jobs_held, logs, replay, run
from conductor_console.cli.options import example
from conductor_console.cli.output import tell

app = typer.Typer(
    name="conductor-console",
    help="An operations console for TaskFlow jobboards: see, stop and undo what conductors do.",
    epilog=example(
        "conductor-console demo",
        "conductor-console attach zk://h1:2181,h2:2181/octavia_jobboard --read-only",
        "conductor-console jobs list sqlite:///board.db --failures-over 2",
    ),
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
demo.register(app)
run.register(app)
guard.register(app)
exporter.register(app)
boards.register(app)
replay.register(app)
jobs_held.register(jobs.app)
app.add_typer(jobs.app, name="jobs")


def _version(wanted: bool) -> None:
    if wanted:
        from conductor_console import __version__

        sys.stdout.write(f"conductor-console {__version__}\n")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug_log: Annotated[
        str | None, typer.Option("--debug-log", metavar="FILE", help="Log everything there, tracebacks included.")
    ] = None,
) -> None:
    """An operations console for TaskFlow jobboards: see, stop and undo what conductors do.

    Without a command: the console on the embedded board in your data folder.
    """
    if debug_log is not None:
        import logging

        logs.to_file(debug_log, logging.DEBUG)
    if context.invoked_subcommand is None:
        boards.embedded()


def main(args: list[str] | None = None) -> None:
    """Runs a command and ends the process with its exit code."""
    logs.silence()
    collector.tune()
    sys.exit(call(args))


def call(args: list[str] | None = None) -> int:
    """Runs a command; returns its exit code, whatever happens."""
    _open_streams()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A name that the terminal's encoding lacks is no reason to fail.
            stream.reconfigure(errors="backslashreplace")
    code = _called(args)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _forget_stdout()
    return code


def _open_streams() -> None:
    """A standard stream that was closed by whoever started us is none: nothing is read from it, or written to it."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - it stays open


def _called(args: list[str] | None) -> int:
    try:
        app(args=args)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BrokenPipeError:
        _forget_stdout()
        return 1
    except KeyboardInterrupt:
        return 1
    except Exception as error:
        from conductor_console.cli.failures import exit_code, one_line

        logs.LOG.exception("the command failed")
        tell(f"conductor-console: {one_line(error)}")
        return exit_code(error)
    return 0


def _forget_stdout() -> None:
    """The reader of a pipe is gone: Python must not complain of it once more at the end."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
