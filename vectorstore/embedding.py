"""Texts into vectors of a space, once each, by the embedder that the space belongs to.

A space is pinned to an embedder when its first text is embedded: identity, and a probe text with its vector. A store
opened with another embedder is refused before it can mix incomparable vectors, and an embedder that carries the right
name but gives other vectors is caught by the probe. Never called with a lock held.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from vectorstore.embedders import Embedder, EmbedderIdentity, HashEmbedder, SentenceEmbedder
from vectorstore.errors import DimensionError, EmbedderError, SpaceMismatch
from vectorstore.storage import SpaceRow, Transaction
from vectorstore.storage import spaces as rows
from vectorstore.sync import Progress, Sync, snapshot
from vectorstore.sync.reviving import end
from vectorstore.vectors import Matrix, as_matrix

PROBE = "A concept is known by the company it keeps: king, queen, knight and pawn share a board."
PROBE_COSINE = 0.999
OWN = object()
"""The embedder that the store's spaces were made with, MiniLM for a new store."""


class Embedding:
    """The embedder of an open store, and its agreement with the store's spaces."""

    def __init__(self, sync: Sync, embedder: Embedder | object | None) -> None:
        self._sync = sync
        self._embedder = embedder
        self._checked: set[str] = set()
        self._lock = threading.Lock()
        if embedder is not OWN and embedder is not None:
            with sync.catalog.read() as connection:
                for space in rows.all_spaces(connection):
                    if space.model is not None:
                        self._same_identity(space, self.embedder)

    @property
    def brings_vectors(self) -> bool:
        """Whether the caller brings all vectors: the store was opened with embedder=None."""
        return self._embedder is None

    @property
    def embedder(self) -> Embedder:
        """The embedder.

        Raises:
            EmbedderError: the store was opened without one.
        """
        with self._lock:
            if self._embedder is OWN:
                self._embedder = self._own()
        if self._embedder is None:
            raise EmbedderError(
                "the store was opened with embedder=None, so vectors are brought by the caller; "
                "pass vectors=..., search with a vector, or open with an embedder"
            )
        assert isinstance(self._embedder, Embedder)  # as_embedder made it
        return self._embedder

    def _own(self) -> Embedder:
        with self._sync.catalog.read() as connection:
            pinned = [space for space in rows.all_spaces(connection) if space.model is not None]
        if not pinned:
            return SentenceEmbedder()
        identity = EmbedderIdentity.from_dict(json.loads(str(pinned[0].model)))
        for candidate in (HashEmbedder(identity.dim), SentenceEmbedder()):
            if candidate.identity == identity:
                return candidate
        raise EmbedderError(
            f"{pinned[0].name}: its vectors were made by {identity.model!r}, which cannot be found by name; "
            "open the store with that embedder: vs.open(path, embedder=...)"
        )

    def _same_identity(self, space: SpaceRow, embedder: Embedder) -> None:
        made_by = EmbedderIdentity.from_dict(json.loads(str(space.model)))
        if made_by != embedder.identity:
            raise SpaceMismatch(
                f"{space.name}: its vectors were made by {made_by}, the store was opened with "
                f"{embedder.identity}; open it with the first, or embed into a new store"
            )

    def check(self, space: SpaceRow | None) -> None:
        """The embedder's vectors may be compared with those of the space.

        Raises:
            SpaceMismatch: another model, or the same name with other vectors.
            DimensionError: the space holds vectors of another length, brought by the caller.
        """
        if space is None or space.name in self._checked:
            return
        embedder = self.embedder
        if space.model is None:
            if embedder.identity.dim != space.dim:
                raise DimensionError(
                    f"{space.name}: holds vectors of {space.dim} dimensions brought by the caller, "
                    f"{embedder.identity.model} makes {embedder.identity.dim}; search with a vector instead of a text"
                )
            return
        self._same_identity(space, embedder)
        stored = np.frombuffer(space.probe_vector or b"", dtype=np.float32)
        same_probe(space.name, embedder.identity.model, stored, embedder.embed([str(space.probe_text)])[0])
        self._checked.add(space.name)

    def pin(self, transaction: Transaction, space: SpaceRow, probe: Matrix) -> None:
        """Make the space this embedder's, if it is nobody's yet."""
        if space.model is None:
            model = json.dumps(self.embedder.identity.to_dict())
            rows.pin_model(transaction.connection, space.id, model, PROBE, probe.tobytes())
            transaction.after.append(lambda: self._checked.add(space.name))

    def probe(self) -> Matrix:
        """(d,) the probe text's vector."""
        vector: Matrix = self.embedder.embed([PROBE])[0]
        return vector

    def query(self, space: SpaceRow | None, texts: Sequence[str]) -> Matrix:
        """(n, d) vectors of query texts."""
        self.check(space)
        return self.embedder.embed(list(texts))

    def texts(
        self,
        space: SpaceRow | None,
        texts: Sequence[str],
        hashes: Sequence[bytes],
        metric: str,
        progress: Progress | None,
    ) -> Matrix:
        """(n, d) vectors of record texts; a text that was embedded before, or comes twice, is not embedded again."""
        self.check(space)
        dim = self.embedder.identity.dim if space is None else space.dim
        out = np.empty((len(texts), dim), dtype=np.float32)
        places: dict[bytes, list[int]] = {}
        for place, text_hash in enumerate(hashes):
            places.setdefault(text_hash, []).append(place)
        for text_hash, vector in self._known(space, list(places)).items():
            out[places.pop(text_hash)] = vector
        if places:
            fresh = self.embedder.embed([texts[found[0]] for found in places.values()], progress=progress)
            where = f"the embedder {self.embedder.identity.model}"
            checked = as_matrix(fresh, where, dim=dim, metric=metric)
            for vector, found in zip(checked, places.values(), strict=True):
                out[found] = vector
        elif progress is not None:
            progress(len(texts), len(texts))
        return out

    def anew(self, space: SpaceRow | None, texts: Sequence[str], metric: str) -> Matrix:
        """(n, d) vectors of record texts, embedded now even if they were before."""
        made = self.query(space, texts)
        dim = None if space is None else space.dim
        return as_matrix(made, f"the embedder {self.embedder.identity.model}", dim=dim, metric=metric)

    def _known(self, space: SpaceRow | None, hashes: list[bytes]) -> dict[bytes, Any]:
        if space is None or space.model is None:
            return {}
        with self._sync.catalog.read() as connection:
            vids = rows.vids_by_text(connection, space.id, hashes)
        live = snapshot(self._sync, space.name) if vids else None
        if live is None:
            return {}
        present, vectors = live.vectors_of(np.array(sorted(vids.values()), dtype=np.int64))
        by_vid = dict(zip(present.tolist(), vectors, strict=True))
        return {text_hash: by_vid[vid] for text_hash, vid in vids.items() if vid in by_vid}


def emptied(transaction: Transaction, space: SpaceRow, records: Sequence[int]) -> None:
    """Records without a text have no vector that was made of one; what a caller brought stays."""
    live = rows.live_vectors(transaction.connection, space.id, records)
    end(transaction, space, [record for record, (_, hashed, _) in live.items() if hashed is not None])


def come_back(transaction: Transaction, kind: str, records: Sequence[int]) -> None:
    """Records that were deleted and are written again have the vectors that they are given now, and no former one."""
    if records:
        for space in rows.spaces_of(transaction.connection, kind):
            live = rows.live_vectors(transaction.connection, space.id, records)
            end(transaction, space, [record for record in records if record not in live])


def same_probe(where: str, model: str, before: Matrix, now: Matrix) -> None:
    """Two vectors of the probe text are the same one.

    Raises:
        SpaceMismatch: they are not.
    """
    cosine = float(before @ now / (np.linalg.norm(before) * np.linalg.norm(now)))
    if not cosine >= PROBE_COSINE:
        raise SpaceMismatch(
            f"{where}: {model} gives another vector than it did for the probe text "
            f"(cosine {cosine:.4f}, expected {PROBE_COSINE}); its weights or its library changed"
        )


def text_hash(text: str) -> bytes:
    """16 bytes that stand for a text (BLAKE2b)."""
    return hashlib.blake2b(text.encode("utf-8"), digest_size=16).digest()
