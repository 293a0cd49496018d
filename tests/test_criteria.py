"""Deleting and streaming by criteria: each alone and all together hit exactly what brute force does."""

from __future__ import annotations

import hashlib
import itertools
import random
import re
import tracemalloc
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from conftest import Clock

import vectorstore as vs

DOMAINS = ("royal", "military", "business", "magic")


def either(*domains: str) -> dict[str, Any]:
    """On either side, whichever of these."""
    return {"or": [{"source_domain__in": list(domains)}, {"target_domain__in": list(domains)}]}


@pytest.fixture
def many(store: vs.Store, clock: Clock) -> vs.Store:
    dice = random.Random(5)
    for day in range(6):
        clock.move(days=1)
        store.analogies.add(
            [
                {
                    "id": f"{day}-{n}",
                    "source_domain": dice.choice(DOMAINS),
                    "target_domain": dice.choice(DOMAINS),
                    "quality": dice.choice([None, 0.0, 0.25, 0.5, 0.75, 1.0]),
                    "tags": dice.sample("abc", dice.randint(0, 3)),
                    "frame_type": dice.choice(["hierarchy", "trade"]),
                }
                for n in range(20)
            ],
        )
    return store


def criteria(clock: Clock) -> dict[str, tuple[dict[str, Any], Callable[[vs.Analogy], bool]]]:
    day: datetime = clock.now - timedelta(days=2)
    return {
        "domains": (either("royal", "magic"), lambda a: bool({a.source_domain, a.target_domain} & {"royal", "magic"})),
        "frame_type": ({"extra.frame_type": "trade"}, lambda a: a.extra["frame_type"] == "trade"),
        "quality below": ({"quality__lt": 0.5}, lambda a: a.quality is not None and a.quality < 0.5),
        "created before": ({"created_at__lt": day}, lambda a: a.created_at is not None and a.created_at < day),
        "created after": (
            {"created_at__gte": day - timedelta(days=2)},
            lambda a: a.created_at is not None and a.created_at >= day - timedelta(days=2),
        ),
        "tags": ({"tags__has_any": ["a", "b"]}, lambda a: bool({"a", "b"} & set(a.tags))),
    }


def test_each_criterion_alone_and_combined_deletes_what_brute_force_would(many: vs.Store, clock: Clock) -> None:
    known = criteria(clock)
    everything = list(many.analogies)
    for count in (1, 2, 3, len(known)):
        for names in itertools.combinations(known, count):
            where = {"and": [known[name][0] for name in names]}
            doomed = {each.id for each in everything if all(known[name][1](each) for name in names)}
            assert {each.id for each in many.analogies.stream(where)} == doomed
            assert many.analogies.delete(where=where, dry_run=True) == len(doomed) and len(many.analogies) == 120
            assert many.analogies.delete(where=where) == len(doomed)
            assert {each.id for each in many.analogies} == {each.id for each in everything} - doomed
            assert many.analogies.restore(where=where) == len(doomed)
    assert many.analogies.delete(where=known["tags"][0]) > 0


def test_criteria_that_say_nothing_are_refused_and_a_threshold_of_zero_deletes_none(many: vs.Store) -> None:
    for empty in (
        None,
        {},
        {"and": []},
        {"or": []},
        {"not": {}},
        {"or": [{"quality__lt": 0.0}, {}]},
        {"and": [{"or": []}]},
    ):
        for verb in (many.analogies.delete, many.analogies.restore):
            with pytest.raises(vs.ValidationError, match="say what"):
                verb(where=empty)
    assert many.analogies.delete(where={"quality__lt": 0.0}) == 0 and len(many.analogies) == 120


def test_an_id_added_again_is_seen_by_every_read_and_survives_compaction(many: vs.Store) -> None:
    analogies = many.analogies
    analogies.delete(["0-0", "0-1"])
    analogies.add({"id": "0-0", "a": "knight", "b": "sword", "c": "wizard", "d": "staff"})
    analogies.delete("0-0")
    analogies.upsert({"id": "0-0", "a": "knight", "b": "sword", "c": "wizard", "d": "wand"})
    for _ in range(2):
        assert analogies.get("0-0").d == "wand" and len(analogies) == 119
        assert [each.id for each in analogies.stream({"a": "knight"})] == ["0-0"]
        assert analogies.search("knight is to sword as wizard is to wand", k=1).ids == ["0-0"]
        assert analogies.search("wand", k=1, mode="text").ids == ["0-0"] and not analogies.search("staff", mode="text")
        many.flush()
        many.compact()


def test_compaction_tells_what_it_removed_and_changes_no_content(many: vs.Store) -> None:
    def content() -> str:
        parts = [each.model_dump_json() for each in many.analogies.find(limit=1000, order="id")]
        ids = [each.id for each in many.analogies.find(limit=1000, order="id")]
        return hashlib.sha256("".join(parts).encode() + many.analogies.vectors(ids).tobytes()).hexdigest()

    many.flush()
    many.analogies.update([{"id": f"1-{n}", "reasoning": "new"} for n in range(20)])
    many.flush()
    before = content()
    report = next(each for each in many.compact() if each.space == "analogies")
    assert (report.vectors_removed, report.vectors_kept) == (20, 120) and report.segments_after < report.segments_before
    assert content() == before


def test_nothing_looks_through_all_vectors_for_each_record_that_leaves_or_comes_back(many: vs.Store) -> None:
    """Else restoring or purging n of m records would take n m steps: minutes where it should take a second."""
    statements: list[str] = []
    connection = many._catalog._writer_connection()
    connection.set_trace_callback(statements.append)
    ids = [f"2-{n}" for n in range(10)]
    many.analogies.delete(ids)
    many.analogies.restore(ids)
    many.analogies.update([{"id": name, "reasoning": "x"} for name in ids])
    many.analogies.delete(ids)
    assert many.analogies.purge(ids) == 10
    connection.set_trace_callback(None)
    asked = [each for each in statements if re.search(r"\b(FROM|JOIN) vectors\b", each)]
    assert any("json_each" in each and "vectors_retired" in each for each in asked)
    for each in asked:
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {each}")]
        inner = [step for step in plan[1:] if step in ("SCAN v", "SCAN vectors")]
        assert not inner, (each, plan)
    assert many.check().findings == ()


def test_a_long_stream_holds_one_batch_in_memory() -> None:
    rows = 40_000
    with vs.open(":memory:", embedder=None) as store:
        columns = {"id": [f"a{n}" for n in range(rows)], "a": ["x" * 50] * rows}
        columns |= {
            "source_domain": ["royal", "magic"] * (rows // 2),
            "target_domain": ["war"] * rows,
            "quality": [n % 10 / 10 for n in range(rows)],
        }
        store.analogies.add(columns)
        peaks = []
        for wanted in (8_000, 40_000):
            tracemalloc.start()
            stream = store.analogies.stream({**either("royal", "magic"), "quality__gte": 0.0}, batch_size=500)
            assert sum(1 for _ in itertools.islice(stream, wanted)) == wanted
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[1] < 8 * 2**20 and peaks[1] < 1.5 * peaks[0]
