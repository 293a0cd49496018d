"""The vectors that workers make ahead of a workflow's chunks.

Workers only compute. Items, their order, their refusals, transactions and leases stay with the one who processes the
workflow: a chunk is prepared, written and landed as ever, only that its texts are found to be embedded already. What a
worker made is taken when it has its digest, the right shape, and the space's own vector for the probe text.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

import numpy as np

from vectorstore import tasks
from vectorstore.deduplicating import Remembering
from vectorstore.embedders import EmbedderIdentity
from vectorstore.embedding import PROBE, Embedding, same_probe, text_hash
from vectorstore.errors import EmbedderError, SpaceMismatch
from vectorstore.spreading import sendable, spread
from vectorstore.storage import SpaceRow
from vectorstore.storage import spaces as rows
from vectorstore.sync import Sync
from vectorstore.sync.sharing import Shared
from vectorstore.vectors import Matrix, as_matrix

P = TypeVar("P")


class Ahead(Remembering):
    """The store's embedding, with the vectors that workers made of the texts whose turn comes."""

    def __init__(self, of: Embedding, shared: Shared, sync: Sync, space: str, metric: str) -> None:
        super().__init__(of)
        self._shared = shared
        self._sync = sync
        self._space_name = space
        self._metric = metric
        self._probe: Matrix | None = None

    def parts(
        self, parts: Sequence[P], texts: Callable[[P], Sequence[str]], *, again: bool = False
    ) -> Generator[P, None, None]:
        """Each part, as soon as workers have embedded its texts.

        Args:
            parts: in the order in which they are wanted.
            texts: what is to be embedded for a part, as far as that can be told; what is forgotten is embedded here.
            again: embed texts that the space has vectors of, too.

        Raises:
            EmbedderError, SpaceMismatch: a worker has another model. WorkersLost: they are gone.
        """
        self._made.clear()
        with self._sync.catalog.read() as connection:
            space = rows.space_by_name(connection, self._space_name)
        todo = [{text_hash(text): text for text in texts(part) if text} for part in parts]
        if not again:
            self._made.update(self._of._known(space, list({key for fresh in todo for key in fresh})))
        seen = set(self._made)
        for fresh in todo:
            for key in seen & fresh.keys():
                del fresh[key]
            seen |= fresh.keys()
        probe = PROBE if space is None or space.model is None else str(space.probe_text)
        embedder, place = self._of.embedder, self._shared.place
        if any(todo):
            sendable(embedder)
        model = json.dumps([type(embedder).__qualname__, embedder.identity.to_dict(), probe])
        kept = [place.keep(json.dumps(list(fresh.values())).encode()) for fresh in todo if fresh]
        arguments = [(place.uri, model, embedder, probe, digest) for digest in kept]
        with contextlib.closing(spread(tasks.embed, arguments)) as results:
            for part, fresh in zip(parts, todo, strict=True):
                if fresh:
                    self._take(space, list(fresh), next(results))
                yield part

    def anew(self, space: SpaceRow | None, texts: Sequence[str], metric: str) -> Matrix:
        """(n, d) vectors of record texts, embedded since this workflow is processed."""
        keys = [text_hash(text) for text in texts]
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._made}
        if new:
            made = self._of.anew(space, list(new.values()), metric)
            self._made.update(zip(new, made, strict=True))
        return np.stack([self._made[key] for key in keys])

    def probe(self) -> Matrix:
        """(d,) the probe text's vector, as the workers made it."""
        return self._of.probe() if self._probe is None else self._probe

    def _take(self, space: SpaceRow | None, keys: Sequence[bytes], done: tasks.Done) -> None:
        """Take over what a worker made, if it is what this process would have made.

        Raises:
            CorruptError, EmbedderError, SpaceMismatch: it is not.
        """
        own = self._of.embedder.identity
        its = EmbedderIdentity.from_dict(done.told)
        if its != own:
            raise EmbedderError(f"the worker {done.worker} embeds by {its}, this store by {own}")
        found = tasks.unpacked(self._shared.place.fetch(done.digest))
        probe = found["probe"]
        pinned = None if space is None or space.model is None else np.frombuffer(space.probe_vector or b"", np.float32)
        expected = self._probe if pinned is None else pinned
        if expected is None:
            self._probe = expected = probe
        same_probe(f"{self._space_name}, the worker {done.worker}", own.model, expected, probe)
        matrix = as_matrix(
            found["vectors"], f"the worker {done.worker}", dim=None if space is None else space.dim, metric=self._metric
        )
        if len(matrix) != len(keys):
            raise SpaceMismatch(f"the worker {done.worker}: {len(matrix)} vectors for {len(keys)} texts")
        self._made.update(zip(keys, matrix, strict=True))
