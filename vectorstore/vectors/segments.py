"""Segments: immutable `.npz` files of vectors, memory-mapped.

Members: `ids` str (n,), `vectors` float32 (n, d), `norms` float32 (n,), and `vids` int64 (n,), ascending, when they
are not consecutive. The archive is *stored*, and each member's array starts at a multiple of 64 bytes (an extra field
in the zip header pads it), so that the arrays are used where they lie. `numpy.load(path, allow_pickle=False)` opens it
too. Reading trusts nothing: exact member set, stored, exact dtypes and shapes, sizes within the file.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import math
import mmap
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vectorstore.errors import CorruptError
from vectorstore.files import Buffer
from vectorstore.vectors.arrays import Matrix, Vids, lengths

ALIGNMENT = 64
MAX_BYTES = 256 * 1024 * 1024
FIRST_READS = 4
"""So many scattered reads of a segment fetch nothing beside what they ask for."""

LARGE_SHARE = 0.25
"""A space that is larger than this share of the machine's memory is never fetched ahead for scattered reads."""

NAME = re.compile(r"(\d{12})-([0-9a-f]{16})\.npz")
_NPY_HEAD = re.compile(
    rb"\x93NUMPY\x01\x00(..)\{'descr': '(<f4|<i8|<U\d{1,5})', 'fortran_order': False, "
    rb"'shape': \((\d{1,12}),(?: (\d{1,6}))?\), \} *\n",
    re.DOTALL,
)
"""What numpy writes before our arrays; a pattern, because numpy's own reader evaluates the text."""

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_DATE = (1 << 5) | 1  # 1980-01-01: the same vectors give the same bytes


def file_name(generation: int, token: str) -> str:
    """The catalog's sequence number when it was written, then a random token.

    A file whose number is higher than the catalog's shows that the catalog lost commits.
    """
    return f"{generation:012d}-{token}.npz"


def rows_per_segment(dim: int) -> int:
    """At most so many rows go into one segment."""
    return max(1, MAX_BYTES // (4 * dim))


def segment_chunks(ids: Sequence[str], vectors: Matrix, vids: Vids | None = None) -> Iterator[Buffer]:
    """The bytes of a segment, in order; the vectors are not copied."""
    arrays: list[tuple[str, npt.NDArray[Any]]] = [
        ("ids", np.array(list(ids), dtype=np.str_)),
        ("vectors", np.ascontiguousarray(vectors, dtype=np.float32)),
        ("norms", lengths(vectors)),
    ]
    if vids is not None:
        arrays.append(("vids", np.ascontiguousarray(vids, dtype=np.int64)))
    offset = 0
    central = b""
    for member, array in arrays:
        name = f"{member}.npy".encode()
        stream = io.BytesIO()
        np.lib.format.write_array_header_1_0(stream, np.lib.format.header_data_from_array_1_0(array))
        head, data = stream.getvalue(), np.ascontiguousarray(array).data.cast("B")
        size = len(head) + len(data)
        crc = zlib.crc32(data, zlib.crc32(head))
        start = offset + _LOCAL.size + len(name)
        padding = -(start + 4) % ALIGNMENT  # 4: the extra field's own header; npy heads are multiples of 64 long
        extra = struct.pack("<2H", 0xD935, padding) + b"\0" * padding
        yield (_LOCAL.pack(b"PK\3\4", 20, 0, 0, 0, _DATE, crc, size, size, len(name), len(extra)) + name + extra + head)
        yield data
        fields = (20, 20, 0, 0, 0, _DATE, crc, size, size, len(name), 0, 0, 0, 0, 0, offset)
        central += _CENTRAL.pack(b"PK\1\2", *fields) + name
        offset = start + len(extra) + size
    yield central + _END.pack(b"PK\5\6", 0, 0, len(arrays), len(arrays), len(central), offset, 0)


class Pages:
    """The pages of a mapped file that hold a segment's vectors, and how the system is told to read them.

    Left alone, it fetches megabytes around each vector that is compared: from a cold disk a first search of 120 vectors
    so takes in the whole file, 150 ms for 180 MB instead of 8. A process that asks once should not pay for that; one
    that goes on asking should, once, unless the file would fill the memory.
    """

    def __init__(self, mapped: mmap.mmap, first: int, end: int) -> None:
        self._mapped = mapped
        self._start = -(-first // mmap.PAGESIZE) * mmap.PAGESIZE
        self._length = end - self._start
        self._scattered = 0
        self._random = False
        self.large = False

    def expect(self, scattered: bool) -> None:
        """Some vectors here and there are going to be read, or all in order."""
        self._scattered += scattered
        random = scattered and (self.large or self._scattered <= FIRST_READS)
        if random != self._random and self._length > 0 and hasattr(mmap, "MADV_RANDOM"):
            self._mapped.madvise(mmap.MADV_RANDOM if random else mmap.MADV_NORMAL, self._start, self._length)
            self._random = random


def weigh(segments: Sequence[Segment]) -> None:
    """Tell the segments of a space whether all of them together are large for this machine."""
    large = sum(segment.vectors.nbytes for segment in segments) > _memory() * LARGE_SHARE
    for segment in segments:
        if segment.pages is not None:
            segment.pages.large = large


@functools.cache
def _memory() -> int:
    """Bytes of the machine's memory, where the system tells."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 1 << 32


@dataclass(frozen=True, eq=False)
class Segment:
    """Vectors that can be searched where they lie; `id` 0 is the block of pending vectors.

    Exactly one of `first_vid` and `explicit_vids` names the rows.
    """

    id: int
    vectors: Matrix
    norms: Matrix
    first_vid: int | None
    explicit_vids: Vids | None
    ids: npt.NDArray[np.str_] | None = None
    file: str = ""
    pages: Pages | None = None

    def expect(self, scattered: bool) -> None:
        """How the vectors are going to be read: some of them, here and there, or all in order."""
        if self.pages is not None:
            self.pages.expect(scattered)

    @property
    def rows(self) -> int:
        """Number of vectors."""
        return len(self.vectors)

    @property
    def vids(self) -> Vids:
        """(n,) vids, ascending."""
        if self.explicit_vids is not None:
            return self.explicit_vids
        assert self.first_vid is not None  # one of the two, by construction
        return np.arange(self.first_vid, self.first_vid + self.rows, dtype=np.int64)

    def starting_at(self, vid: int) -> Segment:
        """The same rows, numbered from another vid on."""
        return dataclasses.replace(self, first_vid=vid)

    def vids_at(self, rows: npt.NDArray[np.int64]) -> Vids:
        """The vids of some rows."""
        if self.explicit_vids is not None:
            return self.explicit_vids[rows]
        assert self.first_vid is not None
        return rows + self.first_vid

    def find(self, vids: Vids) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """(places in `vids`, rows here) of those vids that this segment holds."""
        if self.explicit_vids is None:
            assert self.first_vid is not None
            places = np.flatnonzero((vids >= self.first_vid) & (vids < self.first_vid + self.rows))
            return places, vids[places] - self.first_vid
        if not self.rows:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        rows = np.searchsorted(self.explicit_vids, vids)
        places = np.flatnonzero(self.explicit_vids[np.minimum(rows, self.rows - 1)] == vids)
        return places, rows[places]


# NotImplementedError: zipfile's word for an archive of a version that does not exist
_TORN = (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error, KeyError, EOFError)


def open_segment(buffer: Buffer, *, id: int, file: str, rows: int, dim: int, first_vid: int | None) -> Segment:
    """The segment in a mapped file.

    Raises:
        CorruptError: the file is not a segment of that many rows and dimensions.
    """
    try:
        arrays = _members(buffer)
    except _TORN as error:
        raise CorruptError(f"{file} is damaged: {error}; it held {rows} vectors; restore it from a backup") from error
    expected = {"ids", "vectors", "norms"} | (set() if first_vid is not None else {"vids"})
    if set(arrays) != expected:
        raise CorruptError(
            f"{file} has members {sorted(arrays)}, expected {sorted(expected)}; restore it from a backup"
        )
    vids = arrays.get("vids")
    good = (
        arrays["vectors"].shape == (rows, dim)
        and arrays["vectors"].dtype == np.dtype("<f4")
        and arrays["norms"].shape == (rows,)
        and arrays["norms"].dtype == np.dtype("<f4")
        and arrays["ids"].shape == (rows,)
        and arrays["ids"].dtype.kind == "U"
        and (vids is None or (vids.shape == (rows,) and vids.dtype == np.dtype("<i8")))
    )
    if not good:
        shapes = {name: (array.dtype.str, array.shape) for name, array in arrays.items()}
        raise CorruptError(f"{file} holds {shapes}, expected {rows} vectors of {dim}; restore it from a backup")
    vectors, pages = arrays["vectors"], None
    if isinstance(buffer, mmap.mmap):
        first = vectors.ctypes.data - np.frombuffer(buffer, np.uint8).ctypes.data
        pages = Pages(buffer, first, first + vectors.nbytes)
    return Segment(id, vectors, arrays["norms"], first_vid, vids, arrays["ids"], file, pages)


def open_unknown(buffer: Buffer, *, file: str, dim: int) -> Segment:
    """The segment in a file of which no row tells how many vectors it has; its first vid is 0 if it names none.

    Raises:
        CorruptError: it is none of that many dimensions.
    """
    try:
        arrays = _members(buffer)
        rows, vids = len(arrays["vectors"]), arrays.get("vids")
    except _TORN as error:
        raise CorruptError(f"{file} is damaged: {error}") from error
    return open_segment(buffer, id=-1, file=file, rows=rows, dim=dim, first_vid=0 if vids is None else None)


def _members(buffer: Buffer) -> dict[str, npt.NDArray[Any]]:
    source = io.BytesIO(buffer) if isinstance(buffer, bytes) else buffer
    arrays: dict[str, npt.NDArray[Any]] = {}
    with zipfile.ZipFile(source) as archive:  # type: ignore[arg-type]  # an mmap reads and seeks like a file
        for info in archive.infolist():
            if info.compress_type != zipfile.ZIP_STORED or info.filename in arrays:
                raise ValueError(f"member {info.filename} is compressed or there twice")
            start = info.header_offset
            names, extras = struct.unpack("<2H", bytes(buffer[start + 26 : start + 30]))
            start += _LOCAL.size + names + extras
            end = start + info.file_size
            if end > len(buffer):
                raise ValueError(f"member {info.filename} reaches past the end of the file")
            head = _NPY_HEAD.match(bytes(buffer[start : min(end, start + 512)]))
            if head is None or len(head[0]) != 10 + int.from_bytes(head[1], "little"):
                raise ValueError(f"member {info.filename} is no plain npy array")
            dtype = np.dtype(head[2].decode())
            shape = tuple(int(part) for part in head.group(3, 4) if part is not None)
            count = math.prod(shape)
            if count * dtype.itemsize != end - start - len(head[0]):
                raise ValueError(f"member {info.filename} does not have the size that its header claims")
            array = np.frombuffer(buffer, dtype, count, start + len(head[0])).reshape(shape)
            arrays[info.filename.removesuffix(".npy")] = array
    return arrays
