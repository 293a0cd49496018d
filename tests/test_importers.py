"""What others left behind: WordNet's database, word vectors, FAISS indexes, folders of Chroma."""

from __future__ import annotations

import gzip
import json
import pickle
import shutil
import zipfile
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

import vectorstore as vs
from vectorstore.interchange import hnswlib

DATA = Path(__file__).parent / "data"
WORDNET = DATA / "wordnet" / "dict"


@pytest.fixture
def store() -> Any:
    with vs.open(":memory:", embedder=None, auto_publish=False) as opened:
        yield opened
        assert opened.check().findings == ()


# -- WordNet -----------------------------------------------------------------------------------------------------------


def test_wordnet_comes_with_its_relations(store: vs.Store) -> None:
    """M9: on a part of WordNet 3.0's own files, compared with what they say to whoever reads them by hand."""
    told: list[tuple[int, int]] = []
    done = store.import_(WORDNET, progress=lambda *pair: told.append(pair))

    entries = [
        line for part in ("noun", "verb", "adj", "adv") for line in (WORDNET / f"data.{part}").read_text().splitlines()
        if not line.startswith("  ")
    ]  # fmt: skip
    pointers = sum(int(fields[4 + 2 * int(fields[3], 16)]) for fields in (line.split() for line in entries))
    assert done.added["concepts"] == len(entries) == 168
    assert done.added["relations"] + done.left_out["pointers to synsets that are not there"] == pointers
    assert told and told[-1][0] == sum(done.added.values()) and told == sorted(told)

    dog = store.concepts.get("wn30-02084071-n")
    assert (dog.name, dog.synset, dog.domain, dog.pos) == ("dog", "dog.n.01", "noun.animal", "noun")
    assert dog.lemmas == ("dog", "domestic dog", "Canis familiaris") and dog.extra == {"tag_count": 42}
    assert dog.definition.startswith("a member of the genus Canis") and dog.examples == ("the dog barked all night",)
    above = [each.target for each in store.relations.stream({"source": dog.id, "type": "hypernym"})]
    assert {store.concepts.get(each).synset for each in above} == {"canine.n.02", "domestic_animal.n.01"}
    chain = store.concepts.related(dog.id, type="hypernym", direction="out", depth=None)
    assert "entity.n.01" in {each.concept.synset for each in chain}


def test_wordnets_lexical_pointers_name_their_words(store: vs.Store) -> None:
    store.import_(WORDNET)
    (hot,) = store.concepts.find({"synset": "hot.a.01"}).records
    (pair,) = store.relations.stream({"source": hot.id, "type": "antonym"})
    assert (pair.source_lemma, pair.target_lemma) == ("hot", "cold")
    quickly = store.concepts.find({"synset": "quickly.r.01"})[0]
    assert {each.type for each in store.relations.stream({"source": quickly.id})} == {
        "derived_from_adjective",
        "antonym",
    }
    assert store.concepts.find({"synset": "last.s.01"})[0].extra["tag_count"] == 109, "the head of a satellite counts"
    (snore,) = store.concepts.find({"synset": "snore.v.01"}).records
    assert {each.type for each in store.relations.stream({"source": snore.id})} >= {"entailment", "hypernym"}


def test_wordnet_again_changes_nothing_and_parts_will_do(store: vs.Store, tmp_path: Path) -> None:
    store.import_(WORDNET, "wordnet", relations=False)
    assert len(store.relations) == 0
    done = store.import_(WORDNET, on_conflict="overwrite")
    assert done.unchanged == {"concepts": 168} and set(done.added) == {"relations"}
    shutil.copy(WORDNET / "data.noun", tmp_path)
    with vs.open(":memory:", embedder=None) as other:
        other.import_(tmp_path)
        assert len(other.concepts) == 64 and other.concepts.get("wn30-02084071-n").synset is None
    lines = (tmp_path / "data.noun").read_text().splitlines()
    (tmp_path / "data.noun").write_text("\n".join([*lines[:40], lines[40][:60], *lines[41:]]))
    with pytest.raises(vs.ValidationError, match=r"data.noun:41: is no line of a WordNet data file"):
        store.import_(tmp_path)
    with pytest.raises(vs.ValidationError, match="holds no data.noun"):
        store.import_(DATA, "wordnet")
    with pytest.raises(vs.ValidationError, match="leave kind='notes' out"):
        store.import_(WORDNET, kind="notes")


# -- word vectors ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def glove() -> tuple[list[str], Any]:
    with np.load(DATA / "words" / "vectors.npz") as held:
        names = [str(word) for word in held[next(name for name in held.files if held[name].dtype.kind in "US")]]
        matrix = next(held[name] for name in held.files if held[name].ndim == 2).astype(np.float32)
    return names, matrix


def as_text(words: list[str], matrix: Any, header: bool) -> bytes:
    lines = [f"{len(words)} {matrix.shape[1]}"] if header else []
    lines += [f"{word} {' '.join(map(repr, row.tolist()))}" for word, row in zip(words, matrix, strict=True)]
    return ("\n".join(lines) + "\n").encode()


@pytest.mark.parametrize(
    "form", ["glove.txt", "glove.txt.gz", "word2vec.txt", "word2vec.bin", "numpy.npy", "numpy.txt"]
)
def test_word_vectors(form: str, glove: tuple[list[str], Any], store: vs.Store, tmp_path: Path) -> None:
    """M9: real vectors (GloVe 6B 50d), in every form, number for number."""
    words, matrix = glove
    path, options = tmp_path / form, dict[str, Any]()
    if form == "numpy.npy":
        np.save(path, matrix)
        (tmp_path / "words.txt").write_text("\n".join(words))
        options = {"words": tmp_path / "words.txt"}
    elif form == "word2vec.bin":
        rows = (
            f"{word} ".encode() + row.astype("<f4").tobytes() + b"\n" for word, row in zip(words, matrix, strict=True)
        )
        path.write_bytes(f"{len(words)} {matrix.shape[1]}\n".encode() + b"".join(rows))
    else:
        data = as_text(words, matrix, header=form.startswith("word2vec"))
        path.write_bytes(gzip.compress(data) if form.endswith("gz") else data)
    done = store.import_(path, "words", **options)

    assert done.added == {"concepts": len(words)} and done.vectors == len(words) and not done.left_out
    ids = {each.name: each.id for each in store.concepts}
    assert np.array_equal(store.concepts.vectors([ids[word] for word in words]), matrix)
    assert (
        store.concepts.get("word:king").name == "king"
        and store.concepts.vector_info("word:king").source == "pretrained"
    )
    near = store.concepts.search(matrix[words.index("king")], k=5, exact=True)
    unit = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    expected = np.argsort(-(unit @ unit[words.index("king")]), kind="stable")[:5]
    assert [hit.id for hit in near] == [ids[words[place]] for place in expected]
    again = store.import_(path, "words", on_conflict="overwrite", limit=10, **options)
    assert again.unchanged == {"concepts": 10} and again.records == 0


def test_odd_words(store: vs.Store, tmp_path: Path) -> None:
    data = b"a/b 1 2\nx y 3 4\n" + b"\xff 5 6\n" + b"same 7 8\nsame 9 10\n" + b"w" * 300 + b" 1 1\n"
    (tmp_path / "v.txt").write_bytes(data)
    done = store.import_(tmp_path / "v.txt", "words")
    assert done.left_out == {"words that are not UTF-8": 1, "words that come again": 1}
    assert [each.name for each in store.concepts] == ["a/b", "x y", "same", "w" * 300]
    assert store.concepts.vectors(["word:same"]).tolist() == [[7, 8]]


@pytest.mark.parametrize(
    ("data", "name", "match"),
    [
        (b"king 1 2\nqueen 1\n", "v.txt", "line 2: expected a word and 2 numbers"),
        (b"king 1 2\nqueen 1 x\n", "v.txt", "line 2"),
        (b"3 2\nking 1 2\n", "v.txt", "says 3 words, and it has 1"),
        (b"king\n", "v.txt", "line 1: expected a word and its numbers"),
        (b"", "v.txt", "line 1|no word vectors"),
        (b"2 2\nking 12345678\nqu", "v.bin", "has no end|ends within"),
        (b"nothing\n", "v.bin", "does not begin with the numbers"),
        (b"no gzip", "v.txt.gz", "cannot be read"),
        (b"king 1 nan\n", "v.txt", "finite"),
        (b"no array", "v.npy", "cannot be read"),
    ],
)
def test_bad_word_vectors(data: bytes, name: str, match: str, store: vs.Store, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(vs.ValidationError, match=match):
        store.import_(tmp_path / name, "words", **({"words": ["king"]} if name.endswith("npy") else {}))
    assert len(store.concepts) == 0


def test_numpy_words_must_be_as_many(store: vs.Store, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.eye(3))
    for words, match in ((None, "has no words"), (["a"], "1 words for an array of shape")):
        with pytest.raises(vs.ValidationError, match=match):
            store.import_(tmp_path / "v.npy", "words", words=words)
    np.save(tmp_path / "o.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(vs.ValidationError, match="cannot be read"):
        store.import_(tmp_path / "o.npy", "words", words=["a"])


# -- FAISS -------------------------------------------------------------------------------------------------------------


def built(factory: str, matrix: Any, ids: Any = None, metric: int = faiss.METRIC_L2) -> Any:
    index = faiss.index_factory(matrix.shape[1], factory, metric)
    index.train(matrix)
    index.add(matrix) if ids is None else index.add_with_ids(matrix, ids)
    return index


@pytest.mark.parametrize(
    "factory", ["Flat", "HNSW16,Flat", "IVF4,Flat", "IDMap,Flat", "IDMap2,Flat", "IVF4,Flat+ids", "IDMap,HNSW16"]
)
def test_faiss_indexes(factory: str, glove: tuple[list[str], Any], store: vs.Store, tmp_path: Path) -> None:
    """M9: an existing index and its ids, on real vectors."""
    matrix = glove[1][:300]
    own = "IDMap" in factory or "+ids" in factory
    ids = np.random.default_rng(0).permutation(10_000)[:300].astype(np.int64) if own else None
    path = tmp_path / "vectors.faiss"
    faiss.write_index(built(factory.removesuffix("+ids"), matrix, ids, faiss.METRIC_INNER_PRODUCT), str(path))
    done = store.import_(path)

    names = [str(number) for number in (range(300) if ids is None else ids)]
    assert done.added == {"concepts": 300} and done.vectors == 300
    assert np.array_equal(store.concepts.vectors(names), matrix)
    assert f"{path}: was compared by ip; the store's metric counts from now on" in done.notes


def test_faiss_with_ids_of_ones_own(glove: tuple[list[str], Any], tmp_path: Path) -> None:
    words, matrix = (each[:50] for each in glove)
    path = tmp_path / "vectors.index"
    faiss.write_index(built("Flat", matrix), str(path))
    (tmp_path / "ids.txt").write_text("\n".join(f"w {n}" for n in range(50)))
    np.save(tmp_path / "ids.npy", np.arange(50) + 7)
    records = tmp_path / "ids.jsonl"
    records.write_text(
        "".join(json.dumps({"id": f"r{n}", "name": word, "tags": ["w"]}) + "\n" for n, word in enumerate(words))
    )
    for ids, first, name in (
        (tmp_path / "ids.txt", "w 0", "w 0"),
        (tmp_path / "ids.npy", "7", "7"),
        (records, "r0", words[0]),
        ([f"l{n}" for n in range(50)], "l0", "l0"),
    ):
        with vs.open(":memory:", embedder=None) as store:
            store.import_(path, ids=ids)
            assert store.concepts.get(first).name == name
            assert np.array_equal(store.concepts.vectors([first])[0], matrix[0])
    with vs.open(":memory:", embedder=None) as store:
        with pytest.raises(vs.ValidationError, match="holds 50 vectors, and 3 ids are given"):
            store.import_(path, ids=["a", "b", "c"])
        store.import_(path, kind="analogies", space="relation", ids=_analogies(tmp_path))
        assert np.array_equal(store.analogies.vectors(["a3"], space="relation")[0], matrix[3])


def _analogies(folder: Path) -> Path:
    path = folder / "analogies.jsonl"
    path.write_text("".join(json.dumps({"id": f"a{n}", "a": "x", "b": str(n)}) + "\n" for n in range(50)))
    return path


@pytest.mark.parametrize("factory", ["PQ5x4", "SQ8", "LSH", "IVF4,PQ5x4", "RaBitQ", "IVF4,SQ8", "IDMap,SQ8"])
def test_codes_are_no_vectors(factory: str, glove: tuple[list[str], Any], store: vs.Store, tmp_path: Path) -> None:
    path = tmp_path / "codes.faiss"
    ids = np.arange(300) if "IDMap" in factory else None
    faiss.write_index(built(factory, glove[1][:300], ids), str(path))
    with pytest.raises(vs.ValidationError, match="keeps vectors whole|keeps no whole vectors"):
        store.import_(path)
    assert len(store.concepts) == 0


@pytest.mark.parametrize("factory", ["Flat", "HNSW16,Flat", "IVF4,Flat", "IDMap,Flat"])
def test_damaged_indexes_are_refused_or_harmless(factory: str, glove: tuple[list[str], Any], tmp_path: Path) -> None:
    """No damage makes anything but an error of ours, or vectors that are as many as the ids."""
    matrix = glove[1][:60]
    path, bad = tmp_path / "whole.faiss", tmp_path / "bad.faiss"
    faiss.write_index(built(factory, matrix, np.arange(60) if "IDMap" in factory else None), str(path))
    whole, rng = path.read_bytes(), np.random.default_rng(1)
    cases = [whole[: int(len(whole) * share)] for share in (0, 0.001, 0.01, 0.3, 0.9, 0.999)]
    for _ in range(60):
        data = bytearray(whole)
        data[int(rng.integers(4, 120))] ^= int(rng.integers(1, 256))
        cases.append(bytes(data))
    with vs.open(":memory:", embedder=None) as store:
        for data in cases:
            bad.write_bytes(data)
            try:
                done = store.import_(bad, on_conflict="overwrite")
            except (vs.ValidationError, vs.ConflictError):
                continue
            assert 0 <= sum(done.added.values()) <= 60


# -- Chroma ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def chroma(tmp_path: Path) -> Path:
    with zipfile.ZipFile(DATA / "chroma" / "folder.zip") as packed:
        for name in packed.namelist():
            target = tmp_path / "chroma" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(packed.read(name))
    return tmp_path / "chroma"


EXPECTED = json.loads((DATA / "chroma" / "expected.json").read_text())["collections"]


def test_a_chroma_folder(chroma: Path, store: vs.Store) -> None:
    """M9: a folder of chromadb 1.5.9, against what that Chroma says; ids, documents, metadata, vectors."""
    before = {file.name: file.read_bytes() for file in chroma.rglob("*") if file.is_file()}
    done = store.import_(chroma, collection="birds")

    assert done.added == {"concepts": 87} and done.vectors == 87 and not done.left_out
    for said in EXPECTED["birds"]:
        found = store.concepts.get(said["id"])
        assert found.definition == said["document"] and found.domain == "birds"
        assert {**found.extra, "name": found.name} == said["metadata"]
        theirs, ours = np.array(said["vector"]), store.concepts.vectors([said["id"]])[0]
        assert ours @ theirs / np.linalg.norm(ours) / np.linalg.norm(theirs) > 1 - 1e-6, "cosine: the direction counts"
    assert {file.name: file.read_bytes() for file in chroma.rglob("*") if file.is_file()} == before
    assert store.concepts.get("b85").definition == "also" and "b88" not in store.concepts


def test_all_collections_of_a_chroma_folder(chroma: Path, tmp_path: Path) -> None:
    with vs.open(":memory:", embedder=None) as store:
        with pytest.raises(vs.DimensionError, match="6 dimensions, got 2|2 dimensions, got 6") as raised:
            store.import_(chroma)  # one kind has vectors of one length
        mend = 'its collections differ (birds 6, plain 2 dimensions): import one at a time, with collection="birds"'
        assert mend in str(raised.value) and "vectors=False" in str(raised.value)
        assert not store.concepts.count()
        done = store.import_(chroma, vectors=False)
        assert done.added == {"concepts": 90} and store.concepts.get("birds:b1").name == "sparrow"
    with vs.open(":memory:", embedder=None, metric="l2") as store:
        store.import_(chroma, collection="plain")
        found = {each.extra.get("chroma_id", each.id): each for each in store.concepts}
        assert found.keys() == {"é/1", "x" * 300, "bare"} and found["é/1"].extra["a"] == 1
        vectors = store.concepts.vectors([found[said["id"]].id for said in EXPECTED["plain"]])
        assert vectors.tolist() == [said["vector"] for said in EXPECTED["plain"]]
        assert store.import_(chroma, collection="plain", on_conflict="overwrite").unchanged == {"concepts": 3}
        with pytest.raises(vs.NotFound, match=r"no collection 'cats'; it has: birds, empty, plain"):
            store.import_(chroma, collection="cats")


def test_a_chroma_folder_that_is_none_or_damaged(chroma: Path, store: vs.Store) -> None:
    for damage, match in (
        (lambda: (chroma / "chroma.sqlite3-wal").write_bytes(b"x"), "open and close it with its own program"),
        (lambda: (chroma / "chroma.sqlite3").write_bytes(b"no database"), "no whole SQLite file"),
        (lambda: (chroma / "chroma.sqlite3").unlink(), "holds no chroma.sqlite3"),
    ):
        damage()
        with pytest.raises(vs.ValidationError, match=match):
            store.import_(chroma, "chroma", collection="birds")
        for left in chroma.glob("*-wal"):
            left.unlink()


def test_an_index_of_chroma_that_lies(chroma: Path, store: vs.Store) -> None:
    index = next(path.parent for path in chroma.rglob("index_metadata.pickle"))
    for name in ("header.bin", "data_level0.bin"):
        whole = (index / name).read_bytes()
        (index / name).write_bytes(whole[: len(whole) // 3])
        with pytest.raises(vs.ValidationError, match=r"header.bin: (is cut short|says 60 elements)"):
            store.import_(chroma, collection="birds")
        (index / name).write_bytes(whole)
    assert store.import_(chroma, collection="birds").vectors == 87


class Bomb:
    def __reduce__(self) -> Any:
        return (print, ("executed",))


@pytest.mark.parametrize("protocol", range(2, 6))
def test_a_pickle_is_read_as_data_and_never_run(
    protocol: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """J11, L23: plain mappings come out; whatever would be called is refused."""
    path = tmp_path / "index_metadata.pickle"
    labels = {f"id {n}é": n * 37 for n in range(700)} | {"big": 2**40}
    path.write_bytes(pickle.dumps({"id_to_label": labels, "dimensionality": 3, "none": None}, protocol))
    assert hnswlib.read_labels(path) == labels
    for evil in (Bomb(), {"id_to_label": Bomb()}, {"id_to_label": {"a": Bomb()}}, {"id_to_label": {"a": "b"}}, [1]):
        path.write_bytes(pickle.dumps(evil, protocol))
        with pytest.raises(vs.ValidationError, match="is not what Chroma writes"):
            hnswlib.read_labels(path)
    for odd in (b"K\x01}b.", b"K\x01(X\x01\0\0\0aK\x01u.", b"X\x01\0\0\0a)b."):  # what is filled is no mapping
        path.write_bytes(b"\x80\x02" + odd)
        with pytest.raises(vs.ValidationError, match="is not what Chroma writes"):
            hnswlib.read_labels(path)
    whole = pickle.dumps({"id_to_label": {"a": 1}}, protocol)
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        with pytest.raises(vs.ValidationError):
            hnswlib.read_labels(path)
    assert "executed" not in capsys.readouterr().out
