"""``jobs post --again``: jobs that are gone, looked up, asked about where something speaks against it, and posted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from conductor_console.cli import output
from conductor_console.cli.jobs_app import opened

if TYPE_CHECKING:
    from conductor_console.operations import Operations, Past, Result


def post_again(
    board: str,
    store: str | None,
    uuids: Sequence[str],
    supplied: Mapping[str, Any] | None,
    *,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Posts jobs again that the audit trail or the flow log knows; prints one result a job.

    :param supplied: what the audit has masked of the one job's details.
    :raises Exit: with 1, when any of it was not done.
    """
    from conductor_console.cli import shapes

    with opened(board, store, posting=True) as place:
        found, missing = _found(place.operations, uuids, supplied)
        if found and not dry_run and not yes and not _agreed(found):
            output.tell("nothing was done")
            raise typer.Exit(1)
        results = [] if dry_run else place.operations.post_again(found)
    if as_json:
        would = [{"uuid": past.entry.uuid, "result": None, "why": _would(past)} for past in found] if dry_run else []
        done = [shapes.result_json(result) | {"posted": result.posted} for result in results]
        output.print_json([*would, *done, *(shapes.result_json(result) for result in missing)])
    else:
        if dry_run:
            output.lines(f"{past.entry.uuid}  {_would(past)}" for past in found)
        elif results:
            output.show(shapes.result_table(results))
        for result in missing:
            # Whole: a table would cut what is to be done about it.
            output.tell(f"{result.result}: {result.why}")
    if missing or any(result.result != "done" for result in results):
        raise typer.Exit(1)


def _found(
    operations: Operations, uuids: Sequence[str], supplied: Mapping[str, Any] | None
) -> tuple[list[Past], list[Result]]:
    """What is known of each, once, and why others are not posted again."""
    from conductor_console.errors import ConsoleError, Unreachable, UsageError
    from conductor_console.operations import Result
    from conductor_console.operations.audited import verdict

    found: dict[str, Past] = {}
    missing: list[Result] = []
    for uuid in uuids:
        try:
            past = operations.past(uuid, supplied)
        except (UsageError, Unreachable):
            raise
        except ConsoleError as error:
            missing.append(Result(uuid, uuid, "", verdict(error), str(error)))
        else:
            found[past.entry.key] = past
    return list(found.values()), missing


def _would(past: Past) -> str:
    from conductor_console.text import visible

    entry = past.entry
    book = f", logbook {visible(entry.book_uuid, 80)}" if entry.book_uuid is not None else ""
    told = f"dry run: would post again {visible(entry.name, 80)}, {entry.priority.value}{book} ({past.told})"
    return "; but ".join((told, *past.cautions))


def _agreed(found: Sequence[Past]) -> bool:
    """Whether the jobs are to be posted in spite of what speaks against it; nothing is asked where nothing does."""
    from conductor_console.errors import UsageError
    from conductor_console.text import plural, visible

    against = [(past, caution) for past in found for caution in past.cautions]
    if not against:
        return True
    if not output.interactive():
        past, caution = against[0]
        more = f" (and {len(against) - 1} more)" if len(against) > 1 else ""
        raise UsageError(f"{past.entry.uuid}: {caution}{more}. There is no terminal to ask on: add --yes")
    output.lines(f"{past.entry.uuid}  {visible(past.entry.name, 80)}: {caution}" for past, caution in against)
    return output.ask(f"Post {plural(len(found), 'job')} again?")
