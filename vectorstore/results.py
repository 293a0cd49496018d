"""What a search gives back: hits in order, and how they were found."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any, Generic, Self, TypeVar, overload

from vectorstore.errors import LibraryMissing, ValidationError, installing
from vectorstore.html import table

R = TypeVar("R", covariant=True)
_new, _set = object.__new__, object.__setattr__


@dataclass(frozen=True)
class Plan:
    """How a search was carried out, and why so.

    Attributes:
        name: "empty", "exact", "filtered exact", "index", "index + filter", "text" or "hybrid".
        reason: why this plan, in words and numbers.
        scanned: vectors whose exact similarity was computed.
        candidates: vectors that the index proposed.
        matching: records that the filter allows, None without a filter.
    """

    name: str
    reason: str
    scanned: int
    candidates: int = 0
    matching: int | None = None


@dataclass(frozen=True)
class Former:
    """Where a hit stood before it was re-ranked, and why: rank 0 for the best, score and its parts."""

    rank: int
    score: float
    parts: Mapping[str, float]


@dataclass(frozen=True)
class Side:
    """What one side of a search says of a hit: its place there (0 for the best), and the side's own score.

    The rank is None for a record that the side did not propose, the score None where the side has none.
    """

    rank: int | None
    score: float | None


@dataclass(frozen=True)
class Hit(Generic[R]):
    """One answer.

    Attributes:
        record: the record, as typed as its kind.
        score: bigger is better. cosine: -1..1; ip: the inner product; l2: 1 / (1 + distance), 0..1;
            text: BM25; hybrid: the sum of `parts`.
        distance: smaller is better, None for text and hybrid. cosine: 1 - score, 0..2; ip: -score;
            l2: the Euclidean distance.
        rank: 0 for the best.
        parts: what the score is the sum of, by source ("vector", "text", "decay"; "rerank" alone).
        former: its place before re-ranking, None without.
        sides: "vector" and "text", as each side saw it, where a search has sides.
        group: the value it was grouped by.
        snippet: the passage that matched the text, when snippets were asked for; None if it did not match.
    """

    record: R
    score: float
    distance: float | None
    rank: int
    parts: Mapping[str, float] = field(default_factory=dict)
    former: Former | None = None
    sides: Mapping[str, Side] = field(default_factory=dict)
    group: Any = None
    snippet: str | None = None

    @classmethod
    def plain(cls, record: R, score: float, distance: float | None, rank: int) -> Hit[R]:  # type: ignore[misc]
        """A hit whose score is that of the vector alone; half the time of the constructor, ten times a search."""
        hit: Hit[R] = _new(cls)
        parts = {"vector": score}
        values = {"record": record, "score": score, "distance": distance, "rank": rank, "parts": parts, "sides": {}}
        _set(hit, "__dict__", values)
        return hit

    @property
    def id(self) -> str:
        """The record's id."""
        return str(self.record.id)  # type: ignore[attr-defined]

    @property
    def kind(self) -> str:
        """The name of the record's kind, such as "concepts"."""
        return str(self.record.table)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Hits(Sequence[Hit[R]]):
    """Hits, best first, with what is known about the answer.

    Attributes:
        exact: nothing better was left out; equal to brute force.
        recall_promised: the share of the true best that the chosen plan was measured to deliver; 1.0 when exact.
        scanned: vectors whose exact similarity was computed.
        generation: the catalog's sequence number that the answer belongs to.
        elapsed: seconds, embedding of the query included.
        metric: what the scores are: cosine, ip, l2, bm25, fusion or rerank.
        plan: how it was found.
    """

    hits: tuple[Hit[R], ...]
    exact: bool
    recall_promised: float
    generation: int
    elapsed: float
    metric: str
    plan: Plan

    @property
    def scanned(self) -> int:
        """Vectors whose exact similarity was computed."""
        return self.plan.scanned

    @property
    def ids(self) -> list[str]:
        """The ids, best first."""
        return [hit.id for hit in self.hits]

    def __len__(self) -> int:
        return len(self.hits)

    @overload
    def __getitem__(self, place: int) -> Hit[R]: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Hit[R]]: ...
    def __getitem__(self, place: int | slice) -> Hit[R] | Sequence[Hit[R]]:
        return self.hits[place]

    def __iter__(self) -> Iterator[Hit[R]]:
        return iter(self.hits)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Plain data, one dict a hit: rank, score, distance and the record's own fields."""
        rows = []
        for hit in self.hits:
            record = hit.record.model_dump(mode="json")  # type: ignore[attr-defined]
            rows.append({"rank": hit.rank, "score": hit.score, "distance": hit.distance, "record": record})
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Plain data, fit for JSON: the hits, the promise, and the plan; what commands, service and tools answer."""
        hits = self.to_dicts()
        for row, hit in zip(hits, self.hits, strict=True):
            if hit.snippet is not None:
                row["snippet"] = hit.snippet
            if hit.group is not None:
                row["group"] = hit.group
        return {
            "hits": hits,
            "exact": self.exact,
            "recall_promised": self.recall_promised,
            "metric": self.metric,
            "generation": self.generation,
            "elapsed": self.elapsed,
            "plan": asdict(self.plan),
        }

    def explain(self) -> dict[str, Any]:
        """How the answer came about, as plain data: the plan, what was promised, and for each hit what its score is.

        `parts` sum to the score. `sides` gives each side's own rank (0 for the best) and score: the rank is None where
        that side did not propose the record, and a side is absent where it has nothing to say of it.
        """
        found = []
        for hit in self.hits:
            sides = hit.sides or {name: Side(hit.rank, score) for name, score in hit.parts.items()}
            shown = {"rank": hit.rank, "id": hit.id, "score": hit.score, "distance": hit.distance}
            shown |= {"parts": dict(hit.parts), "sides": {name: asdict(side) for name, side in sides.items()}}
            if hit.former is not None:
                shown["former"] = asdict(hit.former)
            if hit.group is not None:
                shown["group"] = hit.group
            found.append(shown)
        return {
            "plan": asdict(self.plan),
            "metric": self.metric,
            "exact": self.exact,
            "recall_promised": self.recall_promised,
            "generation": self.generation,
            "elapsed": self.elapsed,
            "hits": found,
        }

    def facets(self, field: str, limit: int | None = None) -> dict[Any, int]:
        """Value -> how many of these hits have it, as `Collection.facets` counts: the most frequent first.

        Args:
            field: of the records; `extra.<key>` leads into a mapping. A list counts by element.
            limit: only so many values.

        Raises:
            ValidationError: the records have no such field.
        """
        name, *path = field.split(".")
        counts: dict[Any, int] = {}
        for hit in self.hits:
            if name not in type(hit.record).model_fields:  # type: ignore[attr-defined]
                raise ValidationError(f"facets: {type(hit.record).__name__} has no field {name!r}")
            value = getattr(hit.record, name)
            for step in path:
                value = value.get(step) if isinstance(value, Mapping) else None
            if isinstance(value, Mapping):
                continue
            elements = value if isinstance(value, list | tuple) else [value]
            for one in dict.fromkeys(map(_countable, elements)):
                counts[one] = counts.get(one, 0) + 1
        return as_counts(counts, limit)

    def to_pandas(self) -> Any:
        """A pandas DataFrame: rank, score, distance, then the fields of the records.

        Raises:
            LibraryMissing: pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise LibraryMissing(f"to_pandas needs pandas; {installing('pandas')}") from None

        rows = [{key: row[key] for key in ("rank", "score", "distance")} | row["record"] for row in self.to_dicts()]
        return pandas.DataFrame(rows, columns=None if rows else ["rank", "score", "distance", "id"])

    def _repr_html_(self) -> str:
        """A table for notebooks."""
        rows = [(hit.rank, f"{hit.score:.4f}", hit.id, _line(hit.record)) for hit in self.hits]
        promise = "exact" if self.exact else f"recall ≥ {self.recall_promised:.3f}"
        caption = f"{len(self.hits)} hits, {promise}, {self.plan.name}, {self.elapsed * 1000:.2f} ms"
        return table(caption, ("rank", "score", "id", "record"), rows)


@dataclass(frozen=True, eq=False)
class Page(Sequence[R]):
    """One page of records in a stable order.

    Attributes:
        records: the records of this page.
        total: how many match in all, whatever the limit.
        next: hand it back as `after=` for the next page; None on the last.

    It equals a list or tuple of the same records.
    """

    records: tuple[R, ...]
    total: int
    next: str | None

    def __len__(self) -> int:
        return len(self.records)

    @overload
    def __getitem__(self, place: int) -> R: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[R]: ...
    def __getitem__(self, place: int | slice) -> R | Sequence[R]:
        return self.records[place]

    def __iter__(self) -> Iterator[R]:
        return iter(self.records)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Page):
            return (self.records, self.total, self.next) == (other.records, other.total, other.next)
        return list(self.records) == list(other) if isinstance(other, list | tuple) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # as a list has none

    def _repr_html_(self) -> str:
        """A table for notebooks."""
        caption = f"{len(self.records)} of {self.total} records" + (", more follow" if self.next else "")
        return table(caption, ("id", "record"), ((getattr(one, "id", ""), _line(one)) for one in self.records))

    @classmethod
    def of(cls, found: Sequence[tuple[Any, int, R]], total: int, limit: int) -> Page[R]:
        """The page of what was found.

        Args:
            found: (sort value, number, record), one more than the limit if there are more.
            total: how many there are in all.
            limit: of the page.
        """
        shown = found[:limit]
        last = as_cursor(shown[-1][0], shown[-1][1]) if len(found) > limit else None
        return cls(tuple(record for _, _, record in shown), total, last)


class Purged(int):
    """How many records of its own kind a purge erased, as a number, and what went in all.

    Attributes:
        records: kind -> how many records, those that belonged to them included.
        vectors: kind -> how many of these had a vector; with several spaces, in all of them together.
        finished: no byte of them is left in the store's folder. False within a transaction, whose end is waited for;
            and while a reader that began before holds the catalog's log, a view of the past is open, a write that began
            before is under way, the disk is full, or a file that a killed process left is younger than ten minutes:
            what is left then is removed as soon as that lets it, in the background, and otherwise after the next
            opening. Backups are not looked at, nor views of the past that a read-only handle has, which lie in the
            system's folder for temporary files until they are closed.
    """

    records: Mapping[str, int] = MappingProxyType({})
    vectors: Mapping[str, int] = MappingProxyType({})
    finished: bool = True

    @classmethod
    def of(cls, count: int, records: Mapping[str, int], vectors: Mapping[str, int]) -> Self:
        """A number that knows more."""
        made = cls(count)
        made.records, made.vectors = records, vectors
        return made


@dataclass(frozen=True)
class VectorInfo:
    """Where the vector of a record comes from.

    `model` is None for vectors that the caller brought into a space of nobody's; `update_count` rises by one with
    every new vector of the record.
    """

    model: str | None
    dim: int
    metric: str
    source: str
    confidence: float
    update_count: int


def _line(record: object) -> str:
    """What a record says of itself, on one line: the fields that most kinds have, else all its short texts."""
    named = ("name", "title", "domain", "definition", "source_domain", "target_domain", "description", "text")
    texts = [str(value) for name in named if (value := getattr(record, name, None))]
    if not texts:
        fields = getattr(type(record), "model_fields", None)
        if fields is None:
            return str(record)
        own = ((name, getattr(record, name)) for name in fields if name not in ("id", "context"))
        texts = [f"{name}: {value}" for name, value in own if isinstance(value, str) and value]
    return " · ".join(texts)


def _countable(value: Any) -> Any:
    """A value that can be a key: what is no scalar as the JSON that the catalog keeps."""
    if hasattr(value, "model_dump"):
        value = value.model_dump(mode="json")
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return value


def as_counts(counts: Mapping[Any, int], limit: int | None) -> dict[Any, int]:
    """Counts in order: the most frequent first, then by value (numbers, texts, none)."""

    def place(item: tuple[Any, int]) -> tuple[int, int, Any]:
        value, count = item
        if value is None:
            return -count, 2, 0
        return -count, int(not isinstance(value, int | float)), value if isinstance(value, int | float) else str(value)

    return dict(sorted(counts.items(), key=place)[:limit])


def as_cursor(value: Any, row: int) -> str:
    """Where a page ended: the sort value and row of its last record, as opaque text."""
    return base64.urlsafe_b64encode(json.dumps([value, row]).encode()).decode()


def from_cursor(text: str | None) -> tuple[Any, int] | None:
    """The inverse of `as_cursor`.

    Raises:
        ValidationError: the text is not the `next` of a page.
    """
    if text is None:
        return None
    try:
        value, row = json.loads(base64.urlsafe_b64decode(text.encode()))
    except (ValueError, TypeError):
        value, row = None, None
    if not isinstance(row, int) or not (value is None or isinstance(value, str | int | float)):
        raise ValidationError(f"after: expected the `next` of a page, got {text!r}")
    return value, row
