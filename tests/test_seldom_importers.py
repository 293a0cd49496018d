"""What others left behind and seldom looks so: odd folders of Chroma, WordNet and soft-logic, odd indexes and words."""

from __future__ import annotations

import gzip
import json
import pickle
import re
import sqlite3
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

import vectorstore as vs
from vectorstore.interchange import hnswlib
from vectorstore.storage.foreign import foreign
from vectorstore.vectors import foreign as indexes

DATA = Path(__file__).parent / "data"


@pytest.fixture
def store() -> Iterator[vs.Store]:
    with vs.open(":memory:", embedder=None, auto_publish=False) as opened:
        yield opened
        assert opened.check().findings == ()


def refused(store: vs.Store, message: str, source: Path, *words: Any, **options: Any) -> None:
    """The import is refused with these words, and nothing is written."""
    before = store.moment.seq
    with pytest.raises(vs.ValidationError, match=re.escape(message)):
        store.import_(source, *words, **options)
    assert store.moment.seq == before


# -- Chroma ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def chroma(tmp_path: Path) -> Path:
    with zipfile.ZipFile(DATA / "chroma" / "folder.zip") as packed:
        packed.extractall(tmp_path / "chroma")
    return tmp_path / "chroma"


def sql(folder: Path, *statements: str) -> None:
    connection = sqlite3.connect(folder / "chroma.sqlite3", isolation_level=None)
    try:
        for statement in statements:
            connection.execute(statement)
    finally:
        connection.close()


def test_a_chroma_folder_that_lacks_a_table_says_which(chroma: Path, store: vs.Store) -> None:
    sql(chroma, "DROP TABLE embeddings_queue", "DROP TABLE segments")
    refused(store, f"{chroma}/chroma.sqlite3: lacks the tables embeddings_queue, segments", chroma, collection="birds")


def test_chroma_before_lists_and_with_segments_of_other_kinds_comes_whole(chroma: Path, store: vs.Store) -> None:
    sql(
        chroma,
        "DROP TABLE embedding_metadata_array",
        "INSERT INTO segments (id, type, scope, collection) SELECT 'other', 'urn:other', 'OTHER', id FROM collections"
        " WHERE name = 'birds'",
    )
    done = store.import_(chroma, collection="birds")
    assert done.added == {"concepts": 87} and done.vectors == 87 and not done.left_out


def test_lists_in_chromas_metadata_are_lists(chroma: Path, store: vs.Store) -> None:
    for word in ("red", "small"):
        sql(
            chroma,
            "INSERT INTO embedding_metadata_array (id, key, string_value) SELECT id, 'marks', "
            f"'{word}' FROM embeddings WHERE embedding_id = 'b1'",
        )
    store.import_(chroma, collection="birds")
    assert store.concepts.get("b1").extra["marks"] == ["red", "small"]
    assert "marks" not in store.concepts.get("b2").extra


def test_an_update_without_a_vector_leaves_the_vector_of_the_index(
    chroma: Path, store: vs.Store, tmp_path: Path
) -> None:
    with vs.open(":memory:", embedder=None) as other:
        other.import_(chroma, collection="birds")
        expected = other.concepts.vectors(["b1"]).tolist()
    sql(
        chroma,
        "INSERT INTO embeddings_queue (operation, topic, id, encoding) SELECT 1, topic, 'b1', NULL "
        "FROM embeddings_queue WHERE id = 'b59' LIMIT 1",
    )
    assert store.import_(chroma, collection="birds").vectors == 87
    assert store.concepts.vectors(["b1"]).tolist() == expected


def test_records_whose_vectors_are_in_no_file_come_without_and_are_counted(chroma: Path, store: vs.Store) -> None:
    index = next(path.parent for path in chroma.rglob("index_metadata.pickle"))
    header = (index / "header.bin").read_bytes()
    fields = list(hnswlib._HEADER.unpack_from(header))
    assert fields[3] == 60
    fields[3] = 0
    (index / "header.bin").write_bytes(hnswlib._HEADER.pack(*fields) + header[hnswlib._HEADER.size :])
    done = store.import_(chroma, collection="birds")
    assert done.added == {"concepts": 87} and 0 < done.vectors < 87
    assert done.left_out == {"vectors that are in no file": 87 - done.vectors}
    assert "b1" in store.concepts and store.concepts.vector_info("b1") is None


@pytest.mark.parametrize("change", ["encoding = 'FLOAT64'", "vector = x'0000'", "vector = 'text'", "encoding = NULL"])
def test_a_vector_in_chromas_queue_that_is_none_is_named(change: str, chroma: Path, store: vs.Store) -> None:
    sql(chroma, f"UPDATE embeddings_queue SET {change} WHERE id = 'b61'")
    refused(store, "the vector of 'b61' in birds is no 6 numbers", chroma, collection="birds")


class Persisted:
    """Pickled as an object, as older versions of Chroma pickle what they keep beside an index."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__ |= fields


@pytest.mark.parametrize("protocol", range(2, 6))
def test_a_pickled_object_is_read_as_its_fields(protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "index_metadata.pickle"
    labels = {f"id {n}": n for n in range(700)}
    late = {"x": 1}
    path.write_bytes(pickle.dumps(Persisted(dim=3, id_to_label=labels, same=labels, one=late, two=late), protocol))
    assert hnswlib.read_labels(path) == labels


def test_a_long_text_of_a_pickle_is_read_and_a_longer_file_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "index_metadata.pickle"
    long = b"\x8d" + struct.pack("<Q", 11) + b"id_to_label"
    path.write_bytes(b"\x80\x04}" + long + b"}X\x01\0\0\0aK\x07ss.")
    assert hnswlib.read_labels(path) == {"a": 7}
    monkeypatch.setattr(hnswlib, "MAX_PICKLE", path.stat().st_size - 1)
    with pytest.raises(vs.ValidationError, match=f"{path}: is larger than 0 MB"):
        hnswlib.read_labels(path)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"\x80\x02K\x01.", "expected a mapping, got int"),
        (b"\x80\x02})\x81.", "an object that is made of more than its fields"),
        (b"\x80\x02cm\nC\n}\x81.", "an object that is made of more than its fields"),
        (b"\x80\x04}\x8d" + struct.pack("<Q", 2**40) + b"a.", "a text is cut short"),
        (b"\x80\x02h\x05.", "5"),
    ],
)
def test_a_pickle_of_another_make_is_refused(data: bytes, told: str, tmp_path: Path) -> None:
    path = tmp_path / "index_metadata.pickle"
    path.write_bytes(data)
    with pytest.raises(vs.ValidationError, match=f"is not what Chroma writes beside an index: {told}"):
        hnswlib.read_labels(path)


# -- SQLite files of others --------------------------------------------------------------------------------------------


def test_a_database_of_others_says_what_it_lacks(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE a (x)")
        connection.execute("INSERT INTO a VALUES (5)")
    connection.close()
    with foreign(path) as database:
        assert list(database.rows("a", ["x", "y"])) == [{"x": 5, "y": None}] and database.columns("b") == []
        with pytest.raises(vs.ValidationError, match=f"{path}: has no table 'b'"):
            list(database.rows("b", ["x"]))
    with pytest.raises(vs.ValidationError, match=f"{tmp_path}: is no whole SQLite file"), foreign(tmp_path):
        raise AssertionError("a folder is no database")
    with pytest.raises(vs.ValidationError, match="b.sqlite: is no whole SQLite file"), foreign(tmp_path / "b.sqlite"):
        raise AssertionError("it has just been removed")
    assert [each.name for each in tmp_path.iterdir()] == ["a.sqlite"]


# -- FAISS and words ---------------------------------------------------------------------------------------------------


def test_lists_that_are_empty_are_no_gap(store: vs.Store, tmp_path: Path) -> None:
    coarse = faiss.IndexFlatL2(2)
    coarse.add(np.array([[1, 0], [-50, 0]], np.float32))
    index = faiss.IndexIVFFlat(coarse, 2, 2)
    rows = np.array([[1, 0], [1, 0.5], [2, 1]], np.float32)
    index.add(rows)
    faiss.write_index(index, str(tmp_path / "v.faiss"))
    assert store.import_(tmp_path / "v.faiss").added == {"concepts": 3}
    assert np.array_equal(store.concepts.vectors(["0", "1", "2"]), rows)


def test_an_index_of_another_metric_is_refused(store: vs.Store, tmp_path: Path) -> None:
    index = faiss.IndexFlat(4, faiss.METRIC_L1)
    index.add(np.eye(4, dtype=np.float32))
    faiss.write_index(index, str(tmp_path / "v.faiss"))
    refused(store, "compares by metric 2, which is neither l2 nor inner product", tmp_path / "v.faiss")


def _more_ids() -> Any:
    index = faiss.IndexIDMap(faiss.IndexFlatL2(4))
    index.add_with_ids(np.eye(4, dtype=np.float32), np.arange(4))
    index.id_map.push_back(9)
    return index


def _more_rows() -> Any:
    index = faiss.IndexFlatL2(4)
    index.add(np.eye(4, dtype=np.float32))
    index.ntotal = 3
    return index


def _other_lists() -> Any:
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(4), 4, 1)
    index.train(np.eye(4, dtype=np.float32))
    index.add(np.eye(4, dtype=np.float32))
    index.invlists.code_size = 8
    return index


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (_more_ids, "has 5 ids for 4 vectors"),
        (_more_rows, "says that it holds 3 x 4, and has 64 bytes of them"),
        (_other_lists, "its lists hold codes of 8 bytes for 4 dimensions"),
    ],
)
def test_an_index_that_faiss_lets_pass_is_counted_here(
    made: Callable[[], Any], told: str, store: vs.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The FAISS of today looks itself; one that does not would give it to us as it is."""
    path = tmp_path / "v.faiss"
    index = faiss.IndexFlatL2(4)
    index.add(np.eye(8, 4, dtype=np.float32))
    faiss.write_index(index, str(path))
    monkeypatch.setattr(indexes, "read_index", lambda data, most: made())
    refused(store, f"{path}: {told}", path)


@pytest.mark.parametrize("limit", [0, -1, True])
def test_a_number_of_words_that_cannot_be_is_refused(limit: Any, store: vs.Store, tmp_path: Path) -> None:
    (tmp_path / "v.txt").write_text("king 1 2\n")
    told = f"limit: expected a whole number of at least 1, got {limit}"
    refused(store, told, tmp_path / "v.txt", "words", limit=limit)


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("v.txt", b"0 2\n", "has no word vectors"),
        ("v.txt", b"0 2\n\n \n", "has no word vectors"),
        ("v.bin", b"6 2\nking 12345678queen 1234567", "ends within word 2 of 6; take another copy"),
        ("v.bin.gz", gzip.compress(b"2 2\nking 12345678queen ", mtime=0), "ends within word 2 of 2; take another copy"),
    ],
)
def test_words_that_end_early_or_are_none(name: str, data: bytes, told: str, store: vs.Store, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    refused(store, f"{tmp_path / name}: {told}", tmp_path / name, "words")


# -- WordNet -----------------------------------------------------------------------------------------------------------

QUICKLY = "00085811 02 r 01 quickly 0 000 | fast\n"


def test_adverbs_alone_are_a_wordnet(store: vs.Store, tmp_path: Path) -> None:
    (tmp_path / "data.adv").write_text(QUICKLY)
    assert store.import_(tmp_path, "wordnet").added == {"concepts": 1}
    found = store.concepts.get("wn-00085811-r")
    assert (found.name, found.pos, found.definition) == ("quickly", "adverb", "fast")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("00085811 02 r 00 000 | fast\n", "data.adv:2: is no line of a WordNet data file: no synset"),
        ("quickly 02 r 01 quickly 0 000 | fast\n", "data.adv:2: is no line of a WordNet data file: no synset"),
        ("00085811 02 q 01 quickly 0 000 | fast\n", "data.adv:2: is no line of a WordNet data file: no synset"),
        ("00161630 02 r 01 slowly 0 001 ! 00085811 r 0109 | x\n", "the synset 00085811 has no word 9"),
        ("00161630 02 r 01 slowly 0 001 ! 00085811 r 0901 | x\n", "the synset 00161630 has no word 9"),
        ("00161630 02 r 01 slowly 0 001 ! 00085811 r 0100 | x\n", "the synset 00085811 has no word 0"),
    ],
)
def test_a_synset_without_words_or_that_leads_to_none_is_refused(
    line: str, told: str, store: vs.Store, tmp_path: Path
) -> None:
    (tmp_path / "data.adv").write_text(QUICKLY + line)
    refused(store, told, tmp_path, "wordnet")


# -- soft-logic --------------------------------------------------------------------------------------------------------


def softlogic(root: Path, log: str | None = None, **said: Any) -> Path:
    """A store of one context, without whatever is not given."""
    here = root / "kb" / "contexts" / "default"
    here.mkdir(parents=True)
    if log is not None:
        (here / "analogies.jsonl").write_text(log)
    for name, each in said.items():
        (here / f"{name}.json").write_text(json.dumps(each))
    return root / "kb"


LINE = json.dumps({"type": "analogy", "id": "a1", "source_domain": "a", "target_domain": "b"})


def test_a_context_may_have_a_registry_and_nothing_else(store: vs.Store, tmp_path: Path) -> None:
    kb = softlogic(tmp_path, concepts={"concepts": {"default:king": {"name": "king", "metadata": "odd"}}}, frames=[1])
    done = store.import_(kb)
    assert done.added == {"concepts": 1} and done.left_out == {} and done.notes == ()
    assert store.concepts.get("default:king").extra == {"metadata": "odd"}


def test_a_context_may_have_a_log_and_nothing_else(store: vs.Store, tmp_path: Path) -> None:
    kb = softlogic(tmp_path, LINE + "\n")
    done = store.import_(kb / "contexts", "softlogic")
    assert done.added == {"analogies": 1} and done.left_out == {}
    assert store.analogies.get("a1").context == "default"


def test_an_empty_log_says_nothing(store: vs.Store, tmp_path: Path) -> None:
    kb = softlogic(tmp_path, "\n\n")
    (kb / "contexts" / "batch_operations").mkdir()
    (kb / "contexts" / "batch_operations" / "pending_none.jsonl").write_text("")
    done = store.import_(kb)
    assert (done.added, done.left_out, done.notes) == ({}, {}, ())


def test_a_bad_line_at_the_end_of_a_log_is_no_line_that_was_cut_short(store: vs.Store, tmp_path: Path) -> None:
    kb = softlogic(tmp_path, LINE + "\n" + LINE[:-5] + "\n")
    log = kb / "contexts" / "default" / "analogies.jsonl"
    refused(store, f"{log}:2: ", kb)
    log.write_text(LINE + "\n" + LINE[:-5])
    done = store.import_(kb)
    assert done.added == {"analogies": 1} and f"{log}:2: the last line was cut short" in done.notes[0]
    log.write_text("[1, 2]\n" + LINE + "\n")
    refused(store, f"{log}:1: expected a JSON object, got '[1, 2]'", kb, on_conflict="overwrite")


def test_tables_and_vectors_of_another_shape(store: vs.Store, tmp_path: Path) -> None:
    kb = softlogic(tmp_path, concepts={"concepts": {"default:king": {"name": "king"}}})
    here = kb / "contexts" / "default"
    with sqlite3.connect(here / "concepts.sqlite") as connection:
        connection.execute("CREATE TABLE other (id TEXT)")
    connection.close()
    (here / "embeddings").mkdir()
    path = here / "embeddings" / "embeddings.npz"
    for vectors in (np.eye(2), np.arange(3.0)):
        np.savez(path, embeddings=vectors, concept_ids=["default:king"])
        refused(store, f"{path}: (1,) ids for vectors of shape {vectors.shape}", kb)
    np.savez(path, embeddings=[[1.0, 2.0]], concept_ids=["default:king"])
    assert store.import_(kb).added == {"concepts": 1}
    assert store.concepts.vectors(["default:king"]).tolist() == [[1, 2]]


def test_odd_entries_of_a_registry_are_kept_as_far_as_they_say_something(store: vs.Store, tmp_path: Path) -> None:
    cross = {"source_domain": "a", "target_domain": "b"}
    kb = softlogic(
        tmp_path,
        frames={"frames": {"Monarchy": {"name": "Monarchy", "core_elements": ["Ruler"]}}},
        clusters={"clusters": {"x": {"members": ["king", "queen"], "cluster_id": "x"}, "y": {"cluster_id": -1}}},
        fields={"semantic_fields": {"royalty": {"name": "royalty", "related_concepts": ["default:king"]}}},
        analogies={
            "cross_domain_analogies": [
                5,
                {},
                {**cross, "id": "pairs", "concept_mappings": [{"source": "x", "target": "y", "confidence": 0.5}]},
                {**cross, "id": "why", "concept_mappings": [{"source": "x", "target": "y", "why": "z"}]},
                {**cross, "id": "sure", "concept_mappings": {"x": {"target": "y", "confidence": 7}}},
                {**cross, "id": "blank", "concept_mappings": {"x": " "}},
                {**cross, "id": "number", "frame_mappings": {"x": 5}},
            ]
        },
    )
    done = store.import_(kb)
    assert done.added == {"frames": 1, "clusters": 2, "fields": 1, "analogies": 5}
    assert done.left_out == {"analogies that say nothing": 1}
    (monarchy,), (field,) = store.frames, store.fields
    assert [(each.name, each.type) for each in monarchy.elements] == [("Ruler", "core")] and field.related == {}
    assert sorted((each.name, each.number, each.size) for each in store.clusters) == [
        ("cluster x", None, 2),
        ("cluster y", None, 0),
    ]
    pairs = store.analogies.get("pairs")
    assert [(each.source, each.target, each.confidence) for each in pairs.concept_mappings] == [("x", "y", 0.5)]
    for name in ("why", "sure", "blank", "number"):
        found = store.analogies.get(name)
        assert not found.concept_mappings and not found.frame_mappings and len(found.extra) == 1
