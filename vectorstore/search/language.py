"""The query language of text search, for `syntax="query"`: small, ours, and never handed to FTS5 as it is.

    king "round table"         both (words side by side: all of them)
    king OR queen              either
    king AND (queen OR pawn)   brackets group; AND binds tighter than OR
    king -chess, king NOT chess   the first without the second
    mon*                       words that begin so; "male mon"* a phrase that ends so
    definition:ruler           in that field only; also definition:"a ruler", definition:(ruler OR monarch)

AND, OR and NOT are operators in capitals; quote them to look for the words. Everything else that is neither a quote, a
bracket nor a colon is what the tokenizer makes of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from vectorstore.errors import ValidationError
from vectorstore.search.words import has_words, quoted
from vectorstore.storage.filters import quote

MAX_DEPTH = 16
MAX_TERMS = 256
_TOKEN = re.compile(r'\s*(?:(?P<open>\()|(?P<close>\))|"(?P<phrase>[^"]*)(?P<end>"?)|(?P<word>[^\s()"]+))')
_OPERATORS = ("AND", "OR", "NOT")


@dataclass(frozen=True)
class Token:
    """One piece of a query: `kind` is (, ), word, phrase, field, AND, OR, NOT, - or end."""

    kind: str
    text: str
    at: int
    prefix: bool = False


def translate(text: str, fields: Sequence[str], tokenizer: str, where: str) -> str:
    """The query as an FTS5 expression.

    Args:
        text: in the language above.
        fields: the names that may stand before a colon.
        tokenizer: of the kind.
        where: how messages name the query.

    Raises:
        ValidationError: what is wrong, with the place, counted in characters from 0.
    """
    return _Parser(text, fields, tokenizer, where).whole()


class _Parser:
    """Recursive descent: any_of, all_of, one_of; each method returns an FTS5 expression."""

    def __init__(self, text: str, fields: Sequence[str], tokenizer: str, where: str) -> None:
        self._fields = fields
        self._tokenizer = tokenizer
        self._where = where
        self._tokens = self._cut(text)
        self._next = 0
        self._terms = 0

    def _fail(self, at: int, problem: str) -> NoReturn:
        raise ValidationError(f"{self._where}[{at}]: {problem}")

    # -- pieces ----------------------------------------------------------------------------------------------------

    def _cut(self, text: str) -> list[Token]:
        tokens: list[Token] = []
        at, end = 0, len(text.rstrip())
        while at < end:
            found = _TOKEN.match(text, at)
            assert found is not None  # some alternative takes any character that is no space
            at, start = found.end(), found.start() + len(found[0]) - len(found[0].lstrip())
            if found["word"] is not None:
                tokens += self._word(found["word"], start, at < end and text[at] in '("')
            elif found["phrase"] is not None:
                if not found["end"]:
                    self._fail(start, 'this quote is not closed; add a "')
                starred = text.startswith("*", at)
                tokens.append(Token("phrase", found["phrase"], start, starred))
                at += starred
            else:
                tokens.append(Token("(" if found["open"] else ")", found[0].strip(), start))
        return [*tokens, Token("end", "the end", len(text))]

    def _word(self, word: str, at: int, joined: bool) -> list[Token]:
        """The tokens of a run without spaces, brackets and quotes; `joined`: one of those follows at once."""
        if word in _OPERATORS:
            return [Token(word, word, at)]
        tokens = []
        while word:
            field, colon, rest = word.partition(":")
            if word.startswith("-"):
                tokens.append(Token("-", "-", at))
                word, at = word[1:], at + 1
            elif not colon:
                prefix = word.endswith("*")
                tokens.append(Token("word", word.rstrip("*") if prefix else word, at, prefix))
                break
            elif field not in self._fields:
                known = ", ".join(self._fields)
                self._fail(at, f"no text field {field!r}; the fields are: {known}; quote a text that holds a colon")
            else:
                if not rest and not joined:
                    self._fail(at + len(field) + 1, f"expected a word or a phrase right after {field}:")
                tokens.append(Token("field", field, at))
                word, at = rest, at + len(field) + 1
        return tokens

    @property
    def _token(self) -> Token:
        return self._tokens[self._next]

    def _take(self) -> Token:
        token = self._token
        self._next += 1
        return token

    # -- grammar ---------------------------------------------------------------------------------------------------

    def whole(self) -> str:
        """The whole query."""
        if self._token.kind == "end":
            self._fail(0, "expected some words")
        expression = self._any_of(0)
        if self._token.kind != "end":
            self._fail(self._token.at, "this bracket was never opened; take it away, or quote it")
        return expression

    def _any_of(self, depth: int) -> str:
        parts = [self._all_of(depth)]
        while self._token.kind == "OR":
            self._take()
            parts.append(self._all_of(depth))
        return parts[0] if len(parts) == 1 else f"({' OR '.join(parts)})"

    def _all_of(self, depth: int) -> str:
        """Words side by side, or joined by AND, without those after NOT or a minus."""
        start, wanted, unwanted = self._token, list[str](), list[str]()
        while True:
            if self._token.kind in ("NOT", "-"):
                self._take()
                unwanted.append(self._one(depth))
            else:
                wanted.append(self._one(depth))
            if self._token.kind == "AND":
                self._take()
            elif self._token.kind in ("OR", ")", "end"):
                break
        if not wanted:
            self._fail(start.at, "only says what is not wanted; add what is")
        both = wanted[0] if len(wanted) == 1 else f"({' AND '.join(wanted)})"
        return f"({both} NOT ({' OR '.join(unwanted)}))" if unwanted else both

    def _one(self, depth: int) -> str:
        token = self._take()
        if token.kind in ("(", "field") and depth >= MAX_DEPTH:
            self._fail(token.at, f"brackets in brackets, more than {MAX_DEPTH} deep")
        if token.kind == "field":
            return f"{quote(token.text)} : ({self._one(depth + 1)})"
        if token.kind == "(":
            inner = self._any_of(depth + 1)
            if self._token.kind != ")":
                self._fail(token.at, "this bracket is not closed; add a )")
            self._take()
            return inner
        if token.kind not in ("word", "phrase"):
            before = self._tokens[self._next - 2].text if self._next > 1 else ""
            after = f" after {before}" if before else ""
            self._fail(token.at, f"expected a word, a phrase or a bracket{after}, got {token.text}")
        self._terms += 1
        if self._terms > MAX_TERMS:
            self._fail(token.at, f"more than {MAX_TERMS} words and phrases")
        if not has_words(token.text, self._tokenizer):
            least = " of three characters" if self._tokenizer == "trigram" else ""
            self._fail(token.at, f"{token.text!r} holds no word{least} that could be found; leave it out")
        return quoted(token.text) + ("*" if token.prefix else "")
