"""The replay on a screen: stepped, sought, played; in every size, with whatever a tape may hold."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from textual.app import App
from textual.pilot import Pilot
from textual.widgets import Static

from conductor_console.console import glyphs, theme
from conductor_console.console.replay_app import ReplayApp
from conductor_console.console.screens.replay import ReplayScreen
from conductor_console.console.widgets.atom_detail import AtomDetail
from conductor_console.console.widgets.events import EventList
from conductor_console.console.widgets.lanes import AtomLanes, ticks
from conductor_console.replay.tape import Tape, make_tape
from tests.tapes import SAMPLES, atom_row, flow_rows, numbered, octavia_tape, row, sample_flow
from tests.unit.test_replay_report import hostile

SIZES = [(40, 12), (80, 24), (120, 36), (160, 45), (250, 70)]


def replay_app(tape: Tape, **more: Any) -> ReplayApp:
    return ReplayApp(tape, palette=theme.PALETTES["dark"], **more)


def screen_of(pilot: Pilot[None]) -> ReplayScreen:
    screen = pilot.app.screen
    assert isinstance(screen, ReplayScreen)
    return screen


def shown(pilot: Pilot[None]) -> list[str]:
    """The screen's lines as text."""
    width, height = pilot.app.size
    lines = pilot.app.screen._compositor.render_strips()
    assert len(lines) == height
    assert all(line.cell_length == width for line in lines)
    return [line.text.rstrip() for line in lines]


def line_with(lines: list[str], text: str) -> str:
    found = [line for line in lines if text in line]
    assert found, "\n".join(lines)
    return found[0]


async def test_opens_on_the_first_event_and_says_what_it_is() -> None:
    async with replay_app(octavia_tape()).run_test(size=(120, 36)) as pilot:
        await pilot.pause()
        lines = shown(pilot)
        assert "replay  db1/octavia  " in lines[0]
        assert lines[0].endswith("03:13:55 UTC")
        assert "create-load-balancer-flow-1f0c9a2e   attempt 7, complete log, nothing inferred" in lines[2]
        assert "1 of 42" in line_with(lines, "Events")
        assert line_with(lines, "lookup-load-balancer").split()[:3] == ["◦", "lookup-load-balancer", "pending"]


async def test_steps_forth_and_back() -> None:
    async with replay_app(octavia_tape()).run_test(size=(120, 36)) as pilot:
        await pilot.press("right", "right", "right", "left")
        screen = screen_of(pilot)
        assert screen.player.index == 2
        assert "3 of 42" in line_with(shown(pilot), "Events")
        await pilot.press("end", "right")
        assert screen.player.index == 41
        assert line_with(shown(pilot), "24.0 s of 24.0 s")
        await pilot.press("home", "left")
        assert screen.player.index == 0


async def test_seeks_failures_and_shows_their_cause() -> None:
    async with replay_app(octavia_tape()).run_test(size=(120, 36)) as pilot:
        await pilot.press("shift+right", "shift+right")
        lines = shown(pilot)
        assert line_with(lines, "✗ attach-vip         ")
        assert "failed after 2.3 s │" in line_with(lines, "attach-vip at 12.9 s")
        assert line_with(lines, "PlugVIPException: no port on subnet 6c1e4f02 answers within 2.0 s")
        assert line_with(lines, "octavia/network/drivers/neutron/base.py:214  _wait_for_port")
        assert line_with(lines, "failure 2 of 2")
        assert line_with(lines, "✗ compute-create, try 1")
        assert lines[0].endswith("03:14:07 UTC"), "the clock is the replayed time"
        await pilot.press("shift+right")
        assert screen_of(pilot).player.position == 12.9
        await pilot.press("shift+left")
        assert screen_of(pilot).player.position == 3.5
        assert line_with(shown(pilot), "ComputeBuildException: no valid host was found")


async def test_plays_by_its_clock_and_stops_at_the_end() -> None:
    now = [100.0]
    async with replay_app(octavia_tape()).run_test(size=(120, 36)) as pilot:
        await pilot.pause()
        screen = screen_of(pilot)
        screen._clock = lambda: now[0]
        await pilot.press("s", "right_square_bracket", "space")
        assert screen.playing
        assert "▸ playing" in line_with(shown(pilot), "speed 2x")
        now[0] += 2.5
        screen._tick()
        assert screen.player.position == 5.0
        await pilot.press("space")
        now[0] += 50
        screen._tick()
        assert (screen.playing, screen.player.position) == (False, 5.0)
        await pilot.press("space")
        now[0] += 50
        screen._tick()
        assert (screen.playing, screen.player.at_end) == (False, True)
        await pilot.press("space")
        assert screen.playing, "from the end, play begins again"
        assert screen.player.index == 0


async def test_speed_and_waits_are_shown() -> None:
    async with replay_app(octavia_tape()).run_test(size=(120, 36)) as pilot:
        assert line_with(shown(pilot), "speed 1x   skip waits on")
        await pilot.press("left_square_bracket", "left_square_bracket", "s")
        assert line_with(shown(pilot), "speed 1/4x   skip waits off")
        await pilot.press(*["right_square_bracket"] * 9)
        assert line_with(shown(pilot), "speed 64x")


async def test_another_atom_can_be_looked_at_where_one_stands() -> None:
    async with replay_app(octavia_tape()).run_test(size=(120, 36)) as pilot:
        await pilot.press("shift+right", "shift+right", "up", "up")
        assert line_with(shown(pilot), "amphora-finalize at 12.9 s")
        await pilot.click(AtomLanes, offset=(6, 0))
        assert line_with(shown(pilot), "lookup-load-balancer at 12.9 s")
        await pilot.press("right")
        assert line_with(shown(pilot), "attach-vip at 12.9 s"), "a step leads back to its own atom"


async def test_an_event_and_a_time_can_be_pointed_at() -> None:
    async with replay_app(octavia_tape()).run_test(size=(120, 36)) as pilot:
        await pilot.pause()
        await pilot.click(EventList, offset=(10, 5))
        assert screen_of(pilot).player.index == 2
        await pilot.click("Timeline", offset=(60, 1))
        assert screen_of(pilot).player.position == pytest.approx(12.0)


async def test_copies_the_whole_replay_as_text() -> None:
    async with replay_app(octavia_tape()).run_test(size=(120, 36)) as pilot:
        await pilot.press("y")
        assert "PlugVIPException: no port on subnet" in pilot.app.clipboard


@pytest.mark.parametrize("key", ["escape", "q"])
async def test_escape_and_q_leave_and_end_the_standalone_app(key: str) -> None:
    app = replay_app(octavia_tape())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press(key)
        await pilot.pause()
    assert app.return_code == 0


async def test_escape_leads_back_to_the_screen_below() -> None:
    class Host(App[None]):
        def __init__(self) -> None:
            super().__init__()
            for each in theme.css_themes():
                self.register_theme(each)
            self.theme = "dark"

        def compose(self) -> Any:
            yield Static("below")

        def on_mount(self) -> None:
            self.push_screen(ReplayScreen(octavia_tape()))

    async with Host().run_test(size=(80, 24)) as pilot:
        await pilot.press("space", "escape")
        await pilot.pause()
        assert len(pilot.app.screen_stack) == 1


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("make", [octavia_tape, hostile, lambda: make_tape("s", [flow_rows(None)], [])])
async def test_every_size_shows_whole_lines(size: tuple[int, int], make: Callable[[], Tape]) -> None:
    async with replay_app(make()).run_test(size=size) as pilot:
        for keys in (["right"], ["shift+right"], ["end"], ["space"], ["down"], ["home"]):
            await pilot.press(*keys)
            shown(pilot)


async def test_folded_it_keeps_atoms_cause_and_keys() -> None:
    async with replay_app(octavia_tape()).run_test(size=(80, 24)) as pilot:
        await pilot.press("shift+right", "shift+right")
        lines = shown(pilot)
        assert not any("Events" in line for line in lines)
        assert line_with(lines, "PlugVIPException: no port on subnet")
        assert line_with(lines, "failure 2 of 2")
        assert "space play" in lines[-1]
        assert "esc back" in lines[-1]
        assert not pilot.app.screen.query_one("#side").display


async def test_hostile_texts_are_shown_and_never_obeyed() -> None:
    async with replay_app(hostile()).run_test(size=(160, 45)) as pilot:
        await pilot.press("shift+right")
        told = "\n".join(shown(pilot))
        assert "\\x1b[31mred" in told
        assert "[/b][bold]" in told
        assert "\x1b" not in told
        assert "hunter2" not in told
        assert "[red]flow\\x1b" in told


@pytest.mark.parametrize("name", SAMPLES)
async def test_what_taskflow_left_can_be_looked_at(name: str) -> None:
    async with replay_app(make_tape("a store", [sample_flow(name)], [])).run_test(size=(120, 36)) as pilot:
        await pilot.press("end")
        lines = shown(pilot)
        assert any("inferred" in line or "nothing happened yet" in line for line in lines)


async def test_thousands_of_atoms_are_stepped_with_the_current_one_in_sight() -> None:
    rows = [
        each
        for number in range(4000)
        for each in (row(number, f"t{number}", "RUNNING"), row(number + 0.5, f"t{number}", "SUCCESS", "RUNNING"))
    ]
    async with replay_app(make_tape("s", [flow_rows("SUCCESS")], numbered(rows))).run_test(size=(120, 36)) as pilot:
        await pilot.press("end")
        assert line_with(shown(pilot), "t3999  ")
        await pilot.press("left", "left")
        assert line_with(shown(pilot), "t3998 at ")


async def test_several_flows_have_their_names_above_their_atoms() -> None:
    rows = [row(0, "a", "RUNNING"), row(0, None, "RUNNING"), row(1, "b", "RUNNING", flow_uuid="second")]
    atoms = [atom_row("a", "RUNNING")]
    async with replay_app(make_tape("s", [flow_rows("RUNNING", atoms)], numbered(rows))).run_test(
        size=(120, 36)
    ) as pilot:
        await pilot.pause()
        lines = shown(pilot)
        heads = [number for number, line in enumerate(lines) if line.startswith(("  create-load", "  second"))]
        assert [lines[number + 1].split()[:3][-2:] for number in heads] == [["▸", "a"], ["b", "pending"]]


async def test_ascii_keeps_to_ascii() -> None:
    try:
        async with replay_app(octavia_tape(), ascii_only=True).run_test(size=(120, 36)) as pilot:
            await pilot.press("shift+right", "shift+right", "right", "right")
            assert [line for line in shown(pilot) if not line.isascii()] == []
            assert "< > event" in shown(pilot)[-1]
    finally:
        glyphs.use_ascii(False)


def test_axis_labels_are_round_and_not_crowded() -> None:
    assert [label for _, label in ticks(24.0, 56)] == ["0 s", "6 s", "12 s", "18 s", "24 s"]
    assert [label for _, label in ticks(0.089, 56)][:2] == ["0 s", "0.025 s"]
    assert [label for _, label in ticks(5400.0, 56)] == ["0:00", "30:00", "1:00:00", "1:30:00"]
    assert ticks(0.0, 56) == [(0.0, "0 s")]
    for length in (1e-6, 0.3, 1.0, 59.0, 599.0, 601.0, 1e5, 1e8):
        for cells in (4, 20, 56, 120):
            assert 1 <= len(ticks(length, cells)) <= cells // 12 + 2


def test_looks_as_drawn(snap_compare: Callable[..., bool]) -> None:
    tape = octavia_tape()
    assert tape.began == datetime(2026, 1, 1, 3, 13, 55, tzinfo=UTC)
    assert snap_compare(replay_app(tape), press=["shift+right", "shift+right"], terminal_size=(120, 36))


async def test_the_block_tells_the_state_of_the_atom() -> None:
    async with replay_app(octavia_tape()).run_test(size=(120, 36)) as pilot:
        await pilot.press("right")
        block = pilot.app.screen.query_one(AtomDetail)
        assert block.render_line(0).text.rstrip().endswith("running for 0.0 s")
        assert "before  pending    now  running    then  done" in block.render_line(1).text
        await pilot.press("down", "down", "down", "down", "down")
        assert block.render_line(1).text.strip() == "it has not begun"


async def test_help_tells_its_keys_and_a_vain_search_says_so() -> None:
    async with replay_app(octavia_tape()).run_test(size=(80, 24)) as pilot:
        await pilot.press("shift+left")
        assert line_with(shown(pilot), "No failure before this")
        await pilot.press("question_mark")
        await pilot.pause()
        assert line_with(shown(pilot), "Failure before, next failure")
        await pilot.press("escape", "right")
        assert screen_of(pilot).player.index == 1
        assert not any("No failure" in line for line in shown(pilot))


@pytest.mark.parametrize("palette", [*theme.PALETTES.values(), theme.EIGHT, theme.PLAIN], ids=lambda each: each.name)
async def test_reads_in_every_palette(palette: theme.Palette) -> None:
    try:
        async with ReplayApp(octavia_tape(), palette=palette).run_test(size=(120, 36)) as pilot:
            await pilot.press("shift+right", "shift+right")
            assert line_with(shown(pilot), "✗ attach-vip")
    finally:
        theme.use(theme.PALETTES["dark"])
