"""A job as JSON and as a row: the shapes that the commands print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from conductor_console.cli import output
from conductor_console.cli.select import Item, short_uuids
from conductor_console.clock import iso, utcnow
from conductor_console.jobboards.attempts import Attempt, Cause
from conductor_console.masking import masked
from conductor_console.text import age, clock_time, duration, elide_middle, visible

if TYPE_CHECKING:
    from rich.table import Table

    from conductor_console.operations import Result
    from conductor_console.persistence.rows import FlowRows

NAME_CELLS = 44
CAUSE_CELLS = 60


def job_json(item: Item) -> dict[str, Any]:
    """A job as ``jobs list --json`` prints it; unknown is null. One in the bin tells when, by whom and why."""
    view = item.view
    entry = view.entry
    shape: dict[str, Any] = {
        "uuid": entry.uuid,
        "name": entry.name,
        "state": view.state,
        "health": view.health,
        "priority": view.priority,
        "owner": entry.claim.owner if entry.claim else None,
        "claimed_at": _iso(view.claimed_at),
        "created_at": _iso(view.created_at),
        "attempts": view.tries,
        "failures": view.failures,
        "hold_until": _iso(view.hold_until),
        "cause": cause_json(view.cause),
        "node": entry.node,
        "book": entry.book_uuid,
        "problem": view.problem,
    }
    if item.binned is not None:
        shape["binned"] = {
            "at": _iso(item.binned.binned_at),
            "who": item.binned.who,
            "why": item.binned.why,
        }
    return shape


def cause_json(cause: Cause | None) -> dict[str, str] | None:
    """A cause's four fields."""
    if cause is None:
        return None
    return {"type": cause.type, "message": cause.message, "where": cause.where, "fingerprint": cause.fingerprint}


def attempt_json(attempt: Attempt) -> dict[str, Any]:
    """An attempt, times in UTC."""
    return {
        "n": attempt.n,
        "who": attempt.who,
        "claim": attempt.claim,
        "began": _iso(attempt.began),
        "ended": _iso(attempt.ended),
        "outcome": attempt.outcome,
        "flow": attempt.flow,
        "error": cause_json(attempt.error),
    }


def full_json(item: Item, flow: FlowRows | None) -> dict[str, Any]:
    """A job as ``jobs show --json`` prints it."""
    return job_json(item) | {
        "details": masked(item.view.entry.details),
        "history": [attempt_json(attempt) for attempt in item.view.attempts],
        "flow": None if flow is None else flow_json(flow),
    }


def flow_json(flow: FlowRows) -> dict[str, Any]:
    """A flow and its atoms: states only, results may be secrets."""
    return {
        "uuid": flow.uuid,
        "name": flow.name,
        "state": flow.state,
        "atoms": [
            {
                "name": atom.name,
                "kind": atom.kind,
                "state": atom.state,
                "failure": _failure(atom.failure),
            }
            for atom in flow.atoms
        ],
    }


def _failure(failure: Mapping[str, Any] | None) -> str | None:
    if not failure:
        return None
    return str(masked({"failure": str(failure.get("exception_str") or "")})["failure"])


def _iso(when: datetime | None) -> str | None:
    return None if when is None else iso(when)


def job_table(items: Sequence[Item]) -> Table:
    """The list for people, in the order given."""
    made = output.table("state", "name", "fails", "for", "owner", "age", "uuid", "cause", right=("fails", "for", "age"))
    short = short_uuids(items)
    now = utcnow()
    for item in items:
        view = item.view
        cause = view.cause
        about = view.problem or (f"{cause.type} {cause.where or cause.message}" if cause else None)
        if item.binned is not None:
            about = item.binned.why or about
        made.add_row(
            output.word(view.standing),
            output.cell(elide_middle(view.name, NAME_CELLS)),
            output.cell(view.failures or None),
            output.cell(duration((now - view.claimed_at).total_seconds()) if view.claimed_at else None),
            output.cell(_owner(item, now)),
            output.cell(_age(item, now), "dim"),
            output.cell(short[view.key], "dim"),
            output.cell(about, limit=CAUSE_CELLS),
        )
    return made


def _owner(item: Item, now: datetime) -> str | None:
    if item.binned is not None:
        return item.binned.who
    view = item.view
    if view.hold_until is not None:
        return f"next {duration((view.hold_until - now).total_seconds())}"
    return view.owner


def _age(item: Item, now: datetime) -> str | None:
    since = item.binned.binned_at if item.binned is not None else item.view.created_at
    return None if since is None else age((now - since).total_seconds())


def job_lines(item: Item, flow: FlowRows | None) -> list[Any]:
    """One job in full, for people: its fields, its attempts, its flow's atoms."""
    fields = output.table("", "")
    fields.show_header = False
    full = full_json(item, None)
    for name, value in full.items():
        if name in ("history", "flow", "cause", "details", "binned"):
            continue
        fields.add_row(output.cell(name, "dim"), output.cell(value))
    for name, value in (*(full.get("binned") or {}).items(), *full["details"].items()):
        fields.add_row(output.cell(name, "dim"), output.cell(value))
    told: list[Any] = [fields]
    if item.view.attempts:
        told += ["", _attempt_table(item)]
    if flow is not None:
        told += ["", _flow_table(flow)]
    return told


def _attempt_table(item: Item) -> Table:
    attempts = output.table("attempt", "outcome", "began", "took", "who", "cause", right=("attempt", "took"))
    for attempt in item.view.attempts:
        error = attempt.error
        took = duration((attempt.ended - attempt.began).total_seconds()) if attempt.ended else None
        attempts.add_row(
            output.cell(f"#{attempt.n}"),
            output.word(attempt.outcome or "running"),
            output.cell(clock_time(attempt.began)),
            output.cell(took),
            output.cell(attempt.who),
            output.cell(f"{error.type}: {error.message}  {error.where}".strip() if error else None),
        )
    return attempts


def _flow_table(flow: FlowRows) -> Table:
    atoms = output.table("atom", "kind", "state", "failure", title=f"{visible(flow.name)}  {flow.state or 'not begun'}")
    for atom in flow.atoms:
        atoms.add_row(
            output.cell(atom.name), output.cell(atom.kind), output.cell(atom.state), output.cell(_failure(atom.failure))
        )
    return atoms


def result_json(result: Result) -> dict[str, Any]:
    """What came of an act on one job; one without a uuid is told by its key."""
    return {"uuid": result.uuid or result.key, "result": result.result, "why": result.why or None}


def result_table(results: Sequence[Result]) -> Table:
    """What came of an act, one job a row."""
    made = output.table("result", "uuid", "name", "why")
    for result in results:
        made.add_row(
            output.word(result.result),
            output.cell(result.uuid or result.key),
            output.cell(elide_middle(result.name, NAME_CELLS)),
            output.cell(result.why),
        )
    return made
