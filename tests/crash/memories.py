"""What is done to a ring of memories while it is killed, and what must hold of it afterwards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import vectorstore as vs
from tests.crash.model import matrix_of

RING = [f"m{number}" for number in range(6)]
EDGES = [{"source": a, "target": b} for a, b in zip(RING, RING[1:] + RING[:1], strict=True)]


def remember(store: vs.Store) -> None:
    """Each memory has two episodes and leads to the next."""
    store.memories.add([{"id": id, "content": id, "importance": 0.6} for id in RING], vectors=matrix_of(RING, 0))
    store.episodes.add([{"memory": id, "trigger": f"{id} {n}"} for id in RING for n in range(2)])
    store.causes.add(EDGES)
    store.flush()


STEPS: list[Callable[[vs.Store], object]] = [
    lambda store: store.memories.touch(RING),
    lambda store: store.causes.merge([{**edge, "weight": 0.5} for edge in EDGES]),
    lambda store: store.memories.promote(dry_run=False),
    lambda store: store.memories.delete(RING[:2]),
    lambda store: store.memories.restore(RING[:2]),
    lambda store: store.memories.delete(RING[4:]),
    lambda store: store.memories.purge(RING[4:]),
]


def half_remembered(store: vs.Store, root: Path) -> list[str]:
    """What was done to some of many only, or without what goes with it."""
    memories, live = list(store.memories), {memory.id for memory in store.memories}
    kinds = store.stats()["kinds"]
    rows = {name: kinds[name]["records"] + kinds[name]["deleted"] for name in ("memories", "episodes", "causes")}
    edges = [edge for edge in EDGES if {edge["source"], edge["target"]} <= live]
    checks = {
        "uses differ": len({(memory.access_count, memory.last_accessed) for memory in memories}) == 1,
        "tiers differ": len({(memory.tier, memory.importance) for memory in memories}) == 1,
        "samples differ": len({(edge.samples, edge.weight) for edge in store.causes}) == 1,
        "an importance without its tier": {(m.tier, round(m.importance, 6)) for m in memories} < {(3, 0.6), (4, 0.66)},
        "episodes without their memories": len(store.episodes) == 2 * len(live),
        "edges without their ends": len(store.causes) == len(edges),
        "rows without their owners": rows
        in ({"memories": 6, "episodes": 12, "causes": 6}, {"memories": 4, "episodes": 8, "causes": 3}),
        "recall ranks by something else": all(
            abs(hit.parts["importance"] - 0.25 * hit.record.importance) < 1e-9
            for hit in store.memories.recall(matrix_of(RING[:1], 0)[0])
        ),
        "vectors without their memories": len(store.memories.recall(matrix_of(RING[:1], 0)[0])) == len(live),
    }
    return [f"memories: {problem}" for problem, holds in checks.items() if not holds]
