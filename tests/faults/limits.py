"""One store against a real limit of the system; prints what was wrong.

python -m tests.faults.limits TASK FOLDER
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import vectorstore as vs
from tests.crash.load import fork
from tests.crash.model import DIM, similarities
from tests.faults.child import where

ROWS = 40
Truth = dict[str, np.ndarray]


def records(batch: int) -> tuple[list[dict[str, Any]], np.ndarray]:
    """A batch of `ROWS` that takes some 100 kB."""
    names = [f"b{batch}-{number}" for number in range(ROWS)]
    rows = np.random.default_rng(batch).integers(1, 9, (ROWS, DIM)).astype(np.float32)
    return [{"id": n, "name": n, "domain": f"b{batch}", "definition": f"{n} " * 150} for n in names], rows


def put(store: vs.Store, batch: int, truth: Truth) -> None:
    fields, rows = records(batch)
    store.concepts.add(fields, vectors=rows)
    truth |= {each["id"]: row for each, row in zip(fields, rows, strict=True)}


def wrong_answers(store: vs.Store, truth: Truth) -> list[str]:
    """Where the store differs from what was acknowledged."""
    found = {record.id for record in store.concepts.stream()}
    wrong = [] if found == truth.keys() else [f"{len(found)} records, and {len(truth)} were acknowledged"]
    query = np.arange(1.0, DIM + 1)
    names = sorted(truth)
    scores = similarities(query.tolist(), np.array([truth[name] for name in names]), "cosine") if names else []
    hits = store.concepts.search(query, k=len(names) + 5, exact=True) if names else []
    if [hit.score for hit in hits] != sorted(map(float, scores), reverse=True):
        wrong.append("a search differs from brute force")
    return wrong


def until_refused(store: vs.Store, truth: Truth, wrong: list[str], most: int = 200) -> int:
    """Add batches until one is refused; how many were added. What is refused leaves nothing."""
    for batch in range(len(truth) // ROWS, most):
        try:
            put(store, batch, truth)
        except vs.VectorstoreError:
            return batch
        except BaseException as error:
            wrong.append(f"not a typed error: {error!r}{where(error)}")
            return batch
    wrong.append("nothing was refused")
    return most


def full(folder: Path, wrong: list[str]) -> dict[str, Any]:
    """A file system without a byte left."""
    root, junk, truth = folder / "kb", folder / "junk", Truth()
    with vs.open(root, embedder=None, auto_publish=False) as store:
        added = until_refused(store, truth, wrong)
        fill(junk)
        wrong += [f"full: {each}" for each in wrong_answers(store, truth)]
        for operation in ("flush", "compact"):
            with contextlib.suppress(vs.VectorstoreError):
                getattr(store, operation)()
            fill(junk)
            wrong += [f"after {operation}: {each}" for each in wrong_answers(store, truth)]
    with vs.open(root, embedder=None, auto_publish=False) as store:
        wrong += [f"opened on a full disk: {each}" for each in wrong_answers(store, truth)]
        fill(junk)
        gone = [name for name in truth if name.startswith("b0-")]
        if store.concepts.delete(where={"domain": "b0"}) != ROWS:
            wrong.append("delete did not delete")
        for name in gone:
            del truth[name]
        wrong += [f"after the delete: {each}" for each in wrong_answers(store, truth)]
    junk.unlink()
    subprocess.run(["mount", "-o", "remount,size=40M", folder], check=True)
    with vs.open(root, embedder=None, auto_publish=False) as store:
        wrong += [f"with room again: {each}" for each in wrong_answers(store, truth)]
        store.concepts.purge(gone)
        store.compact()
        put(store, 500, truth)
        wrong += [f"after the next write: {each}" for each in wrong_answers(store, truth)]
        store.sweep(0)
        report = store.check()
        wrong += [*map(str, report.findings), *report.litter]
    return {"batches": added}


def fill(junk: Path) -> None:
    """Leave no byte of the file system."""
    with junk.open("ab", buffering=0) as file:
        for size in (65_536, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue


def full_for_many(folder: Path, wrong: list[str]) -> dict[str, Any]:
    """Three processes fill it at once; what each was told is there."""
    root, errors = folder / "kb", folder.parent / "errors"
    errors.touch()
    vs.open(root, embedder=None).close()

    def write(writer: int) -> None:
        told, mine = Truth(), list[str]()
        with vs.open(root, embedder=None, auto_publish=False) as store:
            for batch in range(1000 * writer, 1000 * writer + 200):
                try:
                    put(store, batch, told)
                except vs.StoreError:
                    break
        (folder.parent / f"told{writer}").write_text(json.dumps([sorted(told), mine]))

    children = [fork(lambda w=w: write(w), errors) for w in range(1, 4)]  # type: ignore[misc]
    for child in children:
        os.waitpid(child, 0)
    wrong += errors.read_text().splitlines()[-1:]
    truth: Truth = {}
    for writer in range(1, 4):
        names, _ = json.loads((folder.parent / f"told{writer}").read_text())
        for batch in sorted({int(name[1:].split("-")[0]) for name in names}):
            fields, rows = records(batch)
            truth |= {each["id"]: row for each, row in zip(fields, rows, strict=True)}
    with vs.open(root, embedder=None, auto_publish=False) as store:
        wrong += wrong_answers(store, truth)
        wrong += map(str, store.check().findings)
    return {"batches": len(truth) // ROWS}


def read_only(folder: Path, wrong: list[str]) -> dict[str, Any]:
    """The file system turns read-only under an open store, and back."""
    root, truth = folder / "kb", Truth()
    with vs.open(root, embedder=None, auto_publish=False) as store:
        put(store, 0, truth)
        handle = store  # stays open over the change, as a service would
        subprocess.run(["mount", "-o", "remount,ro", folder], check=False, capture_output=True)
        turned = bool(os.statvfs(folder).f_flag & os.ST_RDONLY)
        if not turned:  # files are open for writing: a read-only view of the folder shows the same to a new process
            subprocess.run(["mount", "--bind", root, root], check=True)
            subprocess.run(["mount", "-o", "remount,ro,bind", root], check=True)
        try:
            wrong += [f"read-only: {each}" for each in wrong_answers(handle, truth)]
            try:
                with vs.open(root, embedder=None, read_only=True) as other:
                    wrong += [f"opened read-only: {each}" for each in wrong_answers(other, truth)]
            except vs.StoreError as error:  # commits wait in the WAL, and a reader of read-only media cannot see them
                if "holds commits" not in str(error):
                    raise
            fields, rows = records(900)
            try:
                with vs.open(root, embedder=None) as other:
                    other.concepts.add(fields, vectors=rows)
                wrong.append("a write was acknowledged")
            except vs.VectorstoreError:
                pass
        finally:
            if turned:
                subprocess.run(["mount", "-o", "remount,rw", folder], check=True)
            else:
                subprocess.run(["umount", "--lazy", root], check=True)  # SQLite closes its files late
        put(handle, 1, truth)
        wrong += [f"writable again: {each}" for each in wrong_answers(handle, truth)]
        wrong += map(str, handle.check().findings)
    return {"batches": 2}


def file_size(folder: Path, wrong: list[str]) -> dict[str, Any]:
    """No file may grow beyond 1 MB (RLIMIT_FSIZE)."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    root, truth = folder / "kb", Truth()
    with vs.open(root, embedder=None, auto_publish=False) as store:
        put(store, 0, truth)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
        added = until_refused(store, truth, wrong)
        wrong += [f"at the limit: {each}" for each in wrong_answers(store, truth)]
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        put(store, 500, truth)
        wrong += [f"without the limit: {each}" for each in wrong_answers(store, truth)]
        wrong += map(str, store.check().findings)
    return {"batches": added}


def descriptors(folder: Path, wrong: list[str]) -> dict[str, Any]:
    """Fewer and fewer files may be open (RLIMIT_NOFILE), at each step of a write and of an opening."""
    root, truth = folder / "kb", Truth()
    with vs.open(root, embedder=None, auto_publish=False) as store:
        put(store, 0, truth)
        store.flush()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    refused = 0
    used = len(os.listdir("/proc/self/fd"))
    for room in range(30):
        store, batch = None, room + 1
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + room, hard))
        try:
            store = vs.open(root, embedder=None, auto_publish=False)
            put(store, batch, truth)
            store.flush()
        except vs.VectorstoreError:
            refused += 1
        except BaseException as error:
            wrong.append(f"{room} descriptors: not a typed error: {error!r}{where(error)}")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        with store or vs.open(root, embedder=None, auto_publish=False) as store:
            if f"b{batch}-0" not in truth:
                put(store, batch, truth)
            wrong += [f"{room} descriptors: {each}" for each in wrong_answers(store, truth)]
            wrong += map(str, store.check().findings)
    if not refused:
        wrong.append("nothing was refused")
    return {"refused": refused}


TASKS: dict[str, Callable[[Path, list[str]], dict[str, Any]]] = {
    "full disk": full,
    "full disk, many processes": full_for_many,
    "read-only": read_only,
    "file size": file_size,
    "descriptors": descriptors,
}


def main() -> int:
    """One task."""
    wrong: list[str] = []
    report = TASKS[sys.argv[1]](Path(sys.argv[2]), wrong)
    sys.stdout.write(json.dumps({**report, "wrong": wrong}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
