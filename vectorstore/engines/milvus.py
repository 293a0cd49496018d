"""Milvus: the one door to pymilvus.

Only what servers from 2.3 on have in common is used: `upsert` (an `insert` of a vid that is there would count twice),
`delete` by vid, `search` and `query` with boolean expressions, `flush`, indexes, `load`. A search waits until the
server has taken in what was written up to a given server time (consistency level Customized): the catalog keeps the
time of the last batch, so every process reads what any process wrote, without the 0.2 s that a Strong read costs.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from vectorstore.engines.expressions import between, cut, named, rows_only
from vectorstore.engines.protocol import MAX_BYTES, STAMP, Caps, EngineDown, Field, Rows
from vectorstore.errors import LibraryMissing
from vectorstore.recipes import Point
from vectorstore.records import Value
from vectorstore.vectors import Matrix, Vids

MOST = 16_384
"""The server's own limit of candidates a query, and of rows an answer of `query` has."""

_PART = 2_000
"""Rows in one call: with 1,024 dimensions 8 MB, far below the 64 MB that a call may have."""

_READ = 1_000
"""Whole rows in one answer: with 8,192 dimensions half of what an answer may have."""

_METRIC = {"cosine": "IP", "ip": "IP", "l2": "L2"}  # of unit vectors the inner product is the cosine
_TYPES = {"text": "VARCHAR", "integer": "INT64", "time": "INT64", "real": "DOUBLE", "boolean": "BOOL"}
_EMPTY: dict[str, Value] = {"text": "", "integer": 0, "time": 0, "real": 0.0, "boolean": False}

INDEXES: dict[str, tuple[dict[str, int], tuple[Point, ...]]] = {
    "IVF_SQ8": (
        {"nlist": 1024},
        tuple(
            {"candidates": candidates, "nprobe": cells}
            for cells, candidates in ((16, 16), (32, 32), (64, 32), (128, 64), (256, 64), (1024, 128))
        ),
    ),
    "HNSW": (
        {"M": 32, "efConstruction": 360},
        tuple({"candidates": effort, "efSearch": effort} for effort in (16, 64, 128, 256, 512, 1024)),
    ),
    "FLAT": ({}, ({"candidates": 16}, {"candidates": 64})),
}
"""Kind of index -> (its parameters, search efforts). Codes of one byte a dimension in cells are the default: of 50,000
clustered rows x 128 they gave recall@10 1.0 for three kinds of held-out queries at 64 of 1,024 cells and 30 candidates,
in 1.9 ms, built in 8 s; a graph (M 32) needed an effort of 1,024 and 3 ms for 0.99, built in 19 s (server 2.3.5)."""


class Milvus:
    """One collection of a Milvus server; a `VectorIndex`.

    Args:
        uri: http://host:port or https://host:port.
        collection: its name.
        dim: of its vectors.
        metric: cosine, ip or l2.
        fields: to filter by.
        options: token, db, timeout (seconds), shards, replicas, index (one of INDEXES), nlist, M, efConstruction.
    """

    def __init__(
        self, uri: str, collection: str, dim: int, metric: str, fields: Sequence[Field], options: dict[str, str]
    ) -> None:
        self._uri, self._name, self._dim, self._metric = uri, collection, dim, metric
        self._fields = tuple(fields)
        self._options = options
        self._lock = threading.Lock()
        self._made: Any = None
        self._index = options.get("index", "IVF_SQ8")
        self._building = {name: int(options.get(name, value)) for name, value in INDEXES[self._index][0].items()}
        points = INDEXES[self._index][1]
        if "nlist" in self._building:  # the highest effort visits every cell
            points = (*points[:-1], {**points[-1], "nprobe": self._building["nlist"]})
        self.caps = Caps(MOST, 32_768, float(options.get("timeout", 10.0)), points)

    # -- the collection --------------------------------------------------------------------------------------------

    def make(self) -> None:
        """Make it, with its index over vectors, and load it."""
        with self._asked() as client:
            if not client.has_collection(self._name, timeout=self._patience):
                self._create(client)
            shards = {"replica_number": int(self._options.get("replicas", 1))}
            client.load_collection(self._name, timeout=max(60.0, self._patience), **shards)

    def _create(self, client: Any) -> None:
        types = _pymilvus().DataType
        schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("vid", types.INT64, is_primary=True)
        schema.add_field("mark", types.INT64)
        schema.add_field("odd", types.BOOL)
        schema.add_field("vector", types.FLOAT_VECTOR, dim=self._dim)
        for name, type, nullable in self._fields:
            bound = {"max_length": MAX_BYTES} if type == "text" else {}
            schema.add_field(f"f_{name}", types[_TYPES[type]], **bound)
            if nullable:
                schema.add_field(f"n_{name}", types.BOOL)
        index = client.prepare_index_params()
        metric = _METRIC[self._metric]
        index.add_index(field_name="vector", index_type=self._index, metric_type=metric, params=self._building)
        shards = int(self._options.get("shards", 1))
        client.create_collection(self._name, schema=schema, num_shards=shards, timeout=max(60.0, self._patience))
        client.create_index(self._name, index, timeout=max(60.0, self._patience))

    def exists(self) -> bool:
        """Whether it is there."""
        with self._asked() as client:
            return bool(client.has_collection(self._name, timeout=self._patience))

    def drop(self) -> None:
        """Remove it."""
        with self._asked() as client:
            if client.has_collection(self._name, timeout=self._patience):
                client.drop_collection(self._name, timeout=max(60.0, self._patience))

    # -- rows ------------------------------------------------------------------------------------------------------

    def add(self, rows: Rows, stamp: int) -> int:
        """Upsert in parts; the stamp goes with the last.

        By columns: the client takes 0.05 ms to look at a row field by field, and a tenth of it for columns.
        """
        rows.fit(self._dim)
        first = np.zeros((1, self._dim), np.float32)
        first[0, 0] = 1.0
        vectors = np.concatenate([rows.vectors.reshape(-1, self._dim), first])
        vids, marks = [*rows.vids.tolist(), STAMP], [*rows.marks.tolist(), stamp]
        values = [*rows.values, (None,) * len(self._fields)]
        at = 0
        with self._asked() as client:
            handler = client._get_connection()  # the client's own upsert does not tell the server's time
            for start in range(0, len(vids), _PART):
                part = slice(start, start + _PART)
                columns = self._columns(vids[part], vectors[part], marks[part], values[part])
                done = handler.upsert(self._name, columns, timeout=self._patience)
                at = max(at, int(done.timestamp))
        return at

    def _columns(
        self, vids: list[int], vectors: Matrix, marks: list[int], values: Sequence[tuple[Value, ...]]
    ) -> list[dict[str, Any]]:
        types = _pymilvus().DataType
        odd = [False] * len(vids)
        columns: list[tuple[str, str, list[Any]]] = [
            ("vid", "INT64", vids),
            ("mark", "INT64", marks),
            ("odd", "BOOL", odd),
            ("vector", "FLOAT_VECTOR", vectors.tolist()),
        ]
        for place, (name, type, nullable) in enumerate(self._fields):
            own: list[Any] = [row[place] for row in values]
            if nullable:
                columns.append((f"n_{name}", "BOOL", [value is None for value in own]))
            own = [_EMPTY[type] if value is None else value for value in own]
            if type == "text":
                short = [cut(value) for value in own]
                for row in (row for row, (a, b) in enumerate(zip(short, own, strict=True)) if a != b):
                    odd[row] = True
                own = short
            elif type == "boolean":
                own = [bool(value) for value in own]
            columns.append((f"f_{name}", _TYPES[type], own))
        return [{"name": name, "type": types[type], "values": given} for name, type, given in columns]

    def remove(self, vids: Sequence[int]) -> int:
        """Delete by vid. Old servers do not tell the time of a delete; what is gone is dropped from answers anyway."""
        at = 0
        with self._asked() as client:
            for start in range(0, len(vids), _PART):
                part = [int(vid) for vid in vids[start : start + _PART]]
                done = client._get_connection().delete(self._name, expression=named(part), timeout=self._patience)
                at = max(at, int(done.timestamp))
        return at

    def search(
        self, queries: Matrix, count: int, effort: Point, where: str | None = None, since: int = 0
    ) -> list[Vids]:
        """One call for all queries."""
        self.caps.allows(count)
        with self._asked() as client:
            found = client.search(
                self._name,
                data=queries,
                limit=count,
                filter=where or "",
                search_params={"metric_type": _METRIC[self._metric], "params": self._effort(effort, count)},
                consistency_level="Customized",
                guarantee_timestamp=max(since, 1),
                timeout=self._patience,
            )
        return [np.asarray(hits.ids, dtype=np.int64) for hits in found]

    def _effort(self, effort: Point, count: int) -> dict[str, int]:
        if "efSearch" in effort:
            return {"ef": max(effort["efSearch"], count)}
        return {"nprobe": effort["nprobe"]} if "nprobe" in effort else {}

    def count(self, where: str | None = None, since: int | None = None) -> int:
        """By `count(*)`, a Strong read unless it is told since when; without a filter segments only add up."""
        seen: dict[str, Any] = {"consistency_level": "Strong"}
        if since is not None:
            seen = {"consistency_level": "Customized", "guarantee_timestamp": max(since, 1)}
        whole = where is None and since is not None
        with self._asked() as client:
            found = client.query(
                self._name,
                filter="" if whole else rows_only(where),
                output_fields=["count(*)"],
                timeout=self._patience,
                **seen,
            )
        return max(0, int(found[0]["count(*)"]) - whole)

    def versions(self, low: int, high: int) -> dict[int, int]:
        """Strong reads of at most 16,384 vids each; a vid names one row, so no range can hold more."""
        return {row["vid"]: row["mark"] for row in self._read(low, high, ["vid", "mark"], MOST)}

    def snapshot(self, low: int, high: int) -> Rows:
        """Strong reads of at most 1,000 rows each: an answer may have 64 MB."""
        names = [f"f_{name}" for name, _, _ in self._fields]
        empty = {name: f"n_{name}" for name, _, nullable in self._fields if nullable}
        found = sorted(
            self._read(max(low, STAMP + 1), high, ["vid", "mark", "vector", *names, *empty.values()], _READ),
            key=lambda row: int(row["vid"]),
        )
        values = [
            tuple(
                None if name in empty and row[empty[name]] else int(told) if type == "boolean" else told
                for name, type, told in ((name, type, row[f"f_{name}"]) for name, type, _ in self._fields)
            )
            for row in found
        ]
        vectors = np.array([row["vector"] for row in found], np.float32).reshape(len(found), self._dim)
        vids, marks = (np.array([row[name] for row in found], np.int64) for name in ("vid", "mark"))
        return Rows(vids, vectors, marks, values)

    def _read(self, low: int, high: int, names: list[str], step: int) -> Iterator[Any]:
        with self._asked() as client:
            for start in range(low, high, step):
                yield from client.query(
                    self._name,
                    filter=between(start, min(start + step, high)),
                    output_fields=names,
                    limit=step,
                    consistency_level="Strong",
                    timeout=max(30.0, self._patience),
                )

    def persist(self) -> None:
        """Flush: what is in the message queue alone goes into the object storage."""
        with self._asked() as client:
            client.flush(self._name, timeout=max(60.0, self._patience))

    def settle(self, timeout: float) -> None:
        """Flush, then wait until every row is in an index; nothing with no time for it."""
        if timeout <= 0:
            return
        until = time.monotonic() + timeout
        self.persist()
        with self._asked() as client:
            while time.monotonic() < until:
                state = client.describe_index(self._name, "vector", timeout=self._patience) or {}
                if not state.get("pending_index_rows") and state.get("state", "Finished") == "Finished":
                    client.refresh_load(self._name, timeout=max(60.0, self._patience))
                    break
                time.sleep(0.2)

    def close(self) -> None:
        """Give the connection back."""
        with self._lock:
            client, self._made = self._made, None
        if client is not None:
            with contextlib.suppress(Exception):  # its server may be gone
                client.close()

    # -- the client ------------------------------------------------------------------------------------------------

    @cached_property
    def _patience(self) -> float:
        return self.caps.patience

    @contextlib.contextmanager
    def _asked(self) -> Iterator[Any]:
        """The client, made on first use; what goes wrong in it as our error."""
        library = _pymilvus()
        try:
            yield self._client(library)
        except EngineDown:
            raise
        except Exception as error:  # grpc, pymilvus and the socket have a family of errors each
            raise EngineDown(
                f"milvus at {self._uri}, collection {self._name}: {_said(error)}; see whether it is up and reachable"
            ) from error

    def _client(self, library: Any) -> Any:
        with self._lock:
            if self._made is None:
                own = {"token": self._options["token"]} if "token" in self._options else {}
                own |= {"server_pem_path": self._options["ca"]} if "ca" in self._options else {}
                own |= {"db_name": self._options["db"]} if "db" in self._options else {}
                self._made = library.MilvusClient(self._uri, timeout=self._patience, **own)
            return self._made


def _said(error: Exception) -> str:
    """What went wrong, in one line: of gRPC its status, of others the first line."""
    status = error.code() if callable(getattr(error, "code", None)) else None  # type: ignore[attr-defined]
    text = str(getattr(error, "message", "") or error).strip().splitlines()
    return f"{type(error).__name__}: {status.name if status is not None else ''.join(text[:1])[:300]}"


def _pymilvus() -> Any:
    try:
        import pymilvus
    except ImportError as error:
        raise LibraryMissing("pymilvus is not installed; run: pip install 'vectorstore[milvus]'") from error
    # It logs each failed call with a traceback; they are raised, told and logged here.
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
    return pymilvus


__all__ = ["Milvus"]
