"""Damaged files of every format: an error of ours or a right answer; no crash, no hang, no flood of memory."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from tests.fuzz import mutants

SPAWN = multiprocessing.get_context("spawn")
NAMES = [
    *("x.jsonl", "x.jsonl.gz", "x.json", "x.parquet", "x.arrow", "x.csv", "x.txt", "x.bin", "x.npz", "x.toml"),
    *("x0.faiss", "x1.faiss", "x2.faiss", "x3.faiss", "x4.faiss", "x.manifest", "x.state"),
    *("chroma header.bin", "chroma index_metadata.pickle", "chroma chroma.sqlite3"),
    *("saved concepts.jsonl", "saved concepts.0.npz", "saved manifest.json"),
]
LONG = [pytest.mark.slow, pytest.mark.fuzz, pytest.mark.timeout(600)]
LIMIT = 300
"""Megabytes that reading may add to a process, over all cases; files are smaller than one."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mutants")


@pytest.fixture(scope="module")
def paths(folder: Path) -> dict[str, Path]:
    found = mutants.make(folder)
    assert sorted(found) == sorted(NAMES)
    return found


@pytest.mark.parametrize("cases", [pytest.param(1500, marks=LONG)])
@pytest.mark.parametrize("name", NAMES)
def test_no_damage_does_more_than_raise_an_error_of_ours(
    name: str, cases: int, folder: Path, paths: dict[str, Path]
) -> None:
    attacked(name, cases, folder, paths[name])


@pytest.mark.parametrize(("name", "cases"), [("x.arrow", 60), ("x.parquet", 60), ("x2.faiss", 200)])
def test_little_damage_to_what_others_parse_for_us(name: str, cases: int, folder: Path, paths: dict[str, Path]) -> None:
    """Parsers in C++ are where a bad byte could end the process; the others are tried at length by `make fuzz`."""
    attacked(name, cases, folder, paths[name])


def attacked(name: str, cases: int, folder: Path, path: Path) -> None:
    ours, theirs = SPAWN.Pipe(duplex=False)
    arguments = (name, path, folder, 1, cases, theirs)
    child = SPAWN.Process(target=mutants.attack, args=arguments, daemon=True)
    child.start()
    theirs.close()
    at, found = -1, None
    try:
        while found is None:
            at, found = ours.recv()
    except EOFError:
        child.join(30)
        pytest.fail(f"{name}: case {at} of seed 1 ended the process: exit code {child.exitcode}")
    child.join(30)
    assert found["odd"] == [], f"{len(found['odd'])} of {cases}: {found['odd'][:3]}"
    assert found["grown"] < LIMIT and found["slowest"] < 15, found
    assert found["refused"] > cases * 0.1, "the damage is too mild to prove anything"
