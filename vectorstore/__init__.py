"""vectorstore: an embedded knowledge store whose vectors, indexes and catalog cannot drift apart.

    import vectorstore as vs

    with vs.open("kb") as store:
        store.concepts.add([vs.Concept(name="king", domain="royalty", definition="a male monarch")])
        store.concepts.search("a man who rules", k=5, where={"domain": "royalty"})

Names are loaded when first used: `import vectorstore` itself costs a few milliseconds and loads no engine.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from vectorstore.backups import BackupReport as BackupReport
    from vectorstore.backups import Backups as Backups
    from vectorstore.backups import Generation as Generation
    from vectorstore.bars import Bar as Bar
    from vectorstore.clusters.recipes import ClusterRecipe as ClusterRecipe
    from vectorstore.collection import Collection as Collection
    from vectorstore.deduplicating import Duplicates as Duplicates
    from vectorstore.embedders import CallableEmbedder as CallableEmbedder
    from vectorstore.embedders import CrossEncoder as CrossEncoder
    from vectorstore.embedders import Embedder as Embedder
    from vectorstore.embedders import EmbedderIdentity as EmbedderIdentity
    from vectorstore.embedders import HashEmbedder as HashEmbedder
    from vectorstore.embedders import SentenceEmbedder as SentenceEmbedder
    from vectorstore.errors import AmbiguousName as AmbiguousName
    from vectorstore.errors import BrokenPromise as BrokenPromise
    from vectorstore.errors import ConflictError as ConflictError
    from vectorstore.errors import ContractViolation as ContractViolation
    from vectorstore.errors import CorruptError as CorruptError
    from vectorstore.errors import CycleError as CycleError
    from vectorstore.errors import DerivedError as DerivedError
    from vectorstore.errors import DimensionError as DimensionError
    from vectorstore.errors import DuplicateId as DuplicateId
    from vectorstore.errors import EmbedderError as EmbedderError
    from vectorstore.errors import EngineDown as EngineDown
    from vectorstore.errors import IllegalMove as IllegalMove
    from vectorstore.errors import InstanceError as InstanceError
    from vectorstore.errors import LeaseHeld as LeaseHeld
    from vectorstore.errors import LibraryMissing as LibraryMissing
    from vectorstore.errors import MissingElement as MissingElement
    from vectorstore.errors import ModelRefused as ModelRefused
    from vectorstore.errors import NewerFormat as NewerFormat
    from vectorstore.errors import NotAStore as NotAStore
    from vectorstore.errors import NotFound as NotFound
    from vectorstore.errors import OutcomeUnknown as OutcomeUnknown
    from vectorstore.errors import ReadOnlyStore as ReadOnlyStore
    from vectorstore.errors import RecallTooLow as RecallTooLow
    from vectorstore.errors import RecipeError as RecipeError
    from vectorstore.errors import SchemaChangedError as SchemaChangedError
    from vectorstore.errors import SpaceMismatch as SpaceMismatch
    from vectorstore.errors import StateBusy as StateBusy
    from vectorstore.errors import StateConflict as StateConflict
    from vectorstore.errors import StoreBusy as StoreBusy
    from vectorstore.errors import StoreClosed as StoreClosed
    from vectorstore.errors import StoreError as StoreError
    from vectorstore.errors import StoreGone as StoreGone
    from vectorstore.errors import Superseded as Superseded
    from vectorstore.errors import UndeclaredElement as UndeclaredElement
    from vectorstore.errors import UnknownConcept as UnknownConcept
    from vectorstore.errors import UnknownFrame as UnknownFrame
    from vectorstore.errors import Unserialisable as Unserialisable
    from vectorstore.errors import ValidationError as ValidationError
    from vectorstore.errors import VectorstoreError as VectorstoreError
    from vectorstore.errors import WhereError as WhereError
    from vectorstore.errors import WorkersLost as WorkersLost
    from vectorstore.errors import WrongKey as WrongKey
    from vectorstore.keeping import Snapshot as Snapshot
    from vectorstore.metrics import Operation as Operation
    from vectorstore.policy import MaintainReport as MaintainReport
    from vectorstore.policy import Policy as Policy
    from vectorstore.protocols import KnowledgeStore as KnowledgeStore
    from vectorstore.protocols import Readable as Readable
    from vectorstore.protocols import Records as Records
    from vectorstore.protocols import Searchable as Searchable
    from vectorstore.protocols import Writable as Writable
    from vectorstore.reason.analogies import Analogies as Analogies
    from vectorstore.reason.associating import Association as Association
    from vectorstore.reason.associating import Spread as Spread
    from vectorstore.reason.clusters import Member as Member
    from vectorstore.reason.clusters import Membership as Membership
    from vectorstore.reason.completing import Completion as Completion
    from vectorstore.reason.completing import Offset as Offset
    from vectorstore.reason.concepts import Related as Related
    from vectorstore.reason.episodes import Outcomes as Outcomes
    from vectorstore.reason.fields import FieldReport as FieldReport
    from vectorstore.reason.fitting import FitReport as FitReport
    from vectorstore.reason.frames import ElementOf as ElementOf
    from vectorstore.reason.graph import Reached as Reached
    from vectorstore.reason.instances import Analogous as Analogous
    from vectorstore.reason.instances import Role as Role
    from vectorstore.reason.manifest import SnapshotReport as SnapshotReport
    from vectorstore.reason.mapfiles import MapFile as MapFile
    from vectorstore.reason.maps import Map as Map
    from vectorstore.reason.maps import MapInfo as MapInfo
    from vectorstore.reason.maps import Maps as Maps
    from vectorstore.reason.memories import Forgotten as Forgotten
    from vectorstore.reason.memories import Promotion as Promotion
    from vectorstore.reason.models import ModelInfo as ModelInfo
    from vectorstore.reason.paths import Path as Path
    from vectorstore.reason.paths import Paths as Paths
    from vectorstore.reason.relating import Mapped as Mapped
    from vectorstore.reason.relating import RelateReport as RelateReport
    from vectorstore.reason.retrieving import Analogue as Analogue
    from vectorstore.reason.trials import FitTrials as FitTrials
    from vectorstore.reason.watching import ClusterState as ClusterState
    from vectorstore.reason.watching import Drift as Drift
    from vectorstore.reason.wordfiles import read_word_vectors as read_word_vectors
    from vectorstore.reason.words import Evaluation as Evaluation
    from vectorstore.reason.words import Words as Words
    from vectorstore.recipes import Auto as Auto
    from vectorstore.recipes import IndexRecipe as IndexRecipe
    from vectorstore.records.analogies import Analogy as Analogy
    from vectorstore.records.analogies import Evidence as Evidence
    from vectorstore.records.artifacts import Artifact as Artifact
    from vectorstore.records.axioms import Axiom as Axiom
    from vectorstore.records.fields import SemanticField as SemanticField
    from vectorstore.records.frames import Binding as Binding
    from vectorstore.records.frames import Frame as Frame
    from vectorstore.records.frames import FrameElement as FrameElement
    from vectorstore.records.frames import FrameInstance as FrameInstance
    from vectorstore.records.frames import FrameRelation as FrameRelation
    from vectorstore.records.kinds import Cluster as Cluster
    from vectorstore.records.kinds import Concept as Concept
    from vectorstore.records.kinds import Context as Context
    from vectorstore.records.lattice import EchoEdge as EchoEdge
    from vectorstore.records.lattice import EchoForm as EchoForm
    from vectorstore.records.lattice import EchoStep as EchoStep
    from vectorstore.records.lattice import EchoTerm as EchoTerm
    from vectorstore.records.lattice import Identity as Identity
    from vectorstore.records.markers import EMBEDDED as EMBEDDED
    from vectorstore.records.markers import FOLDED as FOLDED
    from vectorstore.records.markers import INDEXED as INDEXED
    from vectorstore.records.markers import LISTED as LISTED
    from vectorstore.records.markers import RISING as RISING
    from vectorstore.records.markers import UNIQUE as UNIQUE
    from vectorstore.records.markers import Listed as Listed
    from vectorstore.records.markers import Ref as Ref
    from vectorstore.records.memories import LADDER as LADDER
    from vectorstore.records.memories import CausalEdge as CausalEdge
    from vectorstore.records.memories import Episode as Episode
    from vectorstore.records.memories import Memory as Memory
    from vectorstore.records.memories import Tier as Tier
    from vectorstore.records.minds import MOVES as MOVES
    from vectorstore.records.minds import Architecture as Architecture
    from vectorstore.records.minds import Fitness as Fitness
    from vectorstore.records.minds import Intelligence as Intelligence
    from vectorstore.records.minds import Skill as Skill
    from vectorstore.records.names import Mapping as Mapping
    from vectorstore.records.record import Record as Record
    from vectorstore.records.record import Unit as Unit
    from vectorstore.records.record import UtcTime as UtcTime
    from vectorstore.records.relations import Relation as Relation
    from vectorstore.remotes import Remotes as Remotes
    from vectorstore.restoring import RestoreReport as RestoreReport
    from vectorstore.restoring import restore as restore
    from vectorstore.results import Hit as Hit
    from vectorstore.results import Hits as Hits
    from vectorstore.results import Page as Page
    from vectorstore.results import Purged as Purged
    from vectorstore.results import VectorInfo as VectorInfo
    from vectorstore.search import Id as Id
    from vectorstore.search.decay import Decay as Decay
    from vectorstore.search.duplicates import Pair as Pair
    from vectorstore.search.fusion import Fusion as Fusion
    from vectorstore.search.queries import WithVector as WithVector
    from vectorstore.search.recommend import Recommend as Recommend
    from vectorstore.search.salience import Salience as Salience
    from vectorstore.search.snippets import Snippets as Snippets
    from vectorstore.states import AesGcm as AesGcm
    from vectorstore.states import Checkpoint as Checkpoint
    from vectorstore.states import NumericArtifact as NumericArtifact
    from vectorstore.states import Opaque as Opaque
    from vectorstore.states import Saved as Saved
    from vectorstore.states import State as State
    from vectorstore.states import StateFile as StateFile
    from vectorstore.states import StateType as StateType
    from vectorstore.states import lifecycle as lifecycle
    from vectorstore.storage.decisions import Decision as Decision
    from vectorstore.storage.edges import Edge as Edge
    from vectorstore.store import Store as Store
    from vectorstore.store import open as open
    from vectorstore.sync.remotes import RemoteStatus as RemoteStatus
    from vectorstore.sync.trail import TrailReport as TrailReport
    from vectorstore.trail import TrailEntry as TrailEntry
    from vectorstore.workflows import Workflow as Workflow

_WHERE: dict[str, str] = {
    **dict.fromkeys(("BackupReport", "Backups", "Generation"), "backups"),
    "Bar": "bars",
    "ClusterRecipe": "clusters.recipes",
    "Collection": "collection",
    "Duplicates": "deduplicating",
    **dict.fromkeys(
        ("CallableEmbedder", "CrossEncoder", "Embedder", "EmbedderIdentity", "HashEmbedder", "SentenceEmbedder"),
        "embedders",
    ),
    **dict.fromkeys(
        (
            "AmbiguousName",
            "BrokenPromise",
            "ConflictError",
            "ContractViolation",
            "CorruptError",
            "CycleError",
            "IllegalMove",
            "InstanceError",
            "LeaseHeld",
            "MissingElement",
            "UndeclaredElement",
            "UnknownConcept",
            "UnknownFrame",
            "DerivedError",
            "DimensionError",
            "DuplicateId",
            "EmbedderError",
            "EngineDown",
            "LibraryMissing",
            "ModelRefused",
            "NewerFormat",
            "NotAStore",
            "NotFound",
            "OutcomeUnknown",
            "ReadOnlyStore",
            "RecallTooLow",
            "RecipeError",
            "SchemaChangedError",
            "SpaceMismatch",
            "StateBusy",
            "StateConflict",
            "StoreBusy",
            "StoreClosed",
            "StoreError",
            "StoreGone",
            "Superseded",
            "Unserialisable",
            "ValidationError",
            "VectorstoreError",
            "WhereError",
            "WorkersLost",
            "WrongKey",
        ),
        "errors",
    ),
    "Analogies": "reason.analogies",
    **dict.fromkeys(("Member", "Membership"), "reason.clusters"),
    **dict.fromkeys(("Completion", "Offset"), "reason.completing"),
    "FieldReport": "reason.fields",
    "FitReport": "reason.fitting",
    "MapFile": "reason.mapfiles",
    **dict.fromkeys(("Map", "MapInfo", "Maps"), "reason.maps"),
    "ModelInfo": "reason.models",
    **dict.fromkeys(("Mapped", "RelateReport"), "reason.relating"),
    "Analogue": "reason.retrieving",
    "FitTrials": "reason.trials",
    **dict.fromkeys(("ClusterState", "Drift"), "reason.watching"),
    "read_word_vectors": "reason.wordfiles",
    **dict.fromkeys(("Evaluation", "Words"), "reason.words"),
    "Auto": "recipes",
    "IndexRecipe": "recipes",
    "Snapshot": "keeping",
    **dict.fromkeys(("MaintainReport", "Policy"), "policy"),
    "Remotes": "remotes",
    "RemoteStatus": "sync.remotes",
    **dict.fromkeys(("Analogy", "Evidence"), "records.analogies"),
    **dict.fromkeys(("KnowledgeStore", "Readable", "Records", "Searchable", "Writable"), "protocols"),
    "Related": "reason.concepts",
    "ElementOf": "reason.frames",
    **dict.fromkeys(("Analogous", "Role"), "reason.instances"),
    "SnapshotReport": "reason.manifest",
    "Artifact": "records.artifacts",
    "Axiom": "records.axioms",
    **dict.fromkeys(("Binding", "Frame", "FrameElement", "FrameInstance", "FrameRelation"), "records.frames"),
    **dict.fromkeys(("Cluster", "Concept", "Context"), "records.kinds"),
    **dict.fromkeys(
        ("EMBEDDED", "FOLDED", "INDEXED", "LISTED", "RISING", "UNIQUE", "Listed", "Ref"), "records.markers"
    ),
    **dict.fromkeys(("EchoEdge", "EchoForm", "EchoStep", "EchoTerm", "Identity"), "records.lattice"),
    "Mapping": "records.names",
    **dict.fromkeys(("LADDER", "CausalEdge", "Episode", "Memory", "Tier"), "records.memories"),
    **dict.fromkeys(("MOVES", "Architecture", "Fitness", "Intelligence", "Skill"), "records.minds"),
    "Salience": "search.salience",
    **dict.fromkeys(("Forgotten", "Promotion"), "reason.memories"),
    **dict.fromkeys(("Association", "Spread"), "reason.associating"),
    "Reached": "reason.graph",
    **dict.fromkeys(("Path", "Paths"), "reason.paths"),
    "Outcomes": "reason.episodes",
    "Edge": "storage.edges",
    "Relation": "records.relations",
    "SemanticField": "records.fields",
    **dict.fromkeys(("Record", "Unit", "UtcTime"), "records.record"),
    **dict.fromkeys(("RestoreReport", "restore"), "restoring"),
    **dict.fromkeys(("Hit", "Hits", "Page", "Purged", "VectorInfo"), "results"),
    "Id": "search",
    "Decay": "search.decay",
    "Fusion": "search.fusion",
    "Decision": "storage.decisions",
    "Pair": "search.duplicates",
    "Recommend": "search.recommend",
    "WithVector": "search.queries",
    "Snippets": "search.snippets",
    "Operation": "metrics",
    **dict.fromkeys(
        ("AesGcm", "Checkpoint", "NumericArtifact", "Opaque", "Saved", "State", "StateFile", "StateType", "lifecycle"),
        "states",
    ),
    **dict.fromkeys(("Store", "open"), "store"),
    "TrailEntry": "trail",
    "TrailReport": "sync.trail",
    "Workflow": "workflows",
}

__all__ = ["__version__", *_WHERE]


def __getattr__(name: str) -> Any:
    """Load an exported name from its module on first use."""
    module = _WHERE.get(name)
    if module is None:
        raise AttributeError(f"module 'vectorstore' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"vectorstore.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Everything that can be imported from here."""
    return sorted(__all__)
