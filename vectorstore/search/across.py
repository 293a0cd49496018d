"""Search beyond one list: several kinds in one call, certain contexts, outside of a domain."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from vectorstore.errors import NotFound, SpaceMismatch, ValidationError, WhereError
from vectorstore.records import Record, Where
from vectorstore.results import Hit, Hits, Plan
from vectorstore.search.decay import Decay, as_decay
from vectorstore.search.queries import NOBODY, Id, LeftOut, Query
from vectorstore.search.rerank import Reranker, reranking
from vectorstore.search.searcher import Mode, Request, Searcher
from vectorstore.storage import RecordTable, SpaceRow
from vectorstore.storage import spaces as rows
from vectorstore.sync import SnapshotMoved, Sync
from vectorstore.vectors import Matrix


def outside_of(
    sync: Sync, table: RecordTable[Any], query: Any, where: Where | None, outside: Where | str | None
) -> Where | None:
    """The filter that also leaves out what `outside` matches; see `Collection.search`.

    Raises:
        ValidationError: neither a filter nor a plain field; a field, and the query has no value of it.
        NotFound: the query's id does not exist.
    """
    if outside is None:
        return where
    if isinstance(outside, str):
        outside = {outside: _own_value(sync, table, query, outside)}
    if not isinstance(outside, Mapping) or not outside:
        raise ValidationError(
            f"outside: expected a filter such as {{'domain': 'physics'}}, or a field, got {outside!r}"
        )
    return {"and": [where or {}, {"not": outside}]}


def _own_value(sync: Sync, table: RecordTable[Any], query: Any, field: str) -> Any:
    column = table.schema.by_name.get(field)
    if column is None or column.type == "json":
        raise ValidationError(f"outside: expected a plain field of {table.name}, got {field!r}")
    if isinstance(query, Id):
        with sync.catalog.read() as connection:
            found = table.by_ids(connection, [str(query)]).get(str(query))
        if found is None:
            raise NotFound(f"{table.name}: no record {str(query)!r} to search from")
        query = found[1]
    value = getattr(query, field, None) if isinstance(query, Record) else None
    if value is None:
        raise ValidationError(
            f"outside: {field!r} means outside of the query's own {field}, and the query has none; "
            f"use a record or an Id that has one, or say which: outside={{{field!r}: ...}}"
        )
    return value


class SearchAcross:
    """What a store answers over several of its collections."""

    _sync: Sync
    _collections: dict[str, Any]

    def search(
        self,
        query: Any,
        k: int = 10,
        where: Where | Mapping[str, Where | None] | None = None,
        recall: float | None = None,
        exact: bool = False,
        mode: Mode = "vector",
        *,
        kinds: Iterable[str | type[Record]] | None = None,
        contexts: str | Iterable[str] | None = None,
        decay: Decay | None = None,
        rerank: Reranker | None = None,
        rerank_depth: int = 50,
    ) -> Hits[Any]:
        """The k nearest records of several kinds, best first, of one snapshot: the searches of each kind, merged.

        Args:
            query: a text, a vector, or a record of any kind.
            k: at least 1.
            where: a filter for all kinds, or one for each: {"concepts": {...}, "analogies": {...}}.
            recall: as in `Collection.search`.
            exact: compare with every vector.
            mode: "vector" or "hybrid".
            kinds: names or classes; None for all that have vectors of their texts. Ties are in this order, then by age.
            contexts: only records of this context, or these.
            decay: as in `Collection.search`.
            rerank: as in `Collection.search`, asked once for each kind.
            rerank_depth: how many of each kind it is shown.

        Returns:
            Hits that tell their `kind`. Exact if all are; the least recall that any promises.

        Raises:
            SpaceMismatch: the kinds differ in metric, dimensions or embedder: their scores mean different things.
            ValidationError: a bad argument; mode "text", whose scores cannot be compared either.
            EmbedderError, NotFound: as in `Collection.search`.
        """
        started = time.perf_counter()
        if mode == "text":
            raise ValidationError(
                "mode='text': BM25 scores depend on all the texts of a kind, so those of two kinds cannot be compared; "
                "use mode='hybrid', or search each kind"
            )
        if isinstance(query, Id | Query):
            raise ValidationError(
                f"search: {type(query).__name__} names records of one kind; use store.collection(kind).search, "
                "or search with the record itself"
            )
        if mode == "hybrid" and not isinstance(query, str):
            raise ValidationError(f"search: mode='hybrid' needs a text, got {type(query).__name__}")
        every: dict[str, Searcher[Any]] = {name: one._searcher(None) for name, one in self._collections.items()}
        own = type(query).table if isinstance(query, Record) else None
        if own is not None and own not in every:
            raise NotFound(f"search: the query is of the kind {own!r}, which this store does not have")
        spaces = self._text_spaces(every)
        worded = [name for name in spaces if mode == "vector" or self._sync.table(name).schema.text_columns]
        names = worded if kinds is None else _named(kinds, every)
        requests = {}
        for name in names:
            table = self._sync.table(name)
            stages: list[Any] = [] if decay is None else [as_decay(decay).stage(table.schema)]
            if rerank is not None:
                stages.append(reranking(rerank, rerank_depth))
            wanted = _in_contexts(_for_kind(where, names, name), contexts)
            try:
                requests[name] = Request.checked(table, k, wanted, recall, exact, mode, stages)
            except WhereError as error:
                raise WhereError(
                    f"{error}; several kinds are searched: give each a filter of its own, "
                    f"where={{{name!r}: {{...}}, ...}}, or name those that have the field: kinds=[...]"
                ) from None
        involved = [*names, *([own] if own is not None and own not in names else [])]
        _check_comparable({name: spaces.get(name) for name in involved})
        asked = own or next((name for name in names if name in spaces), names[0] if names else None)
        if asked is None:
            return Hits((), True, 1.0, self._seq(), time.perf_counter() - started, "cosine", _EMPTY)
        vector, left_out = every[asked].queries.one(query, "search: query")
        return self._merged(query, vector, {own: left_out} if own is not None else {}, every, requests, k, started)

    def _merged(
        self,
        query: Any,
        vector: Matrix,
        left_out: Mapping[str, LeftOut],
        every: Mapping[str, Searcher[Any]],
        requests: Mapping[str, Request],
        k: int,
        started: float,
    ) -> Hits[Any]:
        while True:
            with self._sync.catalog.read() as connection:
                # A kind's first vectors may have come since.
                _check_comparable({name: rows.space_by_name(connection, name) for name in requests})
                try:
                    found = {
                        name: every[name].answer(
                            connection, query, vector, left_out.get(name, NOBODY), request, time.perf_counter()
                        )
                        for name, request in requests.items()
                    }
                except SnapshotMoved:
                    continue
                seq = self._sync.catalog.seq(connection)
            return _merge(found, k, seq, started)

    def _text_spaces(self, every: Mapping[str, Searcher[Any]]) -> dict[str, SpaceRow]:
        """The spaces of the kinds' texts that have been made."""
        with self._sync.catalog.read() as connection:
            made = {space.name: space for space in rows.all_spaces(connection)}
        return {name: made[name] for name in every if name in made}

    def _seq(self) -> int:
        with self._sync.catalog.read() as connection:
            return self._sync.catalog.seq(connection)


_EMPTY = Plan("empty", "no kind has vectors yet", 0)


def _named(kinds: Iterable[str | type[Record]], every: Iterable[str]) -> list[str]:
    if isinstance(kinds, str | type):
        kinds = [kinds]
    names = [kind if isinstance(kind, str) else kind.table for kind in kinds]
    if not names:
        raise ValidationError("kinds: expected at least one kind, got none; leave it out for all")
    for name in names:
        if name not in every:
            raise NotFound(f"kinds: no kind {name!r}; the kinds are: {', '.join(every)}")
    return list(dict.fromkeys(names))


def _for_kind(where: Any, names: Sequence[str], name: str) -> Where | None:
    """A filter for all kinds, or this kind's own of a mapping from kinds to filters."""
    if isinstance(where, Mapping) and where and all(key in names for key in where):
        own: Where | None = where.get(name)
        return own
    if isinstance(where, Mapping) and any(key in names for key in where):
        strangers = ", ".join(repr(key) for key in where if key not in names)
        raise ValidationError(f"where: some keys are kinds and some are not ({strangers}); the kinds are: {names}")
    whole: Where | None = where
    return whole


def _in_contexts(where: Where | None, contexts: str | Iterable[str] | None) -> Where | None:
    if contexts is None:
        return where
    inside = {"context__in": [contexts] if isinstance(contexts, str) else list(contexts)}
    return inside if where is None else {"and": [where, inside]}


def _check_comparable(spaces: Mapping[str, SpaceRow | None]) -> None:
    first: SpaceRow | None = None
    for space in spaces.values():
        if space is None:
            continue
        first = first or space
        if (space.metric, space.dim, space.model) != (first.metric, first.dim, first.model):
            raise SpaceMismatch(
                f"search: the scores of {first.name} ({_described(first)}) and {space.name} ({_described(space)}) "
                "cannot be compared; name kinds that share all of it: kinds=[...]"
            )


def _described(space: SpaceRow) -> str:
    model = "vectors brought by the caller" if space.model is None else str(json.loads(space.model)["model"])
    return f"{space.metric}, {space.dim} dimensions, {model}"


def _merge(found: Mapping[str, Hits[Any]], k: int, seq: int, started: float) -> Hits[Any]:
    """The best of all, by score; ties in the order of the kinds, then of each kind's hits."""
    every: list[Hit[Any]] = [hit for hits in found.values() for hit in hits]
    every.sort(key=lambda hit: -hit.score)
    ranked = tuple(replace(hit, rank=rank) for rank, hit in enumerate(every[:k]))
    plans = {name: hits.plan for name, hits in found.items()}
    matching = [plan.matching for plan in plans.values()]
    plan = Plan(
        "several",
        "; ".join(f"{name}: {plan.name} ({plan.reason})" for name, plan in plans.items()),
        sum(plan.scanned for plan in plans.values()),
        sum(plan.candidates for plan in plans.values()),
        None if None in matching else sum(count for count in matching if count is not None),
    )
    metric = next((hits.metric for hits in found.values() if hits), next(iter(found.values())).metric)
    exact, promised = all(h.exact for h in found.values()), min(h.recall_promised for h in found.values())
    return Hits(ranked, exact, promised, seq, time.perf_counter() - started, metric, plan)
