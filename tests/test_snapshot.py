"""A context saved and loaded again is the same, bit for bit; a damaged or hostile snapshot changes nothing."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from conftest import Clock

import vectorstore as vs
from vectorstore.reason.manifest import Manifest


class Note(vs.Record, table="notes"):
    title: Annotated[str, vs.EMBEDDED, vs.UNIQUE]
    about: Annotated[str | None, vs.Ref("concepts")] = None
    seen: vs.UtcTime | None = None


def fill(store: vs.Store, clock: Clock) -> None:
    """Something of every kind, with changes, deletions and vectors from several places."""
    store.contexts.add(
        [{"name": "world"}, {"name": "science", "parent": "world", "description": "d", "colour": "blue"}]
    )
    store.concepts.add({"name": "thing", "context": "world", "definition": "anything"})
    store.concepts.add(
        [
            {
                "name": name,
                "context": "science",
                "definition": f"a {name}",
                "tags": ["t"],
                "extra": {"n": [1, 2.5, None, "é"]},
            }
            for name in ("king", "queen", "prince", "gone")
        ]
    )
    dim = store.concepts.vectors(["science:king"]).shape[1]
    store.concepts.add(
        {"name": "brought", "context": "science"},
        vectors=np.linspace(-1, 1, dim)[None],
        source="custom",
        confidence=0.25,
    )
    clock.move(hours=1)
    store.concepts.update([{"id": "science:king", "quality": 1 / 3}, {"id": "science:queen", "definition": "a woman"}])
    store.concepts.delete("science:gone")
    store.relations.add(
        {
            "context": "science",
            "source": "science:king",
            "type": "antonym",
            "target": "science:queen",
            "confidence": 0.5,
        }
    )
    elements = [{"name": "Ruler"}, {"name": "Heir", "type": "peripheral"}]
    store.frames.add(
        [
            {"name": "Rule", "context": "science", "elements": elements, "lexical_units": ["rule"]},
            {"name": "Monarchy", "context": "science"},
        ]
    )
    store.frame_relations.add(
        {"context": "science", "source": "science:monarchy", "target": "science:rule", "type": "inheritance"}
    )
    store.instances.bind(
        "Monarchy", {"Ruler": ["king", "queen"], "Heir": "prince"}, context="science", id="realm", century=3
    )
    store.fields.add({"name": "rule", "context": "science", "core": ["science:king"]})
    store.axioms.add(
        {"name": "a", "context": "science", "concepts": ["science:king"], "formula": {"op": "add", "of": [1, 2]}}
    )
    here = {"context": "science"}
    store["tiers"].add({"level": 12, "name": "royal", "scale": "species", **here})
    store["memories"].add(
        [{"id": "seen", "content": "a coronation", "tier": 4, **here}, {"id": "death", "content": "a death", **here}]
    )
    store["episodes"].add({"memory": "seen", "trigger": "a death", **here})
    store["causes"].add({"source": "death", "target": "seen", **here})
    store["skills"].add({"name": "ruling", "success_count": 2, **here})
    store["architectures"].add({"id": "court", "name": "court", "paradigm": "symbolic", **here})
    store["intelligences"].add({"name": "council", "architecture": "court", "memories": ["seen"], **here})
    store["numeric_artifacts"].add({"name": "weights", **here}, vectors=np.arange(1.0, 4.0)[None])
    store.identities.add({"id": "throne", "raw": "a throne", "context": "science"})
    for anchor in ("crown", "orb"):
        form = {"anchor": anchor, "context": "science", "identities": ["throne"]}
        store.lattice.put(form, [{"symbol": "gold", "intensity": 0.5}])
    store.lattice.link("crown", "orb", "kin", 0.5, context="science")
    store.analogies.add(
        vs.Analogy(
            a="king",
            b="man",
            c="queen",
            d="woman",
            context="science",
            source_domain="rule",
            target_domain="sex",
            concept_mappings=[{"source": "a", "target": "b"}],
        ),
        vectors={"relation": np.arange(1.0, 6.0)[None]},
    )
    store.clusters.add({"name": "royals", "context": "science", "coherence": 0.5}, vectors=np.arange(1.0, 4.0)[None])
    store.collection(Note).add(
        {"title": "n", "context": "science", "about": "science:king", "seen": clock.now.isoformat()}
    )


def graph(store: vs.Store, context: str) -> dict[str, Any]:
    """All that can be known of a context."""
    found: dict[str, Any] = {}
    for name in store.kinds:
        collection = store.collection(name)
        where = {"id": context} if name == "contexts" else {"context": context}
        for record in collection.stream(where):
            entry: dict[str, Any] = {"record": record.model_dump()}
            if name == "forms":  # the decayed sum is kept as of the last write, whichever that was
                del entry["record"]["intensity_sum"], entry["record"]["decayed_at"]
                later = record.created_at + timedelta(days=100)
                entry["intensity"] = f"{collection.intensities([record], at=later)[0]:.12g}"
            for space in (None, *collection.kind.spaces):
                info = collection.vector_info(record.id, space)
                if info is not None:
                    entry[str(space)] = (info, collection.vectors([record.id], space).tobytes())
            found[f"{name}/{record.id}"] = entry
    return found


@pytest.fixture
def saved(tmp_path: Path, clock: Clock) -> tuple[Path, dict[str, Any]]:
    with vs.open(tmp_path / "kb", embedder="hash:16", kinds=[Note], clock=clock, auto_publish=False) as store:
        fill(store, clock)
        report = store.contexts.save("science", tmp_path / "shot")
        assert (
            report.records["concepts"] == 4
            and report.vectors["concepts"] == 4
            and report.vectors["analogies.relation"] == 1
        )
        return tmp_path / "shot", graph(store, "science")


def loaded(path: Path | str, snapshot: Path, clock: Clock) -> dict[str, Any]:
    with vs.open(path, embedder="hash:16", kinds=[Note], clock=clock, auto_publish=False) as store:
        store.contexts.load(snapshot)
        assert store.check().findings == ()
        return graph(store, "science")


def test_an_empty_store_gets_an_equal_object_graph(
    tmp_path: Path, place: Path | str, saved: tuple[Path, dict[str, Any]], clock: Clock
) -> None:
    snapshot, wanted = saved
    clock.move(days=9)
    kinds = {name.partition("/")[0] for name in wanted}
    assert kinds == set(vs.open(":memory:", kinds=[Note]).kinds)  # something of every kind
    other = tmp_path / "other" if place != ":memory:" else place
    assert loaded(other, snapshot, clock) == wanted


def test_what_was_loaded_is_searched_written_and_saved_again(
    tmp_path: Path, saved: tuple[Path, dict[str, Any]], clock: Clock
) -> None:
    snapshot, _ = saved
    with vs.open(tmp_path / "other", embedder="hash:16", kinds=[Note], clock=clock, auto_publish=False) as store:
        store.contexts.load(snapshot)
        assert store.concepts.search("king: a king", k=1)[0].id == "science:king"
        assert store.instances.roles_of("science:queen")[0].element == "Ruler"
        assert [each.concept.id for each in store.concepts.related("science:king")] == ["science:queen"]
        assert store.contexts.chain("science") == ["science", "world"] and store.frames.find({"elements__has": "heir"})
        before = store.concepts.vector_info("science:king")
        store.concepts.upsert(
            {"name": "king", "context": "science", "definition": "a king"}
        )  # the text is known: no new vector
        assert store.concepts.vector_info("science:king") == before and store.concepts.get("science:king").version == 3
        with pytest.raises(vs.DuplicateId):
            store.contexts.load(snapshot)
    with vs.open(tmp_path / "third", embedder="hash:16", kinds=[Note], clock=clock) as store:
        store.contexts.load(snapshot)
        store.contexts.save("science", tmp_path / "again")
    for path in snapshot.iterdir():
        if path.name != "manifest.json":
            assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def fits(store: vs.Store, name: str) -> dict[str, Any]:
    """All that can be known of a fit, but for what belongs to one store (commits, files)."""
    ids = [one.id for one in store.concepts]
    state = store.clusters.state(name)
    return {
        "line": store.clusters.lines(),
        "state": dataclasses.replace(state, stale_since=None),
        "stale": state.stale_since is not None,
        "memberships": {one: store.clusters.memberships(one, name) for one in ids},
        "membership": {one: store.clusters.membership(one, name) for one in ids},
        "members": {one.id: list(store.clusters.members(one.id)) for one in store.clusters.stream({"model": name})},
        "drift": store.clusters.drift(name),
        "predicted": store.clusters.predict(np.eye(4, dtype=np.float32), name),
    }


def test_fits_of_clusters_come_along(tmp_path: Path, clock: Clock) -> None:
    random = np.random.default_rng(0)
    points = (random.normal(size=(60, 4)) * 0.1 + np.eye(4)[random.integers(3, size=60)]).astype(np.float32)
    with vs.open(tmp_path / "kb", embedder=None, clock=clock, auto_publish=False) as store:
        store.contexts.add([{"name": "science"}, {"name": "art"}])
        names = [
            {"name": f"c{n}", "context": "science" if n % 4 else "art", "definition": f"word{n % 3}"} for n in range(60)
        ]
        store.concepts.add(names[:50], vectors=points[:50])
        for context, name in (("science", "planets"), ("art", "styles")):
            store.clusters.fit("concepts", "kmeans", 3, name=name, context=context)
        store.clusters.fit("concepts", "kmeans", 2, name="planets", context="science")  # version 2, ids continued
        store.fields.discover("planets", min_coherence=0.1)
        store.concepts.add(names[50:], vectors=points[50:])
        store.clusters.assign(["science:c51"], name="planets")
        changed = next(one for one in store.concepts.stream({"context": "science"}))
        store.concepts.update(
            {"id": changed.id, "pos": "noun"}, vectors=points[0][None] + 1
        )  # seen with another vector
        store.concepts.delete("science:c2")
        report = store.contexts.save("science", tmp_path / "shot")
        assert report.fits == 1
        store.concepts.delete(where={"context": "art"})
        wanted, fields = fits(store, "planets"), [one.model_dump() for one in store.fields]
    with vs.open(tmp_path / "other", embedder=None, clock=clock, auto_publish=False) as store:
        assert store.contexts.load(tmp_path / "shot").fits == 1
        assert store.check().findings == ()
        wanted["line"] = ["planets"]
        found = fits(store, "planets")
        assert found == wanted
        assert [one.model_dump() for one in store.fields] == fields
        assert store.clusters.model("planets").predict(points[:1]).shape == (1,)
        before = {one.id for one in store.clusters.stream({"model": "planets"})}
        refitted = store.clusters.refit("planets")
        assert refitted.version == 3 and before & set(refitted.clusters)
    with vs.open(tmp_path / "third", embedder=None, clock=clock, auto_publish=False) as store:
        store.concepts.add([{"name": f"x{n}"} for n in range(9)], vectors=points[:9])
        store.clusters.fit("concepts", "kmeans", 2, name="planets")
        files = sorted(path.name for path in (tmp_path / "third" / "models").iterdir())
        with pytest.raises(vs.ConflictError, match="'planets:0' exists already"):
            store.contexts.load(tmp_path / "shot")
        store.clusters.delete(where={"model": "planets"})
        store.clusters.purge()
        with pytest.raises(vs.ConflictError, match="'planets' is there already"):
            store.contexts.load(tmp_path / "shot")
        assert not store.concepts.count({"context": "science"}) and store.check().findings == ()
        assert sorted(path.name for path in (tmp_path / "third" / "models").iterdir()) == files


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda line: line["members"], "is no model"),
        (lambda line: line.update(dim=5), "is no model"),
        (lambda line: line["details"].pop("reach"), "is no model"),
        (lambda line: line["recipe"].update(method="magic"), "is no model"),
        (lambda line: line["ids"].append("science:c1"), "is no model"),
        (lambda line: line["numbers"].__setitem__(0, 77), "is no model"),
        (lambda line: line["clusters"][0].update(number=-5), "is no model"),
        (lambda line: line["strengths"].__setitem__(0, float("nan")), "is no model"),
        (lambda line: line["ids"].__setitem__(0, "science:nobody"), "a member 'science:nobody'"),
        (lambda line: line.update(space="analogies"), "not in the snapshot"),
        (lambda line: line.update(kind="analogies"), "not in the snapshot"),
    ],
)
def test_a_false_fit_changes_nothing(
    tmp_path: Path, clock: Clock, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    points = np.eye(4, dtype=np.float32)[[0, 0, 1, 1]] + 0.01
    with vs.open(tmp_path / "kb", embedder=None, clock=clock, auto_publish=False) as store:
        store.contexts.add({"name": "science"})
        store.concepts.add([{"name": f"c{n}", "context": "science"} for n in range(4)], vectors=points)
        store.clusters.fit("concepts", "kmeans", 2, context="science")
        store.contexts.save("science", tmp_path / "shot")
    lines = (tmp_path / "shot" / "models.jsonl").read_text().splitlines()
    line = json.loads(lines[0])
    try:
        change(line)
    except KeyError:
        line["surplus"] = 1
    body = (json.dumps(line) + "\n").encode()
    (tmp_path / "shot" / "models.jsonl").write_bytes(body)
    manifest = json.loads((tmp_path / "shot" / "manifest.json").read_text())
    manifest.pop("sha256")
    manifest["models"].update(size=len(body), sha256=hashlib.sha256(body).hexdigest())
    manifest["sha256"] = Manifest.model_validate(manifest).digest()
    (tmp_path / "shot" / "manifest.json").write_text(json.dumps(manifest))
    with vs.open(tmp_path / "other", embedder=None, clock=clock, auto_publish=False) as store:
        with pytest.raises(vs.CorruptError, match=message):
            store.contexts.load(tmp_path / "shot")
        assert len(store.concepts) == 0 and store.clusters.lines() == [] and store.check().findings == ()


def test_parents_can_be_saved_with_it_and_the_default_context_too(tmp_path: Path, clock: Clock) -> None:
    with vs.open(tmp_path / "kb", embedder="hash:16", clock=clock) as store:
        store.contexts.update({"id": "default", "description": "home"})
        store.contexts.add({"name": "child", "parent": "default"})
        store.concepts.add([{"name": "a"}, {"name": "b", "context": "child"}])
        store.relations.add({"context": "child", "source": "child:b", "type": "is", "target": "default:a"})
        store.contexts.save("child", tmp_path / "alone")
        assert store.contexts.save("child", tmp_path / "both", inherited=True).contexts == ("child", "default")
        wanted = graph(store, "default") | graph(store, "child")
    with vs.open(tmp_path / "other", embedder="hash:16", clock=clock) as store:
        with pytest.raises(vs.ValidationError, match="no record of concepts has the id 'default:a'"):
            store.contexts.load(tmp_path / "alone")
        assert len(store.concepts) == 0 and store.contexts.find().total == 1 and store.check().findings == ()
        store.contexts.load(tmp_path / "both")
        assert graph(store, "default") | graph(store, "child") == wanted


def test_a_context_of_which_something_was_said_stays_as_it_is(
    tmp_path: Path, saved: tuple[Path, dict[str, Any]], clock: Clock
) -> None:
    with vs.open(tmp_path / "other", embedder="hash:16", kinds=[Note], clock=clock) as store:
        store.contexts.add({"name": "science", "description": "mine"})
        store.contexts.load(saved[0])
        assert store.contexts.get("science").description == "mine" and store.contexts.get("science").version == 1


def reseal(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a manifest as an attacker would, with a digest that fits."""
    body = json.loads((path / "manifest.json").read_text())
    body.pop("sha256")
    change(body)
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    body["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    (path / "manifest.json").write_text(json.dumps(body))


def rewrite(path: Path, kind: str, change: Callable[[bytes], bytes]) -> None:
    """Change a kind's lines, and the manifest with them."""
    data = change((path / f"{kind}.jsonl").read_bytes())
    (path / f"{kind}.jsonl").write_bytes(data)
    seal = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "rows": data.count(b"\n")}
    reseal(path, lambda body: body["kinds"][kind]["file"].update(seal))


def named(name: str) -> Callable[[Path], None]:
    return lambda path: reseal(path, lambda body: body["kinds"]["concepts"]["file"].update(name=name))


def flip(name: str) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        data = bytearray((path / name).read_bytes())
        data[len(data) // 2] ^= 1
        (path / name).write_bytes(data)

    return damage


def link(path: Path) -> None:
    (path / "frames.jsonl").rename(path.parent / "frames.jsonl")
    (path / "frames.jsonl").symlink_to(path.parent / "frames.jsonl")


def fifo(path: Path) -> None:
    (path / "frames.jsonl").unlink()
    os.mkfifo(path / "frames.jsonl")


def pickled(path: Path) -> None:
    data = path / "concepts.0.npz"
    np.savez(data, **{**np.load(data), "sources": np.array([{}], dtype=object)}, allow_pickle=True)  # type: ignore[arg-type]
    found = {"size": data.stat().st_size, "sha256": hashlib.sha256(data.read_bytes()).hexdigest()}
    reseal(path, lambda body: body["kinds"]["concepts"]["spaces"][0]["files"][0].update(found))


HARM: dict[str, tuple[Callable[[Path], None], type[Exception]]] = {
    "a flipped bit in the lines": (flip("concepts.jsonl"), vs.CorruptError),
    "a flipped bit in the vectors": (flip("concepts.0.npz"), vs.CorruptError),
    "a flipped bit in the manifest": (flip("manifest.json"), vs.CorruptError),
    "a missing file": (lambda path: (path / "relations.jsonl").unlink(), vs.CorruptError),
    "a missing manifest": (lambda path: (path / "manifest.json").unlink(), vs.CorruptError),
    "a torn file": (lambda path: os.truncate(path / "frames.jsonl", 10), vs.CorruptError),
    "a newer format": (lambda path: reseal(path, lambda body: body.update(format=2)), vs.NewerFormat),
    "a format that is a text": (lambda path: reseal(path, lambda body: body.update(format="1")), vs.CorruptError),
    "a path upwards": (named("../../etc/passwd"), vs.CorruptError),
    "an absolute path": (named("/etc/passwd"), vs.CorruptError),
    "a name with a newline": (named("concepts.jsonl\n"), vs.CorruptError),
    "a link": (link, vs.CorruptError),
    "a pipe": (fifo, vs.CorruptError),
    "a pickle": (pickled, vs.CorruptError),
    "an unknown key": (lambda path: reseal(path, lambda body: body.update(more=1)), vs.CorruptError),
    "an unknown kind": (lambda path: reseal(path, lambda body: body["kinds"].update(x=body["kinds"].pop("axioms"))), vs.NotFound),
    "a field of another type": (lambda path: reseal(path, lambda body: body["kinds"]["axioms"]["fields"].update(name="real")), vs.SchemaChangedError),
    "a space of another kind": (lambda path: reseal(path, lambda body: body["kinds"]["concepts"]["spaces"][0].update(name="frames")), vs.SchemaChangedError),
    "another model": (lambda path: reseal(path, lambda body: body["kinds"]["concepts"]["spaces"][0].update(metric="l2")), vs.SpaceMismatch),
    "a bad record": (lambda path: rewrite(path, "concepts", lambda data: data.replace(b'"quality": 0.3', b'"quality": 7.3')), vs.ValidationError),
    "a line that is no JSON": (lambda path: rewrite(path, "concepts", lambda data: b"{" + data), vs.CorruptError),
    "a record too many": (lambda path: rewrite(path, "frames", lambda data: data + data[: data.index(b"\n") + 1]), vs.DuplicateId),
    "an instance that does not fit": (lambda path: rewrite(path, "frame_instances", lambda data: data.replace(b"Heir", b"Fool")), vs.UndeclaredElement),
}  # fmt: skip


@pytest.mark.parametrize("harm", HARM)
def test_a_harmed_snapshot_is_refused_and_nothing_is_written(
    tmp_path: Path, saved: tuple[Path, dict[str, Any]], clock: Clock, harm: str
) -> None:
    damage, error = HARM[harm]
    damage(saved[0])
    with vs.open(tmp_path / "other", embedder="hash:16", kinds=[Note], clock=clock) as store:
        seq = store.contexts.count()
        with pytest.raises(error):
            store.contexts.load(saved[0])
        assert store.contexts.count() == seq and len(store.concepts) == 0 and store.sweep() == []
        assert store.check().findings == () and store.check().litter == ()


def test_vectors_of_another_model_are_refused(tmp_path: Path, saved: tuple[Path, dict[str, Any]], clock: Clock) -> None:
    with vs.open(tmp_path / "other", embedder="hash:8", kinds=[Note], clock=clock) as store:
        store.concepts.add({"name": "x"})
        with pytest.raises(vs.SpaceMismatch, match=r"concepts: the store's space has dim 8, what comes in has 16"):
            store.contexts.load(saved[0])
        assert len(store.concepts) == 1


def test_a_snapshot_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vectorstore.files import DiskFolder

    with vs.open(tmp_path / "kb", embedder="hash:16") as store:
        store.concepts.add([{"name": f"c{n}"} for n in range(10)])
        with pytest.raises(vs.NotFound):
            store.contexts.save("nowhere", tmp_path / "shot")
        publish = DiskFolder.publish
        for failing in ("contexts.jsonl", "concepts.0.npz", "manifest.json"):

            def full(self: DiskFolder, name: str, chunks: Any, failing: str = failing) -> Any:
                if name == failing:
                    raise OSError(28, "No space left on device")
                return publish(self, name, chunks)

            monkeypatch.setattr(DiskFolder, "publish", full)
            with pytest.raises(OSError, match="No space"):
                store.contexts.save("default", tmp_path / "shot")
            monkeypatch.setattr(DiskFolder, "publish", publish)
            assert sorted(path.name for path in tmp_path.iterdir()) == ["kb"]
        store.contexts.save("default", tmp_path / "shot")
        with pytest.raises(FileExistsError, match="shot exists already"):
            store.contexts.save("default", tmp_path / "shot")
        body = json.loads((tmp_path / "shot" / "manifest.json").read_text())
        digest = body.pop("sha256")
        assert Manifest.model_validate(body).digest() == digest and body["kinds"]["concepts"]["file"]["rows"] == 10


def test_many_vectors_become_segments_and_order_is_kept(tmp_path: Path, clock: Clock) -> None:
    data = np.random.default_rng(0).standard_normal((3000, 8)).astype(np.float32)
    with vs.open(tmp_path / "kb", embedder=None, clock=clock, auto_publish=False) as store:
        ids = store.concepts.add([{"name": f"c{n}"} for n in range(3000)], vectors=data)
        store.concepts.upsert({"name": "c7"}, vectors=data[:1] + 1)
        store.contexts.save("default", tmp_path / "shot")
        hits = store.concepts.search(data[5], k=20)
    with vs.open(tmp_path / "other", embedder=None, clock=clock, auto_publish=False) as store:
        store.contexts.load(tmp_path / "shot")
        assert [each.id for each in store.concepts.stream()] == ids
        again = store.concepts.search(data[5], k=20)
        assert [(hit.id, hit.score) for hit in again] == [(hit.id, hit.score) for hit in hits]
        assert store.concepts.vector_info("default:c7").update_count == 1
        assert list((tmp_path / "other" / "embeddings" / "concepts").iterdir())
