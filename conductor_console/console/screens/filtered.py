"""A view whose list can be filtered: the line where the filter is typed, and the one that says what it leaves out."""

from __future__ import annotations

from typing import Any

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widgets import Input

from conductor_console.console.background import run_aside
from conductor_console.console.screens.view import ViewScreen
from conductor_console.console.widgets.filter_box import HINT, FilterBox
from conductor_console.console.widgets.filtered_table import FilteredTable, repr_of
from conductor_console.console.widgets.footer import Notice
from conductor_console.errors import UsageError
from conductor_console.observatory import filters


class FilteredScreen(ViewScreen):
    """Subclasses have a ``FilteredTable`` and give its keys FILTER and CLEAR."""

    _problem = ""

    def filter_line(self) -> ComposeResult:
        """What goes below the view's own body."""
        with Horizontal(id="filter"):
            yield FilterBox()

    def on_mount(self) -> None:
        self.query_one(Notice).standing = self._standing

    @property
    def filtered(self) -> FilteredTable[Any]:
        """The list that is filtered."""
        return self.query_one(FilteredTable)

    def _standing(self) -> tuple[str, str]:
        """What the filter leaves out, as of the rows that are listed now; or what is wrong with what is typed."""
        table, typing = self.filtered, self.query_one("#filter").display
        if typing and self._problem:
            return self._problem, "amber"
        if not table.chosen:
            return (HINT if typing else ""), "soft"
        said = f"Filter {repr_of(table.chosen)}: {table.shown:,} of {table.total:,}"
        return (said if typing else f"{said}; esc clears it"), "soft"

    def action_mark_all(self) -> None:
        self.filtered.toggle_all()

    # -- typing ----------------------------------------------------------------------------------------------------
    def action_filter(self) -> None:
        self.query_one("#filter").display = True
        self.query_one(FilterBox).focus()
        run_aside(self.app, "filter", self.filtered.read_texts, lambda _: None)
        self.console_app.say("", "soft")

    def on_input_changed(self, message: Input.Changed) -> None:
        """What cannot be meant yet leaves the list as it was, and is told."""
        message.stop()
        try:
            chosen = filters.parse(message.value)
        except UsageError as error:
            self._problem = str(error)
        else:
            self._problem = ""
            self.filtered.filter(chosen)
        self.query_one(Notice).redraw()

    def action_keep_filter(self) -> None:
        """Back to the list, with the filter as it was typed; one that cannot be meant stays to be mended."""
        if self._problem:
            return
        self.query_one("#filter").display = False
        self.filtered.focus()
        self.console_app.say("", "soft")

    def set_filter(self, text: str) -> None:
        """The filter as if it had been typed. :raises UsageError: when it cannot be meant."""
        chosen = filters.parse(text)
        with self.prevent(Input.Changed):
            self.query_one(FilterBox).value = text
        self._problem = ""
        self.filtered.filter(chosen)
        self.action_keep_filter()

    def action_clear(self) -> None:
        """Escape: the filter, then the marks."""
        if self.query_one("#filter").display or self.filtered.chosen:
            self.set_filter("")
        elif not self.filtered.clear_marks():
            self.console_app.say("", "soft")
