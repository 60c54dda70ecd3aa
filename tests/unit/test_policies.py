"""Policies by job name, as a profile and a command line tell them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conductor_console import settings
from conductor_console.cli import policy as cli
from conductor_console.errors import UsageError
from conductor_console.jobboards import policies
from conductor_console.jobboards.attempts import HELD_FOR_GOOD, AttemptRecord, Policy
from conductor_console.jobboards.policies import Policies


def test_the_first_pattern_that_fits_decides() -> None:
    lb, rest, board = Policy(3), Policy(7), Policy(5)
    made = Policies(board, (("lb-*", lb), ("*-nightly", rest)))
    assert made.of("lb-1-nightly") is lb
    assert made.of("x-nightly") is rest
    assert made.of("x") is board
    assert lb.of("whatever") is lb


@pytest.mark.parametrize(
    ("action", "removed", "hold"),
    [("bin", True, 0.0), ("delete", True, 0.0), ("hold", False, HELD_FOR_GOOD), ("report", False, 4.0)],
)
def test_what_each_action_does_with_a_job_that_failed_too_often(action: Any, removed: bool, hold: float) -> None:
    policy = Policy(max_attempts=3, base=1.0, cap=100.0, jitter=0.0, action=action)
    record = AttemptRecord("j", attempts=3, failures=3)
    assert policy.exhausted(record)
    assert policy.removes(record) is removed
    assert policy.hold(3, "abandoned") == hold
    assert policy.hold(2, "abandoned") == 2.0
    assert policy.hold(3, "suspended") == 0.0


def test_a_table_changes_what_it_names() -> None:
    table = {
        "max-failures": 3,
        "backoff": 1,
        "rules": [{"name": "lb-*", "action": "report"}, {"name": "tmp-*", "max_failures": 1, "cap": 9.5}],
    }
    made = policies.from_table(table, Policy(jitter=0.0))
    assert made.default == Policy(3, 1.0, 300.0, 0.0)
    assert made.rules == (
        ("lb-*", Policy(3, 1.0, 300.0, 0.0, "report")),
        ("tmp-*", Policy(1, 1.0, 9.5, 0.0)),
    )


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"max-failures": 0}, "whole number"),
        ({"max-failures": 2.5}, "whole number"),
        ({"max-failures": True}, "is a number"),
        ({"backoff": -1}, "of seconds"),
        ({"cap": float("inf")}, "is a number"),
        ({"jitter": 1.5}, "from 0 to 1"),
        ({"action": "burn"}, "bin, delete, hold, report"),
        ({"burn": 1}, "has no 'burn'"),
        ({"rules": [{"action": "bin"}]}, "needs the pattern"),
        ({"rules": "lb-*"}, "are tables"),
    ],
)
def test_what_cannot_be_meant_is_told_in_one_line(table: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError) as caught:
        policies.from_table(table, Policy())
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_rule_of_the_command_line() -> None:
    assert policies.rule("a:b-*: max-failures=3, action=delete") == {
        "name": "a:b-*",
        "max-failures": 3.0,
        "action": "delete",
    }
    for text in ("lb-*", "lb-*:", ": cap=3", "lb-*: cap", "lb-*: cap=x"):
        with pytest.raises(UsageError):
            policies.rule(text)


def test_the_command_line_comes_before_the_profile() -> None:
    profile = settings.Profile(
        "ops", "zk://h/b", policy={"max-failures": 4, "backoff": 9.0, "rules": [{"name": "lb-*", "action": "hold"}]}
    )
    made, chosen = cli.policies(
        profile, Policy(), {"max-failures": None, "backoff": 1.0, "action": None}, ["lb-9*: max-failures=1"]
    )
    assert chosen == {"max-failures", "backoff"}
    assert made.default == Policy(4, 1.0)
    assert made.of("lb-99") == Policy(1, 1.0)
    assert made.of("lb-1") == Policy(4, 1.0, action="hold")


def test_profiles_are_read_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "profiles.toml"
    monkeypatch.setenv(settings.PROFILES, str(path))
    with pytest.raises(UsageError, match="neither a URL"):
        settings.profile("ops")
    path.write_text('[ops]\nboard = "zk://user:secret@h/b"\nstore = "sqlite:////f.db"\n[ops.policy]\naction = "bin"\n')
    made = settings.profile("ops")
    assert (made.board, made.store, made.policy) == ("zk://user:secret@h/b", "sqlite:////f.db", {"action": "bin"})
    assert "secret" not in repr(made)
    with pytest.raises(UsageError, match="there are: ops"):
        settings.profile("other")
    for text, told in (
        ("[ops", "not TOML"),
        ("[ops]\nstore = 1\n", "names no board"),
        ('[ops]\nboard = "zk://h/b"\nstore = 1\n', "store is a URL"),
        ('[ops]\nboard = "zk://h/b"\npolicy = 1\n', "policy is a table"),
        ('[ops]\nboard = "zk://h/b"\nbored = 1\n', "has no 'bored'"),
    ):
        path.write_text(text)
        with pytest.raises(UsageError, match=told):
            settings.profile("ops")
