"""Work spread over workers gives what it gives here, and is done there."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import joblib
import numpy as np
import pytest
from spread_embedder import by_process

import vectorstore as vs
from vectorstore import spreading
from vectorstore.embedders import CallableEmbedder
from vectorstore.places import place_at

WORDS = [f"word {number} of a kind that is {number % 7}" for number in range(700)]


def telling() -> CallableEmbedder:
    return CallableEmbedder(by_process, "by process", normalise=False)


def opened(path: Path | str) -> vs.Store:
    return vs.open(path, embedder=telling(), metric="ip", auto_publish=False)


def records(words: list[str]) -> list[dict[str, str]]:
    return [{"name": word} for word in words]


def found(store: vs.Store) -> tuple[list[tuple[str, bytes]], set[int]]:
    """(names with what their vectors say, the processes that made them)."""
    names = sorted(record.id for record in store.concepts)
    vectors = store.concepts.vectors(names)
    return [(name, row[:16].tobytes()) for name, row in zip(names, vectors, strict=True)], {int(r[16]) for r in vectors}


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[tuple[str, bytes]]]:
    """What a run in this process gives."""
    with opened(tmp_path_factory.mktemp("local") / "kb") as store:
        store.workflows.process(store.workflows.create("concepts", records(WORDS)).id)
        same, made_by = found(store)
        assert made_by == {os.getpid()} and len(same) == len(WORDS)
        yield same


def test_texts_are_embedded_by_other_processes_with_the_same_vectors(
    tmp_path: Path, local: list[tuple[str, bytes]]
) -> None:
    seen: list[tuple[int, int]] = []
    with opened(tmp_path / "kb") as store:
        work = store.workflows.create("concepts", records(WORDS))
        with joblib.parallel_config(backend="loky", n_jobs=2):
            done = store.workflows.process(work.id, progress=lambda at, of: seen.append((at, of)))
        assert (done.status, done.processed, done.errors) == ("completed", 700, 0)
        same, made_by = found(store)
        assert same == local and os.getpid() not in made_by, "nothing was embedded here"
        assert seen == [(250, 700), (500, 700), (700, 700)], "each chunk is landed by itself"
        assert store.check().findings == () and not [*(tmp_path / "kb").glob(".shared*")], "nothing is left behind"

        before = made_by
        again = store.workflows.reembed("concepts")
        assert store.workflows.process(again.id).status == "completed"
        assert found(store) == (local, {os.getpid()}), "without a context it is done here"
        once_more = store.workflows.reembed("concepts")
        with joblib.parallel_config(backend="loky", n_jobs=2):
            assert store.workflows.process(once_more.id, place=str(tmp_path / "place")).status == "completed"
        same, made_by = found(store)
        assert same == local and made_by <= before and [*(tmp_path / "place").iterdir()] == []
        assert store.workflows.rollback(once_more.id).status == "rolled_back"
        assert found(store) == (local, {os.getpid()})


def test_bad_items_changes_and_known_texts_go_as_they_go_here(tmp_path: Path) -> None:
    items = [*records(WORDS[:300]), {"name": "bad", "quality": 7.5}, *records(WORDS[300:600])]
    with opened(tmp_path / "kb") as store, joblib.parallel_config(backend="threading", n_jobs=2):
        work = store.workflows.create("concepts", items, policy="lenient")
        done = store.workflows.process(work.id)
        assert (done.status, done.errors, len(store.concepts)) == ("completed", 1, 600)
        assert "concepts[300].quality" in str(store.workflows.errors(work.id)[0].reason)
        changes = [{"id": f"default:{word}", "definition": "other"} for word in WORDS[:40]]
        assert store.workflows.process(store.workflows.update("concepts", changes).id).errors == 0
        hit = store.concepts.search(f"{WORDS[3]}: other", k=1)[0]
        assert hit.record.name == WORDS[3]
        strict = store.workflows.create("concepts", [*records(["new one"]), {"name": "bad", "quality": 9}])
        assert store.workflows.process(strict.id).status == "rolled_back" and len(store.concepts) == 600


def test_a_store_in_memory_is_spread_too() -> None:
    with opened(":memory:") as store, joblib.parallel_config(backend="threading", n_jobs=2):
        work = store.workflows.create("concepts", records(WORDS[:260]))
        assert store.workflows.process(work.id).processed == 260


def test_what_a_worker_made_is_proved_before_it_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vectorstore import tasks

    real, calls, now = tasks.embed, list[tasks.Done](), [""]

    def spoilt(place: str, *arguments: str) -> tasks.Done:
        done = real(place, *arguments)
        calls.append(done)
        (kind,) = now
        if kind == "torn":
            (Path(place) / done.digest).write_bytes(b"x")
        elif kind == "foreign":
            done = tasks.Done(done.digest, done.worker, {**done.told, "model": "another"})
        else:
            made = tasks.unpacked(place_at(place).fetch(done.digest))
            made["probe" if kind == "turned" else "vectors"] = (
                -made["probe"] if kind == "turned" else made["vectors"][1:]
            )
            done = tasks.Done(place_at(place).keep(tasks.packed(**made)), done.worker, done.told)
        return done

    monkeypatch.setattr("vectorstore.workflows.ahead.tasks.embed", spoilt)
    errors = {
        "torn": vs.CorruptError,
        "foreign": vs.EmbedderError,
        "turned": vs.SpaceMismatch,
        "short": vs.SpaceMismatch,
    }
    with opened(tmp_path / "kb") as store, joblib.parallel_config(backend="threading", n_jobs=2):
        store.concepts.add({"name": "king"})
        for now[0], error in errors.items():
            work = store.workflows.create("concepts", records(WORDS[:20]))
            with pytest.raises(error, match=r"worker|digest"):
                store.workflows.process(work.id)
            assert store.workflows.get(work.id).status == "failed" and len(store.concepts) == 1
    assert len(calls) == 4


def test_lost_workers_leave_work_that_goes_on(tmp_path: Path, local: list[tuple[str, bytes]]) -> None:
    broken = tmp_path / "broken"

    def dying(texts: list[str]) -> np.ndarray:
        if broken.exists() and WORDS[-1] in texts:
            raise ConnectionError("gone")
        return by_process(texts)

    broken.touch()
    with vs.open(tmp_path / "kb", embedder=CallableEmbedder(dying, "dying", 17, normalise=False), metric="ip") as store:
        work = store.workflows.create("concepts", records(WORDS))
        with pytest.raises(vs.WorkersLost, match="gone"), joblib.parallel_config(backend="loky", n_jobs=2):
            store.workflows.process(work.id)
        left = store.workflows.get(work.id)
        assert left.status == "processing" and left.lease_until is not None
        assert store.workflows.next() is not None, "the lease was given back"
        with pytest.raises(vs.WorkersLost), joblib.parallel_config(backend="loky", n_jobs=2):
            store.workflows.process_all()  # and does not try for ever
        broken.unlink()
        assert store.workflows.process(work.id).status == "completed"
        assert found(store)[0] == local


def test_an_embedder_that_cannot_be_sent_is_refused_with_a_way_out(tmp_path: Path) -> None:
    lock = threading.Lock()

    def bound(texts: list[str]) -> np.ndarray:
        with lock:
            return by_process(texts)

    with vs.open(tmp_path / "kb", embedder=CallableEmbedder(bound, "bound", 17, normalise=False)) as store:
        work = store.workflows.create("concepts", records(WORDS[:5]))
        with (
            pytest.raises(vs.EmbedderError, match=r"leave joblib\.parallel_config"),
            joblib.parallel_config(backend="loky", n_jobs=2),
        ):
            store.workflows.process(work.id)


def test_without_a_context_joblib_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert spreading.workers() == 1
    monkeypatch.delitem(sys.modules, "joblib")
    assert spreading.workers() == 1 and "joblib" not in sys.modules


def test_texts_on_their_way_to_workers_are_erased_by_a_purge(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        store.concepts.add({"name": "secret"})
        left = place_at(f"{tmp_path}/kb/.shared-7.tmp")
        left.keep(b'["secret"]')  # as a kill leaves it
        store.concepts.delete("default:secret")
        store.concepts.purge(older_than=timedelta(0))
    assert not (tmp_path / "kb" / ".shared-7.tmp").exists()


@pytest.mark.parametrize("where", ["{folder}/a b", "file://{folder}/c", "memory://spread/d"])
def test_a_place_keeps_bytes_by_their_digest(where: str, tmp_path: Path) -> None:
    place = place_at(where.format(folder=tmp_path))
    digest = place.keep(b"some bytes")
    assert place.keep(b"some bytes") == digest and bytes(place_at(place.uri).fetch(digest)) == b"some bytes"
    with pytest.raises(vs.CorruptError):
        place.fetch("0" * 64)
    place.forget()
    with pytest.raises(vs.CorruptError):
        place.fetch(digest)


def test_clusters_are_given_and_tried_by_workers_as_they_are_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vectorstore import tasks
    from vectorstore.clusters import rule

    monkeypatch.setattr(rule, "_BLOCK_NUMBERS", 5 * 64)  # blocks of 64 rows
    calls: list[tuple[str, str]] = []
    for name in ("assign", "trial"):

        def counted(*arguments: object, name: str = name, real: object = getattr(tasks, name)) -> tasks.Done:
            done: tasks.Done = real(*arguments)  # type: ignore[operator]
            calls.append((name, done.worker))
            return done

        monkeypatch.setattr(tasks, name, counted)
    with vs.open(tmp_path / "kb", embedder="hash:32", auto_publish=False) as store:
        store.concepts.add(records(WORDS[:300]))
        store.clusters.fit("concepts", "spherical", 5)
        store.concepts.add(records(WORDS[300:]))
        with joblib.parallel_config(backend="threading", n_jobs=2):
            assert store.clusters.assign() == 400
        assert [name for name, _ in calls] == ["assign"] * 7
        spread = [store.clusters.membership(f"default:{word}") for word in WORDS]
        assert store.clusters.assign([f"default:{word}" for word in WORDS[300:]]) == 400, "here"
        assert [store.clusters.membership(f"default:{word}") for word in WORDS] == spread
        local = store.clusters.trials("concepts", "kmeans", 5, seeds=(0, 1, 2))
        with joblib.parallel_config(backend="threading", n_jobs=2):
            tried = store.clusters.trials("concepts", "kmeans", 5, seeds=(0, 1, 2))
        assert [name for name, _ in calls[7:]] == ["trial"] * 3
        unlike = [(a.seed, a.clusters, a.coherence) for a in local.trials]
        assert (
            unlike == [(a.seed, a.clusters, a.coherence) for a in tried.trials] and local.stability == tried.stability
        )
    assert not [*(tmp_path / "kb").glob(".shared*")]
    before = sorted(path.name for path in (tmp_path / "kb").rglob("*"))
    with (
        vs.open(tmp_path / "kb", embedder=None, read_only=True) as reader,
        joblib.parallel_config(backend="threading", n_jobs=2),
    ):
        assert len(reader.clusters.trials("concepts", "kmeans", 5, seeds=(0, 1)).trials) == 2
    after = sorted(path.name for path in (tmp_path / "kb").rglob("*") if not path.name.endswith(("-wal", "-shm")))
    assert after == [name for name in before if not name.endswith(("-wal", "-shm"))], "and writes nothing there"
