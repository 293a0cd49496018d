"""Segment files: readable by numpy, aligned, and never trusted."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import clustered
from hypothesis import given, settings
from hypothesis import strategies as st

import vectorstore as vs
from vectorstore.files import DiskFolder, MemoryFolder
from vectorstore.vectors import open_segment, segment_chunks
from vectorstore.vectors.exact import closeness
from vectorstore.vectors.segments import FIRST_READS

IDS = ["a", "ü" * 100, "c c"]


def bytes_of(vids: np.ndarray | None = None) -> bytes:  # type: ignore[type-arg]
    return b"".join(bytes(chunk) for chunk in segment_chunks(IDS, clustered(3, 5), vids))


def test_numpy_opens_a_segment_without_pickle(tmp_path: Path) -> None:
    path = tmp_path / "one.npz"
    path.write_bytes(bytes_of(np.array([4, 7, 9])))
    with np.load(path, allow_pickle=False) as archive:
        assert set(archive) == {"ids", "vectors", "norms", "vids"}
        assert archive["ids"].tolist() == IDS
        assert archive["vectors"].tobytes() == clustered(3, 5).tobytes()
        assert archive["vids"].tolist() == [4, 7, 9]
        assert archive["norms"] == pytest.approx(np.linalg.norm(clustered(3, 5), axis=1))
    assert zipfile.ZipFile(path).testzip() is None


def test_arrays_lie_where_they_are_used_at_multiples_of_64(tmp_path: Path) -> None:
    info = DiskFolder(tmp_path).publish("one.npz", segment_chunks(IDS, clustered(3, 5)))
    buffer = DiskFolder(tmp_path).read(info.name)
    segment = open_segment(buffer, id=1, file="one.npz", rows=3, dim=5, first_vid=10)
    base = np.frombuffer(buffer, np.uint8).__array_interface__["data"][0]

    assert segment.vids.tolist() == [10, 11, 12]
    for array in (segment.vectors, segment.norms):
        assert (array.__array_interface__["data"][0] - base) % 64 == 0
        assert not array.flags.owndata and not array.flags.writeable


@settings(max_examples=400, deadline=None)
@given(st.integers(0, len(bytes_of()) - 1), st.integers(0, 7))
def test_a_flipped_bit_is_an_error_or_changes_values_only(place: int, bit: int) -> None:
    """The digest in the catalog catches every flip; without it a file still cannot crash or lie about its shape."""
    data = bytearray(bytes_of())
    data[place] ^= 1 << bit
    try:
        segment = open_segment(bytes(data), id=1, file="f", rows=3, dim=5, first_vid=0)
    except vs.CorruptError as error:
        assert "f" in str(error)
    else:
        assert segment.vectors.shape == (3, 5) and segment.norms.shape == (3,)


@pytest.mark.parametrize("length", [0, 1, 30, 100, 500, -1])
def test_a_truncated_segment_is_an_error(length: int) -> None:
    with pytest.raises(vs.CorruptError, match="f is damaged"):
        open_segment(bytes_of()[:length], id=1, file="f", rows=3, dim=5, first_vid=0)


def test_other_archives_are_refused() -> None:
    vectors = clustered(3, 5)
    for arrays, compressed in (
        ({"ids": np.array(IDS), "vectors": vectors, "norms": vectors[:, 0]}, True),
        ({"ids": np.array(IDS), "vectors": vectors}, False),
        ({"ids": np.array(IDS), "vectors": vectors.astype(np.float64), "norms": vectors[:, 0]}, False),
        ({"ids": np.array(IDS), "vectors": vectors[:2], "norms": vectors[:, 0]}, False),
        ({"ids": np.array(IDS, dtype=object), "vectors": vectors, "norms": vectors[:, 0]}, False),
        ({"ids": np.array(IDS), "vectors": np.asfortranarray(vectors), "norms": vectors[:, 0]}, False),
        ({"ids": np.array(IDS), "vectors": vectors, "norms": vectors[:, 0], "more": vectors}, False),
    ):
        stream = io.BytesIO()
        (np.savez_compressed if compressed else np.savez)(stream, **arrays)  # type: ignore[arg-type]
        with pytest.raises(vs.CorruptError):
            open_segment(stream.getvalue(), id=1, file="f", rows=3, dim=5, first_vid=0)


def test_published_names_are_never_reused(tmp_path: Path) -> None:
    folder = DiskFolder(tmp_path / "a" / "b")
    first = folder.publish("one", [b"first"])
    with pytest.raises(FileExistsError):
        folder.publish("one", [b"second"])

    assert bytes(folder.read("one")) == b"first" and folder.names() == ["one"]
    assert first.size == 5 and folder.stat("one") == first.stat
    again = folder.publish("one", [b"fir", b"st"])  # what a crash left before its commit
    assert again.sha256 == first.sha256 and folder.names() == ["one"] and folder.stat("one") == again.stat


def test_a_failing_source_leaves_no_file(tmp_path: Path) -> None:
    def chunks():  # type: ignore[no-untyped-def]
        yield b"some"
        raise RuntimeError("source")

    with pytest.raises(RuntimeError, match="source"):
        DiskFolder(tmp_path).publish("one", chunks())

    assert list(tmp_path.iterdir()) == []


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(vs.CorruptError, match="cannot be read"):
        DiskFolder(tmp_path).read("link")


def test_a_map_stays_valid_after_removal(tmp_path: Path) -> None:
    for folder in (DiskFolder(tmp_path), MemoryFolder()):
        folder.publish("one", [b"bytes"])
        buffer = folder.read("one")
        folder.remove("one")
        folder.remove("one")

        assert bytes(buffer) == b"bytes" and folder.names() == []


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="only Linux tells how a map is read")
def test_only_the_first_scattered_reads_fetch_nothing_beside(tmp_path: Path) -> None:
    """`rr` among a map's flags is the system's word for scattered reads."""

    def flags() -> list[str]:
        found, here = [], False
        for line in Path("/proc/self/smaps").read_text().splitlines():
            if not line.startswith("VmFlags"):
                here = str(tmp_path / "one.npz") in line if "-" in line.split(" ")[0] else here
            elif here:
                found += line.split()[1:]
        return found

    data = clustered(4096, 16)
    info = DiskFolder(tmp_path).publish("one.npz", segment_chunks([str(n) for n in range(4096)], data))
    segment = open_segment(DiskFolder(tmp_path).read(info.name), id=1, file=info.name, rows=4096, dim=16, first_vid=1)
    rows = np.arange(0, 4096, 100)
    told = []
    for place in range(FIRST_READS + 2):
        near = closeness(data[0], segment, "ip", rows)
        assert near == pytest.approx(data[rows] @ data[0], abs=1e-5)
        told.append("rr" in flags())
        if place == 1:
            assert closeness(data[0], segment, "ip") == pytest.approx(data @ data[0], abs=1e-5)
            assert "rr" not in flags()  # going through

    assert told == [True] * FIRST_READS + [False, False]

    segment.pages.large = True
    closeness(data[0], segment, "ip", rows)
    assert "rr" in flags()
