"""Where a filter is typed."""

from __future__ import annotations

from typing import ClassVar, Final

from textual.binding import Binding, BindingType
from textual.widgets import Input

#: The terms, in a line of 80.
HINT: Final = "text, or state: health: owner: name: cause: fails:>3 age:>1h prio:; ! inverts"


class FilterBox(Input):
    """Its enter acts at once: a message would let the next key, typed fast, fall into the filter."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "screen.keep_filter", "keep", key_display="enter"),
        Binding("escape", "screen.clear", "clear", key_display="esc"),
    ]

    def __init__(self) -> None:
        super().__init__(placeholder="state:held fails:>3 !owner:c1", compact=True)
        self.cursor_blink = False
