"""States: named values of a program that outlive it, with their types, versions and checkpoints."""

from vectorstore.states.envelope import AesGcm, Cipher
from vectorstore.states.lifecycle import Lifecycle, lifecycle
from vectorstore.states.registry import StateInfo, States
from vectorstore.states.state import Saved, State
from vectorstore.states.statefile import StateFile
from vectorstore.states.storestate import Checkpoint, StoreState
from vectorstore.states.targets import Target
from vectorstore.states.values import NumericArtifact, Opaque, StateType

__all__ = [
    "AesGcm",
    "Checkpoint",
    "Cipher",
    "Lifecycle",
    "NumericArtifact",
    "Opaque",
    "Saved",
    "State",
    "StateFile",
    "StateInfo",
    "StateType",
    "States",
    "StoreState",
    "Target",
    "lifecycle",
]
