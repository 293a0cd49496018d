"""Which record a word means: an id, or a name in a context."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from vectorstore.collection import Collection
from vectorstore.errors import AmbiguousName, NotFound
from vectorstore.ids import fold
from vectorstore.search import Id
from vectorstore.storage.lookups import Named, named

SHOWN = 10
"""So many candidates are listed of an ambiguous name."""


@dataclass(frozen=True)
class Names:
    """Looks words up in one collection, all of a call in one read."""

    collection: Collection[Any]
    known: dict[str, Named]
    by_name: dict[str, list[Named]]

    @classmethod
    def of(cls, collection: Collection[Any], words: Iterable[str]) -> Names:
        """Reads what the words can mean: as ids, and as names in folded form."""
        wanted = list(dict.fromkeys(words))
        with collection._sync.catalog.read() as connection:
            found = named(connection, collection._table, wanted, [fold(word) for word in wanted])
        by_name: dict[str, list[Named]] = {}
        for one in found:
            by_name.setdefault(one.key, []).append(one)
        return cls(collection, {one.id: one for one in found}, by_name)

    def one(self, word: str, where: str, context: str | None = None, domain: str | None = None) -> Named:
        """The record that a word means: the one with that id; else with that name, in the context if there is one.

        Args:
            word: an id or a name; an `Id` is only an id.
            where: how messages name it.
            context: names are looked for there first, and elsewhere when it has none.
            domain: of several with that name those of the domain, if there are some.

        Raises:
            NotFound: nothing is called so.
            AmbiguousName: several records are; the message lists them.
        """
        if word in self.known:
            return self.known[word]
        found = [] if isinstance(word, Id) else self.by_name.get(fold(word), [])
        if not found:
            what = "the id" if isinstance(word, Id) else "the id or the name"
            raise NotFound(f"{where}: no record of {self.collection.name} has {what} {str(word)!r}")
        found = [one for one in found if one.context == context] or found
        found = [one for one in found if domain is not None and one.domain == domain] or found
        if len(found) > 1:
            listed = ", ".join(repr(one.id) for one in found[:SHOWN])
            more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
            raise AmbiguousName(
                f"{where}: {len(found)} records of {self.collection.name} are called {str(word)!r}: {listed}{more}; "
                "give an id, or a context that has one of them",
                tuple(one.id for one in found),
            )
        return found[0]

    def alike(self, keys: Sequence[str]) -> frozenset[str]:
        """The ids of all records with one of these folded names."""
        return frozenset(one.id for key in keys if key for one in self.by_name[key])
