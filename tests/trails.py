"""What the tests of the trail have in common."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np

import vectorstore as vs


def told(store: vs.Store, since: int = 0) -> list[tuple[str, str | None, tuple[str, ...]]]:
    """(operation, kind, ids) of the entries after a number, oldest first."""
    return [(each.operation, each.kind, each.ids) for each in store.trail.stream() if each.number > since]


def last(store: vs.Store) -> int:
    return int(store.trail.anchor().partition(":")[0])


def vectors(count: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, 4)).astype(np.float32)


def names(*numbers: int) -> tuple[str, ...]:
    return tuple(f"c{number}" for number in numbers)


def filled(tmp_path: Path, rotate: bool = False) -> tuple[Path, str]:
    """A store with 44 entries, of which only the last six are not in a file if asked for, and its anchor."""
    path = tmp_path / "kb"
    with vs.open(path, embedder=None, actor="ann", auto_publish=False) as store:
        for number in range(44 - rotate - last(store)):
            store.concepts.add({"id": f"c{number}", "name": f"n{number}"}, vectors=vectors(1))
        if rotate:
            assert store.trail.rotate(keep=5)
        assert last(store) == 44
        return path, store.trail.anchor()


def spoil(path: Path, sql: str, *values: object) -> None:
    connection = sqlite3.connect(path / "catalog.sqlite")
    assert connection.execute(sql, values).rowcount > 0
    connection.commit()
    connection.close()
