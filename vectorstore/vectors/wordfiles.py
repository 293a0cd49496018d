"""Word vectors in files, read block by block: GloVe's and word2vec's text, word2vec's binary form, numpy's arrays.

Text is `word 0.1 0.2 ...` a line; a first line of two whole numbers is word2vec's header (words, dimensions). Binary is
that header, then of each word its bytes, a space, and little-endian float32 numbers. Both also gzipped (.gz).
"""

from __future__ import annotations

import gzip
import itertools
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from vectorstore.errors import ValidationError
from vectorstore.vectors.arrays import MAX_DIM, Matrix

BLOCK = 8192
MAX_WORD = 4096
_LINE = MAX_WORD + 32 * MAX_DIM
Block = tuple[list[bytes], Matrix]


def word_blocks(path: Path, words: str | os.PathLike[str] | Sequence[str] | None = None) -> Iterator[Block]:
    """(words as UTF-8, (n, d) float32 vectors) by the thousands, in the order of the file.

    Args:
        path: .npy; .bin for the binary form; anything else is text.
        words: for .npy, the words in the order of its rows, or a file with one a line.

    Raises:
        ValidationError: a line or a shape that does not fit, named.

    Memory: one block.
    """
    if path.suffix == ".npy":
        yield from _array(path, words)
        return
    try:
        with cast(BinaryIO, gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")) as stream:
            binary = path.name.endswith((".bin", ".bin.gz"))
            yield from _binary(stream, path) if binary else _text(stream, path)
    except (OSError, EOFError, zlib.error) as error:
        if isinstance(error, ValidationError):
            raise
        raise ValidationError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _array(path: Path, words: str | os.PathLike[str] | Sequence[str] | None) -> Iterator[Block]:
    if words is None:
        raise ValidationError(f"{path}: a .npy file has no words; give words=[...] or a file with one a line")
    try:
        matrix = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(words, str | os.PathLike):
            words = Path(words).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError, EOFError) as error:
        raise ValidationError(f"{path}: cannot be read: {error}") from None
    if matrix.ndim != 2 or matrix.dtype.kind != "f" or len(matrix) != len(words):
        raise ValidationError(f"{path}: {len(words)} words for an array of shape {matrix.shape} of {matrix.dtype}")
    for start in range(0, len(words), BLOCK):
        part = words[start : start + BLOCK]
        yield [word.encode() for word in part], np.asarray(matrix[start : start + BLOCK], dtype=np.float32)


def _header(line: bytes) -> tuple[int, int] | None:
    parts = line.split()
    if len(parts) != 2 or not all(part.isdigit() for part in parts):
        return None
    return int(parts[0]), int(parts[1])


def _text(stream: BinaryIO, path: Path) -> Iterator[Block]:
    first = stream.readline(_LINE)
    header = _header(first)
    dim = len(first.rstrip().split(b" ")) - 1 if header is None else header[1]
    if not 0 < dim <= MAX_DIM:
        raise ValidationError(f"{path}: line 1: expected a word and its numbers, got {first[:60]!r}")
    number = 0 if header is None else 1
    lines = iter(lambda: stream.readline(_LINE), b"")
    rest = itertools.chain([first], lines) if header is None else lines
    read = 0
    while block := list(itertools.islice(rest, BLOCK)):
        kept = [line.rstrip(b" \r\n").rsplit(b" ", dim) for line in block if line.strip()]
        yield [parts[0] for parts in kept], _numbers(kept, dim, path, number, block)
        number += len(block)
        read += len(kept)
    if header is not None and read != header[0]:
        raise ValidationError(f"{path}: its first line says {header[0]} words, and it has {read}")
    if not read:
        raise ValidationError(f"{path}: has no word vectors")


def _numbers(kept: list[list[bytes]], dim: int, path: Path, before: int, block: list[bytes]) -> Matrix:
    """The numbers of some lines at once: five times faster than line by line."""
    if all(len(parts) == dim + 1 for parts in kept):
        try:
            return np.array([parts[1:] for parts in kept], dtype="S").astype(np.float32)
        except ValueError:
            pass  # say which line
    for number, line in enumerate(block, before + 1):
        parts = line.rstrip(b" \r\n").rsplit(b" ", dim)
        if line.strip() and len(parts) <= dim:
            raise ValidationError(f"{path}: line {number}: expected a word and {dim} numbers, got {len(parts)} parts")
        try:
            np.array(parts[1:], dtype="S").astype(np.float32)
        except ValueError as error:
            raise ValidationError(f"{path}: line {number}: {error}") from None
    raise ValidationError(f"{path}: lines {before + 1} to {before + len(block)} are no word vectors")


def _binary(stream: BinaryIO, path: Path) -> Iterator[Block]:
    header = _header(stream.readline(64))
    if header is None or not 0 < header[1] <= MAX_DIM:
        raise ValidationError(
            f"{path}: does not begin with the numbers of words and dimensions, as word2vec's files do"
        )
    count, dim = header
    words: list[bytes] = []
    vectors: list[bytes] = []
    for place in range(count):
        words.append(_word(stream, path, place))
        data = stream.read(4 * dim)
        if len(data) < 4 * dim:
            raise ValidationError(f"{path}: ends within word {place + 1} of {count}; take another copy")
        vectors.append(data)
        if len(words) == BLOCK or place + 1 == count:
            yield words, np.frombuffer(b"".join(vectors), dtype="<f4").reshape(len(words), dim).astype(np.float32)
            words, vectors = [], []


def _word(stream: BinaryIO, path: Path, place: int) -> bytes:
    letters = bytearray()
    while (letter := stream.read(1)) != b" ":
        if not letter or len(letters) > MAX_WORD:
            raise ValidationError(f"{path}: word {place + 1} has no end; it is no word2vec file, or cut short")
        letters += letter
    return bytes(letters).lstrip(b"\n")
