"""Upkeep: space comes back, erased is erased, nothing changes but what should; by a policy or when asked."""

from __future__ import annotations

import functools
import hashlib
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Clock
from test_history import answers, concept, erased

import vectorstore as vs

SMALL = vs.IndexRecipe("small", "LSH64rt", ({"candidates": 1500},), min_recall=0.0)


def disk(root: Path) -> int:
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())


@functools.cache
def empty() -> int:
    """Bytes of a store that never held anything: the tables of its kinds."""
    with tempfile.TemporaryDirectory() as folder:
        vs.open(Path(folder) / "kb", embedder=None).close()
        return disk(Path(folder))


def live_content(store: vs.Store) -> str:
    """A digest of every live record with its vector, in the order of ids."""
    digest = hashlib.sha256()
    records = list(store.concepts.stream())
    vectors = dict(zip((r.id for r in records), store.concepts.vectors([r.id for r in records]), strict=True))
    for record in sorted(records, key=lambda each: each.id):
        digest.update(record.model_dump_json().encode() + vectors[record.id].tobytes())
    return digest.hexdigest()


def filled(store: vs.Store, count: int = 1500, dim: int = 64) -> None:
    vectors = np.random.default_rng(0).standard_normal((count, dim)).astype(np.float32)
    store.concepts.add(
        [{"id": f"c{n}", "name": f"name {n}", "definition": "long words " * 20} for n in range(count)], vectors=vectors
    )
    store.rebuild("concepts", SMALL)


@pytest.mark.parametrize("share", [0.3, 0.9, 1.0])
def test_space_comes_back_and_live_content_stays(share: float, tmp_path: Path) -> None:
    root = tmp_path / "kb"
    with vs.open(root, embedder=None, auto_publish=False) as store:
        filled(store)
        full = disk(root)
        gone = [f"c{n}" for n in range(int(1500 * share))]
        store.concepts.delete(gone)
        content = live_content(store) if share < 1 else ""
        expected = [(h.id, h.score) for h in store.concepts.search(np.ones(64), k=50, exact=True)]
        assert store.concepts.purge(gone) == len(gone)
        (report,) = store.compact("concepts")
        assert report.vectors_kept == 1500 - len(gone)
        left = disk(root)
        assert left < empty() + (full - empty()) * (1 - share) * 1.1 + 100_000, f"{full} bytes, then {left}"
        assert content == (live_content(store) if share < 1 else "")
        assert [(h.id, h.score) for h in store.concepts.search(np.ones(64), k=50, exact=True)] == expected
        connection = store._catalog._writer_connection()
        assert connection.execute("PRAGMA freelist_count").fetchone() == (0,)
        assert store.check().findings == ()
    print(f"{share:.0%} purged: {full} -> {left} bytes")


def test_a_compaction_tells_what_it_removed_and_saved(tmp_path: Path) -> None:
    root = tmp_path / "kb"
    with vs.open(root, embedder=None, auto_publish=False) as store:
        filled(store)
        store.concepts.upsert([{"id": f"c{n}", "name": f"name {n}"} for n in range(700)], vectors=-np.ones((700, 64)))
        content = live_content(store)
        before = sum(p.stat().st_size for p in root.rglob("*") if p.suffix in (".npz", ".faiss"))
        before += 700 * 64 * 4  # those that wait in the catalog
        (report,) = store.compact()
        after = sum(p.stat().st_size for p in root.rglob("*") if p.suffix in (".npz", ".faiss"))
        assert (report.vectors_removed, report.vectors_kept) == (700, 1500)
        assert (report.bytes_before, report.bytes_after, report.bytes_saved) == (before, after, before - after)
        assert report.bytes_saved > 700 * 64 * 3 and live_content(store) == content


def test_a_catalog_of_before_gets_its_space_back_too(tmp_path: Path) -> None:
    import sqlite3

    root = tmp_path / "kb"
    with vs.open(root, embedder=None, auto_publish=False) as store:
        filled(store)
    connection = sqlite3.connect(root / "catalog.sqlite", isolation_level=None)
    connection.execute("PRAGMA journal_mode=DELETE")
    connection.execute("PRAGMA auto_vacuum=NONE")
    connection.execute("VACUUM")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.close()
    size = (root / "catalog.sqlite").stat().st_size
    with vs.open(root, embedder=None, auto_publish=False) as store:
        store.concepts.delete(where={"version__gte": 1})
        store.concepts.purge(older_than=timedelta(0))
        store.compact()
        assert (root / "catalog.sqlite").stat().st_size < empty() + (size - empty()) / 20
        assert store.check().findings == ()
        store.concepts.add({"name": "next"}, vectors=np.ones((1, 64)))


def test_a_reader_that_holds_an_old_commit_keeps_nobody_from_giving_space_back(tmp_path: Path) -> None:
    root = tmp_path / "kb"
    with vs.open(root, embedder=None, auto_publish=False) as store, vs.open(root, embedder=None) as other:
        filled(store)
        with other._catalog.read() as connection:
            connection.execute("SELECT count(*) FROM concepts").fetchone()
            store.concepts.delete(where={"version__gte": 1})
            store.concepts.purge(older_than=timedelta(0))
            store.compact()
            assert connection.execute("SELECT count(*) FROM concepts").fetchone() == (1500,)
        store.compact()
        assert disk(root) < empty() + 100_000


@pytest.mark.parametrize("index", ["small", "exact"])
def test_what_was_purged_is_in_no_file(index: str, tmp_path: Path) -> None:
    root = tmp_path / "kb"
    secret = np.random.default_rng(5).standard_normal(64).astype(np.float32)
    needles = (b"zanzibar", b"xyzzyplugh", secret.tobytes(), b"private-id")
    with vs.open(root, embedder=None, auto_publish=False) as store:
        filled(store)
        store.concepts.add(
            {"id": "private-id", "name": "zanzibar", "definition": "xyzzyplugh", "tags": ["xyzzyplugh"]},
            vectors=secret[None],
        )
        store.flush()
        store.rebuild("concepts", SMALL if index == "small" else "exact")
        assert all(erased(root, needle) for needle in needles)
        store.concepts.delete("private-id")
        assert erased(root, needles[0])  # a delete can be taken back
        store.concepts.purge("private-id")
        assert erased(root, *needles) == []  # the WAL included, while the store is open
    assert erased(root, *needles) == []


# -- policies ----------------------------------------------------------------------------------------------------------


def test_maintain_does_what_is_due_and_says_so_before(tmp_path: Path, clock: Clock) -> None:
    with vs.open(tmp_path / "kb", embedder="hash:16", clock=clock, auto_publish=False) as store:
        store.concepts.add([concept(n) for n in range(100)])
        store.flush()
        assert store.maintain(dry_run=True).actions == store.maintain().actions == ()
        store.concepts.delete([f"c{n:03d}" for n in range(10)])
        store.concepts.add({"id": "brief", "name": "brief", "expires_at": clock.now + timedelta(days=1)})
        clock.move(days=40)
        store.concepts.upsert([concept(n, 1) for n in range(50, 100)])
        policy = vs.Policy(retired_share=0.3, purge_after=timedelta(days=30))
        expected = answers(store)
        plan = store.maintain(policy, dry_run=True)
        assert plan.dry_run and plan.actions == ("purge 11 concepts", "compact concepts")
        assert store.stats()["kinds"]["concepts"]["deleted"] == 11
        done = store.maintain(policy)
        assert done.actions[0] == "purged 11 concepts" and done.bytes_after < done.bytes_before
        assert store.stats()["kinds"]["concepts"]["deleted"] == 0
        assert store.maintain(policy).actions == () and store.check().findings == ()
        after = answers(store)  # BM25 counts deleted records until they are purged
        assert {k: v for k, v in after.items() if "text" not in k and k != "deleted"} == {
            k: v for k, v in expected.items() if "text" not in k and k != "deleted"
        }


def test_a_declared_policy_is_kept_and_applied_by_writers(tmp_path: Path) -> None:
    root = tmp_path / "kb"
    policy = vs.Policy(retired_share=0.25, purge_after=timedelta(days=3), free_share=0.5)
    with vs.open(root, embedder=None, auto_publish=False) as store:
        assert store.policy is None
        store.policy = policy
    with vs.open(root, embedder=None, auto_publish=False) as store:
        assert store.policy == policy
        vectors = np.random.default_rng(0).standard_normal((1500, 32)).astype(np.float32)
        records = [{"id": f"c{n}", "name": f"name {n}"} for n in range(1500)]
        for _ in range(6):
            store.concepts.upsert(records, vectors=vectors)
            store._maintainer.wait()
        held = sum(path.stat().st_size for path in (root / "embeddings" / "concepts").iterdir())
        assert held < 3 * vectors.nbytes, "six versions of every vector lie there"
        assert store.check().findings == () and len(store.concepts.search(vectors[0], k=2000)) == 1500
        store.policy = None
        assert store.policy is None


def test_writers_forget_history_that_is_too_old(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vectorstore.maintenance._LOOK_BACK", 0.0)
    with vs.open(tmp_path / "kb", embedder=None, clock=clock, auto_publish=False) as store:
        store.history = "1 hour"
        for _ in range(4):
            store.concepts.upsert([{"id": f"c{n}", "name": "n"} for n in range(1100)], vectors=np.ones((1100, 4)))
            clock.move(hours=2)
            store._maintainer.wait()  # one look at a time: the next would be left out while this one goes on
        with store._catalog.read() as connection:
            rows = connection.execute("SELECT count(*) FROM _past_concepts").fetchone()[0]
        assert rows <= 2 * 1100


@pytest.mark.parametrize(
    "wrong",
    [
        {"retired_share": 0},
        {"retired_share": 1.5},
        {"free_share": "much"},
        {"retired_bytes": 0},
        {"retired_bytes": 1.5},
        {"purge_after": 30},
        {"purge_after": timedelta(days=-1)},
        {"retired_share": True},
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(vs.ValidationError, match=f"policy.{next(iter(wrong))}"):
        vs.Policy(**wrong)
    with vs.open(":memory:", embedder=None) as store, pytest.raises(vs.ValidationError, match="policy"):
        store.policy = wrong  # type: ignore[assignment]
