"""Jobs that are gone, posted again from the audit trail or the flow log, at another time, by another console."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

from conductor_console.clock import utcnow
from conductor_console.errors import ConsoleError, UsageError
from conductor_console.jobboards.base import Gone, JobEntry, LedgerBoard
from conductor_console.operations import FileAudit, Operations, PostRequest
from conductor_console.persistence.audit import Intent
from conductor_console.persistence.journal import JournalRow
from tests.integration.helpers import claimed, in_bin, job, take
from tests.integration.test_cli import Cli, cli  # noqa: F401

SECRET = {
    "flow_uuid": "f",
    "store": {"password": "hunter2", "size": 3, "urls": ["http://u:pw@h/x", "http://h/y"]},
    "pem": "",
}
GIVEN = {"store": {"password": "hunter2", "urls": ["http://u:pw@h/x", "http://h/y"]}}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def console(board: LedgerBoard, store: Any = None, **options: Any) -> Operations:
    """A console that the operator opens."""
    return Operations(board, operator="anna@ops-1", store=store, title="shop", **options)


def posted(board: LedgerBoard, store: Any, name: str = "order", priority: str = "HIGH") -> JobEntry:
    (uuid,) = console(board, store).post(PostRequest("shop.flows:checkout", name, priority=priority))
    return job(board, uuid)


def what(entry: JobEntry) -> tuple[Any, ...]:
    return entry.name, entry.priority, dict(entry.details), entry.book_uuid, entry.book_name


def foreign(board: LedgerBoard, details: dict[str, Any]) -> JobEntry:
    """A job of somebody else's, who keeps no logbook here."""
    return job(board, str(board.post("lb-\x1b[1m", details=details).uuid))


@pytest.mark.parametrize("audited_in", ["store", "file"])
def test_a_deleted_job_comes_again_later_and_not_twice_unasked(board: LedgerBoard, store: Any, audited_in: str) -> None:
    entry = posted(board, store)
    known = store if audited_in == "store" else None
    console(board, known).delete([entry])
    after = console(board, store)
    assert after.can_undo == ""
    past = after.past(entry.key[:8])
    assert past.told.startswith("deleted by anna@ops-1, ")
    assert (what(past.entry), past.cautions) == (what(entry), ())
    (result,) = after.post_again([past])
    assert (result.key, result.result, result.why) == (entry.key, "done", f"posted again as {result.posted}")
    assert what(job(board, result.posted or "")) == what(entry)

    # It is told where the deletion was, so that whoever finds the one finds the other.
    trail = FileAudit().read(1)[0] if known is None else store.audit_rows(1)[0]
    told = (trail.action, trail.job_uuid, trail.outcome)
    assert told == ("post again", entry.uuid, f"done: posted again as {result.posted}")
    (caution,) = console(board, known).past(entry.key).cautions
    assert caution.startswith(f"posted again as {result.posted}, already: by anna@ops-1, ")


def test_a_purged_job_comes_again(board: LedgerBoard, store: Any) -> None:
    entry = posted(board, store)
    console(board, store).bin([entry])
    lying = in_bin(board, entry.key)
    after = console(board, store)
    with pytest.raises(ConsoleError, match=f"lies in the bin: jobs restore BOARD {entry.key}"):
        after.past(entry.key)
    after.delete([lying])
    past = console(board, store).past(entry.key)
    assert (what(past.entry), past.cautions) == (what(entry), ())
    assert past.told.startswith("purged by ")


def test_what_was_masked_is_never_posted_masked_and_can_be_given(board: LedgerBoard, tmp_path: Path) -> None:
    entry = foreign(board, SECRET)
    audit = FileAudit(tmp_path / "audit.jsonl")
    console(board, audit=audit).delete([entry])
    assert "hunter2" not in audit.path.read_text()
    after = console(board, audit=audit)
    missing = r"masked: give that with --inject @FILE, .*jobs post BOARD --factory PKG.MOD:FUNCTION --inject @FILE$"
    with pytest.raises(ConsoleError, match=rf"the audit has store.password, store.urls\[0\] {missing}"):
        after.past(entry.key)
    with pytest.raises(ConsoleError, match=rf"the audit has store.urls\[0\] {missing}"):
        after.past(entry.key, {"store": {"password": "hunter2"}})
    with pytest.raises(UsageError, match=r"that is not store\.size"):
        after.past(entry.key, {"store": {**GIVEN["store"], "size": 4}})
    (result,) = after.post_again([after.past(entry.key, GIVEN)])
    again = job(board, result.posted or "")
    assert what(again) == what(entry)
    assert again.details == SECRET
    assert "hunter2" not in audit.path.read_text()


def test_what_speaks_against_it_is_told(board: LedgerBoard, other: LedgerBoard, store: Any, tmp_path: Path) -> None:
    entry = posted(board, store)
    take(other, entry.key, "c9")
    console(board, store).delete([claimed(board, entry.key)])
    with contextlib.closing(store.get_connection()) as connection:
        connection.destroy_logbook(entry.book_uuid)
    elsewhere = Operations(board, operator="bob", store=store, title="office")
    assert elsewhere.past(entry.key).cautions == (
        "c9 held it when it was deleted, and may run its flow still",
        "it was on another board, shop",
        f"its logbook {entry.book_uuid} is not in the store: a conductor would bin it",
    )
    # A console that may not write does not post, and tells so.
    (result,) = console(board, store, read_only=True).post_again([elsewhere.past(entry.key)])
    assert (result.result, result.why) == ("refused", "this console is read-only")
    # One of which only something else is told: whoever took it away told nobody.
    gone = posted(board, store)
    console(board, store).hold([gone], 60)
    board.delete(job(board, gone.key, lambda now: now.record))
    assert console(board, store).past(gone.key).cautions == (
        "no deletion of it is told: it was consumed, or removed by another hand",
    )


def test_a_consumed_job_is_known_by_the_flow_log(board: LedgerBoard, store: Any) -> None:
    entry = posted(board, store)
    board.delete(entry)
    with pytest.raises(Gone, match=f"no job {entry.key} in the audit$"):
        console(board, store).past(entry.key)
    detail = {"outcome": "consumed", "name": entry.name}
    store.record(JournalRow("attempt", utcnow(), entry.flow_uuid, entry.key, conductor="w1", detail=detail))
    with contextlib.closing(store.get_connection()) as connection:
        flow = connection.get_flow_details(entry.flow_uuid)
        flow.state = "SUCCESS"
        connection.update_flow_details(flow)
    after = console(board, store)
    past = after.past(entry.key)
    assert past.told.startswith("consumed by w1, ")
    assert past.cautions == (
        "only the flow log knows it: priority NORMAL, and no details but its flow",
        "its flow ended well (SUCCESS): whoever takes it finds nothing left to do",
    )
    (result,) = after.post_again([past])
    again = job(board, result.posted or "")
    assert (again.name, again.priority.value, again.flow_uuid, again.book_uuid) == (
        entry.name, "NORMAL", entry.flow_uuid, entry.book_uuid,
    )  # fmt: skip
    assert after.past(entry.key).cautions[0].startswith(f"posted again as {result.posted}, already: ")


@pytest.mark.parametrize(
    ("before", "told"),
    [
        ({"priority": "LOW", "binned": None}, "an older version wrote it: post it by hand, jobs post BOARD"),
        ({"priority": "LOW", "details": {"a": "masked, 3 B"}}, "has a masked: give that with --inject"),
        ({"priority": "LOW", "details": {"url": "x://u:***@h"}}, "has url masked"),
        ({"priority": "LOW", "details": {}, "book": "b"}, "does not tell the name of the logbook .*: add --store URL"),
        ({"priority": "LOW", "details": {}, "cut_from": 99_999}, "the audit cut it, of 99999 octets: post it by hand"),
        ({"details": {}}, "does not tell its priority: an older version"),
        ({"details": {}, "workable": False}, "none that could be worked on"),
    ],
)
def test_rows_that_do_not_tell_enough(tmp_path: Path, store: Any, before: dict[str, Any], told: str) -> None:
    from tests.integration.helpers import opened

    audit = FileAudit(tmp_path / "audit.jsonl")
    (number,) = audit.begin("anna", "shop", [Intent("delete", "aaaa-1", "order", before)])
    audit.end([(number, "done")])
    audit.path.write_bytes(b'{"seq": \n[1]\n' + audit.path.read_bytes() + b'{"seq": 1, "at')
    with (
        opened(f"sqlite:///{tmp_path / 'board.db'}", store) as board,
        pytest.raises(ConsoleError, match=told) as raised,
    ):
        console(board, audit=audit).past("aaaa-1")
    assert "\n" not in str(raised.value)


def test_what_was_deleted_last_before(board: LedgerBoard, store: Any) -> None:
    first, second, third = (posted(board, store, name) for name in ("one", "two", "three"))
    assert console(board, store).deleted_before() == []
    Operations(board, operator="bob", store=store, title="shop").delete([third])
    console(board, store).delete([first, second])
    after = console(board, store)
    assert [past.entry.name for past in after.deleted_before()] == ["two", "one"]
    after.post_again(after.deleted_before()[:1])
    assert [past.entry.name for past in console(board, store).deleted_before()] == ["one"]


def test_from_the_command_line(cli: Cli, board: LedgerBoard, url: str, store: Any, tmp_path: Path) -> None:  # noqa: F811
    entry, secret = posted(board, store), foreign(board, SECRET)
    assert cli("jobs", "delete", url, entry.key, secret.key, "--yes").code == 0
    at = f"sqlite:///{tmp_path / 'flows.db'}"

    said = cli("jobs", "post", url, "--again", entry.key[:13], "--store", at, "--dry-run")
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith(
        f"{entry.key}  dry run: would post again order, HIGH, logbook {entry.book_uuid} (deleted"
    )
    said = cli("jobs", "post", url, "--again", entry.key, "--again", "no-such-job", "--store", at, "--json")
    assert said.code == 1
    done, gone = said.json
    again = job(board, done["posted"])
    assert what(again) == what(entry)
    assert done == {
        "uuid": entry.key, "result": "done", "why": f"posted again as {again.key}", "posted": again.key,
    }  # fmt: skip
    assert (gone["result"], gone["why"]) == ("gone", "no job no-such-job in the audit")

    said = cli("jobs", "post", url, "--again", entry.key)
    assert said.code == 2
    assert f"posted again as {again.key}, already" in said.line
    assert "add --yes" in said.line
    assert cli("jobs", "post", url, "--again", entry.key, "--yes").code == 0
    said = cli("jobs", "post", url, "--again", again.key)
    assert (said.code, said.line) == (1, f"refused: {again.key} is on the board: nothing to post again")
    said = cli("jobs", "post", url, "--again", "no-such-job")
    line = "gone: no job no-such-job in the local audit file: --store URL looks there as well"
    assert (said.code, said.line) == (1, line)

    said = cli("jobs", "post", url, "--again", secret.key)
    assert said.code == 1
    assert said.line.startswith("refused: the audit has store.password, store.urls[0] masked")
    (tmp_path / "given.json").write_text(json.dumps(GIVEN))
    said = cli("jobs", "post", url, "--again", secret.key, "--inject", f"@{tmp_path / 'given.json'}", "--json")
    assert job(board, said.json[0]["posted"]).details == SECRET

    for args in (["--again", entry.key, "--name", "x"], ["--again", "abc"], [], ["--factory", "a:b"]):
        assert cli("jobs", "post", url, *args).code == 2
    said = cli("jobs", "post", url, "--store", at, "--factory", "shop.flows:checkout", "--dry-run")
    assert (said.code, said.out) == (0, "dry run: would post checkout\n")
