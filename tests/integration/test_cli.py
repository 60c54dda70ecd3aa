"""Each command on real boards and stores: what it prints, its exit codes, and never a traceback."""

from __future__ import annotations

import json
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from conductor_console import jobboards
from conductor_console.cli import output
from conductor_console.cli.main import call
from conductor_console.jobboards.attempts import make_cause
from conductor_console.jobboards.base import BoardJob, LedgerBoard
from tests.servers import kazoo
from tests.support import eventually

FIELDS = {
    *("uuid", "name", "state", "health", "priority", "owner", "claimed_at", "created_at", "attempts", "failures"),
    *("hold_until", "cause", "node", "book", "problem"),
}
FACTORY = "conductor_console.demo.flows:create_instance"


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def line(self) -> str:
        """The one line that went wrong."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        return lines[0]


Cli = Callable[..., Said]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Runs a command in this process, its home a temporary folder."""
    for name in ("HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_LOG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))

    def run(*args: str) -> Said:
        code = call(list(args))
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return Said(code, out, err)

    return run


@pytest.fixture
def board(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'board.db'}"


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'flows.db'}"


@pytest.fixture
def posted(cli: Cli, board: str, store: str) -> list[str]:
    """The uuids of three jobs, lb-1 to lb-3, on a board of their own."""
    assert cli("init", board, "--store", store).code == 0
    said = cli("jobs", "post", board, "--store", store, "--factory", FACTORY, "--name", "lb", "--count", "3")
    assert said.code == 0
    return said.out.split()


@contextmanager
def opened(url: str) -> Iterator[LedgerBoard]:
    """Somebody else's board object."""
    found = jobboards.fetch(url, name="somebody")
    found.connect()
    try:
        yield found
    finally:
        found.close()


def job_of(found: LedgerBoard, uuid: str) -> BoardJob:
    return next(job for job in found.iterjobs() if job.uuid == uuid)


def fail(url: str, uuid: str, times: int, hold: float = 0.0) -> None:
    """Lets attempts at a job fail."""
    with opened(url) as found:
        for _ in range(times):
            job = job_of(found, uuid)
            found.claim(job, "w1")
            found.abandon(
                job, "w1", outcome="abandoned", error=make_cause("Boom", "no \x1b[31mroom", "a.py:1 in b"), hold=hold
            )


# -- the root ----------------------------------------------------------------------------------------------------------
def test_version(cli: Cli) -> None:
    from conductor_console import __version__

    assert cli("--version").out == f"conductor-console {__version__}\n"


@pytest.mark.parametrize(
    "command",
    [
        "demo",
        "run",
        "attach",
        "init",
        "replay",
        *(f"jobs {verb}" for verb in ["list", "show", "post", "bin", "delete", "restore", "retry", "hold", "release"]),
    ],
)
def test_every_help_has_an_example(cli: Cli, command: str) -> None:
    said = cli(*command.split(), "--help")
    assert said.code == 0
    assert f"Example:\n    conductor-console {command}" in said.out


@pytest.mark.parametrize(
    "args", [["frobnicate"], ["jobs", "list"], ["run", "sqlite:///x.db"], ["jobs", "list", "--frob"]]
)
def test_what_typer_refuses_is_usage(cli: Cli, args: list[str]) -> None:
    assert cli(*args).code == 2


def test_without_a_terminal_there_is_no_screen(cli: Cli, board: str, store: str) -> None:
    assert cli().code == 2
    assert "needs a terminal" in cli("attach", board).line
    said = cli("run", board, "--store", store, "--allow-any-factory")
    assert said.code == 2
    assert "--headless" in said.line


# -- what cannot be reached, or meant ----------------------------------------------------------------------------------
@pytest.mark.parametrize("url", ["nonsense", "ftp://somewhere/x", "zk://h:x/y", "zk:///x", "redis://h/0", "etcd://h/x"])
def test_a_bad_url_is_usage(cli: Cli, url: str) -> None:
    said = cli("jobs", "list", url)
    assert said.code == 2
    assert said.line.startswith("conductor-console: ")


def test_an_unreachable_server(cli: Cli) -> None:
    said = cli("jobs", "list", "zk://127.0.0.1:1/taskflow/jobs")
    assert said.code == 3
    assert "127.0.0.1:1" in said.line


def test_a_path_that_is_not_there(cli: Cli, zk_hosts: str, zk_path: str, tmp_path: Path) -> None:
    said = cli("jobs", "list", f"zk://{zk_hosts}{zk_path}")
    assert said.code == 3
    assert "conductor-console init" in said.line
    said = cli("jobs", "list", f"sqlite:///{tmp_path / 'none.db'}")
    assert said.code == 3
    assert "conductor-console init" in said.line
    assert not (tmp_path / "none.db").exists()


def test_a_corrupt_file_and_a_foreign_one(cli: Cli, tmp_path: Path, posted: list[str], board: str) -> None:
    corrupt = tmp_path / "corrupt.db"
    corrupt.write_bytes(b"not a database at all" * 100)
    foreign = tmp_path / "foreign.db"
    with sqlite3.connect(foreign) as connection:
        connection.execute("create table somebodys (thing)")
    connection.close()
    before = foreign.read_bytes()
    for path in (corrupt, foreign):
        for args in (
            ["jobs", "list", f"sqlite:///{path}"],
            ["init", f"sqlite:///{path}"],
            ["jobs", "show", board, posted[0], "--store", f"sqlite:///{path}"],
            ["replay", posted[0], "--store", f"sqlite:///{path}"],
            ["run", board, "--store", f"sqlite:///{path}", "--allow-any-factory", "--headless", "--exit-when-empty"],
        ):
            said = cli(*args)
            assert said.code == 3, (args, said)
            assert str(path) in said.line
    assert foreign.read_bytes() == before


def test_a_store_that_is_not_there(cli: Cli, posted: list[str], board: str, tmp_path: Path) -> None:
    missing = f"sqlite:///{tmp_path / 'no.db'}"
    for args in (["replay", posted[0], "--store", missing], ["jobs", "show", board, posted[0], "--store", missing]):
        said = cli(*args)
        assert said.code == 3
        assert "init" in said.line


def test_a_password_on_the_command_line_is_warned_of_and_not_told(cli: Cli) -> None:
    said = cli("jobs", "list", "zk://user:geheim@127.0.0.1:1/x")
    assert said.code == 3
    assert len(said.err.splitlines()) == 2
    assert said.err.startswith("warning: ")
    assert "geheim" not in said.err


def test_a_debug_log_keeps_the_traceback(cli: Cli, tmp_path: Path) -> None:
    log = tmp_path / "debug.log"
    assert cli("--debug-log", str(log), "jobs", "list", f"sqlite:///{tmp_path / 'none.db'}").code == 3
    assert "Traceback" in log.read_text()
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


# -- init, post, list --------------------------------------------------------------------------------------------------
def test_init_can_be_repeated(cli: Cli, board: str, store: str, zk_hosts: str, zk_path: str) -> None:
    for url in (board, f"zk://{zk_hosts}{zk_path}"):
        for _ in range(2):
            said = cli("init", url, "--store", store)
            assert said.code == 0
            assert [line.split()[0] for line in said.out.splitlines()] == ["board", "store"]
            assert cli("jobs", "list", url, "--json").json == []


def test_a_job_as_json(cli: Cli, posted: list[str], board: str) -> None:
    said = cli("jobs", "list", board, "--json")
    assert said.code == 0
    assert [job["uuid"] for job in said.json] == posted
    job = said.json[0]
    assert job.keys() == FIELDS
    assert (job["name"], job["state"], job["health"], job["priority"]) == ("lb-1", "waiting", "ok", "NORMAL")
    assert [job[key] for key in ("owner", "claimed_at", "hold_until", "cause", "problem")] == [None] * 5
    assert job["created_at"].endswith("Z")
    assert abs((datetime.now(UTC) - datetime.fromisoformat(job["created_at"])).total_seconds()) < 60


def test_a_cause_as_json(cli: Cli, posted: list[str], board: str) -> None:
    fail(board, posted[1], 3, hold=60.0)
    job = cli("jobs", "list", board, "--json").json[0]
    assert (job["uuid"], job["state"], job["health"]) == (posted[1], "held", "cycling")
    assert (job["attempts"], job["failures"]) == (3, 3)
    assert job["hold_until"].endswith("Z")
    assert job["cause"].keys() == {"type", "message", "where", "fingerprint"}
    assert job["cause"]["type"] == "Boom"


def test_posting_what_it_is_told(cli: Cli, posted: list[str], board: str, store: str, tmp_path: Path) -> None:
    values = tmp_path / "values.json"
    values.write_text('{"admin_password": "geheim"}')
    said = cli(
        *("jobs", "post", board, "--store", store, "--factory", "shop.flows.checkout", "--args", "[1]"),
        *("--kwargs", '{"order": 7}', "--inject", f"@{values}", "--priority", "high", "--json"),
    )
    assert said.code == 0
    [job] = said.json
    assert job["name"] == "checkout"
    full = cli("jobs", "show", board, job["uuid"][:8], "--store", store, "--json").json
    assert full["priority"] == "HIGH"
    assert full["flow"]["atoms"] == []
    assert "geheim" not in json.dumps(full)
    with sqlite3.connect(tmp_path / "flows.db") as connection:
        [meta] = [
            json.loads(row[0]) for row in connection.execute("select meta from flowdetails where name = 'checkout'")
        ]
    connection.close()
    assert meta["factory"] == {"name": "shop.flows.checkout", "args": [1], "kwargs": {"order": 7}}
    assert meta["store"] == {"admin_password": "geheim"}


def test_values_by_standard_input(cli: Cli, posted: list[str], board: str, store: str) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "conductor_console.cli.main", "jobs", "post", board, "--store", store),
            *("--factory", FACTORY, "--inject", "-"),
        ],
        input='{"a": 1}',
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(cli("jobs", "list", board, "--json").json) == 4


@pytest.mark.parametrize(
    "args",
    [
        ["--factory", "nothing"],
        ["--factory", FACTORY, "--args", "{"],
        ["--factory", FACTORY, "--args", "{}"],
        ["--factory", FACTORY, "--kwargs", "[]"],
        ["--factory", FACTORY, "--inject", "{}"],
        ["--factory", FACTORY, "--inject", "@/nowhere/at/all"],
        ["--factory", FACTORY, "--priority", "URGENT"],
        ["--factory", FACTORY, "--count", "0"],
        ["--factory", FACTORY, "--name", " "],
    ],
)
def test_what_cannot_be_posted(cli: Cli, posted: list[str], board: str, store: str, args: list[str]) -> None:
    said = cli("jobs", "post", board, "--store", store, *args)
    assert said.code == 2
    assert said.line
    assert len(cli("jobs", "list", board, "--json").json) == 3


def test_a_posting_that_is_not_json_is_a_marked_row(cli: Cli, zk_hosts: str, zk_path: str) -> None:
    url = f"zk://{zk_hosts}{zk_path}"
    assert cli("init", url).code == 0
    with kazoo(zk_hosts) as client:
        client.create(f"{zk_path}/job", b"\xff not \x1b[31m JSON", sequence=True)
    [job] = cli("jobs", "list", url, "--json").json
    assert (job["uuid"], job["state"]) == (None, "malformed")
    assert "JSON" in job["problem"]
    listed = cli("jobs", "list", url)
    assert listed.code == 0
    assert "malformed" in listed.out
    assert "\x1b" not in listed.out
    assert "\x1b" not in cli("jobs", "show", url, job["node"]).out
    said = cli("jobs", "delete", url, job["node"], "--yes", "--json")
    assert (said.code, said.json) == (0, [{"uuid": job["node"], "result": "done", "why": None}])
    assert cli("jobs", "list", url, "--json").json == []


def test_hostile_names_do_no_harm(cli: Cli, posted: list[str], board: str) -> None:
    with opened(board) as found:
        found.post("[/red]\x1b]0;x\x07[bold")
    assert "[/red]\\x1b]0;x\\x07[bold" in cli("jobs", "list", board).out
    [job] = cli("jobs", "list", board, "--json", "--name", "*red*").json
    assert job["name"] == "[/red]\x1b]0;x\x07[bold"


def test_the_table_in_a_pipe_is_not_cut(cli: Cli, posted: list[str], board: str) -> None:
    fail(board, posted[0], 4)
    said = cli("jobs", "list", board)
    assert said.code == 0
    lines = said.out.splitlines()
    assert lines[0].split() == ["state", "name", "fails", "for", "owner", "age", "uuid", "cause"]
    assert lines[1].split()[:3] == ["cycling", "lb-1", "4"]
    assert "Boom a.py:1 in b" in lines[1]
    assert posted[0][:8] in lines[1]
    assert len(lines) == 4


# -- selection ---------------------------------------------------------------------------------------------------------
def test_selection(cli: Cli, posted: list[str], board: str) -> None:
    fail(board, posted[0], 3)
    fail(board, posted[1], 2, hold=60.0)

    def named(*args: str) -> list[str]:
        return [job["name"] for job in cli("jobs", "list", board, "--json", *args).json]

    assert named() == ["lb-1", "lb-2", "lb-3"]
    assert named("--failures-over", "2") == ["lb-1"]
    assert named("--failures-over", "1") == ["lb-1", "lb-2"]
    assert named("--state", "held") == ["lb-2"]
    assert named("--state", "cycling") == ["lb-1"]
    assert named("--health", "suspect") == ["lb-2"]
    assert named("--filter", "state:held fails:>1") == ["lb-2"]
    assert named("--filter", "!state:cycling name:lb-?", "--older-than", "0.01s") == ["lb-2", "lb-3"]
    assert named("--older-than", "1d") == []
    bad = cli("jobs", "list", board, "--filter", "stat:held")
    assert (bad.code, bad.err.count("\n")) == (2, 1)
    assert named("--name", "lb-[23]", "--health", "ok") == ["lb-3"]
    assert named(posted[2][:8]) == ["lb-3"]
    assert cli("jobs", "list", board, "--state", "asleep").code == 2
    assert cli("jobs", "list", board, "--health", "fine").code == 2
    assert cli("jobs", "list", board, "ffffffff-0000").code == 1


def test_too_little_of_a_uuid_is_refused_and_told(cli: Cli, posted: list[str], board: str) -> None:
    # Whether or not it fits just one.
    for args in (("list", board, posted[0][:1]), ("show", board, posted[0][:3])):
        said = cli("jobs", *args)
        assert said.code == 2
        assert said.line.endswith("is too short: give 4 characters of a uuid at least")


# -- acts --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams(closed: str, posted: list[str], board: str) -> None:
    for args, code in ((("jobs", "list", board), 0), (("attach", board), 2)):
        command = [sys.executable, "-m", "conductor_console.cli.main", *args]
        done = subprocess.run(
            ["sh", "-c", f'exec "$@" {closed}', "sh", *command], capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, "Error" in done.stdout + done.stderr) == (code, False)


def test_bin_and_restore(cli: Cli, posted: list[str], board: str) -> None:
    fail(board, posted[0], 3)
    said = cli("jobs", "bin", board, "--failures-over", "2", "--why", "noise", "--json")
    assert (said.code, said.json) == (0, [{"uuid": posted[0], "result": "done", "why": None}])
    [job] = cli("jobs", "list", board, "--bin", "--json").json
    assert job.keys() == {*FIELDS, "binned"}
    assert (job["uuid"], job["state"], job["failures"], job["created_at"]) == (posted[0], "binned", 3, None)
    assert job["binned"]["why"] == "noise"
    assert "noise" in cli("jobs", "list", board, "--bin").out
    assert cli("jobs", "show", board, posted[0][:8], "--json").json["state"] == "binned"
    said = cli("jobs", "restore", board, posted[0][:8])
    assert said.code == 0
    assert said.out.splitlines()[1].split()[:2] == ["done", posted[0]]
    assert cli("jobs", "list", board, "--bin", "--json").json == []
    restored = next(job for job in cli("jobs", "list", board, "--json").json if job["uuid"] == posted[0])
    assert (restored["failures"], restored["attempts"]) == (0, 3)


def test_a_dry_run_does_nothing(cli: Cli, posted: list[str], board: str) -> None:
    for verb in ("bin", "delete", "retry", "release"):
        said = cli("jobs", verb, board, "--name", "lb-*", "--dry-run")
        assert said.code == 0
        assert said.out.startswith(f"dry run: would {verb} 3 jobs\n")
    said = cli("jobs", "delete", board, posted[0], "--dry-run", "--json")
    assert said.json == [{"uuid": posted[0], "result": None, "why": "dry run: would delete"}]
    assert len(cli("jobs", "list", board, "--json").json) == 3


def test_delete_refuses_where_nobody_can_be_asked(cli: Cli, posted: list[str], board: str) -> None:
    said = cli("jobs", "delete", board, posted[0])
    assert said.code == 2
    assert "--yes" in said.line
    assert cli("jobs", "delete", board, posted[0], "--yes").code == 0
    assert len(cli("jobs", "list", board, "--json").json) == 2


@pytest.mark.parametrize(("answer", "code", "left"), [("y", 0, 2), ("n", 1, 3), ("", 1, 3)])
def test_delete_asks_on_a_terminal(
    cli: Cli, posted: list[str], board: str, monkeypatch: pytest.MonkeyPatch, answer: str, code: int, left: int
) -> None:
    asked: list[str] = []

    def readline() -> str:
        asked.append("once")
        return f"{answer}\n" if answer else ""

    monkeypatch.setattr(output, "interactive", lambda: True)
    monkeypatch.setattr(sys.stdin, "readline", readline, raising=False)
    said = cli("jobs", "delete", board, posted[0])
    assert (said.code, asked) == (code, ["once"])
    assert "Delete 1 job for good? [y/N]" in said.out
    assert len(cli("jobs", "list", board, "--json").json) == left


def test_purge_is_for_the_bin_alone_and_asks_for_a_typed_word(
    cli: Cli, posted: list[str], board: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("jobs", "bin", board, posted[0], posted[1]).code == 0
    assert "needs" not in cli("jobs", "purge", board, "--name", "lb-*", "--older-than", "1d").line
    said = cli("jobs", "purge", board, "--older-than", "0.01s", "--dry-run")
    assert said.out.startswith("dry run: would purge 2 jobs\n")
    assert "--yes" in cli("jobs", "purge", board, "--name", "*").line
    monkeypatch.setattr(output, "interactive", lambda: True)
    for typed, code in (("y", 1), ("purge 2", 0)):
        monkeypatch.setattr(sys.stdin, "readline", lambda typed=typed: f"{typed}\n", raising=False)
        said = cli("jobs", "purge", board, "--name", "*")
        assert "Purge 2 jobs from the bin for good? Type purge 2 to go on: " in said.out
        assert said.code == code
    assert cli("jobs", "list", board, "--bin", "--json").json == []
    assert len(cli("jobs", "list", board, "--json").json) == 1
    assert cli("jobs", "purge", board, posted[0], "--older-than", "soon").code == 2


def test_acts_need_a_selection(cli: Cli, posted: list[str], board: str) -> None:
    for verb in ("bin", "delete", "restore", "retry", "release"):
        said = cli("jobs", verb, board)
        assert said.code == 2
        assert "which jobs" in said.line


def test_a_job_that_is_not_there_does_not_stop_the_rest(cli: Cli, posted: list[str], board: str) -> None:
    said = cli("jobs", "bin", board, "no-such-job", posted[0], "--json")
    assert said.code == 1
    assert [(result["uuid"], result["result"]) for result in said.json] == [
        (posted[0], "done"),
        ("no-such-job", "gone"),
    ]


def test_a_claim_is_released_only_after_the_warning(cli: Cli, posted: list[str], board: str) -> None:
    with opened(board) as owner:
        held = job_of(owner, posted[0])
        owner.claim(held, "c1")
        said = cli("jobs", "release", board, posted[0])
        assert said.code == 2
        assert "may still be at work: the job may then be run twice at once" in said.line
        assert "only when you know that its owner is dead" in said.line
        assert owner.holds(held)
        said = cli("jobs", "release", board, *posted[:2], "--yes", "--json")
        assert (said.code, [(one["uuid"], one["result"]) for one in said.json]) == (
            1, [(posted[0], "done"), (posted[1], "changed")],
        )  # fmt: skip
        eventually(lambda: not owner.holds(held), what="the claim's loss to be noticed")


def test_holding_for_a_while(cli: Cli, posted: list[str], board: str) -> None:
    assert cli("jobs", "hold", board, posted[0]).code == 2
    assert "not a time" in cli("jobs", "hold", board, posted[0], "--for", "soon").line
    assert cli("jobs", "hold", board, posted[0], "--for", "1h").code == 0
    assert [one["uuid"] for one in cli("jobs", "list", board, "--state", "held", "--json").json] == [posted[0]]
    assert cli("jobs", "retry", board, "--state", "held").code == 0
    assert cli("jobs", "list", board, "--state", "held", "--json").json == []


def test_nothing_that_fits_is_nothing_to_do(cli: Cli, posted: list[str], board: str) -> None:
    said = cli("jobs", "bin", board, "--failures-over", "9")
    assert (said.code, said.out) == (0, "")
    assert "nothing to do" in said.line


def test_a_claimed_job_is_not_binned_unasked(cli: Cli, posted: list[str], board: str) -> None:
    with opened(board) as found:
        found.claim(job_of(found, posted[0]), "w1")
        listed = cli("jobs", "list", board, "--json", "--state", "claimed").json
        assert [(job["uuid"], job["owner"]) for job in listed] == [(posted[0], "w1")]
        assert listed[0]["claimed_at"].endswith("Z")
        said = cli("jobs", "bin", board, "--name", "lb-*")
        assert said.code == 2
        assert "1 of them claimed" in said.line
        said = cli("jobs", "retry", board, posted[0], "--json")
        assert said.code == 1
        assert said.json[0]["result"] in ("changed", "refused")
        assert cli("jobs", "bin", board, "--name", "lb-*", "--yes").code == 0


def test_retry_ends_a_hold(cli: Cli, posted: list[str], board: str) -> None:
    fail(board, posted[0], 1, hold=600.0)
    assert cli("jobs", "list", board, "--json", "--state", "held").json
    assert cli("jobs", "retry", board, "--state", "held").code == 0
    assert cli("jobs", "list", board, "--json", "--state", "held").json == []


def test_deleting_from_the_bin(cli: Cli, posted: list[str], board: str) -> None:
    assert cli("jobs", "bin", board, posted[0]).code == 0
    assert cli("jobs", "delete", board, "--bin", "--name", "*", "--yes").code == 0
    assert cli("jobs", "list", board, "--bin", "--json").json == []


def test_acts_are_in_the_audit_file_of_an_attached_board(
    cli: Cli, posted: list[str], board: str, tmp_path: Path
) -> None:
    assert cli("jobs", "bin", board, posted[0], "--why", "noise").code == 0
    [audit] = (tmp_path / "home").rglob("audit.jsonl")
    lines = [json.loads(line) for line in audit.read_text().splitlines()]
    acts = [line for line in lines if line.get("action") == "bin"]
    assert [act["job_uuid"] for act in acts] == [posted[0]]
    assert stat.S_IMODE(audit.stat().st_mode) == 0o600


# -- run and replay ----------------------------------------------------------------------------------------------------
def run_until_empty(cli: Cli, board: str, store: str, *args: str) -> Said:
    return cli("run", board, "--store", store, "--headless", "--exit-when-empty", "--backoff", "0.05", *args)


def test_run_says_which_factories(cli: Cli, board: str, store: str) -> None:
    assert cli("run", board, "--store", store, "--headless").code == 2
    assert cli("run", board, "--store", store, "--headless", "--allow-factory", "x.*", "--allow-any-factory").code == 2
    for option in ("--kind", "--engine", "--on-failure"):
        said = cli("run", board, "--store", store, "--headless", "--allow-any-factory", option, "sideways")
        assert said.code == 2
        assert option in said.line


@pytest.mark.parametrize("kind", ["blocking", "nonblocking"])
def test_run_and_replay(cli: Cli, posted: list[str], board: str, store: str, kind: str) -> None:
    said = run_until_empty(cli, board, store, "--allow-factory", "conductor_console.demo.flows.*", "--kind", kind)
    assert said.code == 0, said.err
    assert said.out == ""
    assert cli("jobs", "list", board, "--json").json == []
    events = [line.split()[1] for line in said.err.splitlines()]
    assert (events.count("claimed"), events.count("closed")) == (3, 3)
    told = cli("replay", posted[0], "--store", store)
    assert told.code == 0
    assert "create-volume" in told.out
    as_json = cli("replay", posted[0], "--store", store, "--json").json
    assert as_json["complete"] is True
    assert any(event["atom"] == "create-volume" for event in as_json["events"])
    unknown = cli("replay", "00000000-0000-0000-0000-000000000000", "--store", store)
    assert unknown.code == 1
    assert unknown.line


def test_one_file_serves_as_board_and_store(cli: Cli, board: str) -> None:
    assert cli("init", board, "--store", board).code == 0
    assert cli("jobs", "post", board, "--store", board, "--factory", FACTORY, "--count", "2").code == 0
    said = run_until_empty(cli, board, board, "--allow-any-factory")
    assert said.code == 0
    assert said.err.count(" consumed by ") == 2
    assert cli("jobs", "list", board, "--json").json == []


def test_what_is_not_allowed_is_left_alone(cli: Cli, posted: list[str], board: str, store: str) -> None:
    said = run_until_empty(cli, board, store, "--allow-factory", "somewhere.else.*")
    assert said.code == 0
    assert said.err.count("not allowed here") == 3
    jobs = cli("jobs", "list", board, "--json").json
    assert [(job["state"], job["attempts"]) for job in jobs] == [("waiting", 0)] * 3


def test_a_missing_factory_ends_in_the_bin(cli: Cli, board: str, store: str) -> None:
    assert cli("init", board, "--store", store).code == 0
    assert cli("jobs", "post", board, "--store", store, "--factory", "conductor_console.demo.flows:gone").code == 0
    said = run_until_empty(cli, board, store, "--allow-any-factory")
    assert said.code == 0
    assert " binned gone " in said.err
    [job] = cli("jobs", "list", board, "--bin", "--json").json
    assert job["binned"]["why"]


def test_a_cycling_job_is_binned_after_max_attempts(cli: Cli, board: str, store: str) -> None:
    assert cli("init", board, "--store", store).code == 0
    factory = "conductor_console.demo.poison:storage_failure"
    assert cli("jobs", "post", board, "--store", store, "--factory", factory, "--kwargs", '{"pace": 0}').code == 0
    said = run_until_empty(cli, board, store, "--allow-any-factory", "--max-attempts", "3", "--name", "c")
    assert said.code == 0
    assert said.err.count(" abandoned by c") == 3
    [job] = cli("jobs", "list", board, "--bin", "--json").json
    assert (job["attempts"], job["failures"], job["cause"]["type"]) == (3, 3, "StorageFailure")
    shown = cli("jobs", "show", board, job["uuid"], "--store", store)
    assert shown.code == 0
    assert "save-quota" in shown.out
    assert "poison.py" in shown.out


def test_on_failure(cli: Cli, board: str, store: str) -> None:
    assert cli("init", board, "--store", store).code == 0
    post = ("jobs", "post", board, "--store", store, "--factory", "conductor_console.demo.poison:over_quota")
    for choice, binned in (("consume", 0), ("bin", 1)):
        assert cli(*post, "--kwargs", '{"pace": 0}').code == 0
        assert run_until_empty(cli, board, store, "--allow-any-factory", "--on-failure", choice).code == 0
        assert len(cli("jobs", "list", board, "--bin", "--json").json) == binned


# -- as a process ------------------------------------------------------------------------------------------------------
def test_a_broken_pipe_is_quiet(cli: Cli, posted: list[str], board: str) -> None:
    for args in ("--json", ""):
        command = f"'{sys.executable}' -m conductor_console.cli.main jobs list {board} {args} | true"
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stderr) == (0, "")


def test_names_the_terminal_cannot_show(cli: Cli, posted: list[str], board: str) -> None:
    with opened(board) as found:
        found.post("größer-\N{SNOWMAN}")
    done = subprocess.run(
        [sys.executable, "-m", "conductor_console.cli.main", "jobs", "list", board],
        capture_output=True,
        timeout=120,
        env={"PYTHONIOENCODING": "ascii", "PATH": "/usr/bin:/bin"},
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"gr\xf6\xdfer-\u2603" in done.stdout
