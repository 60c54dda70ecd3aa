"""Every key, once: footer and help are made from these same bindings."""

from __future__ import annotations

from typing import Final

from textual.binding import Binding


def _key(key: str, action: str, word: str, tells: str, shown: str = "", *, show: bool = True) -> Binding:
    """
    :param word: for the footer. ``tells``: for the help.
    """
    return Binding(key, action, word, key_display=shown or key, tooltip=tells, show=show)


OPEN: Final = _key("enter", "open", "open", "Open the job: posting, claim, attempts, causes")
MARK: Final = _key("space", "mark", "mark", "Mark for what comes next, or take the mark off")
MARK_ALL: Final = _key("a", "mark_all", "mark all", "Mark all that are listed, or take these marks off", show=False)
FILTER: Final = _key("slash", "filter", "filter", "Filter: state:held fails:>3 !owner:c1 or any text; esc clears", "/")
RETRY: Final = _key("R", "retry", "retry", "Retry now: end the hold")
BIN: Final = _key("d", "bin", "bin", "Move to the bin; asks when one is claimed")
DELETE: Final = _key("D", "delete", "delete", "Delete for good; always asks")
UNDO: Final = _key(
    "u", "undo", "undo", "Undo the last act; where nothing was done yet, post again what was deleted before"
)
LIST: Final = _key("enter", "open", "list its jobs", "List its jobs in the first view, as a filter")
TRACEBACK: Final = _key("t", "traceback", "traceback", "The full traceback, where the store has one")
HOLD: Final = _key("H", "hold", "hold", "Hold for an hour; it binds our conductors alone", show=False)
RELEASE: Final = _key(
    "U", "release", "release", "Release the claim of a dead owner; always asks: it may run twice", show=False
)
PURGE: Final = _key("X", "purge", "purge for good", "Purge: delete from the bin for good; asks for a typed word")
OUTCOME: Final = _key("o", "outcome", "outcome", "What came of each job of the last act", show=False)
BREAKER: Final = _key("c", "close_breaker", "close breaker", "Close the open circuit breaker", show=False)
STOP: Final = _key("x", "stop_act", "stop", "Stop what is being done to many jobs; what is done stays done")
RESTORE: Final = _key("r", "restore", "restore", "Put back on the board, failures forgiven")
REPLAY: Final = _key("p", "replay", "replay", "Replay what the job's flow did")
COPY: Final = _key("y", "copy", "copy", "Copy as text")
SORT: Final = _key("s", "sort", "sort", "Sort by the next column; worst first comes round again")
BACK: Final = _key("escape", "back", "back", "Back", "esc")
CLEAR: Final = _key("escape", "clear", "clear", "Clear the filter, then the marks", "esc", show=False)
MORE: Final = _key("plus,equals_sign", "scale(1)", "more", "More, fewer conductors", "+", show=False)
FEWER: Final = _key("minus", "scale(-1)", "fewer", "More, fewer conductors", "-", show=False)
PAUSE: Final = _key("P", "pause", "pause", "Pause or resume our conductors", show=False)
DRAIN: Final = _key("N", "drain", "drain", "Let a conductor finish its jobs and end; again: start it anew", show=False)
SCREENSHOT: Final = _key("S", "screenshot", "screenshot", "Save the screen as an SVG file", show=False)
HELP: Final = _key("question_mark", "help", "help", "This list", "?")
QUIT: Final = _key("q", "quit", "quit", "Quit; our conductors let their jobs go first")
QUIT_TOO: Final = Binding("ctrl+c,ctrl+q", "quit", show=False)

#: What waits while the board cannot be reached, and what a read-only console does not do.
ACTING: Final = frozenset({"retry", "hold", "release", "bin", "delete", "restore", "purge", "undo"})
#: What the footer drops first when there is no room; all of it stays in the help.
FIRST_TO_GO: Final = ("copy", "release", "sort", "replay", "traceback", "undo", "retry", "mark", "filter", "open")


def shown(binding: Binding, word: str = "") -> Binding:
    """The same key, for a view where it is one of the chief ones, or where another word tells better what it does."""
    return Binding(
        binding.key,
        binding.action,
        word or binding.description,
        key_display=binding.key_display,
        tooltip=binding.tooltip,
    )


def acting(binding: Binding) -> bool:
    """Whether the key does something to the board."""
    return binding.action in ACTING
