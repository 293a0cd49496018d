"""An engine outside answers searches: the quick proofs, on the engine in a folder. tests/scale has the real server."""

from __future__ import annotations

import pytest

from tests.remote_oracle import FedStoreAgainstModel, run


@pytest.mark.timeout(600)
def test_a_store_with_an_engine_answers_as_brute_force_over_a_dict_would() -> None:
    FedStoreAgainstModel.plans.clear()
    run(FedStoreAgainstModel, examples=25, steps=35)
    assert {"engine", "engine + filter", "exact"} <= FedStoreAgainstModel.plans
