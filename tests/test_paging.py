"""Pages: over 10,000 rows each is visited once, in an order that stays, whatever is written meanwhile."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import Clock

import vectorstore as vs

ROWS = 10_000


@pytest.fixture(scope="module")
def big() -> Iterator[vs.Store]:
    dice = random.Random(7)
    with vs.open(":memory:", embedder=None) as store:
        columns: dict[str, list[Any]] = {
            "id": [f"c{n}" for n in dice.sample(range(ROWS), ROWS)],
            "name": [f"n{dice.randrange(50)}" for _ in range(ROWS)],
            "domain": [dice.choice([None, "a", "b"]) for _ in range(ROWS)],
            "quality": [dice.choice([None, 0.0, 0.25, 1.0]) for _ in range(ROWS)],
        }
        store.concepts.add(columns)
        yield store


def pages(ask: Callable[..., vs.Page[Any]], limit: int) -> list[vs.Page[Any]]:
    found = [ask(limit=limit)]
    while found[-1].next is not None:
        found.append(ask(limit=limit, after=found[-1].next))
    return found


FEW = {"quality__gte": 0.25, "name__in": ["n1", "n2"]}
ORDERS = (None, "id", "name", "-name", "quality", "-quality", "-created_at")


@pytest.mark.parametrize(("where", "order"), [(None, "-quality"), ({"domain": "a"}, None), *((FEW, o) for o in ORDERS)])
def test_pages_over_10_000_rows_visit_each_once_in_a_stable_order(big: vs.Store, where: Any, order: str | None) -> None:
    expected = {each.id for each in big.concepts.stream(where)}
    runs = []
    for limit in (997 if where is None else 97, 10_000):
        found = pages(lambda **options: big.concepts.find(where, order=order, **options), limit)
        assert {page.total for page in found} == {len(expected)}, "whatever the limit"
        assert [len(page) for page in found[:-1]] == [limit] * (len(found) - 1) and len(found[-1]) <= limit
        runs.append([each for page in found for each in page])
    assert [each.id for each in runs[0]] == [each.id for each in runs[1]]
    assert len(runs[0]) == len(expected) and {each.id for each in runs[0]} == expected
    if order in ("id", "name", "-name"):
        values = [getattr(each, order.lstrip("-")) for each in runs[0]]
        assert values == sorted(values, reverse=order[0] == "-")
    elif order in ("quality", "-quality"):
        known = [-1.0 if each.quality is None else each.quality for each in runs[0]]
        assert known == sorted(known, reverse=order[0] == "-"), "none is below every number"


def test_rows_that_come_and_go_meanwhile_hide_and_repeat_no_other(store: vs.Store) -> None:
    store.concepts.add([{"id": f"c{n:03}", "name": f"n{n:03}"} for n in range(100)])
    for order in ("name", "-name", None):
        before = {each.id for each in store.concepts.find(limit=1000)}
        dice, seen = random.Random(3), []
        page = store.concepts.find(order=order, limit=7)
        gone, come = set(), set()
        while True:
            seen += [each.id for each in page]
            one = dice.choice(sorted(before - gone))
            store.concepts.delete(one)
            gone.add(one)
            new = store.concepts.add({"name": f"n{dice.randrange(100):03} new {len(come)} {order}"})[0]
            come.add(new)
            if page.next is None:
                break
            page = store.concepts.find(order=order, limit=7, after=page.next)
        assert len(seen) == len(set(seen)) and before - gone <= set(seen) <= before | come


def test_every_list_has_pages_and_a_total_that_no_limit_changes(store: vs.Store, clock: Clock) -> None:
    store.concepts.add([{"id": f"c{n}", "name": f"n{n}"} for n in range(12)])
    store.concepts.add(
        [{"id": f"d{n}", "name": f"n{n}"} for n in range(10)], duplicates=vs.Duplicates(0.99, "reject"), vectors=None
    )
    for _ in range(10):
        clock.move(minutes=1)
        store.concepts.audit_recall(k=1, sample=10)
        store.models.put("net", b"x%d" % clock.now.minute)
    store.clusters.fit(n=1, name="all")
    cluster = store.clusters.find()[0].id
    lists: dict[str, tuple[Callable[..., vs.Page[Any]], int]] = {
        "find": (store.concepts.find, 12),
        "decisions": (store.concepts.decisions, 10),
        "audits": (store.concepts.audits, 10),
        "models": (store.models.list, 11),
        "members": (lambda **options: store.clusters.members(cluster, **options), 12),
        "trail": (store.trail.list, store.stats()["trail"]),
    }
    for name, (ask, total) in lists.items():
        for limit in (1, 4, 10, 1000):
            found = pages(ask, limit)
            assert {page.total for page in found} == {total}, name
            every = [each for page in found for each in page]
            assert len(every) == len({repr(each) for each in every}) == total, name
            assert every == list(ask(limit=10_000)), name
