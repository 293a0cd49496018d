"""Files that come in, opened with suspicion: plain files, lines of bounded length, archives that do not explode."""

from __future__ import annotations

import gzip
import io
import os
import re
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from vectorstore.errors import ValidationError

MAX_LINE = 16 * 1024 * 1024
"""One record may be so large, in bytes: a line, the lines of a row of CSV, a row of a table. One JSON document is read
at once, and a record of it may be as large as that may be."""
LARGER = "in one JSON document (.json) a record may be larger"
"""What is said of a record that is larger than MAX_LINE."""
MAX_LISTS = 2**18
"""JSON may hold so many lists and objects, and beyond that one for every 8 bytes: each takes 100 bytes or more in
memory, and 3 in the text."""
LIST_SIZE = 256
"""Bytes that a list or object of JSON is taken to need, all copies of it counted."""
MAX_WHOLE = 2 * 1024 * 1024 * 1024
"""A file that has to be read at once may be so large; JSON lines have no limit."""
MAX_RATIO = 250
RATIO_FROM = 256 * 1024 * 1024
"""A compressed file may become so many times larger, once it has become so large: JSON of records is packed 5 to 20
times smaller, and a bomb 1,000 times."""
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)


def most_unpacked(size: int) -> int:
    """How many bytes a packed file of `size` bytes may become."""
    return max(RATIO_FROM, MAX_RATIO * size)


def brackets(text: bytes) -> int:
    """How many lists and objects a JSON text has at most; brackets within its strings count."""
    return text.count(b"[") + text.count(b"{")


def check_lists(text: bytes, where: str) -> None:
    """Refuse JSON that would take absurdly more memory than its text, before it is parsed.

    Raises:
        ValidationError: it holds more lists and objects than MAX_LISTS, and than one for every 8 bytes.
    """
    most = max(MAX_LISTS, len(text) // 8)
    if len(text) > most and brackets(text) > most and brackets(_STRING.sub(b"", text)) > most:
        raise ValidationError(f"{where}: is JSON of more than {most:,} lists and objects, which is no record")


def plain_file(path: Path) -> os.stat_result:
    """What the system says of a file.

    Raises:
        ValidationError: there is none, or it is a folder, a device or a pipe.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise ValidationError(f"{path}: cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(found.st_mode):
        raise ValidationError(f"{path}: is no plain file")
    return found


class _Guarded(io.RawIOBase):
    """A compressed file read through, which refuses to become absurdly large."""

    def __init__(self, path: Path, packed: BinaryIO, size: int) -> None:
        self._path, self._packed = path, packed
        self._stream = cast(BinaryIO, gzip.GzipFile(fileobj=packed))
        self._limit = most_unpacked(size)
        self._given = 0
        self.torn = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._stream.read1(len(buffer))  # type: ignore[attr-defined]
        except EOFError:
            self.torn = True
            return 0
        except (OSError, zlib.error) as error:
            raise ValidationError(f"{self._path}: is no whole gzip file: {error}") from None
        self._given += len(data)
        if self._given > self._limit:
            raise ValidationError(
                f"{self._path}: becomes more than {MAX_RATIO} times larger when unpacked; if that is right, unpack it "
                "and read the plain file"
            )
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
            self._packed.close()
        super().close()


@contextmanager
def opened(path: Path) -> Iterator[tuple[BinaryIO, Callable[[], bool]]]:
    """(the bytes of a file, unpacked if its name ends in .gz; whether they ended before their time).

    Raises:
        ValidationError: it cannot be read, or is no gzip file in spite of its name.
    """
    size = plain_file(path).st_size
    try:
        raw = path.open("rb")
    except OSError as error:
        raise ValidationError(f"{path}: cannot be read: {error.strerror}") from None
    if path.suffix != ".gz":
        with raw:
            yield raw, lambda: False
        return
    guarded = _Guarded(path, raw, size)
    with io.BufferedReader(guarded, 1 << 18) as stream:
        yield cast(BinaryIO, stream), lambda: guarded.torn


def lines_of(path: Path, *, whole: bool = False, blank: bool = False) -> Iterator[tuple[int, bytes]]:
    """(number from 1, bytes with the end of the line) of each line.

    Args:
        path: of the file.
        blank: blank ones, too.
        whole: refuse a file that was cut short in the middle of its compression; else what there is comes.

    Raises:
        ValidationError: it cannot be read, or a line is longer than 16 MB.
    """
    with opened(path) as (stream, torn):
        number = 0
        while line := stream.readline(MAX_LINE + 1):
            number += 1
            if len(line) > MAX_LINE:
                raise ValidationError(
                    f"{path}:{number}: the line is longer than {MAX_LINE >> 20} MB, which is the most for one record; "
                    f"{LARGER}"
                )
            if blank or line.strip():
                yield number, line
        if whole and torn():
            raise ValidationError(f"{path}: was cut short; take another copy")


def whole_bytes(path: Path, most: int = MAX_WHOLE) -> bytes:
    """All bytes of a file that has to be read at once.

    Raises:
        ValidationError: it cannot be read, was cut short, or is larger than that.
    """
    with opened(path) as (stream, torn):
        data = stream.read(most + 1)
        if len(data) > most:
            raise ValidationError(f"{path}: is larger than {most >> 20} MB and would be read at once; use JSON lines")
        if torn():
            raise ValidationError(f"{path}: was cut short; take another copy")
        return data
