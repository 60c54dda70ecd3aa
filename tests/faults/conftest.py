"""One ensemble for each module of fault tests: a test leaves it whole."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.ensemble import Ensemble, running_ensemble


@pytest.fixture(scope="module")
def shared_ensemble() -> Iterator[Ensemble]:
    with running_ensemble() as running:
        yield running


@pytest.fixture
def ensemble(shared_ensemble: Ensemble) -> Iterator[Ensemble]:
    """Three servers, all up and in step; whatever a test did to them is mended after it."""
    shared_ensemble.whole()
    yield shared_ensemble
    for server in shared_ensemble.servers:
        if server.running:
            server.resume()
        else:
            server.launch()
    for server in shared_ensemble.servers:
        server.wait_ready()
