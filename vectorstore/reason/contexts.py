"""Contexts that inherit: what a child does not say itself, its parent says."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from vectorstore.errors import ConflictError, CycleError, NotFound
from vectorstore.ids import fold
from vectorstore.reason.cycles import cycle_from
from vectorstore.reason.reasoner import Reasoner
from vectorstore.records import Axiom, Context, Record, Where
from vectorstore.records.where import Term
from vectorstore.storage import Connection, Transaction
from vectorstore.sync import Progress

if TYPE_CHECKING:
    from vectorstore.reason.manifest import SnapshotReport

R = TypeVar("R", bound=Record)
HOME = "default"


class Contexts(Reasoner[Context]):
    """Namespaces, and what each of them inherits."""

    def chain(self, name: str) -> list[str]:
        """The context and those that it inherits from, nearest first.

        Raises:
            NotFound: no such context.
        """
        return list(self._chain(name))

    def _chain(self, name: str) -> dict[str, Context]:
        found: dict[str, Context] = {}
        with self._sync.catalog.read() as connection:
            at: str | None = name
            while at is not None and at not in found:
                record = self._table.by_ids(connection, [at]).get(at)
                if record is None:
                    if at == name:
                        raise NotFound(f"no context {name!r}")
                    break
                found[at] = record[1]
                at = record[1].parent
        return found

    def within(self, name: str) -> Where:
        """A filter: records of the context and of what it inherits. `search(..., where=contexts.within("physics"))`."""
        return {"context__in": self.chain(name)}

    def metadata(self, name: str) -> dict[str, Any]:
        """The `extra` of the context over that of its parents: of each key the nearest value counts."""
        merged: dict[str, Any] = {}
        for context in reversed(self._chain(name).values()):
            merged.update(context.extra)
        return merged

    def axioms(self, name: str) -> list[Axiom]:
        """The axioms that hold in a context, its own first: one of the same name hides its parents'."""
        chain = self.chain(name)
        found: list[Axiom] = list(self._others(Axiom.table).stream({"context__in": chain}))
        return visible(found, chain, lambda axiom: fold(axiom.name))

    def delete(
        self, ids: str | Iterable[str] | None = None, *, where: Where | None = None, dry_run: bool = False
    ) -> int:
        """Delete contexts that nothing is in and nobody inherits from; arguments as in `Collection.delete`.

        Raises:
            ConflictError: one is in use, or is the default one; nothing was deleted.
        """
        if not isinstance(ids, str | None):
            ids = list(ids)
        node = self._criteria(ids, where, "delete")
        if dry_run:
            return super().delete(ids, where=where, dry_run=True)
        with self._sync.catalog.write() as transaction:
            numbers = self._table.matching(transaction.connection, node).tolist()
            doomed = [record.id for record in self._table.by_rows(transaction.connection, numbers).values()]
            self._refuse_used(transaction.connection, doomed)
            return super().delete(ids, where=where)

    def _refuse_used(self, connection: Connection, doomed: list[str]) -> None:
        if HOME in doomed:
            raise ConflictError(f"contexts: {HOME!r} is where records are that name no context; it stays")
        for name, table in self._sync.tables.items():
            for field in ("context", "parent") if name == self.name else ("context",):
                term = Term(table.schema.by_name[field], (), "in", tuple(doomed))
                using = table.by_rows(connection, table.matching(connection, term).tolist()[:1000])
                for record in using.values():
                    if name == self.name and record.id in doomed:
                        continue
                    what = "inherits from it" if field == "parent" else "is in it"
                    raise ConflictError(
                        f"contexts: {getattr(record, field)!r} is in use: {name} {record.id!r} {what}; "
                        f"move or delete what is there first; nothing was deleted"
                    )

    # -- snapshots -------------------------------------------------------------------------------------------------

    def save(
        self,
        name: str,
        path: str | os.PathLike[str],
        *,
        inherited: bool = False,
        progress: Progress | None = None,
    ) -> SnapshotReport:
        """Write everything in a context, of every kind, as of one commit, to a new folder of JSON lines and arrays.

        Args:
            name: the context.
            path: of the folder, which must not exist; it is there whole or not at all.
            inherited: what its parents hold, too.
            progress: told (records and vectors written, the most that there can be).

        Raises:
            NotFound: no such context. FileExistsError: the path is taken.

        Memory: the ids of the records, and 256 MB of vectors at a time.
        """
        from vectorstore.reason import snapshot  # zipfile and the like are needed by few

        chain = self.chain(name)
        return snapshot.save(self._sync, chain if inherited else [name], chain[::-1], Path(path), progress)

    def load(self, path: str | os.PathLike[str], progress: Progress | None = None) -> SnapshotReport:
        """Add what a snapshot holds, with its ids, versions, times and vectors, in one commit: all of it or nothing.

        `progress` is told (records read and records written, twice the records).

        Raises:
            CorruptError, NewerFormat, NotFound, SchemaChangedError, SpaceMismatch, DuplicateId, ValidationError: as
            `reason/snapshot.py` says; nothing was written.

        Memory: the encoded records and the vectors of the snapshot.
        """
        from vectorstore.reason import snapshot

        return snapshot.load(self._sync, self._others, Path(path), progress)

    def after(self, transaction: Transaction, numbers: Sequence[int]) -> None:
        """No context inherits from itself.

        Raises:
            CycleError: one would.
        """
        written = self._table.by_rows(transaction.connection, numbers).values()
        starts = [context.id for context in written if context.parent is not None]

        def parents(ids: list[str]) -> Mapping[str, Sequence[str]]:
            found = self._table.by_ids(transaction.connection, ids)
            return {name: [record.parent] for name, (_, record) in found.items() if record.parent is not None}

        cycle = cycle_from(starts, parents)
        if cycle is not None:
            raise CycleError(
                f"contexts: {' > '.join(cycle)} would inherit from itself; give one another parent; nothing was written"
            )


def visible(records: Iterable[R], chain: Sequence[str], what: Any) -> list[R]:
    """Of records of several contexts those that can be seen from the first: the nearest of each.

    Args:
        records: in any order; that within a context is kept.
        chain: contexts, nearest first.
        what: of a record what hides another one of the same in a farther context.
    """
    places = {name: place for place, name in enumerate(chain)}
    near: dict[Any, int] = {}
    ordered = sorted(records, key=lambda record: places[record.context])
    return [
        record for record in ordered if near.setdefault(what(record), places[record.context]) == places[record.context]
    ]
