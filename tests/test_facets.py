"""Facets equal SQL's GROUP BY and plain counting; answers by group equal grouping the whole list."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from conftest import Matrix, clustered
from hypothesis import given, settings
from hypothesis import strategies as st

import vectorstore as vs


class Size(enum.StrEnum):
    SMALL = "small"
    BIG = "big"


class Thing(vs.Record, table="things"):
    title: Annotated[str, vs.EMBEDDED]
    domain: Annotated[str | None, vs.INDEXED] = None
    size: Size = Size.SMALL
    grade: Literal["a", "b"] = "a"
    number: int | None = None
    share: float = 0.5
    done: bool = False
    made: vs.UtcTime | None = None
    parts: tuple[str, ...] = ()
    roles: dict[str, str] = {}


WORDS = ["king", "queen", "pawn", "rook"]
OTHERS: list[Any] = ["x", "y", 1, 2.5, True, False, None, ["x", "y", "x"], [], {"deep": 1}]


def things(rows: int = 400) -> list[dict[str, Any]]:
    random = np.random.default_rng(4)

    def one_of(values: list[Any]) -> Any:
        return values[random.integers(len(values))]

    records = []
    for number in range(rows):
        extra = {} if number % 5 == 0 else {"source": one_of(OTHERS), "deep": {"er": one_of(["p", "q"])}}
        records.append(
            {
                "id": f"{number}",
                "title": " ".join(one_of(WORDS) for _ in range(3)),
                "domain": one_of([None, "royalty", "military", "chess", "chess"]),
                "size": one_of(list(Size)),
                "grade": one_of(["a", "b"]),
                "number": one_of([None, 3, 4, -1]),
                "share": one_of([0.25, 1.0]),
                "done": bool(random.integers(2)),
                "made": one_of([None, datetime(2026, 1, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC)]),
                "tags": [f"t{tag}" for tag in random.integers(0, 4, random.integers(0, 4))],
                "parts": [f"p{part}" for part in random.integers(0, 3, random.integers(0, 4))],
                "roles": {"chief": one_of(["ann", "bob"])} if number % 2 else {},
                "extra": extra,
            }
        )
    return records


@pytest.fixture(scope="module")
def filled() -> Iterator[vs.Store]:
    with vs.open(":memory:", embedder="hash:32", kinds=[Thing], auto_publish=False) as store:
        store.collection(Thing).add(things())
        store.collection(Thing).delete([f"{number}" for number in range(0, 400, 9)])
        yield store


def counted(records: list[Any], field: str) -> Counter[Any]:
    """How many of the records have each value, in plain Python."""
    counts: Counter[Any] = Counter()
    name, *path = field.split(".")
    for record in records:
        value = getattr(record, name)
        for step in path:
            value = value.get(step) if isinstance(value, dict) else None
        if not isinstance(value, dict):
            counts.update(set(value) if isinstance(value, list | tuple) else [value])
    return counts


FIELDS = ["domain", "size", "grade", "number", "share", "done", "made", "tags", "parts", "context", "deleted_at"]
PATHS = ["extra.source", "extra.deep.er", "extra.nothing", "roles.chief", "extra", "roles"]
FILTERS: list[Any] = [None, {"domain": "chess"}, {"tags__has": "t1", "number__gte": 3}, {"id": "nobody"}]


@pytest.mark.parametrize("field", [*FIELDS, *PATHS])
@pytest.mark.parametrize("where", FILTERS)
def test_facets_equal_counting(filled: vs.Store, field: str, where: Any) -> None:
    notes = filled.collection(Thing)
    for query, syntax in ((None, "words"), ("king rook", "words"), ("king rook", "all"), ("king -pawn", "query")):
        records = list(notes.stream(where))
        if query is not None:
            matching = set(notes.search(query, k=1000, mode="text", syntax=syntax).ids)  # type: ignore[arg-type]
            records = [record for record in records if record.id in matching]
        facets = notes.facets(field, where, query, syntax=syntax)  # type: ignore[arg-type]

        assert facets == dict(counted(records, field))
        assert list(facets.values()) == sorted(facets.values(), reverse=True)
        if field != "extra.source":  # where 1 and True are one value, as they are in Python
            assert {type(value) for value in facets} == {type(value) for value in counted(records, field)}


@pytest.mark.parametrize("field", ["domain", "number", "done", "grade"])
def test_facets_equal_group_by(filled: vs.Store, field: str) -> None:
    rows = filled._catalog._writer_connection().execute(
        f"SELECT {field}, count(*) FROM things WHERE deleted_at IS NULL AND share > 0.5 GROUP BY 1 "
        f"ORDER BY 2 DESC, 1 IS NULL, 1"
    )

    assert list(filled.collection(Thing).facets(field, {"share__gt": 0.5}).items()) == rows.fetchall()


def test_tags_equal_group_by(filled: vs.Store) -> None:
    rows = filled._catalog._writer_connection().execute(
        "SELECT tag, count(*) FROM things_tags g JOIN things t ON t.row = g.row WHERE deleted_at IS NULL "
        "GROUP BY 1 ORDER BY 2 DESC, 1"
    )

    assert list(filled.collection(Thing).facets("tags").items()) == rows.fetchall()


def test_facets_are_cut_after_they_are_in_order(filled: vs.Store) -> None:
    notes = filled.collection(Thing)
    whole = list(notes.facets("extra.source").items())

    assert list(notes.facets("extra.source", limit=3).items()) == whole[:3]
    assert notes.facets("domain", query="nothing of it") == notes.facets("domain", query="") == {}


@pytest.mark.parametrize("field", [*FIELDS, *PATHS])
def test_facets_of_hits_equal_counting(filled: vs.Store, field: str) -> None:
    for hits in (filled.collection(Thing).search("king", k=90), filled.collection(Thing).search("x", mode="text")):
        facets = hits.facets(field)
        assert facets == dict(counted([hit.record for hit in hits], field))
        assert list(facets.values()) == sorted(facets.values(), reverse=True)


@pytest.mark.parametrize("field", ["nothing", "domain.deep", 'extra."x', "extra.", "", None, 3])
def test_a_bad_facet_is_refused(filled: vs.Store, field: Any) -> None:
    with pytest.raises(vs.ValidationError, match="things: facets: expected one of id, context|field: expected text"):
        filled.collection(Thing).facets(field)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": 0}, "limit: expected"),
        ({"limit": True}, "limit: expected"),
        ({"query": 3}, "query: expected text, got 3"),
        ({"query": "x", "syntax": "sql"}, "syntax: expected"),
        ({"query": "(x", "syntax": "query"}, r"query\[0\]: this bracket is not closed"),
        ({"where": {"nope": 1}}, "no field 'nope'"),
    ],
)
def test_bad_arguments_of_facets_are_refused(filled: vs.Store, options: Any, message: str) -> None:
    with pytest.raises(vs.ValidationError, match=message):
        filled.collection(Thing).facets("domain", **options)
    with pytest.raises(vs.ValidationError, match="Thing has no field 'nope'"):
        filled.collection(Thing).search("king").facets("nope")


def test_a_kind_without_text_has_facets_but_no_query(filled: vs.Store) -> None:
    assert filled.contexts.facets("name") == {"default": 1}
    with pytest.raises(vs.ValidationError, match="contexts: has no EMBEDDED text fields"):
        filled.contexts.facets("name", query="x")


def test_expired_records_are_counted_nowhere(store: vs.Store, clock: Any) -> None:
    store.concepts.add(
        [{"name": "a", "tags": ["t"], "expires_at": "2026-02-01T00:00:00Z"}, {"name": "b", "tags": ["t"]}]
    )
    assert store.concepts.facets("tags", query="a b") == {"t": 2}
    clock.move(days=30)

    assert store.concepts.facets("tags") == store.concepts.facets("tags", query="a b") == {"t": 1}


# -- groups ------------------------------------------------------------------------------------------------------------


def grouped(hits: vs.Hits[Any], of: Callable[[Any], Any], k: int, size: int) -> list[tuple[str, float, Any]]:
    """(id, score, group) of the first k groups of a whole list, the best of each group together."""
    groups: dict[Any, list[tuple[str, float, Any]]] = {}
    for hit in hits:
        group = groups.setdefault(of(hit.record), [])
        if len(group) < size:
            group.append((hit.id, hit.score, of(hit.record)))
    return [item for group in list(groups.values())[:k] for item in group]


BY: dict[str, Callable[[Any], Any]] = {
    "domain": lambda record: record.domain,
    "number": lambda record: record.number,
    "done": lambda record: record.done,
    "size": lambda record: record.size,
    "made": lambda record: record.made,
    "id": lambda record: record.id,
    "extra.deep.er": lambda record: record.extra.get("deep", {}).get("er"),
}


@pytest.mark.parametrize("field", BY)
@pytest.mark.parametrize("mode", ["vector", "text", "hybrid"])
def test_groups_equal_grouping_the_whole_list(filled: vs.Store, field: str, mode: Any) -> None:
    notes = filled.collection(Thing)
    fusion = {"fusion": vs.Fusion("weighted")} if mode == "hybrid" else {}
    for where in FILTERS:
        whole = notes.search("king rook", k=1000, mode=mode, where=where, exact=True, **fusion)
        for k, size in ((1, 1), (2, 1), (3, 2), (10, 3), (300, 1), (2, 400)):
            hits = notes.search(
                "king rook", k=k, mode=mode, where=where, exact=True, group_by=field, group_size=size, **fusion
            )
            assert [(hit.id, hit.score, hit.group) for hit in hits] == grouped(whole, BY[field], k, size)
            assert [hit.rank for hit in hits] == list(range(len(hits)))


def test_rare_groups_are_sought_to_the_end_of_the_list(open_store: Callable[..., vs.Store]) -> None:
    """The second group's only record is the very last of 3,000."""
    store = open_store()
    data: Matrix = clustered(3000, 8)
    query = data[0]
    far = int(np.argmin(data @ query / np.linalg.norm(data, axis=1)))
    store.concepts.add(
        [{"id": f"c{n}", "name": "x", "domain": "rare" if n == far else "common"} for n in range(3000)], vectors=data
    )
    hits = store.concepts.search(query, k=2, exact=True, group_by="domain")

    assert hits.ids == ["c0", f"c{far}"] and [hit.group for hit in hits] == ["common", "rare"]
    assert store.concepts.search(query, k=3, exact=True, group_by="domain").ids == hits.ids


def test_groups_of_a_re_ranked_list_end_with_it(filled: vs.Store) -> None:
    hits = filled.collection(Thing).search(
        "king",
        k=15,
        rerank=lambda query, records: [float(record.id) for record in records],
        rerank_depth=20,
        group_by="domain",
    )
    best = filled.collection(Thing).search("king", k=20).ids

    assert set(hits.ids) <= set(best) and len(hits) == len({hit.group for hit in hits})
    assert hits.ids == sorted(hits.ids, key=int, reverse=True)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=40), st.integers(1, 8), st.integers(1, 5))
def test_the_stage_gives_none_or_the_truth(values: list[str], k: int, size: int) -> None:
    """Shown any beginning of a list it either wants more or gives what the whole list gives."""
    from vectorstore.records import schema_of
    from vectorstore.search import groups
    from vectorstore.search.stages import Ranked

    stage = groups.grouping(schema_of(Thing), "domain", size, False)
    ranked = [Ranked(row, row, 1.0 - row / 100) for row in range(len(values))]

    class Scene:
        connection = None

        class table:  # noqa: N801
            schema = schema_of(Thing)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(groups, "values_of", lambda connection, schema, rows, field, path: {r: values[r] for r in rows})
        whole = stage.apply(Scene, ranked, k, True)  # type: ignore[arg-type]
        for depth in range(len(values)):
            answer = stage.apply(Scene, ranked[:depth], k, False)  # type: ignore[arg-type]
            assert answer is None or answer == whole
    assert whole is not None and len({item.group for item in whole}) == min(k, len(set(values)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group_by": "nope"}, "things: group_by: expected one of id, context"),
        ({"group_by": "tags"}, "group_by: expected"),
        ({"group_by": "extra"}, "group_by: expected"),
        ({"group_by": "domain.x"}, "group_by: expected"),
        ({"group_by": 3}, "group_by: expected"),
        ({"group_size": 2}, "group_by: expected"),
        ({"group_by": "domain", "group_size": 0}, "group_size: expected"),
        ({"group_by": "domain", "group_size": True}, "group_size: expected"),
    ],
)
def test_bad_groups_are_refused(filled: vs.Store, options: Any, message: str) -> None:
    with pytest.raises(vs.ValidationError, match=message):
        filled.collection(Thing).search("king", **options)
