"""An operator's hand on the circuit breaker."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from conductor_console.clock import utcnow
from conductor_console.errors import ConsoleError
from conductor_console.jobboards import breaker
from conductor_console.jobboards.base import LedgerBoard
from conductor_console.operations.audited import Audited
from conductor_console.text import visible

#: What became of it: whether it is closed now, and one clean line for a person.
Closing = tuple[bool, str]
ACTION: Final = "close breaker"


class BreakerActs:
    """The part of :class:`~.acts.Operations` that closes it."""

    _board: LedgerBoard
    _store: Any
    _operator: str
    _audited: Audited
    _read_only: bool

    def close_breaker(self) -> Closing:
        """Closes it now; where it is open for the store, that is asked first. Audited.

        What began before is not counted and opens nothing; where the reason holds on, it opens anew.
        """
        state = self._board.breaker
        if self._read_only:
            return False, "Not done: this console is read-only"
        if not state.open(utcnow() + timedelta(seconds=self._board.clock_offset)):
            return True, "The circuit breaker is closed"
        if state.kind == "store" and self._store is not None and not self._answers():
            return False, "Not closed: the store still does not answer"
        try:
            number = self._audited.intent(
                ACTION, "", "circuit breaker", {"kind": state.kind, "why": state.why, "by": state.by}
            )
            try:
                now = utcnow() + timedelta(seconds=self._board.clock_offset)
                done = self._board.set_breaker(breaker.closed(state, now, self._operator), state)
            except ConsoleError as error:
                self._audited.outcome(number, f"refused: {visible(error, 200)}")
                raise
        except ConsoleError as error:
            return False, f"Not closed: {visible(error, 200)}"
        untold = self._audited.outcome(number, "done" if done else "changed: somebody else was first")
        return done, untold or ("The circuit breaker is closed" if done else "Not closed: it is another one since")

    def _answers(self) -> bool:
        answers = getattr(self._store, "answers", None)
        return answers is None or bool(answers())
