"""Deleting on a full disk: what makes room must not fail for want of room."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TypeVar

from vectorstore.errors import StoreError
from vectorstore.storage.catalog import Catalog

T = TypeVar("T")


def with_reserve(catalog: Catalog, work: Callable[[], T]) -> T:
    """Do the work; on a full disk once more, in the room that the store keeps for that.

    Inside a transaction of the caller's it is the caller's to begin again.
    """
    try:
        return work()
    except StoreError as error:
        if error.errno != errno.ENOSPC or catalog.in_transaction or not catalog._lock.give_room():
            raise
    return work()
