"""Search over the records of one kind, or several."""

from __future__ import annotations

from vectorstore.search.queries import Id, Queries, Query, WithVector
from vectorstore.search.searcher import Mode, Request, Searcher
from vectorstore.search.verbs import SearchVerbs

__all__ = ["Id", "Mode", "Queries", "Query", "Request", "SearchVerbs", "Searcher", "WithVector"]
