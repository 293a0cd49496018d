"""Claims about the packaged WordNet sample and the script that makes it."""

from __future__ import annotations

import gzip
import re
from collections import Counter
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from benchmarks import make_wordnet_sample
from vectorstore.data import SAMPLE_SIZE, wordnet_sample
from vectorstore.interchange import wordnet

KEY_TYPES = {
    "id": str,
    "name": str,
    "lemmas": list,
    "synset": str,
    "domain": str,
    "definition": str,
    "examples": list,
    "pos": str,
    "tag_count": int,
}


@pytest.fixture(scope="module")
def sample() -> list[dict[str, Any]]:
    return list(wordnet_sample())


def test_sample_size_is_the_number_of_synsets(sample: list[dict[str, Any]]) -> None:
    assert len(sample) == SAMPLE_SIZE
    assert SAMPLE_SIZE >= 12_000
    assert make_wordnet_sample.SAMPLE_SIZE == SAMPLE_SIZE


def test_each_synset_has_the_documented_keys_and_types(sample: list[dict[str, Any]]) -> None:
    for synset in sample:
        assert {key: type(value) for key, value in synset.items()} == KEY_TYPES, synset["id"]


def test_texts_are_not_empty_and_have_no_underscores_for_spaces(sample: list[dict[str, Any]]) -> None:
    for synset in sample:
        assert synset["definition"] == synset["definition"].strip() != "", synset["id"]
        assert synset["name"] == synset["lemmas"][0], synset["id"]
        assert not any("_" in lemma or "(" in lemma for lemma in synset["lemmas"]), synset["id"]


def test_ids_are_unique_and_in_order(sample: list[dict[str, Any]]) -> None:
    ids = [synset["id"] for synset in sample]

    assert ids == sorted(set(ids))
    assert all(re.fullmatch(r"wn30-\d{8}-[nvar]", identifier) for identifier in ids)


def test_sense_names_are_unique_and_begin_with_the_first_lemma(sample: list[dict[str, Any]]) -> None:
    assert len({synset["synset"] for synset in sample}) == len(sample)
    for synset in sample:
        lemma, synset_type, sense_number = synset["synset"].rsplit(".", 2)
        assert lemma == synset["name"].lower().replace(" ", "_")
        assert synset["pos"] == wordnet.PARTS_OF_SPEECH[synset_type]
        assert int(sense_number) >= 1


def test_entity_is_what_wordnet_says(sample: list[dict[str, Any]]) -> None:
    assert {
        "id": "wn30-00001740-n",
        "name": "entity",
        "lemmas": ["entity"],
        "synset": "entity.n.01",
        "domain": "noun.Tops",
        "definition": "that which is perceived or known or inferred to have its own distinct existence "
        "(living or nonliving)",
        "examples": [],
        "pos": "noun",
        "tag_count": 11,
    } in sample


def test_everyday_words_are_in_the_sample(sample: list[dict[str, Any]]) -> None:
    names = {synset["synset"] for synset in sample}

    assert {"king.n.01", "queen.n.02", "man.n.01", "woman.n.01", "dog.n.01", "run.v.01", "able.a.01"} <= names


def test_every_synset_is_a_used_one(sample: list[dict[str, Any]]) -> None:
    assert min(synset["tag_count"] for synset in sample) >= 1


def test_at_least_fifteen_domains(sample: list[dict[str, Any]]) -> None:
    domains = {synset["domain"] for synset in sample}

    assert len(domains) >= 15
    assert domains == set(wordnet.DOMAINS)


@pytest.mark.parametrize("selectivity", [0.1, 0.01, 0.001])
def test_a_domain_filter_of_this_selectivity_exists(sample: list[dict[str, Any]], selectivity: float) -> None:
    shares = [count / len(sample) for count in Counter(synset["domain"] for synset in sample).values()]

    assert any(0.9 * selectivity <= share <= 1.1 * selectivity for share in shares)


def test_reading_begins_anew_each_time() -> None:
    assert next(wordnet_sample()) == next(wordnet_sample())


def test_the_wordnet_licence_is_shipped_beside_the_data() -> None:
    licence = (resources.files("vectorstore.data") / "LICENSE-WordNet.txt").read_text(encoding="utf-8")

    assert "Permission to use, copy, modify and distribute this software" in licence
    assert "WordNet 3.0 Copyright 2006 by Princeton University.  All rights reserved." in licence
    assert "Princeton University and LICENSEE agrees to preserve same." in licence


def test_the_readme_counts_are_those_of_the_data(sample: list[dict[str, Any]]) -> None:
    readme = (resources.files("vectorstore.data") / "README.md").read_text(encoding="utf-8")
    synsets = [wordnet.Synset(**synset) for synset in sample]

    assert make_wordnet_sample.with_counts(readme, synsets) == readme


def test_repacking_the_lines_gives_the_same_lines(sample: list[dict[str, Any]]) -> None:
    """The lines, not the gzip bytes: those may differ between deflate libraries."""
    packed = (resources.files("vectorstore.data") / "wordnet-sample.jsonl.gz").read_bytes()
    lines = make_wordnet_sample.as_lines(wordnet.Synset(**synset) for synset in sample)

    assert lines == gzip.decompress(packed)


@pytest.fixture
def tiny_wordnet(tmp_path: Path) -> Path:
    """WordNet's files with four adjectives: "last" twice as a satellite, of two heads, and the heads."""
    licence = "  1 This software and database is being provided to you  \n"
    data = (
        '00000100 00 a 01 dying(a) 0 001 & 00000300 a 0000 | near death ; "a dying man";"her dying words"  \n'
        "00000200 00 a 01 past 0 001 & 00000400 a 0000 | earlier than now; no longer current  \n"
        '00000300 00 s 01 last 0 001 & 00000100 a 0000 | as in "last rites"; "his last words"- anon  \n'
        "00000400 00 s 02 last 0 bygone 1 001 & 00000200 a 0000 | immediately past  \n"
    )
    index = (
        "bygone a 1 1 & 1 1 00000400  \n"
        "dying a 1 1 & 1 0 00000100  \n"
        "last a 2 1 & 2 2 00000400 00000300  \n"
        "past a 1 1 & 1 0 00000200  \n"
    )
    counts = "bygone%5:00:01:past:00 1 3\nlast%5:00:00:dying(a):00 1 2\nlast%5:00:00:past:00 2 109\n"
    for name in make_wordnet_sample.needed_files():
        (tmp_path / name).write_text(licence)
    (tmp_path / "data.adj").write_text(licence + data)
    (tmp_path / "index.adj").write_text(licence + index)
    (tmp_path / "cntlist.rev").write_text(counts)
    return tmp_path


def test_satellites_are_counted_by_their_own_head(tiny_wordnet: Path) -> None:
    synsets = list(make_wordnet_sample.read_synsets(tiny_wordnet))

    assert [(synset.synset, synset.lemmas, synset.tag_count) for synset in synsets] == [
        ("dying.a.01", ["dying"], 0),
        ("past.a.01", ["past"], 0),
        ("last.s.02", ["last"], 2),
        ("last.s.01", ["last", "bygone"], 112),
    ]


def test_quotations_inside_a_definition_are_no_examples(tiny_wordnet: Path) -> None:
    synsets = list(make_wordnet_sample.read_synsets(tiny_wordnet))

    assert [(synset.definition, synset.examples) for synset in synsets] == [
        ("near death", ["a dying man", "her dying words"]),
        ("earlier than now; no longer current", []),
        ('as in "last rites"', ["his last words"]),
        ("immediately past", []),
    ]


def test_the_most_used_synsets_are_chosen_and_put_in_order_of_id(tiny_wordnet: Path) -> None:
    synsets = list(make_wordnet_sample.read_synsets(tiny_wordnet))

    chosen = make_wordnet_sample.choose(synsets, 3)

    assert [synset.id for synset in chosen] == ["wn30-00000100-a", "wn30-00000300-a", "wn30-00000400-a"]


def test_packing_twice_gives_the_same_bytes() -> None:
    assert make_wordnet_sample.pack(b"a line\n") == make_wordnet_sample.pack(b"a line\n")
