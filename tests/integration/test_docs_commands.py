"""Every command that the documents show is one that there is: with these options, and with all that it needs."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer

from conductor_console.cli.main import app

ROOT = Path(__file__).parents[2]
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))

_INLINE = re.compile(r"`([^`\n]+)`")
_COMMAND = re.compile(r"(?:^|[\s/=(|&;])conductor-console(?=[\s;|)]|$)(.*)")
#: What ends a command in a shell.
_ENDS = re.compile(r"^[|;&<>()]+$|^\d?>")
_IMAGES = re.compile(r"!\[[^\]]*\]\(([^)\s]+)\)")
_LINKS = re.compile(r"(?<!!)\[[^\]]*\]\((?!https?:)([^)#\s]+)[^)]*\)")


@dataclass(frozen=True)
class Shown:
    """A command as a document shows it; ``whole``: on a line of its own, as it is to be typed."""

    where: str
    words: tuple[str, ...]
    whole: bool

    def __str__(self) -> str:
        return f"{self.where} conductor-console {' '.join(self.words)}"


def shown(document: Path) -> Iterator[Shown]:
    """The commands of a document, those within a sentence too."""
    fenced, before = False, ""
    for number, line in enumerate(document.read_text(encoding="utf-8").splitlines(), 1):
        where = f"{document.name}:{number}"
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            if line.endswith("\\"):
                before += f"{line[:-1]} "
                continue
            yield from _commands(where, before + line, whole=True)
            before = ""
        else:
            for code in _INLINE.findall(line):
                yield from _commands(where, code, whole=False)


def _commands(where: str, code: str, *, whole: bool) -> Iterator[Shown]:
    for found in _COMMAND.findall(code):
        lexer = shlex.shlex(found, posix=True, punctuation_chars=True)
        lexer.wordchars += "@:%,[]{}!…"
        words = []
        for word in lexer:
            if _ENDS.match(word):
                break
            words.append(word)
        yield Shown(where, tuple(words), whole)


def problem(command: Shown) -> str | None:
    """Why it cannot be typed like that; a part of one, within a sentence, need not be complete."""
    at: Any = typer.main.get_command(app)
    context, words = None, list(command.words)
    try:
        while True:
            context = at.make_context(at.name or "conductor-console", words, parent=context)
            if not hasattr(at, "commands"):
                return None
            words = [*getattr(context, "_protected_args", ()), *context.args]
            if not words:
                return None
            if words[0] not in at.commands:
                return f"there is no command {words[0]}"
            at, words = at.commands[words[0]], words[1:]
    except Exception as error:
        kind = type(error).__name__
        if kind in ("NoArgsIsHelpError", "Exit") or (
            not command.whole and kind in ("MissingParameter", "BadParameter")
        ):
            return None
        return f"{kind}: {getattr(error, 'message', error)}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_every_command_in_a_document_parses(document: Path) -> None:
    problems = {str(command): why for command in shown(document) if (why := problem(command))}
    assert problems == {}


def test_what_does_not_parse_is_found(tmp_path: Path) -> None:
    document = tmp_path / "wrong.md"
    document.write_text(
        "Use `conductor-console jobs explode` or `conductor-console jobs list --colour`, or `conductor-console run`.\n"
        "\n"
        "    conductor-console attach | tee log    # no board\n"
        "    sudo conductor-console jobs bin sqlite:///b.db --name 'a b*' --failures-over many\n"
        "```\n"
        "$ conductor-console jobs list \\\n"
        "    sqlite:///b.db --state held > list.txt && echo done\n"
        "ExecStart=/usr/bin/conductor-console jobs show BOARD\n"
        "```\n",
        encoding="utf-8",
    )
    found = list(shown(document))
    assert [command.whole for command in found] == [False, False, False, True, True, True, True]
    assert found[4].words == ("jobs", "bin", "sqlite:///b.db", "--name", "a b*", "--failures-over", "many")
    assert found[5].words == ("jobs", "list", "sqlite:///b.db", "--state", "held")
    wrong = [command.where for command in found if problem(command)]
    assert wrong == ["wrong.md:1", "wrong.md:1", "wrong.md:3", "wrong.md:4", "wrong.md:8"]


def test_the_documents_show_commands_and_pictures_that_are_there() -> None:
    assert sum(1 for document in DOCUMENTS for _ in shown(document)) > 20
    missing = []
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for target in (*_IMAGES.findall(text), *_LINKS.findall(text)):
            if not target.startswith("http") and not (document.parent / target).exists():
                missing.append(f"{document.name}: {target}")
    assert missing == []
