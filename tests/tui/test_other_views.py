"""Bin, conductors, replay, quitting, terminals without colour."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from rich.segment import Segment

from conductor_console.console import glyphs, theme
from conductor_console.console.app import ConsoleApp
from conductor_console.errors import ConsoleError
from conductor_console.observatory.snapshot import EventView
from conductor_console.replay.tape import Tape
from tests.tui.board import FIRST, NOW, FrozenSource, RecordedHand, ago, conductor, job, picture
from tests.tui.driving import Desk, Driven, desk


@dataclass
class FakeWorker:
    name: str
    state: str = "running"
    jobs: tuple[str, ...] = ()


@dataclass
class FakeCrew:
    """Conductors that do nothing but remember; ``hold`` keeps them from stopping."""

    count: int = 2
    paused: set[str] = field(default_factory=set)
    stops: list[float] = field(default_factory=list)
    hold: threading.Event | None = None

    @property
    def size(self) -> int:
        return self.count

    def workers(self) -> list[FakeWorker]:
        names = [f"w{number}" for number in range(1, self.count + 1)]
        return [FakeWorker(name, "paused" if name in self.paused else "running", ("uuid",)) for name in names]

    def scale(self, count: int) -> None:
        self.count = count

    def pause(self, name: str | None = None) -> None:
        self.paused |= {worker.name for worker in self.workers() if name in (None, worker.name)}

    def resume(self, name: str | None = None) -> None:
        self.paused -= {worker.name for worker in self.workers() if name in (None, worker.name)}

    def drain(self, name: str | None = None) -> None:
        raise AssertionError("nobody asked for it")

    def restart(self, name: str) -> None:
        raise AssertionError("nobody asked for it")

    def stop(self, timeout: float) -> list[str]:
        self.stops.append(timeout)
        if self.hold is not None:
            self.hold.wait(timeout)
        return []


@contextmanager
def held() -> Iterator[threading.Event]:
    event = threading.Event()
    try:
        yield event
    finally:
        event.set()


async def test_the_bin_gives_back_what_is_marked() -> None:
    async with desk() as at:
        await at.press("4")
        assert "3 in the bin" in at.text
        assert "after 8 failures: PlugVIPException" in at.text
        assert "#8 ✗ abandoned" in at.text
        await at.press("space", "space", "r")
        await at.until(lambda: "2 restored" in at.text, "the notice")
        names = ["create-load-balancer-flow-d9c2b60f", "create-load-balancer-flow-0a4e8d13"]
        assert at.hand.calls == [("restore", names)]


async def test_conductors_are_scaled_and_paused() -> None:
    crew = FakeCrew()
    async with desk(fleet=crew) as at:
        await at.press("plus")
        await at.until(lambda: "3 conductors of ours" in at.text, "the third")
        await at.press("minus", "minus")
        await at.until(lambda: crew.count == 1, "one")
        crew.count = 2
        await at.press("P")
        await at.until(lambda: crew.paused == {"w1", "w2"}, "all paused")
        await at.press("P")
        await at.until(lambda: not crew.paused, "all resumed")
        await at.press("5", "end", "up", "P")
        await at.until(lambda: crew.paused == {"w2"}, "the chosen one paused")
        await at.press("home", "P")
        assert "runs elsewhere" in at.text


async def test_what_a_conductor_died_of_is_told_where_its_column_is_narrow() -> None:
    note = "its process was killed (SIGKILL), another follows in 2 s"
    told = (conductor("w1", "here", 1), conductor("w2", "here", 0, "crashed", 1, note))
    source = FrozenSource()
    source.show(replace(picture(), conductors=told))
    async with desk(source, size=(80, 24)) as at:
        await at.press("5")
        assert note not in at.text
        await at.press("down")
        assert f"w2: {note}" in at.text


async def test_without_conductors_of_its_own_a_console_says_that_it_only_watches() -> None:
    async with desk() as at:
        await at.press("plus", "P")
        assert "it only watches" in at.text


async def test_quitting_stops_conductors_first_and_a_second_q_leaves_at_once() -> None:
    with held() as event:
        crew = FakeCrew(hold=event)
        async with desk(fleet=crew) as at:
            await at.press("q")
            assert "Stopping 2 conductors, which let 2 jobs go; q again leaves at once" in at.text
            assert at.app.is_running
            await at.until(lambda: crew.stops, "the stop")
            await at.press("q")
            await at.until_left()


@pytest.mark.parametrize("crew", [None, FakeCrew(count=0), FakeCrew()])
@pytest.mark.parametrize("key", ["q", "ctrl+c", "ctrl+q"])
async def test_quitting_ends_the_app(crew: FakeCrew | None, key: str) -> None:
    source = FrozenSource()
    app = ConsoleApp(source, RecordedHand(), fleet=crew, now=source.clock)
    async with app.run_test() as pilot:
        await pilot.pause()
        await pilot.press(key)
        await Driven(app, pilot).until_left()


async def test_a_replay_is_loaded_aside_and_shown() -> None:
    asked: list[str] = []

    def open_replay(uuid: str) -> Tape:
        asked.append(uuid)
        return Tape("sqlite", "book", (), (), True, NOW, NOW)

    async with desk(open_replay=open_replay) as at:
        await at.press("p")
        await at.until(lambda: len(at.app.screen_stack) == 2, "the replay")
        assert asked == [FIRST.key]
        await at.press("escape")
        assert len(at.app.screen_stack) == 1


async def test_what_only_taskflows_conductors_ran_is_replayed_by_its_flow() -> None:
    asked: list[str] = []

    def open_replay(uuid: str) -> Tape:
        asked.append(uuid)
        if uuid != "the-flow":
            raise ConsoleError("no flow, logbook or job of that uuid")
        return Tape("sqlite", "book", (), (), True, NOW, NOW)

    theirs = job("theirs")
    theirs = replace(theirs, entry=replace(theirs.entry, details={"flow_uuid": "the-flow"}))
    async with desk(FrozenSource(picture((theirs,))), open_replay=open_replay) as at:
        await at.press("p")
        await at.until(lambda: len(at.app.screen_stack) == 2, "the replay")
        assert asked == [theirs.key, "the-flow"]


async def test_a_replay_that_cannot_be_had_is_one_line() -> None:
    def open_replay(uuid: str) -> Tape:
        raise ConsoleError("no flow, logbook or job by that uuid")

    async with desk(open_replay=open_replay) as at:
        await at.press("p")
        await at.until(lambda: "no flow, logbook or job by that uuid" in at.text, "the error")
    async with desk() as at:
        await at.press("p")
        assert "start with --store URL" in at.text


async def test_a_screenshot_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with desk() as at:
        await at.press("S")
        await at.until(lambda: "Saved" in at.text, "the file")
        assert (tmp_path / "conductor-console-20260314-031407.svg").read_text().startswith("<svg")


def _segments(at: Desk) -> list[Segment]:
    filters = at.app.get_line_filters()
    shown = [segment for strip in at.strips() for segment in strip]
    for each in filters:
        shown = each.apply(shown, at.app.screen.background_colors[0])
    return shown


async def test_without_colour_words_bold_and_reverse_tell_it_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with desk() as at:
        assert at.app.current_theme.name == "plain"
        assert "↻ cycling" in at.text
        assert "✗ crashed" in at.text
        shown = _segments(at)
        named = {str(colour.name) for s in shown if s.style for colour in (s.style.color, s.style.bgcolor) if colour}
        assert named <= {"default"}
        reverse = "".join(s.text for s in shown if s.style and s.style.reverse)
        assert "create-load-balancer-flow-1f0c9a2e" in reverse
        await at.press("D")
        reverse = "".join(s.text for s in _segments(at) if s.style and s.style.reverse)
        assert "Cancel" in reverse
        assert "Move 1 to the bin" not in reverse


async def test_eight_colours_are_the_terminals_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("COLORTERM")
    async with desk() as at:
        assert at.app.current_theme.name == "eight"
        named = {s.style.color.name for s in _segments(at) if s.style and s.style.color}
        assert {"cyan", "yellow", "red"} <= named
        assert all(not name.startswith("#") for name in named)


@pytest.mark.parametrize("name", list(theme.PALETTES))
async def test_every_palette_has_every_role(name: str) -> None:
    assert set(theme.PALETTES[name].colours) == set(theme.ROLES)
    async with desk(theme=name) as at:
        assert at.app.current_theme.name == name
        assert theme.role("accent") == theme.PALETTES[name].colours["accent"]


async def test_ascii_alone_is_ascii_alone() -> None:
    source = FrozenSource(picture([job("plain", failures=4, hold=5), job("other", owner="c1", held=4, alive=True)]))
    try:
        async with desk(source, ascii_only=True) as at:
            assert at.text.isascii()
            await at.press("D")
            assert at.text.isascii()
            await at.press("escape", "question_mark")
            assert at.text.isascii()
    finally:
        glyphs.use_ascii(False)


def test_every_glyph_is_one_cell_and_none_is_an_emoji() -> None:
    from wcwidth import wcwidth

    signs = [*glyphs.STANDINGS.values(), *glyphs.OUTCOMES.values(), *glyphs.CONDUCTORS.values()]
    signs += [*glyphs.CONNECTIONS.values(), glyphs.RUNNING]
    for sign in signs:
        assert wcwidth(sign.glyph) == 1
        assert sign.word
        assert sign.role in theme.ROLES


def told(kind: str, subject: str, what: str, key: str = "", seconds: float = 1.0) -> EventView:
    return EventView(ago(seconds=seconds), kind, f"{subject} {what}".strip(), key, subject)


async def test_events_tell_each_thing_once() -> None:
    events = (
        told("done", "order-1", "done by w1 after 0:02", "1"),
        told("connection", "connection", "lost: no answer", seconds=3),
        told("problem", "", "the demo could not post", seconds=4),
    )
    for size in ((120, 36), (80, 24)):
        async with desk(FrozenSource(picture((), events=events)), size=size) as at:
            await at.press("6")
            lines = [line.split() for line in at.text.splitlines()]
            assert ["order-1", "done", "by", "w1", "after", "0:02"] in [line[-6:] for line in lines]
            assert ["connection", "lost:", "no", "answer"] in [line[-4:] for line in lines]
            assert at.text.count("order-1") == 1
            await at.press("y")
            assert "\torder-1\tdone by w1 after 0:02\n" in at.app.clipboard


async def test_a_vanished_row_says_in_a_few_words_who_was_done_with_it() -> None:
    source = FrozenSource(picture((job("order-1", owner="w1", held=2), job("order-2")), binned=()))
    async with desk(source) as at:
        key = job("order-1").key
        events = (
            told("removed", "order-1", "left the board, held by w1", key, seconds=0),
            told("done", "order-1", "done by w1 after 0:02", key),
            told("claimed", "order-1", "claimed by w1", key, seconds=3),
        )
        at.source.show(picture((job("order-2"),), events=events, binned=()))
        await at.deliver()
        line = at.line("gone").partition("│")[0]
        assert line.split() == ["▌", "gone", "order-1", "done", "by", "w1", "after", "0:02"]


async def test_a_reason_without_room_takes_of_the_names_cells() -> None:
    name = "create-load-balancer-flow-with-a-name-1f0c9a2e"
    async with desk(FrozenSource(picture((job(name), job("order-2")), binned=())), size=(80, 24)) as at:
        why = told("failed", name, "failed and reverted on w1 after 0:02: QuotaExceeded at db.py:3", job(name).key)
        at.source.show(picture((job("order-2"),), events=(why,), binned=()))
        await at.deliver()
        assert "create-load-⋯me-1f0c9a2e  failed and reverted on w1 after 0:02" in at.line("gone")


@pytest.mark.parametrize(("kind", "outcome"), [("done", "consumed"), ("failed", "failed"), ("removed", "unknown")])
async def test_the_page_of_a_job_that_has_gone_stands_still(kind: str, outcome: str) -> None:
    source = FrozenSource(picture((job("order-1", owner="w1", held=2, failures=1),), binned=()))
    async with desk(source) as at:
        await at.press("enter")
        assert "running" in at.line("#2")
        what = told(kind, "order-1", "has come to an end", job("order-1").key, seconds=0)
        at.source.show(picture((), events=(what,), binned=()))
        await at.deliver()
        at.source.tick(30)
        await at.deliver()
        assert at.line("Jobs ›").rstrip().endswith("   has come to an end")
        assert "none, it is not on the board" in at.text
        assert f" {outcome} " in at.line("#2 ")
        assert " 30s ago  0:02  w1 " in at.line("#2 ")


async def test_q_on_a_replay_quits_by_way_of_the_view_below() -> None:
    tape = Tape("sqlite:////srv/flows.db", "book", (), (), True, NOW, NOW)
    with held() as event:
        crew = FakeCrew(hold=event)
        async with desk(fleet=crew, open_replay=lambda _: tape) as at:
            await at.press("p")
            await at.until(lambda: len(at.app.screen_stack) == 2, "the replay")
            assert "replay  flows.db  " in at.text
            await at.press("q")
            assert "Stopping 2 conductors" in at.text
            await at.until(lambda: crew.stops, "the stop")
            await at.press("q")
            await at.until_left()


async def test_a_dialog_fits_whatever_the_terminal_becomes() -> None:
    async with desk(size=(120, 36)) as at:
        await at.press("D", "tab")
        await at.pilot.resize_terminal(70, 20)
        await at.pilot.pause()
        assert "▸ Move 1 to the bin" in at.text
        assert "Delete 1 job  " in at.text
        assert at.line("Delete this job for good?").rstrip().endswith("│")
        await at.press("escape", "question_mark")
        await at.pilot.resize_terminal(50, 16)
        await at.pilot.pause()
        assert at.line("Keys ").rstrip().endswith("│")
