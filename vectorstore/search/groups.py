"""Answers by group: the best records of each value of a field."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from vectorstore.errors import ValidationError
from vectorstore.records import Schema, Value
from vectorstore.search.stages import Ranked, Scene
from vectorstore.storage.lookups import values_of

MAX_SIZE = 10_000
FIRST = 100
"""Shown at least so many of the list at first; a look at them takes about a millisecond."""


@dataclass(frozen=True)
class Groups:
    """A stage that keeps the best `size` records of each group, for k groups; None is a group of its own.

    Groups are in the order of their best record. Equal to grouping the whole list: k groups are certain when k have
    been seen, and one of several records when all k are full; else the list is asked for to its end.

    Attributes:
        field: of the kind.
        path: leads into a JSON field.
        size: so many records of each group.
        first: shown at least so many of the list at first.
    """

    field: str
    path: tuple[str, ...]
    size: int
    first: int

    def depth(self, k: int) -> int:
        """As many as the groups hold, or `first`."""
        return max(self.first, k * self.size)

    def apply(self, scene: Scene, ranked: Sequence[Ranked], k: int, complete: bool) -> list[Ranked] | None:
        """The first k groups, one after the other."""
        schema = scene.table.schema
        values = values_of(scene.connection, schema, [item.row for item in ranked], self.field, self.path)
        groups: dict[Value, list[Ranked]] = {}
        for item in ranked:
            value = values[item.row]
            if len(group := groups.setdefault(value, [])) < self.size:
                group.append(item)
        first = list(groups.values())[:k]
        # A re-ranked list has its end where the judge's did.
        ended = complete or bool(ranked and ranked[0].former is not None)
        if not ended and (len(first) < k or any(len(group) < self.size for group in first)):
            return None
        decoder = None if self.path else schema.decoders[schema.names.index(self.field)]
        shown = {value: value if value is None or decoder is None else decoder(value) for value in groups}
        return [replace(item, group=shown[value]) for value in list(groups)[:k] for item in groups[value]]


def grouping(schema: Schema[Any], field: object, size: object, judged: bool) -> Groups:
    """The stage of the options `group_by` and `group_size`; behind a judge it asks for no more than it must.

    Raises:
        ValidationError: no field that has one value, or a size out of range.
    """
    if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= MAX_SIZE:
        raise ValidationError(f"group_size: expected a whole number in 1..{MAX_SIZE}, got {size!r}")
    name, *path = field.split(".") if isinstance(field, str) else ("",)
    column = schema.by_name.get(name)
    if column is None or (column.type == "json") != bool(path) or not all(path) or any('"' in step for step in path):
        known = ", ".join(column.name for column in schema.columns if column.type != "json")
        raise ValidationError(f"{schema.table}: group_by: expected one of {known} or extra.<key>, got {field!r}")
    return Groups(name, tuple(path), size, 1 if judged else FIRST)
