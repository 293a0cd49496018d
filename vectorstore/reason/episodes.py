"""Episodes: what happened, and how often it went well."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vectorstore.reason.reasoner import Reasoner
from vectorstore.records import Episode, Value, Where
from vectorstore.storage.ordered import first_records, totals


@dataclass(frozen=True)
class Outcomes:
    """How a number of episodes went.

    Attributes:
        episodes: how many.
        judged: of how many it is known whether they went well.
        successes: how many of these did.
        mean_reward: over those that have one; None without any.
        mean_seconds: likewise.
        mean_tokens: likewise.
        tokens: of all together.
    """

    episodes: int
    judged: int
    successes: int
    mean_reward: float | None
    mean_seconds: float | None
    mean_tokens: float | None
    tokens: int

    @property
    def success_rate(self) -> float | None:
        """The share of the judged ones that went well, 0..1; None when none was judged."""
        return self.successes / self.judged if self.judged else None


class Episodes(Reasoner[Episode]):
    """Reflexion: what was tried, and what came of it."""

    def of(self, memory: str, trigger: str | None = None, limit: int = 100) -> list[Episode]:
        """The episodes of a memory, newest first, ties by id.

        Args:
            memory: its id; none for a memory that is not there.
            trigger: only those that this set off.
            limit: at most so many.
        """
        node = self._parse({"memory": memory, **({} if trigger is None else {"trigger": trigger})})
        with self._sync.catalog.read() as connection:
            return first_records(connection, self._table, node, ("-created_at", "id"), limit)

    def statistics(self, where: Where | None = None) -> Outcomes:
        """How the episodes went that match a filter: `{"memory": id}`, `{"session": name}`, ..."""
        return self._outcomes(where, None)[None]

    def by_trigger(self, where: Where | None = None) -> dict[str, Outcomes]:
        """Trigger -> how the episodes went that it set off, the commonest first, ties by name."""
        return {str(trigger): outcomes for trigger, outcomes in self._outcomes(where, "trigger").items()}

    def _outcomes(self, where: Where | None, by: str | None) -> dict[Value, Outcomes]:
        node = self._parse(where)
        with self._sync.catalog.read() as connection:
            found = totals(connection, self._table, node, ("success", "reward", "seconds", "tokens"), by)
        return {value: _outcomes(count, sums) for value, (count, sums) in found.items()}


def _outcomes(count: int, sums: Mapping[str, tuple[int, float]]) -> Outcomes:
    means = {name: total / known if known else None for name, (known, total) in sums.items()}
    judged, successes = sums["success"]
    reward, seconds, tokens = means["reward"], means["seconds"], means["tokens"]
    return Outcomes(count, judged, int(successes), reward, seconds, tokens, int(sums["tokens"][1]))
