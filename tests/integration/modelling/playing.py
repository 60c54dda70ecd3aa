"""Plays many random sequences in a world; one that fails is played again with its seed."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from typing import Final, Protocol

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

#: Sequences on both kinds of board together, spread over their parts; `make soak` asks for more.
SEQUENCES: Final = int(os.environ.get("MODEL_SEQUENCES", "1000"))


class Playable(Protocol):
    """A world in which things are done."""

    def play(self, turns: Sequence[int]) -> None:
        """Does this and that from an empty board on.

        :param turns: a number for each thing that is done: it tells what that is, of all that could be done then.
        """

    def close(self) -> None: ...


def play_many(world: Playable, sequences: int, *, shortest: int, longest: int) -> None:
    """Plays so many sequences of so many turns, then closes the world.

    What is done in a turn follows from one number and from what there is to be done then, which races may change:
    nothing may be drawn for it later on. Without most of its turns a sequence still makes sense.
    """
    number = int(os.environ.get("MODEL_SEED") or secrets.randbits(32))

    @seed(number)
    @settings(
        max_examples=sequences,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(st.integers(0, 2**32 - 1), min_size=shortest, max_size=longest))
    def play(turns: list[int]) -> None:
        world.play(turns)

    try:
        play()
    except BaseException as error:
        error.add_note(f"MODEL_SEED={number}")
        raise
    finally:
        world.close()
