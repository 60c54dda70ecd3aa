"""Where a filter is typed."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widgets import Input


class FilterBox(Input):
    """Its enter acts at once: a message would let the next key, typed fast, fall into the filter."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "screen.keep_filter", "keep", key_display="enter"),
        Binding("escape", "screen.clear", "clear", key_display="esc"),
    ]

    def __init__(self) -> None:
        super().__init__(placeholder="name, uuid, owner, state or cause; ! inverts", compact=True)
