"""The artifacts of a state as records that are found by their vectors.

Whatever mappings with text keys lead to is a record whose name is the path (`/` within a key is written `~1`, `~` is
`~0`). The records follow from the save and are written in its transaction. An artifact that does not fit into the space
is no reason to refuse a save: it is kept in the state, and the save says why it cannot be found.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from vectorstore.collection import Collection
from vectorstore.errors import ValidationError
from vectorstore.records import Artifact
from vectorstore.records.relations import said
from vectorstore.states.codec import TAG, Codec, is_artifact
from vectorstore.states.deltas import same
from vectorstore.states.values import NumericArtifact
from vectorstore.storage import Transaction
from vectorstore.storage import spaces as rows

_CODEC = Codec()


def path_of(*keys: str) -> str:
    """The name of the artifact that these keys lead to."""
    return "/".join(key.replace("~", "~0").replace("/", "~1") for key in keys)


def artifacts_of(tree: Any, *keys: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(path, packed artifact) of all that mappings lead to."""
    if is_artifact(tree):
        yield path_of(*keys), tree
    elif type(tree) is dict and TAG not in tree:
        for key, item in tree.items():
            if type(item) is dict:
                yield from artifacts_of(item, *keys, key)


def follow(
    transaction: Transaction,
    artifacts: Collection[Artifact],
    state: str,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any],
) -> dict[str, str]:
    """Make the records those of the tree.

    Args:
        transaction: the one that saves.
        artifacts: their collection.
        state: its name.
        before: the tree that the records are of; None to look at the records themselves.
        after: the tree that is saved.

    Returns:
        path -> why it cannot be found, of what changed.
    """
    new = dict(artifacts_of(after))
    if before is None:
        old: dict[str, Any] = {record.name: None for record in artifacts.stream({"state": state})}
    else:
        old = dict(artifacts_of(before))
    changed = {path: item for path, item in new.items() if not same(old.get(path), item)}
    gone = [path for path in old if path not in new]
    refused: dict[str, str] = {}
    records, vectors = list[Artifact](), []
    space = rows.space_by_name(transaction.connection, artifacts.name)
    dim = None if space is None else space.dim
    for path, item in changed.items():
        try:
            value = _artifact(item, path)
            vector = _fitting(value, dim, artifacts.metric)
            fields: dict[str, Any] = {"name": path, "state": state, "dtype": value.vector.dtype.name}
            records.append(Artifact(**fields, metadata=item.get("metadata") or {}))
        except ValidationError as error:
            refused[path] = str(error)
            continue
        dim = len(vector)
        vectors.append(vector)
    if records:
        artifacts.upsert(records, vectors=np.stack(vectors), source="state")
    if gone or refused:
        artifacts.delete([said("default", state, path) for path in [*gone, *refused]])
    return refused


def _artifact(item: dict[str, Any], path: str) -> NumericArtifact:
    value, _ = _CODEC.unpack(item, path)
    if not isinstance(value, NumericArtifact):
        raise ValidationError("it is no artifact that can be read")
    return value


def _fitting(value: NumericArtifact, dim: int | None, metric: str) -> Any:
    if dim is not None and len(value.vector) != dim:
        raise ValidationError(f"it has {len(value.vector)} dimensions, the space {dim}")
    with np.errstate(over="ignore", under="ignore"):
        vector = value.vector.astype(np.float32)
    if not np.isfinite(vector).all():
        raise ValidationError("it holds numbers too big for float32")
    if metric == "cosine" and not vector.any():
        raise ValidationError("it is all zeros, which has no direction")
    return vector
