"""``exporter`` as a process of its own, scraped over HTTP as Prometheus does, on real boards."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from conductor_console import jobboards
from conductor_console.cli.exporter import address
from conductor_console.cli.main import call
from conductor_console.errors import UsageError
from conductor_console.jobboards.attempts import make_cause
from conductor_console.jobboards.base import LedgerBoard
from tests import flows
from tests.integration.conducting import sql_store, taskflows_board, taskflows_conductor
from tests.integration.helpers import job, opened, take
from tests.servers import Zookeeper, running_zookeeper
from tests.support import eventually

BOOM = make_cause("Boom", "no room, password=hunter2", "a.py:1 in b")


class Exporter:
    """A running exporter; every scrape is checked: one type a family, no counter that fell."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stderr is not None
        self.said = process.stderr.readline()
        assert "metrics of" in self.said, self.said + process.stderr.read()
        self.url = self.said.split()[-1]
        self._counters: dict[tuple[str, str], float] = {}

    def scrape(self, **headers: str) -> str:
        with urllib.request.urlopen(urllib.request.Request(self.url, headers=headers), timeout=10) as answer:
            assert answer.status == 200
            text: str = answer.read().decode()
        return text

    def values(self) -> dict[tuple[str, str], float]:
        """By name, without its beginning, and the labels' values in the order of their names."""
        found = {}
        for family in text_string_to_metric_families(self.scrape()):
            for sample in family.samples:
                key = (
                    sample.name.removeprefix("conductor_console_"),
                    " ".join(value for _, value in sorted(sample.labels.items())),
                )
                found[key] = sample.value
                if family.type == "counter":
                    assert sample.value >= self._counters.get(key, 0.0), f"{key} fell"
                    self._counters[key] = sample.value
        return found

    def value(self, name: str, *labels: str) -> float:
        return self.values().get((name, " ".join(labels)), -1.0)

    def until(self, what: str, fits: Callable[[dict[tuple[str, str], float]], object]) -> dict[tuple[str, str], float]:
        """The first scrape that fits."""

        def look() -> dict[tuple[str, str], float] | None:
            values = self.values()
            return values if fits(values) else None

        found = eventually(look, what=what)
        assert found is not None
        return found

    def end(self, number: signal.Signals) -> None:
        """Ends it in order by a signal."""
        self.process.send_signal(number)
        _, said = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, said
        assert len(said.splitlines()) == 1
        assert f"stopping, {number.name}" in said


@contextmanager
def exporting(board: str, *args: str) -> Iterator[Exporter]:
    """An exporter as a user starts it, on a port of its own choice; killed at the end if it still runs."""
    command = [sys.executable, "-m", "conductor_console.cli.main", "exporter", board, "--listen", "127.0.0.1:0", *args]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Exporter(process)
        finally:
            process.kill()


@contextmanager
def watching(url: str) -> Iterator[LedgerBoard]:
    board: LedgerBoard = jobboards.fetch(url, name="op")
    board.connect()
    try:
        yield board
    finally:
        board.close()


def test_a_sqlite_board_from_job_to_bin(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'board.db'}"
    with opened(url, name="op") as board:
        keys = [board.post(f"lb-{n}").uuid for n in range(3)]
        with exporting(url) as exporter:
            assert exporter.value("up") == 1
            assert exporter.value("board_info", "board.db", "no") == 1
            assert exporter.value("jobs", "ok", "waiting") == 3
            for _ in range(3):
                held = take(board, keys[0], "c1")
                exporter.until("the claim", lambda values: values.get(("claims", "unknown c1")))
                board.abandon(held, "c1", error=BOOM)
            values = exporter.until("three failures", lambda values: values["attempts_total", "abandoned"] == 3)
            assert {value for (name, _), value in values.items() if name == "failures_total"} == {3.0, 0.0}
            cause = {labels: value for (name, labels), value in values.items() if name == "cause_jobs"}
            assert list(cause.values()) == [1.0]
            assert {BOOM.type, BOOM.fingerprint} == set(next(iter(cause)).split())
            board.bin(job(board, keys[0]), "op", "fails again and again")
            exporter.until("the bin", lambda values: values["bin_jobs", ""] == 1)
            held = take(board, keys[1], "c1")
            exporter.until("its claim", lambda values: ("claims", "unknown c1") in values)
            board.consume(held, "c1")
            exporter.until("one that is done", lambda values: values["attempts_total", "consumed"] == 1)
            text = exporter.scrape(Accept="application/openmetrics-text; version=1.0.0")
            assert text.endswith("# EOF\n")
            assert "hunter2" not in text
            assert "lb-" not in text
            port = int(exporter.url.rpartition(":")[2].partition("/")[0])
            with socket.create_connection(("127.0.0.1", port)), socket.create_connection(("127.0.0.1", port)) as rude:
                rude.sendall(b"\x00\xff\r\n\r\n")
                assert exporter.value("up") == 1, "a client that says nothing keeps nobody waiting"
                exporter.end(signal.SIGTERM)


def test_taskflows_conductor_cycling_a_job_is_seen(zookeeper: Zookeeper, zk_path: str, tmp_path: Path) -> None:
    url, flows_url = f"zk://{zookeeper.hosts}{zk_path}", f"sqlite:///{tmp_path / 'flows.db'}"
    with (
        sql_store(tmp_path / "flows.db") as store,
        opened(url, store) as board,
        taskflows_board(zookeeper, zk_path, store) as theirs,
        exporting(url, "--store", flows_url, "--read-only") as exporter,
    ):
        sick, _ = flows.post(theirs, store, "execution_failure", str(tmp_path / "e"))
        flows.post(theirs, store, "fine", str(tmp_path / "e"))
        conductor = taskflows_conductor("c1", theirs, store).start()
        try:
            values = exporter.until("a cycle", lambda values: values["attempts_total", "abandoned"] >= 3)
            exporter.until("the good one's end", lambda values: values["attempts_total", "consumed"] == 1)
            exporter.until("it to go on", lambda now: now["attempts_total", "abandoned"] > 4)
        finally:
            conductor.stop()
        assert values["conductors", "running"] == 1
        assert values["counted_in_memory", ""] == 1
        final = exporter.until("no claim", lambda now: not any(name == "claims" for name, _ in now))
        failures = {labels: value for (name, labels), value in final.items() if name == "failures_total"}
        assert any("ExecutionFailure" in labels and value >= 3 for labels, value in failures.items())
        assert final["jobs", "cycling waiting"] == 1
        entry = board.find(sick.uuid)
        assert entry is not None
        assert entry.record is None
        exporter.end(signal.SIGINT)


def test_a_server_that_goes_and_comes_back() -> None:
    with running_zookeeper() as server:
        url = f"zk://{server.hosts}/jobs?timeout=2"
        with opened(url) as board:
            board.post("one")
            board.refresh()
        with exporting(url) as exporter:
            before = exporter.until("the job", lambda values: values["jobs", "ok waiting"] == 1)
            server.kill()
            lost = exporter.until("the loss", lambda values: values["up", ""] == 0)
            later = exporter.values()
            for values in (lost, later):
                assert values["jobs", "ok waiting"] == 1
                assert values["snapshot_timestamp_seconds", ""] == lost["snapshot_timestamp_seconds", ""]
            assert lost["snapshot_timestamp_seconds", ""] >= before["last_change_timestamp_seconds", ""]
            server.start()
            exporter.until("the board again", lambda values: values["up", ""] == 1)
            with watching(url) as board:
                board.post("two")
            exporter.until("what is new", lambda values: values["jobs", "ok waiting"] == 2)
            exporter.end(signal.SIGHUP)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("127.0.0.1:9791", ("127.0.0.1", 9791)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:80", ("::1", 80)),
        (":9791", ("", 9791)),
    ],
)
def test_where_to_listen(text: str, found: tuple[str, int]) -> None:
    assert address(text) == found


@pytest.mark.parametrize(
    "text", ["", "9791", "host", "host:", "host:-1", "host:99999", "::1:80", "[::1:80", "host:٣", "h:80:", "h:\x1b"]
)
def test_what_is_no_place_to_listen(text: str) -> None:
    with pytest.raises(UsageError, match="--listen"):
        address(text)


def test_the_help_says_what_is_exposed_and_how_it_is_typed(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["exporter", "--help"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "Example: conductor-console exporter zk://" in told
    assert "no job's name, no message, no detail" in told
    assert "There is no password" in told


def test_what_cannot_be_had_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{tmp_path / 'board.db'}"

    def said(*args: str) -> tuple[int, str]:
        code = call(["exporter", *args])
        line: str = capsys.readouterr().err
        assert line.count("\n") == 1
        assert line.startswith("conductor-console: ")
        return code, line

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        code, line = said(url, "--listen", taken)
    assert (code, f"{taken} is in use" in line) == (1, True)
    assert said(url, "--listen", "nonsense")[0] == 2
    assert said(url, "--listen", "192.0.2.1:0")[0] == 2
    code, line = said(url, "--listen", "127.0.0.1:0")
    assert (code, "is not there" in line) == (3, True)


def test_every_address_of_the_host_may_be_asked_for(tmp_path: Path) -> None:
    """Nothing is refused but what cannot be: the help says what is served, and to whom."""
    from conductor_console.cli.exporter import _bound

    with _bound("", 0) as server:
        assert server.server_address[1] != 0
    with _bound("localhost", 0) as server:
        assert str(server.server_address[0]) in {"127.0.0.1", "::1"}
