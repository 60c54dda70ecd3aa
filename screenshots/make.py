"""Draws screenshots/*.svg from the real app with a frozen board, and with ``--png`` each as PNG as well.

The README's are always drawn as PNG too; that needs rsvg-convert (Debian's librsvg2-bin). Names choose some.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from conductor_console.console import theme  # noqa: E402
from conductor_console.console.app import ConsoleApp  # noqa: E402
from conductor_console.jobboards.attempts import make_cause  # noqa: E402
from conductor_console.jobboards.base import Connection  # noqa: E402
from conductor_console.jobboards.breaker import CLOSED, opened  # noqa: E402
from tests.tui.board import NOW, FrozenSource, RecordedHand, picture  # noqa: E402


@dataclass(frozen=True)
class Shot:
    """A picture: its name, the terminal's size, and the keys that lead to it."""

    name: str
    size: tuple[int, int]
    keys: tuple[str, ...] = ()
    theme: str = "dark"
    lost: bool = False
    breaker: bool = False
    no_color: bool = False
    ascii_only: bool = False
    png: bool = False


MARKED = (*["down"] * 4, "space", *["down"] * 2, "space", *["down"] * 3, "space")
SHOTS = (
    Shot("first-screen-120x36", (120, 36), png=True),
    Shot("first-screen-80x24", (80, 24), png=True),
    Shot("first-screen-160x45", (160, 45)),
    Shot("first-screen-light", (120, 36), theme="light"),
    Shot("first-screen-no-colour", (120, 36), no_color=True),
    Shot("job-page-120x36", (120, 36), ("enter",)),
    Shot("confirm-delete-120x36", (120, 36), (*MARKED, "D")),
    Shot("confirm-delete-80x24", (80, 24), (*MARKED, "D")),
    Shot("claims-120x36", (120, 36), ("2",)),
    Shot("failures-120x36", (120, 36), ("3",)),
    Shot("failures-80x24", (80, 24), ("3",)),
    Shot("bin-120x36", (120, 36), ("4",)),
    Shot("conductors-120x36", (120, 36), ("5",)),
    Shot("connection-lost-120x36", (120, 36), lost=True),
    Shot("connection-lost-80x24", (80, 24), lost=True),
    Shot("breaker-120x36", (120, 36), breaker=True),
    Shot("breaker-80x24", (80, 24), breaker=True),
    Shot("help-120x36", (120, 36), ("question_mark",)),
)


def source_for(shot: Shot) -> FrozenSource:
    """The board of a shot."""
    source = FrozenSource()
    if shot.lost:
        lost = Connection("lost", NOW, "no answer from zk1, zk2, zk3", NOW + timedelta(seconds=27))
        source.show(replace(picture(), connection=lost))
        source.tick(23)
    if shot.breaker:
        cause = make_cause("StorageFailure", "no answer from db1")
        why = "14 jobs fail with StorageFailure"
        source.show(
            replace(picture(), breaker=opened(CLOSED, "cause", why, NOW - timedelta(minutes=2), "w1", cause=cause))
        )
    return source


async def take(shot: Shot) -> str:
    """The picture as SVG."""
    os.environ.update(TERM="xterm-256color", COLORTERM="truecolor")
    os.environ.pop("NO_COLOR", None)
    if shot.no_color:
        os.environ["NO_COLOR"] = "1"
    source = source_for(shot)
    app = ConsoleApp(source, RecordedHand(), theme=shot.theme, ascii_only=shot.ascii_only, now=source.clock)
    async with app.run_test(size=shot.size) as pilot:
        await pilot.pause()
        for key in shot.keys:
            await pilot.press(key)
        await pilot.pause()
        return app.export_screenshot(title=" ")


def main() -> None:
    """Draws those named on the command line, or all."""
    convert = shutil.which("rsvg-convert")
    names = [word for word in sys.argv[1:] if not word.startswith("-")]
    for shot in SHOTS:
        if names and shot.name not in names:
            continue
        path = HERE / f"{shot.name}.svg"
        path.write_text(asyncio.run(take(shot)), encoding="utf-8")
        if convert and (shot.png or "--png" in sys.argv):
            subprocess.run([convert, "--output", path.with_suffix(".png"), path], check=True)
    theme.use(theme.PALETTES["dark"])


if __name__ == "__main__":
    main()
