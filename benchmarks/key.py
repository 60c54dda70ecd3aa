"""How long a keypress takes to be painted on a big board.

The real app, headless (Textual's own driver for tests, which paints as a terminal's does and throws it away), on the
real board and observatory: at rest, while another process changes the board, and with conductors that work in the same
process. Keys come from a thread of their own, as a terminal's do, so that a loop that is busy when a key is pressed is
in what is told; the time runs until what is written to the terminal has the cursor's new row. The peer is Textual's
DataTable with the same rows and nothing else in the process.

    python -m benchmarks.key [--jobs 50000] [--keys 100] [--changes 500] [--conductors 8] [--busy-jobs 3000]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from kazoo.client import KazooClient
from textual import events
from textual.app import App, ComposeResult
from textual.drivers.headless_driver import HeadlessDriver
from textual.widgets import DataTable

from benchmarks import boards, flows, stores
from benchmarks.children import child
from benchmarks.common import Bench, Report, Servers, checked, spread, told
from conductor_console import persistence
from conductor_console.cli import collector
from conductor_console.conductors.fleet import Fleet
from conductor_console.console.app import ConsoleApp
from conductor_console.console.run import SWITCH
from conductor_console.console.screens.jobs import JobsScreen
from conductor_console.jobboards.zk_paths import BoardPaths
from conductor_console.jobboards.zookeeper import ZookeeperJobBoard
from conductor_console.observatory.observatory import Observatory
from conductor_console.operations import Operations

SIZE: Final = (120, 36)
#: Seconds between two keys, and for which one is waited for.
APART: Final = 0.03
PATIENCE: Final = 30.0


class PaintingDriver(HeadlessDriver):
    """A headless driver for which all is painted as for a terminal, and then thrown away."""

    painted: Callable[[], None]

    @property
    def is_headless(self) -> bool:
        return False

    def write(self, data: str) -> None:  # noqa: ARG002
        self.painted()


class Keys:
    """Presses keys on a running app, and takes the time until each is painted."""

    def __init__(self, app: App[Any], cursor: Callable[[], object]) -> None:
        """:param cursor: what has the cursor now."""
        driver = app._driver
        assert driver is not None
        # A headless app draws nothing: from here on this one does.
        driver.__class__ = PaintingDriver
        assert isinstance(driver, PaintingDriver)
        driver.painted = self._written
        self._driver = driver
        self._cursor = cursor
        self._before: object = None
        self._painted = threading.Event()
        self._at = 0.0

    def _written(self) -> None:
        if not self._painted.is_set() and self._cursor() != self._before:
            self._at = time.perf_counter()
            self._painted.set()

    def press(self, count: int, busy: Callable[[], bool] = lambda: True) -> list[float]:
        """Seconds for each of so many keys, or until it is not ``busy`` any more; called in a thread of its own."""
        taken: list[float] = []
        for number in range(count):
            time.sleep(APART)
            if not busy():
                break
            self._before = self._cursor()
            self._painted.clear()
            began = time.perf_counter()
            self._driver.process_message(events.Key("up" if number % 80 >= 40 else "down", None))
            if not self._painted.wait(PATIENCE):
                raise RuntimeError(f"a key was not painted within {PATIENCE:g} s")
            taken.append(self._at - began)
        return taken


class Peer(App[None]):
    """A DataTable with the same rows."""

    def __init__(self, rows: Sequence[tuple[str, ...]]) -> None:
        super().__init__()
        self._rows = rows

    def compose(self) -> ComposeResult:
        yield DataTable(cursor_type="row")

    def on_mount(self) -> None:
        table = self.query_one(DataTable)
        table.add_columns("state", "name", "fails", "owner", "prio", "age")
        table.add_rows(self._rows)
        table.focus()


async def peer(jobs: int, count: int) -> list[float]:
    rows = [
        ("waiting", posting["name"], "2", f"worker-{number % 7}", posting["priority"], "2h")
        for number, posting in ((number, boards.posting(number)) for number in range(jobs))
    ]
    app = Peer(rows)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        table = app.query_one(DataTable)
        return await asyncio.to_thread(Keys(app, lambda: table.cursor_row).press, count)


@contextlib.contextmanager
def as_the_command() -> Iterator[None]:
    """Python's threads take turns, and its garbage is collected, as the command has it."""
    before, thresholds = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(SWITCH)
    collector.tune()
    try:
        yield
    finally:
        sys.setswitchinterval(before)
        gc.set_threshold(*thresholds)


class Console:
    """The app on a board."""

    def __init__(self, servers: Servers, client: KazooClient, options: argparse.Namespace) -> None:
        self._servers = servers
        self._client = client
        self._options = options
        self.paths = BoardPaths(servers.board())
        # Held, so that the conductors find no other work than what they are given.
        boards.fill(
            client,
            self.paths,
            options.jobs,
            claimed=lambda _: False,
            recorded=lambda number: boards.held(boards.job_uuid(number)),
        )

    async def measure(self) -> dict[str, list[float]]:
        """Seconds for each key, by what the board is at meanwhile. What is printed here is the app's, and not shown."""
        found: dict[str, list[float]] = {}
        options = self._options
        hosts, path = self._servers.zookeeper.hosts, self.paths.board
        with contextlib.ExitStack() as stack:
            store = stack.enter_context(stores.made(self._servers, "sqlite"))
            backend = persistence.fetch(store.url)
            stack.callback(backend.close)
            board = ZookeeperJobBoard("bench", {"hosts": hosts, "path": path, "timeout": 60.0}, persistence=backend)
            stack.callback(board.close)
            board.connect(120.0)
            fleet = Fleet(board, backend, count=options.conductors)
            stack.callback(fleet.stop, PATIENCE)
            observatory = Observatory(board, title="bench", store=backend, fleet=fleet)
            stack.callback(observatory.stop)
            observatory.start()
            app = ConsoleApp(observatory, Operations(board, operator="bench", store=backend), fleet=fleet)
            async with app.run_test(size=SIZE) as pilot:
                await pilot.pause()
                screen = app.screen_stack[0]
                assert isinstance(screen, JobsScreen)
                keys = Keys(app, lambda: screen.table.rows.cursor)

                async def pressed(what: str, busy: Callable[[], bool] = lambda: True) -> None:
                    found[what] = await asyncio.to_thread(keys.press, options.keys, busy)

                await pressed("at rest")
                seconds = options.keys * APART * 3
                arguments = (hosts, path, options.changes, seconds, options.jobs)
                # Processes are started and waited for elsewhere: the loop has keys to serve.
                changing = await asyncio.to_thread(stack.enter_context, child("benchmarks.changes", *arguments))
                changing.say()
                changed_by = time.monotonic() + seconds
                await pressed(f"{options.changes:g} changes/s", lambda: time.monotonic() < changed_by)
                await asyncio.to_thread(changing.answer)
                await asyncio.to_thread(self._post, store)
                fleet.start()
                await pressed(f"{options.conductors} busy conductors", lambda: len(board.listing().jobs) > options.jobs)
        return found

    def _post(self, store: stores.Store) -> None:
        books = [flows.book(number) for number in range(self._options.busy_jobs)]
        flows.save(store.engine, books)
        for first in range(0, len(books), 100):
            burst = self._client.transaction()
            for book in books[first : first + 100]:
                burst.create(self.paths.posting, flows.posting_for(book), sequence=True)
            checked(burst.commit())


def tell(report: Report, jobs: int, what: str, taken: list[float]) -> None:
    if not taken:
        raise RuntimeError(f"no key was pressed: {what} was over at once")
    found = spread(taken)
    report.add("key", what, f"{jobs:,} jobs, {what}: {told(found)} ({len(taken)} keys)", jobs=jobs, **found)


def measure(servers: Servers, options: argparse.Namespace, report: Report) -> None:
    with servers.zookeeper.kazoo(timeout=60.0) as client, as_the_command():
        for what, taken in asyncio.run(Console(servers, client, options).measure()).items():
            tell(report, options.jobs, what, taken)
        if options.peer:
            tell(report, options.jobs, "DataTable, at rest", asyncio.run(peer(options.jobs, options.keys)))


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--jobs", type=int, default=50000, metavar="N")
    parser.add_argument("--keys", type=int, default=100, metavar="N", help="keys pressed in each state of the board")
    parser.add_argument("--changes", type=float, default=500.0, metavar="N", help="a second")
    parser.add_argument("--conductors", type=int, default=8, metavar="N")
    parser.add_argument("--busy-jobs", type=int, default=3000, metavar="N", help="what the conductors are given to do")
    parser.add_argument("--no-peer", dest="peer", action="store_false", help="without the DataTable")


BENCH = Bench(
    "key",
    __doc__ or "",
    add_options,
    measure,
    quick={"jobs": 40, "keys": 3, "changes": 100.0, "conductors": 2, "busy_jobs": 30},
)

if __name__ == "__main__":
    BENCH.main()
