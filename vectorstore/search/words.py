"""A user's text as quoted FTS5 phrases, cut into words where the kind's tokenizer cuts it.

Whatever comes out is quoted, so that no text is ever FTS5 syntax. A word may be several tokens to the tokenizer (in
Hindi the vowel signs cut words, to unicode61): quoted they are a phrase, and the word stays whole.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from vectorstore.storage.fulltext import letters_among

GRAM = 3
"""The trigram tokenizer sees every three characters, and nothing of shorter words."""

_ASCII_WORD = re.compile(r"[A-Za-z0-9]+")
_JOINERS = "\u200c\u200d"
_UNUSABLE = re.compile("[\x00\ud800-\udfff]")
# Scripts that are written without spaces: Thai to Myanmar, Khmer, kana, Han; as blocks of Unicode.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff]+"
)


def quoted(text: str) -> str:
    """Any text as one FTS5 phrase; NUL and lone surrogates, which no stored text can have, become spaces."""
    return '"' + _UNUSABLE.sub(" ", text).replace('"', '""') + '"'


def words_of(text: str, tokenizer: str) -> list[str]:
    """The words of a text that the tokenizer can find, each once (whatever its case), in order.

    With "trigram" what is written without spaces comes as its pieces of three characters.
    """
    found: dict[str, str] = {}
    for word in _cut(text):
        for piece in _grams(word) if tokenizer == "trigram" else (word,):
            found.setdefault(piece.casefold(), piece)
    return list(found.values())


def has_words(text: str, tokenizer: str) -> bool:
    """Whether the tokenizer sees anything in a text that is searched as a phrase."""
    if tokenizer == "trigram":
        return len(_UNUSABLE.sub(" ", text)) >= GRAM
    return any(True for _ in _cut(text))


def _cut(text: str) -> Iterator[str]:
    """Runs of letters and digits, as unicode61 has them, with the marks and joiners between them."""
    if text.isascii():
        yield from _ASCII_WORD.findall(text)
        return
    characters = set(text)
    letters = letters_among(character for character in characters if not character.isascii())
    letters.update(character for character in characters if character.isascii() and character.isalnum())
    inside = {c for c in characters - letters if c in _JOINERS or unicodedata.category(c).startswith("M")}
    between = {ord(character): " " for character in characters - letters - inside}
    for run in text.translate(between).split(" "):
        word = run.strip(_JOINERS)
        if not letters.isdisjoint(word):
            yield word


def _grams(word: str) -> Iterator[str]:
    """The word itself, or its pieces of three characters where it is written without spaces; nothing shorter."""
    at = 0
    for run in _UNSPACED.finditer(word):
        yield from _long(word[at : run.start()])
        yield from (run[0][place : place + GRAM] for place in range(len(run[0]) - GRAM + 1))
        at = run.end()
    yield from _long(word[at:])


def _long(word: str) -> Iterator[str]:
    if len(word) >= GRAM:
        yield word
