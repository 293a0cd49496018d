"""Commits that were made and are not there any more, which SQLite itself does not tell."""

from __future__ import annotations

from collections.abc import Iterator

from vectorstore.storage.lock import noted
from vectorstore.sync.core import Sync


def lost_commits(sync: Sync) -> Iterator[tuple[str, str, str]]:
    """(where, what is wrong, how to mend it): a WAL that rotted ends early, or a catalog was put back."""
    if sync.root is None or sync.borrows:
        return
    highest = noted(sync.root)  # looked at first: others may write meanwhile
    seq = sync.catalog.newest("SELECT seq FROM state")
    if highest > seq:
        yield (
            "catalog.sqlite",
            f"is at commit {seq}, and commit {highest} was made: what came between is lost",
            "restore a backup, or write it again; its WAL may have been damaged, or an older copy put in its place",
        )
