"""Telemetry: spans and durations equal a scripted workload; who has no OpenTelemetry, or asks for none, loads none."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import vectorstore as vs
from vectorstore import telemetry

pytest.importorskip("opentelemetry.sdk")
CHILD = Path(__file__).parent / "telemetry_child.py"
CONVENTIONS = {"db.system.name", "db.operation.name", "db.collection.name", "db.namespace", "error.type"}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a process of its own exported: providers are set once in a process."""
    done = subprocess.run(
        [sys.executable, str(CHILD), str(tmp_path_factory.mktemp("otel") / "kb")],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "already" not in done.stderr  # a histogram made twice, a context detached twice
    found: dict[str, Any] = json.loads(done.stdout)
    found["ours"] = [span for span in found["spans"] if span["scope"] == "vectorstore"]
    return found


def of(attributes: dict[str, str]) -> str:
    return f"{attributes.get('db.collection.name', 'store')}.{attributes['db.operation.name']}"


def test_counts_equal_the_workload_and_the_stores_own(told: dict[str, Any]) -> None:
    done = {name: calls for name, (calls, _, _) in told["done"].items()}
    assert (done["concepts.add"], done["concepts.search"], done["concepts.find"]) == (8, 100, 1)
    assert done.pop("concepts.stream") == 2  # of which one was never read
    spans = Counter(of(span["attributes"]) for span in told["ours"])
    points: Counter[str] = Counter()
    for point in told["points"]:
        points[of(point["attributes"])] += point["count"]
    assert spans == points == {**done, "concepts.stream": 1}


def test_spans_are_named_by_the_conventions(told: dict[str, Any]) -> None:
    for span in told["ours"]:
        told_of = span["attributes"]
        assert set(told_of) <= CONVENTIONS and span["kind"] == "CLIENT"
        assert (told_of["db.system.name"], told_of["db.namespace"]) == ("vectorstore", "kb")
        target = told_of.get("db.collection.name", told_of["db.namespace"])
        assert span["name"] == f"{told_of['db.operation.name']} {target}"
    assert {"search concepts", "fit clusters", "check kb", "put models"} <= {span["name"] for span in told["ours"]}


def test_failures_carry_their_class_and_no_data(told: dict[str, Any]) -> None:
    failed = sorted(
        (span["name"], span["attributes"]["error.type"]) for span in told["ours"] if span["status"] == "ERROR"
    )
    assert failed == [("add concepts", "DuplicateId"), ("find concepts", "ValidationError")]
    assert all("error.type" not in span["attributes"] for span in told["ours"] if span["status"] != "ERROR")
    counted = {point["attributes"].get("error.type"): point["count"] for point in told["points"]}
    assert counted["DuplicateId"] == counted["ValidationError"] == 1
    assert "again" not in json.dumps(told)


def test_durations_are_seconds_in_the_conventions_buckets(told: dict[str, Any]) -> None:
    sums: Counter[str] = Counter()
    for point in told["points"]:
        assert (point["name"], point["unit"]) == ("db.client.operation.duration", "s")
        assert tuple(point["bounds"]) == telemetry.BUCKETS
        sums[of(point["attributes"])] += point["sum"]
    for name, (_, _, seconds) in told["done"].items():
        assert sums[name] == pytest.approx(seconds, rel=0.01, abs=1e-4), name


def test_a_span_is_current_in_its_verb_and_not_while_a_stream_is_read(told: dict[str, Any]) -> None:
    names = {span["id"]: span["name"] for span in told["spans"]}
    parents = {name: {names.get(s["parent"]) for s in told["spans"] if s["name"] == name} for name in names.values()}
    assert parents["embed"] <= {"add concepts", "search concepts", "add analogies"} and None not in parents["embed"]
    assert parents["add analogies"] == parents["stream concepts"] == {"caller"}
    assert parents["check kb"] == {None}  # what came before has left
    (caller,) = (span for span in told["spans"] if span["name"] == "caller")
    assert caller["events"] == ["between"]


def loaded(code: str, **environment: str) -> str:
    import os

    env = {name: value for name, value in os.environ.items() if name != telemetry.SWITCH}
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint('opentelemetry' in sys.modules)"],
        capture_output=True, text=True, timeout=60, env={**env, **environment},
    )  # fmt: skip
    return done.stdout.strip() or done.stderr.splitlines()[-1]


OPEN = "import vectorstore as vs\nwith vs.open(':memory:', embedder=None) as s: s.concepts.count()"


@pytest.mark.parametrize(
    ("code", "environment", "expected"),
    [
        ("import vectorstore", {"VECTORSTORE_TELEMETRY": "on"}, "False"),
        (OPEN, {}, "False"),
        (OPEN, {"VECTORSTORE_TELEMETRY": "off"}, "False"),
        (OPEN, {"VECTORSTORE_TELEMETRY": "on"}, "True"),
        (OPEN.replace("embedder=None", "embedder=None, telemetry=True"), {"VECTORSTORE_TELEMETRY": "off"}, "True"),
    ],
)
def test_it_is_loaded_when_a_store_wants_it_and_never_before(code: str, environment: Any, expected: str) -> None:
    assert loaded(code, **environment) == expected


def test_without_the_library_it_is_left_out_or_an_error_that_says_so() -> None:
    hidden = "sys.modules['opentelemetry'] = None\n"
    assert loaded(hidden + OPEN) == "True"  # the None that hides it; the store opened
    assert vs.errors.installing("otel") in loaded(hidden + OPEN, VECTORSTORE_TELEMETRY="on")


def test_the_sdk_being_loaded_is_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(telemetry.SWITCH, raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk", sys)
    assert telemetry.wanted(None) and not telemetry.wanted(False)
    monkeypatch.setenv(telemetry.SWITCH, "off")
    assert not telemetry.wanted(None) and telemetry.wanted(True)
    monkeypatch.setenv(telemetry.SWITCH, "perhaps")
    with pytest.raises(vs.ValidationError, match="VECTORSTORE_TELEMETRY: expected on, off or auto, got 'perhaps'"):
        vs.open(":memory:", embedder=None)
