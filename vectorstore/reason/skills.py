"""Skills: counted when used, compared, found by what triggers them."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Literal

from vectorstore.errors import NotFound, ValidationError
from vectorstore.ids import to_micros
from vectorstore.patterns import found_in
from vectorstore.reason.reasoner import Reasoner
from vectorstore.records import Skill, Where
from vectorstore.records.where import And, Node, Term
from vectorstore.storage.counting import raise_fields
from vectorstore.storage.lookups import rows_by_value
from vectorstore.storage.ordered import first_records

By = Literal["successes", "rate", "wilson"]
_Z = 1.959963984540054
"""Of a normal distribution 95 % lie so many standard deviations around the mean."""


class Skills(Reasoner[Skill]):
    """What one has learned to do."""

    def used(self, id: str, success: bool, *, at: datetime | None = None) -> Skill:
        """Count a use: one more success or failure, and when it was; returns the skill as it is now.

        Args:
            id: of the skill.
            success: whether it worked.
            at: when; None for now. An earlier use than the last one known does not change that.

        Raises:
            NotFound: no such skill.

        Cost: one commit that writes the record's own row; its text, vector and version stay.
        """
        counted = "success_count" if success else "failure_count"
        with self._sync.catalog.write() as transaction:
            found = self._table.existing(transaction.connection, [id]).get(id)
            if found is None or found[1]:
                raise NotFound(f"{self.name}: no record with id {id!r}")
            instant = transaction.now if at is None else to_micros(at)
            raise_fields(
                transaction.connection, self._table, [found[0]], counts={counted: 1}, times={"last_used": instant}
            )
            transaction.record("use", self.name, [found[0]], success=success)
            details = {"kind": self.name, "operation": "use", "records": 1, "vectors": 0}
            transaction.notes.append(("commit", details))
            return self._table.by_ids(transaction.connection, [id])[id][1]

    def leaderboard(
        self, by: By = "successes", *, limit: int = 10, min_uses: int = 1, where: Where | None = None
    ) -> list[Skill]:
        """The best skills, best first.

        Args:
            by: "successes": how often they worked. "rate": which share of their uses did. "wilson": what that share is
                at least, with 97.5 % certainty (the lower bound of Wilson 1927): 99 of 100 comes before 1 of 1. Ties by
                successes, then by fewer failures, then by id.
            limit: at most so many.
            min_uses: those that were used less do not take part.
            where: a filter.

        Cost: reads all skills that match.
        """

        def place(skill: Skill) -> tuple[float, int, int, str]:
            value = {"successes": 0.0, "rate": skill.success_rate or 0.0, "wilson": wilson(skill)}[by]
            return -value, -skill.success_count, skill.failure_count, skill.id

        return sorted((skill for skill in self.stream(where) if skill.uses >= min_uses), key=place)[:limit]

    def with_pattern(self, text: str, limit: int = 100) -> list[Skill]:
        """Skills whose trigger pattern has this text in it, letter by letter, the most successful first, ties by id.

        `_`, `%`, `*` and the like mean themselves. An empty text finds all that have a pattern.
        """
        node = self._parse({"trigger_pattern__contains": text, "trigger_pattern__isnull": False})
        with self._sync.catalog.read() as connection:
            return first_records(connection, self._table, node, ("-success_count", "id"), limit)

    def triggered(self, text: str, limit: int = 100, *, where: Where | None = None) -> list[Skill]:
        """Skills whose trigger pattern matches somewhere in a text, the most successful first, ties by id.

        Raises:
            ValidationError: a text with lone surrogates, or a bad filter.

        Cost: linear in the text for every pattern, whatever it is; a few microseconds each for a short text.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValidationError(f"{self.name}.triggered: {error}") from None
        node = self._parse(where)
        with self._sync.catalog.read() as connection:
            patterns = rows_by_value(connection, self._table.schema, "trigger_pattern")
            hit = tuple(pattern for pattern in patterns if pattern is not None and found_in(str(pattern), text))
            if not hit:
                return []
            matching: Node = Term(self._table.schema.by_name["trigger_pattern"], (), "in", hit)
            both = matching if node is None else And((matching, node))
            return first_records(connection, self._table, both, ("-success_count", "id"), limit)


def wilson(skill: Skill) -> float:
    """The lower end of Wilson's score interval for a skill's success rate at 95 %, 0..1; 0 without a success."""
    uses = skill.uses
    if not skill.success_count:
        return 0.0
    rate, square = skill.success_count / uses, _Z * _Z
    middle = rate + square / (2 * uses)
    width = _Z * math.sqrt((rate * (1 - rate) + square / (4 * uses)) / uses)
    return (middle - width) / (1 + square / uses)
