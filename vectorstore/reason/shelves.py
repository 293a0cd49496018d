"""Which collection stands for which kind, and its name in a store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vectorstore.collection import Collection
from vectorstore.embedding import Embedding
from vectorstore.reason.analogies import Analogies
from vectorstore.reason.causes import Causes
from vectorstore.reason.clusters import Clusters
from vectorstore.reason.concepts import Concepts
from vectorstore.reason.contexts import Contexts
from vectorstore.reason.episodes import Episodes
from vectorstore.reason.fields import Fields
from vectorstore.reason.frames import FrameRelations, Frames
from vectorstore.reason.instances import Instances
from vectorstore.reason.lattice import Lattice
from vectorstore.reason.memories import Memories
from vectorstore.reason.minds import Architectures, Intelligences
from vectorstore.reason.reasoner import Others, Reasoner
from vectorstore.reason.skills import Skills
from vectorstore.reason.terms import Steps, Terms
from vectorstore.reason.topology import Edges
from vectorstore.records import (
    Analogy,
    Architecture,
    Artifact,
    Axiom,
    CausalEdge,
    Cluster,
    Concept,
    Context,
    EchoEdge,
    EchoForm,
    EchoStep,
    EchoTerm,
    Episode,
    Frame,
    FrameInstance,
    FrameRelation,
    Identity,
    Intelligence,
    Memory,
    Relation,
    SemanticField,
    Skill,
    Tier,
)
from vectorstore.states import States, StoreState
from vectorstore.storage import RecordTable
from vectorstore.sync import Sync

REASONERS: dict[str, type[Reasoner[Any]]] = {
    Context.table: Contexts,
    Concept.table: Concepts,
    Analogy.table: Analogies,
    Frame.table: Frames,
    FrameRelation.table: FrameRelations,
    FrameInstance.table: Instances,
    Cluster.table: Clusters,
    SemanticField.table: Fields,
    Memory.table: Memories,
    Episode.table: Episodes,
    CausalEdge.table: Causes,
    Skill.table: Skills,
    Architecture.table: Architectures,
    Intelligence.table: Intelligences,
    EchoForm.table: Lattice,
    EchoTerm.table: Terms,
    EchoStep.table: Steps,
    EchoEdge.table: Edges,
}
"""The kinds that can do more than the verbs."""


def collection_of(
    kind: str, sync: Sync, table: RecordTable[Any], embedding: Embedding, metric: str, others: Others
) -> Collection[Any]:
    """The collection of a kind: the one with its own questions where there is one."""
    reasoner = REASONERS.get(kind)
    if reasoner is None:
        return Collection(sync, table, embedding, metric)
    return reasoner(sync, table, embedding, metric, others)


class Shelves:
    """The built-in kinds by name."""

    if TYPE_CHECKING:
        _sync: Sync

        def collection(self, kind: Any) -> Any:
            """The records of a kind; what `Store` has."""

    @property
    def concepts(self) -> Concepts:
        """Things one can think of."""
        return self.collection(Concept)  # type: ignore[no-any-return]

    @property
    def analogies(self) -> Analogies:
        """Domain mappings and proportions."""
        return self.collection(Analogy)  # type: ignore[no-any-return]

    @property
    def clusters(self) -> Clusters:
        """Groups of records, and the fits that they come from."""
        return self.collection(Cluster)  # type: ignore[no-any-return]

    @property
    def fields(self) -> Fields:
        """Semantic fields: clusters that hang together."""
        return self.collection(SemanticField)  # type: ignore[no-any-return]

    @property
    def contexts(self) -> Contexts:
        """Namespaces."""
        return self.collection(Context)  # type: ignore[no-any-return]

    @property
    def relations(self) -> Collection[Relation]:
        """How concepts are related."""
        return self.collection(Relation)  # type: ignore[no-any-return]

    @property
    def frames(self) -> Frames:
        """Scenes with parts to play."""
        return self.collection(Frame)  # type: ignore[no-any-return]

    @property
    def frame_relations(self) -> FrameRelations:
        """How frames are related."""
        return self.collection(FrameRelation)  # type: ignore[no-any-return]

    @property
    def instances(self) -> Instances:
        """Cases of frames."""
        return self.collection(FrameInstance)  # type: ignore[no-any-return]

    @property
    def axioms(self) -> Collection[Axiom]:
        """What contexts take to be so."""
        return self.collection(Axiom)  # type: ignore[no-any-return]

    @property
    def memories(self) -> Memories:
        """What is remembered."""
        return self.collection(Memory)  # type: ignore[no-any-return]

    @property
    def tiers(self) -> Collection[Tier]:
        """The rungs of the memories' ladder that are other than `vs.LADDER`."""
        return self.collection(Tier)  # type: ignore[no-any-return]

    @property
    def episodes(self) -> Episodes:
        """What was tried, and what came of it."""
        return self.collection(Episode)  # type: ignore[no-any-return]

    @property
    def causes(self) -> Causes:
        """Which memory led to which."""
        return self.collection(CausalEdge)  # type: ignore[no-any-return]

    @property
    def skills(self) -> Skills:
        """What one has learned to do."""
        return self.collection(Skill)  # type: ignore[no-any-return]

    @property
    def architectures(self) -> Architectures:
        """How minds are built."""
        return self.collection(Architecture)  # type: ignore[no-any-return]

    @property
    def intelligences(self) -> Intelligences:
        """Minds."""
        return self.collection(Intelligence)  # type: ignore[no-any-return]

    @property
    def lattice(self) -> Lattice:
        """Echo forms: bundles of terms that gather and fade."""
        return self.collection(EchoForm)  # type: ignore[no-any-return]

    @property
    def identities(self) -> Collection[Identity]:
        """What echo forms are about: geoids and scars."""
        return self.collection(Identity)  # type: ignore[no-any-return]

    @property
    def artifacts(self) -> Collection[Artifact]:
        """Numeric artifacts: vectors that programs bring."""
        return self.collection(Artifact)  # type: ignore[no-any-return]

    @property
    def states(self) -> States:
        """The states of programs, by name."""
        return States(self._sync, self.artifacts)

    def state(self, name: str, **options: Any) -> StoreState:
        """The state of a name; options as in `States.open`: keep, types, compression, cipher, searchable."""
        return self.states.open(name, **options)
