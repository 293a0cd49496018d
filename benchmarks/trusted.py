"""The stores of `trust.py`, each in the most durable mode that it documents; one is imported a process."""

from __future__ import annotations

import datetime
import importlib
import importlib.metadata
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float32]
DIM = 32


def vector_of(number: int) -> Vector:
    """A unit vector of its own for every number; numbers of one thousand lie around one centre."""
    centre = np.random.default_rng(number // 1000 + 10**9).standard_normal(DIM)
    found = centre + 0.7 * np.random.default_rng(number).standard_normal(DIM)
    return (found / np.linalg.norm(found)).astype(np.float32)


def text_of(number: int) -> str:
    """A text that is found nowhere else; it begins with its number."""
    return f"{number} marker-{number * 2654435761 % 2**32:08x}-of-a-secret"


class Contestant(ABC):
    """An open store of rows: number, text, bucket, vector."""

    name: str
    packages: tuple[str, ...]
    durable: str
    """What makes an acknowledged write durable, and is waited for."""

    erase: str
    """What is done to erase, beside deleting."""

    @abstractmethod
    def __init__(self, path: Path) -> None:
        """Open what is there, or make it."""

    @abstractmethod
    def add(self, numbers: Sequence[int], buckets: Sequence[int] | None = None) -> None:
        """Add rows; durable when it returns, as far as the system offers that."""

    @abstractmethod
    def count(self) -> int:
        """How many rows there are."""

    @abstractmethod
    def has(self, number: int) -> bool:
        """Whether a row comes back by its id."""

    @abstractmethod
    def find(self, number: int, k: int = 1, bucket: int | None = None) -> list[int]:
        """The numbers of the rows nearest to the vector of a number."""

    @abstractmethod
    def delete(self, numbers: Sequence[int]) -> None:
        """Delete, and do what is documented to erase."""

    def index(self) -> None:
        """Build the index that the system has by default for many rows; nothing where it builds it by itself."""
        return

    def close(self) -> None:
        """Close; nothing where leaving scope does it."""
        return

    def versions(self) -> dict[str, str]:
        return {name: importlib.metadata.version(name) for name in self.packages}


class Ours(Contestant):
    name = "vectorstore"
    packages = ("vectorstore", "faiss-cpu", "numpy")
    durable = "add (its default: SQLite with synchronous=FULL, segments fsynced)"
    erase = "purge"

    def __init__(self, path: Path) -> None:
        vs = importlib.import_module("vectorstore")

        class Entry(vs.Record, table="entries"):  # type: ignore[misc,name-defined,call-arg]  # imported when it is its turn
            text: Annotated[str, vs.EMBEDDED]
            bucket: Annotated[int, vs.INDEXED]

        self._store = vs.open(path / "kb", embedder=None, kinds=[Entry], auto_publish=False)
        self._entries = self._store["entries"]

    def add(self, numbers: Sequence[int], buckets: Sequence[int] | None = None) -> None:
        given = buckets or [0] * len(numbers)
        self._entries.add(
            [{"id": str(n), "text": text_of(n), "bucket": bucket} for n, bucket in zip(numbers, given, strict=True)],
            vectors=np.stack([vector_of(n) for n in numbers]),
        )

    def count(self) -> int:
        return len(self._entries)

    def has(self, number: int) -> bool:
        return self._entries.get(str(number)) is not None

    def find(self, number: int, k: int = 1, bucket: int | None = None) -> list[int]:
        where = None if bucket is None else {"bucket": bucket}
        return [int(name) for name in self._entries.search(vector_of(number), k=k, where=where).ids]

    def delete(self, numbers: Sequence[int]) -> None:
        names = [str(n) for n in numbers]
        self._entries.delete(names)
        self._entries.purge(names)

    def index(self) -> None:
        self._store.publish()

    def close(self) -> None:
        self._store.close()


class Chroma(Contestant):
    name = "Chroma"
    packages = ("chromadb",)
    durable = "add (PersistentClient: a SQLite commit)"
    erase = "chroma vacuum, its command"

    def __init__(self, path: Path) -> None:
        chroma, config = importlib.import_module("chromadb"), importlib.import_module("chromadb.config")
        self._path = path / "chroma"
        self._client = chroma.PersistentClient(str(self._path), settings=config.Settings(anonymized_telemetry=False))
        self._rows = self._client.get_or_create_collection(
            "entries", configuration={"hnsw": {"space": "cosine"}}, embedding_function=None
        )

    def add(self, numbers: Sequence[int], buckets: Sequence[int] | None = None) -> None:
        given = buckets or [0] * len(numbers)
        self._rows.add(
            ids=[str(n) for n in numbers],
            embeddings=[vector_of(n) for n in numbers],
            documents=[text_of(n) for n in numbers],
            metadatas=[{"bucket": bucket} for bucket in given],
        )

    def count(self) -> int:
        return int(self._rows.count())

    def has(self, number: int) -> bool:
        return bool(self._rows.get(ids=[str(number)])["ids"])

    def find(self, number: int, k: int = 1, bucket: int | None = None) -> list[int]:
        where = None if bucket is None else {"bucket": bucket}
        found = self._rows.query(query_embeddings=[vector_of(number)], n_results=k, where=where)
        return [int(name) for name in found["ids"][0]]

    def delete(self, numbers: Sequence[int]) -> None:
        self._rows.delete(ids=[str(n) for n in numbers])
        self.close()
        command = Path(sys.executable).with_name("chroma")
        subprocess.run(
            [command, "vacuum", "--path", self._path, "--force"], capture_output=True, timeout=120, check=True
        )

    def close(self) -> None:
        self._client.close()


class Lance(Contestant):
    name = "LanceDB"
    packages = ("lancedb",)
    durable = "add (a new version of the table; no other mode is documented)"
    erase = "optimize with cleanup_older_than=0 and delete_unverified"

    def __init__(self, path: Path) -> None:
        lance, arrow = importlib.import_module("lancedb"), importlib.import_module("pyarrow")
        database = lance.connect(str(path / "lance"), read_consistency_interval=datetime.timedelta(0))
        schema = arrow.schema(
            [("number", arrow.int64()), ("text", arrow.string()), ("bucket", arrow.int64()),
             ("vector", arrow.list_(arrow.float32(), DIM))]
        )  # fmt: skip
        self._rows = database.create_table("entries", schema=schema, exist_ok=True)

    def add(self, numbers: Sequence[int], buckets: Sequence[int] | None = None) -> None:
        given = buckets or [0] * len(numbers)
        self._rows.add(
            [
                {"number": n, "text": text_of(n), "bucket": bucket, "vector": vector_of(n)}
                for n, bucket in zip(numbers, given, strict=True)
            ]
        )

    def count(self) -> int:
        return int(self._rows.count_rows())

    def has(self, number: int) -> bool:
        return bool(self._rows.count_rows(f"number = {number}"))

    def find(self, number: int, k: int = 1, bucket: int | None = None) -> list[int]:
        query = self._rows.search(vector_of(number), vector_column_name="vector").distance_type("cosine").limit(k)
        if bucket is not None:
            query = query.where(f"bucket = {bucket}")
        return [int(row["number"]) for row in query.select(["number", "_distance"]).to_list()]

    def delete(self, numbers: Sequence[int]) -> None:
        self._rows.delete(f"number IN ({', '.join(map(str, numbers))})")
        self._rows.optimize(cleanup_older_than=datetime.timedelta(0), delete_unverified=True)

    def index(self) -> None:
        indexes = importlib.import_module("lancedb.index")
        self._rows.create_index("vector", config=indexes.HnswSq(distance_type="cosine"))


class Txtai(Contestant):
    """Vectors come from its `transform`, which reads the number at the beginning of a text."""

    name = "txtai"
    packages = ("txtai", "faiss-cpu")
    durable = "save after every batch (it keeps nothing by itself)"
    erase = "save"

    def __init__(self, path: Path) -> None:
        embeddings = importlib.import_module("txtai").Embeddings
        self._path = str(path / "txtai")
        if Path(self._path).exists():
            self._rows = embeddings()
            self._rows.load(self._path, config={"transform": _transform})
        else:
            self._rows = embeddings(method="external", transform=_transform, content=True)

    def add(self, numbers: Sequence[int], buckets: Sequence[int] | None = None) -> None:
        given = buckets or [0] * len(numbers)
        self._rows.upsert(
            [(str(n), {"text": text_of(n), "bucket": bucket}, None) for n, bucket in zip(numbers, given, strict=True)]
        )
        self._save()

    def _save(self) -> None:
        """The function is left out of what is saved: as JSON it cannot be, and as a pickle it would not be loaded."""
        held = self._rows.config.pop("transform", None)
        self._rows.save(self._path)
        self._rows.config["transform"] = held

    def count(self) -> int:
        return int(self._rows.count())

    def has(self, number: int) -> bool:
        return bool(self._rows.search("select id from txtai where id = :id", 1, parameters={"id": str(number)}))

    def find(self, number: int, k: int = 1, bucket: int | None = None) -> list[int]:
        query = "select id from txtai where similar(:text)" + ("" if bucket is None else " and bucket = :bucket")
        found = self._rows.search(query, k, parameters={"text": str(number), "bucket": bucket})
        return [int(row["id"]) for row in found]

    def delete(self, numbers: Sequence[int]) -> None:
        self._rows.delete([str(n) for n in numbers])
        self._save()

    def close(self) -> None:
        self._rows.close()


def _transform(texts: Sequence[str]) -> Vector:
    return np.stack([vector_of(int(str(text).split(" ", 1)[0])) for text in texts])


class Milvus(Contestant):
    name = "Milvus Lite"
    packages = ("pymilvus", "milvus-lite")
    durable = "insert, then flush"
    erase = "flush, compact"

    def __init__(self, path: Path) -> None:
        milvus = importlib.import_module("pymilvus")
        self._client = client = milvus.MilvusClient(str(path / "milvus.db"))
        if not client.has_collection("entries"):
            schema = client.create_schema(auto_id=False)
            schema.add_field("id", milvus.DataType.INT64, is_primary=True)
            schema.add_field("text", milvus.DataType.VARCHAR, max_length=1000)
            schema.add_field("bucket", milvus.DataType.INT64)
            schema.add_field("vector", milvus.DataType.FLOAT_VECTOR, dim=DIM)
            index = client.prepare_index_params()
            index.add_index("vector", index_type="AUTOINDEX", metric_type="COSINE")
            client.create_collection("entries", schema=schema, index_params=index)
        client.load_collection("entries")

    def add(self, numbers: Sequence[int], buckets: Sequence[int] | None = None) -> None:
        given = buckets or [0] * len(numbers)
        rows = [
            {"id": n, "text": text_of(n), "bucket": bucket, "vector": vector_of(n).tolist()}
            for n, bucket in zip(numbers, given, strict=True)
        ]
        self._client.insert("entries", rows)
        self._client.flush("entries")

    def count(self) -> int:
        return int(self._client.query("entries", filter="", output_fields=["count(*)"])[0]["count(*)"])

    def has(self, number: int) -> bool:
        return bool(self._client.get("entries", ids=[number]))

    def find(self, number: int, k: int = 1, bucket: int | None = None) -> list[int]:
        only = "" if bucket is None else f"bucket == {bucket}"
        found = self._client.search("entries", data=[vector_of(number).tolist()], limit=k, filter=only)
        return [int(row["id"]) for row in found[0]]

    def delete(self, numbers: Sequence[int]) -> None:
        self._client.delete("entries", ids=list(numbers))
        self._client.flush("entries")
        self._client.compact("entries")

    def close(self) -> None:
        self._client.close()


class Edge(Contestant):
    name = "Qdrant Edge"
    packages = ("qdrant-edge-py",)
    durable = "update, then flush"
    erase = "optimize until nothing is left to do, flush"

    def __init__(self, path: Path) -> None:
        self._edge = edge = importlib.import_module("qdrant_edge")
        place = path / "edge"
        if place.exists():
            self._shard = edge.EdgeShard.load(str(place))
        else:
            place.mkdir()
            vectors = edge.EdgeVectorParams(size=DIM, distance=edge.Distance.Cosine)
            self._shard = edge.EdgeShard.create(str(place), edge.EdgeConfig(vectors=vectors))
            self._shard.update(edge.UpdateOperation.create_field_index("bucket", edge.PayloadSchemaType.Integer))

    def add(self, numbers: Sequence[int], buckets: Sequence[int] | None = None) -> None:
        edge, given = self._edge, buckets or [0] * len(numbers)
        points = [
            edge.Point(n, vector_of(n), {"text": text_of(n), "bucket": bucket})
            for n, bucket in zip(numbers, given, strict=True)
        ]
        self._shard.update(edge.UpdateOperation.upsert_points(points))
        self._shard.flush()

    def count(self) -> int:
        return int(self._shard.count(self._edge.CountRequest(exact=True)))

    def has(self, number: int) -> bool:
        return bool(self._shard.retrieve([number], False, False))

    def find(self, number: int, k: int = 1, bucket: int | None = None) -> list[int]:
        edge, only = self._edge, None
        if bucket is not None:
            only = edge.Filter(must=[edge.FieldCondition(key="bucket", match=edge.MatchValue(bucket))])
        request = edge.QueryRequest(limit=k, query=edge.Query.Nearest(vector_of(number)), filter=only)
        return [int(point.id) for point in self._shard.query(request)]

    def delete(self, numbers: Sequence[int]) -> None:
        self._shard.update(self._edge.UpdateOperation.delete_points(list(numbers)))
        self.index()
        self._shard.flush()

    def index(self) -> None:
        while self._shard.optimize():
            pass

    def close(self) -> None:
        self._shard.close()


class Zvec(Contestant):
    name = "zvec"
    packages = ("zvec",)
    durable = "insert, then flush"
    erase = "optimize, flush"

    def __init__(self, path: Path) -> None:
        self._zvec = zvec = importlib.import_module("zvec")
        zvec.init(log_level=zvec.LogLevel.ERROR)
        place = path / "zvec"
        if place.exists():
            self._rows = zvec.open(str(place))
            return
        graph = zvec.HnswIndexParam(metric_type=zvec.MetricType.COSINE)
        schema = zvec.CollectionSchema(
            "entries",
            fields=[
                zvec.FieldSchema("text", zvec.DataType.STRING),
                zvec.FieldSchema("bucket", zvec.DataType.INT64, index_param=zvec.InvertIndexParam()),
            ],
            vectors=[zvec.VectorSchema("vector", zvec.DataType.VECTOR_FP32, DIM, index_param=graph)],
        )
        self._rows = zvec.create_and_open(str(place), schema)

    def add(self, numbers: Sequence[int], buckets: Sequence[int] | None = None) -> None:
        given = buckets or [0] * len(numbers)
        documents = [
            self._zvec.Doc(id=str(n), vectors={"vector": vector_of(n)}, fields={"text": text_of(n), "bucket": bucket})
            for n, bucket in zip(numbers, given, strict=True)
        ]
        for start in range(0, len(documents), 1000):
            failed = [status for status in self._rows.insert(documents[start : start + 1000]) if not status.ok()]
            assert not failed, failed[0]
        self._rows.flush()

    def count(self) -> int:
        return int(self._rows.stats.doc_count)

    def has(self, number: int) -> bool:
        return str(number) in self._rows.fetch(str(number))

    def find(self, number: int, k: int = 1, bucket: int | None = None) -> list[int]:
        found = self._rows.query(
            self._zvec.Query("vector", vector=vector_of(number), param=self._zvec.HnswQueryParam()),
            topk=k,
            filter=None if bucket is None else f"bucket = {bucket}",
        )
        return [int(one.id) for one in found]

    def delete(self, numbers: Sequence[int]) -> None:
        self._rows.delete([str(n) for n in numbers])
        self._rows.optimize()
        self._rows.flush()

    def index(self) -> None:
        self._rows.optimize()

    def close(self) -> None:
        self._rows.close()


CONTESTANTS: dict[str, type[Contestant]] = {
    "vectorstore": Ours,
    "chroma": Chroma,
    "lancedb": Lance,
    "txtai": Txtai,
    "milvus-lite": Milvus,
    "qdrant-edge": Edge,
    "zvec": Zvec,
}
