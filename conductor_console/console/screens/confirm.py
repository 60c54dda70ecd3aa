"""The dialog before what cannot be undone, or what somebody works on: it asks, lists, warns, offers the mild way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import ClassVar, Final, Literal

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.geometry import Size
from textual.screen import ModalScreen
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Input, Static

from conductor_console.console.frame import Frame
from conductor_console.console.glyphs import Sign, ascii_only, shape
from conductor_console.console.paint import Line
from conductor_console.console.theme import active
from conductor_console.console.widgets.panel import Panel
from conductor_console.text import elide_end, elide_middle, visible, width

MOST_ROWS: Final = 8
WIDEST: Final = 90
#: Border and padding at both sides, and the lines that are neither list nor text.
_SIDES: Final = 6
_AROUND: Final = 11
_TYPING: Final = 2


@dataclass(frozen=True, slots=True)
class Listed:
    """A job the question is about: state, name, owner, and what is to be said of it."""

    sign: Sign
    name: str
    owner: str
    note: str
    note_role: str = "soft"


@dataclass(frozen=True, slots=True)
class Choice:
    """A button: verb, number, thing. Cancel comes first and is focused; what destroys stands alone at the right."""

    value: str
    label: str
    kind: Literal["cancel", "mild", "danger"]


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked.

    :ivar typed: what has to be typed before the button that destroys does anything; empty: nothing.
    :ivar corner: a word at the right of the title, with its role. ``warning``: in red what is special, if anything is,
        with ``warned`` below it. ``advice``: soft lines.
    """

    title: str
    listed: Sequence[Listed]
    choices: Sequence[Choice]
    corner: tuple[str, str] = ("", "soft")
    warning: str = ""
    warned: Sequence[str] = ()
    advice: Sequence[str] = ()
    typed: str = ""

    def as_text(self) -> str:
        """The question and its list, for the clipboard."""
        rows = [f"{one.sign.word}  {one.name}  {one.owner}  {one.note}" for one in self.listed]
        return visible_lines([self.title, *rows])


def visible_lines(texts: Sequence[str]) -> str:
    """Lines for the clipboard, each made safe."""
    return "\n".join(visible(text) for text in texts)


class _Body(Panel):
    """Title, list, warning, advice."""

    def __init__(self, question: Question, text: Sequence[Line], rows: int) -> None:
        super().__init__()
        self._question = question
        self._text = text
        self._rows = rows
        self._top = 0
        self.styles.height = len(text) + 4 + rows + (1 if len(question.listed) > rows else 0)

    def scroll_list(self, by: int) -> None:
        """Moves the list, where it is longer than the dialog is high."""
        self._top = max(0, min(self._top + by, len(self._question.listed) - self._rows))
        self.redraw()

    def lines(self, _frame: Frame, width: int) -> Sequence[Line]:
        question = self._question
        title = Line().put(elide_end(question.title, width - 2 - len(question.corner[0]), shape("⋯")), bold=True)
        drawn = [title.right(*question.corner, end=width), Line()]
        drawn += [_listed(one, width) for one in question.listed[self._top : self._top + self._rows]]
        left = len(question.listed) - self._rows
        if left > 0:
            drawn.append(Line().put(f"{self._rows} of {len(question.listed):,} shown, up and down scroll", "dim"))
        return [*drawn, Line(), Line().rule(width), *self._text]


def _text(question: Question, cells: int) -> list[Line]:
    """Warning and advice, wrapped to ``cells``, each after an empty line."""
    drawn: list[Line] = []
    if question.warning:
        drawn += [Line(), Line().put("!", "red", bold=True).gap(1).put(question.warning, "red", bold=True)]
        drawn += [Line().gap(2).put(part) for text in question.warned for part in wrap(visible(text), cells - 2)]
    if question.advice:
        advice = [part for text in question.advice for part in wrap(visible(text), cells - 2)]
        drawn += [Line(), *(Line().gap(2).put(part, "soft") for part in advice)]
    return drawn


def _listed(one: Listed, cells: int) -> Line:
    """Four columns; the name gives way first."""
    name = max(8, min(36, cells - 12 - 12 - 2 - 22))
    line = Line().sign(one.sign).to(12).put(elide_middle(one.name, name, shape("⋯")))
    line.to(12 + name + 3 if cells > 78 else 12 + name + 2)
    line.put(elide_middle(one.owner, 10, shape("⋯")), "soft" if one.owner == "nobody" else "text").gap(2)
    line.to(cells - 21)
    return line.put(elide_end(one.note, max(6, cells - line.cells), shape("⋯")), one.note_role)


class Button(Widget, can_focus=True):
    """A choice, told focused by its ground and a glyph."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter,space", "press", show=False)]

    def __init__(self, choice: Choice) -> None:
        super().__init__(id=choice.value)
        self.choice = choice
        self.styles.width = width(choice.label) + 5
        self.styles.height = 1

    def render_line(self, _y: int) -> Strip:
        danger = self.choice.kind == "danger"
        if self.has_focus:
            line = Line(ground="red" if danger else "accent").gap(1)
            return (
                line.put(shape("▸"), "on-accent")
                .gap(1)
                .put(self.choice.label, "on-accent", bold=True)
                .strip(self.size.width)
            )
        # Where there is but reverse video to tell a ground by, it is the focused button's alone.
        ground = "bg" if active().plain or active().ansi else "red-ground" if danger else "sel"
        line = Line(ground=ground).gap(3)
        return line.put(self.choice.label, "red" if danger else "text", bold=danger).strip(self.size.width)

    def on_focus(self) -> None:
        self.refresh()

    def on_blur(self) -> None:
        self.refresh()

    def on_click(self, event: events.Click) -> None:
        event.stop()
        self.action_press()

    def action_press(self) -> None:
        if isinstance(self.screen, ConfirmScreen):
            self.screen.choose(self.choice)


class _Typed(Input):
    """Where the word is typed; enter chooses what it stands before."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "screen.typed", show=False)]

    def __init__(self, word: str) -> None:
        super().__init__(id="typed", compact=True)
        self.cursor_blink = False
        self.word = word
        self.styles.width = len(word) + 8


class _Says(Panel):
    """One line before the place where something is typed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._says = text
        self.styles.width = width(text) + 2
        self.styles.height = 1

    def lines(self, _frame: Frame, _width: int) -> Sequence[Line]:
        return [Line().put(self._says)]


class _Keys(Panel):
    """The dialog's own footer: it tells what enter does now."""

    def lines(self, _frame: Frame, width: int) -> Sequence[Line]:
        focused = self.screen.focused
        label = f"{focused.choice.label} (focused)" if isinstance(focused, Button) else self._typed()
        pairs = [("enter", label), ("tab", "next button"), ("esc", "cancel")]
        pairs += [("y", "copy this list")] if isinstance(focused, Button) else []
        line = Line().gap(1)
        for key, word in pairs:
            if line.cells + len(key) + 1 + len(word) < width:
                line.put(key, "accent", bold=True).gap(1).put(word, "soft").gap(3)
        return [line]

    def _typed(self) -> str:
        screen = self.screen
        assert isinstance(screen, ConfirmScreen)
        return f"{screen.question.choices[-1].label}, once it is typed"


class ConfirmScreen(ModalScreen[str]):
    """Answers with the value of the choice; ``cancel`` for esc."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,ctrl+c", "cancel", "cancel", key_display="esc"),
        Binding("tab,right", "app.focus_next", "next button", show=False),
        Binding("shift+tab,left", "app.focus_previous", "previous button", show=False),
        Binding("down,j", "scroll_list(1)", show=False),
        Binding("up,k", "scroll_list(-1)", show=False),
        Binding("y", "copy", "copy this list"),
    ]
    AUTO_FOCUS = "#typed, #cancel"

    def __init__(self, question: Question) -> None:
        super().__init__()
        self.question = question
        self._made_for = Size()
        self._frame: Frame | None = None

    def compose(self) -> ComposeResult:
        size = self._made_for = self.app.size
        cells = min(WIDEST, size.width - 4)
        text = _text(self.question, cells - _SIDES)
        around = _AROUND + (_TYPING if self.question.typed else 0)
        rows = max(1, min(len(self.question.listed), MOST_ROWS, size.height - len(text) - around))
        cramped = size.height < rows + len(text) + around + 3
        dialog = Vertical(id="dialog", classes="-cramped" if cramped else "")
        dialog.styles.width = cells
        dialog.set_class(ascii_only(), "-ascii")
        with dialog:
            yield _Body(self.question, text, rows)
            if self.question.typed:
                with Horizontal(id="typing"):
                    label = f"Type {self.question.typed} to go on:"
                    yield _Says(label)
                    yield _Typed(self.question.typed)
            with Horizontal(id="buttons"):
                for choice in self.question.choices:
                    if choice.kind == "danger":
                        yield Static(id="between")
                    yield Button(choice)
        yield _Keys(id="dialog-keys")

    def take(self, frame: Frame) -> None:
        """The list stays as it was when it was asked; only what is drawn with changes."""
        self._frame = frame
        for panel in self.query(Panel):
            panel.take(frame)

    async def on_resize(self) -> None:
        """Made anew for another size; the button that had the focus keeps it."""
        if self.app.size == self._made_for:
            return
        focused = self.focused.id if self.focused is not None else None
        await self.recompose()
        self.query_one(f"#{focused or 'cancel'}").focus()
        if self._frame is not None:
            self.take(self._frame)

    def on_descendant_focus(self) -> None:
        self.query_one(_Keys).redraw()

    def action_scroll_list(self, by: int) -> None:
        self.query_one(_Body).scroll_list(by)

    def choose(self, choice: Choice) -> None:
        """Answers with a button's value; one that destroys only once the word stands there."""
        if choice.kind == "danger" and self.question.typed:
            typed = self.query_one(_Typed)
            if typed.value.strip() != typed.word:
                typed.focus()
                return
        self.dismiss(choice.value)

    def action_typed(self) -> None:
        self.choose(self.question.choices[-1])

    def action_cancel(self) -> None:
        self.dismiss("cancel")

    def action_copy(self) -> None:
        self.app.copy_to_clipboard(self.question.as_text())
