"""The side panels: conductors, causes, the last hour, the bin; and the two lines they fold into."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from conductor_console.console.frame import Frame
from conductor_console.console.glyphs import CONDUCTORS, SPARKS, STANDINGS, shape
from conductor_console.console.paint import Line
from conductor_console.console.widgets.panel import Panel
from conductor_console.console.words import bin_reason, place, seconds_between
from conductor_console.observatory.snapshot import ConductorView
from conductor_console.text import age, elide_end, elide_front, elide_middle, width

#: From so many on, a cause's count is a signal.
MANY: Final = 5
_LEFT: Final = 2  # the vertical rule, and a gap


class Side(Panel):
    """To the right of the list, parted from it by the one vertical rule."""

    def lines(self, frame: Frame, width: int) -> Sequence[Line]:
        inner, height = width - _LEFT - 1, self.size.height
        blocks = _fitted(frame, inner, height)
        drawn: list[Line] = []
        for block in blocks:
            if drawn:
                drawn.append(_line(frame))
            drawn += block
        drawn += [_line(frame) for _ in range(height - len(drawn))]
        return drawn[:height]


def _line(frame: Frame) -> Line:
    return Line(frame.palette).glyph("│", "line").gap(1)


def _fitted(frame: Frame, inner: int, height: int) -> list[list[Line]]:
    """The sections that fit. Throughput goes first, then the bin, then causes beyond three."""
    snapshot = frame.snapshot
    conductors, causes, rates, binned = len(snapshot.conductors), len(snapshot.causes), 4, _reasons(frame)
    bin_lines = 1 + min(3, max(1, len(binned)))
    show_rates, show_bin, most_causes = True, True, 5
    most_conductors = max(3, min(conductors, (height - 12) // 2))

    def needed() -> int:
        shown = 1 + max(1, min(conductors, most_conductors)) + 2 + max(1, 2 * min(causes, most_causes))
        return shown + (rates + 1 if show_rates else 0) + (bin_lines + 1 if show_bin else 0)

    while needed() > height and most_causes > 3:
        most_causes -= 1
    if needed() > height:
        show_rates = False
    if needed() > height:
        show_bin = False
    while needed() < height and (most_conductors < conductors or most_causes < min(causes, 8)):
        if most_conductors < conductors:
            most_conductors += 1
        else:
            most_causes += 1
            if needed() > height:
                most_causes -= 1
                break
    blocks = [_conductors(frame, inner, most_conductors), _causes(frame, inner, most_causes)]
    if show_rates:
        blocks.append(_last_hour(frame, inner))
    if show_bin:
        blocks.append(_bin(frame, inner, binned, bin_lines - 1))
    return blocks


def _conductors(frame: Frame, inner: int, most: int) -> list[Line]:
    end = _LEFT + inner
    shown = frame.snapshot.conductors
    drawn = [_line(frame).section("Conductors", "jobs", end=end)]
    if not shown:
        return [*drawn, _line(frame).put("none registered", "dim")]
    if len(shown) > most:
        shown = sorted(shown, key=lambda one: one.state == "running")[: most - 1]
    names = min(max((width(label(one)) for one in shown), default=2), 10 if inner < 36 else 16)
    states = max((len(one.state) for one in shown), default=7)
    for one in shown:
        drawn.append(_conductor(_line(frame), one, frame, names, states, end))
    hidden = len(frame.snapshot.conductors) - len(shown)
    if hidden:
        drawn.append(_line(frame).gap(2).put(f"{hidden:,} more", "dim"))
    return drawn


def label(one: ConductorView) -> str:
    """A conductor's name without where it runs, which stands beside it: ``c1@host:4121`` is ``c1``."""
    return one.name.partition("@")[0] or one.name


def _conductor(line: Line, one: ConductorView, frame: Frame, names: int, states: int, end: int) -> Line:
    sign = CONDUCTORS[one.state]
    name = elide_middle(label(one), names, shape("⋯"))
    line.glyph(sign.glyph, sign.role, bold=True).gap(1)
    line.put(name, "soft" if one.state in ("paused", "stopped") else "text").to(_LEFT + 2 + names + 1)
    line.put(one.state, "red" if one.state == "crashed" else "soft").to(_LEFT + 2 + names + 1 + states + 1)
    right = str(one.jobs)
    role = "text" if one.jobs else "dim"
    if one.state == "crashed" and one.since is not None:
        right, role = age(seconds_between(one.since, frame.data_now)), "red"
    room = end - line.cells - len(right) - 1
    where = "here" if one.here else one.place
    if room >= 4:
        line.put(elide_front(where, room, shape("⋯")), "dim")
    return line.right(right, role, end=end)


def _causes(frame: Frame, inner: int, most: int) -> list[Line]:
    end = _LEFT + inner
    causes = frame.snapshot.causes
    drawn = [_line(frame).section("Causes", "last hour", end=end)]
    if not causes:
        return [*drawn, _line(frame).put("no failures", "dim")]
    digits = max(3, max(len(f"{cause.count}x") for cause in causes[:most]))
    for cause in causes[:most]:
        many = cause.count >= MANY
        line = _line(frame).right(f"{cause.count}x", "amber" if many else "text", end=_LEFT + digits, bold=many)
        room = inner - digits - 1
        line.gap(1).put(elide_end(cause.example.type, room, shape("⋯")))
        # One without a place (no engine could be made, say) has a message at least.
        where = place(cause.example)
        told = elide_front(where, room, shape("⋯")) if where else elide_end(cause.example.message, room, shape("⋯"))
        below = _line(frame).to(_LEFT + digits + 1).put(told, "dim")
        drawn += [line, below]
    return drawn


def _last_hour(frame: Frame, inner: int) -> list[Line]:
    end = _LEFT + inner
    rates = frame.snapshot.rates
    drawn = [_line(frame).section("Last hour", end=end)]
    cells = 12 if inner < 36 else 20  # of five, or of three minutes each
    top = max(_folded(rates.done, cells) + _folded(rates.failed, cells))
    for label, counts, role in (("done", rates.done, "accent"), ("failed", rates.failed, "amber")):
        line = _line(frame).put(label, "soft").to(_LEFT + 7)
        line.glyph(sparkline(counts, cells, top), role)
        drawn.append(line.right(f"{per_minute(counts)}/min", end=end))
    wait = "-" if rates.oldest_wait is None else age(rates.oldest_wait)
    drawn.append(_line(frame).put("longest wait", "soft").right(wait, "text" if wait != "-" else "line", end=end))
    return drawn


def sparkline(counts: Sequence[int], cells: int, top: int) -> str:
    """``counts`` folded into ``cells`` bars, the newest at the right; a bar of ``top`` is full, any but 0 is seen."""
    return "".join(SPARKS[-(-bar * (len(SPARKS) - 1) // max(1, top))] for bar in _folded(counts, cells))


def _folded(counts: Sequence[int], cells: int) -> list[int]:
    size = max(1, -(-len(counts) // cells))
    padded = [0] * (size * cells - len(counts)) + list(counts)
    return [sum(padded[start : start + size]) for start in range(0, size * cells, size)]


def per_minute(counts: Sequence[int]) -> int:
    """The mean of the newest five minutes, of those since anything happened at all."""
    newest = list(counts[-5:])
    while len(newest) > 1 and not newest[0]:
        newest.pop(0)
    return round(sum(newest) / len(newest)) if newest else 0


def _reasons(frame: Frame) -> Counter[str]:
    return Counter(bin_reason(entry).partition(":")[0] for entry in frame.snapshot.binned)


def _bin(frame: Frame, inner: int, reasons: Counter[str], most: int) -> list[Line]:
    end = _LEFT + inner
    newest = max((entry.binned_at for entry in frame.snapshot.binned if entry.binned_at), default=None)
    note = f"newest {age(seconds_between(newest, frame.data_now))} ago" if newest else ""
    drawn = [_line(frame).section("Bin", note, end=end)]
    if not reasons:
        return [*drawn, _line(frame).put("empty", "dim")]
    for reason, count in reasons.most_common(most):
        number = f"{count:,}"
        line = _line(frame).glyph(STANDINGS["binned"].glyph, "soft").gap(1)
        line.put(elide_end(reason, inner - 3 - len(number), shape("⋯")))
        drawn.append(line.right(number, end=end))
    return drawn


class Summary(Panel):
    """The side panels in two lines under a rule, for small terminals."""

    DEFAULT_CSS = """
    Summary { height: 3; }
    """

    def lines(self, frame: Frame, width: int) -> Sequence[Line]:
        end = width - 1
        return [Line(frame.palette).gap(1).rule(end), _conductors_line(frame, end), _causes_line(frame, end)]


def _conductors_line(frame: Frame, end: int) -> Line:
    line = Line(frame.palette).gap(1).put("Conductors", bold=True).to(13)
    states = Counter(one.state for one in frame.snapshot.conductors)
    if not states:
        return line.put("none registered", "dim")
    line.put(f"{states['running']} run", "soft" if states["running"] else "dim")
    for one in sorted(frame.snapshot.conductors, key=lambda one: one.state != "crashed"):
        if one.state in ("running", "stopped"):
            continue
        sign = CONDUCTORS[one.state]
        ago = f" {age(seconds_between(one.since, frame.data_now))} ago" if one.since and one.state == "crashed" else ""
        text = f"{elide_middle(label(one), 12, shape('⋯'))} {one.state}{ago}"
        if line.cells + 5 + width(text) > end:
            break
        line.gap(3).glyph(sign.glyph, sign.role, bold=True).gap(1).put(text, sign.role)
    return line


def _causes_line(frame: Frame, end: int) -> Line:
    snapshot = frame.snapshot
    line = Line(frame.palette).gap(1).put("Causes", bold=True).to(13)
    binned = f"{len(snapshot.binned):,} binned"
    end -= len(binned) + 5
    if not snapshot.causes:
        line.put("no failures", "dim")
    shown = 0
    for index, cause in enumerate(snapshot.causes):
        count = f"{cause.count}x"
        kind = elide_end(cause.example.type, 24, shape("⋯"))
        more = f"  {len(snapshot.causes) - index - 1} more" if index + 1 < len(snapshot.causes) else ""
        if line.cells + (2 if shown else 0) + len(count) + 1 + width(kind) + len(more) > end:
            break
        many = cause.count >= MANY
        line.gap(2 if shown else 0).put(count, "amber" if many else "text", bold=many).gap(1).put(kind)
        shown += 1
    left = len(snapshot.causes) - shown
    if left:
        line.gap(2 if shown else 0).put(f"{left} more", "dim")
    return line.gap(3).sign(STANDINGS["binned"], binned)
