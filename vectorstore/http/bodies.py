"""The bodies of requests: strict, nothing unknown, every number within bounds; of many errors only the first is made.

Records themselves are mappings: what their fields must be is the kind's to say (`GET /kinds/{kind}`), and the answer
to a bad one names it as `concepts[17].quality`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    FiniteFloat,
    StringConstraints,
    Tag,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from vectorstore.errors import ValidationError
from vectorstore.http.service import Limits


def _whole(value: Any) -> Any:
    """JSON knows no difference between 3 and 3.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(_whole)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=255)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=20_000)]


def few(most: int) -> BeforeValidator:
    """Refuses a larger object as a whole, before each of its members is found wrong by itself."""

    def counted(value: Any) -> Any:
        if isinstance(value, dict) and len(value) > most:
            raise ValueError(f"has {len(value)} members; at most {most} are taken")
        return value

    return BeforeValidator(counted)


def _one_by_one(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    if not isinstance(value, dict):
        return check(value)
    return {name: member for each in value.items() for name, member in check(dict([each])).items()}


FIRST = WrapValidator(_one_by_one)
"""An object of any size ends at its first wrong member, as a list does with `fail_fast`."""

SHAPES: dict[type, str] = {str: "<text>", int: "<number>", float: "<number>", list: "<list>", dict: "<object>"}
"""Of what may be one of several things, the type says which of them is meant; the errors of no other are told."""
TEXT, NUMBER, LIST, OBJECT = (Tag(SHAPES[each]) for each in (str, int, list, dict))


def either(what: str) -> Discriminator:
    """Chooses among shapes, each of them tagged; a value of none of them is an error that says `what` is expected."""
    return Discriminator(lambda value: SHAPES.get(type(value)), "shape", f"expected {what}")


Vector = Annotated[list[FiniteFloat], Field(fail_fast=True, min_length=1, max_length=65_536)]
Vectors = Annotated[list[Vector], Field(fail_fast=True, max_length=10_000)]
Share = Annotated[FiniteFloat, Field(ge=0, le=1)]
Where = dict[str, Any]
Ids = Annotated[list[Name], Field(fail_fast=True, max_length=10_000)]
Query = Annotated[Annotated[Text, TEXT] | Annotated[Vector, LIST], either("a text or a vector")]
Term = Annotated[Annotated[Name, TEXT] | Annotated[Vector, LIST], either("a name or a vector")]
DAY = timedelta(days=1)


class Body(BaseModel):
    """What all bodies have in common."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _not_too_many(cls, value: Any) -> Any:
        """Each unknown member is an error of its own: of hundreds of thousands only that they are too many is told."""
        if isinstance(value, dict) and len(value) > len(cls.model_fields) + 20:
            raise ValueError(f"has {len(value)} members; it takes {', '.join(cls.model_fields)}")
        return value


class Records(Body):
    """Records to write."""

    records: Annotated[list[dict[str, Any]], Field(fail_fast=True, min_length=1, max_length=10_000)]
    vectors: (
        Annotated[
            Annotated[Vectors, LIST] | Annotated[dict[Name, Vectors], few(100), OBJECT],
            either("a list of vectors, or such lists by the names of spaces"),
        ]
        | None
    ) = Field(None, description="one for each record, or by the name of a space; left out: texts are embedded")


class Chosen(Body):
    """Records by id, by filter, or both: both must hold."""

    ids: Ids | None = None
    where: Where | None = None


class Doomed(Chosen):
    """Records to delete."""

    dry_run: bool = Field(False, description="only count")


class Erased(Chosen):
    """Deleted records to erase for good."""

    older_than_days: Annotated[FiniteFloat, Field(ge=0, le=36_500)] = Field(
        30.0, description="without ids: only what was deleted so long ago"
    )
    expired: bool = False


class Find(Body):
    """A page of records."""

    where: Where | None = None
    order: Name | None = Field(None, description="a field, with a leading - for descending")
    limit: Annotated[Whole, Field(ge=1, le=10_000)] = 100
    after: str | None = Field(None, max_length=2_000, description="the `next` of the page before")


class Examples(Body):
    """A query by examples: what is like these, and unlike those."""

    positive: Annotated[list[Query], Field(fail_fast=True, max_length=100)] = Field(default_factory=list)
    negative: Annotated[list[Query], Field(fail_fast=True, max_length=100)] = Field(default_factory=list)
    positive_ids: Annotated[list[Name], Field(fail_fast=True, max_length=100)] = Field(default_factory=list)
    negative_ids: Annotated[list[Name], Field(fail_fast=True, max_length=100)] = Field(default_factory=list)


class Ageing(Body):
    """Older records count for less; one of the two times, in days."""

    half_life_days: Annotated[FiniteFloat, Field(gt=0, le=1e6)] | None = None
    tau_days: Annotated[FiniteFloat, Field(gt=0, le=1e6)] | None = None
    field: Name = "updated_at"
    floor: Share = 0.0
    weight: Share = 1.0


class Search(Body):
    """A search: a text or vector, an id, or examples."""

    query: Query | None = None
    id: Name | None = Field(None, description="search for what is near to that record")
    examples: Examples | None = None
    k: Annotated[Whole, Field(ge=1, le=1_000)] = 10
    where: Where | None = None
    recall: Share | None = None
    exact: bool = False
    mode: Literal["vector", "text", "hybrid"] = "vector"
    space: Name | None = None
    outside: Annotated[Annotated[Where, OBJECT] | Annotated[Name, TEXT], either("a filter or a name")] | None = None
    center: Name | None = None
    decay: Ageing | None = None
    mmr: Share | None = None
    pool: Annotated[Whole, Field(ge=1, le=10_000)] | None = None
    syntax: Literal["words", "all", "phrase", "query"] = "words"
    fusion: Literal["weighted", "rrf"] | None = None
    snippets: bool = False
    group_by: Name | None = None
    group_size: Annotated[Whole, Field(ge=1, le=100)] = 1
    min_score: FiniteFloat | None = Field(None, description="leave out hits below")
    explain: bool = Field(False, description="add parts and sides of each score")

    def asked(self, limits: Limits) -> Any:
        """What is searched with.

        Raises:
            ValidationError: not exactly one of query, id and examples; or more than the service allows.
        """
        import vectorstore as vs

        within(limits, self.k * self.group_size, 1)
        given = [name for name in ("query", "id", "examples") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValidationError(
                f"search: expected one of query, id and examples, got {' and '.join(given) or 'none'}"
            )
        if self.id is not None:
            return vs.Id(self.id)
        if self.examples is None:
            return self.query
        sides = (
            [*self.examples.positive, *map(vs.Id, self.examples.positive_ids)],
            [*self.examples.negative, *map(vs.Id, self.examples.negative_ids)],
        )
        return vs.Recommend(*sides)

    def options(self) -> dict[str, Any]:
        """The rest, as `Collection.search` takes it."""
        import vectorstore as vs

        names = (
            "k", "where", "recall", "exact", "mode", "space", "outside", "center", "mmr", "pool", "syntax", "fusion",
            "snippets", "group_by", "group_size",
        )  # fmt: skip
        found = {name: getattr(self, name) for name in names}
        if self.decay is not None:
            times = {"half_life": self.decay.half_life_days, "tau": self.decay.tau_days}
            spans = {name: None if days is None else days * DAY for name, days in times.items()}
            found["decay"] = vs.Decay(**spans, field=self.decay.field, floor=self.decay.floor, weight=self.decay.weight)
        return found


class SearchMany(Body):
    """Several searches in one call."""

    queries: Annotated[list[Query], Field(fail_fast=True, min_length=1, max_length=1_000)]
    k: Annotated[Whole, Field(ge=1, le=1_000)] = 10
    where: Where | None = None
    recall: Share | None = None
    exact: bool = False
    space: Name | None = None


class SearchAll(Body):
    """A search over several kinds."""

    query: Text
    k: Annotated[Whole, Field(ge=1, le=1_000)] = 10
    kinds: Annotated[list[Name], Field(fail_fast=True, min_length=1, max_length=100)] | None = None
    contexts: Annotated[list[Name], Field(fail_fast=True, min_length=1, max_length=1_000)] | None = None
    where: Where | None = None


class Facets(Body):
    """Values of a field and how often they come."""

    field: Name
    where: Where | None = None
    query: Text | None = None
    limit: Annotated[Whole, Field(ge=1, le=10_000)] = 100


class Complete(Body):
    """a is to b as c is to what?"""

    a: Term
    b: Term
    c: Term
    k: Annotated[Whole, Field(ge=1, le=1_000)] = 5
    method: Literal["3cosadd", "3cosmul", "pair"] = "3cosadd"
    kind: Name = "concepts"
    context: Name | None = None
    where: Where | None = None
    recall: Share | None = None
    exact: bool = False
    space: Name | None = None
    min_confidence: Share = 0.0


class Discover(Body):
    """The best mapping between two domains."""

    source: Name
    target: Name
    min_quality: Share = 0.6
    pairs: Annotated[Whole, Field(ge=1, le=10_000)] | None = None
    kind: Name = "concepts"
    context: Name | None = None
    space: Name | None = None
    save: bool = False


class Alike(Body):
    """Two records of a kind."""

    first: Name
    second: Name
    space: Name | None = None


class Fields(Body):
    """Which clusters are semantic fields."""

    name: Name = Field("concepts", description="of the line of fits")
    min_coherence: Annotated[FiniteFloat, Field(ge=-1, le=1)] = 0.25
    min_members: Annotated[Whole, Field(ge=1, le=1_000_000)] = 3
    core: Annotated[FiniteFloat, Field(ge=0.5, le=1)] = 0.8
    related: Share = 0.1


class Bound(Body):
    """Who plays which part in a case of a frame."""

    frame: Name
    bindings: Annotated[
        dict[
            Name,
            Annotated[
                Annotated[Name, TEXT] | Annotated[list[Name], Field(fail_fast=True), LIST],
                either("a name or a list of names"),
            ],
        ],
        few(1_000),
        Field(max_length=1_000),
    ]
    context: Name = "default"
    missing: Literal["refuse", "create"] = Field("refuse", description="create makes concepts that are not there")
    confidence: Share = 1.0
    id: Name | None = None
    extra: dict[str, Any] = Field(default_factory=dict)


class Align(Body):
    """Two systems of terms, by their words alone."""

    source: Name
    source_terms: Annotated[list[Name], Field(fail_fast=True, min_length=1, max_length=200)]
    target: Name
    target_terms: Annotated[list[Name], Field(fail_fast=True, min_length=1, max_length=200)]


class Retrieve(Body):
    """Analogies that a text is like."""

    text: Text
    k: Annotated[Whole, Field(ge=1, le=1_000)] = 10
    where: Where | None = None


def within(limits: Limits, k: int, queries: int) -> None:
    """Refuse more work than a request may ask for.

    Raises:
        ValidationError: more hits, queries, or both together than the service allows.
    """
    for name, got, most in (("k", k, limits.k), ("queries", queries, limits.queries)):
        if got > most:
            raise ValidationError(f"{name}: expected at most {most} in one request, got {got}", value=got)
    if k * queries > limits.work:
        raise ValidationError(f"k: expected k times queries to be at most {limits.work}, got {k * queries}", value=k)
