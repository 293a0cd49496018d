"""What a filter means, said once more in plain Python, and a generator of records and filters to compare by.

Nothing here knows SQL. The generator takes a `random.Random`, so that hypothesis can drive and shrink it, and a plain
seed can make a hundred thousand cases.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from vectorstore.ids import fold

WORDS = ["king", "King's Road", "queen", "ÅNGSTRÖM", "a_b%c", "x" * 50, "*", "?", "[a-c]", "[", "]", "^", "-", "a-c", "é", "e\u0301"]  # fmt: skip
WORDS += [
    "日本",
    "🦜",
    "'",
    '"',
    "\\",
    "\\u0041",
    "a\tb",
    "\n",
    " ",
    "ß",
    "\u0131",
    "K",
    "\u202e",
    "\u200d",
    "\ufeff",
    "\x7f",
    "0",
    "1",
    "12",
]
WORDS += [
    "true",
    "null",
    "[]",
    "{}",
    '["x"]',
    '{"k":1}',
    "'; DROP TABLE concepts--",
    '" OR 1=1 --',
    "%",
    "_",
    "\U0010ffff",
    "0.5",
]
NUMBERS = [
    0,
    1,
    -1,
    2,
    12,
    0.5,
    -0.0,
    1e-300,
    1e300,
    0.1,
    0.1 + 0.2,
    2**31,
    2**53,
    2**53 + 1,
    -(2**63),
    2**63 - 1,
    5e-324,
    1e22,
]
HUGE = [2**63, 2**64, -(2**70), 10**40]
KEYS = ["n", "l", "o", "a__b", "schlüssel", "a\\b", "a\tb", "q'x", "\\u006e", "日", "x y", "$", "0", "\u202e"]
QUALITIES = [None, 0.0, 0.25, 0.5, 1.0, 0.1, 1 / 3, 0.1 + 0.2]
TEXTUAL = ["contains", "icontains", "startswith", "endswith", "glob"]
ORDERED = ["gt", "gte", "lt", "lte"]


# -- the meaning -------------------------------------------------------------------------------------------------------


def holds(where: dict[str, Any], record: dict[str, Any]) -> bool:
    """Whether a record matches a filter."""
    return all(_term(key, value, record) for key, value in where.items())


def _term(key: str, value: Any, record: dict[str, Any]) -> bool:
    if key == "and":
        return all(holds(part, record) for part in value)
    if key == "or":
        return any(holds(part, record) for part in value)
    if key == "not":
        return not holds(value, record)
    field, _, operator = key.rpartition("__") if "__" in key else (key, "", "")
    name, *path = field.split(".")
    found = record[name]
    for step in path:
        found = found.get(step) if isinstance(found, dict) else None
    operator = operator or ("has" if name in ("tags", "lemmas") and not path else "eq")
    if name in ("name", "lemmas"):
        found, value = _folded(found), _folded(value)
    if operator == "isnull":
        return (found is None) == value
    if operator in ("has", "has_any", "has_all"):
        items = found if isinstance(found, list) else []
        wanted = value if operator != "has" else [value]
        present = [any(_same(item, want) for item in items) for want in wanted]
        return any(present) if operator == "has_any" else all(present)
    if operator in ("eq", "in"):
        return any(_same(found, item) for item in (value if operator == "in" else [value]))
    if operator in ("ne", "nin"):
        return not any(_same(found, item) for item in (value if operator == "nin" else [value]))
    if operator in TEXTUAL:
        return isinstance(found, str) and _TEXTS[operator](found, value)
    if found is None or isinstance(found, list | dict):
        return False
    a, b = _ranked(found), _ranked(value)
    return bool({"gt": a > b, "gte": a >= b, "lt": a < b, "lte": a <= b}[operator])


def _folded(value: Any) -> Any:
    """Names are compared in folded form."""
    if isinstance(value, list):
        return [_folded(each) for each in value]
    return fold(value) if isinstance(value, str) else value


def _same(a: Any, b: Any) -> bool:
    """True is 1; nothing but a text equals a text; a list or an object equals nothing."""
    if isinstance(a, list | dict) or isinstance(a, str) != isinstance(b, str) or (a is None) != (b is None):
        return False
    return bool(_ranked(a) == _ranked(b))


def _ranked(value: Any) -> tuple[bool, Any]:
    """Numbers come before texts; beyond 64 bits they are floats."""
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        value = float(value)
    return isinstance(value, str), value


def glob(text: str, pattern: str) -> bool:
    """`*` any characters, `?` one, `[a-c]` one of these, `[^a-c]` one that is none of these."""
    reached = {0}
    at = 0
    while at < len(pattern):
        sign = pattern[at]
        if sign == "*":
            reached = set(range(min(reached), len(text) + 1))
            at += 1
        else:
            fits, at = _one(pattern, at)
            reached = {place + 1 for place in reached if place < len(text) and fits(text[place])}
        if not reached:
            return False
    return len(text) in reached


def _one(pattern: str, at: int) -> tuple[Callable[[str], bool], int]:
    """(whether a character fits what stands at a place of the pattern, the place after it)."""
    if pattern[at] == "?":
        return (lambda _: True), at + 1
    if pattern[at] != "[":
        return (lambda letter: letter == pattern[at]), at + 1
    start = at + 1
    inverted = pattern[start : start + 1] == "^"
    start += inverted
    end = pattern.find("]", start + 1)  # the first character is itself, even a bracket
    if end < 0:
        return (lambda _: False), len(pattern)
    among = pattern[start:end]
    ranges: list[tuple[str, str]] = []
    place, former = 0, ""
    while place < len(among):
        if among[place] == "-" and former and place + 1 < len(among):
            ranges.append((former, among[place + 1]))
            place, former = place + 2, ""
        else:
            ranges.append((among[place], among[place]))
            former = among[place]
            place += 1
    return (lambda letter: any(low <= letter <= high for low, high in ranges) != inverted), end + 1


_TEXTS: dict[str, Callable[[str, str], bool]] = {
    "contains": lambda text, value: value in text,
    "icontains": lambda text, value: fold(value) in fold(text),
    "startswith": lambda text, value: text.startswith(value),
    "endswith": lambda text, value: text.endswith(value),
    "glob": glob,
}


# -- cases -------------------------------------------------------------------------------------------------------------


def word(chance: random.Random) -> str:
    """A text, often an unpleasant one."""
    kind = chance.random()
    if kind < 0.8:
        return chance.choice(WORDS)
    if kind < 0.9:
        return "".join(chance.choice(WORDS) for _ in range(chance.randint(0, 3)))
    return "".join(chr(chance.choice([chance.randint(1, 0x2FF), chance.randint(0xE000, 0x10FFFF)])) for _ in range(3))


def scalar(chance: random.Random) -> Any:
    """Anything that JSON has but lists and objects."""
    kind = chance.random()
    if kind < 0.45:
        return word(chance)
    if kind < 0.75:
        return chance.choice(NUMBERS)
    if kind < 0.82:
        return chance.choice(HUGE)
    if kind < 0.9:
        return chance.choice([True, False])
    return chance.uniform(-1, 1) * 10.0 ** chance.randint(-40, 40)


def value_of(chance: random.Random, depth: int = 0) -> Any:
    """What stands in a JSON field."""
    kind = chance.random()
    if depth < 3 and kind < 0.2:
        return [value_of(chance, depth + 1) for _ in range(chance.randint(0, 3))]
    if depth < 3 and kind < 0.35:
        return {chance.choice(KEYS): value_of(chance, depth + 1) for _ in range(chance.randint(0, 3))}
    return None if kind < 0.4 else scalar(chance)


def record(chance: random.Random) -> dict[str, Any]:
    """The fields of a concept; its id is the caller's."""
    name = word(chance)
    return {
        "name": name if name.strip() else "x",
        "domain": None if chance.random() < 0.2 else word(chance),
        "quality": chance.choice(QUALITIES),
        "tags": list(dict.fromkeys(tag for tag in (word(chance) for _ in range(chance.randint(0, 3))) if tag)),
        "lemmas": [word(chance) for _ in range(chance.randint(0, 2))],
        "extra": {chance.choice(KEYS): value_of(chance) for _ in range(chance.randint(0, 4))},
    }


def where(chance: random.Random, depth: int = 0) -> dict[str, Any]:
    """A filter that is right."""
    kind = chance.random()
    if depth < 4 and kind < 0.12:
        return {"and": [where(chance, depth + 1) for _ in range(chance.randint(0, 3))]}
    if depth < 4 and kind < 0.28:
        return {"or": [where(chance, depth + 1) for _ in range(chance.randint(0, 3))]}
    if depth < 4 and kind < 0.4:
        return {"not": where(chance, depth + 1)}
    if depth < 4 and kind < 0.5:
        return {**where(chance, depth + 1), **where(chance, depth + 1)}
    return _simple(chance)


def _simple(chance: random.Random) -> dict[str, Any]:
    kind = chance.random()
    if kind < 0.3:
        return _on_text(chance, chance.choice(["name", "domain"]))
    if kind < 0.4:
        operator = chance.choice(["eq", "ne", *ORDERED, "in", "nin", "isnull"])
        number = [chance.choice([0, 0.25, 0.5, 1, 1 / 3, 0.1 + 0.2, 2**40, -1e300]) for _ in range(3)]
        return {f"quality__{operator}": _shaped(chance, operator, number, none=True)}
    if kind < 0.55:
        field, operator = chance.choice(["tags", "lemmas"]), chance.choice(["has", "has_any", "has_all", "isnull"])
        return {f"{field}__{operator}": _shaped(chance, operator, [word(chance) for _ in range(3)])}
    path = ".".join(chance.choice(KEYS) for _ in range(chance.choice([1, 1, 1, 2])))
    if kind < 0.7:
        return _on_text(chance, f"extra.{path}")
    operator = chance.choice(["eq", "ne", *ORDERED, "in", "nin", "isnull", "has", "has_any", "has_all"])
    return {f"extra.{path}__{operator}": _shaped(chance, operator, [scalar(chance) for _ in range(3)], none=True)}


def _on_text(chance: random.Random, field: str) -> dict[str, Any]:
    operator = chance.choice(["eq", "ne", *ORDERED, *TEXTUAL, "glob", "in", "nin", "isnull"])
    words = [_pattern(chance) if operator == "glob" else word(chance) for _ in range(3)]
    return {f"{field}__{operator}": _shaped(chance, operator, words, none=True)}


def _pattern(chance: random.Random) -> str:
    pieces = ["*", "?", "[a-k]", "[^a]", "[]x]", "[^]x]", "[a-", "[-a]", "[k-]", "k", "i", "n", "*", word(chance)]
    return "".join(chance.choice(pieces) for _ in range(chance.randint(0, 5)))


def _shaped(chance: random.Random, operator: str, values: list[Any], none: bool = False) -> Any:
    """The value that an operator takes."""
    if operator == "isnull":
        return chance.choice([True, False])
    if operator in ("in", "nin", "has_any", "has_all"):
        listed = values[: chance.randint(0, 3)]
        return [*listed, None] if none and operator in ("in", "nin") and chance.random() < 0.2 else listed
    return None if none and operator in ("eq", "ne") and chance.random() < 0.2 else values[0]
