"""Files that are nearly right: a good one of every format, damaged at random, and read in a process of its own."""

from __future__ import annotations

import gzip
import json
import os
import random
import resource
import shutil
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import vectorstore as vs
from tests.hostile import tamed
from vectorstore.backups.manifest import Manifest
from vectorstore.recipes import load_recipe
from vectorstore.vectors.segments import open_unknown, segment_chunks

DATA = Path(__file__).parent.parent / "data"
DIM = 8
CHROMA_DIM = 6
"""Of the collection that is imported: a graph that is not asked for its vectors would not be read."""
MEMORY = 3 << 30
"""Bytes that the reading process may map: far more than any small file can honestly want."""

ROWS = 60
EXTREMES = (0, 1, 0x7F, 0xFF, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**64 - 1)


def mutate(data: bytes, chance: random.Random) -> bytes:
    """One to three kinds of damage; headers and tails, where formats keep their sizes, are hit more often."""
    mutant = bytearray(data)
    for _ in range(chance.choice([1, 1, 1, 2, 3])):
        if not mutant:
            return bytes(mutant)
        near = chance.random()
        span = len(mutant)
        at = chance.randrange(span) if near < 0.4 else chance.randrange(min(span, 300))
        if near > 0.8:
            at = span - 1 - at
        kind = chance.randrange(9)
        if kind == 0:
            mutant[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            mutant[at] = chance.choice([0, 0x20, 0x22, 0x30, 0x39, 0x5B, 0x7B, 0x7F, 0x80, 0xFF])
        elif kind == 2:
            mutant[at : at + 4] = struct.pack("<I", chance.choice(EXTREMES) & 0xFFFFFFFF)
        elif kind == 3:
            mutant[at : at + 8] = struct.pack("<Q", chance.choice(EXTREMES))
        elif kind == 4:
            del mutant[at:]
        elif kind == 5:
            del mutant[at : at + chance.randint(1, 40)]
        elif kind == 6:
            mutant[at:at] = mutant[at : at + chance.randint(1, 40)]
        elif kind == 7:
            mutant[at : at + 64] = bytes(min(64, span - at))
        else:
            mutant[at:at] = chance.choice(
                [b"\0", b'"', b"\\ud800", b"9" * 400, b"[" * 2000, b"\xff\xfe", b"NaN", b"-1", b"\n"]
            )
    return bytes(mutant)


# -- good files --------------------------------------------------------------------------------------------------------


def records() -> tuple[list[dict[str, Any]], Any]:
    rows = [
        {"id": f"c{n}", "name": f"name {n}", "domain": "d", "quality": n / 100, "tags": ["t"], "extra": {"n": n}}
        for n in range(ROWS)
    ]
    return rows, np.random.default_rng(0).standard_normal((ROWS, DIM)).astype(np.float32)


def make(folder: Path) -> dict[str, Path]:
    """A good file of every format."""
    import faiss

    rows, vectors = records()
    with vs.open(folder / "kb", embedder=None, auto_publish=False) as store:
        store.concepts.add(rows, vectors=vectors)
        store.flush()
        for name in ("jsonl", "jsonl.gz", "json", "parquet", "arrow", "csv"):
            store.export(folder / f"x.{name}", kinds="concepts", vectors="all")
        store.backup(folder / "backups")
        store.contexts.save("default", folder / "saved")
        state = store.state("agent")
        state["x"] = {"a": [1, 2.5, None, "text"], "b": np.arange(5).tolist()}
        state.save()
        state.export(folder / "x.state")
    for place, factory in enumerate(("Flat", "IDMap,Flat", "IVF4,Flat", "HNSW8,Flat", "IDMap2,Flat")):
        index = faiss.index_factory(DIM, factory)
        index.train(vectors)
        index.add_with_ids(vectors, np.arange(ROWS)) if "IDMap" in factory else index.add(vectors)
        faiss.write_index(index, str(folder / f"x{place}.faiss"))
    with open(folder / "x.bin", "wb") as stream:  # word2vec
        stream.write(f"{ROWS} {DIM}\n".encode())
        for row, vector in zip(rows, vectors, strict=True):
            stream.write(row["id"].encode() + b" " + vector.tobytes() + b"\n")
    (folder / "x.txt").write_text(
        "".join(f"{r['id']} {' '.join(map(str, v))}\n" for r, v in zip(rows, vectors, strict=True))
    )
    (folder / "x.npz").write_bytes(b"".join(segment_chunks([r["id"] for r in rows], vectors)))
    (folder / "x.toml").write_text((Path(__file__).parents[2] / "indexes" / "hnsw32.toml").read_text())
    shutil.copy(next((folder / "backups" / "generations").iterdir()), folder / "x.manifest")
    with zipfile.ZipFile(DATA / "chroma" / "folder.zip") as packed:
        packed.extractall(folder / "chroma")
    found = {path.name: path for path in folder.iterdir() if path.name.startswith("x")}
    index = next(
        (folder / "chroma").rglob("index_metadata.pickle")
    )  # a collection without one has a graph that is not read
    for path in (index, index.with_name("header.bin"), folder / "chroma" / "chroma.sqlite3"):
        found[f"chroma {path.name}"] = path
    for inner in ("concepts.jsonl", "concepts.0.npz", "manifest.json"):
        found[f"saved {inner}"] = folder / "saved" / inner
    return found


# -- reading -----------------------------------------------------------------------------------------------------------


def reader(name: str, folder: Path) -> Callable[[Path], Any]:
    """What reads a format; it is given the path of the mutant, which lies where the good file lay."""
    store = vs.open(":memory:", embedder=None, auto_publish=False)
    dim = CHROMA_DIM if name.startswith("chroma") else DIM
    store.concepts.add({"id": "here", "name": "before"}, vectors=[[1.0] * dim])

    def importing(path: Path, **options: Any) -> None:
        before = store.stats()["seq"]
        try:
            store.import_(path, on_conflict="overwrite", **options)
        except Exception:
            assert store.stats()["seq"] == before, "a refused import has written"
            raise
        finally:
            assert store.concepts.get("here") is not None

    if name.startswith("chroma"):
        return lambda path: importing(folder / "chroma", collection="birds")
    if name.startswith("saved"):

        def load(path: Path) -> None:
            with vs.open(":memory:", embedder=None, auto_publish=False) as other:
                other.contexts.load(folder / "saved")

        return load
    if name == "x.state":

        def read(path: Path) -> None:
            state = store.state("other")
            state.read(path)

        return read
    return {
        "x.npz": lambda path: open_unknown(path.read_bytes(), file=str(path), dim=DIM).vids,
        "x.toml": load_recipe,
        "x.manifest": lambda path: Manifest.from_bytes(path.read_bytes(), str(path)),
        "x.bin": lambda path: importing(path, format="words"),
        "x.txt": lambda path: importing(path, format="words"),
    }.get(name, lambda path: importing(path, kind="concepts"))


def most_memory() -> int:
    """KiB that this process has had at most; what `getrusage` says counts the process that started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def attack(name: str, path: Path, folder: Path, seed: int, cases: int, report: Any) -> None:
    """Runs in a child: tells which case it is at, so that a crash can be named, and at the end what came of them."""
    import signal

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    whole, chance = path.read_bytes(), random.Random(f"{name} {seed}")
    read = reader(name, folder)
    read(path)  # what is imported is imported now
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    before = most_memory()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # a hang is a death by SIGALRM
    refused, odd, slowest = 0, [], 0.0
    for case in range(cases):
        data = mutate(whole, chance)
        if name == "x.jsonl.gz" and case % 2:
            data = gzip.compress(mutate(gzip.decompress(whole), chance))
        path.write_bytes(data)
        report.send((case, None))
        signal.alarm(20)
        began = time.perf_counter()
        try:
            read(path)
        except Exception as error:
            refused += 1
            if not tamed(error):
                odd.append((case, f"{type(error).__name__}: {error}"[:300]))
        slowest = max(slowest, time.perf_counter() - began)
    signal.alarm(0)
    grown = (most_memory() - before) >> 10
    path.write_bytes(whole)
    report.send((cases, {"refused": refused, "odd": odd, "grown": grown, "slowest": slowest}))
    report.close()
    os._exit(0)


def case_of(name: str, whole: bytes, seed: int, case: int) -> bytes:
    """The bytes of a case that was named, to look at it."""
    chance = random.Random(f"{name} {seed}")
    for at in range(case + 1):
        data = mutate(whole, chance)
        if name == "x.jsonl.gz" and at % 2:
            data = gzip.compress(mutate(gzip.decompress(whole), chance))
    return data


if __name__ == "__main__":  # python -m tests.fuzz.mutants FOLDER: the names of all formats
    import sys

    print(json.dumps({name: str(path) for name, path in make(Path(sys.argv[1])).items()}, indent=1))
