"""What hnswlib's files say, as Chroma keeps them: vectors by label, and the pickle that says which label is whose.

The pickle is not unpickled: the few instructions that such a file consists of are read as data, and no class, function
or module of it is ever looked up. Anything else in it is refused.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vectorstore.errors import ValidationError
from vectorstore.interchange.opened import plain_file
from vectorstore.vectors import Matrix

MAX_PICKLE = 1 << 30
_HEADER = struct.Struct("<i6Q")
_DELETED = 1


def read_graph(folder: Path, dim: int) -> dict[int, npt.NDArray[np.float32]]:
    """Label -> (d,) vector of what is not marked as deleted.

    Args:
        folder: with header.bin and data_level0.bin, as hnswlib 0.7 and Chroma 0.4 to 1.5 write them.
        dim: of the vectors.

    Raises:
        ValidationError: the files are not such, or disagree in size.
    """
    header, data = folder / "header.bin", folder / "data_level0.bin"
    plain_file(header)
    size = plain_file(data).st_size
    head = header.read_bytes()
    if len(head) < _HEADER.size:
        raise ValidationError(f"{header}: is cut short")
    version, _, _, count, width, label_at, vector_at = _HEADER.unpack_from(head)
    if version != 1 or vector_at + 4 * dim > label_at or label_at + 8 > width or count * width > size:
        raise ValidationError(
            f"{header}: says {count} elements of {width} bytes and dimension {dim}; its data has {size}"
        )
    if not count:
        return {}
    raw = np.memmap(data, dtype=np.uint8, mode="r")[: count * width].reshape(count, width)
    labels = raw[:, label_at : label_at + 8].copy().view("<u8")[:, 0]
    vectors: Matrix = raw[:, vector_at : vector_at + 4 * dim].copy().view("<f4")
    live = np.flatnonzero(raw[:, 2] & _DELETED == 0)
    return {int(labels[row]): vectors[row] for row in live}


def read_labels(path: Path) -> dict[str, int]:
    """Id -> label, out of Chroma's index_metadata.pickle.

    Raises:
        ValidationError: it is none.
    """
    if plain_file(path).st_size > MAX_PICKLE:
        raise ValidationError(f"{path}: is larger than {MAX_PICKLE >> 20} MB")
    try:
        said = _read(path.read_bytes())
        labels = said["id_to_label"]
        if not isinstance(labels, dict) or not all(
            isinstance(k, str) and isinstance(v, int) for k, v in labels.items()
        ):
            raise ValueError("id_to_label is no mapping from texts to numbers")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, struct.error) as error:
        raise ValidationError(f"{path}: is not what Chroma writes beside an index: {error}") from None
    return labels


class _Class:
    """Stands for a class that a pickle names; it is not looked up."""


def _read(data: bytes) -> Mapping[str, Any]:
    """The value of a pickle of numbers, texts and mappings, perhaps within one object."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}
    at = 0

    def number(form: str) -> int:
        nonlocal at
        (value,) = struct.unpack_from(form, data, at)
        at += struct.calcsize(form)
        return int(value)

    def text(length: int) -> str:
        nonlocal at
        if length > len(data) - at:
            raise ValueError("a text is cut short")
        at += length
        return data[at - length : at].decode()

    def line() -> None:
        nonlocal at
        at = data.index(b"\n", at) + 1

    def items() -> None:
        start = marks.pop()
        pairs = stack[start:]
        del stack[start:]
        stack[-1].update(zip(pairs[::2], pairs[1::2], strict=True))

    while True:
        code = data[at : at + 1]
        at += 1
        match code:
            case b"\x80":
                at += 1
            case b"\x95":
                at += 8
            case b"}":
                stack.append({})
            case b")":
                stack.append(())
            case b"(":
                marks.append(len(stack))
            case b"N":
                stack.append(None)
            case b"X":
                stack.append(text(number("<I")))
            case b"\x8c":
                stack.append(text(number("<B")))
            case b"\x8d":
                stack.append(text(number("<Q")))
            case b"J":
                stack.append(number("<i"))
            case b"K":
                stack.append(number("<B"))
            case b"M":
                stack.append(number("<H"))
            case b"\x8a":
                length = number("<B")
                stack.append(int.from_bytes(data[at : at + length], "little", signed=True))
                at += length
            case b"q":
                memo[number("<B")] = stack[-1]
            case b"r":
                memo[number("<I")] = stack[-1]
            case b"\x94":
                memo[len(memo)] = stack[-1]
            case b"h":
                stack.append(memo[number("<B")])
            case b"j":
                stack.append(memo[number("<I")])
            case b"s":
                value, key = stack.pop(), stack.pop()
                stack[-1][key] = value
            case b"u":
                items()
            case b"c":
                line()
                line()
                stack.append(_Class)
            case b"\x93":
                stack[-2:] = [_Class]
            case b"\x81":
                if stack[-2] is not _Class or stack[-1] != ():
                    raise ValueError("an object that is made of more than its fields")
                stack[-2:] = [{}]
            case b"b":
                state = stack.pop()
                stack[-1].update(state)
            case b".":
                found = stack.pop()
                if not isinstance(found, dict):
                    raise ValueError(f"expected a mapping, got {type(found).__name__}")
                return found
            case _:
                raise ValueError(f"instruction {code!r} has no place in it")
