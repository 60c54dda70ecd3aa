"""The documents: every program in them is run, every command line parses, every link leads somewhere."""

from __future__ import annotations

import inspect
import os
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer.main
from taskflow.conductors.base import Conductor

from conductor_console import jobboards, persistence
from conductor_console.cli.main import app
from conductor_console.conductors import engines
from conductor_console.conductors.base import ExecutorConductor
from conductor_console.conductors.nonblocking import NonBlockingConductor
from conductor_console.jobboards.attempts import OUTCOMES
from conductor_console.operations import Operations, PostRequest
from tests.interop.third_party import install
from tests.support import eventually

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CONDUCTORS = ROOT / "docs" / "conductors.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
#: What a reader sees in a line without scrolling.
WIDTH = 128


def blocks(document: Path, language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", document.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def programs(document: Path) -> tuple[dict[str, str], str]:
    """The blocks of Python that begin with a file's name, by that; and all others, in order, as one program."""
    files: dict[str, str] = {}
    program = []
    for block in blocks(document, "python"):
        name = re.match(r"# (\S+\.py)\n", block)
        if name:
            files[name[1]] = block
        else:
            program.append(block)
    return files, "\n".join(program)


def commands(document: Path) -> list[str]:
    """Every command line of ours that is shown, by itself or, with its board, in a sentence."""
    text = document.read_text(encoding="utf-8").replace("\\\n", " ")
    shown = re.findall(r"^ {4,}(conductor-console .*)$", text, re.MULTILINE)
    return [*shown, *re.findall(r"`(conductor-console [^`]*://[^`]*)`", text)]


def parse(command: Any, name: str, args: list[str], parent: Any = None) -> None:
    """Reads arguments as the command would; raises what it would tell the user."""
    context = command.make_context(name, args, parent=parent)
    if hasattr(command, "resolve_command"):
        left = [*context._protected_args, *context.args]
        called, below, rest = command.resolve_command(context, left)
        parse(below, called, rest, context)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """The package that the documents speak of, installed in a folder."""
    files, _ = programs(CONDUCTORS)
    (toml,) = blocks(CONDUCTORS, "toml")
    groups = tomllib.loads(toml)["project"]["entry-points"]
    told = "\n".join(f"[{group}]\n{name} = {where}" for group in groups for name, where in groups[group].items())
    folder = tmp_path / "site"
    folder.mkdir()
    install(folder, "shop", {"shop/__init__.py": "", **files}, told)
    return folder


def post(board_url: str, store_url: str) -> str:
    """A job for the shop; board and store are made where they are missing. Returns its uuid."""
    store = persistence.fetch(store_url)
    board = jobboards.fetch(board_url, persistence=store)
    try:
        store.ensure()
        board.ensure()
        board.connect()
        operations = Operations(board, operator="reader", store=store)
        return operations.post(PostRequest("shop.flows:checkout", "checkout", inject={"order": 7}))[0]
    finally:
        board.close()
        store.close()


def start(program: str, shop: Path, folder: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(shop), "XDG_CACHE_HOME": str(folder)}
    script = folder / "program.py"
    script.write_text(program, encoding="utf-8")
    return subprocess.Popen(
        [sys.executable, script],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_programs_on_conductors_run_as_they_stand(shop: Path, tmp_path: Path) -> None:
    _, program = programs(CONDUCTORS)
    post(f"sqlite:///{tmp_path}/board.db", f"sqlite:///{tmp_path}/flows.db")
    # The last of them is fetched and not run; it is here.
    with start(f"{program}\nprint(type(timed).__name__)\n", shop, tmp_path) as process:
        told, wrong = process.communicate(timeout=60)
    assert (process.returncode, wrong) == (0, "")
    assert told.splitlines()[-1] == "TimedConductor"


def test_the_program_on_architecture_runs(shop: Path, tmp_path: Path, zk_hosts: str, zk_path: str) -> None:
    """On this machine's servers and folders; it runs until it is ended."""
    board_url, store_url = f"zk://{zk_hosts}{zk_path}", f"sqlite:///{tmp_path}/flows.db"
    uuid = post(board_url, store_url)
    _, program = programs(ARCHITECTURE)
    for theirs, ours in (
        ("zk://h1:2181,h2:2181/taskflow/jobs", board_url),
        ("sqlite:////srv/flows.db", store_url),
    ):
        assert program.count(theirs) == 1
        program = program.replace(theirs, ours)
    board = jobboards.fetch(board_url)
    try:
        board.connect()
        with start(program, shop, tmp_path) as process:
            try:
                eventually(lambda: process.poll() is not None or uuid not in board.listing().jobs, what="the job's end")
                assert process.poll() is None
            finally:
                process.send_signal(signal.SIGTERM)
            assert process.communicate(timeout=60) == ("", "")
        assert uuid not in board.listing().binned
    finally:
        board.close()


def test_no_other_document_has_a_program() -> None:
    assert [document for document in DOCUMENTS if blocks(document, "python")] == [ARCHITECTURE, CONDUCTORS]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_commands_and_links(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    command = typer.main.get_command(app)
    for line in commands(document):
        parse(command, "conductor-console", shlex.split(line)[1:])
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"(?:^ {4}|`)make ([a-z]+)", text, re.MULTILINE)) <= targets
    for target in re.findall(r"\]\(([^)]+)\)", text):
        path, _, heading = target.partition("#")
        if "://" in target:
            continue
        to = (document.parent / path) if path else document
        assert to.exists(), target
        if heading:
            headings = re.findall(r"^#+ (.*)$", to.read_text(encoding="utf-8"), re.MULTILINE)
            assert heading in {re.sub(r"[^a-z0-9 -]", "", each.lower()).replace(" ", "-") for each in headings}, target


def test_the_document_on_conductors_names_all_there_is() -> None:
    """Arguments, methods, events, outcomes and engine options: what is new has to be told."""
    text = CONDUCTORS.read_text(encoding="utf-8")
    assert [line for line in text.splitlines() if len(line) > WIDTH] == []
    named = set(re.findall(r"`(\w+)(?:\([^`]*\))?`", text))
    for made in (ExecutorConductor, NonBlockingConductor):
        arguments = inspect.signature(made).parameters.values()
        assert {each.name for each in arguments if each.kind is each.POSITIONAL_OR_KEYWORD} <= named
    public = {name for name in (*vars(ExecutorConductor), *vars(Conductor)) if name[0].islower()}
    # What the parts of a conductor call one another for.
    assert public - named == {"tell", "pass_over"}
    assert set(ExecutorConductor.EVENTS_EMITTED) <= named
    assert named >= engines._PARALLEL | engines._WORKERS
    assert {word for word in OUTCOMES if f"| {word} |" in text} == OUTCOMES - {"unknown"}
