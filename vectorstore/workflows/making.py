"""How workflows are made: what is to be done becomes durable items, by one commit."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vectorstore.clusters import ClusterRecipe, as_cluster_recipe
from vectorstore.errors import ConflictError, NotFound, ValidationError
from vectorstore.ids import check_id, new_id
from vectorstore.reason.fitting import Scope
from vectorstore.reason.fitting import plain as plain_where
from vectorstore.reason.reasoner import Others
from vectorstore.recipes import DEFAULT, IndexRecipe, as_recipe
from vectorstore.records import Where, parse
from vectorstore.records.where import says_nothing, with_ids
from vectorstore.storage import spaces as spaces_of_store
from vectorstore.storage import workflows as rows
from vectorstore.sync import Sync
from vectorstore.trail import Trail
from vectorstore.workflows.engine import tell
from vectorstore.workflows.lines import payload_of, read_lines
from vectorstore.workflows.states import Policy, Workflow
from vectorstore.writing import Given, incoming

Flat = npt.NDArray[np.float32]
_BRINGS = ("create", "update")
_FROM_LINES = (*_BRINGS, "delete")


class Making:
    """The verbs that make workflows. Each returns the pending workflow; `process` does it."""

    def __init__(self, sync: Sync, others: Others, trail: Trail) -> None:
        self._sync = sync
        self._others = others
        self._trail = trail

    def create(
        self,
        kind: str,
        records: Any,
        vectors: Any = None,
        *,
        id: str | None = None,
        policy: Policy = "strict",
        overwrite: bool = True,
        source: str = "caller",
        confidence: float = 1.0,
        metadata: Mapping[str, Any] | None = None,
    ) -> Workflow:
        """Add records to a kind.

        Args:
            kind: concepts, analogies, frames, clusters, ... or one of your own.
            records: as in `Collection.add`. They are validated when they are processed, each for itself.
            vectors: as in `Collection.add`.
            id: of the workflow, 1..255 printable characters; None for a new one.
            policy: "strict": an item that fails takes everything back; "lenient": it is counted and kept for a retry.
            overwrite: records whose id is there are replaced; False lets them fail.
            source: kept with given vectors.
            confidence: kept with given vectors, 0..1.
            metadata: plain data of your own; times become text.

        Raises:
            ConflictError: a workflow has that id. ValidationError: no items, or a bad argument. NotFound: no such kind.

        Memory: the items as JSON text.
        """
        options = {"overwrite": bool(overwrite)}
        return self._write("create", kind, records, vectors, source, confidence, id, policy, options, metadata)

    def update(
        self,
        kind: str,
        changes: Any,
        vectors: Any = None,
        *,
        id: str | None = None,
        policy: Policy = "strict",
        metadata: Mapping[str, Any] | None = None,
    ) -> Workflow:
        """Change some fields of records, as `Collection.update`: each change names the `id` and the new values."""
        return self._write("update", kind, changes, vectors, "caller", 1.0, id, policy, {}, metadata)

    def create_from_jsonl(
        self,
        kind: str,
        path: str | os.PathLike[str],
        *,
        operation: str = "create",
        id: str | None = None,
        policy: Policy = "strict",
        overwrite: bool = True,
        metadata: Mapping[str, Any] | None = None,
    ) -> Workflow:
        """Items from JSON lines (.gz or not), a record each; or changes, with the operation "update".

        With the operation "delete" each line is a tombstone, as `to_jsonl` and exports write them, or has an `id`.

        A last line that was torn off is left out, and named by `workflow.options["torn"]` and in the log. Another line
        that is no JSON object is an item that fails.

        Raises:
            ValidationError: the file cannot be read, or has no lines. Otherwise as `create`.
        """
        if operation not in _FROM_LINES:
            raise ValidationError(f"operation: expected one of {', '.join(_FROM_LINES)}, got {operation!r}")
        lines = read_lines(path, kind)
        if not lines.payloads:
            raise ValidationError(f"{path}: has no lines")
        if lines.vectors is not None and operation == "delete":
            raise ValidationError(f"{path}: has vectors, and a deletion needs none")
        options: dict[str, Any] = {"overwrite": bool(overwrite)} if operation == "create" else {}
        options["file"] = Path(path).name
        if lines.torn is not None:
            options["torn"] = lines.torn
        given = None if lines.vectors is None else Given(lines.vectors, "caller", 1.0)
        blobs = self._blobs(kind, given, len(lines.payloads), options)
        note = "" if lines.torn is None else f"line {lines.torn} was torn off and left out"
        return self._insert(operation, kind, lines.payloads, blobs, id, policy, options, metadata, note)

    def delete(
        self,
        kind: str,
        ids: str | Iterable[str] | None = None,
        *,
        where: Where | None = None,
        id: str | None = None,
        policy: Policy = "strict",
        metadata: Mapping[str, Any] | None = None,
    ) -> Workflow:
        """Delete records, as `Collection.delete`.

        What a filter means is settled now, by the records that match it now; one that does not match any more when its
        turn comes is skipped.

        Raises:
            ValidationError: neither ids nor a filter, or an empty one.
        """
        names = self._names(kind, ids, where, "delete")
        options = {"where": None if where is None else plain_where(where)}
        return self._by_name("delete", kind, names, id, policy, options, metadata)

    def reembed(
        self,
        kind: str,
        ids: str | Iterable[str] | None = None,
        *,
        where: Where | None = None,
        id: str | None = None,
        policy: Policy = "strict",
        metadata: Mapping[str, Any] | None = None,
    ) -> Workflow:
        """Embed the texts of records again, by the embedder that processes it: all of the kind, or those named.

        Raises:
            ValidationError: the kind has no text.
        """
        if not self._others(kind)._table.schema.text_columns:
            raise ValidationError(f"{kind}: has no text that could be embedded")
        everything = {"version__gte": 1} if ids is None and where is None else where
        names = self._names(kind, ids, everything, "reembed")
        options = {"where": None if where is None else plain_where(where)}
        return self._by_name("reembed", kind, names, id, policy, options, metadata)

    def reindex(
        self,
        kind: str,
        recipe: IndexRecipe | str | Path | None = None,
        *,
        id: str | None = None,
        policy: Policy = "strict",
        metadata: Mapping[str, Any] | None = None,
    ) -> Workflow:
        """Build the indexes of a kind again, one for each of its vector spaces.

        Args:
            kind: whose vectors.
            recipe: as in `store.rebuild`, but for "auto", which is an experiment and no recipe.
            id: as in `create`.
            policy: as in `create`.
            metadata: as in `create`.
        """
        chosen = DEFAULT if recipe is None else as_recipe(recipe)
        if not isinstance(chosen, IndexRecipe):
            raise ValidationError("recipe: 'auto' tries several; use store.rebuild, or name one")
        self._others(kind)
        with self._sync.catalog.read() as connection:
            names = [space.name for space in spaces_of_store.spaces_of(connection, kind)]
        payloads = [json.dumps({"space": name}) for name in names]
        return self._insert("reindex", kind, payloads, None, id, policy, {"recipe": chosen.to_dict()}, metadata)

    def cluster(
        self,
        kind: str = "concepts",
        recipe: ClusterRecipe | str | Path = "kmeans",
        n: int | None = None,
        *,
        where: Where | None = None,
        context: str | None = None,
        space: str | None = None,
        name: str | None = None,
        seed: int = 0,
        id: str | None = None,
        policy: Policy = "strict",
        metadata: Mapping[str, Any] | None = None,
    ) -> Workflow:
        """Cluster the records of a kind, as `store.clusters.fit`, whose arguments these are."""
        chosen = as_cluster_recipe(recipe)
        Scope.checked(self._others(kind)._table, space, where, context, name)
        fields = {"recipe": chosen.to_dict(), "n": n, "context": context, "space": space, "name": name, "seed": seed}
        payload = {**fields, "where": None if where is None else plain_where(where)}
        return self._insert("cluster", kind, [json.dumps(payload)], None, id, policy, {}, metadata)

    # -- how -------------------------------------------------------------------------------------------------------

    def _write(
        self,
        operation: str,
        kind: str,
        records: Any,
        vectors: Any,
        source: str,
        confidence: float,
        id: str | None,
        policy: str,
        options: dict[str, Any],
        metadata: Mapping[str, Any] | None,
    ) -> Workflow:
        shape = self._others(kind).kind
        items, given = incoming(shape, records, vectors, source, confidence)
        payloads = [payload_of(item, shape, f"{kind}[{place}]") for place, item in enumerate(items)]
        blobs = self._blobs(kind, given, len(payloads), options)
        return self._insert(operation, kind, payloads, blobs, id, policy, options, metadata)

    def _blobs(self, kind: str, given: Given | None, count: int, options: dict[str, Any]) -> list[bytes | None] | None:
        """The vectors of each item, those of all spaces one after the other; what is in them stands in the options."""
        if given is None:
            return None
        shape = self._others(kind).kind
        matrices: list[Flat] = []
        spaces: list[tuple[str, int]] = []
        for name, values in given.spaces.items():
            full = name if name.partition(".")[0] == kind else shape.space_name(name)
            try:
                matrix = np.ascontiguousarray(values, dtype="<f4")
            except (ValueError, TypeError) as error:
                raise ValidationError(f"{full}.vectors: expected numbers of one length: {error}") from None
            if matrix.ndim != 2 or len(matrix) != count or not matrix.shape[1]:
                got = f"an array of shape {matrix.shape}"
                raise ValidationError(f"{full}.vectors: expected {count} vectors, one an item, got {got}")
            spaces.append((full, matrix.shape[1]))
            matrices.append(matrix)
        if not matrices:  # a mapping that names no space brings none
            return None
        options["vectors"] = {"spaces": spaces, "source": given.source, "confidence": given.confidence}
        return [row.tobytes() for row in np.concatenate(matrices, axis=1)]

    def _names(self, kind: str, ids: str | Iterable[str] | None, where: Where | None, verb: str) -> list[str]:
        """The ids that are named, and of those that a filter chooses."""
        table = self._others(kind)._table
        named = None if ids is None else [ids] if isinstance(ids, str) else list(dict.fromkeys(ids))
        if where is None and named is not None:
            with_ids(None, named, table.schema)  # raises for what is no id
            return named
        node = with_ids(parse(where, table.schema), named, table.schema)
        if node is None or says_nothing(node):
            raise ValidationError(
                f"{kind}.{verb}: say what: ids=... or where=...; for everything where={{'version__gte': 1}}"
            )
        with self._sync.catalog.read() as connection:
            numbers = sorted(table.matching(connection, node).tolist())
            found = rows.rows_as_they_are(connection, table.table, ["id"], numbers)
        return [str(found[number][0]) for number in numbers]

    def _by_name(
        self,
        operation: str,
        kind: str,
        names: Sequence[str],
        id: str | None,
        policy: str,
        options: dict[str, Any],
        metadata: Mapping[str, Any] | None,
    ) -> Workflow:
        payloads = [json.dumps({"id": name}, ensure_ascii=False) for name in names]
        return self._insert(operation, kind, payloads, None, id, policy, options, metadata)

    def _insert(
        self,
        operation: str,
        kind: str,
        payloads: Sequence[str],
        blobs: list[bytes | None] | None,
        id: str | None,
        policy: str,
        options: dict[str, Any],
        metadata: Mapping[str, Any] | None,
        note: str = "",
    ) -> Workflow:
        if policy not in ("strict", "lenient"):
            raise ValidationError(f"policy: expected strict or lenient, got {policy!r}")
        if operation in _BRINGS and not payloads:
            raise ValidationError(f"{kind}: there is nothing to {operation}; a workflow has at least one item")
        if len(payloads) > rows.MOST_ITEMS:
            raise ValidationError(f"{kind}: {len(payloads)} items; a workflow has at most {rows.MOST_ITEMS}")
        if kind not in self._sync.tables:
            raise NotFound(f"no kind {kind!r}")
        name = _checked(id, new_id(self._sync.catalog.clock()))
        own = _plain(metadata)
        with self._sync.catalog.write() as transaction:
            connection = transaction.connection
            if rows.workflow_by_name(connection, name) is not None:
                raise ConflictError(f"a workflow {name!r} is there already; choose another id; nothing was changed")
            fields: dict[str, Any] = {"name": name, "operation": operation, "kind": kind, "policy": policy}
            fields |= {"status": "pending", "goal": "completed", "options": options, "metadata": own}
            fields |= dict.fromkeys(("processed", "errors", "undone", "kept", "fence"), 0)
            fields |= {"total": len(payloads), "created_at": transaction.now, "updated_at": transaction.now}
            self._sync.table(kind).make(connection)
            row = rows.insert_workflow(connection, **fields)
            rows.insert_items(connection, row, payloads, blobs)
            made = rows.workflow_by_name(connection, name)
            assert made is not None  # inserted above
            return Workflow.of(tell(transaction, made, self._trail.actor, None, note))


def _checked(id: str | None, otherwise: str) -> str:
    """The id of a workflow, if it is one.

    Raises:
        ValidationError: not 1..255 printable characters, or blank, or like a path.
    """
    if id is None:
        return otherwise
    try:
        if not isinstance(id, str) or not id.strip():
            raise ValueError(f"expected text that is not blank, got {id!r}")
        return check_id(id)
    except ValueError as error:
        raise ValidationError(f"id: {error}", value=id) from None


def _plain(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """Metadata as JSON has it; times become text."""

    def plainer(value: object) -> object:
        if isinstance(value, datetime):
            return value.isoformat()
        if isinstance(value, set | frozenset | tuple):
            return list(value)
        raise TypeError(f"{value!r} is no plain data")

    try:
        found: dict[str, Any] = json.loads(json.dumps(dict(metadata or {}), default=plainer, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValidationError(f"metadata: {error}") from None
    return found
