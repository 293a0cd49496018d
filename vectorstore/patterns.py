"""Patterns that texts are matched with, in time linear in the text whatever the pattern: the one door to RE2.

RE2 (Cox, "Regular Expression Matching Can Be Simple And Fast", 2007) has no backtracking. What would need it, back
references and looking around, is no pattern here, and one whose automaton is too large is refused as well.
"""

from __future__ import annotations

import functools
from typing import Any

MEMORY = 1 << 20
"""Bytes that a compiled pattern may take."""


@functools.lru_cache(maxsize=10_000)
def compiled(pattern: str) -> Any:
    """The pattern, ready to search; kept, since compiling costs ten times a search.

    Raises:
        ValueError: it is none; says why.
    """
    import re2

    options = re2.Options()
    options.log_errors = False
    options.max_mem = MEMORY
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0]
        said = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise ValueError(
            f"expected a pattern that RE2 can match in linear time (no back references, no looking around), "
            f"got {pattern!r}: {said}"
        ) from None


def checked(pattern: str) -> str:
    """The pattern itself, if it is one.

    Raises:
        ValueError: it is none.
    """
    if pattern:
        compiled(pattern)
    return pattern


def found_in(pattern: str, text: str) -> bool:
    """Whether the pattern matches anywhere in the text. Time O(text)."""
    return compiled(pattern).search(text) is not None
