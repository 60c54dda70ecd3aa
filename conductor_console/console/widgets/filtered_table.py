"""A list of jobs that a filter narrows; shown and hidden always add up to all there are."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TypeVar

from conductor_console.console.frame import Frame
from conductor_console.console.paint import Line
from conductor_console.console.widgets.keyed_table import KeyedTable
from conductor_console.observatory.filters import EVERYTHING, Filter, Texts
from conductor_console.observatory.snapshot import JobView

T = TypeVar("T")


class FilteredTable(KeyedTable[T]):
    """Subclasses hand what they would list through :meth:`fitting`."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.chosen: Filter = EVERYTHING
        self._texts = Texts()

    def view_of(self, row: T) -> JobView:
        """The job that a row tells of, as filters read it."""
        raise NotImplementedError

    def all_rows(self, frame: Frame) -> Sequence[T]:
        """What there is to list."""
        raise NotImplementedError

    @property
    def shown(self) -> int:
        """How many rows the filter lets through."""
        return self.rows.listed

    @property
    def total(self) -> int:
        """How many rows there are."""
        return len(self.all_rows(self.frame)) if self.frame is not None else 0

    def filter(self, chosen: Filter) -> None:
        """Lists only what fits."""
        self.chosen = chosen
        if not chosen:
            self._texts.forget()
        self.again()

    def read_texts(self) -> None:
        """Makes ready what a filter looks through: on a big board that takes a while, and is done aside."""
        if self.frame is not None:
            for row in self.all_rows(self.frame):
                self._texts.of(self.view_of(row))

    def again(self) -> None:
        """Lists the newest frame anew."""
        if self.frame is not None:
            self.take(self.frame)

    def fitting(self, rows: Sequence[T], now: datetime) -> Sequence[T]:
        """Those of ``rows`` that the filter lets through."""
        chosen, texts, view_of = self.chosen, self._texts, self.view_of
        return [row for row in rows if chosen.fits(view_of(row), now, texts)] if chosen else rows

    @property
    def hidden_marks(self) -> int:
        """How many of the marked the filter hides."""
        return self.rows.hidden_marks if self.chosen else 0

    def foot(self, frame: Frame) -> Line:
        line = super().foot(frame)
        if hidden := self.hidden_marks:
            line.gap(3 if line.cells > 3 else 0).put(f"{hidden:,} of the marked are hidden by the filter", "amber")
        return line

    def nothing_fits(self, frame: Frame, whole: str) -> Sequence[Line]:
        """What to say where the filter leaves nothing."""
        told = Line(frame.palette).to(3).put(f"None of {whole} matches ").put(repr_of(self.chosen))
        return [Line(frame.palette), told, Line(frame.palette).to(3).put("esc clears the filter", "soft")]


def repr_of(chosen: Filter) -> str:
    """A filter as it was typed, in quotes."""
    text = chosen.text
    return f"'{text if len(text) <= 60 else text[:57] + '...'}'"
