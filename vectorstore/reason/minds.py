"""Architectures with their lineage, and intelligences with their life."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vectorstore.errors import ConflictError, NotFound, ValidationError
from vectorstore.reason.reasoner import Reasoner
from vectorstore.records import MOVES, Architecture, Intelligence, Row, Where
from vectorstore.records.where import Term
from vectorstore.storage import Connection, Transaction


class Architectures(Reasoner[Architecture]):
    """How minds are built. Its guard keeps lineages free of cycles: a parent is of an earlier generation."""

    def ancestors(self, id: str, depth: int | None = None) -> list[Architecture]:
        """What an architecture descends from, nearest first, each once, ties by id; not what was deleted.

        Raises:
            NotFound: no such architecture.
        """
        return self._lineage(id, depth, up=True)

    def descendants(self, id: str, depth: int | None = None) -> list[Architecture]:
        """What descends from an architecture, nearest first, each once, ties by id.

        Raises:
            NotFound: no such architecture.
        """
        return self._lineage(id, depth, up=False)

    def _lineage(self, id: str, depth: int | None, *, up: bool) -> list[Architecture]:
        found: dict[str, Architecture] = {}
        with self._sync.catalog.read() as connection:
            begin = self._table.by_ids(connection, [id])
            if not begin:
                raise NotFound(f"{self.name}: no record with id {id!r}")
            frontier, reached = [begin[id][1]], 0
            while frontier and (depth is None or reached < depth):
                reached += 1
                if up:
                    ids = dict.fromkeys(parent for each in frontier for parent in each.parents if parent not in found)
                    frontier = [record for _, record in self._table.by_ids(connection, list(ids)).values()]
                else:
                    children = self._children(connection, [each.id for each in frontier])
                    frontier = [each for each in children if each.id not in found]
                frontier.sort(key=lambda each: each.id)
                found.update((each.id, each) for each in frontier)
        return list(found.values())

    def _children(self, connection: Connection, ids: Sequence[str]) -> list[Architecture]:
        term = Term(self._table.schema.by_name["parents"], (), "has_any", tuple(ids))
        return list(self._table.by_rows(connection, self._table.matching(connection, term).tolist()).values())

    def delete(
        self, ids: str | Iterable[str] | None = None, *, where: Where | None = None, dry_run: bool = False
    ) -> int:
        """Delete architectures that no intelligence has; arguments as in `Collection.delete`.

        Raises:
            ConflictError: an intelligence has one of them; nothing was deleted.
        """
        if not isinstance(ids, str | None):
            ids = list(ids)
        node = self._criteria(ids, where, "delete")
        if dry_run:
            return super().delete(ids, where=where, dry_run=True)
        minds = self._sync.table(Intelligence.table)
        with self._sync.catalog.write() as transaction:
            connection = transaction.connection
            numbers = self._table.matching(connection, node).tolist()
            doomed = tuple(record.id for record in self._table.by_rows(connection, numbers).values())
            term = Term(minds.schema.by_name["architecture"], (), "in", doomed)
            using = minds.by_rows(connection, minds.matching(connection, term).tolist()[:1])
            for mind in using.values():
                raise ConflictError(
                    f"{self.name}: {mind.architecture!r} is what intelligence {mind.id!r} is built as; "
                    "give that another architecture or delete it first; nothing was deleted"
                )
            return super().delete(ids, where=where)

    def after(self, transaction: Transaction, numbers: Sequence[int]) -> None:
        """Every architecture is of a later generation than its parents.

        Raises:
            ValidationError: one would not be; nothing was written.
        """
        connection = transaction.connection
        written = list(self._table.by_rows(connection, numbers).values())
        children = [*written, *self._children(connection, [each.id for each in written])]
        parents = {parent for each in children for parent in each.parents}
        generations = {
            name: record.generation for name, (_, record) in self._table.by_ids(connection, list(parents)).items()
        }
        for child in children:
            for parent in child.parents:
                if parent in generations and generations[parent] >= child.generation:
                    raise ValidationError(
                        f"{self.name} {child.id!r}: its generation {child.generation} must be above that of its parent "
                        f"{parent!r}, which is {generations[parent]}; nothing was written"
                    )


class Intelligences(Reasoner[Intelligence]):
    """Minds. Its guard lets a status move only as `MOVES` says, however it is written."""

    def move(self, id: str, status: str) -> Intelligence:
        """Give an intelligence another status; returns it as it is now.

        Raises:
            NotFound: no such intelligence. ConflictError: that status cannot follow the one it has.
        """
        with self._sync.catalog.write():
            self.update({"id": id, "status": status})
            found: Intelligence = self.get_many([id], missing="raise")[0]
            return found

    def before(self, transaction: Transaction, rows: Sequence[Row], offset: int) -> None:
        """No status follows one that it cannot follow.

        Raises:
            ConflictError: one would; nothing was written.
        """
        place = self._table.schema.names.index("status")
        stored = self._table.by_ids(transaction.connection, [str(row[0]) for row in rows])
        for number, row in enumerate(rows, offset):
            known, status = stored.get(str(row[0])), str(row[place])
            if known is None or status == known[1].status or status in MOVES[known[1].status]:
                continue
            legal = ", ".join(sorted(MOVES[known[1].status]))
            raise ConflictError(
                f"{self.name}[{number}].status: {status!r} cannot follow {known[1].status!r} (of {row[0]!r}), only "
                f"{legal} can; nothing was written"
            )

    def after(self, transaction: Transaction, numbers: Sequence[int]) -> None:
        """Nobody is built as what was deleted.

        Raises:
            ConflictError: one would be; nothing was written.
        """
        minds = self._table.by_rows(transaction.connection, numbers).values()
        wanted = dict.fromkeys(mind.architecture for mind in minds)
        found = self._sync.table(Architecture.table).existing(transaction.connection, list(wanted))
        for mind in minds:
            if found.get(mind.architecture, (0, True))[1]:
                raise ConflictError(
                    f"{self.name} {mind.id!r}: its architecture {mind.architecture!r} is deleted; restore that first; "
                    "nothing was written"
                )
