"""The palettes: what each role of the screen looks like, in full colour, in 8 colours, and without any.

Widgets never name a colour, they name a role (:data:`ROLES`). One palette is in force at a time (:func:`use`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from rich.console import Console
from rich.style import Style
from textual.color import Color
from textual.theme import BUILTIN_THEMES, Theme

ROLES: Final = (
    "bg",
    "raised",
    "sel",
    "line",
    "text",
    "soft",
    "dim",
    "accent",
    "on-accent",
    "red",
    "red-ground",
    "amber",
    "amber-ground",
)


@dataclass(frozen=True)
class Palette:
    """A colour for each role.

    :ivar ansi: the colours are the terminal's own (names), nothing is blended. ``plain``: there are none at all, and
        the cursor row and the focused button are told by reverse video.
    :ivar faded: what is painted is old: colours are half way to the ground, or dim where there are none to blend.
    """

    name: str
    colours: Mapping[str, str]
    dark: bool = True
    ansi: bool = False
    plain: bool = False
    faded: bool = False
    _styles: dict[tuple[str, bool, str], Style] = field(default_factory=dict, repr=False, compare=False)

    def style(self, role: str, bold: bool = False, ground: str = "bg") -> Style:
        """The style of text of ``role``, on the ground of another role."""
        key = (role, bold, ground)
        style = self._styles.get(key)
        if style is None:
            style = self._styles[key] = self._made(role, bold, ground)
        return style

    def _made(self, role: str, bold: bool, ground: str) -> Style:
        if role == "dim" and ground == "sel":
            role = "soft"
        if self.ansi and ground in ("sel", "accent", "red"):
            colour = None if self.plain or ground == "sel" else self.colours[ground]
            return Style(color=colour, reverse=True, bold=bold)
        backdrop = None if self.ansi else self.colours[ground]
        dim = self.ansi and (self.faded or role in ("dim", "line"))
        return Style(color=self.colours[role], bgcolor=backdrop, bold=bold, dim=dim or None)

    def fade(self) -> Palette:
        """The same for data that is old."""
        if self.faded:
            return self
        return _faded(self.name)


def _palette(name: str, colours: str, *, dark: bool = True, ansi: bool = False, plain: bool = False) -> Palette:
    return Palette(name, dict(zip(ROLES, colours.split(), strict=True)), dark=dark, ansi=ansi, plain=plain)


#: By the name that ``--theme`` takes. Contrast on the ground is at least: text 13, soft 6.7, dim 4.5, signals 5.9.
PALETTES: Final[Mapping[str, Palette]] = {
    palette.name: palette
    for palette in (
        _palette(
            "dark",
            "#12161c #1c232d #222c39 #2c3541 #d8dee6 #97a3b1 #74808f #6cb6ff #0c1218 #ff7a70 #2a191b #e0b04c #292318",
        ),
        _palette(
            "light",
            "#fbfbf9 #eff1f3 #e3ebf5 #d3d9df #1d242d #4f5b69 #697482 #0a5fbf #ffffff #bd241c #fbe9e7 #875500 #f8efdc",
            dark=False,
        ),
        _palette(
            "high-contrast",
            "#000000 #1c1c1c #00305c #8c8c8c #ffffff #e4e4e4 #bdbdbd #66ccff #000000 #ff8a80 #3a0000 #ffd740 #332800",
        ),
        _palette(
            "colour-blind",
            "#12161c #1c232d #222c39 #2c3541 #d8dee6 #97a3b1 #74808f #56b4e9 #0c1218 #e8743b #2a1d15 #f0e442 #28271a",
        ),
    )
}

_EIGHT: Final = "default default default default default default default {} black {} default {} default"
#: Not chosen but fallen back to: what a terminal of 8 colours, and one that wants none, are given.
EIGHT: Final = _palette("eight", _EIGHT.format("cyan", "red", "yellow"), ansi=True)
PLAIN: Final = _palette("plain", " ".join(["default"] * len(ROLES)), ansi=True, plain=True)

_ALL: Final[Mapping[str, Palette]] = {**PALETTES, EIGHT.name: EIGHT, PLAIN.name: PLAIN}


def _faded(name: str) -> Palette:
    known = _FADED.get(name)
    if known is None:
        palette = _ALL[name]
        colours = palette.colours
        if not palette.ansi:
            ground = Color.parse(colours["bg"])
            colours = {role: Color.parse(colour).blend(ground, 0.5).hex6 for role, colour in colours.items()}
            colours["bg"] = palette.colours["bg"]
        known = _FADED[name] = replace(palette, colours=colours, faded=True, _styles={})
    return known


_FADED: Final[dict[str, Palette]] = {}
_in_force: list[Palette] = [PALETTES["dark"]]


def choose(name: str, environ: Mapping[str, str]) -> Palette:
    """The palette for a terminal: the one asked for, or what its colours (and ``NO_COLOR``) allow.

    :raises KeyError: when there is no palette of that name.
    """
    palette = PALETTES[name]
    if environ.get("NO_COLOR"):
        return PLAIN
    terminal = Console(force_terminal=True, _environ={**environ, "NO_COLOR": ""})
    return EIGHT if terminal.color_system in (None, "standard") else palette


def use(palette: Palette) -> None:
    """Puts a palette in force for everything that is painted from now on."""
    _in_force[0] = palette


def active() -> Palette:
    """The palette in force."""
    return _in_force[0]


def role(name: str) -> str:
    """The colour of a role in the palette in force, as Rich and Textual read it: ``#6cb6ff``, ``cyan``, ``default``."""
    return active().colours[name]


def css_colours(palette: Palette) -> Mapping[str, str]:
    """A palette's colours as style sheets name them: the terminal's own are ``ansi_cyan``, not ``cyan``."""
    if not palette.ansi:
        return palette.colours
    return {name: f"ansi_{colour}" for name, colour in palette.colours.items()}


def css_themes() -> list[Theme]:
    """Every palette as a Textual theme, for Textual's own widgets; ``$sel``, ``$red-ground`` … are its variables."""
    return [_theme(palette) for palette in _ALL.values()]


def _theme(palette: Palette) -> Theme:
    colours = css_colours(palette)
    return Theme(
        name=palette.name,
        primary=colours["accent"],
        secondary=colours["accent"],
        accent=colours["accent"],
        warning=colours["amber"],
        error=colours["red"],
        success=colours["soft"],
        foreground=colours["text"],
        background=colours["bg"],
        surface=colours["bg"],
        panel=colours["raised"],
        boost=colours["raised"],
        dark=palette.dark,
        ansi=palette.ansi,
        variables={
            # What Textual's own style sheets ask of a theme of the terminal's colours.
            **(BUILTIN_THEMES["ansi-dark"].variables if palette.ansi else {}),
            **colours,
            "input-cursor-background": colours["accent"],
            "input-cursor-foreground": colours["on-accent"],
            "input-selection-background": colours["sel"],
        },
    )
