"""Statistics: equal to SQL after a random workload, zeros for an empty store, plain data."""

from __future__ import annotations

import json
import random
import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
from conftest import Clock

import vectorstore as vs


class Task(vs.Record, table="tasks"):
    title: str
    status: Literal["open", "done", "dropped"] = "open"
    score: float | None = None


def test_statistics_of_every_kind_equal_sql_after_a_random_workload(tmp_path: Path, clock: Clock) -> None:
    dice = random.Random(11)
    with vs.open(tmp_path / "kb", embedder="hash:8", kinds=[Task], clock=clock, auto_publish=False) as store:
        makes: dict[str, Any] = {
            "concepts": lambda n: {"name": f"n{n}", "quality": dice.choice([None, dice.random()])},
            "analogies": lambda n: {"a": f"a{n}", "quality": dice.random()},
            "tasks": lambda n: {
                "title": f"t{n}",
                "status": dice.choice(["open", "done"]),
                "score": dice.choice([None, dice.random()]),
            },
        }
        for step in range(300):
            kind = dice.choice(list(makes))
            records, name = store.collection(kind), f"{kind[0]}{dice.randrange(25)}"
            act = dice.random()
            if act < 0.6:
                extra: dict[str, Any] = {"context": dice.choice(["default", "work"])} if name not in records else {}
                if dice.random() < 0.1:
                    extra["expires_at"] = clock.now + timedelta(minutes=dice.randrange(1, 60))
                old = records.get(name)
                context = {} if old is None else {"context": old.context}
                records.upsert({"id": name, **makes[kind](step), **extra, **context})
            elif act < 0.8:
                records.delete(name)
            elif act < 0.9:
                records.restore(name)
            elif act < 0.95:
                if name not in records:
                    records.purge(name)
            else:
                store.flush()
            clock.move(minutes=dice.randrange(3))
        store.models.put("net", b"abc")
        store.models.put("net", b"abcd")
        store.rebuild("concepts", "exact")
        store.concepts.add({"id": "late", "name": "late", "expires_at": clock.now + timedelta(minutes=1)})
        clock.move(minutes=2)  # nothing is written after that, so it is gone and not yet marked
        found = store.stats()
        assert found["bytes"] == sum(each.stat().st_size for each in (tmp_path / "kb").rglob("*") if each.is_file())
        now = int(clock.now.timestamp() * 1_000_000)
        connection = sqlite3.connect(f"file:{tmp_path}/kb/catalog.sqlite?mode=ro", uri=True)

        def sql(text: str, *values: object) -> Any:
            rows = connection.execute(text, values).fetchall()
            return rows[0][0] if len(rows) == 1 and len(rows[0]) == 1 else rows

        assert json.loads(json.dumps(found)) == found, "plain data"
        assert found["seq"] == sql("SELECT seq FROM state") and found["trail"] == sql("SELECT count(*) FROM trail")
        assert found["models"] == {"current": 1, "retired": 1}
        assert sum(entry["deleted"] for entry in found["kinds"].values()) > 0
        assert sum(entry["expired"] for entry in found["kinds"].values()) > 0
        assert found["kinds"]["relations"]["records"] == found["kinds"]["relations"]["deleted"] == 0
        for kind in (*makes, "contexts"):
            entry = found["kinds"][kind]
            live = f'FROM "{kind}" WHERE deleted_at IS NULL AND (expires_at IS NULL OR expires_at > {now})'
            every = sql(f'SELECT count(*) FROM "{kind}"')
            assert entry["records"] == sql(f"SELECT count(*) {live}"), kind
            assert entry["deleted"] == every - entry["records"], kind
            assert entry["contexts"] == dict(connection.execute(f"SELECT context, count(*) {live} GROUP BY 1")), kind
            for field, mean in entry["means"].items():
                assert mean == pytest.approx(sql(f"SELECT avg({field}) {live}")), (kind, field)
            vectors = sql(
                "SELECT count(*) FROM vectors v JOIN spaces s ON s.id = v.space WHERE s.name = ? AND v.retired IS NULL "
                f"AND v.record IN (SELECT row {live})",
                kind,
            )
            assert entry["vectors"] == vectors, kind
            if kind in makes:
                assert entry["records"] > 0 and entry["vectors"] == (0 if kind == "tasks" else entry["records"])
                segments = list((tmp_path / "kb" / "embeddings" / kind).glob("*.npz"))
                assert entry["segments"] == len(segments)
                assert entry["segment_bytes"] == sum(each.stat().st_size for each in segments)
        expected = dict.fromkeys(("open", "done", "dropped"), 0)
        alive = [each.status for each in store.collection(Task)]
        expected |= {status: alive.count(status) for status in set(alive)}
        assert found["kinds"]["tasks"]["statuses"]["status"] == expected and expected["dropped"] == 0
        for context in ("default", "work"):
            counts = store.context_info(context)["records"]
            assert {kind: counts[kind] for kind in makes} == {
                kind: found["kinds"][kind]["contexts"].get(context, 0) for kind in makes
            }
        connection.close()


def test_an_empty_store_has_zeros(place: Any) -> None:
    with vs.open(place, embedder=None, kinds=[Task]) as store:
        found = store.stats()
        for name, entry in found["kinds"].items():
            zeros = ("records", "deleted", "expired", "vectors", "pending", "segments", "segment_bytes")
            assert {entry[zero] for zero in zeros} == {0} or name == "contexts", name
            assert set(entry["means"].values()) <= {None} and entry["index"] is None
        assert found["kinds"]["contexts"]["records"] == 1, "the default one"
        assert found["kinds"]["tasks"]["statuses"] == {"status": {"open": 0, "done": 0, "dropped": 0}}
        assert found["models"] == {"current": 0, "retired": 0}


@pytest.mark.parametrize("score", [float("nan"), float("inf"), -float("inf")])
def test_scores_that_are_no_numbers_are_refused(store: vs.Store, score: float) -> None:
    ways: list[Any] = [{"name": "x", "quality": score}, [{"name": "x", "extra": {"s": score}}]]
    if score == score:  # in columns NaN stands for nothing, as pandas has it
        ways.append({"name": ["x"], "quality": [score]})
    for records in ways:
        with pytest.raises(vs.ContractViolation):
            store.concepts.add(records)
    assert len(store.concepts) == 0 and store.stats()["kinds"]["concepts"]["means"]["quality"] is None
