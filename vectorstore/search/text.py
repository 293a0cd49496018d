"""Full-text search: a user's text as an FTS5 query, BM25 ranks, and their fusion with vector ranks.

Reciprocal rank fusion: Cormack, Clarke and Büttcher 2009, with their constant 60.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from vectorstore.records.where import Node
from vectorstore.search.stages import Ranked
from vectorstore.storage import Connection, RecordTable

FUSION = 60
FUSION_DEPTH = 100
MAX_WORDS = 64
_WORD = re.compile(r"\w+")


def matches(connection: Connection, table: RecordTable[Any], text: str, node: Node | None, limit: int) -> list[Ranked]:
    """The best BM25 matches of any word of a text, best first; each word is quoted, so no text is FTS5 syntax."""
    words = list(dict.fromkeys(_WORD.findall(text)))[:MAX_WORDS]
    if not words:
        return []
    found = table.text_matches(connection, " OR ".join(f'"{word}"' for word in words), node, limit)
    return [Ranked(row, None, score, None, {"text": score}) for row, score in found]


def fuse(near: Sequence[Ranked], text: Sequence[Ranked]) -> list[Ranked]:
    """One list of two, best first: the sum of each row's reciprocal ranks; ties by row."""
    parts: dict[int, dict[str, float]] = {}
    vids = {item.row: item.vid for item in near}
    for source, ranked in (("vector", near), ("text", text)):
        for rank, item in enumerate(ranked, 1):
            parts.setdefault(item.row, {})[source] = 1.0 / (FUSION + rank)
    fused = [Ranked(row, vids.get(row), sum(found.values()), None, found) for row, found in parts.items()]
    return sorted(fused, key=lambda item: (-item.score, item.row))
