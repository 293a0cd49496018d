"""States in files of their own."""

from __future__ import annotations

import gzip
import json
import os
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vectorstore as vs
from tests.kept import filled
from vectorstore.states import StateFile


def test_the_sources_own_file_is_read(tmp_path: Path) -> None:
    """H9: a file of format 0, as the source system wrote it, gzipped or not; saved anew it has today's format."""
    text = json.dumps({
        "knowledge_base": {"k": {"__type__": "NumericVectorArtifact", "vector": [0.1, 0.2], "metadata": {}}},
        "task_history": {"__type__": "deque", "items": [{"task_id": "t"}], "maxlen": 1000},
        "score_history": [0.85, 0.9],
    }, indent=2)  # fmt: skip
    for path, data in (
        (tmp_path / "state.json", text.encode()),
        (tmp_path / "s.json.gz", gzip.compress(text.encode())),
    ):
        path.write_bytes(data)
        state = StateFile(path)
        assert state.load() and state["knowledge_base"]["k"] == vs.NumericArtifact([0.1, 0.2])
        assert state.history("score_history") == deque([0.85, 0.9]) and state["task_history"].maxlen == 1000
        state.save()
        assert path.read_bytes().startswith(b'{"vectorstore-state":1,')
        other = StateFile(path)
        assert other.load() and dict(other) == dict(state)
        assert path.with_name(path.name + ".previous").read_bytes() == data


def damages(data: bytes) -> list[bytes]:
    flips = [data[:n] + bytes([data[n] ^ 0x10]) + data[n + 1 :] for n in range(0, len(data), max(1, len(data) // 50))]
    return (
        [data[: len(data) * n // 20] for n in range(20)] + flips + [b"[1, 2]", b"null", b"\x1f\x8b junk", data + b"x"]
    )


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_a_damaged_file_is_set_aside_and_never_overwritten(tmp_path: Path, compression: Any) -> None:
    """P1, P3, P7: a load error meant a fresh state, saved over the damaged but recoverable file; lists, empty files and
    half files raised whatever came up, and members were taken over one by one."""
    path = tmp_path / "state.json"
    first = filled(StateFile(path, compression=compression))
    first.save()
    first["round"] = 2
    first.save()
    data, before = path.read_bytes(), path.with_name("state.json.previous").read_bytes()
    for bad in damages(data):
        path.write_bytes(bad)
        state = StateFile(path)
        state["mine"] = 1
        with pytest.raises((vs.CorruptError, vs.NewerFormat, vs.WrongKey)) as raised:
            state.load()
        assert dict(state) == {"mine": 1}
        if isinstance(raised.value, vs.CorruptError):
            (aside,) = tmp_path.glob("state.json.damaged-*")
            assert aside.read_bytes() == bad and not path.exists() and str(aside) in str(raised.value)
            assert state.load() is False
            state.save()
            assert aside.read_bytes() == bad, "a new save leaves it alone"
            aside.unlink()
            path.write_bytes(bad)
            fallen = StateFile(path)
            assert fallen.load(fallback=True) and "round" not in fallen and len(fallen["knowledge_base"]) == 2
            fallen.save()
            assert StateFile(path).load() and path.with_name("state.json.previous").read_bytes() == before
            for aside in tmp_path.glob("state.json.damaged-*"):
                aside.unlink()
        else:
            assert path.read_bytes() == bad


def test_a_newer_file_is_refused_and_left(tmp_path: Path) -> None:
    """H9"""
    path = tmp_path / "s"
    filled(StateFile(path, compression="none")).save()
    newer = path.read_bytes().replace(b'"vectorstore-state":1', b'"vectorstore-state":2')
    path.write_bytes(newer)
    with pytest.raises(vs.NewerFormat, match="format 2"):
        StateFile(path).load(fallback=True)
    assert path.read_bytes() == newer


def test_files_are_compressed_when_it_pays(tmp_path: Path) -> None:
    """H9, P10"""
    sizes = {}
    for compression in ("none", "gzip", "auto"):
        for what, value in (
            ("text", [{"task": n} for n in range(5000)]),
            ("noise", np.random.default_rng(0).random(9000)),
        ):
            state = StateFile(tmp_path / f"{what}.{compression}", compression=compression)  # type: ignore[arg-type]
            state["x"] = value
            sizes[what, compression] = state.save().size
            other = StateFile(state.path)
            assert other.load() and np.array_equal(other["x"], value)
    assert sizes["text", "auto"] == sizes["text", "gzip"] < sizes["text", "none"] / 5
    assert sizes["noise", "auto"] == sizes["noise", "none"]


def test_a_files_place_does_not_move_with_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P11: the default path depended on the working directory. And a link to a file stays a link."""
    (tmp_path / "real").write_text("{}")
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    state = StateFile("link")
    monkeypatch.chdir("/")
    state.load()
    state["x"] = 1
    state.save()
    assert (tmp_path / "link").is_symlink() and b'"x":1' in (tmp_path / "real").read_bytes()
    assert os.stat(tmp_path / "real").st_mode & 0o077 == 0, "for its owner only"


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """J1, P1"""
    from vectorstore import files

    path = tmp_path / "s"
    state = filled(StateFile(path))
    state.save()
    before = path.read_bytes()
    state["more"] = 1
    for step in ("_write", "_sync", "_rename"):
        with monkeypatch.context() as broken:
            broken.setattr(files, step, lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
            with pytest.raises(OSError, match="No space"):
                state.save()
        assert path.read_bytes() == before and not [n for n in os.listdir(tmp_path) if ".tmp" in n]
    state.save()
    assert StateFile(path).load()
