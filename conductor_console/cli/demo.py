"""``demo``: a living board in a temporary folder; without a terminal a bounded run, and its report."""

from __future__ import annotations

import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from conductor_console.cli import boards, logs, options, output

if TYPE_CHECKING:
    from conductor_console.cli.wiring import Workplace
    from conductor_console.demo.scenario import KeptAlive
    from conductor_console.demo.tally import Tally

#: Jobs with the most failures that the report names.
_SHOWN = 30
#: Seconds that the work waits for the first screen at most.
PAINTING = 5.0


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(
        "demo",
        epilog=options.example("conductor-console demo", "conductor-console demo --json --seconds 20 | jq .posted"),
    )(demo)


def demo(
    seconds: Annotated[
        float,
        typer.Option("--seconds", metavar="N", min=1.0, max=3600.0, help="How long a run without a screen lasts."),
    ] = 20.0,
    workers: Annotated[int, typer.Option("--workers", metavar="N", min=1, max=64, help="Conductors.")] = 6,
    report: Annotated[bool, typer.Option("--report", help="No screen, also on a terminal.")] = False,
    as_json: options.Json = False,
    ascii_only: options.Ascii = False,
    log: options.Log = None,
) -> None:
    """A living console on a board of its own: sample jobs, healthy and poisoned.

    Without a terminal the same work runs for a bounded time; then comes a report, exit 0 when its numbers add up.
    """
    screen = output.interactive() and not report and not as_json
    if screen or log is not None:
        logs.to_file(log)
    with tempfile.TemporaryDirectory(prefix="conductor-console-", ignore_cleanup_errors=True) as folder:
        if screen:
            _on_screen(Path(folder), workers, ascii_only=ascii_only)
            return
        tally = _bounded(Path(folder), workers, seconds, as_json=as_json)
    if as_json:
        output.print_json(_json(tally))
    else:
        output.show(*_report(tally))
    if not tally.adds_up:
        raise typer.Exit(1)


@contextmanager
def _running(folder: Path, workers: int) -> Iterator[tuple[Workplace, KeptAlive]]:
    """The demo's board with its conductors, and the child that runs what kills its process."""
    from conductor_console.cli.wiring import FleetPlan, open_workplace
    from conductor_console.demo import scenario

    board, store = f"sqlite:///{folder / 'board.db'}", f"sqlite:///{folder / 'flows.db'}"
    plan = FleetPlan(count=workers, options={"allow_factories": scenario.ALLOWED})
    with open_workplace(
        board, store_url=store, access="own", policy=scenario.POLICY, fleet=plan, watch=True, who="demo"
    ) as place:
        child = scenario.KeptAlive(_child(board, store), folder / "child.log")
        try:
            yield place, child
        finally:
            child.stop()


def _child(board: str, store: str) -> list[str]:
    from conductor_console.demo import scenario

    policy = scenario.POLICY
    return [
        *(sys.executable, "-m", "conductor_console.cli.main", "run", board, "--store", store),
        *("--headless", "--until-stdin-ends", "--jobs", "1", "--name", "child"),
        *("--allow-factory", scenario.KILLER),
        *("--max-attempts", str(policy.max_attempts), "--backoff", str(policy.base)),
    ]


def _on_screen(folder: Path, workers: int, *, ascii_only: bool) -> None:
    from conductor_console.demo import scenario
    from conductor_console.errors import ConsoleError

    stop = threading.Event()
    with _running(folder, workers) as (place, child):
        assert place.fleet is not None
        assert place.observatory is not None
        fleet, note = place.fleet, place.observatory.note
        poster = scenario.Poster(place.operations)

        def work(painted: threading.Event) -> None:
            # Now, and not before: it would slow the start of the screen.
            painted.wait(PAINTING)
            if stop.is_set():
                return
            fleet.start()
            try:
                poster.batch(scenario.first_batch())
            except ConsoleError as error:
                note("problem", f"the demo could not post: {error}")
            child.start()
            poster.trickle(stop, lambda: len(place.board.listing().jobs))

        def tidy() -> None:
            child.stop()
            shutil.rmtree(folder, ignore_errors=True)

        threads: list[threading.Thread] = []

        def begin(painted: threading.Event) -> None:
            threads.append(threading.Thread(target=work, args=(painted,), name="demo-poster", daemon=True))
            threads[0].start()

        try:
            boards.show(place, ascii_only=ascii_only, tidy=tidy, begin=begin)
        finally:
            stop.set()
            for thread in threads:
                thread.join(5.0)


def _bounded(folder: Path, workers: int, seconds: float, *, as_json: bool) -> Tally:
    """Posts a batch, and half way through another; ends early when nothing is left to do."""
    from conductor_console.cli.wiring import STOP_TIMEOUT
    from conductor_console.demo import scenario
    from conductor_console.demo.tally import tally

    began = time.monotonic()
    if sys.stderr.isatty():
        output.tell(f"running sample jobs for {seconds:g} s ...")
    elif sys.stdout.isatty() and not as_json:
        output.lines([f"no screen, as standard error is not a terminal: running sample jobs for {seconds:g} s ..."])
        sys.stdout.flush()
    with _running(folder, workers) as (place, child):
        assert place.fleet is not None
        assert place.observatory is not None
        assert place.store is not None
        poster = scenario.Poster(place.operations)
        poster.batch(scenario.first_batch())
        child.start()
        place.fleet.start()
        _wait(began + seconds / 2, lambda: False)
        poster.batch(scenario.second_batch())
        _wait(began + seconds, lambda: not place.board.listing().jobs)
        child.stop()
        place.fleet.stop(STOP_TIMEOUT)
        place.board.refresh()
        # Its last look comes after the last event; stopping it before would lose that.
        _wait(time.monotonic() + 10.0, lambda: _told(place))
        snapshot = place.observatory.snapshot()
        return tally(poster.posted, snapshot, place.store, seconds=time.monotonic() - began, deaths=child.deaths)


def _told(place: Workplace) -> bool:
    """Whether the snapshot shows what the board's listing does."""
    assert place.observatory is not None
    snapshot, listing = place.observatory.snapshot(), place.board.listing()
    return (
        snapshot.by_key.keys() == listing.jobs.keys()
        and all(snapshot.by_key[key].entry is entry for key, entry in listing.jobs.items())
        and {entry.key for entry in snapshot.binned} == listing.binned.keys()
    )


def _wait(until: float, enough: Callable[[], bool]) -> None:
    while (left := until - time.monotonic()) > 0 and not enough():
        time.sleep(min(0.1, left))


def _json(tally: Tally) -> dict[str, Any]:
    from conductor_console.cli.shapes import cause_json

    return {
        "adds_up": tally.adds_up,
        "seconds": round(tally.seconds, 1),
        "posted": tally.posted,
        "done": tally.done,
        "failed": tally.failed,
        "binned": tally.binned,
        "left": tally.left,
        "cycling": tally.cycling,
        "processes_killed": tally.deaths,
        "problems": list(tally.problems),
        "jobs": [
            {
                "uuid": job.uuid,
                "name": job.name,
                "fate": job.fate,
                "standing": job.standing,
                "attempts": job.attempts,
                "failures": job.failures,
                "why": job.why or None,
            }
            for job in tally.jobs
        ],
        "causes": [
            {"count": cause.count, "jobs": len(cause.jobs), "cause": cause_json(cause.example)}
            for cause in tally.causes
        ],
    }


def _report(tally: Tally) -> list[Any]:
    from conductor_console.text import elide_middle, plural

    numbers = output.table("posted", "done", "failed", "binned", "left", "of these cycling", title="Jobs")
    for column in numbers.columns:
        column.justify = "right"
    values = (tally.posted, tally.done, tally.failed, tally.binned, tally.left, tally.cycling)
    numbers.add_row(*(output.cell(str(value)) for value in values))

    troubled = sorted((job for job in tally.jobs if job.failures), key=lambda job: (-job.failures, job.name))
    jobs = output.table(
        "job", "now", "attempts", "failures", "why", right=("attempts", "failures"), title="Failures by job"
    )
    for job in troubled[:_SHOWN]:
        jobs.add_row(
            output.cell(elide_middle(job.name, 36)),
            output.word(job.standing),
            output.cell(job.attempts),
            output.cell(job.failures),
            output.cell(job.why, limit=60),
        )
    causes = output.table("count", "jobs", "type", "message", "where", right=("count", "jobs"), title="Causes")
    for cause in tally.causes:
        example = cause.example
        causes.add_row(
            output.cell(cause.count),
            output.cell(len(cause.jobs)),
            output.cell(example.type),
            output.cell(example.message, limit=60),
            output.cell(example.where, limit=50),
        )
    told: list[Any] = [numbers, "", jobs, *([f"{len(troubled) - _SHOWN} more"] if len(troubled) > _SHOWN else []), ""]
    told += [causes, ""]
    killed = f", {plural(tally.deaths, 'conductor process', 'conductor processes')} killed by a job"
    told.append(f"{tally.seconds:.1f} s{killed if tally.deaths else ''}")
    sum_up = f"{tally.done} done + {tally.failed} failed + {tally.binned} binned + {tally.left} left"
    if tally.adds_up:
        told.append(f"The numbers add up: {tally.posted} posted = {sum_up}")
    else:
        told.append(f"The numbers do not add up: {tally.posted} posted, {sum_up}")
        told += [output.cell(problem, "red") for problem in tally.problems]
    return told
