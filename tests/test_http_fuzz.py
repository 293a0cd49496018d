"""The service against whatever its own description allows, and does not: every answer is one that is described."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode, checks
from starlette.testclient import TestClient

import vectorstore as vs
from tests.http_client import TOKEN
from vectorstore.http import Limits, create_app

HEADERS = {"Authorization": f"Bearer {TOKEN}"}
# Not `positive_data_acceptance`: a filter names fields, a page its former one, an id what is there; no JSON Schema says so.
checks.load_all_checks()
NAMES = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "negative_data_rejection",
)
CHECKS = [checks.CHECKS.get_one(name) for name in NAMES]
WAITS = ("/workflows/{id}/process", "/workflows/{id}/events")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with vs.open(Path(tmp_path_factory.mktemp("fuzz")) / "kb", embedder="hash:16") as store:
        store.concepts.add([{"id": str(n), "name": f"n{n}", "quality": n / 50} for n in range(50)])
        store.memories.add([{"id": str(n), "content": f"m{n}"} for n in range(5)])
        store.analogies.add([{"id": str(n), "source_domain": "a", "target_domain": "b"} for n in range(5)])
        app = create_app(store, token=TOKEN, limits=Limits(body=1 << 20), work=False)
        with TestClient(app, headers=HEADERS, raise_server_exceptions=False) as opened:
            yield opened
        assert store.check().findings == ()


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["right", "wrong"])
@pytest.mark.parametrize("examples", [4, pytest.param(150, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_every_answer_is_described(client: TestClient, mode: GenerationMode, examples: int) -> None:
    described = schemathesis.openapi.from_asgi("/openapi.json", client.app, headers=HEADERS)
    operations = [found.ok() for found in described.get_all_operations()]
    assert len(operations) > 70
    statuses: dict[int, int] = {}
    for operation in operations:
        if operation.path not in WAITS:
            _ask(operation, mode, examples, statuses)
    assert not [status for status in statuses if status >= 500], statuses
    assert statuses.get(422 if mode is GenerationMode.NEGATIVE else 200, 0) > 80, statuses


def _ask(operation: Any, mode: GenerationMode, examples: int, statuses: dict[int, int]) -> None:
    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: schemathesis.Case) -> None:
        response = case.call(headers=HEADERS)
        statuses[response.status_code] = statuses.get(response.status_code, 0) + 1
        if response.status_code == 413:  # a refusal too, which the check of wrong data does not know
            return
        case.validate_response(response, checks=CHECKS, headers=HEADERS)

    try:
        ask()
    except Exception as error:
        if type(error).__name__ != "Unsatisfiable":  # an operation without parameters has no wrong ones
            raise
