"""The threads that share the queries of a batch: two for the whole process, made when first wanted."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=2, thread_name_prefix="vectorstore-search")


# A fork has the pool and none of its threads: whoever waited for them would wait for ever.
os.register_at_fork(after_in_child=_pool.cache_clear)


def shared(function: Callable[[T], U], parts: Iterable[T]) -> Iterator[U]:
    """The function's results for the parts, in order."""
    return _pool().map(function, parts)
