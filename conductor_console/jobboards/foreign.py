"""Claims that other people's conductors made, written into the ledger by whoever watches the board.

Pure functions. Each says the same to any number of watchers, in whatever order they come to it: a claim that the
record tells of already changes nothing (the very same record comes back), and an outcome once told stays.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from conductor_console.jobboards.attempts import (
    FAILURES,
    NAME_LENGTH,
    Attempt,
    AttemptRecord,
    Cause,
    Outcome,
    claim_order,
    deserted,
    kept,
)


def tells(record: AttemptRecord, claim: str) -> bool:
    """Whether this claim is counted already: it is in the history, or older than all that is kept there."""
    order = claim_order(claim)
    if record.counted_to is not None and order <= claim_order(record.counted_to):
        return True
    return any(attempt.claim is not None and claim_order(attempt.claim) == order for attempt in record.history)


def noted(
    record: AttemptRecord,
    attempt: Attempt,
    now: datetime,
    open_claim: str | None = None,
) -> AttemptRecord:
    """The record with an attempt of others in it, by the order of claims; its number is set here.

    :param attempt: its claim is known; open, or closed.
    :param open_claim: the claim of the record's own open attempt, where that does not tell it.
    """
    assert attempt.claim is not None
    if tells(record, attempt.claim) or open_claim == attempt.claim:
        return record
    order = claim_order(attempt.claim)
    attempt = replace(attempt, who=attempt.who[:NAME_LENGTH], flow=attempt.flow and attempt.flow[:NAME_LENGTH])
    place = max((at for at, known in enumerate(record.history, 1) if _newer(known, open_claim, order)), default=0)
    newer = tuple(_identified(known, open_claim) for known in record.history[:place])
    if not newer:
        # Two cannot hold one job: what was open before has ended.
        record = deserted(record, now, open_claim)
    older = record.history[place:]
    if newer and attempt.open:
        attempt = replace(attempt, ended=newer[-1].began, outcome="unknown")
    number = record.attempts + 1 - len(newer)
    history = (
        *(replace(known, n=known.n + 1) for known in newer),
        replace(attempt, n=number),
        *older,
    )
    failed = attempt.outcome in FAILURES
    return kept(
        replace(record, attempts=record.attempts + 1, failures=record.failures + failed, history=history),
    )


def ended(
    record: AttemptRecord,
    claim: str,
    outcome: Outcome,
    now: datetime,
    error: Cause | None = None,
    open_claim: str | None = None,
) -> AttemptRecord:
    """The record with the end of that claim's attempt told; what was told as unknown gives way to better news.

    :param open_claim: the claim of the record's own open attempt, where that does not tell it.
    """
    for index, attempt in enumerate(record.history):
        if attempt.claim is None or claim_order(attempt.claim) != claim_order(claim):
            continue
        if attempt.outcome not in (None, "unknown") or attempt.outcome == outcome:
            return record
        told = replace(attempt, ended=attempt.ended or now, outcome=outcome, error=error)
        newer = (_identified(known, open_claim) for known in record.history[:index])
        history = (*newer, told, *record.history[index + 1 :])
        return kept(replace(record, failures=record.failures + (outcome in FAILURES), history=history))
    return record


def merged(record: AttemptRecord, own: AttemptRecord, now: datetime, open_claim: str | None = None) -> AttemptRecord:
    """A record that others wrote, with what we counted in memory and they did not."""
    for attempt in reversed(own.history):
        assert attempt.claim is not None
        record = noted(record, attempt, now, open_claim)
        if attempt.outcome is not None:
            record = ended(record, attempt.claim, attempt.outcome, now, attempt.error, open_claim)
    return record


def _newer(attempt: Attempt, open_claim: str | None, order: int) -> bool:
    claim = attempt.claim or (open_claim if attempt.open else None)
    return claim is not None and claim_order(claim) > order


def _identified(attempt: Attempt, open_claim: str | None) -> Attempt:
    """An open attempt of ours must tell its claim before the record is written: the record's version told it so far.

    It is told in decimals: in ZooKeeper's own way it would be taken for one that was noted for others.
    """
    if attempt.open and attempt.claim is None and open_claim is not None:
        return replace(attempt, claim=str(claim_order(open_claim)))
    return attempt
