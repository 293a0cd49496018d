"""Identifiers, names and time: the small rules that every record shares.

Owns: ULIDs, the check of ids, the folding of names, UTC microseconds. Pure functions; nothing here touches disk.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from vectorstore.errors import ValidationError

Clock = Callable[[], datetime]

MAX_ID = 255
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_UNITS = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d|w|(?:second|minute|hour|day|week)s?)?")
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_LETTERS = (_CROCKFORD * 8).encode("ascii")
"""A letter for each byte: five of its bits count."""


def utc_now() -> datetime:
    """The time now, in UTC, with microseconds."""
    return datetime.now(UTC)


def to_micros(moment: datetime) -> int:
    """Microseconds since 1970 UTC; a naive datetime is refused because it names no instant."""
    if moment.tzinfo is None:
        raise ValidationError(f"expected a datetime with a time zone, got {moment.isoformat()} without one")
    return (moment - _EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """The UTC datetime of a count of microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=micros)


def as_age(value: str | float | timedelta, where: str = "age") -> timedelta:
    """How long: "30d" or "30 days", "12h", "45m", "3600s", "2w", a timedelta, or a number of days.

    Raises:
        ValidationError: it is none of these, or below zero; the message starts with `where`.
    """
    try:
        if isinstance(value, timedelta):
            found = value
        elif isinstance(value, str) and (said := _AGE.fullmatch(value.strip().lower())):
            found = float(said[1]) * _UNITS[(said[2] or "d")[0]]
        else:
            found = timedelta(days=float(value))
        if found >= timedelta(0) and not isinstance(value, bool):
            return found
    except (ValueError, OverflowError, TypeError):
        pass
    words = "expected a span such as 30d, 12h, 45m, 3600s, '2 weeks' or a number of days"
    raise ValidationError(f"{where}: {words}, got {value!r}", value=value)


def ago(now: datetime, age: timedelta) -> datetime:
    """The moment that lies an age back; 1970 when it would lie before."""
    return now - min(age, now - _EPOCH)


def new_id(moment: datetime) -> str:
    """A ULID (26 characters, sorts by time): 48 bits of milliseconds, 80 random bits."""
    return _time_part(to_micros(moment) // 1000) + os.urandom(16).translate(_LETTERS).decode("ascii")


@functools.lru_cache(maxsize=64)
def _time_part(milliseconds: int) -> str:
    """The first ten characters of an id."""
    return "".join(_CROCKFORD[(milliseconds >> shift) & 31] for shift in range(45, -5, -5))


def check_id(value: str) -> str:
    """The id itself, if it is one.

    Raises:
        ValueError: not 1..255 printable characters, or with a path separator or `..`.
    """
    if not 0 < len(value) <= MAX_ID:
        raise ValueError(f"an id has 1..{MAX_ID} characters, got {len(value)}")
    if "/" in value or "\\" in value or ".." in value:
        raise ValueError(f"an id has no path separators and no '..', got {value!r}")
    if not value.isprintable():
        raise ValueError(f"an id has printable characters only, got {value!r}")
    return value


def fold(name: str) -> str:
    """The form in which names are compared: NFKC, case-folded, inner white space single, outer removed."""
    if name.isascii():
        return " ".join(name.lower().split())
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def id_of_parts(*parts: str) -> str:
    """An id that no other parts lead to: they themselves with colons between, and a digest where that may not do.

    They may not do when folding or shortening changes them, or when they hold colons.
    """
    folded = [id_part(part) for part in parts]
    text = ":".join(folded)
    if folded == list(parts) and text.count(":") == len(parts) - 1 and len(text) <= MAX_ID and text.isprintable():
        return text
    digest = hashlib.blake2b(repr(parts).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    readable = "".join(letter if letter.isprintable() else "_" for letter in text)
    return f"{readable[: MAX_ID - 17]}:{digest}"


def id_part(name: str) -> str:
    """A name made fit to be part of a derived id: folded, with separators replaced by `_`."""
    folded = fold(name).replace("/", "_").replace("\\", "_")
    while ".." in folded:
        folded = folded.replace("..", "_")
    return folded
