"""Older formats open, after a backup, in one transaction; a failed migration changes nothing."""

from __future__ import annotations

import sqlite3
import zipfile
from datetime import timedelta
from pathlib import Path

import pytest
from sqlite_utils import Database, Migrations

import vectorstore as vs
from vectorstore.storage import catalog, migrations

FIXTURES = Path(__file__).parent / "fixtures"


def contents(store: vs.Store) -> list[tuple[str, str | None, tuple[str, ...], int]]:
    return [(c.id, c.domain, c.tags, c.version) for c in store.concepts.find(order="id")]


@pytest.mark.parametrize("number", range(1, migrations.FORMAT + 1))
def test_a_store_of_every_released_format_opens(number: int, tmp_path: Path) -> None:
    """The fixture: 1,100 concepts with 8-d hash vectors, an index, one update, one delete (tests/fixtures/make.py)."""
    found = FIXTURES / f"format{number}.zip"
    zipfile.ZipFile(found).extractall(tmp_path)
    with vs.open(tmp_path / "kb") as store:
        assert store._catalog.migrated_from == (number if number < migrations.FORMAT else None)
        assert len(store.concepts) == 1099 and len(store.analogies) == 1
        assert store.concepts.search("word 42", k=1, exact=True).ids == ["default:word 42"]
        assert store.concepts.get("default:word 1").version == 2  # type: ignore[union-attr]
        assert store.concepts.restore("default:word 2") == 1
        store.concepts.add({"name": "new"})
        if number >= 3:
            assert store.clusters.membership("default:word 42") and store.models.get("net") == b"weights"
            assert store.clusters.state().rows == 1099 and len(store.clusters) == 4
        else:
            assert store.clusters.lines() == []
            store.clusters.fit("concepts", "kmeans", 4)
        if number >= 4:
            assert store.policy == vs.Policy(retired_share=0.5) and store.history == timedelta(days=3650)
            assert store.concepts.get("default:word 3").domain == "changed"  # type: ignore[union-attr]
            with store.as_of("before") as then:
                assert then.concepts.get("default:word 3").domain == "d0"  # type: ignore[union-attr]
                assert len(then.concepts) == 1099 and then.check().findings == ()
            assert [each.operation for each in store.trail.stream()].count("rotate") == 1
            assert (store.workflows.get("w").errors, store.workflows.rollback("w").status) == (1, "rolled_back")
            assert "m0" not in store.memories and store.memories.get("m2").importance == 0.9  # type: ignore[union-attr]
            assert store.lattice.resolve("a", "b") > 1 and len(store.maps.get("concepts")) == 1101
            state = store.state("agent")
            assert state.load() and state["n"] == 2
            state.restore("first")
            assert state["n"] == 1
        else:
            assert store.snapshots.list() == [] and store.policy is None and store.history is None
        assert store.trail.verify().ok
        assert store.clusters.predict(store.concepts.vectors(["default:word 42"])) != [None]
        assert store.check().findings == ()


def next_format(monkeypatch: pytest.MonkeyPatch, *, broken: bool = False) -> None:
    """Pretend that a later version of this package has one migration more."""
    later = Migrations("vectorstore")
    later._migrations = list(migrations.MIGRATIONS._migrations)

    @later()
    def m999_notes(db: Database) -> None:
        db.execute("ALTER TABLE state ADD COLUMN note TEXT")
        db.execute("UPDATE state SET note = 'migrated'")
        if broken:
            raise RuntimeError("half-way")

    monkeypatch.setattr(catalog, "MIGRATIONS", later)
    monkeypatch.setattr(catalog, "FORMAT", migrations.FORMAT + 1)


def old_store(tmp_path: Path) -> Path:
    with vs.open(tmp_path / "kb", embedder="hash") as store:
        store.concepts.add([{"name": "king"}, {"name": "queen"}])
    return tmp_path / "kb"


def test_a_migration_is_backed_up_and_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = old_store(tmp_path)
    next_format(monkeypatch)
    with vs.open(path) as store:
        assert store._catalog.migrated_from == migrations.FORMAT
        assert [c[0] for c in contents(store)] == ["default:king", "default:queen"]
        with store._catalog.read() as connection:
            assert connection.execute("SELECT note FROM state").fetchone() == ("migrated",)
    (backup,) = path.glob(f"catalog.format{migrations.FORMAT}.*.backup.sqlite")

    saved = sqlite3.connect(backup)
    assert saved.execute("PRAGMA user_version").fetchone() == (migrations.FORMAT,)
    assert saved.execute("SELECT count(*) FROM concepts").fetchone() == (2,)


def test_a_broken_migration_leaves_the_old_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = old_store(tmp_path)
    with monkeypatch.context() as patch:
        next_format(patch, broken=True)
        with pytest.raises(RuntimeError, match="half-way"):
            vs.open(path)
    with vs.open(path) as store:
        assert len(store.concepts) == 2 and store.check().findings == ()


def test_the_old_code_refuses_the_migrated_store_untouched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = old_store(tmp_path)
    with monkeypatch.context() as patch:
        next_format(patch)
        vs.open(path).close()
    before = (path / "catalog.sqlite").read_bytes()

    with pytest.raises(vs.NewerFormat, match="upgrade it"):
        vs.open(path)
    assert (path / "catalog.sqlite").read_bytes() == before


def test_an_open_handle_of_the_old_code_stops_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = old_store(tmp_path)
    old = vs.open(path)
    connection = sqlite3.connect(path / "catalog.sqlite")
    connection.execute(f"PRAGMA user_version={migrations.FORMAT + 1}")
    with pytest.raises(vs.NewerFormat, match="meanwhile"):
        old.concepts.add({"name": "pawn"})
    connection.execute(f"PRAGMA user_version={migrations.FORMAT}")
    connection.close()

    assert len(old.concepts) == 2
    old.close()
