"""What a refused step of a transaction means, in words for whoever acts."""

from __future__ import annotations

import pytest
from kazoo.exceptions import NoAuthError

from conductor_console.jobboards.base import Refused
from conductor_console.jobboards.zk_client import StepFailed
from conductor_console.jobboards.zk_requests import Requests


@pytest.mark.parametrize(
    ("step", "told"),
    [
        ("free", "no rights to hold job a (its lock may not be changed)"),
        ("record", "no rights to hold job a (the record of its attempts may not be changed)"),
        ("binned", "no rights to hold job a (the bin may not be changed)"),
        ("", "no rights to hold job a (it may not be changed)"),
    ],
)
def test_missing_rights_are_told_without_a_steps_own_name(step: str, told: str) -> None:
    error = Requests.refused(object.__new__(Requests), StepFailed(step, NoAuthError()), "hold", "a")
    assert isinstance(error, Refused)
    assert str(error) == told
