"""Word vectors from files: the text formats of word2vec and GloVe, and numpy's with a list of words."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vectorstore.errors import ValidationError
from vectorstore.vectors import Matrix


def read_word_vectors(
    path: str | os.PathLike[str], words: str | os.PathLike[str] | Sequence[str] | None = None, limit: int | None = None
) -> tuple[list[str], Matrix]:
    """(words, (n, d) float32 vectors) of a file, in its order; of a word that comes twice only the first.

        words, vectors = vs.read_word_vectors("glove.6B.50d.txt")
        store.concepts.add({"id": [f"w{n}" for n in range(len(words))], "name": words}, vectors=vectors)

    Args:
        path: text (`word 0.1 0.2 ...` a line; a first line of two numbers is word2vec's header), gzipped if it ends in
            .gz; or .npy.
        words: for .npy, the words in the order of its rows, or a file with one a line.
        limit: only the first so many.

    Raises:
        ValidationError: a line or a shape that does not fit, named.
    """
    path = Path(path)
    if path.suffix == ".npy":
        matrix = np.load(path, mmap_mode="r", allow_pickle=False)[:limit]
        if words is None:
            raise ValidationError(f"{path}: a .npy file has no words; give words=[...] or a file with one a line")
        if isinstance(words, str | os.PathLike):
            words = Path(words).read_text(encoding="utf-8").splitlines()
        listed = list(words)[:limit]
        if matrix.ndim != 2 or len(matrix) != len(listed):
            raise ValidationError(f"{path}: {len(listed)} words for vectors of shape {matrix.shape}")
        return _once(listed, np.asarray(matrix, dtype=np.float32))
    opened: Any = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8", newline="\n") as lines:
        return _once(*_parsed(lines, path, limit))


def _parsed(lines: Iterator[str], path: Path, limit: int | None) -> tuple[list[str], Matrix]:
    words: list[str] = []
    vectors: list[Matrix] = []
    for number, line in enumerate(lines, 1):
        parts = line.rstrip().split(" ")
        if number == 1 and len(parts) == 2:
            continue
        if limit is not None and len(words) == limit:
            break
        dim = len(vectors[0]) if vectors else len(parts) - 1
        if len(parts) <= dim or not dim:
            raise ValidationError(f"{path}: line {number}: expected a word and {dim} numbers, got {len(parts)} parts")
        try:  # GloVe's largest files have words with spaces
            vector = np.array(parts[-dim:], dtype=np.float32)
        except ValueError as error:
            raise ValidationError(f"{path}: line {number}: {error}") from None
        words.append(" ".join(parts[:-dim]))
        vectors.append(vector)
    if not words:
        raise ValidationError(f"{path}: has no word vectors")
    return words, np.stack(vectors)


def _once(words: list[str], vectors: Matrix) -> tuple[list[str], Matrix]:
    first = {word: place for place, word in reversed(list(enumerate(words)))}
    if len(first) == len(words):
        return words, vectors
    places = sorted(first.values())
    return [words[place] for place in places], vectors[places]
