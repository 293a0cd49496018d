"""Planted faults: each is found, none is invented, what is derived is mended; and a failing disk costs one call only."""

from __future__ import annotations

import errno
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

import vectorstore as vs
from tests.crash.model import Model
from tests.crash.points import FILES
from tests.crash.verbs import Step, add, delete, names, purge, rebuild, restore, update, upkeep
from tests.crash.verify import answers, litter, state_of
from vectorstore import files
from vectorstore.storage.catalog import Catalog
from vectorstore.sync import stage

WORDS = ["heat", "flow", "tone", "king", "wave", "graph", "cell", "stone", "river", "light"]


def opened(root: Path, **options: Any) -> vs.Store:
    return vs.open(root, embedder="hash:64", auto_publish=False, **options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed store with two segments, an index, waiting vectors, a deleted record, tags and text."""
    root = tmp_path_factory.mktemp("whole") / "kb"
    with opened(root) as store:
        for start, count in ((0, 60), (60, 40), (100, 5)):
            store.concepts.add(
                [
                    {
                        "id": f"c{n:03d}",
                        "name": f"{WORDS[n % 10]} {n}",
                        "definition": f"about {WORDS[n // 10 % 10]} and {WORDS[n * 7 % 10]} number {n}",
                        "tags": ["even", "all"] if n % 2 == 0 else ["all"],
                    }
                    for n in range(start, start + count)
                ]
            )
            if count > 5:
                store.flush()
            if start == 60:
                store.rebuild("concepts", "simhash512")
        store.concepts.delete(["c003", "c104"])
    return root


@pytest.fixture
def root(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "kb"))


def sql(root: Path, *statements: str) -> str:
    """Run statements on the catalog in a process of its own; the last one's rows, one a line."""
    code = (
        "import sqlite3, sys\n"
        "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "for s in sys.argv[2:]: rows = c.execute(s).fetchall()\n"
        "print('\\n'.join('|'.join(map(str, r)) for r in rows))\n"
        "c.execute('PRAGMA wal_checkpoint(TRUNCATE)'); c.close()\n"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code, str(root / "catalog.sqlite"), *statements], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def segment(root: Path, place: int = 0) -> Path:
    name = sql(root, "SELECT file FROM segments ORDER BY id").splitlines()[place]
    return root / "embeddings" / "concepts" / name


def index(root: Path) -> Path:
    return next((root / "indexes" / "concepts").iterdir())


def flip(path: Path, share: float) -> None:
    data = bytearray(path.read_bytes())
    data[min(int(len(data) * share), len(data) - 1)] ^= 16
    path.write_bytes(data)


def cut(path: Path, share: float) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def swap_index(root: Path) -> None:
    """Another store's index of the same shape, with a catalog row that vouches for it."""
    with vs.open(root.parent / "other", embedder=None, auto_publish=False) as other:
        vectors = np.random.default_rng(3).standard_normal((100, 64))
        other.concepts.add([{"name": f"n{n}"} for n in range(100)], vectors=vectors)
        other.rebuild("concepts", "simhash512")
    path = index(root)
    path.write_bytes(index(root.parent / "other").read_bytes())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    sql(root, f"UPDATE artifacts SET sha256 = '{digest}', size = {path.stat().st_size}, stat = ''")


NEW_VECTOR = "INSERT INTO vectors(vid, space, record, source, confidence, updates) SELECT max(vid) + 1, 1,"

DERIVED: dict[str, tuple[Callable[[Path], object], set[str]]] = {
    "truncated index": (lambda root: cut(index(root), 0.5), {"index"}),
    "empty index": (lambda root: cut(index(root), 0.0), {"index"}),
    "deleted index": (lambda root: index(root).unlink(), {"index"}),
    "flipped byte in the index": (lambda root: flip(index(root), 0.6), {"index"}),
    "swapped index": (swap_index, {"index"}),
    "index over segments that are gone": (
        lambda root: sql(root, "UPDATE artifacts SET segments = '[77, 78]'"),
        {"index"},
    ),
    "missing tag row": (lambda root: sql(root, "DELETE FROM concepts_tags WHERE tag = 'even' AND row = 5"), {"text"}),
    "tag row too many": (lambda root: sql(root, "INSERT INTO concepts_tags(tag, row) VALUES ('made up', 5)"), {"text"}),
    "broken full text": (
        lambda root: sql(root, "INSERT INTO concepts_fts(rowid, name, definition, lemmas) VALUES (7, 'x', 'y', '[]')"),
        {"text"},
    ),
    "lost full text": (lambda root: sql(root, "DELETE FROM concepts_fts_data WHERE id > 10"), {"text"}),
}
LOST: dict[str, tuple[Callable[[Path], object], set[str]]] = {
    "missing segment": (lambda root: segment(root).unlink(), {"segments"}),
    "both segments missing": (lambda root: [segment(root, place).unlink() for place in (0, 1)], {"segments"}),
    "truncated segment": (lambda root: cut(segment(root, 1), 0.9), {"segments"}),
    "empty segment": (lambda root: cut(segment(root), 0.0), {"segments"}),
    **{
        f"flipped byte at {share:.0%} of a segment": (
            lambda root, share=share: flip(segment(root), share),
            {"segments"},
        )
        for share in (0.0, 0.02, 0.5, 0.9, 0.97, 1.0)
    },
    "swapped segments": (
        lambda root: (
            shutil.copy(segment(root), root / "aside"),
            shutil.copy(segment(root, 1), segment(root)),
            (root / "aside").unlink(),
        ),
        {"segments"},
    ),
}
SOURCES: dict[str, tuple[Callable[[Path], object], set[str]]] = {
    "flipped row": (lambda root: sql(root, "UPDATE concepts SET pos = 'noun' WHERE id = 'c010'"), {"rows"}),
    "flipped text": (
        lambda root: sql(root, "UPDATE concepts SET definition = 'x' WHERE id = 'c010'"),
        {"rows", "text"},
    ),
    "vid of no record": (lambda root: sql(root, f"{NEW_VECTOR} 99999, 'caller', 1, 0 FROM vectors"), {"vectors"}),
    "two live vids of a record": (lambda root: sql(root, f"{NEW_VECTOR} 10, 'caller', 1, 0 FROM vectors"), {"vectors"}),
    "forgotten vid": (lambda root: sql(root, "DELETE FROM vectors WHERE vid = 12"), {"vectors"}),
    "live vid of a deleted record": (
        lambda root: sql(root, "UPDATE vectors SET retired = NULL WHERE vid = 4"),
        {"vectors"},
    ),
    "lost waiting vector": (
        lambda root: sql(root, "DELETE FROM pending WHERE vid = (SELECT min(vid) FROM pending)"),
        {"vectors"},
    ),
    "waiting vector that is not a number": (
        lambda root: sql(root, f"UPDATE pending SET vector = x'{np.full(64, np.nan, '<f4').tobytes().hex()}'"),
        {"vectors"},
    ),
    "a row of segments less": (
        lambda root: sql(root, "DELETE FROM segments WHERE id = (SELECT min(id) FROM segments)"),
        {"vectors", "index"},
    ),
    "foreign trigger": (
        lambda root: sql(root, "CREATE TRIGGER evil AFTER UPDATE ON concepts BEGIN DELETE FROM vectors; END"),
        {"schema"},
    ),
    "context that is gone": (lambda root: sql(root, "DELETE FROM contexts"), {"catalog"}),
    "segment of a later commit": (
        lambda root: shutil.copy(segment(root), root / "embeddings/concepts" / f"{99999:012d}-0123456789abcdef.npz"),
        {"files"},
    ),
}


def layers(store: vs.Store) -> set[str]:
    return {finding.layer for finding in store.check().findings}


def contents(root: Path) -> list[str]:
    """Everything a dry run must leave alone: files by digest, rows by value."""
    tables = ["concepts", "concepts_tags", "vectors", "pending", "segments", "artifacts", "spaces", "kinds"]
    dump = [sql(root, f"SELECT * FROM {table} ORDER BY 1, 2") for table in tables]
    data = [path for path in sorted(root.rglob("*")) if path.is_file() and "catalog" not in path.name]
    return dump + [f"{path} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in data]


def test_a_check_leaves_nothing_behind(root: Path) -> None:
    with opened(root) as store:
        before = store.stats()["seq"], store.trail.anchor()
        assert store.check().findings == ()
        assert (store.stats()["seq"], store.trail.anchor()) == before


def test_nothing_is_found_where_nothing_is_wrong(root: Path) -> None:
    with opened(root) as store:
        report = store.check()

        assert (report.findings, report.litter) == ((), ())
        assert (report.records, report.vectors, report.segments, report.indexes) == (105 + 1, 103, 2, 1)
        assert store.repair().actions == ()


@pytest.mark.parametrize("fault", [*DERIVED, *LOST, *SOURCES])
def test_a_planted_fault_is_found_and_no_other(fault: str, root: Path) -> None:
    plant, expected = {**DERIVED, **LOST, **SOURCES}[fault]
    plant(root)
    with opened(root) as store:
        assert layers(store) == expected


@pytest.mark.parametrize("fault", list(DERIVED))
def test_answers_stay_exact_while_something_derived_is_broken(fault: str, root: Path, whole: Path) -> None:
    DERIVED[fault][0](root)
    with opened(whole, read_only=True) as healthy, opened(root) as broken:
        for word in WORDS:
            expected = healthy.concepts.search(word, exact=True)
            found = broken.concepts.search(word)
            assert [(hit.id, hit.score) for hit in found] == [(hit.id, hit.score) for hit in expected]


@pytest.mark.parametrize("fault", [*DERIVED, *LOST])
def test_repair_mends_what_can_be_made_again_after_a_dry_run_that_changes_nothing(
    fault: str, root: Path, whole: Path
) -> None:
    ({**DERIVED, **LOST})[fault][0](root)
    before = contents(root)
    with opened(root) as store:
        plan = store.repair()
    assert plan.actions and plan.dry_run
    assert contents(root) == before

    with opened(root) as store:
        done = store.repair(dry_run=False)
        assert (done.remaining, done.actions) == ((), plan.actions)
        assert store.check().findings == () and store.check().litter == ()
        assert len(store.concepts) == 103
        with opened(whole, read_only=True) as healthy:
            for word in WORDS:
                expected = healthy.concepts.search(word, k=5, exact=True)
                found = store.concepts.search(word, k=5, exact=True)
                assert [hit.score for hit in found] == [hit.score for hit in expected]
                assert store.concepts.search(word, mode="text").ids == healthy.concepts.search(word, mode="text").ids
            assert store.concepts.count({"tags__has": "even"}) == healthy.concepts.count({"tags__has": "even"})
    with opened(root, read_only=True) as store:
        assert store.check().findings == ()


MENDED = [name for name in SOURCES if name not in ("segment of a later commit",)]


@pytest.mark.parametrize("fault", MENDED)
def test_a_fault_of_a_source_is_mended_or_put_aside(fault: str, root: Path) -> None:
    SOURCES[fault][0](root)
    with opened(root) as store:
        plan = store.repair()
        done = store.repair(dry_run=False)
        assert plan.actions == done.actions != () and done.remaining == ()
        assert store.check().findings == () and store.check().litter == ()
        aside = {(each.kind, each.id) for each in store.quarantined}
        damaged = {"flipped row": {("concepts", "c010")}, "flipped text": {("concepts", "c010")}}
        assert aside == {**damaged, "foreign trigger": {("schema", "evil")}}.get(fault, set())
        assert len(store.concepts) == 103 - (fault in damaged)
        assert len(store.concepts.search("heat", k=200, exact=True)) == len(store.concepts)
        store.concepts.upsert({"id": "c010", "name": "king", "definition": "anew"})
        assert store.concepts.search("king: anew", k=1).ids == ["c010"] and store.check().findings == ()
    with opened(root, read_only=True) as store:
        assert store.check().findings == ()


@pytest.mark.parametrize("fault", ["a row of segments less", "forgotten vid", "two live vids of a record"])
def test_vectors_that_are_still_somewhere_are_mended_without_an_embedder(fault: str, root: Path, whole: Path) -> None:
    SOURCES[fault][0](root)
    with vs.open(whole, embedder=None, read_only=True) as healthy, vs.open(root, embedder=None) as store:
        assert store.repair(dry_run=False).remaining == ()
        query = np.arange(64.0)
        expected = [(hit.id, hit.score) for hit in healthy.concepts.search(query, k=200, exact=True)]
        assert sorted((hit.id, hit.score) for hit in store.concepts.search(query, k=200, exact=True)) == sorted(
            expected
        )


def test_the_only_copy_of_lost_vectors_is_never_swept_by_a_repair(root: Path) -> None:
    sql(root, "DELETE FROM pending")  # lost for good: there is no embedder
    kept = root / "embeddings" / "concepts" / f"{1:012d}-0123456789abcdef.npz"
    kept.write_bytes(b"something that nobody can read, perhaps with other tools")
    with vs.open(root, embedder=None, auto_publish=False) as store:
        assert {finding.layer for finding in store.repair(dry_run=False).remaining} == {"vectors"}
    assert kept.exists()


def test_a_record_that_cannot_be_read_is_removed_and_its_values_kept(root: Path) -> None:
    sql(root, "UPDATE concepts SET lemmas = '{broken', definition = x'ff' || 'text' WHERE id = 'c010'")
    with opened(root) as store:
        with pytest.raises(vs.CorruptError):
            store.concepts.get("c010")
        assert any("c010" in finding.where for finding in store.check().findings)
        assert store.repair(dry_run=False).remaining == ()
        (aside,) = store.quarantined
        assert (aside.kind, aside.id) == ("concepts", "c010") and aside.values["lemmas"] == "{broken"
        assert store.concepts.restore("c010") == 0 and store.concepts.get("c010") is None


def test_a_record_that_was_put_aside_comes_back_by_restore_and_goes_by_purge(root: Path) -> None:
    SOURCES["flipped row"][0](root)
    with opened(root) as store:
        store.repair(dry_run=False)
        assert store.concepts.restore("c010") == 1 and store.concepts.get("c010").pos == "noun"
        assert "c010" in store.concepts.search("light", k=200).ids and store.check().findings == ()
        store.concepts.delete("c010")
        store.concepts.purge("c010")
        assert store.quarantined == [] and store.check().findings == ()


def test_repair_without_an_embedder_says_what_remains(root: Path) -> None:
    segment(root).unlink()
    with vs.open(root, embedder=None, auto_publish=False) as store:
        done = store.repair(dry_run=False)

    assert {finding.layer for finding in done.remaining} == {"segments"}


@pytest.mark.parametrize("fault", list(LOST))
def test_a_lost_segment_is_a_typed_error_that_names_the_file(fault: str, root: Path) -> None:
    name = segment(root, 1 if fault == "truncated segment" else 0).name
    LOST[fault][0](root)
    with opened(root) as store:
        with pytest.raises(vs.CorruptError, match=name):
            store.concepts.search("heat")
        assert store.concepts.get("c001") is not None
        assert len(store.contexts.find()) == 1


def test_a_damaged_row_is_never_read_silently_and_upsert_mends_it(root: Path) -> None:
    SOURCES["flipped row"][0](root)
    with opened(root) as store:
        with pytest.raises(vs.CorruptError, match="c010"):
            store.concepts.get("c010")
        assert store.concepts.get("c011") is not None
        store.concepts.upsert({"id": "c010", "name": "king", "definition": "anew"})

        assert store.concepts.get("c010").definition == "anew"
        assert store.check().findings == ()


def test_evidence_of_lost_commits_is_kept_by_sweep_and_repair(root: Path) -> None:
    kept = Path(str(SOURCES["segment of a later commit"][0](root)))
    with opened(root) as store:
        store.sweep(0)
        assert {finding.layer for finding in store.repair(dry_run=False).remaining} == {"files"}

    assert kept.exists()


def test_files_that_no_row_names_are_litter_and_swept(root: Path) -> None:
    strangers = [
        "embeddings/concepts/.0123.tmp",
        f"embeddings/concepts/{1:012d}-0123456789abcdef.npz",
        f"embeddings/analogies/{0:012d}-0123456789abcdef.npz",
        "embeddings/concepts.image/.4567.tmp",
        "indexes/concepts/rabitq.1.01234567.faiss",
        ".catalog.kinds.X.backup.sqlite.tmp",
    ]
    for name in strangers:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"litter")
    with opened(root) as store:
        report = store.check()
        assert (report.findings, sorted(report.litter)) == ((), sorted(strangers))
        assert store.sweep(600) == []
        assert sorted(store.sweep(0)) == sorted(strangers)
        assert store.check().litter == ()


def test_a_segment_that_was_swept_before_its_commit_is_refused(tmp_path: Path, monkeypatch: Any) -> None:
    """Staging may take hours; another process may take the files for litter meanwhile."""

    def staged_whole(*arguments: Any) -> Any:
        staged = stage(*arguments)
        staged.files()
        return staged

    monkeypatch.setattr("vectorstore.writing.stage", staged_whole)
    with opened(tmp_path / "kb") as store, opened(tmp_path / "kb") as other:

        def records() -> Any:
            for number in range(20_500):
                if number == 20_400:
                    assert len(other.sweep(0)) == 1
                yield {"name": f"n{number}"}

        with pytest.raises(vs.StoreError, match="nothing was written"):
            store.concepts.add(records())

        assert len(store.concepts) == 0 and store.check().findings == ()
        store.concepts.add({"name": "next"})
        assert store.concepts.search("next").ids == ["default:next"]


def test_a_segment_that_was_swept_while_it_was_written_is_refused(tmp_path: Path, monkeypatch: Any) -> None:
    with opened(tmp_path / "kb") as store:
        rename = files._rename
        monkeypatch.setattr(files, "_rename", lambda source, target: (source.unlink(), rename(source, target)))
        with pytest.raises(vs.StoreError, match="removed while it was written"):
            store.concepts.add([{"name": f"n{number}"} for number in range(2000)])
        monkeypatch.undo()
        assert len(store.concepts) == 0 and store.check().findings == ()
        assert store.concepts.add([{"name": f"n{number}"} for number in range(2000)]) and len(store.concepts) == 2000


def test_a_purge_leaves_what_was_deleted_while_it_ran(tmp_path: Path) -> None:
    with (
        vs.open(tmp_path / "kb", embedder=None) as store,
        vs.open(tmp_path / "kb", embedder=None) as other,
    ):
        store.concepts.add([{"id": name, "name": name} for name in "abcd"], vectors=np.eye(4))
        store.flush()
        store.concepts.delete("a")
        purged = store.concepts.purge(
            where={"id__in": ["a", "b"]}, older_than=timedelta(0), progress=lambda *_: other.concepts.delete("b")
        )

        assert purged == 1 and store.check().findings == ()
        assert store.concepts.search([1, 1, 1, 1]).ids == ["c", "d"]
        assert store.concepts.restore("b") == 1 and store.concepts.search([0, 1, 0, 0], k=1).ids == ["b"]


@pytest.mark.parametrize("upkeep", ["flush", "compact", "rebuild"])
def test_a_deleted_record_keeps_its_vector_until_the_purge(upkeep: str, tmp_path: Path) -> None:
    with vs.open(tmp_path / "kb", embedder=None, auto_publish=False) as store:
        store.concepts.add([{"id": name, "name": name} for name in "abcd"], vectors=np.eye(4))
        store.concepts.delete(["a", "b"])
        store.rebuild("concepts", "simhash512") if upkeep == "rebuild" else getattr(store, upkeep)()
        store.concepts.restore("a")
        assert store.concepts.search([1, 0, 0, 0], k=1).ids == ["a"]
        assert store.concepts.vectors(["a"]).tolist() == [[1, 0, 0, 0]]

        assert store.concepts.purge("b") == 1
        assert store.concepts.restore("b") == 0 and store.check().findings == ()


# -- a disk that fails -------------------------------------------------------------------------------------------------

BEFORE = [
    add(names("m", 14), "many"),
    add(names("n", 4), "more"),
    upkeep(lambda store: store.flush()),
    rebuild("simhash512"),
    add(names("p", 4), "pending"),
    delete(names("m", 8)),
    update(names("n", 2), 1),
]
CALLS: dict[str, Step] = {
    "add": add(names("l", 9)),
    "update": update(names("n", 4), 2),
    "delete": delete(names("n", 2)),
    "restore": restore(names("m", 7)),
    "flush": upkeep(lambda store: store.flush()),
    "rebuild": rebuild("simhash512"),
    "compact": upkeep(lambda store: store.compact()),
    "purge": purge(),
}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("small") / "kb"
    with mock.patch("vectorstore.sync.write.DIRECT_ROWS", 6), vs.open(root, embedder=None) as store:
        for step in BEFORE:
            step.act(store)
    return root


@pytest.mark.parametrize("primitive", [*(f"_{name}" for name in FILES), "commit"])
@pytest.mark.parametrize("call", list(CALLS))
def test_a_failing_disk_costs_the_call_and_not_the_store(
    call: str, primitive: str, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk and a broken one in turn; `make faults` has every error of every system call."""
    monkeypatch.setattr("vectorstore.sync.write.DIRECT_ROWS", 6)
    before = Model()
    for step in BEFORE:
        step.apply(before)
    after = before.copy()
    CALLS[call].apply(after)
    owner, name = (Catalog, "_commit") if primitive == "commit" else (files, primitive)
    original = getattr(owner, name)
    for nth in range(100):
        root = Path(shutil.copytree(small, tmp_path / str(nth)))
        calls = iter(range(1000))

        def failing(*args: Any, calls: Any = calls, nth: int = nth) -> Any:
            if next(calls) != nth:
                return original(*args)
            raise OSError((errno.ENOSPC, errno.EIO)[nth % 2], "planted")

        with vs.open(root, embedder=None, auto_publish=False) as store:
            error: Exception | None = None
            with monkeypatch.context() as patch:
                patch.setattr(owner, name, failing)
                try:
                    CALLS[call].act(store)
                except (OSError, vs.VectorstoreError) as caught:
                    error = caught
            used = next(calls) > nth
            state = before if error is not None else after
            assert state_of(store, [state]) is not None, f"{nth}: half a {call}, {error}"
            assert answers(store, state) == []
            assert store.check().findings == ()
            if error is not None:
                CALLS[call].act(store)
            assert state_of(store, [after]) is not None and answers(store, after) == []
            store.sweep(0)
            assert litter(store, root) == [] and store.check().findings == ()
        if not used:
            return
    raise AssertionError("the call takes more than 100 steps")


def test_a_full_catalog_is_a_typed_error_and_the_next_write_works(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        store.concepts.add([{"name": f"n{n}"} for n in range(10)])
        connection = store._catalog._writer_connection()
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(vs.StoreError, match="nothing was written"):
            store.concepts.add([{"name": f"m{n}", "definition": "long " * 500} for n in range(200)])
        assert len(store.concepts) == 10 and store.check().findings == ()
        connection.execute("PRAGMA max_page_count = 1073741823")

        store.concepts.add([{"name": f"m{n}", "definition": "long " * 500} for n in range(200)])
        assert len(store.concepts) == 210 and store.check().findings == ()
