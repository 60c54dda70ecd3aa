"""What ``replay --text`` and ``--json`` print is clean, masked, and says what it does not know."""

from __future__ import annotations

import json

from conductor_console.replay import report
from conductor_console.replay.tape import Tape, make_tape
from conductor_console.replay.words import moment, number
from tests.tapes import atom_row, failure, flow_rows, numbered, octavia_tape, row, sample_flow


def test_json_tells_every_event_and_goes_through_json() -> None:
    tape = octavia_tape()
    events = report.events(tape)
    assert json.loads(json.dumps(events)) == events
    assert len(events) == len(tape.rows)
    failed = [event for event in events if event["failure"]]
    assert [(event["atom"], event["t"]) for event in failed] == [("compute-create", 3.5), ("attach-vip", 12.9)]
    assert failed[1] == {
        "n": 25,
        "t": 12.9,
        "at": "2026-01-01T03:14:07.900000Z",
        "kind": "task",
        "flow": "1f0c9a2e-6b1d-4f0e-9c77-52a1e0b8d3f4",
        "atom": "attach-vip",
        "from": "RUNNING",
        "to": "FAILURE",
        "intention": None,
        "conductor": "c2@ctl-b",
        "attempt": 7,
        "job": None,
        "failure": True,
        "inferred": False,
        "detail": {
            "failure": {
                "type": "PlugVIPException",
                "message": "no port on subnet 6c1e4f02 answers within 2.0 s",
                "where": "octavia/network/drivers/neutron/base.py:214 in _wait_for_port",
            }
        },
    }
    summary = report.summary(tape)
    assert (summary["complete"], summary["inferred"], summary["failures"], summary["seconds"]) == (True, 0, 2, 24.0)


def test_text_tells_atoms_events_and_causes() -> None:
    lines = report.text(octavia_tape())
    assert lines[0].startswith("Replay  create-load-balancer-flow-1f0c9a2e")
    assert lines[2].endswith("24.0 s, 42 events, complete log, nothing inferred")
    assert "Atoms   7 reverted, 3 pending, 1 failed" in lines
    assert any("PlugVIPException: no port on subnet" in line for line in lines)
    assert any(line.split() == ["attach-vip", "failed", "2.3", "s"] for line in lines)
    assert not any(line.startswith("~") for line in lines)


def test_inferred_times_are_marked() -> None:
    lines = report.text(make_tape("s", [sample_flow("06-task-fails-reverted-consumed")], []))
    assert any("rebuilt from rows, 9 times inferred" in line for line in lines)
    marked = [line for line in lines if "~ " in line]
    assert len(marked) == 10, "nine events, and what the mark means"


def hostile() -> Tape:
    name = "\x1b[31mred\x1b[0m\u202e[/b][bold]\n"
    rows = [
        row(0, name, "RUNNING"),
        row(
            1, name, "FAILURE", "RUNNING", detail=failure("Bad\x07", "password=hunter2 \x1b]0;t\x07", "m.py:1 in \x9b")
        ),
        row(2, name, "\x1b[2J", "FAILURE"),
        row(3, None, None, kind="operator", detail={"action": "\x1bbin"}),
        row(3, None, None, kind="attempt", detail={"outcome": ["odd"], "error": "text"}),
        row(4, name, "FAILURE", detail={"failure": {"type": None, "message": 7}}),
    ]
    atoms = [atom_row(name, "FAILURE")]
    return make_tape("s\x1b", [flow_rows("FAILURE", atoms, name="[red]flow\x1b")], numbered(rows))


def test_hostile_texts_are_made_visible_and_secrets_masked() -> None:
    tape = hostile()
    told = "\n".join(report.text(tape))
    assert not any(ord(char) < 32 and char != "\n" for char in told)
    assert "\u202e" not in told
    assert "\x9b" not in told
    assert "[/b][bold]" in told
    assert "hunter2" not in told
    assert "hunter2" not in json.dumps(report.events(tape))


def test_several_flows_and_an_attempt_boundary() -> None:
    other = row(5, None, "RUNNING", flow_uuid="another", attempt=1)
    rows = [row(0, None, "RUNNING", attempt=1), row(3, None, "RUNNING", "SUSPENDED", attempt=2), other]
    tape = make_tape("s", [flow_rows("RUNNING")], numbered(rows))
    assert [flow.uuid for flow in tape.flows][1] == "another", "what only the journal knows is there too"
    assert tape.name == tape.book
    assert "  -- attempt 2 --" in report.text(tape)


def test_an_empty_tape_is_told_in_three_lines() -> None:
    assert report.text(make_tape("s", [sample_flow("01-unclaimed")], []))[2].endswith("0 events, nothing happened yet")


def test_times_have_the_digits_that_the_whole_needs() -> None:
    assert moment(0.0131, 0.9) == "0.013 s"
    assert moment(12.94, 24.0) == "12.9 s"
    assert moment(754, 3000) == "12:34"
    assert number(7384.2, 9000) == "2:03:04"
