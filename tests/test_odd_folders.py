"""Files, loops and dangling links where folders should be, and waits that no clock counts: typed errors."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vectorstore as vs
from vectorstore.files import DiskFolder


def a_file(path: Path) -> None:
    path.write_text("x")


def a_loop(path: Path) -> None:
    path.symlink_to(path)


def nowhere(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


@pytest.mark.parametrize("place", ["embeddings", "embeddings/concepts", "indexes/concepts", "indexes"])
@pytest.mark.parametrize("made", [a_file, a_loop, nowhere])
def test_a_check_finds_what_took_the_place_of_a_folder(
    tmp_path: Path, place: str, made: Callable[[Path], None]
) -> None:
    with vs.open(tmp_path / "kb", embedder=None) as store:
        store.concepts.add([{"id": "a", "name": "a"}, {"id": "b", "name": "b"}], vectors=np.eye(2, 8))
        store.flush()
        store.rebuild("concepts", "simhash512")
    (tmp_path / "kb" / place).rename(tmp_path / "aside")
    made(tmp_path / "kb" / place)
    with vs.open(tmp_path / "kb", embedder=None) as store:
        layer = "segments" if place.startswith("embeddings") else "index"
        assert layer in [finding.layer for finding in store.check().findings]
        if layer == "segments":
            with pytest.raises(vs.CorruptError, match="the file is missing"):
                store.concepts.search(np.ones(8), k=1)
            store.concepts.add({"id": "c", "name": "c"}, vectors=np.ones((1, 8)))
            with pytest.raises(vs.StoreError):
                store.flush()
        else:
            assert [hit.score for hit in store.concepts.search(np.eye(8)[0], k=1)] == [1.0]


def test_what_a_folder_refuses_to_tell_is_an_error_of_the_stores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "stat", refuse)
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(vs.StoreError, match="cannot be looked at now: Permission denied"):
        DiskFolder(tmp_path).stat("a")
    with pytest.raises(vs.StoreError, match="cannot be looked into now: Permission denied"):
        DiskFolder(tmp_path).names()


@pytest.mark.parametrize("made", [a_loop, nowhere])
def test_a_store_is_not_made_where_a_link_leads_nowhere(tmp_path: Path, made: Callable[[Path], None]) -> None:
    made(tmp_path / "kb")
    with pytest.raises(vs.StoreError, match="is a link to .*remove it, or choose another"):
        vs.open(tmp_path / "kb", embedder=None)
    assert (tmp_path / "kb").is_symlink() and not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("where", ["kb", ":memory:"])
def test_a_wait_that_no_clock_can_count_is_refused(tmp_path: Path, where: str) -> None:
    path = where if where == ":memory:" else tmp_path / where
    for seconds in (1e12, 2_147_484):
        with pytest.raises(vs.ValidationError, match="timeout: expected"):
            vs.open(path, embedder=None, timeout=seconds)
    assert not (tmp_path / "kb").exists()
    with vs.open(path, embedder=None, timeout=2_147_483) as store:
        store.concepts.add({"id": "a", "name": "a"})
