"""What the commands print: tables for people, JSON for programs, one line for what went wrong.

Foreign text goes through :func:`text.visible` into :class:`rich.text.Text`; nothing is ever parsed as markup.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from conductor_console.text import visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

#: Not a terminal: as wide as the data, so that nothing is cut or folded in a pipe.
PIPE_WIDTH: Final = 1000
#: Colour is spent on trouble only, as on the screen.
STYLES: Final = {
    "cycling": "yellow",
    "suspect": "yellow",
    "malformed": "red",
    "failed": "red",
    "refused": "red",
    "changed": "yellow",
    "gone": "yellow",
    "claimed": "cyan",
    "waiting": "dim",
}


def console() -> Console:
    """Standard output for Rich: no markup, no emoji, no highlighting, honours NO_COLOR."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else PIPE_WIDTH
    return Console(file=sys.stdout, markup=False, emoji=False, highlight=False, width=width, soft_wrap=False)


def table(*columns: str, right: Sequence[str] = (), title: str = "") -> Table:
    """A table without boxes, as on the screen; ``right`` names the columns of numbers."""
    from rich.table import Table
    from rich.text import Text

    made = Table(
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
        header_style="dim",
        title=Text(title, "bold") if title else None,
        title_justify="left",
    )
    for name in columns:
        made.add_column(Text(name), justify="right" if name in right else "left", no_wrap=True)
    return made


def cell(value: object, style: str = "", limit: int = 200) -> Text:
    """A cell; what is unknown reads ``-``."""
    from rich.text import Text

    return Text("-", "dim") if value is None or value == "" else Text(visible(value, limit), style)


def word(value: str) -> Text:
    """A state or a result, in its colour."""
    return cell(value, STYLES.get(value, ""))


def show(*things: Any) -> None:
    """Prints Rich things or plain lines to standard output."""
    target = console()
    if target.is_terminal:
        for thing in things:
            target.print(thing)
        return
    with target.capture() as captured:
        for thing in things:
            target.print(thing)
    lines(line.rstrip() for line in captured.get().splitlines())


def lines(texts: Iterable[str]) -> None:
    """Prints clean lines as they are, never folded."""
    for text in texts:
        sys.stdout.write(f"{text}\n")


def print_json(value: Any) -> None:
    """Prints ``value`` as JSON; whatever is not ASCII is escaped, so that it is safe in a terminal too."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=True).replace("\x7f", "\\u007f") + "\n")


def tell(line: str) -> None:
    """One line to standard error."""
    sys.stderr.write(f"{line}\n")


def warn_password(*urls: str | None) -> None:
    """Warns of a password in a URL that came by the command line, where every user of the machine can read it."""
    from conductor_console.settings import masked

    for url in urls:
        if url and masked(url) != url:
            tell(f"warning: a password on the command line can be seen by other users: {visible(masked(url), 200)}")


def interactive() -> bool:
    """Whether there is a person at a terminal: all three standard streams are one (Textual draws on the third)."""
    return all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr))


def ask(question: str, word: str = "") -> bool:
    """Asks a yes-or-no question; anything but ``y`` or ``yes``, or the ``word`` where there is one, is no."""
    sys.stdout.write(f"{question} Type {word} to go on: " if word else f"{question} [y/N] ")
    sys.stdout.flush()
    said = sys.stdin.readline().strip()
    return said == word if word else said.lower() in ("y", "yes")
