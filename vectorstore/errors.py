"""Every error a user can meet, in one tree.

    VectorstoreError
    ├── ContractViolation                 one side broke the contract of a verb; has field, value and rule
    │   ├── ValidationError (ValueError)  a precondition: the caller's data is wrong; nothing was written
    │   │   ├── DimensionError            a vector has another length than its space
    │   │   ├── AmbiguousName             a name that several records have
    │   │   ├── WhereError                a filter names an unknown field, operator or value
    │   │   ├── InstanceError             a frame's instance does not fit; several kinds of problems at once
    │   │   │   ├── UnknownFrame          there is no such frame
    │   │   │   ├── UnknownConcept        a bound concept is not there
    │   │   │   ├── MissingElement        a core element is bound to nothing
    │   │   │   └── UndeclaredElement     the frame has no such element
    │   │   ├── Unserialisable            a state holds something that cannot be kept; the old save stays
    │   │   └── RecipeError               a recipe has unknown keys or impossible values
    │   └── BrokenPromise (RuntimeError)  a postcondition or invariant: the store did not do what it says
    ├── NotFound (KeyError)               no such record, kind, context or space
    ├── ConflictError (ValueError)        the catalog already holds something in the way
    │   ├── DuplicateId                   that id is taken
    │   ├── IllegalMove                   a workflow cannot go from its status to that one
    │   ├── LeaseHeld                     another worker has the workflow
    │   ├── CycleError                    what one inherits from would lead back to it
    │   └── StateConflict                 somebody else saved the state meanwhile; merge, or load again
    ├── EmbedderError (RuntimeError)      the embedding model is absent, damaged or misbehaves
    ├── SpaceMismatch (ValueError)        another embedding model, dimension or metric than the space's
    ├── SchemaChangedError (TypeError)    a kind's declaration no longer fits its stored table
    ├── StoreError (OSError)              the store as a whole cannot be used
    │   ├── NotAStore                     the path holds something else
    │   ├── NewerFormat                   written by a newer vectorstore
    │   ├── StoreGone                     the folder was removed or replaced under an open handle
    │   ├── ReadOnlyStore                 a write on a store opened read-only
    │   ├── StoreClosed                   used after close()
    │   ├── StoreBusy (TimeoutError)      another writer held the lock for too long
    │   │   └── StateBusy                 another process has the state, from its start to its end
    │   └── OutcomeUnknown                a commit failed half-way: look before you retry
    ├── CorruptError (RuntimeError)       a source (catalog row, segment) is damaged or missing
    ├── WrongKey (ValueError)             a state is encrypted, and not with this key
    └── DerivedError (RuntimeError)       an index cannot be used; answers stay exact
        ├── LibraryMissing                a library that only this needs, FAISS or one of an extra, is not there
        ├── ModelRefused                  a model file is not what was written, or not for this library; refit
        ├── EngineDown                    an index outside does not answer, and too much is here to scan it all
        ├── RecallTooLow                  a rebuild was refused: it would answer worse than its recipe allows
        └── Superseded                    somebody published a newer index, or compacted, meanwhile

Messages say what, where and how to mend.
"""

from __future__ import annotations

import re
from typing import Any

_UNKNOWN: Any = object()
_PLACE = re.compile(r"([\w.*\[\]-]{1,120})(?:: |=)(.*)", re.DOTALL)
_GOT = re.compile(r",? got .*", re.DOTALL)


class VectorstoreError(Exception):
    """Base of every error this package raises on purpose."""


class ContractViolation(VectorstoreError):
    """The contract of a verb was broken, by its caller or by the store; never a matter of disks, locks or files.

    Args:
        message: `field: rule, got value`, from which field and rule are read when they are not given.
        field: what is wrong: an argument (`limit`) or a place in one (`concepts[17].quality`); "" if it is the call.
        value: what was there.
        rule: what was demanded of it.
    """

    def __init__(self, message: str = "", *, field: str | None = None, value: Any = _UNKNOWN, rule: str | None = None):
        super().__init__(message)
        place = _PLACE.match(message)
        self.field = field if field is not None else place[1] if place else ""
        self.rule = rule if rule is not None else _GOT.sub("", place[2] if place else message)
        self.value = None if value is _UNKNOWN else value
        self.valued = value is not _UNKNOWN
        """Whether `value` is known: it may be None."""
        self.declared = False
        """Whether the rule is one of the declared contracts, and so holds nothing of the caller's data."""
        self.parameters: tuple[str, ...] = ()
        """The arguments that the verb takes."""


class ValidationError(ContractViolation, ValueError):
    """The data handed in is wrong; nothing was written."""


class BrokenPromise(ContractViolation, RuntimeError):
    """A result or a state that the store says cannot be: a defect of the store, or damage done to it from outside."""


class DimensionError(ValidationError):
    """A vector has another number of dimensions than its space."""


class AmbiguousName(ValidationError):
    """Several records have the name; `candidates` are their ids."""

    def __init__(self, message: str, candidates: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.candidates = candidates


class WhereError(ValidationError):
    """A filter names an unknown field or operator, or a value of the wrong type."""


class InstanceError(ValidationError):
    """Instances of frames do not fit their frames; `problems` has one error each, all of them in the message."""

    def __init__(self, message: str, problems: tuple[InstanceError, ...] = ()) -> None:
        super().__init__(message)
        self.problems: tuple[InstanceError, ...] = problems or (self,)


class UnknownFrame(InstanceError):
    """There is no frame of that id."""


class UnknownConcept(InstanceError):
    """A bound concept is not there."""


class MissingElement(InstanceError):
    """A core element is bound to nothing."""


class UndeclaredElement(InstanceError):
    """The frame has no such element, of its own or inherited."""


class Unserialisable(ValidationError):
    """A value of a state cannot be kept; nothing was written, and the state saved before stays as it is."""


class RecipeError(ValidationError):
    """A recipe has unknown keys, missing keys or impossible values."""


class NotFound(VectorstoreError, KeyError):
    """No such record, kind, context or space."""

    def __str__(self) -> str:
        """The message itself; KeyError would show its repr."""
        return str(self.args[0]) if self.args else ""


class ConflictError(VectorstoreError, ValueError):
    """The catalog already holds something that stands in the way; nothing was written."""


class DuplicateId(ConflictError):
    """The id is taken; use upsert to overwrite."""


class IllegalMove(ConflictError):
    """A workflow cannot do that in its status; nothing was changed."""


class LeaseHeld(ConflictError):
    """Another worker has the workflow; what this one had not committed was not written."""


class CycleError(ConflictError):
    """A parent, or a frame to inherit from, would lead back to where it began; nothing was written."""


class StateConflict(ConflictError):
    """Somebody else saved the state since it was loaded; nothing was written."""


class EmbedderError(VectorstoreError, RuntimeError):
    """The embedding model is absent, damaged or returned nonsense."""


class SpaceMismatch(VectorstoreError, ValueError):
    """The embedder, dimension or metric is not the one that the space was made with."""


class SchemaChangedError(VectorstoreError, TypeError):
    """A kind's declaration no longer fits the table that holds its records."""


class StoreError(VectorstoreError, OSError):
    """The store as a whole cannot be opened or used."""


class NotAStore(StoreError):
    """The path holds something that is not a vectorstore; it was left untouched."""


class NewerFormat(StoreError):
    """The store was written by a newer version; nothing was changed."""


class StoreGone(StoreError):
    """The folder was removed or replaced while the store was open; nothing was re-created."""


class ReadOnlyStore(StoreError):
    """A write was asked of a store that was opened read-only."""


class StoreClosed(StoreError):
    """The store was used after close()."""


class StoreBusy(StoreError, TimeoutError):
    """Another writer held the write lock for longer than the timeout."""


class StateBusy(StoreBusy):
    """Another process has the state for its own, from its start to its end."""


class WorkersLost(StoreError):
    """The workers that a batch was spread over are gone, or their scheduler; what landed stays: process it again."""


class OutcomeUnknown(StoreError):
    """A commit raised: it may or may not have happened. Reopen, look, then retry."""


class CorruptError(VectorstoreError, RuntimeError):
    """A source of truth (a catalog row, a segment) is damaged or missing."""


class WrongKey(VectorstoreError, ValueError):
    """A state cannot be decrypted with this key, or there is none; nothing was changed."""


class DerivedError(VectorstoreError, RuntimeError):
    """A derived file cannot be used; it can be rebuilt and the answers stay exact meanwhile."""


class LibraryMissing(DerivedError):
    """A library that only this needs cannot be imported; the message says which, and what installs it.

    FAISS, without which no index is built or read and answers stay exact; or one of an extra, such as fsspec.
    """


class ModelRefused(DerivedError):
    """A model file was not loaded, because it is not what was written or not by this library; refit makes it anew."""


class EngineDown(DerivedError):
    """An index outside the store does not answer. Small spaces are then searched exactly, big ones raise this."""


class RecallTooLow(DerivedError):
    """A rebuild was refused because its measured recall is below the recipe's minimum."""


class Superseded(DerivedError):
    """The catalog moved on while an index was built; the newer state was kept."""
