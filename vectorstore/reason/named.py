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
        """All records of a name: everywhere in order of arrival, or as seen from a context, nearest first."""
        where = self._name_filter(name)
        if context is None:
            return list(self.stream(where))
        chain = self._chain(context)
        return visible(self.stream({"and": [where, {"context__in": chain}]}), chain, self._hides)

    def _name_filter(self, name: str) -> Where:
        return {"name": name}

    def _hides(self, record: R) -> Hashable:
        """What hides a record of the same in a farther context."""
        return fold(record.name)  # type: ignore[attr-defined]

    def _chain(self, context: str) -> list[str]:
        contexts: Any = self._others(Context.table)
        found: list[str] = contexts.chain(context)
        return found
