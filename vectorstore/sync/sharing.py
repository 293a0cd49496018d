"""What a store shares with workers, while it has something done by them: a place that all of them see."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

from vectorstore.files import as_path
from vectorstore.places import Place, place_at
from vectorstore.spreading import PER_WORKER, workers
from vectorstore.sync.core import Sync
from vectorstore.sync.past import SHARED


@dataclass(frozen=True)
class Shared:
    """A place that workers see, and how many of them there are."""

    place: Place
    workers: int

    @property
    def window(self) -> int:
        """So many tasks are handed out at once."""
        return self.workers * PER_WORKER


@contextlib.contextmanager
def sharing(sync: Sync, what: str, where: str | None = None) -> Iterator[Shared | None]:
    """What is shared while something is done; None where nobody is there to share with.

    Args:
        sync: the store's parts.
        what: is done; one at a time of that name.
        where: a folder or URL that the workers see; None for the store's own folder, or this machine's temporary one.
    """
    if (count := workers()) == 1:
        yield None
        return
    with contextlib.ExitStack() as held:
        name = f"{SHARED}{what}.tmp"
        if where is None and (sync.root is None or sync.catalog.read_only):
            where = held.enter_context(tempfile.TemporaryDirectory(prefix="vectorstore-"))
        elif where is not None:
            name = f"{SHARED}{sync.catalog.newest('SELECT store FROM state')}-{what}.tmp"  # others may work there, too
            where = where if "://" in where else str(as_path(where))  # workers stand elsewhere
        place = place_at(f"{sync.root if where is None else where.rstrip('/')}/{name}")
        place.forget()  # what a run that was killed has left
        held.callback(place.forget)
        yield Shared(place, count)
