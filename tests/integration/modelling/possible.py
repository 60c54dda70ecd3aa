"""All that can be true of each job: more than one thing after acts at once, until a listing tells them apart."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from tests.integration.modelling.truth import Impossible, Truth, need

E = TypeVar("E")
T = TypeVar("T", bound=Truth)
#: What happened to a job, or was shown of it. Raises ``Impossible`` where that cannot be.
Event = Callable[[T], object]


class Possible(dict[str, list[T]]):
    """The truths that are possible, by the job's uuid."""

    def narrow(self, uuid: str, fits: Event[T]) -> T:
        """Keeps the truths that fit. Returns one of them: all that is left agree in what matters here.

        :raises Impossible: when none does, or when they differ in more than the ledger.
        """
        self[uuid] = truths = _fitting(self[uuid], fits, uuid)
        need(len({(truth.where, truth.place, truth.holding) for truth in truths}) == 1, "a listing leaves it open")
        return truths[0]

    def advance(self, uuid: str, orders: Sequence[Sequence[Event[T]]]) -> None:
        """Takes in what happened to one job, in one of these orders.

        :raises Impossible: when it cannot have happened in any of them.
        """
        after: list[T] = []
        problem: Impossible | None = None
        for order in orders:

            def happen(truth: T, order: Sequence[Event[T]] = order) -> None:
                for event in order:
                    event(truth)

            try:
                # Where there is but one order nothing is to be tried again.
                truths = copy.deepcopy(self[uuid]) if len(orders) > 1 else self[uuid]
                after += _fitting(truths, happen, uuid)
            except Impossible as error:
                problem = error
        if not after:
            assert problem is not None
            raise problem
        self[uuid] = after


def orders(lists: Sequence[Sequence[E]]) -> Iterator[list[E]]:
    """All orders in which these may have happened: what is in one list, in its order."""
    lists = [each for each in lists if each]
    if not lists:
        yield []
    for number, each in enumerate(lists):
        rest = [*lists[:number], each[1:], *lists[number + 1 :]]
        for later in orders(rest):
            yield [each[0], *later]


def _fitting(truths: Sequence[T], fits: Event[T], uuid: str) -> list[T]:
    """The truths that fit, each once.

    :raises Impossible: when none does.
    """
    left: list[T] = []
    problem: Impossible | None = None
    for truth in truths:
        try:
            fits(truth)
        except Impossible as error:
            problem = error
        else:
            if truth not in left:
                left.append(truth)
    if not left:
        assert problem is not None
        problem.add_note(f"of job {uuid[:8]}:")
        raise problem
    return left
