"""The WordNet sample that ships with the package, for demos, tests and benchmarks.

It owns `wordnet-sample.jsonl.gz` and the one function that reads it. It knows nothing of records or
stores: a line is a plain dict. README.md beside it says where the data comes from and under which licence.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from importlib import resources
from typing import Any

__all__ = ["SAMPLE_SIZE", "wordnet_sample"]

SAMPLE_SIZE: int = 12_500
"""How many synsets `wordnet_sample` yields."""


def wordnet_sample() -> Iterator[dict[str, Any]]:
    """WordNet synsets, in order of id, read from the package line by line.

    Yields:
        `id` "wn30-00001740-n", `name` and `lemmas` (the first lemma and all of them, with spaces),
        `synset` "entity.n.01", `domain` (the lexicographer file, "noun.Tops"), `definition`, `examples`,
        `pos` (noun, verb, adjective, adjective_satellite or adverb) and `tag_count` (how often
        SemCor's texts use it, at least 1).

    All of them together take about 0.1 s and, if kept, some 20 MB.
    """
    packed = resources.files(__name__) / "wordnet-sample.jsonl.gz"
    with packed.open("rb") as file, gzip.open(file, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)
