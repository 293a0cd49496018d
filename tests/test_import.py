"""Imports: rules for ids that are there, logs in order, bad files; all of it or nothing."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any
from unittest import mock

import numpy as np
import pytest
from conftest import Clock
from test_export import Note, opened, records_of, vectors_of

import vectorstore as vs
from vectorstore.interchange import incoming
from vectorstore.interchange import opened as opening

MANY, CHUNK = 6_000, 2_500


class Part(vs.Record, table="parts"):
    """Belongs to a note; has a value that no other has."""

    of: Annotated[str, vs.Ref("notes", cascade=True)]
    number: Annotated[int, vs.UNIQUE]

    def derived_id(self) -> str:
        """From its number."""
        return f"part{self.number}"


def lines(path: Path, *said: Any, end: str = "\n") -> Path:
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in said) + end)
    return path


def concept(id: str, **fields: Any) -> dict[str, Any]:
    return {"kind": "concepts", "record": {"id": id, "name": id, **fields}}


def gone(id: str, kind: str = "concepts") -> dict[str, Any]:
    return {"kind": kind, "deleted": id, "at": "2026-01-01T00:00:00Z"}


def folder_of(store: vs.Store) -> set[str]:
    assert store.path is not None
    kept = ("catalog.sqlite-wal", "catalog.sqlite-shm", "store.lock")
    return {
        str(file.relative_to(store.path)) for file in store.path.rglob("*") if file.is_file() and file.name not in kept
    }


# -- what is there already ---------------------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path, clock: Clock) -> Any:
    with opened(tmp_path / "kb", clock=clock) as store:
        store.concepts.add(
            [
                {"id": "same", "name": "same"},
                {
                    "id": "mine",
                    "name": "mine",
                    "definition": "as it was",
                    "tags": ["a", "b"],
                    "x": 1,
                    "y": 2,
                    "quality": 0.5,
                },
                {"id": "other", "name": "other"},
            ]
        )
        clock.move(days=1)
        yield store


@pytest.fixture
def coming(tmp_path: Path) -> Path:
    changed = {"definition": "as it comes", "tags": ["b", "c"], "extra": {"y": 3, "z": 4}, "domain": "new"}
    return lines(tmp_path / "in.jsonl", concept("same"), concept("mine", **changed), concept("fresh"))


def test_error_writes_nothing(here: vs.Store, coming: Path) -> None:
    """J7: a conflict; the line is named."""
    before, files, seq = records_of(here), folder_of(here), here.stats()["seq"]
    with pytest.raises(vs.ConflictError, match=r"in.jsonl:1: concepts.id: 'same' exists already.*on_conflict"):
        here.import_(coming)
    assert (records_of(here), folder_of(here), here.stats()["seq"]) == (before, files, seq)


def test_skip_leaves_what_is_there(here: vs.Store, coming: Path) -> None:
    """J7: skip, counts true."""
    before = records_of(here)["concepts"]
    done = here.import_(coming, on_conflict="skip")

    assert (done.added, done.skipped, done.records) == ({"concepts": 1}, {"concepts": 2}, 1)
    assert [each for each in records_of(here)["concepts"] if each.id != "fresh"] == before
    assert here.concepts.get("fresh") is not None


def test_overwrite_replaces(here: vs.Store, coming: Path) -> None:
    """J7, A4: overwrite; what is there just so is left alone, what is replaced keeps its time of creation."""
    before = here.concepts.get("mine")
    done = here.import_(coming, on_conflict="overwrite")
    mine = here.concepts.get("mine")

    assert (done.added, done.overwritten, done.unchanged) == ({"concepts": 1}, {"concepts": 1}, {"concepts": 1})
    assert (mine.definition, mine.tags, mine.extra, mine.quality) == ("as it comes", ("b", "c"), {"y": 3, "z": 4}, None)
    assert (mine.version, mine.created_at) == (before.version + 1, before.created_at)
    assert here.concepts.get("same").version == 1
    hits = here.concepts.search("mine: as it comes", k=1, exact=True)
    assert hits[0].id == "mine" and hits[0].score > 0.999, "it was embedded anew"


def test_merge_unites(here: vs.Store, coming: Path) -> None:
    """J7: merge; what comes wins where it says something, tags are united, extra key by key."""
    done = here.import_(coming, on_conflict="merge")
    mine = here.concepts.get("mine")

    assert (done.added, done.merged, done.unchanged) == ({"concepts": 1}, {"concepts": 1}, {"concepts": 1})
    assert (mine.definition, mine.domain, mine.quality) == ("as it comes", "new", 0.5)
    assert (mine.tags, mine.extra, mine.version) == (("a", "b", "c"), {"x": 1, "y": 3, "z": 4}, 2)
    again = here.import_(coming, on_conflict="merge")
    assert again.records == 0 and again.unchanged == {"concepts": 3}


@pytest.mark.parametrize("rule", ["overwrite", "merge", "skip"])
def test_vectors_meet_by_the_same_rule(rule: str, clock: Clock, tmp_path: Path) -> None:
    with opened(clock=clock, embedder=None) as store:
        store.concepts.add([{"id": "a", "name": "a"}, {"id": "b", "name": "b"}], vectors=np.eye(2, 3))
        said = {**concept("a"), "vectors": {"text": [0, 0, 1]}}
        done = store.import_(lines(tmp_path / "in.jsonl", said, concept("b")), on_conflict=rule)
        assert store.concepts.vectors(["a"])[0].tolist() == ([1, 0, 0] if rule == "skip" else [0, 0, 1])
        assert store.concepts.vectors(["b"])[0].tolist() == [0, 1, 0], "what does not come stays"
        assert done.records == (0 if rule == "skip" else 1)
        assert store.import_(tmp_path / "in.jsonl", on_conflict=rule).records == 0


def test_a_deleted_id_is_free(here: vs.Store, coming: Path) -> None:
    """B7."""
    here.concepts.delete(["same", "mine"])
    done = here.import_(coming)
    assert done.added == {"concepts": 3} and here.concepts.get("mine").tags == ("b", "c")
    assert here.check().findings == ()


def test_versions_and_times_are_kept(clock: Clock, tmp_path: Path) -> None:
    said = concept("a", version=7, created_at="2020-01-01T00:00:00+02:00", updated_at="2021-01-01T00:00:00Z")
    with opened(clock=clock) as store:
        store.import_(lines(tmp_path / "in.jsonl", said))
        found = store.concepts.get("a")
        assert found.version == 7 and found.created_at.isoformat() == "2019-12-31T22:00:00+00:00"
        assert found.updated_at.isoformat() == "2021-01-01T00:00:00+00:00"
        store.concepts.upsert({"id": "a", "name": "b"})
        assert store.concepts.get("a").version == 8
        store.import_(tmp_path / "in.jsonl", on_conflict="overwrite")
        assert (store.concepts.get("a").version, store.concepts.get("a").name) == (9, "a"), "versions only grow"


def test_contexts_that_exist_are_no_conflict(here: vs.Store, tmp_path: Path) -> None:
    here.concepts.add({"name": "x", "context": "made by a record"})
    here.contexts.add({"name": "described", "description": "by us"})
    path = lines(
        tmp_path / "in.jsonl",
        {"kind": "contexts", "record": {"id": "made by a record", "name": "made by a record", "description": "theirs"}},
        {"kind": "contexts", "record": {"id": "described", "name": "described", "description": "theirs"}},
        {"kind": "concepts", "record": {"name": "y", "context": "described"}},
    )
    done = here.import_(path)
    assert (done.added, done.skipped) == ({"contexts": 1, "concepts": 1}, {"contexts": 1})
    assert here.contexts.get("made by a record").description == "theirs"
    assert here.contexts.get("described").description == "by us"


def test_a_context_for_those_that_name_none(here: vs.Store, tmp_path: Path) -> None:
    here.import_(
        lines(tmp_path / "in.jsonl", {"name": "x"}, {"name": "y", "context": "own"}), kind="concepts", context="ctx"
    )
    assert {each.id for each in here.concepts} >= {"ctx:x", "own:y"}


# -- logs --------------------------------------------------------------------------------------------------------------


def test_a_log_is_replayed_in_order(tmp_path: Path, clock: Clock) -> None:
    """B9, L3, L4: an id that comes again has its last word; deleted and added again it is there, once."""
    path = lines(
        tmp_path / "log.jsonl",
        concept("a", definition="1"),
        concept("b"),
        concept("a", definition="2"),
        gone("a"),
        concept("c"),
        concept("a", definition="3"),
        gone("b"),
        gone("never"),
    )
    with opened(clock=clock) as store:
        done = store.import_(path)
        assert {each.id: each.definition for each in store.concepts} == {"a": "3", "c": ""}
        assert (done.added, done.deleted) == ({"concepts": 2}, {})
        assert store.check().findings == ()


@pytest.mark.parametrize("seed", range(4))
def test_a_log_comes_to_what_its_lines_do_one_by_one(seed: int, tmp_path: Path, clock: Clock) -> None:
    """B9: against a store where each line is a call; with what belongs to others, and what was there before."""
    rng = random.Random(seed)
    said: list[dict[str, Any]] = []
    for step in range(60):
        note, number = f"n{rng.randrange(4)}", rng.randrange(6)
        what = rng.random()
        if what < 0.35:
            said.append({"kind": "notes", "record": {"id": note, "title": f"{note} {step}", "stars": rng.randrange(3)}})
        elif what < 0.55:
            said.append(gone(note, "notes"))
        elif what < 0.7:
            said.append(gone(f"part{number}", "parts"))
        else:
            said.append({"kind": "parts", "record": {"of": note, "number": number}})
    with (
        opened(kinds=[Note, Part], clock=clock) as one,
        opened(kinds=[Note, Part], clock=clock) as whole,
    ):
        for store in (one, whole):
            store["notes"].add([{"id": f"n{n}", "title": "before"} for n in range(4)])
            store["parts"].add([{"of": "n0", "number": 0}, {"of": "n1", "number": 9}])
        kept = []
        for line in said:
            if "record" in line:
                if line["kind"] == "parts" and line["record"]["of"] not in one["notes"]:
                    continue
                one[line["kind"]].upsert(line["record"])
            elif line["deleted"] in one[line["kind"]]:
                one[line["kind"]].delete(line["deleted"])
            kept.append(line)
        whole.import_(lines(tmp_path / "log.jsonl", *kept), on_conflict="overwrite")
        for kind in ("notes", "parts"):
            plain = [
                {each.id: each.model_dump(exclude={"version", "created_at", "updated_at"}) for each in store[kind]}
                for store in (one, whole)
            ]
            assert plain[0] == plain[1]
        assert whole.check().findings == ()


def test_deletions_follow_the_rule(here: vs.Store, tmp_path: Path) -> None:
    path = lines(tmp_path / "log.jsonl", gone("mine"), concept("fresh"))
    with pytest.raises(vs.ConflictError, match=r"log.jsonl:1: would delete 'mine'.*on_conflict='overwrite'"):
        here.import_(path)
    assert "fresh" not in here.concepts
    done = here.import_(path, on_conflict="skip")
    assert "mine" in here.concepts and done.skipped == {"concepts": 1}
    done = here.import_(path, on_conflict="merge")
    assert "mine" not in here.concepts and done.deleted == {"concepts": 1}


def test_a_torn_last_line_is_left_out_and_told(here: vs.Store, tmp_path: Path) -> None:
    """B9, L9: not fatal at the end, fatal in the middle."""
    path = lines(tmp_path / "log.jsonl", concept("a"), concept("b"), '{"kind": "concepts", "reco', end="")
    done = here.import_(path)
    assert done.added == {"concepts": 2}
    assert [f"{path}:3: the last line was cut short and is left out (26 bytes)"] == list(done.notes)
    packed = tmp_path / "log.jsonl.gz"
    whole = gzip.compress(
        "\n".join(json.dumps(concept(f"z{n}", definition=f"{n * 7919}")) for n in range(2000)).encode()
    )
    packed.write_bytes(whole[: len(whole) // 2])
    done = here.import_(packed)
    assert 100 < done.added["concepts"] < 2000 and len(done.notes) == 1 and "cut short" in done.notes[0]
    torn = lines(tmp_path / "torn.jsonl", concept("c"), '{"kind": "concepts", "reco', concept("d"))
    with pytest.raises(vs.ValidationError, match=r"torn.jsonl:2: is not JSON"):
        here.import_(torn)
    assert "c" not in here.concepts


def test_a_promise_of_more_is_told(here: vs.Store, tmp_path: Path) -> None:
    here.export(tmp_path / "kb.jsonl", kinds="concepts")
    whole = (tmp_path / "kb.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "less.jsonl").write_text("".join(whole[:-1]))
    with opened() as store:
        done = store.import_(tmp_path / "less.jsonl")
        assert done.notes == (f"{tmp_path / 'less.jsonl'}: says that it holds 3 items, and holds 2",)


# -- bad files: nothing is written, and the place is named -------------------------------------------------------------

BAD: dict[str, tuple[Any, type[Exception], str]] = {
    "bad value": (concept("x", quality=7.5), vs.ValidationError, r"in.jsonl:2: concepts.quality: expected 0..1, got 7.5"),
    "no name": ({"kind": "concepts", "record": {}}, vs.ValidationError, r"in.jsonl:2: concepts.name: is required"),
    "NaN": ('{"kind": "concepts", "record": {"name": "x", "quality": NaN}}', vs.ValidationError, r"in.jsonl:2: is not JSON"),
    "a list": ([1, 2], vs.ValidationError, r"in.jsonl:2: expected a JSON object"),
    "no kind": ({"name": "x"}, vs.ValidationError, r"in.jsonl:2: expected \{\"kind\""),
    "unknown kind": ({"kind": "dreams", "record": {}}, vs.NotFound, r"in.jsonl:2: 'dreams' is no kind of this store"),
    "bad id": (concept("../x"), vs.ValidationError, r"in.jsonl:2: concepts.id"),
    "twice the unique": ({"kind": "parts", "record": {"id": "p", "of": "n", "number": 1}}, vs.ConflictError, r"number.*must be unique"),
    "points nowhere": ({"kind": "relations", "record": {"source": "ok", "type": "x", "target": "no"}}, vs.ValidationError, r"in.jsonl:2: relations.target"),
    "dimension": ({**concept("x"), "vectors": {"text": [1, 2, 3]}}, vs.DimensionError, r"in.jsonl:2: concepts.vectors.*16 dim"),
    "bad vector": ({**concept("x"), "vectors": {"text": ["a"]}}, vs.ValidationError, r"in.jsonl:2"),
    "infinite vector": ({**concept("x"), "vectors": {"text": [1e30] * 16}}, vs.ValidationError, r"in.jsonl:2: concepts.vectors.*finite"),
    "zero vector": ({**concept("x"), "vectors": {"text": [0] * 16}}, vs.ValidationError, r"in.jsonl:2: concepts.vectors"),
    "bad base 64": ({**concept("x"), "vectors": {"text": {"float32": "%%"}}}, vs.ValidationError, r"in.jsonl:2: vectors.text: is no vector"),
    "bad hash": ({**concept("x"), "vectors": {"text": {"float32": [1] * 16, "hash": "00"}}}, vs.ValidationError, r"in.jsonl:2: vectors.text.*16 bytes"),
    "sure of too much": ({**concept("x"), "vectors": {"text": {"float32": [1] * 16, "confidence": 2}}}, vs.ValidationError, r"vectors.text.confidence: expected 0..1"),
    "unknown space": ({**concept("x"), "vectors": {"smell": [1] * 16}}, vs.NotFound, r"no vector space 'smell'"),
    "not UTF-8": ("latin", vs.ValidationError, r"in.jsonl:2: is not JSON"),
    "deep": ("[" * 100_000, vs.ValidationError, r"in.jsonl:2: is not JSON"),
    "a big number": ('{"kind": "notes", "record": {"title": "x", "stars": 1' + "0" * 400 + "}}", vs.ValidationError, r"in.jsonl:2"),
    "a NUL": (concept("x", definition="a\0b"), vs.ValidationError, r"in.jsonl:2: concepts.definition"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_line_is_named_and_nothing_is_written(name: str, tmp_path: Path) -> None:
    said, error, match = BAD[name]
    with opened(tmp_path / "kb", kinds=[Note, Part]) as store:
        store["notes"].add({"id": "n", "title": "n"})
        store["parts"].add({"of": "n", "number": 1})
        store.concepts.add({"name": "first"})
        before, files, seq = records_of(store), folder_of(store), store.stats()["seq"]
        path = lines(tmp_path / "in.jsonl", concept("ok"), said, concept("also"))
        if name == "not UTF-8":
            path.write_bytes(
                path.read_bytes().replace(b"latin", '{"kind": "concepts", "record": {"name": "é"}}'.encode("latin-1"))
            )
        with pytest.raises(error, match=match):
            store.import_(path)
        assert (records_of(store), folder_of(store), store.stats()["seq"]) == (before, files, seq)
        assert store.check().findings == ()


def test_headers_that_lie(tmp_path: Path) -> None:
    with opened() as store:
        store.concepts.add({"name": "king"})
        store.export(tmp_path / "kb.jsonl", vectors="all")
    header, *rest = (tmp_path / "kb.jsonl").read_text().splitlines()
    said = json.loads(header)
    space = said["spaces"]["concepts"]
    for change, error, match in (
        ({"vectorstore": 2}, vs.NewerFormat, "format 2.*upgrade"),
        ({"vectorstore": "1"}, vs.ValidationError, "number of a format"),
        ({"spaces": {"concepts": {}}}, vs.ValidationError, "no header"),
        ({"records": []}, vs.ValidationError, "no header"),
        ({"spaces": {"concepts": {**space, "dim": 8}}}, (vs.DimensionError, vs.SpaceMismatch), "16|8"),
        ({"spaces": {"concepts": {**space, "metric": "l2"}}}, vs.SpaceMismatch, "metric"),
    ):
        path = lines(tmp_path / "in.jsonl", {**said, **change}, *rest)
        with opened(tmp_path / "kb") as store:
            with pytest.raises(error, match=match):
                store.import_(path)
            assert records_of(store)["concepts"] == [] and store.check().findings == ()


def test_vectors_of_another_model_are_refused(tmp_path: Path) -> None:
    with opened(embedder="hash:16") as store:
        store.concepts.add({"name": "king"})
        store.export(tmp_path / "kb.jsonl", vectors="all")
        store.export(tmp_path / "kb.parquet", vectors="all", kinds="concepts")
    for name in ("kb.jsonl", "kb.parquet"):
        with opened(embedder="hash:32") as store:
            with pytest.raises(
                vs.SpaceMismatch, match=r"open the store with the first, or import without vectors"
            ) as raised:
                store.import_(tmp_path / name)
            assert "'hash' 1 (16 dimensions" in str(raised.value) and "'hash' 1 (32 dimensions" in str(raised.value)
            store.import_(tmp_path / name, vectors=False)
            assert store.concepts.vector_info("default:king").dim == 32
        with opened(embedder=None) as store:
            store.import_(tmp_path / name)
            assert "hash" in str(store.concepts.vector_info("default:king").model)


def test_files_that_are_not_what_they_say(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl.gz").write_bytes(b"no gzip at all")
    (tmp_path / "x.parquet").write_bytes(b"PAR1 nothing PAR1")
    (tmp_path / "x.arrow").write_bytes(b"ARROW1")
    (tmp_path / "x.json").write_text('{"vectorstore": {"vectorstore": 1, "spaces": {}, "records": {}}, "lines": 5}')
    (tmp_path / "x.csv").write_text('name\nki"ng"dom\n')
    (tmp_path / "y.csv").write_text('name,definition\n"king,x\n')
    (tmp_path / "z.csv").write_text("name,name\nking,x\n")
    (tmp_path / "empty").mkdir()
    with opened() as store:
        for name, match in (
            ("x.jsonl.gz", "no whole gzip"),
            ("x.parquet", "is no parquet file"),
            ("x.arrow", "is no arrow file"),
            ("x.json", "expected an export"),
            ("x.csv", "a quote in the middle"),
            ("y.csv", "opened and not closed"),
            ("z.csv", "each once"),
            ("empty", "cannot tell what it is"),
            ("nowhere.csv", "no such file"),
        ):
            with pytest.raises(vs.ValidationError, match=match):
                store.import_(tmp_path / name, kind="concepts" if "csv" in name else None)
        assert records_of(store)["concepts"] == []


def test_a_bomb_and_an_endless_line_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "RATIO_FROM", 1 << 20)
    (tmp_path / "bomb.jsonl.gz").write_bytes(
        gzip.compress((json.dumps(concept("x")) + "\n" + " " * 100 + "\n").encode() * 20_000)
    )
    monkeypatch.setattr(opening, "MAX_RATIO", 20)
    monkeypatch.setattr(opening, "MAX_LINE", 10_000)
    (tmp_path / "long.jsonl").write_text("x" * 10_001)
    with opened() as store:
        with pytest.raises(vs.ValidationError, match="20 times larger when unpacked"):
            store.import_(tmp_path / "bomb.jsonl.gz")
        with pytest.raises(vs.ValidationError, match=r"long.jsonl:1: the line is longer"):
            store.import_(tmp_path / "long.jsonl")


# -- all or nothing ----------------------------------------------------------------------------------------------------


def many(path: Path, count: int = MANY) -> Path:
    rows = ({**concept(f"c{n:06d}"), "vectors": {"text": [n % 7 + 1, n % 11, 1]}} for n in range(count))
    return lines(path, *rows)


def test_a_failure_after_segments_were_written_leaves_nothing(
    tmp_path: Path, open_store: Callable[..., vs.Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incoming, "CHUNK", CHUNK)
    path = many(tmp_path / "in.jsonl")
    with path.open("a") as file:
        file.write(json.dumps(concept("bad", quality=3)) + "\n")
    store = open_store()
    before = folder_of(store)
    with pytest.raises(vs.ValidationError, match=r"in.jsonl:6001: concepts.quality"):
        store.import_(path)
    assert folder_of(store) == before and len(store.concepts) == 0 and store.check().litter == ()

    with (
        mock.patch.object(incoming._Arriving, "_delete", side_effect=RuntimeError("stop")),
        pytest.raises(RuntimeError),
    ):
        many(path)
        with path.open("a") as file:
            file.write(json.dumps(gone("c000001")) + "\n")
        store.import_(path)
    assert folder_of(store) == before and len(store.concepts) == 0

    def stop(done: int, total: int) -> None:
        if done >= CHUNK:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.import_(path, progress=stop)
    assert folder_of(store) == before and len(store.concepts) == 0


def test_one_commit_and_true_counts_over_chunks(
    tmp_path: Path, open_store: Callable[..., vs.Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several chunks, in one commit; progress rises to the end."""
    monkeypatch.setattr(incoming, "CHUNK", CHUNK)
    store, told = open_store(), list[tuple[int, int]]()
    seq = store.stats()["seq"]
    done = store.import_(many(tmp_path / "in.jsonl"), progress=lambda *pair: told.append(pair))
    assert (done.added, done.vectors, done.records) == ({"concepts": MANY}, MANY, MANY)
    assert store.stats()["seq"] == seq + 1
    assert [pair[0] for pair in told] == sorted(pair[0] for pair in told) and told[-1] == (MANY, MANY)
    numbers = np.arange(MANY)
    expected = np.stack([numbers % 7 + 1, numbers % 11, np.ones(MANY)], axis=1).astype(np.float32)
    assert np.array_equal(store.concepts.vectors([f"c{n:06d}" for n in numbers]), expected)


def test_progress_is_told_while_texts_are_embedded(tmp_path: Path) -> None:
    """M11: not only when a chunk of 20,000 is done; and it never falls."""
    path, told = lines(tmp_path / "in.jsonl", *(concept(f"c{n}") for n in range(3000))), list[tuple[int, int]]()
    with opened() as store:
        store.import_(path, progress=lambda *pair: told.append(pair))
    done = [pair[0] for pair in told]
    assert done == sorted(done) and len(set(done)) > 1 and told[-1] == (3000, 3000)


def test_a_read_only_store_takes_nothing(tmp_path: Path, open_store: Callable[..., vs.Store]) -> None:
    path = many(tmp_path / "in.jsonl")
    open_store().close()
    with vs.open(tmp_path / "kb", embedder=None, read_only=True) as store:
        before = folder_of(store)
        with pytest.raises(vs.ReadOnlyStore):
            store.import_(path)
        assert folder_of(store) == before
        store.export(tmp_path / "out.jsonl")


def test_another_writer_between_reading_and_writing(tmp_path: Path, clock: Clock, coming: Path) -> None:
    """What was met has changed: it is met again, and no version is lost."""
    with opened(tmp_path / "kb", clock=clock) as store, opened(tmp_path / "kb", clock=clock) as other:
        store.concepts.add({"id": "mine", "name": "mine", "tags": ["a"]})
        was, calls = incoming._Arriving.prepare, list[int]()

        def prepare(self: Any) -> None:
            was(self)
            if not calls:
                other.concepts.upsert({"id": "mine", "name": "mine", "tags": ["late"]})
            calls.append(1)

        with mock.patch.object(incoming._Arriving, "prepare", prepare):
            done = store.import_(coming, on_conflict="merge")
        assert len(calls) == 2 and done.merged == {"concepts": 1}
        assert store.concepts.get("mine").tags == ("late", "b", "c") and store.concepts.get("mine").version == 3


def test_a_damaged_record_is_mended_by_overwriting(tmp_path: Path, coming: Path) -> None:
    with opened(tmp_path / "kb") as store:
        store.concepts.add([{"id": "mine", "name": "mine"}, {"id": "same", "name": "same"}])
        with store._sync.catalog.write() as transaction:
            transaction.connection.execute("UPDATE concepts SET name = 'forged' WHERE id = 'mine'")
        with pytest.raises(vs.CorruptError, match="mine"):
            store.import_(coming, on_conflict="merge")
        store.import_(coming, on_conflict="overwrite")
        assert store.concepts.get("mine").definition == "as it comes" and store.check().findings == ()


def test_an_import_takes_what_an_export_of_vectors_in_spaces_gives(clock: Clock, tmp_path: Path) -> None:
    with opened(clock=clock, embedder=None) as one, opened(clock=clock, embedder=None) as two:
        one["notes"].add([{"id": f"n{n}", "title": "t"} for n in range(5)], vectors={"image": np.eye(5, 8)})
        one["notes"].upsert({"id": "n2", "title": "t"}, vectors={"image": [[9.0] * 8]}, source="camera", confidence=0.5)
        one.export(tmp_path / "kb.jsonl.gz")
        two.import_(tmp_path / "kb.jsonl.gz")
        assert vectors_of(two) == vectors_of(one)
        assert two["notes"].search([9.0] * 8, space="image", k=1)[0].id == "n2"
