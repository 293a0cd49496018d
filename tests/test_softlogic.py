"""A store of the soft-logic persistence layer comes in: what it holds is kept, and its defects do not come along."""

from __future__ import annotations

import gzip
import json
import pickle
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vectorstore as vs

CREATED = "2025-07-09T15:22:52.569483+00:00"


def analogy(id: str, **said: Any) -> dict[str, Any]:
    return {"type": "analogy", "workflow_id": "demo_workflow_001", "id": id, "created_at": CREATED, **said}


def gone(id: str) -> dict[str, Any]:
    return {"type": "deletion", "target_id": id, "deleted_at": CREATED}


KNIGHT = analogy(
    "knight",
    source_pair=["knight", "sword"],
    target_pair=["wizard", "staff"],
    context="fantasy character-tool relationships",
    quality_score=0.87,
    reasoning="Both represent character-primary tool pairings",
)
ROYAL = analogy(
    "royal_001",
    source_domain="royal",
    target_domain="military",
    quality_score=0.85,
    concept_mappings={"king": "general", "queen": {"target": "commander", "confidence": 0.85}},
    frame_mappings={"hierarchy": "command_structure"},
    tags=["royal", "military"],
    metadata={"author": "demo"},
)
LOG = [
    KNIGHT,
    ROYAL,
    analogy("free", source_concept="bird", target_concept="fish", relation="flies"),
    analogy("terms", source_a="bird", source_b="fly", target_a="fish"),
    analogy("empty"),
    analogy("bad", source_domain="a", target_domain="b", quality_score=7.5),
    analogy("again", source_domain="a", target_domain="b", quality_score=0.1),
    gone("again"),
    analogy("dead", source_domain="a", target_domain="b"),
    analogy("again", source_domain="a", target_domain="b", quality_score=0.9),
    gone("dead"),
]
REGISTRY: dict[str, Any] = {
    "concepts": {
        "concepts": {
            "default:king": {
                "unique_id": "default:king",
                "name": "king",
                "context": "default",
                "synset_id": None,
                "disambiguation": None,
                "frame_roles": {"Monarchy": "Ruler"},
                "frame_instances": ["medieval_kingdom"],
                "cluster_memberships": {"0": 0.9},
                "semantic_fields": [],
                "created_at": CREATED,
                "metadata": {"origin": "demo"},
            },
            "finance:bank:bank.n.01": {"unique_id": "finance:bank:bank.n.01", "name": "bank", "context": "finance", "synset_id": "bank.n.01"},
            "geography:bank:bank.n.09": {"unique_id": "geography:bank:bank.n.09", "name": "bank", "context": "geography", "synset_id": "bank.n.09"},
            "default:prince": {"unique_id": "default:prince", "name": "prince", "context": "default"},
        }
    },
    "frames": {
        "frames": {
            "Monarchy": {
                "name": "Monarchy",
                "definition": "one rules",
                "core_elements": [{"name": "Ruler", "description": "who rules", "element_type": "FrameElementType.CORE", "semantic_constraints": [], "typical_fillers": ["king"]}],
                "peripheral_elements": [{"name": "Heir", "element_type": "peripheral"}],
                "lexical_units": ["rule"],
                "inherits_from": "State",
                "created_at": CREATED,
            },
            "State": {"name": "State", "definition": "", "core_elements": [], "peripheral_elements": [{"name": "Place"}], "inherits_from": "Nowhere"},
        },
        "frame_instances": {
            "medieval_kingdom": {
                "instance_id": "medieval_kingdom",
                "frame_name": "Monarchy",
                "element_bindings": {"Ruler": "default:king", "Heir": "default:prince", "Place": "finance:bank:bank.n.01"},
                "context": "default",
                "confidence": 0.8,
            },
            "no_core": {"frame_name": "Monarchy", "element_bindings": {"Heir": "default:prince"}},
            "undeclared": {"frame_name": "Monarchy", "element_bindings": {"Ruler": "default:king", "Fool": "default:prince"}},
            "unknown": {"frame_name": "Monarchy", "element_bindings": {"Ruler": "default:nobody"}},
        },
    },
    "clusters": {
        "clustering_model": {"model_type": "kmeans", "n_clusters": 2, "is_trained": True},
        "clusters": {"0": {"cluster_id": 0, "members": {"default:king": 0.9}, "centroid": [1.0, 0.5, 0.0], "coherence_score": 0.7}},
    },
    "fields": {
        "semantic_fields": {
            "royalty": {"name": "royalty", "description": "who rules", "coherence": 0.7, "core_concepts": ["default:king"], "related_concepts": {"default:prince": 0.4}, "associated_frames": ["Monarchy"]}
        }
    },
    "analogies": {
        "cross_domain_analogies": [
            {"source_domain": "royal", "target_domain": "business", "concept_mappings": {"king": "ceo"}, "frame_mappings": {}, "structural_coherence": 0.6, "semantic_coherence": 0.5, "productivity": 0.4, "overall_quality": 0.51}
        ]
    },
}  # fmt: skip
EMBEDDINGS = {"default:king": [1.0, 2.0, 3.0], "default:prince": [1.0, 2.0, 2.0], "default:lost": [0.0, 0.0, 1.0]}


def write_table(path: Path, rows: list[tuple[Any, ...]]) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(
            "CREATE TABLE analogies (id TEXT PRIMARY KEY, source_domain TEXT NOT NULL, target_domain TEXT NOT NULL, "
            "quality_score REAL NOT NULL, concept_mappings TEXT, frame_mappings TEXT, created_at TIMESTAMP DEFAULT "
            "CURRENT_TIMESTAMP, updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, deleted_at TIMESTAMP NULL, "
            "version INTEGER DEFAULT 1, tags TEXT, metadata TEXT)"
        )
        names = "id, source_domain, target_domain, quality_score, concept_mappings, created_at, deleted_at, tags"
        connection.executemany(f"INSERT INTO analogies ({names}) VALUES (?,?,?,?,?,?,?,?)", rows)
    connection.close()


@pytest.fixture
def kb(tmp_path: Path) -> Path:
    """What such a store leaves on the disk."""
    root = tmp_path / "storage"
    here, work = root / "contexts" / "default", root / "contexts" / "batch_operations"
    flows = root / "workflows" / "analogy_workflows"
    for folder in (here / "embeddings", work, flows, root / "models"):
        folder.mkdir(parents=True)
    (here / "analogies.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LOG))
    write_table(
        here / "concepts.sqlite",
        [
            ("knight", "", "", 0.87, "{}", CREATED, None, "[]"),
            ("again", "a", "b", 0.1, "{}", CREATED, "2025-07-10 00:00:00", "[]"),
            ("only in the table", "x", "y", 0.4, '{"a": "b"}', "2025-07-09 15:22:52", None, '["t"]'),
            ("dropped", "x", "y", 0.4, "{}", CREATED, "2025-07-10 00:00:00", "[]"),
        ],
    )
    for name, said in REGISTRY.items():
        if name == "fields":
            (here / "fields.json.gz").write_bytes(gzip.compress(json.dumps(said).encode()))
        else:
            (here / f"{name}.json").write_text(json.dumps(said))
    np.savez_compressed(
        here / "embeddings" / "embeddings.npz",
        embeddings=np.array(list(EMBEDDINGS.values())),
        concept_ids=list(EMBEDDINGS),
    )
    (here / "instances.pkl").write_bytes(pickle.dumps({"instances": {}}))
    (work / "pending_analogies_x.jsonl").write_text(json.dumps(KNIGHT) + "\n" + json.dumps(ROYAL) + "\n")
    (flows / "workflow_demo_workflow_001.json").write_text("{}")
    return root


@pytest.fixture
def store() -> Any:
    with vs.open(":memory:", embedder=None, auto_publish=False) as opened:
        yield opened
        assert opened.check().findings == ()


def test_analogies_come_in_every_shape_and_lose_no_key(kb: Path, store: vs.Store) -> None:
    """B1, B2, L12: neither domain pairs nor proportions lose anything; what the log says counts, not the table."""
    store.import_(kb)
    knight = store.analogies.get("knight")
    assert (knight.a, knight.b, knight.c, knight.d) == ("knight", "sword", "wizard", "staff")
    assert (knight.setting, knight.quality) == ("fantasy character-tool relationships", 0.87)
    assert knight.reasoning == KNIGHT["reasoning"] and knight.extra == {"workflow_id": "demo_workflow_001"}
    assert knight.created_at.isoformat() == CREATED and knight.context == "default"
    royal = store.analogies.get("royal_001")
    assert (royal.source_domain, royal.target_domain, royal.quality, royal.tags) == (
        "royal",
        "military",
        0.85,
        ("royal", "military"),
    )
    assert [(p.source, p.target, p.confidence) for p in royal.concept_mappings] == [
        ("king", "general", 1.0),
        ("queen", "commander", 0.85),
    ]
    assert [(p.source, p.target) for p in royal.frame_mappings] == [("hierarchy", "command_structure")]
    assert royal.extra == {"workflow_id": "demo_workflow_001", "author": "demo"}
    free, terms = store.analogies.get("free"), store.analogies.get("terms")
    assert (free.a, free.b, free.c, free.extra["relation"]) == ("bird", None, "fish", "flies")
    assert (terms.a, terms.b, terms.c, terms.d) == ("bird", "fly", "fish", None)


def test_a_log_with_deletions_is_replayed(kb: Path, store: vs.Store) -> None:
    """L3, L4, B9: deleted and added again is there, once, with its last word; deleted is gone."""
    done = store.import_(kb)
    assert store.analogies.get("again").quality == 0.9 and "dead" not in store.analogies
    only = store.analogies.get("only in the table")
    assert (only.quality, only.tags, only.created_at.isoformat()) == (0.4, ("t",), "2025-07-09T15:22:52+00:00")
    assert "dropped" not in store.analogies
    assert done.left_out == {
        "deleted analogies": 1,
        "analogies that say nothing": 1,
        "vectors of concepts that are not there": 1,
        "relations to frames that are not there": 1,
        "frame instances that do not fit their frame": 3,
        "workflows": 1,
        "items of batches that were never processed": 2,
    }


def test_what_no_field_may_hold_is_kept_beside_it(kb: Path, store: vs.Store) -> None:
    """L16: a quality of 7.5 is no quality; it is told, and kept in extra."""
    done = store.import_(kb)
    bad = store.analogies.get("bad")
    assert bad.quality is None and bad.extra["quality_score"] == 7.5
    assert any("quality_score=7.5 is no share of 1; it is kept in extra" in note for note in done.notes)


def test_a_registry_comes_with_its_vectors(kb: Path, store: vs.Store) -> None:
    """L17, L21, C12: concepts, frames, instances, clusters and fields, each with what it points to."""
    store.import_(kb)
    king = store.concepts.get("default:king")
    assert king.roles == {"Monarchy": "Ruler"}
    assert king.extra == {"origin": "demo", "frame_instances": ["medieval_kingdom"], "cluster_memberships": {"0": 0.9}}
    assert {each.id for each in store.concepts.find({"name": "bank"}).records} == {
        "finance:bank:bank.n.01",
        "geography:bank:bank.n.09",
    }
    assert store.concepts.vectors(["default:king", "default:prince"]).tolist() == [[1, 2, 3], [1, 2, 2]]
    monarchy = store.frames.get("default:monarchy")
    assert [(each.name, each.type, each.typical_fillers) for each in monarchy.elements] == [
        ("Ruler", "core", ("king",)),
        ("Heir", "peripheral", ()),
    ]
    assert [each.target for each in store.frame_relations] == ["default:state"]
    (instance,) = store.instances
    assert (instance.id, instance.confidence) == ("medieval_kingdom", 0.8)
    assert {(each.element, each.concept) for each in instance.bindings} == {
        ("Ruler", "default:king"),
        ("Heir", "default:prince"),
        ("Place", "finance:bank:bank.n.01"),
    }
    (cluster,) = store.clusters
    assert (cluster.number, cluster.size, cluster.coherence) == (0, 1, 0.7)
    assert store.clusters.vectors([cluster.id]).tolist() == [[1.0, 0.5, 0.0]]
    (field,) = store.fields
    assert (field.core, field.related, field.frames) == (
        ("default:king",),
        {"default:prince": 0.4},
        ("default:monarchy",),
    )
    (found,) = store.analogies.find({"target_domain": "business"}).records
    assert (found.quality, found.productivity, found.structural_coherence) == (0.51, 0.4, 0.6)


def test_again_changes_nothing_and_meets_what_is_there(kb: Path, store: vs.Store) -> None:
    """L6, L20: a second run duplicates nothing."""
    first = store.import_(kb)
    before = {kind: list(store[kind]) for kind in store.kinds}
    again = store.import_(kb, on_conflict="overwrite")
    assert again.records == 0 and sum(again.unchanged.values()) == first.records
    assert {kind: list(store[kind]) for kind in store.kinds} == before
    with pytest.raises(vs.ConflictError, match="exists already|would delete"):
        store.import_(kb)


def test_nothing_pickled_is_opened(kb: Path, store: vs.Store) -> None:
    """J11, L23: pickles are named, and left alone; an archive of vectors that needs one is refused."""
    done = store.import_(kb)
    assert any("instances.pkl: is pickled, and was not opened" in note for note in done.notes)
    path = kb / "contexts" / "default" / "embeddings" / "embeddings.npz"
    np.savez(path, embeddings=np.eye(3), concept_ids=np.array([{}, 1, 2], dtype=object))
    with pytest.raises(vs.ValidationError, match="is no archive of vectors"):
        store.import_(kb, on_conflict="overwrite")


def test_lines_that_are_torn_or_bad(kb: Path, store: vs.Store) -> None:
    """L9: a torn last line is told; one in the middle is named, and nothing is written."""
    log = kb / "contexts" / "default" / "analogies.jsonl"
    whole = log.read_text()
    log.write_text(whole + '{"type": "analogy", "id": "to')
    done = store.import_(kb)
    assert any(f"{log}:12: the last line was cut short" in note for note in done.notes)
    log.write_text('{"type": "ana\n' + whole)
    with vs.open(":memory:", embedder=None) as other:
        with pytest.raises(vs.ValidationError, match=r"analogies.jsonl:1: is not JSON"):
            other.import_(kb)
        log.write_text(
            json.dumps(analogy("x" * 10, a="b", tags=[], version=1, source_domain=5))
            + "\n"
            + whole.replace('"knight"', '"kni\\u0000ght"')
        )
        with pytest.raises(vs.ValidationError, match=r"analogies.jsonl:2: analogies"):
            other.import_(kb)
        assert all(len(other[kind]) == 0 for kind in ("analogies", "concepts", "frames"))


def test_an_export_of_theirs_in_one_file(tmp_path: Path, store: vs.Store) -> None:
    """J7, L20: also without embeddings, and packed."""
    said = {"metadata": {"context_name": "medieval"}, **REGISTRY, "instances": {"instances": {}}}
    path = tmp_path / "knowledge_base_medieval.json.gz"
    path.write_bytes(gzip.compress(json.dumps(said).encode()))
    done = store.import_(path, "softlogic")
    assert done.added["concepts"] == 4 and store.frames.get("medieval:monarchy") is not None
    said["embeddings"] = {"embeddings": EMBEDDINGS, "metadata": {}}
    path.write_bytes(gzip.compress(json.dumps(said).encode()))
    done = store.import_(path, "softlogic", on_conflict="overwrite")
    assert done.vectors >= 2 and store.concepts.vectors(["default:king"]).tolist() == [[1, 2, 3]]


def test_what_is_no_such_store(tmp_path: Path, store: vs.Store) -> None:
    (tmp_path / "contexts" / "batch_operations").mkdir(parents=True)
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(vs.ValidationError, match="holds no contexts"):
        store.import_(tmp_path)
    with pytest.raises(vs.ValidationError, match="no export of a soft-logic store"):
        store.import_(tmp_path / "x.json", "softlogic")
    with pytest.raises(vs.ValidationError, match="leave kind='concepts' out"):
        store.import_(tmp_path, "softlogic", kind="concepts")
