"""An act on jobs from the command line: select, ask, act, print one result a job."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import typer

from conductor_console.cli import output

if TYPE_CHECKING:
    from conductor_console.cli.select import Item, Selection
    from conductor_console.cli.wiring import Workplace
    from conductor_console.operations import Operations, Result


def items(place: Workplace, *, binned: bool) -> list[Item]:
    """The jobs on the board, or those in its bin, as they are now."""
    from conductor_console.cli import select

    listing = place.board.listing()
    return select.in_bin(listing) if binned else select.on_board(listing)


def act_on(
    opened: AbstractContextManager[Workplace],
    selection: Selection,
    verb: str,
    act: Callable[[Operations, Sequence[Any]], list[Result]],
    *,
    question: Callable[[Sequence[Item]], str | None] = lambda _: None,
    word: Callable[[Sequence[Item]], str] = lambda _: "",
    binned: bool = False,
    dry_run: bool = False,
    yes: bool = False,
    as_json: bool = False,
) -> None:
    """Does ``act`` to the jobs that are selected, after asking where ``question`` says so; prints one result a job.

    :param word: what has to be typed for a yes; empty: ``y`` does.
    :raises Exit: with 1, when any of it was not done.
    """
    from conductor_console.cli import shapes
    from conductor_console.errors import UsageError
    from conductor_console.operations import Result

    if selection.empty:
        raise UsageError(f"which jobs? name them by uuid, or by --name '*' (example: jobs {verb} BOARD --name 'lb-*')")
    with opened as place:
        chosen, missing = selection.among(items(place, binned=binned))
        asked = question(chosen) if chosen and not dry_run and not yes else None
        if asked is not None and not _agreed(asked, chosen, word(chosen)):
            output.tell("nothing was done")
            raise typer.Exit(1)
        results = [] if dry_run else act(place.operations, [item.entry for item in chosen])
    where = "in the bin" if binned else "on the board"
    gone = [Result(uuid, uuid, "", "gone", f"not {where}") for uuid in missing]
    if dry_run:
        _would(verb, chosen, gone, as_json=as_json)
    elif as_json:
        output.print_json([shapes.result_json(result) for result in (*results, *gone)])
    elif results or gone:
        output.show(shapes.result_table([*results, *gone]))
    else:
        output.tell("no job fits, nothing to do")
    if any(result.result != "done" for result in (*results, *gone)):
        raise typer.Exit(1)


def _agreed(question: str, items: Sequence[Item], word: str) -> bool:
    from conductor_console.cli import shapes
    from conductor_console.errors import UsageError

    if not output.interactive():
        raise UsageError(f"{question} There is no terminal to ask on: add --yes")
    output.show(shapes.job_table(items))
    return output.ask(question, word)


def _would(verb: str, chosen: Sequence[Item], gone: Sequence[Result], *, as_json: bool) -> None:
    from conductor_console.cli import shapes
    from conductor_console.text import plural

    if as_json:
        would = [
            {"uuid": item.entry.uuid or item.view.key, "result": None, "why": f"dry run: would {verb}"}
            for item in chosen
        ]
        output.print_json([*would, *(shapes.result_json(result) for result in gone)])
        return
    output.lines([f"dry run: would {verb} {plural(len(chosen), 'job')}"])
    if chosen:
        output.show(shapes.job_table(chosen))
    if gone:
        output.show(shapes.result_table(gone))
