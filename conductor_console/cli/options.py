"""The arguments and options that several commands take, each said once."""

from __future__ import annotations

from typing import Annotated

import typer

BoardUrl = Annotated[
    str,
    typer.Argument(
        metavar="BOARD", help="zk://h1:2181,h2:2181/taskflow/jobs, sqlite:////srv/board.db, or a profile's name"
    ),
]
StoreUrl = Annotated[
    str | None,
    typer.Option(
        "--store", metavar="URL", help="The flows' database: sqlite:////srv/flows.db, postgresql://…, mysql://…"
    ),
]
NeededStore = Annotated[
    str,
    typer.Option(
        "--store", metavar="URL", help="The flows' database: sqlite:////srv/flows.db, postgresql://…, mysql://…"
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Log = Annotated[
    str | None, typer.Option("--log", metavar="FILE", help="Where to log; by default in the user's log folder.")
]
Ascii = Annotated[bool, typer.Option("--ascii", help="Draw with ASCII only.")]
ReadOnly = Annotated[bool, typer.Option("--read-only", help="Write nothing, whatever is pressed.")]


def example(*commands: str) -> str:
    """The end of a command's help: how it is typed, kept as it is."""
    return "\b\nExample:\n" + "\n".join(f"  {command}" for command in commands)
