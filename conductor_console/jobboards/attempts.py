"""The attempt ledger: what is counted of a job's attempts, and how each step changes it.

Pure functions over frozen records: a board reads a record, asks here for the next one, and writes it in its
own transaction. One record shape on every board (``to_json``/``from_json``).

Who closes what: a conductor of ours closes its own attempt when it lets the job go. An attempt that is still open
although nobody holds the job belongs to a process that died; :func:`settled` tells what such a record means.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal, get_args

from conductor_console.clock import from_iso, iso

Outcome = Literal["consumed", "failed", "abandoned", "suspended", "crashed", "revoked", "released", "unknown"]
OUTCOMES: Final[frozenset[str]] = frozenset(get_args(Outcome))
#: These make the unbroken run of failures longer; ``suspended``, ``revoked``, ``released`` and ``unknown`` leave it
#: as it is; ``consumed`` ends it.
FAILURES: Final[frozenset[str]] = frozenset({"failed", "abandoned", "crashed"})

#: What becomes of a job that failed too often; the first two take it off the board.
Action = Literal["bin", "delete", "hold", "report"]
REMOVING: Final[frozenset[str]] = frozenset({"bin", "delete"})
#: Ten years, in seconds: until an operator says otherwise.
HELD_FOR_GOOD: Final = 10 * 365 * 86400.0

HISTORY_LENGTH: Final = 20
HISTORY_BYTES: Final = 64 * 1024
MESSAGE_LENGTH: Final = 1000
PLACE_LENGTH: Final = 300
#: Names come off boards, where they may be of any length: a conductor's, a flow's.
NAME_LENGTH: Final = 200
#: The most that JSON makes of a character, and of an attempt's keys, numbers and times.
_PER_CHARACTER: Final = 12
_BESIDE_TEXTS: Final = 500
#: What a fingerprint looks at; values are taken out of that much before anything is cut.
_FINGERPRINTED: Final = 16 * MESSAGE_LENGTH


@dataclass(frozen=True, slots=True)
class Cause:
    """Why an attempt failed. ``where`` reads ``pkg/mod.py:41 in save``, or is empty where nothing told."""

    type: str
    message: str
    where: str
    fingerprint: str


#: What :func:`settled` says of an attempt whose process is gone.
CRASHED: Final = "conductor process gone"

#: 64 bits at most: longer ones are nobody's, and would be a burden to compare.
_CLAIM = re.compile(r"0x[0-9a-f]{1,16}|[0-9]{1,20}")
_VALUES = re.compile(
    r"""
      \b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b   # uuids
    | (?<!\w)'(?:[^']|(?<=\w)'(?=\w))*'(?!\w)                          # quoted text; "can't" opens no quotation
    | "[^"]*"
    | 0x[0-9a-f]+                                                      # addresses
    | (?<![\w:])(?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{0,4}(?![\w:])          # IPv6, MAC addresses, times of day
    | \b(?:[0-9a-f]{12,}|(?=[a-f]*\d)[0-9a-f]{6,})\b                   # digests, short ids, uuids without dashes
    | [-+]?\d+(?:[.,]\d+)*(?:e[-+]?\d+)?                               # numbers, versions, IPv4
    """,
    re.VERBOSE | re.IGNORECASE,
)


def fingerprint(error_type: str, message: str, where: str) -> str:
    """Eight hex digits, equal for errors that differ only in values (numbers, uuids, addresses, quoted text).

    The line number of the place is a value too: a deployment that moved the line is the same cause.
    """
    place = re.sub(r":\d+", "", where)
    shape = "\0".join((error_type, _VALUES.sub("*", message), place))
    return hashlib.blake2s(shape.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()


def make_cause(error_type: str, message: str, where: str = "") -> Cause:
    """A cause with its fingerprint; long messages are cut, after the fingerprint was taken of far more of them."""
    error_type, where = error_type[:NAME_LENGTH], where[:PLACE_LENGTH]
    print_ = fingerprint(error_type, message[:_FINGERPRINTED], where)
    return Cause(error_type, message[:MESSAGE_LENGTH], where, print_)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One claim of a job. ``claim`` is None while the record's own version tells it (ZooKeeper: its mzxid)."""

    n: int
    who: str
    claim: str | None
    began: datetime
    ended: datetime | None = None
    outcome: Outcome | None = None
    flow: str | None = None
    error: Cause | None = None

    @property
    def open(self) -> bool:
        return self.outcome is None

    @property
    def noted(self) -> bool:
        """Whether a watcher wrote it for a conductor of others: open ones of ours tell no claim on ZooKeeper."""
        return self.claim is not None and self.claim.startswith("0x")


@dataclass(frozen=True, slots=True)
class Binned:
    """Who moved the job to the bin, when, and why."""

    who: str
    when: datetime
    why: str


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """All that is counted of one job. ``failures`` is the last unbroken run; ``history`` is newest first."""

    job: str
    attempts: int = 0
    failures: int = 0
    hold_until: datetime | None = None
    counted_to: str | None = None
    binned: Binned | None = None
    history: tuple[Attempt, ...] = ()

    @property
    def open_attempt(self) -> Attempt | None:
        """The attempt under way, if there is one."""
        return self.history[0] if self.history and self.history[0].open else None

    @property
    def cause(self) -> Cause | None:
        """The newest cause there is."""
        return next((attempt.error for attempt in self.history if attempt.error), None)

    def held(self, now: datetime) -> bool:
        return self.hold_until is not None and self.hold_until > now


@dataclass(frozen=True, slots=True)
class Policy:
    """What repeated failure leads to. Seconds throughout.

    After failure n a job is held back ``base * 2**(n-1)`` seconds, at most ``cap``, give or take ``jitter``
    (a fraction). A first crash is not held: it is seldom the job's own fault. At ``max_attempts`` failures in a row
    ``action`` says what becomes of it, at once: it goes to the ``bin``, is deleted (``delete``), is held until an
    operator lets it be tried again (``hold``), or is tried on, and told of (``report``).
    """

    max_attempts: int = 5
    base: float = 2.0
    cap: float = 300.0
    jitter: float = 0.2
    action: Action = "bin"

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ValueError(f"max_attempts is at least 1, not {self.max_attempts}")

    def of(self, name: str) -> Policy:  # noqa: ARG002
        """The policy for a job of that name: this one, whatever it is called; see ``policies.Policies``."""
        return self

    def hold(self, failures: int, outcome: Outcome, chance: float | None = None) -> float:
        """Seconds to hold a job back after its ``failures``-th failure; ``chance`` in [0, 1) fixes the jitter."""
        if failures <= 0 or outcome not in FAILURES:
            return 0.0
        if failures >= self.max_attempts:
            if self.action in REMOVING:
                return 0.0
            if self.action == "hold":
                return HELD_FOR_GOOD
        if outcome == "crashed" and failures == 1:
            return 0.0
        wait = min(self.cap, self.base * 2.0 ** min(failures - 1, 60))
        spread = (random.random() if chance is None else chance) * 2 - 1
        return max(0.0, wait * (1 + self.jitter * spread))

    def exhausted(self, record: AttemptRecord | None) -> bool:
        """Whether it failed so often that ``action`` is due."""
        return record is not None and record.failures >= self.max_attempts

    def removes(self, record: AttemptRecord | None) -> bool:
        """Whether it failed so often that it is to leave the board."""
        return self.action in REMOVING and self.exhausted(record)


def opened(
    record: AttemptRecord,
    who: str,
    now: datetime,
    flow: str | None,
    claim: str | None = None,
    prior_claim: str | None = None,
) -> AttemptRecord:
    """The record with a new attempt begun; one still open before it is closed as :func:`deserted` has it.

    :param claim: the claim's id where the board knows it beforehand; None where the next write fills it in.
    :param prior_claim: the id of the claim whose attempt is still open, where that attempt does not tell it.
    """
    record = deserted(record, now, claim=prior_claim)
    flow = None if flow is None else flow[:NAME_LENGTH]
    attempt = Attempt(record.attempts + 1, who[:NAME_LENGTH], claim, now, flow=flow)
    return kept(
        replace(
            record,
            attempts=record.attempts + 1,
            hold_until=None,
            binned=None,
            history=(attempt, *record.history),
        )
    )


def closed(
    record: AttemptRecord,
    outcome: Outcome,
    now: datetime,
    claim: str | None = None,
    error: Cause | None = None,
    hold: float = 0.0,
) -> AttemptRecord:
    """The record with its open attempt ended; unchanged where none is open.

    :param claim: the claim's id as the board has it, filled in where the attempt has none yet.
    :param hold: seconds from ``now`` for which our conductors leave the job alone.
    """
    attempt = record.open_attempt
    if attempt is None:
        return record
    known = attempt.claim
    # One that is known may be told in another way than the board's.
    if known is None or (claim is not None and claim_order(claim) == claim_order(known)):
        known = claim
    ended = replace(attempt, ended=now, outcome=outcome, error=error, claim=known)
    if outcome in FAILURES:
        failures = record.failures + 1
    elif outcome == "consumed":
        failures = 0
    else:
        failures = record.failures
    return kept(
        replace(
            record,
            failures=failures,
            hold_until=now + timedelta(seconds=hold) if hold > 0 else record.hold_until,
            history=(ended, *record.history[1:]),
        )
    )


def deserted(
    record: AttemptRecord,
    now: datetime,
    claim: str | None = None,
    policy: Policy | None = None,
    excused: bool = False,
) -> AttemptRecord:
    """The record with an attempt that was left open closed; unchanged where none is open.

    One of ours was left open by a process that crashed. One that a watcher noted ended while nobody watched, in
    whatever way: ``unknown``.

    :param excused: a crash counts as no failure: the attempt is told as let go.
    """
    attempt = record.open_attempt
    if attempt is None:
        return record
    if attempt.noted:
        return closed(record, "unknown", now)
    cause = make_cause("ConductorGone", CRASHED)
    if excused:
        return closed(record, "released", now, claim=claim, error=cause)
    hold = policy.hold(record.failures + 1, "crashed") if policy else 0.0
    return closed(record, "crashed", now, claim=claim, error=cause, hold=hold)


def settled(record: AttemptRecord | None, claimed: bool, now: datetime) -> AttemptRecord | None:
    """What a record says to a reader: with the job unclaimed, an attempt still open was deserted."""
    if record is None or claimed:
        return record
    return deserted(record, now)


def put_in_bin(record: AttemptRecord, who: str, now: datetime, why: str) -> AttemptRecord:
    """The record of a job that goes to the bin; an attempt under way is told as revoked."""
    record = closed(record, "revoked", now)
    binned = Binned(who[:NAME_LENGTH], now, why[:MESSAGE_LENGTH])
    return kept(replace(record, hold_until=None, binned=binned))


def restored(record: AttemptRecord) -> AttemptRecord:
    """The record of a job that comes back from the bin: its failures are forgiven, its history is kept."""
    return replace(record, failures=0, hold_until=None, binned=None)


def held(record: AttemptRecord, until: datetime | None) -> AttemptRecord:
    """The record of a job that our conductors leave alone until then; None: that is to be tried at once."""
    return replace(record, hold_until=until)


def shrunk(record: AttemptRecord, octets: int) -> AttemptRecord:
    """The record with as much history as fits in ``octets`` of JSON, the newest attempt at least."""
    return kept(record, octets - len(to_json(replace(record, history=()))))


def kept(record: AttemptRecord, octets: int = HISTORY_BYTES) -> AttemptRecord:
    """The newest attempts within the limits; what is dropped moves ``counted_to`` on."""
    if len(record.history) <= HISTORY_LENGTH and sum(map(_most, record.history)) <= octets:
        return record
    history = record.history[:HISTORY_LENGTH]
    sizes = [len(json.dumps(_attempt_to_dict(attempt))) for attempt in history]
    while len(history) > 1 and sum(sizes[: len(history)]) > octets:
        history = history[:-1]
    dropped = [a.claim for a in record.history[len(history) :] if a.claim is not None]
    counted = record.counted_to
    for claim in dropped:
        if counted is None or claim_order(claim) > claim_order(counted):
            counted = claim
    return replace(record, history=history, counted_to=counted)


def _most(attempt: Attempt) -> int:
    """So many bytes of JSON an attempt takes at most, told without making it."""
    error = attempt.error
    texts = len(attempt.who) + len(attempt.flow or "")
    if error is not None:
        texts += len(error.type) + len(error.message) + len(error.where) + len(error.fingerprint)
    return _BESIDE_TEXTS + _PER_CHARACTER * texts


def claim_order(claim: str) -> int:
    """What puts claims in the order in which they were made."""
    return int(claim, 16) if claim.startswith("0x") else int(claim)


def _attempt_to_dict(attempt: Attempt) -> dict[str, Any]:
    error = attempt.error
    return {
        "n": attempt.n,
        "who": attempt.who,
        "claim": attempt.claim,
        "began": iso(attempt.began),
        "ended": iso(attempt.ended) if attempt.ended else None,
        "outcome": attempt.outcome,
        "flow": attempt.flow,
        "error": None
        if error is None
        else {
            "type": error.type,
            "message": error.message,
            "where": error.where,
            "fingerprint": error.fingerprint,
        },
    }


def to_json(record: AttemptRecord) -> bytes:
    """The record as it lies beside its job, UTF-8 JSON."""
    binned = record.binned
    return _ENCODER.encode(
        {
            "v": 1,
            "job": record.job,
            "attempts": record.attempts,
            "failures": record.failures,
            "hold_until": iso(record.hold_until) if record.hold_until else None,
            "counted_to": record.counted_to,
            "binned": None if binned is None else {"who": binned.who, "when": iso(binned.when), "why": binned.why},
            "history": [_attempt_to_dict(attempt) for attempt in record.history],
        }
    ).encode()


_ENCODER: Final = json.JSONEncoder(separators=(",", ":"))


class NotARecord(ValueError):
    """The bytes are no attempt record of the job they lie beside; the ledger starts afresh and tells."""


def from_json(raw: bytes, job: str) -> AttemptRecord:
    """The record in ``raw``.

    :raises NotARecord: when it is not JSON of this shape, or another job's.
    """
    try:
        data = json.loads(raw)
        if data["v"] != 1 or data["job"] != job:
            raise NotARecord(f"record of another job or version: {data['v']}, {data['job']!r}")
        binned = data["binned"]
        return AttemptRecord(
            job=job,
            attempts=int(data["attempts"]),
            failures=int(data["failures"]),
            hold_until=_time(data["hold_until"]),
            counted_to=_claim(data["counted_to"]),
            binned=None if binned is None else Binned(str(binned["who"]), from_iso(binned["when"]), str(binned["why"])),
            history=tuple(_attempt_from_dict(entry) for entry in data["history"]),
        )
    except NotARecord:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise NotARecord(f"not an attempt record: {error}") from error


def _time(text: str | None) -> datetime | None:
    return None if text is None else from_iso(text)


def _claim(text: str | None) -> str | None:
    if text is not None and not _CLAIM.fullmatch(text):
        raise ValueError(f"not a claim's id: {text!r}")
    return text


def _attempt_from_dict(data: Mapping[str, Any]) -> Attempt:
    error = data["error"]
    outcome = data["outcome"]
    if outcome is not None and outcome not in OUTCOMES:
        outcome = "unknown"
    return Attempt(
        n=int(data["n"]),
        who=str(data["who"]),
        claim=_claim(data["claim"]),
        began=from_iso(data["began"]),
        ended=_time(data["ended"]),
        outcome=outcome,
        flow=None if data["flow"] is None else str(data["flow"]),
        error=None
        if error is None
        else Cause(
            str(error["type"]),
            str(error["message"]),
            str(error["where"]),
            str(error["fingerprint"]),
        ),
    )
