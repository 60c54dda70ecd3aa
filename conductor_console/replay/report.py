"""A tape as text and as JSON, for the command line and for copying: masked, and the text clean."""

from __future__ import annotations

from collections import Counter
from typing import Any

from conductor_console.clock import iso
from conductor_console.masking import masked
from conductor_console.persistence.journal import JournalRow
from conductor_console.replay.player import Player
from conductor_console.replay.tape import Tape, is_inferred
from conductor_console.replay.words import broken, cause_of, moment, number, row_subject, row_word
from conductor_console.text import elide_middle, plural, visible, width

_NAME_CELLS = 40


def provenance(tape: Tape) -> str:
    """How far the tape is to be believed, in a line: ``complete log, nothing inferred``."""
    if not tape.rows:
        return "nothing happened yet"
    if tape.complete:
        told = "complete log, nothing inferred"
    elif any(row.seq for row in tape.rows):
        told = f"log with gaps, {plural(tape.inferred, 'time')} inferred"
    else:
        told = f"rebuilt from rows, {plural(tape.inferred, 'time')} inferred"
    jumps = tape.clock_jumps
    return f"{told}, clock went back {plural(jumps, 'time')}" if jumps else told


def flow_names(tape: Tape) -> dict[str, str]:
    """Flow uuid to name."""
    return {flow.uuid: flow.name for flow in tape.flows}


def summary(tape: Tape) -> dict[str, Any]:
    """The head of the JSON: where it came from, what it covers, how far it is to be believed."""
    player = Player(tape)
    return {
        "source": tape.source,
        "book": tape.book,
        "flows": [
            {"uuid": flow.uuid, "name": flow.name, "state": flow.state, "atoms": len(flow.atoms)} for flow in tape.flows
        ],
        "complete": tape.complete,
        "inferred": tape.inferred,
        "began": iso(tape.began),
        "ended": iso(tape.ended),
        "seconds": round(tape.length, 6),
        "failures": len(player.failures),
    }


def events(tape: Tape) -> list[dict[str, Any]]:
    """The tape's rows in order, as the command line prints them.

    :returns: dicts of ``n`` (from 1), ``t`` (seconds from the first row), ``at`` (ISO, UTC), ``kind``, ``flow``,
        ``atom``, ``from``, ``to``, ``intention``, ``conductor``, ``attempt``, ``job``, ``failure`` (whether it is
        one), ``inferred`` and ``detail`` (masked). Unknown is None. Texts are not cleaned: JSON escapes them.
    """
    return [_event(tape, index, row) for index, row in enumerate(tape.rows)]


def _event(tape: Tape, index: int, row: JournalRow) -> dict[str, Any]:
    return {
        "n": index + 1,
        "t": round(tape.offsets[index], 6),
        "at": iso(row.at),
        "kind": row.kind,
        "flow": row.flow_uuid,
        "atom": row.atom_name,
        "from": row.from_state,
        "to": row.to_state,
        "intention": row.intention,
        "conductor": row.conductor,
        "attempt": row.attempt,
        "job": row.job_uuid,
        "failure": broken(row),
        "inferred": is_inferred(row),
        "detail": masked({key: value for key, value in row.detail.items() if key != "inferred"}),
    }


def text(tape: Tape) -> list[str]:
    """The tape as lines for a terminal or a bug report: head, atoms as they ended, events."""
    player = Player(tape)
    player.end()
    names = flow_names(tape)
    shown = [f"{visible(flow.name, 200)}  {flow.uuid}" for flow in tape.flows]
    lines = ["Replay  " + ("; ".join(shown) or "-")]
    lines.append(f"book    {visible(tape.book or '-', 200)}   store {visible(tape.source, 200)}")
    span = moment(tape.length, tape.length)
    lines.append(f"from    {iso(tape.began)}   {span}, {plural(len(tape.rows), 'event')}, {provenance(tape)}")
    atoms = player.atoms()
    if atoms:
        counts = Counter(atom.word for atom in atoms)
        lines += ["", f"Atoms   {', '.join(f'{count} {word}' for word, count in counts.most_common())}"]
        name_cells = min(_NAME_CELLS, max(width(visible(atom.atom.name)) for atom in atoms))
        for lane, atom in zip(player.lanes, atoms, strict=True):
            ran = sum(bar.ended - bar.began for bar in lane.segments if bar.kind in ("ran", "failed"))
            took = moment(ran, tape.length) if lane.segments else "-"
            lines.append(f"  {_padded(visible(atom.atom.name), name_cells)}  {atom.word:<13}  {took:>9}")
    if tape.rows:
        lines += ["", f"Events  {plural(len(player.failures), 'failure')}"]
    starts = {start.index: start for start in player.boundaries}
    cells = len(number(tape.length, tape.length))
    for index, row in enumerate(tape.rows):
        if index in starts:
            lines.append(f"  -- attempt {starts[index].attempt} --")
        mark = "~" if is_inferred(row) else " "
        subject = _padded(row_subject(row, names), _NAME_CELLS)
        lines.append(f"  {number(tape.offsets[index], tape.length):>{cells}}{mark} {subject}  {row_word(row)}".rstrip())
        lines += [f"  {'':{cells}}    {line}" for line in failure_lines(row)]
    if tape.inferred:
        lines += ["", "~ a time that was inferred, not written down"]
    return lines


def failure_lines(row: JournalRow) -> list[str]:
    """A failure's ``type: message`` and its place, masked and clean; nothing for any other row."""
    cause = safe_cause(row)
    if cause is None:
        return []
    kind, message, where = cause
    return [line for line in (": ".join(part for part in (kind, message) if part), where) if line]


def safe_cause(row: JournalRow) -> tuple[str, str, str] | None:
    """A failure's type, message and place, clean, with what looks like a secret masked."""
    cause = cause_of(row)
    if cause is None:
        return None
    kind, message, where = cause
    return kind, str(masked({"message": message})["message"]), where


def _padded(name: str, cells: int) -> str:
    name = elide_middle(name, cells)
    return name + " " * max(0, cells - width(name))
