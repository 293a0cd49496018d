"""What a log comes to: the last that is said of an id counts, and a deletion takes with it what belongs to it.

The log is read twice: here, to know which lines count, and then to bring those in. That gives what doing its lines one
by one would give, at the cost of a bulk write; tests compare the two.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vectorstore.interchange.items import Item, Source
from vectorstore.records import Record, Schema

Key = tuple[str, str]


class Replay:
    """A log's outcome.

    Attributes:
        doomed: by kind, the ids that it deletes at some point, and that may be in the store from before.
        count: how many items it has.

    Memory: the ids.
    """

    def __init__(self, source: Source, schemas: dict[str, Schema[Any]]) -> None:
        self._source = source
        self._schemas = schemas
        self._owned = {
            name: [(column.name, column.ref) for column in schema.columns if column.cascade and column.ref is not None]
            for name, schema in schemas.items()
        }
        self._last: dict[str, dict[str, int]] = {}
        self._owners: dict[Key, list[Key]] = {}
        self._belongings: dict[Key, set[Key]] = {}
        self.doomed: dict[str, dict[str, int]] = {}
        self.count = 0
        for item in source.read():
            self.count += 1
            self._step(item)

    def doomed_by(self, rule: str) -> dict[str, dict[str, int]]:
        """What has to be deleted before the records come: all that the log deletes at some point.

        An id that comes again afterwards is only overwritten, if that is the rule and nothing can belong to its record:
        then a log that comes twice changes nothing.
        """
        owning = {ref for owners in self._owned.values() for _, ref in owners}
        if rule != "overwrite":
            return self.doomed
        gone = {
            kind: ids
            if kind in owning
            else {name: at for name, at in ids.items() if name not in self._last.get(kind, {})}
            for kind, ids in self.doomed.items()
        }
        return {kind: ids for kind, ids in gone.items() if ids}

    def _step(self, item: Item) -> None:
        if item.record is None:
            self._delete((item.kind, item.id))
            self.doomed.setdefault(item.kind, {})[item.id] = item.place
            return
        name = self.name(item)
        if name is None:
            return
        self._last.setdefault(item.kind, {})[name] = item.place
        self._leave_owners((item.kind, name))
        for column, ref in self._owned.get(item.kind, ()):
            owner = item.record.get(column)
            if isinstance(owner, str):
                self._belongings.setdefault((ref, owner), set()).add((item.kind, name))
                self._owners.setdefault((item.kind, name), []).append((ref, owner))

    def _delete(self, key: Key) -> None:
        kind, name = key
        self._last.get(kind, {}).pop(name, None)
        self._leave_owners(key)
        for belonging in self._belongings.pop(key, ()):
            self._delete(belonging)

    def _leave_owners(self, key: Key) -> None:
        for owner in self._owners.pop(key, ()):
            self._belongings.get(owner, set()).discard(key)

    def name(self, item: Item) -> str | None:
        """The id of a record: its own, or the one that follows from its fields; None when it gets a new one."""
        assert item.record is not None  # no deletion
        own = item.record.get("id")
        if isinstance(own, str) and own:
            return own
        schema = self._schemas.get(item.kind)
        if schema is None:
            return None
        record: Record = schema.kind.parse(item.record, self._source.within(item))
        return record.derived_id()

    def items(self) -> Iterator[Item]:
        """The records that count, in order."""
        for item in self._source.read():
            if item.record is None:
                continue
            name = self.name(item)
            if name is None or self._last.get(item.kind, {}).get(name) == item.place:
                yield item
