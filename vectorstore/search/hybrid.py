"""Hybrid search: the best of both sides, each with the other side's score, fused."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from vectorstore.records.where import Node
from vectorstore.results import Plan, Side
from vectorstore.search.fusion import LEAST, Fusion, Scale, by_ranks, by_scores, merged
from vectorstore.search.stages import Ranked, Scene, as_score
from vectorstore.search.text import TextQuery, matches
from vectorstore.storage import spaces
from vectorstore.storage.fulltext import scores_of
from vectorstore.vectors import Found
from vectorstore.vectors.exact import final_scores

Propose = Callable[[int], tuple[list[Ranked], Found]]
DEEPEN = 4


def fused(
    scene: Scene, space: str, propose: Propose, asked: TextQuery, fusion: Fusion, node: Node | None, depth: int
) -> tuple[list[Ranked], Found, Plan]:
    """The best by both sides, at least `depth` of them unless there are fewer, and how they were found.

    Args:
        scene: the snapshot and the query.
        space: whose vectors are compared.
        propose: the best so many by vector.
        asked: the text.
        fusion: how to make one list of two.
        node: the filter.
        depth: how many are wanted.

    Cost: beside both searches some 0.3 ms for the vectors of what was found by its text alone; with weighted scores
    also 0.05 microseconds a matching row for the text of what was found by its vector alone.
    """
    deep = max(depth, fusion.depth)
    while True:
        near, found = propose(deep)
        text = matches(scene.connection, scene.table, asked, node, deep)
        rows = merged(near, text)
        vids = {item.row: item.vid for item in near}
        _compare_vectors(scene, space, [item.row for item in text if item.row not in vids], rows, vids)
        if fusion.method == "rrf":
            parts, enough = by_ranks(fusion, rows), True
        else:
            _look_up_texts(scene, asked, rows)
            parts, enough = _above_the_unseen(fusion, scene.metric, near, text, rows, deep, depth)
        if enough:
            ranked = [Ranked(row, vids.get(row), math.fsum(p.values()), None, p, sides=rows[row]) for row, p in parts]
            reason = f"{fusion}; best {len(near)} by vector, {len(text)} by text ({asked.meaning}); {found.plan.reason}"
            plan = Plan("hybrid", reason, found.plan.scanned, found.plan.candidates, found.plan.matching)
            return ranked, found, plan
        deep *= DEEPEN


def _above_the_unseen(
    fusion: Fusion,
    metric: str,
    near: Sequence[Ranked],
    text: Sequence[Ranked],
    rows: dict[int, dict[str, Side]],
    deep: int,
    depth: int,
) -> tuple[list[tuple[int, dict[str, float]]], bool]:
    """(row, parts) of what no unseen record can overtake, best first; and whether that is enough."""
    heads = {"vector": (near, LEAST[metric]), "text": (text, LEAST["bm25"])}
    scales = {
        side: Scale(fusion.weight(side), least, head[0].score if head else least)
        for side, (head, least) in heads.items()
    }
    parts = by_scores(scales, rows)
    open_sides = [side for side, (head, _) in heads.items() if len(head) >= deep]
    if not open_sides:
        return parts, True
    unseen = math.fsum(scales[side].part(heads[side][0][-1].score) for side in open_sides)
    above = [item for item in parts if math.fsum(item[1].values()) > unseen]
    return above, len(above) >= depth


def _compare_vectors(
    scene: Scene, space: str, lacking: list[int], rows: dict[int, dict[str, Side]], vids: dict[int, int | None]
) -> None:
    """Add the vector side of records that were found by their text alone: exact, from their own vectors."""
    made = spaces.space_by_name(scene.connection, space) if lacking else None
    if made is None or scene.live is None or scene.vector is None:
        return
    stored = spaces.live_vectors(scene.connection, made.id, lacking)
    of_vid = {vid: row for row, (vid, _, _) in stored.items()}
    known, matrix = scene.live.vectors_of(np.array(sorted(of_vid), dtype=np.int64))
    values = final_scores(scene.vector, matrix, scene.metric)
    for vid, value in zip(known.tolist(), values.tolist(), strict=True):
        row = of_vid[vid]
        vids[row] = vid
        rows[row]["vector"] = Side(None, as_score(value, scene.metric)[0])


def _look_up_texts(scene: Scene, asked: TextQuery, rows: dict[int, dict[str, Side]]) -> None:
    """Add the text side of records that were found by their vector alone and hold the text."""
    lacking = [row for row, sides in rows.items() if "text" not in sides]
    if lacking and asked.match is not None:
        for row, score in scores_of(scene.connection, scene.table, asked.match, lacking).items():
            rows[row]["text"] = Side(None, score)
