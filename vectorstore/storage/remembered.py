"""Rows that searches read lately: the same few answer many queries, above all under a filter.

What is kept belongs to one commit, named by its sequence number, and is forgotten with the next. Rows are kept
half decoded, after their digest was checked; each search makes records of its own, so nobody shares what can change.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

LIMIT = 1_000
"""Some one or two megabytes of rows with texts of a sentence."""


class Remembered:
    """Vid -> row of one commit, for a kind; safe for several threads."""

    def __init__(self) -> None:
        self._kept: tuple[int, dict[int, Mapping[str, Any]]] = (-1, {})

    def take(self, seq: int, vids: Iterable[int]) -> dict[int, Mapping[str, Any]]:
        """Those of the vids that are remembered from that commit."""
        known, rows = self._kept
        if known != seq:
            return {}
        return {vid: row for vid in vids if (row := rows.get(vid)) is not None}

    def keep(self, seq: int, rows: Mapping[int, Mapping[str, Any]]) -> None:
        """Remember rows of a commit; older commits are forgotten, and everything when it gets too much."""
        known, kept = self._kept
        if seq < known:
            return
        if seq > known or len(kept) + len(rows) > LIMIT:
            kept = {}
            self._kept = (seq, kept)
        kept.update(rows)
