"""The gate of performance: it passes where nothing changed, and fails where something became slower."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import gate


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "ROWS", 300)
    monkeypatch.setattr(gate, "BATCH", 30)


def test_beyond_the_tolerance_unknown_and_missing_operations_are_too_slow() -> None:
    baseline = {"same": 2.0, "slower": 2.0, "gone": 1.0}
    assert gate.too_slow({"same": 2.9, "slower": 3.1, "new": 0.1}, baseline, 1.5) == {"slower", "gone", "new"}
    assert gate.too_slow({"same": 2.0}, {"same": 2.0}, 1.0) == set()


def test_what_is_too_slow_is_measured_again_and_a_busy_minute_is_forgiven() -> None:
    asked = []

    def again(chosen: set[str] | None, number: int) -> dict[str, float]:
        asked.append((chosen, number))
        return {name: [9.0, 2.0, 9.0][number] if name == "busy" else 9.0 for name in chosen or ("busy", "slow")}

    assert gate.judged(again, {"busy": 2.0, "slow": 2.0}, 1.5) == ({"busy": 2.0, "slow": 9.0}, {"slow"})
    assert asked == [(None, 0), ({"busy", "slow"}, 1), ({"slow"}, 2)]


def test_the_gate_runs_and_fails_for_what_became_slower(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    baseline = tmp_path / "gate.json"
    options = ["--baseline", str(baseline), "--rounds", "3"]
    assert gate.main([*options, "--write"]) == 0
    figures = json.loads(baseline.read_text())
    assert len(figures) == 7 and all(ratio > 0 for ratio in figures.values())
    assert gate.main([*options, "--tolerance", "50"]) == 0 and "slower" not in capsys.readouterr().out

    (found,) = (name for name in figures if name.startswith("find"))
    baseline.write_text(json.dumps({**figures, found: figures[found] / 1e6}))
    assert gate.main([*options, "--tolerance", "50"]) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if "slower than 50" in line]
    assert len(lines) == 1 and lines[0].startswith("find")


def test_the_stored_baseline_has_every_operation(small: None, tmp_path: Path) -> None:
    bench = gate.Bench(tmp_path)
    try:
        assert json.loads(gate.BASELINE.read_text()).keys() == bench.pairs().keys()
    finally:
        bench.close()
