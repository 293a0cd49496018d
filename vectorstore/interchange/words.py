"""Word vectors as concepts: GloVe, word2vec, numpy."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from vectorstore.errors import ValidationError
from vectorstore.ids import check_id
from vectorstore.interchange.items import Item, Source, Vector
from vectorstore.interchange.opened import plain_file
from vectorstore.vectors.wordfiles import word_blocks


def read_words(
    path: Path,
    kind: str | None = None,
    words: str | os.PathLike[str] | Sequence[str] | None = None,
    limit: int | None = None,
) -> Source:
    """Each word a record with its vector; its id is `word:` and the word, so that a second import finds it.

    Args:
        path: see `vectors/wordfiles.py`: text (GloVe, word2vec), .bin (word2vec), .npy with `words`, each but the last
            also with .gz.
        kind: of the records; concepts unless said.
        words: for .npy, the words, or a file with one a line.
        limit: only the first so many; such files have the frequent words first.

    What is no UTF-8, blank, or comes again is left out and counted.
    """
    plain_file(path)
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise ValidationError(f"limit: expected a whole number of at least 1, got {limit!r}")
    if words is not None and not isinstance(words, str | os.PathLike):
        words = _listed(words)
    source = Source(path, lambda: iter(()), unit="word", total=limit)
    name = kind or "concepts"

    def items() -> Iterator[Item]:
        source.left_out.clear()
        seen: set[str] = set()
        place = 0
        for block, vectors in word_blocks(path, words):
            for packed, vector in zip(block, vectors, strict=True):
                place += 1
                word = _decoded(packed)
                reason = "words that are not UTF-8" if word is None else "blank words" if not word.strip() else None
                if word in seen:
                    reason = "words that come again"
                if word is None or reason is not None:
                    source.left_out[str(reason)] = source.left_out.get(str(reason), 0) + 1
                    continue
                seen.add(word)
                record = {"id": _id(word, place), "name": word}
                yield Item(name, record, place, "", {"text": Vector(vector, "pretrained")})
                if limit is not None and len(seen) == limit:
                    return

    source.read = items
    return source


def _listed(words: Any) -> list[str]:
    try:
        listed = None if isinstance(words, bytes | Mapping | Set) else list(words)
    except TypeError:
        listed = None
    if listed is None:
        raise ValidationError(f"words: expected a list of texts or a file with one a line, got {words!r:.80}")
    for place, word in enumerate(listed):
        if not isinstance(word, str):
            raise ValidationError(f"words[{place}]: expected text, got {word!r:.80}")
        try:
            word.encode()
        except UnicodeEncodeError:
            raise ValidationError(f"words[{place}]: expected text without lone surrogates, got {word!r:.80}") from None
    return listed


def _decoded(packed: bytes) -> str | None:
    try:
        word = packed.decode()
    except UnicodeDecodeError:
        return None
    return None if "\0" in word else word


def _id(word: str, place: int) -> str:
    try:
        return check_id(f"word:{word}")
    except ValueError:
        return f"word:#{place}"
