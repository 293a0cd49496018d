"""Backups on S3: who writes there is decided by conditional writes, and a store is read where its backups lie."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import vectorstore as vs
from vectorstore.backups import heads, vault_at
from vectorstore.backups.vaults import RemoteVault
from vectorstore.files import sha256

STEPS = 4
"""How many requests that write a second backup makes."""
WORDS = [f"word {number} about {number % 13}" for number in range(200)]
pytestmark = [pytest.mark.usefixtures("s3"), pytest.mark.timeout(600)]


@pytest.fixture
def url(s3: str, tmp_path: Path) -> str:
    return f"{s3}/{tmp_path.name}"


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "LEASE", 0.8)


@pytest.fixture
def kb(tmp_path: Path) -> Iterator[vs.Store]:
    with vs.open(tmp_path / "kb", embedder="hash:32", auto_publish=False) as store:
        store.concepts.add([{"name": word} for word in WORDS])
        store.flush()
        yield store


def vault(url: str) -> RemoteVault:
    found = vault_at(url, create=True)
    assert isinstance(found, RemoteVault) and found.locks
    return found


# -- who writes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["s3", "memory"])
def test_of_several_who_follow_a_head_exactly_one_wins(where: str, url: str) -> None:
    place = url if where == "s3" else f"memory://{url.rpartition('/')[2]}"
    first = vault(place)._heads
    base = first.follow(heads.Head(0, ("a.json",), None, ""))
    assert base is not None and first.honoured()
    for _ in range(5):
        start = threading.Barrier(6)

        def race(number: int, base: heads.Head = base, start: threading.Barrier = start) -> heads.Head | None:
            start.wait()
            return vault(place)._heads.follow(base, holder=str(number))

        with ThreadPoolExecutor(6) as pool:
            made = [head for head in pool.map(race, range(6)) if head is not None]
        assert len(made) == 1 and first.latest() == made[0] and made[0].number == base.number + 1
        assert first.follow(base, holder="late") is None, "nor later"
        base = made[0]
    for _ in range(12):
        following = first.follow(base)
        assert following is not None
        base = following
    assert first.follow(heads.Head(1, (), None, "")) is None, "nor when the head that it would make is long gone"
    assert first.latest() == base and base.generations == ("a.json",)


def test_backups_at_once_take_turns_and_all_of_them_are_whole(
    kb: vs.Store, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads, "LEASE", 15.0)  # nobody is taken for dead on a busy machine
    readers = [vs.open(tmp_path / "kb", embedder=None, read_only=True) for _ in range(2)]
    with ThreadPoolExecutor(3) as pool:
        made = [*pool.map(lambda store: store.backup(url, keep=2).generation, [kb, *readers])]
    for reader in readers:
        reader.close()
    backups = vs.Backups(url)
    assert len(set(made)) == 3 and len(backups.list()) == 2 and backups.verify().ok
    vs.restore(url, tmp_path / "again")
    with vs.open(tmp_path / "again", embedder="hash:32") as again:
        assert len(again.concepts) == len(WORDS) and again.check().findings == ()


def test_who_was_silent_too_long_publishes_and_removes_nothing(kb: vs.Store, url: str, tmp_path: Path) -> None:
    kb.backup(url)
    (sound,) = vs.Backups(url).list()
    sleeper = vault(url)
    sleeper._heads._beat = lambda over: None  # type: ignore[method-assign]  # it is stopped, or its network is gone
    with sleeper.alone():
        started = time.monotonic()
        second = kb.backup(url)
        assert time.monotonic() - started >= heads.LEASE, "the holder might have lived"
        with pytest.raises(vs.StoreBusy, match="silent"):
            sleeper.publish("01ZZZZZZZZZZZZZZZZZZZZZZZZ.json", b"{}", sha256(b"{}"))
        with pytest.raises(vs.StoreBusy, match="silent"):
            sleeper.remove("files", next(iter(sleeper.names("files"))))
        with pytest.raises(vs.StoreBusy, match="silent"):
            sleeper.withdraw([f"{sound.id}.json"])
    assert [each.id for each in vs.Backups(url).list()] == [second.generation, sound.id]
    assert vs.Backups(url).verify().ok
    kb.backup(url, keep=1)
    assert "01ZZZZZZZZZZZZZZZZZZZZZZZZ.json" not in vault(url)._listed("generations"), (
        "what never counted is cleared away"
    )


def test_who_lives_is_waited_for_and_then_told(kb: vs.Store, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "LEASE", 15.0)
    monkeypatch.setattr(heads, "TIMEOUT", 0.8)
    kb.backup(url)
    with vault(url).alone(), pytest.raises(vs.StoreBusy, match="another process"):
        kb.backup(url)
    kb.backup(url)
    assert vs.Backups(url).verify().ok and len(vs.Backups(url).list()) == 2


def test_a_service_that_ignores_conditions_is_found_out(
    kb: vs.Store, url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import s3fs

    real = s3fs.S3FileSystem._pipe_file

    async def careless(self: Any, path: str, data: bytes, *args: Any, mode: str = "overwrite", **more: Any) -> Any:
        return await real(self, path, data, *args, **more)

    monkeypatch.setattr(s3fs.S3FileSystem, "_pipe_file", careless)
    s3fs.S3FileSystem.clear_instance_cache()  # those that there are have the method already
    kb.backup(url)
    s3fs.S3FileSystem.clear_instance_cache()
    assert "no conditional writes" in caplog.text and vs.Backups(url).verify().ok


@pytest.mark.crash
def test_cut_off_at_any_request_the_former_backups_stay_and_the_next_one_succeeds(
    kb: vs.Store, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import s3fs

    monkeypatch.setattr(heads, "LEASE", 0.5)
    monkeypatch.setattr(heads, "_ATTEMPTS", 1)
    monkeypatch.setattr(heads.Heads, "_beat", lambda self, over: None)  # its requests would come at any time
    real, left, cut = s3fs.S3FileSystem._call_s3, [10_000], [False]

    async def counted(self: Any, method: str, *args: Any, **more: Any) -> Any:
        if method in ("put_object", "delete_object", "delete_objects", "create_multipart_upload", "upload_part"):
            left[0] -= 1
            cut[0] = cut[0] or left[0] < 0
        if cut[0]:
            raise OSError("the network is gone")
        return await real(self, method, *args, **more)

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", counted)
    kb.backup(url)
    steps = done = 0
    while not done:
        kb.concepts.upsert({"name": f"new {steps}"})
        before = [each.id for each in vs.Backups(url).list()]
        left[0] = steps
        with contextlib.suppress(vs.StoreError):
            kb.backup(url, keep=2)
            done = not cut[0]
        left[0], cut[0] = 10_000, False
        now = [each.id for each in vs.Backups(url).list()]
        assert now == before or now[0] not in before, "the former ones, or the new one"
        assert vs.Backups(url).verify().ok, f"cut off at request {steps}"
        steps += 1
    assert steps > 8
    kb.backup(url, keep=1)
    assert vs.Backups(url).verify().ok and len(vs.Backups(url).list()) == 1
    named = set(vault(url).names("files"))
    assert len(named) == vs.Backups(url).verify().files, "and nothing is left of what was cut off"


@pytest.mark.crash
@pytest.mark.parametrize("step", range(STEPS + 1))
def test_killed_at_any_request_the_former_backup_stays_valid(step: int, kb: vs.Store, url: str, tmp_path: Path) -> None:
    first = kb.backup(url).generation
    kb.concepts.upsert({"name": "one more"})
    kb.flush()
    kb.close()
    child = Path(__file__).with_name("s3_child.py")
    done = subprocess.run([sys.executable, str(child), str(tmp_path / "kb"), url, str(step)], env=os.environ)
    assert done.returncode == (-signal.SIGKILL if step < STEPS else 0)
    found = vs.Backups(url)
    assert first in [each.id for each in found.list()] and found.verify().ok
    with vs.open(tmp_path / "kb", embedder="hash:32") as again:
        again.backup(url)
    vs.restore(url, tmp_path / "again")
    with vs.open(tmp_path / "again", embedder="hash:32") as restored:
        assert restored.concepts.get("default:one more") and restored.check().findings == ()


# -- reading it there --------------------------------------------------------------------------------------------------


def answers(store: vs.Store) -> list[tuple[str, float]]:
    return [(hit.record.id, hit.score) for word in WORDS[:5] for hit in store.concepts.search(word, k=5)]


def fetched(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.rglob("*") if path.is_file())


def test_a_store_is_read_where_its_backups_lie(kb: vs.Store, url: str, tmp_path: Path) -> None:
    kb.backup(url)
    with vs.open(url, read_only=True, cache=tmp_path / "cache") as reader:
        assert [name[:8] for name in fetched(tmp_path / "cache")] == ["catalog."], "the catalog alone"
        assert len(reader.concepts) == len(WORDS) and reader.concepts.get(f"default:{WORDS[3]}").name == WORDS[3]
        assert len(fetched(tmp_path / "cache")) == 1
        assert answers(reader) == answers(kb), "vectors come with the first search"
        assert any(name.endswith(".npz") for name in fetched(tmp_path / "cache"))
        assert reader.check().findings == () and reader.read_only
        with pytest.raises(vs.ReadOnlyStore):
            reader.concepts.add({"name": "new"})
        assert reader.refresh() is False and kb.refresh() is False

        kb.concepts.add([{"name": f"later {number}"} for number in range(150)])
        kb.flush()
        kb.concepts.delete(f"default:{WORDS[0]}")
        kb.compact()
        assert len(reader.concepts) == len(WORDS)
        kb.backup(url)
        with reader._catalog.read():
            assert reader.refresh() is True and reader.refresh() is False
            assert len(reader.concepts) == len(WORDS), "a read that has begun ends in its commit"
        assert len(reader.concepts) == len(WORDS) + 149 and answers(reader) == answers(kb)
        assert reader.concepts.search("later 7", k=1)[0].record.name == "later 7" and reader.check().findings == ()
    before = fetched(tmp_path / "cache")
    with vs.open(url, read_only=True, cache=tmp_path / "cache") as reader:
        assert answers(reader) == answers(kb) and fetched(tmp_path / "cache") == before, "nothing is fetched twice"


def test_readers_of_one_cache_do_not_disturb_each_other(kb: vs.Store, url: str, tmp_path: Path) -> None:
    kb.backup(url)
    cache = tmp_path / "cache"
    old = vs.open(url, read_only=True, cache=cache)
    expected = answers(kb)
    kb.concepts.add([{"name": f"later {number}"} for number in range(150)])
    kb.flush()
    kb.compact()
    kb.backup(url)
    with vs.open(url, read_only=True, cache=cache) as new:
        assert answers(new) == answers(kb)
        assert answers(old) == expected, "its files are fetched still"
        assert len([name for name in fetched(cache) if name.startswith("catalog")]) == 2
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(answers, old).result() == expected
    kb.concepts.add({"name": "last"})
    kb.backup(url)
    old.refresh()
    assert answers(old) == answers(kb) and len([name for name in fetched(cache) if name.startswith("catalog")]) == 1
    named = {path.rpartition("/")[2] for path in old._mirror.entries}  # type: ignore[union-attr]
    assert {name for name in fetched(cache) if not name.startswith("catalog")} <= named, "the cache does not grow"
    old.close()


def test_what_is_damaged_or_gone_there_is_told(kb: vs.Store, url: str, tmp_path: Path) -> None:
    kb.backup(url)
    place = vault(url)
    reader = vs.open(url, read_only=True, cache=tmp_path / "cache")
    entries = {path: entry for path, entry in reader._mirror.entries.items() if path.endswith(".npz")}  # type: ignore[union-attr]
    good = {entry.sha256: b"".join(place.chunks("files", entry.sha256)) for entry in entries.values()}
    for digest, data in good.items():
        place._fs.pipe_file(place._path("files", digest), data[:-100] + bytes(100))
    with pytest.raises(vs.CorruptError, match="digest"):
        answers(reader)
    assert not [name for name in fetched(tmp_path / "cache") if name.endswith(".npz")], "it did not become part"
    for digest, data in good.items():
        place._fs.pipe_file(place._path("files", digest), data)
    assert answers(reader) == answers(kb)
    reader.close()

    late = vs.open(url, read_only=True, cache=tmp_path / "second")
    kb.concepts.add([{"name": f"later {number}"} for number in range(150)])
    kb.flush()
    kb.concepts.delete([f"default:{word}" for word in WORDS[:100]])
    kb.compact()
    kb.backup(url, keep=1)
    with pytest.raises(vs.StoreError, match=r"refresh\(\)"):
        answers(late)
    assert late.refresh() and answers(late) == answers(kb)
    late.close()
    with pytest.raises(vs.StoreError, match="read_only=True"):
        vs.open(url)
    with pytest.raises(vs.NotFound):
        vs.open(f"{url}-nothing", read_only=True, cache=tmp_path / "cache")


def test_another_store_in_the_place_is_not_taken_for_a_later_one(kb: vs.Store, url: str, tmp_path: Path) -> None:
    kb.backup(url)
    with vs.open(url, read_only=True, cache=tmp_path / "cache") as reader:
        expected = answers(reader)
        place = vault(url)
        place._fs.rm(place._root, recursive=True)
        with vs.open(tmp_path / "other", embedder="hash:32") as other:
            other.concepts.add({"name": "alone"})
            other.backup(url)
        with pytest.raises(vs.StoreError, match="another store"):
            reader.refresh()
        assert answers(reader) == expected, "what was open stays open"


def test_commands_read_it_there(kb: vs.Store, url: str, tmp_path: Path) -> None:
    """The URL stands where a folder would; what would write says what to do instead."""
    kb.backup(url)

    def said(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "vectorstore.cli", *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)

    found = said("search", url, "concepts", WORDS[3], "-k", "2", "--json")
    assert found.returncode == 0, found.stderr
    hits = json.loads(found.stdout)
    assert WORDS[3] in json.dumps(hits)
    assert said("check", url).returncode == 0
    refused = said("add", url, "concepts", "-f", "name=x")
    assert refused.returncode == 5 and "can only be read" in refused.stderr and "restore it" in refused.stderr
    nothing = said("stats", f"{url}/none")
    assert nothing.returncode == 3 and "holds no backup" in nothing.stderr
    assert not (tmp_path / "s3:").exists()
