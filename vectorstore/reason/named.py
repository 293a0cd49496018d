"""Records that are found by name, from where one stands: in a context and in what it inherits."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, TypeVar

from vectorstore.errors import NotFound
from vectorstore.ids import fold
from vectorstore.reason.contexts import visible
from vectorstore.reason.reasoner import Reasoner
from vectorstore.records import Context, Record, Where

R = TypeVar("R", bound=Record)


class Named(Reasoner[R]):
    """The verbs of a kind with a `name`, and what a name means in a context."""

    def resolve(self, name: str, context: str = "default") -> R:
        """What a name means in a context: its own record, else that of the nearest context that it inherits from.

        Of several in one context (two senses) the one that arrived first.

        Raises:
            NotFound: neither the context nor any that it inherits from has one; or no such context.
        """
        found = self._called(name, context)
        if not found:
            chain = " > ".join(self._chain(context))
            raise NotFound(f"{self.name}: nothing is called {name!r} in {chain}")
        return found[0]

    def _called(self, name: str, context: str | None) -> list[R]:
        """All records of a name: everywhere, or as seen from a context, nearest first.

        In the order of the filters that find them, each in order of arrival.
        """
        chain = None if context is None else self._chain(context)
        among: Where = {} if chain is None else {"context__in": chain}
        with self._sync.catalog.read() as connection:
            # One filter after the other: SQLite would read all rows for both in one OR.
            found = [self._table.matching(connection, self._parse({**of, **among})) for of in self._name_filters(name)]
            numbers = list(dict.fromkeys(row for rows in found for row in sorted(rows.tolist())))
            records = self._table.by_rows(connection, numbers)
        ordered = [records[row] for row in numbers]
        return ordered if chain is None else visible(ordered, chain, self._hides)

    def _name_filters(self, name: str) -> list[Where]:
        """Of what is called so, each by an index of its own."""
        return [{"name": name}]

    def _hides(self, record: R) -> Hashable:
        """What hides a record of the same in a farther context."""
        return fold(record.name)  # type: ignore[attr-defined]

    def _chain(self, context: str) -> list[str]:
        contexts: Any = self._others(Context.table)
        found: list[str] = contexts.chain(context)
        return found
