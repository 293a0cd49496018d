"""Passages that show why a text matched, with marks around its words."""

from __future__ import annotations

import html
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vectorstore.errors import ValidationError
from vectorstore.search.text import TextQuery
from vectorstore.storage import Connection, RecordTable
from vectorstore.storage.fulltext import marked

MAX_WORDS = 64


@dataclass(frozen=True)
class Snippets:
    """How passages look.

    Attributes:
        before: put before each match; not escaped.
        after: put after it; not escaped.
        words: 1..64, the length of a passage.
        ellipsis: stands for text that is left out.
        escape: make the text itself safe to stand in HTML.

    Raises:
        ValidationError: a value of the wrong type or out of range.
    """

    before: str = "<mark>"
    after: str = "</mark>"
    words: int = 24
    ellipsis: str = "…"
    escape: bool = True

    def __post_init__(self) -> None:
        for name in ("before", "after", "ellipsis"):
            if not isinstance(getattr(self, name), str):
                raise ValidationError(f"Snippets.{name}: expected text, got {getattr(self, name)!r}")
        if isinstance(self.words, bool) or not isinstance(self.words, int) or not 1 <= self.words <= MAX_WORDS:
            raise ValidationError(f"Snippets.words: expected a whole number in 1..{MAX_WORDS}, got {self.words!r}")


def as_snippets(value: object) -> Snippets | None:
    """The option `snippets`, checked: True or False, or how they look."""
    if isinstance(value, bool):
        return Snippets() if value else None
    if isinstance(value, Snippets):
        return value
    raise ValidationError(f"snippets: expected True, False or Snippets(...), got {value!r}")


def passages(
    connection: Connection, table: RecordTable[Any], asked: TextQuery, rows: Sequence[int], look: Snippets
) -> dict[int, str]:
    """Row -> the passage of the text field in which most words matched (the first of those), for rows that match."""
    if asked.match is None or not rows:
        return {}
    # The marks that SQLite sets cannot be in any stored text; they are replaced once the text is escaped.
    secret = secrets.token_hex(8)
    marks = (f"{secret}b", f"{secret}a", f"{secret}e")
    # To the trigram tokenizer every character is a word.
    words = MAX_WORDS if asked.tokenizer == "trigram" else look.words
    found = {}
    for row, fields in marked(connection, table, asked.match, rows, marks, words).items():
        place = max(range(len(fields)), key=lambda at: (fields[at] or "").count(marks[0]))
        text = fields[place] or ""
        if table.schema.text_columns[place].type == "json":
            text = _readable(text)
        text = html.escape(text) if look.escape else text
        for mark, shown in zip(marks, (look.before, look.after, look.ellipsis), strict=True):
            text = text.replace(mark, shown)
        found[row] = text
    return found


def _readable(passage: str) -> str:
    """A list that is kept as JSON as its values; anything else as it is."""
    try:
        values = json.loads(passage)
    except ValueError:  # a mark inside an escape
        return passage
    if not isinstance(values, list):
        return passage
    return ", ".join(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in values)
