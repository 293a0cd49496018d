"""Hostile input: no text reaches SQL as anything but a value, nothing in a store or a file runs, every refusal is typed."""

from __future__ import annotations

import gzip
import hashlib
import io
import itertools
import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vectorstore as vs
from tests.hostile import TEXTS, statements, tamed, watched

NUMBERS = itertools.count()

# -- texts -------------------------------------------------------------------------------------------------------------


VERBS: dict[str, Callable[[vs.Store, str], Any]] = {
    "get": lambda store, text: store.concepts.get(text),
    "get_many": lambda store, text: store.concepts.get_many([text, "b"]),
    "in": lambda store, text: text in store.concepts,
    "id of a record": lambda store, text: store.concepts.upsert({"id": text, "name": "x"}),
    "name": lambda store, text: store.concepts.upsert({"id": "new", "name": text}),
    "definition": lambda store, text: store.concepts.upsert({"id": "new", "name": "x", "definition": text}),
    "tag": lambda store, text: store.concepts.upsert({"id": "new", "name": "x", "tags": [text]}),
    "extra": lambda store, text: store.concepts.upsert({"id": "new", "name": "x", "extra": {"k": text}}),
    "key in extra": lambda store, text: store.concepts.upsert({"id": "new", "name": "x", "extra": {text: 1}}),
    "context of a record": lambda store, text: store.concepts.upsert({"id": "new", "name": "x", "context": text}),
    "update": lambda store, text: store.concepts.update({"id": text, "domain": "x"}),
    "delete": lambda store, text: store.concepts.delete([text]),
    "restore": lambda store, text: store.concepts.restore([text]),
    "purge": lambda store, text: store.concepts.purge([text]),
    "search": lambda store, text: store.concepts.search(text, k=2),
    "search by id": lambda store, text: store.concepts.search(vs.Id(text), k=2),
    "text search": lambda store, text: store.concepts.search(text, k=2, mode="text", snippets=True),
    "query language": lambda store, text: store.concepts.search(text, k=2, mode="text", syntax="query"),
    "hybrid": lambda store, text: store.concepts.search(text, k=2, mode="hybrid"),
    "value in a filter": lambda store, text: store.concepts.count({"name": text}),
    "values in a filter": lambda store, text: store.concepts.count(
        {"or": [{"domain__in": [text]}, {"tags__has_any": [text]}]}
    ),
    "value at a path": lambda store, text: store.concepts.count({"extra.k": text}),
    "pattern": lambda store, text: store.concepts.count({"name__glob": text}),
    "part of a name": lambda store, text: store.concepts.count({"name__icontains": text}),
    "key in a filter": lambda store, text: store.concepts.count({text: 1}),
    "path in a filter": lambda store, text: store.concepts.count({f"extra.{text}": 1}),
    "operator": lambda store, text: store.concepts.count({f"name__{text}": 1}),
    "order": lambda store, text: store.concepts.find(order=text),
    "page": lambda store, text: store.concepts.find(after=text),
    "facets": lambda store, text: store.concepts.facets(text),
    "facets at a path": lambda store, text: store.concepts.facets(f"extra.{text}"),
    "facets of a query": lambda store, text: store.concepts.facets("domain", query=text),
    "space": lambda store, text: store.concepts.search("x", space=text),
    "groups": lambda store, text: store.concepts.search("x", group_by=text),
    "outside": lambda store, text: store.concepts.search("x", outside=text),
    "kind": lambda store, text: store.collection(text).count(),
    "lookup": lambda store, text: store.concepts.lookup(text),
    "senses": lambda store, text: store.concepts.senses(text),
    "complete": lambda store, text: store.analogies.complete(text, "king", "queen", k=1),
    "mapping": lambda store, text: store.analogies.mapping(text),
    "related": lambda store, text: store.concepts.related("a", text),
    "context": lambda store, text: store.contexts.upsert({"id": text, "name": text}),
    "context to save": lambda store, text: store.contexts.save(
        text, store._catalog.root.parent / f"saved{next(NUMBERS)}"
    ),
    "recipe": lambda store, text: store.rebuild("concepts", text),
    "clustering": lambda store, text: store.clusters.fit("concepts", text, 2),
    "state": lambda store, text: store.state(text).get("x"),
    "model": lambda store, text: store.models.get(text),
    "workflow": lambda store, text: store.workflows.get(text),
    "snapshot": lambda store, text: store.as_of(text),
    "recall": lambda store, text: store.memories.recall(text, 2),
    "pattern of a skill": lambda store, text: store.skills.upsert({"id": "s", "name": "s", "trigger_pattern": text}),
    "triggers": lambda store, text: store.skills.triggered(text),
    "lattice": lambda store, text: store.lattice.resolve(text, "b"),
    "import": lambda store, text: store.import_(text),
}
"""Every place that takes a text."""


@pytest.fixture(scope="module")
def kb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[vs.Store, Path]]:
    folder = tmp_path_factory.mktemp("texts")
    with vs.open(folder / "kb", embedder="hash:16", auto_publish=False) as store:
        store.concepts.add([{"id": "a", "name": "king", "domain": "d"}, {"id": "b", "name": "queen", "tags": ["t"]}])
        store.memories.add({"id": "m", "content": "a leak"})
        yield store, folder
        assert store.check().findings == ()
        assert {"a", "b"} <= {record.id for record in store.concepts}, "what nobody named is gone"


@pytest.mark.parametrize("verb", VERBS)
def test_no_text_is_sql_and_every_refusal_is_typed(
    verb: str, kb: tuple[vs.Store, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oracle: with values taken out, a hostile text runs no statement that a harmless one does not run."""
    store, folder = kb
    monkeypatch.setattr("vectorstore.trail._PAUSE", 0.0)  # else a refusal may wait, and be told among the others
    call = VERBS[verb]
    harmless = ["plain", "two words", "a", "b", "default", "domain", "t OR u", "mon*", "eq", "d.x", "1"]
    # Long texts are answered in more than one way (by their rarest words, say); so are those that name nothing.
    harmless += ["word " * 400, "plain", "x-1:2", "zzzz", "x" * 300, "日本", "", "?"]
    expected: set[str] = set()
    with statements(store) as seen:
        _tried(VERBS["key in a filter"], store, "nothing")  # a refusal is told to the trail
        for text in harmless:
            _tried(call, store, text)
        expected |= seen
    with statements(store) as seen, watched(folder) as events:
        for text in TEXTS:
            error = _tried(call, store, text)
            assert error is None or tamed(error), f"{text!r}: {type(error).__name__}: {error}"
    assert seen - expected == set(), sorted(seen - expected)[0]
    assert [event for event in events if not event.startswith(("exec", "compile"))] == []
    assert not (folder / "evil.db").exists()


def _tried(call: Callable[[vs.Store, str], Any], store: vs.Store, text: str) -> BaseException | None:
    try:
        call(store, text)
    except Exception as error:
        return error
    return None


def test_a_nul_in_an_id_names_nobody_else(kb: tuple[vs.Store, Path]) -> None:
    """SQLite's JSON ends a text at NUL, so that `a\\0x` once deleted the record `a`."""
    store, _ = kb
    for text in ("a\0x", "b\0", "a\0b"):
        assert store.concepts.get(text) is None and text not in store.concepts
        assert store.concepts.delete([text]) == 0 and store.concepts.restore([text]) == 0
        assert store.concepts.count({"id__in": ["b"]}) == 1
        with pytest.raises(vs.NotFound):
            store.concepts.update({"id": text, "domain": "x"})
        with pytest.raises(vs.NotFound):
            store.analogies.complete(text, "king", "queen")
    assert {"a", "b"} <= {record.id for record in store.concepts}


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "\ud800"], ids=ascii)
def test_names_that_no_file_can_have_are_refused(name: str, store: vs.Store, tmp_path: Path) -> None:
    for call in (
        lambda: vs.open(tmp_path / name),
        lambda: vs.Backups(tmp_path / name).list(),
        lambda: vs.restore(tmp_path / name, tmp_path / "kb"),
        lambda: vs.restore(tmp_path, tmp_path / name),
        lambda: store.import_(tmp_path / name),
        lambda: store.export(tmp_path / f"{name}.jsonl"),
        lambda: store.contexts.save("default", tmp_path / name),
        lambda: store.contexts.load(tmp_path / name),
        lambda: store.rebuild("concepts", str(tmp_path / f"{name}.toml")),
        lambda: store.models.put("x", tmp_path / name),
    ):
        with pytest.raises(vs.VectorstoreError):
            call()


def test_no_field_takes_what_a_filter_could_not_find_again(store: vs.Store) -> None:
    for extra in ({"k": "a\0b"}, {"a\0": 1}, {"k": ["x", {"y": "\0"}]}, {"k": "\ud800"}):
        with pytest.raises(vs.ValidationError, match=r"NUL|surrogate"):
            store.concepts.add({"id": "x", "name": "x", "extra": extra})
    store.concepts.add({"id": "x", "name": "x", "extra": {"k": "a\\u0000b"}})  # six letters, no NUL
    assert store.concepts.count({"extra.k": "a\\u0000b"}) == 1
    for moment in (2**62, -(2**62), "9999-12-31T23:59:59-23:59"):
        with pytest.raises(vs.ValidationError, match="expires_at"):
            store.concepts.add({"name": "y", "expires_at": moment})


@pytest.mark.parametrize("number", [0, -1, 2**31, 2**63, 2**70, 1.5, True, "3", float("nan"), float("inf"), None])
def test_absurd_numbers_are_refused_before_any_work(number: Any, store: vs.Store) -> None:
    store.concepts.add([{"name": "king"}, {"name": "queen"}])
    concepts = store.concepts
    for call in (
        lambda: concepts.search("x", k=number),
        lambda: concepts.search_many(["x"], k=number),
        lambda: concepts.search("king", k=number, mode="text"),
        lambda: store.analogies.complete("king", "queen", "king", k=number),
        lambda: store.memories.recall("x", number),
    ):
        with pytest.raises(vs.ValidationError, match=r"k\b"):
            call()


@pytest.mark.parametrize(
    "vector",
    [
        *([number] * 16 for number in (float("nan"), float("inf"), 1e300, 1e38, 1e-45, 5e-324, 0, -0.0, "a", None)),
        *([1.0] * length for length in (0, 1, 15, 17, 70_000)),
        *(np.ones(16, dtype=complex), np.full(16, np.finfo("f4").max), [[1] * 16] * 2, {"x": 1}, 5, b"x"),
        *(["1"] * 16, [1] * 15 + ["1"], np.array(["1"] * 16, object), np.ones(16, "M8[s]"), np.ones(16, "S1")),
    ],
    ids=str,
)
def test_vectors_that_are_none_are_refused(vector: Any, store: vs.Store) -> None:
    store.concepts.add({"id": "a", "name": "king"}, vectors=[[1.0] * 64])
    with vs.open(":memory:", embedder=None) as other:
        other.concepts.add({"id": "a", "name": "king"}, vectors=[[1.0] * 16])
        for call in (
            lambda: other.concepts.search(vector),
            lambda: other.concepts.search_many([vector]),
            lambda: other.concepts.add({"name": "x"}, vectors=[vector]),
        ):
            with pytest.raises((vs.ValidationError, vs.EmbedderError)):
                call()
        assert len(other.concepts) == 1


# -- stores and files that somebody else made --------------------------------------------------------------------------


class Call:
    """Pickled, it is a call."""

    def __reduce__(self) -> Any:
        return os.system, ("touch /tmp/vectorstore-test-code-ran",)


def objects(**members: Any) -> bytes:
    """An NPZ with a pickle in it."""
    stream = io.BytesIO()
    array = np.empty(1, dtype=object)
    array[0] = Call()
    np.savez(stream, **{**members, "more": array})
    return stream.getvalue()


def packed(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return stream.getvalue()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed store with a segment, an index, a fit of clusters with its model file, a blob and a state."""
    root = tmp_path_factory.mktemp("whole") / "kb"
    with vs.open(root, embedder="hash:32", auto_publish=False) as store:
        store.concepts.add([{"id": f"c{n}", "name": f"name {n}", "definition": f"about {n % 9}"} for n in range(600)])
        store.flush()
        store.rebuild("concepts", "simhash512")
        store.clusters.fit("concepts", "kmeans", 3)
        store.models.put("blob", b"just bytes")
        state = store.state("agent")
        state["x"] = [1, 2]
        state.save()
    return root


def run_sql(root: Path, *statements: str) -> None:
    """Change a catalog in a process of its own, as its owner would."""
    code = (
        "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "for s in sys.argv[2:]: c.execute(s)\nc.execute('PRAGMA wal_checkpoint(TRUNCATE)'); c.close()\n"
    )
    subprocess.run([sys.executable, "-S", "-c", code, str(root / "catalog.sqlite"), *statements], check=True)


def replace(root: Path, table: str, folder: str, data: bytes) -> None:
    """Put other bytes in the place of a file, and have the catalog vouch for them."""
    path = next(each for each in sorted((root / folder).rglob("*")) if each.is_file() and each.suffix != ".bin")
    path.write_bytes(data)
    seal = hashlib.sha256(data).hexdigest()
    run_sql(root, f"UPDATE {table} SET sha256 = '{seal}', size = {len(data)}, stat = '' WHERE file = '{path.name}'")


def elsewhere(root: Path, table: str, folder: str, name: str) -> None:
    """A file of a store moved out of it, and the catalog naming it there: compaction would unlink it."""
    path = next(each for each in sorted((root / folder).rglob("*")) if each.is_file() and each.suffix != ".bin")
    path.rename(root.parent / "victim")
    run_sql(root, f"UPDATE {table} SET file = '{name}', stat = '' WHERE file = '{path.name}'")


EVIL_KIND = [{"name": "id", "type": "text"}, {"name": "__reduce__", "type": "text"}]


def declare(root: Path, name: str, declaration: str) -> None:
    quoted = [text.replace("'", "''") for text in (name, declaration)]
    run_sql(
        root,
        "INSERT INTO kinds(name, signature, declaration, json_schema) "
        f"VALUES ('{quoted[0]}', '{{}}', '{quoted[1]}', '{{}}')",
    )


HUGE = (
    b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776, 32), }"
    + b" " * 44
    + b"\n"
)
STORES: dict[str, Callable[[Path], Any]] = {
    "pickle in a segment": lambda root: replace(root, "segments", "embeddings", objects(ids=np.array(["a"]))),
    "pickle as a segment": lambda root: replace(root, "segments", "embeddings", pickle.dumps(Call())),
    "bomb as a segment": lambda root: replace(
        root, "segments", "embeddings", packed(ids=b"", vectors=HUGE + bytes(1 << 26), norms=b"")
    ),
    "header of 128 TB": lambda root: replace(root, "segments", "embeddings", packed(ids=b"", vectors=HUGE, norms=b"")),
    "header that is a program": lambda root: replace(
        root, "segments", "embeddings", packed(vectors=b"\x93NUMPY\x01\x00v\x00" + b"__import__('os').system('x')".ljust(117) + b"\n")
    ),
    "pickle as an index": lambda root: replace(root, "artifacts", "indexes", pickle.dumps(Call())),
    "index of nothing": lambda root: replace(root, "artifacts", "indexes", b"IxFI" + b"\xff" * 4000),
    "pickle as a model": lambda root: replace(root, "models", "models", pickle.dumps(Call())),
    "pickle as a state": lambda root: run_sql(
        root,
        f"UPDATE state_saves SET data = x'{pickle.dumps(Call()).hex()}', size = {len(pickle.dumps(Call()))}, "
        f"sha256 = '{hashlib.sha256(pickle.dumps(Call())).hexdigest()}'",
    ),
    "trigger": lambda root: run_sql(
        root, "CREATE TRIGGER evil AFTER UPDATE ON state BEGIN DELETE FROM vectors; END"
    ),
    "trigger with our name": lambda root: run_sql(
        root, "CREATE TRIGGER _past_concepts_u AFTER UPDATE ON state BEGIN DELETE FROM vectors; END"
    ),
    "view in the place of a table": lambda root: run_sql(
        root, "ALTER TABLE pending RENAME TO hidden", "CREATE VIEW pending AS SELECT * FROM hidden"
    ),
    "kind with a hostile name": lambda root: declare(root, 'x"; DROP TABLE concepts; --', "[]"),
    "kind with a hostile field": lambda root: declare(root, "evil", json.dumps(EVIL_KIND)),
    "kind of another type": lambda root: declare(root, "evil", '[{"name": "a", "type": "__import__"}]'),
    "kind that is no JSON": lambda root: declare(root, "evil", "__import__('os').system('x')"),
    "kind that is nested": lambda root: declare(root, "evil", "[" * 50_000),
    "kind that is a number": lambda root: declare(root, "evil", "17"),
    "recipe that is none": lambda root: run_sql(root, "UPDATE artifacts SET recipe = '{\"name\": \"../../x\"}'"),
    "recipe that is no JSON": lambda root: run_sql(root, "UPDATE artifacts SET recipe = 'import os'"),
    "segment that lies elsewhere": lambda root: elsewhere(root, "segments", "embeddings", "../../../victim"),
    "index that lies elsewhere": lambda root: elsewhere(root, "artifacts", "indexes", "../../../victim"),
    "model that lies elsewhere": lambda root: elsewhere(root, "models", "models", "../../victim"),
    "space that lies elsewhere": lambda root: (
        shutil.copytree(root / "embeddings" / "concepts", root.parent / "victims"),
        run_sql(root, "UPDATE spaces SET name = '../../victims' WHERE name = 'concepts'"),
    ),
    "segment that is a link": lambda root: (
        (path := next((root / "embeddings").rglob("*.npz"))).rename(root.parent / "moved"),
        path.symlink_to(root.parent / "moved"),
    ),
    "segment that is a pipe": lambda root: (
        (path := next((root / "embeddings").rglob("*.npz"))).unlink(),
        os.mkfifo(path),
    ),
}  # fmt: skip


def use(root: Path) -> list[BaseException]:
    """Everything that reads what is in a store; the errors."""
    errors: list[BaseException] = []
    try:
        store = vs.open(root, embedder="hash:32", auto_publish=False)
    except Exception as error:
        return [error]
    with store:
        for call in (
            lambda: store.concepts.search("name 5", k=3, recall=0.9),
            lambda: store.concepts.search("name 5", k=3, mode="hybrid"),
            lambda: [record.id for record in store.concepts],
            lambda: [store.collection(kind).count() for kind in store.kinds],
            lambda: store.clusters.model("concepts"),
            lambda: store.clusters.assign(),
            lambda: store.models.get("blob"),
            lambda: store.state("agent").get("x"),
            lambda: store.check(),
            lambda: store.repair(dry_run=True),
            lambda: store.compact(),
            lambda: store.concepts.upsert({"id": "c1", "name": "again"}),
        ):
            try:
                call()
            except Exception as error:
                errors.append(error)
    return errors


@pytest.mark.timeout(60)
@pytest.mark.parametrize("harm", STORES)
def test_nothing_in_a_store_runs_and_every_error_is_typed(harm: str, whole: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(whole, tmp_path / "warm" / "kb"))
    assert use(root) == []  # what is imported is imported now
    root = Path(shutil.copytree(whole, tmp_path / "kb"))
    STORES[harm](root)
    outside = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    with watched(tmp_path / "kb") as events:
        errors = use(root)
    assert [error for error in errors if not tamed(error)] == []
    assert [event for event in events if not _ours(event)] == []
    assert not Path("/tmp/vectorstore-test-code-ran").exists()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir() if path.name != "kb"} == {
        path: when for path, when in outside.items() if path.name != "kb"
    }


def _ours(event: str) -> bool:
    """Classes of kinds that the store declares are made by pydantic, and dataclasses by exec of their own text."""
    return event.startswith(("exec (<code object", "compile"))


def test_a_foreign_trigger_never_runs(whole: Path, tmp_path: Path) -> None:
    """SQL in the catalog would run with our own writes: they are refused until it is put aside."""
    root = Path(shutil.copytree(whole, tmp_path / "kb"))
    run_sql(
        root,
        "CREATE TRIGGER evil AFTER UPDATE ON state BEGIN DELETE FROM vectors; END",
        "CREATE TRIGGER _past_concepts_update AFTER UPDATE ON concepts BEGIN DELETE FROM concepts_tags; END",
    )
    with vs.open(root, embedder="hash:32", auto_publish=False) as store:
        before = store.concepts.search("name 5", k=5).ids
        for write in (
            lambda: store.concepts.upsert({"id": "c1", "name": "again"}),
            lambda: store.concepts.delete("c1"),
            lambda: store.relations.upsert({"source": "c1", "type": "x", "target": "c2"}),
        ):
            with pytest.raises(vs.CorruptError, match="trigger '(evil|_past_concepts_update)' was not made by"):
                write()
        assert len(store.concepts) == 600 and store.concepts.search("name 5", k=5).ids == before
        assert {finding.where for finding in store.check().findings} == {
            "trigger evil",
            "trigger _past_concepts_update",
        }
        assert store.repair(dry_run=False).remaining == ()
        assert {aside.id for aside in store.quarantined} == {"evil", "_past_concepts_update"}
        store.concepts.upsert({"id": "c1", "name": "again"})
        assert len(store.concepts) == 600 and store.check().findings == ()


def test_a_purge_leaves_no_byte_of_a_text_behind(tmp_path: Path) -> None:
    """SQLite's secure_delete overwrites what is deleted, but not what a split of a page has left between its cells."""
    texts = {f"c{n}": f"{n} marker-{n * 2654435761 % 2**32:08x}-of-a-secret" for n in range(1000)}
    with vs.open(tmp_path / "kb", embedder=None, auto_publish=False) as store:
        vectors = np.random.default_rng(0).standard_normal((1000, 32))
        store.concepts.add([{"id": i, "name": "x", "definition": text} for i, text in texts.items()], vectors=vectors)
    gone = list(texts)[::2]
    with vs.open(tmp_path / "kb", embedder=None, auto_publish=False) as store:
        store.concepts.delete(gone)
        assert store.concepts.purge(gone) == 500
        assert len(store.concepts) == 500 and store.check().findings == ()
    data = b"\0".join(path.read_bytes() for path in (tmp_path / "kb").rglob("*") if path.is_file())
    assert [i for i in gone if texts[i].encode() in data] == []
    assert all(texts[i].encode() in data for i in texts if i not in set(gone))


def test_a_packed_bomb_is_no_state(store: vs.Store, tmp_path: Path) -> None:
    """A state of a few kilobytes that would fill the memory."""
    path = tmp_path / "bomb.state"
    path.write_bytes(gzip.compress(b'{"x": "' + b" " * (80 << 20) + b'"}'))
    state = store.state("agent")
    with pytest.raises(vs.CorruptError, match="200 times larger"):
        state.read(path)
