"""What the tests of states share: a filled one, and what lies in the catalog."""

from __future__ import annotations

import vectorstore as vs
from vectorstore.states import State
from vectorstore.states.storestate import StoreState


def filled(state: State) -> State:
    state["knowledge_base"] = {
        "user_profile_1": vs.NumericArtifact([0.8, 0.6, 0.9], {"user_id": "user123", "type": "profile_embedding"}),
        "document_1": vs.NumericArtifact([0.3, 0.7, 0.5], {"doc_id": "doc456"}),
    }
    state.history("task_history").extend([{"task_id": 1, "duration_ms": 150}, {"task_id": 2, "duration_ms": 80}])
    state.history("score_history").extend([0.85, 0.9, 0.88])
    return state


def blobs(state: StoreState) -> list[tuple[int, int, int, bytes]]:
    with state._sync.catalog.read() as connection:
        return connection.execute("SELECT version, base, damaged, data FROM state_saves ORDER BY version").fetchall()
