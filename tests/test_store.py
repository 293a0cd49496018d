"""Opening, refusing, closing; transactions and hooks; what concerns all kinds at once."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from conftest import Clock, clustered

import vectorstore as vs


def digests(folder: Path) -> dict[str, str]:
    """Digest of every file but the lock and SQLite's own side files; the store must be closed."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "store.lock" and not path.name.endswith(("-wal", "-shm"))
    }


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments], capture_output=True, text=True, timeout=120
    )


def test_opening_twice_changes_no_file(tmp_path: Path) -> None:
    with vs.open(tmp_path / "kb", embedder="hash") as store:
        store.concepts.add({"name": "king"})
    before = digests(tmp_path / "kb")
    with vs.open(tmp_path / "kb") as store:
        assert store.concepts.get("default:king").name == "king"

    assert digests(tmp_path / "kb") == before


def test_memory_store_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with vs.open(":memory:", embedder="hash") as store:
        store.concepts.add([{"name": f"c{number}"} for number in range(2000)])
        store.rebuild("concepts")
        assert len(store.concepts) == 2000

    assert list(tmp_path.iterdir()) == []


def test_two_memory_stores_are_apart() -> None:
    with vs.open(":memory:", embedder="hash") as one, vs.open(":memory:", embedder="hash") as two:
        one.concepts.add({"name": "king"})

        assert len(two.concepts) == 0


@pytest.mark.parametrize("content", [b"hello, I am a text", os.urandom(4096)])
def test_a_file_that_is_no_database_is_refused_and_untouched(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "kb").mkdir()
    (tmp_path / "kb" / "catalog.sqlite").write_bytes(content)

    with pytest.raises(vs.NotAStore, match="catalog.sqlite"):
        vs.open(tmp_path / "kb")

    assert (tmp_path / "kb" / "catalog.sqlite").read_bytes() == content


def test_a_foreign_sqlite_file_is_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "kb").mkdir()
    path = tmp_path / "kb" / "catalog.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE mine(x)")
    connection.commit()
    connection.close()
    before = path.read_bytes()

    with pytest.raises(vs.NotAStore, match="something else"):
        vs.open(tmp_path / "kb")

    assert path.read_bytes() == before


def test_a_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"x")

    with pytest.raises(vs.NotAStore, match=r"photo\.jpg"):
        vs.open(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]


def test_a_newer_format_is_refused_without_any_write(tmp_path: Path) -> None:
    vs.open(tmp_path / "kb").close()
    path = tmp_path / "kb" / "catalog.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=99")
    connection.close()
    before = digests(tmp_path / "kb")

    with pytest.raises(vs.NewerFormat, match="format 99"):
        vs.open(tmp_path / "kb")

    assert digests(tmp_path / "kb") == before


def test_a_missing_store_is_not_made_when_not_wanted(tmp_path: Path) -> None:
    with pytest.raises(vs.NotAStore, match="vectorstore init"):
        vs.open(tmp_path / "kb", create=False)

    assert not (tmp_path / "kb").exists()


def test_removed_folder_raises_and_is_not_made_again(tmp_path: Path) -> None:
    store = vs.open(tmp_path / "kb", embedder="hash")
    store.concepts.add({"name": "king"})
    (tmp_path / "kb").rename(tmp_path / "moved")

    with pytest.raises(vs.StoreGone):
        store.concepts.add({"name": "queen"})
    with pytest.raises(vs.StoreGone):
        store.concepts.search("king")
    with pytest.raises(vs.StoreGone):
        store.close()

    assert not (tmp_path / "kb").exists()


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = vs.open(tmp_path / "kb", embedder="hash")
    store.close()
    store.close()

    with pytest.raises(vs.StoreClosed, match=r"vs\.open"):
        store.concepts.count()


def test_read_only_writes_nothing_and_refuses_writes(tmp_path: Path) -> None:
    with vs.open(tmp_path / "kb", embedder="hash") as store:
        store.concepts.add({"name": "king"})
    before = digests(tmp_path / "kb")
    with vs.open(tmp_path / "kb", read_only=True) as store:
        assert store.concepts.search("king").ids == ["default:king"]
        assert store.check().findings == ()
        with pytest.raises(vs.ReadOnlyStore):
            store.concepts.add({"name": "queen"})
        with pytest.raises(vs.ReadOnlyStore):
            store.concepts.delete("default:king")

    assert digests(tmp_path / "kb") == before


def test_read_only_media_works(tmp_path: Path) -> None:
    with vs.open(tmp_path / "kb", embedder="hash") as store:
        store.concepts.add({"name": "king"})
        store.flush()
    with read_only_media(tmp_path / "kb") as media, vs.open(media, read_only=True) as store:
        assert store.concepts.search("king").ids == ["default:king"]
        with pytest.raises(vs.ReadOnlyStore):
            store.concepts.add({"name": "queen"})


@contextlib.contextmanager
def read_only_media(folder: Path) -> Iterator[Path]:
    """The folder where nobody can write: a read-only mount for root, whom permissions do not stop."""
    if os.geteuid() != 0:
        folder.chmod(0o500)
        yield folder
        folder.chmod(0o700)
        return
    mount = folder.with_name("read-only")
    mount.mkdir()
    subprocess.run(["mount", "--bind", folder, mount], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", mount], check=True)
        yield mount
    finally:
        subprocess.run(["umount", mount], check=True)


def test_a_read_only_reader_does_not_lock_out_a_writer(tmp_path: Path) -> None:
    with vs.open(tmp_path / "kb", embedder="hash") as writer:
        writer.concepts.add({"name": "king"})
        with vs.open(tmp_path / "kb", read_only=True) as reader:
            assert len(reader.concepts) == 1
            writer.concepts.add({"name": "queen"})

            assert reader.concepts.search("queen", k=1).ids == ["default:queen"]


# -- transactions ------------------------------------------------------------------------------------------------------


def test_a_transaction_over_several_kinds_commits_as_one(store: vs.Store) -> None:
    with store.transaction():
        store.concepts.add({"name": "king"})
        store.analogies.add({"a": "king", "b": "queen", "c": "man", "d": "woman"})
        assert store.concepts.search("king").ids == ["default:king"]

    assert (len(store.concepts), len(store.analogies)) == (1, 1)


def test_a_failed_transaction_leaves_nothing(store: vs.Store) -> None:
    vectors = clustered(1500, 64)
    with pytest.raises(RuntimeError, match="boom"), store.transaction():
        store.concepts.add([{"name": f"c{place}"} for place in range(1500)], vectors=vectors)
        assert len(store.concepts.search(vectors[0], k=3)) == 3
        raise RuntimeError("boom")

    assert len(store.concepts) == 0
    assert len(store.concepts.search("king")) == 0
    assert store.check().litter == ()


def test_a_failed_call_inside_a_transaction_leaves_the_rest(store: vs.Store) -> None:
    with store.transaction():
        store.concepts.add({"name": "king"})
        with pytest.raises(vs.DuplicateId):
            store.concepts.add([{"name": "queen"}, {"name": "king"}])
        store.concepts.add({"name": "pawn"})

    assert sorted(record.name for record in store.concepts) == ["king", "pawn"]


# -- hooks -------------------------------------------------------------------------------------------------------------


def test_hooks_are_called_once_in_order_after_the_commit(store: vs.Store) -> None:
    calls: list[tuple[str, Any]] = []
    store.on("commit", lambda details: calls.append(("commit", (details["operation"], len(store.concepts)))))
    store.on("persist", lambda details: calls.append(("persist", details["rows"])))
    store.on("publish", lambda details: calls.append(("publish", details["recipe"])))
    store.on("rebuild", lambda details: calls.append(("rebuild", details["rows"])))
    store.concepts.add([{"name": f"c{place}"} for place in range(300)])
    store.rebuild("concepts")

    assert calls == [("commit", ("add", 300)), ("persist", 300), ("publish", "pq-fastscan"), ("rebuild", 300)]


def test_a_failing_hook_is_reported_and_loses_nothing(store: vs.Store) -> None:
    def broken(details: Any) -> None:
        raise ValueError("hook")

    remove = store.on("commit", broken)
    store.concepts.add({"name": "king"})
    remove()
    store.concepts.add({"name": "queen"})

    assert [(event, str(error)) for event, error in store.hook_failures] == [("commit", "hook")]
    assert len(store.concepts) == 2


def test_a_rolled_back_transaction_calls_no_hook(store: vs.Store) -> None:
    calls: list[Any] = []
    store.on("commit", calls.append)
    with pytest.raises(RuntimeError), store.transaction():
        store.concepts.add({"name": "king"})
        raise RuntimeError

    assert calls == []


# -- kinds of the user's own -------------------------------------------------------------------------------------------


class Note(vs.Record, table="notes"):
    title: Annotated[str, vs.EMBEDDED, vs.FOLDED, vs.UNIQUE]
    body: Annotated[str, vs.EMBEDDED] = ""
    about: Annotated[str | None, vs.Ref("concepts")] = None
    stars: Annotated[int, vs.INDEXED] = 0


def test_a_kind_of_the_users_own_has_every_verb(tmp_path: Path) -> None:
    with vs.open(tmp_path / "kb", embedder="hash", kinds=[Note]) as store:
        notes = store.collection(Note)
        store.concepts.add({"name": "king"})
        (first, _) = notes.add([Note(title="On kings", about="default:king", stars=3), Note(title="On pawns")])
        assert notes.search("kings", k=1, where={"stars__gte": 2})[0].record.title == "On kings"
        with pytest.raises(vs.ConflictError, match=r"notes\.title"):
            notes.add(Note(title="on  KINGS"))
        assert notes.get(first) is not None and notes.get(first).version == 1
        with pytest.raises(vs.ValidationError, match=r"notes\[0\]\.about: no record of concepts"):
            notes.add(Note(title="x", about="default:nobody"))
        assert store.check().findings == ()


def test_a_kind_without_its_class_is_still_read_written_and_checked(tmp_path: Path) -> None:
    with vs.open(tmp_path / "kb", embedder="hash", kinds=[Note]) as store:
        store.collection(Note).add(Note(title="On kings", stars=3))
    with vs.open(tmp_path / "kb") as store:
        assert store["notes"].find({"title": "ON KINGS"})[0].stars == 3
        store["notes"].add({"title": "On pawns"})
        assert store["notes"].search("pawns", k=1)[0].record.title == "On pawns"
        assert store.check().findings == ()
    with vs.open(tmp_path / "kb", kinds=[Note]) as store:
        assert [note.title for note in store.collection(Note)] == ["On kings", "On pawns"]


def changed(**fields: Any) -> type[vs.Record]:
    namespace = {"__annotations__": {name: hint for name, (hint, _) in fields.items()}, "__module__": __name__}
    namespace |= {name: default for name, (_, default) in fields.items() if default is not ...}
    return type(vs.Record)("Thing", (vs.Record,), namespace, table="things")


def test_a_new_optional_field_becomes_a_column_after_a_backup(tmp_path: Path) -> None:
    with vs.open(tmp_path / "kb", embedder=None, kinds=[changed(size=(int, ...))]) as store:
        store["things"].add([{"size": 1}, {"size": 2}])
    with vs.open(tmp_path / "kb", embedder=None, kinds=[changed(size=(int, ...), color=(str, "red"))]) as store:
        assert [(thing.size, thing.color) for thing in store["things"]] == [(1, "red"), (2, "red")]
        store["things"].add({"size": 3, "color": "blue"})
        assert store["things"].find({"color": "blue"}).total == 1
        assert store.check().findings == ()

    backups = list((tmp_path / "kb").glob("*.backup.sqlite"))
    assert len(backups) == 1
    assert sqlite3.connect(backups[0]).execute("SELECT count(*) FROM things").fetchone() == (2,)


@pytest.mark.parametrize("fields", [{}, {"size": (str, ...)}, {"size": (int, ...), "weight": (int, ...)}])
def test_a_changed_field_is_refused_and_named(tmp_path: Path, fields: dict[str, Any]) -> None:
    with vs.open(tmp_path / "kb", embedder=None, kinds=[changed(size=(int, ...))]) as store:
        store["things"].add({"size": 1})

    with pytest.raises(vs.SchemaChangedError, match=r"things\.(size|weight)"):
        vs.open(tmp_path / "kb", embedder=None, kinds=[changed(**fields)])

    with vs.open(tmp_path / "kb", embedder=None) as store:
        assert store["things"].find()[0].size == 1


# -- embedders and spaces ----------------------------------------------------------------------------------------------


def test_another_model_of_the_same_dimension_is_refused_with_both_names(tmp_path: Path) -> None:
    with vs.open(tmp_path / "kb", embedder="hash:64") as store:
        store.concepts.add({"name": "king"})

    def other(texts: list[str]) -> Any:
        return np.ones((len(texts), 64))

    with pytest.raises(vs.SpaceMismatch, match=r"'hash'.*other"):
        vs.open(tmp_path / "kb", embedder=vs.CallableEmbedder(other, model="other", dim=64))


def test_the_same_name_with_other_vectors_is_caught_by_the_probe(tmp_path: Path) -> None:
    def embedder(seed: int) -> vs.CallableEmbedder:
        def embed(texts: list[str]) -> Any:
            return [np.random.default_rng([seed, len(text)]).standard_normal(8) for text in texts]

        return vs.CallableEmbedder(embed, model="mine", dim=8)

    with vs.open(tmp_path / "kb", embedder=embedder(1)) as store:
        store.concepts.add({"name": "king"})
    with vs.open(tmp_path / "kb", embedder=embedder(1)) as store:
        assert store.concepts.search("king").ids == ["default:king"]
    with vs.open(tmp_path / "kb", embedder=embedder(2)) as store:
        with pytest.raises(vs.SpaceMismatch, match="probe"):
            store.concepts.search("king")
        with pytest.raises(vs.SpaceMismatch, match="probe"):
            store.concepts.add({"name": "queen"})
        assert len(store.concepts) == 1


def test_without_an_embedder_texts_are_a_typed_error(open_store: Callable[..., vs.Store]) -> None:
    store = open_store()
    store.concepts.add({"name": "king"}, vectors=[[1.0, 0.0, 0.0]])

    with pytest.raises(vs.EmbedderError, match="embedder=None"):
        store.concepts.search("king")
    assert store.concepts.search([1, 0, 0]).ids == ["default:king"]


def test_a_text_query_against_brought_vectors_of_another_length_is_refused(tmp_path: Path) -> None:
    with vs.open(tmp_path / "kb", embedder=None) as store:
        store.concepts.add({"name": "king"}, vectors=[[1.0, 0.0, 0.0]])
    with vs.open(tmp_path / "kb", embedder="hash:64") as store, pytest.raises(vs.DimensionError, match="3 dimensions"):
        store.concepts.search("king")


def test_known_texts_are_not_embedded_again(tmp_path: Path) -> None:
    seen: list[str] = []

    def embed(texts: list[str]) -> Any:
        seen.extend(texts)
        return [[len(text), 1.0, 2.0] for text in texts]

    with vs.open(tmp_path / "kb", embedder=vs.CallableEmbedder(embed, model="m", dim=3)) as store:
        store.concepts.add([{"name": "king"}, {"name": "queen"}, {"id": "twin", "name": "king"}])
        assert sorted(text for text in seen if not text.startswith("A concept")) == ["king", "queen"]
        seen.clear()
        store.concepts.upsert([{"name": "king", "quality": 0.5}, {"id": "third", "name": "queen"}])
        assert seen == []
        assert (
            store.concepts.vectors(["default:king", "third"]).tolist()[0]
            == store.concepts.vectors(["twin"])[0].tolist()
        )


def test_metrics_are_per_space_and_kept(tmp_path: Path) -> None:
    with vs.open(tmp_path / "kb", embedder=None, metric={"concepts": "l2"}) as store:
        store.concepts.add({"name": "a"}, vectors=[[3.0, 4.0]])
        assert store.concepts.search([0.0, 0.0])[0].distance == 5.0
    with vs.open(tmp_path / "kb", embedder=None) as store:
        assert store.concepts.metric == "l2"
        assert store.concepts.search([3.0, 4.0])[0].score == 1.0
    with pytest.raises(vs.SpaceMismatch, match="metric l2"):
        vs.open(tmp_path / "kb", embedder=None, metric="cosine")


# -- contexts and statistics -------------------------------------------------------------------------------------------


def test_the_same_name_in_two_contexts_stays_two_records(store: vs.Store) -> None:
    store.contexts.add(vs.Context(name="finance", description="money"))
    store.concepts.add(
        [
            {"name": "bank", "context": "finance", "synset": "bank.n.01"},
            {"name": "bank", "context": "geography", "synset": "bank.n.09"},
            {"name": "bank", "context": "geography", "synset": "bank.n.10"},
        ]
    )

    assert [context.id for context in store.contexts] == ["default", "finance", "geography"]
    assert [concept.id for concept in store.concepts.find({"name": "Bank", "context": "geography"})] == [
        "geography:bank:bank.n.09",
        "geography:bank:bank.n.10",
    ]
    records = store.context_info("finance")["records"]
    assert {kind: count for kind, count in records.items() if count} == {"concepts": 1}
    assert set(records) == set(store.kinds) - {"contexts"}
    with pytest.raises(vs.NotFound, match="geography"):
        store.context_info("chemistry")


def test_statistics_equal_counts_after_a_random_workload(store: vs.Store) -> None:
    random = np.random.default_rng(3)
    live: dict[str, float] = {}
    for number in range(120):
        name = f"c{random.integers(0, 60)}"
        if random.random() < 0.3 and name in live:
            store.concepts.delete(name)
            del live[name]
        else:
            quality = float(random.random())
            store.concepts.upsert({"id": name, "name": f"n{number}", "quality": quality})
            live[name] = quality
    found = store.stats()["kinds"]

    assert found["concepts"]["records"] == len(live) == found["concepts"]["vectors"]
    assert found["concepts"]["means"]["quality"] == pytest.approx(np.mean(list(live.values())))
    assert found["analogies"]["records"] == found["analogies"]["vectors"] == 0
    assert found["analogies"]["means"]["quality"] is None


# -- lightness ---------------------------------------------------------------------------------------------------------


def test_importing_is_light_and_opening_imports_no_torch(tmp_path: Path) -> None:
    done = run_python(
        """
        import sys, time
        started = time.perf_counter()
        import vectorstore as vs
        seconds = time.perf_counter() - started
        heavy = [name for name in ("torch", "sklearn", "fastapi", "pandas", "faiss") if name in sys.modules]
        assert not heavy, heavy
        with vs.open(sys.argv[1]) as store:
            store.concepts.add({"name": "king"}, vectors=[[0.0] * 383 + [1.0]])
            assert store.concepts.search([0.0] * 383 + [1.0]).ids == ["default:king"]
        assert "torch" not in sys.modules and "sklearn" not in sys.modules
        print(seconds)
        """,
        str(tmp_path / "kb"),
    )

    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 0.35


def test_every_exported_name_exists() -> None:
    assert [name for name in vs.__all__ if not hasattr(vs, name)] == []


def test_a_custom_clock_stamps_records(open_store: Callable[..., vs.Store], clock: Clock) -> None:
    store = open_store(embedder="hash")
    store.concepts.add({"name": "king"})
    created = clock.now
    clock.move(hours=1)
    store.concepts.update({"id": "default:king", "quality": 0.5})
    king = store.concepts.get("default:king")

    assert king is not None
    assert (king.created_at, king.updated_at, king.version) == (created, clock.now, 2)


# -- commits whose outcome is unknown ----------------------------------------------------------------------------------


@pytest.mark.parametrize("happened", [True, False])
def test_an_unknown_outcome_removes_no_file_that_may_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, happened: bool
) -> None:
    """A COMMIT that raised may have happened: the staged segment stays, and the next open finds out."""
    from vectorstore.storage.catalog import Catalog

    def failing(self: Catalog, connection: Any) -> None:
        connection.execute("COMMIT" if happened else "ROLLBACK")
        raise vs.OutcomeUnknown("the disk said no, or yes")

    data = clustered(1500, 8)
    with vs.open(tmp_path / "kb", embedder=None) as store:
        with monkeypatch.context() as patch:
            patch.setattr(Catalog, "_commit", failing)
            with pytest.raises(vs.OutcomeUnknown):
                store.concepts.add([{"id": f"c{n}", "name": "x"} for n in range(1500)], vectors=data)
        assert len(list((tmp_path / "kb" / "embeddings").rglob("*.npz"))) == 1
    with vs.open(tmp_path / "kb", embedder=None) as store:
        assert len(store.concepts) == (1500 if happened else 0)
        assert store.check().findings == ()
        if happened:
            assert store.concepts.search(data[3], k=1).ids == ["c3"]
        else:
            store.concepts.add([{"id": f"c{n}", "name": "x"} for n in range(1500)], vectors=data)
            assert store.sweep(0.0) != []
        assert store.check().findings == () and store.check().litter == ()
