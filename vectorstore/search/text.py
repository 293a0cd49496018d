"""Full-text search: a user's text becomes an FTS5 expression, and the best matches by BM25.

For "any word" (the default) every row that holds one of the words is an answer, and frequent words make them many. The
best are found without scoring them all, by bounds on what a word can add (MaxScore: Turtle and Flood 1995): equal to
the full query, rows, order and scores to the bit.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vectorstore.errors import ValidationError
from vectorstore.records.where import Node
from vectorstore.results import Side
from vectorstore.search.language import translate
from vectorstore.search.stages import Ranked
from vectorstore.search.words import has_words, quoted, words_of
from vectorstore.storage import Connection, RecordTable
from vectorstore.storage.fulltext import best_matches, count_matches, scores_of, stored_tokenizer

Syntax = Literal["words", "all", "phrase", "query"]
SYNTAXES = ("words", "all", "phrase", "query")

MAX_WORDS = 64
"""So many of a text's words, the rarest, are looked for when any will do."""

MAX_COUNTED = 1000
"""So many of a text's words, the first, are counted to know which are rare; some 20 microseconds each."""

MAX_ALL = 256
"""So many words can be asked for at once when all must be there."""

FEW_ROWS = 5000
"""So many matches are scored at once, in about 5 ms; with more the bounds come first."""

_SATURATION = 2.2
"""k1 + 1 of FTS5's BM25 (k1 = 1.2): a word in a row adds less than this times its weight, however often it is there."""


@dataclass(frozen=True)
class TextQuery:
    """A text, ready to be matched in one snapshot.

    Attributes:
        match: the FTS5 expression; None when nothing can match.
        words: for "any word" its words, quoted, and in how many rows they are; the most frequent first.
        meaning: how plans describe it.
        tokenizer: what the full text is cut by, in this snapshot: another process may have changed it.
    """

    match: str | None
    words: tuple[tuple[str, int], ...]
    meaning: str
    tokenizer: str


def check_syntax(syntax: object) -> Syntax:
    """The syntax itself, if it is one.

    Raises:
        ValidationError: it is none.
    """
    if syntax not in SYNTAXES:
        raise ValidationError(f"syntax: expected {', '.join(SYNTAXES[:-1])} or {SYNTAXES[-1]}, got {syntax!r}")
    return syntax  # type: ignore[return-value]


def text_query(connection: Connection, table: RecordTable[Any], text: str, syntax: Syntax) -> TextQuery:
    """What is to be matched.

    Args:
        connection: of the snapshot that will be searched.
        table: the kind.
        text: what the user wrote: any text at all.
        syntax: "words" (any of them), "all" (of them), "phrase" (side by side) or "query" (see `language`).

    Raises:
        ValidationError: a query that does not follow the language, with the place.
    """
    tokenizer = stored_tokenizer(connection, table.name) or table.tokenizer
    nothing = "no words of three characters" if tokenizer == "trigram" else "no words"
    if syntax == "query":
        fields = [column.name for column in table.schema.text_columns]
        match = translate(text, fields, tokenizer, f"{table.name}.search: query")
        return TextQuery(match, (), "the query language", tokenizer)
    if syntax == "phrase":
        found = has_words(text, tokenizer)
        return TextQuery(quoted(text) if found else None, (), "one phrase" if found else nothing, tokenizer)
    words = [quoted(word) for word in words_of(text, tokenizer)]
    if not words:
        return TextQuery(None, (), nothing, tokenizer)
    if syntax == "all":
        if len(words) > MAX_ALL:
            raise ValidationError(
                f"{table.name}.search: query: at most {MAX_ALL} words can all be asked for, got {len(words)}"
            )
        return TextQuery(" AND ".join(words), (), f"all of {len(words)} words", tokenizer)
    counts = {word: count_matches(connection, table, word) for word in words[:MAX_COUNTED]}
    there = sorted((word for word in counts if counts[word]), key=lambda word: -counts[word])
    rarest = tuple((word, counts[word]) for word in there[-MAX_WORDS:])
    meaning = f"any of {len(rarest)} words" + (f" of {len(words)}" if len(rarest) < len(words) else "")
    return TextQuery(_any([word for word, _ in rarest]) or None, rarest, meaning, tokenizer)


def matches(
    connection: Connection, table: RecordTable[Any], query: TextQuery, node: Node | None, limit: int
) -> list[Ranked]:
    """The best BM25 matches that the filter allows, best first, ties by row."""
    if query.match is None:
        return []
    if sum(count for _, count in query.words) > FEW_ROWS:
        found = _best_of_any(connection, table, query, node, limit)
    else:
        found = best_matches(connection, table, query.match, node, limit)
    return [
        Ranked(row, None, score, None, {"text": score}, sides={"text": Side(rank, score)})
        for rank, (row, score) in enumerate(found)
    ]


def _any(words: Sequence[str]) -> str:
    return " OR ".join(words)


def _best_of_any(
    connection: Connection, table: RecordTable[Any], query: TextQuery, node: Node | None, limit: int
) -> list[tuple[int, float]]:
    """The best rows that hold any of the words, without scoring those that hold only frequent ones.

    Rows are sought by the rarest words; a row without any of them scores no more than the other words' bounds together.
    Once the last of the best is above that, nothing was missed. Scores come from expressions that name the words in the
    same order as the full query does, so their sums are the same to the bit.
    """
    assert query.match is not None  # there are words
    counts = [count for _, count in query.words]
    words = [word for word, _ in query.words]
    rows = table.next_row(connection) - 1
    bounds = [_SATURATION * max(1e-6, math.log((rows - count + 0.5) / (count + 0.5))) for count in counts]
    first = _rarest(counts, FEW_ROWS)
    while first and 4 * sum(counts[first:]) <= sum(counts):  # else scoring all of them costs less
        rare, missed = _any(words[first:]), sum(bounds[:first])
        scores = dict(best_matches(connection, table, rare, node, None))
        if len(scores) < limit:
            first = min(first - 1, _rarest(counts, 4 * sum(counts[first:])))
            continue
        # So far rows that hold frequent words too lack those. The few that can still be among the best are scored
        # again, with all words; the others were scored whole.
        least = heapq.nlargest(limit, scores.values())[-1] - missed
        hopeful = [row for row, score in scores.items() if score >= least]
        best = {row: scores[row] for row in hopeful}
        best.update(scores_of(connection, table, f"({_any(words[:first])}) AND ({rare})", hopeful))
        ranked = sorted(best.items(), key=lambda item: (-item[1], item[0]))[:limit]
        if ranked[-1][1] > missed:
            return ranked
        while first and sum(bounds[:first]) >= ranked[-1][1]:  # with so many words sought it is certain to be enough
            first -= 1
    return best_matches(connection, table, query.match, node, limit)


def _rarest(counts: Sequence[int], budget: int) -> int:
    """The place from which on the words, which come by descending count, are in so many rows together; one at least."""
    place, sought = len(counts) - 1, counts[-1]
    while place and sought + counts[place - 1] <= budget:
        place -= 1
        sought += counts[place]
    return place
