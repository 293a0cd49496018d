"""What workers do: functions of digests that give digests, in a process that has no store.

A task reads its data from a place, and keeps its result there under the digest that it returns; no array passes
through a scheduler. It may be done twice, or by a worker that was thought dead: that only writes the same bytes again.
What is dear to make, such as an embedder with its model, a worker makes once and keeps.
"""

from __future__ import annotations

import io
import json
import os
import socket
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vectorstore.clusters import ClusterRecipe, Rule, tried
from vectorstore.embedders import Embedder, Matrix
from vectorstore.errors import CorruptError
from vectorstore.files import Buffer
from vectorstore.locks import process_lock
from vectorstore.places import place_at

_lock = process_lock()
_embedders: dict[str, tuple[Embedder, Matrix]] = {}


@dataclass(frozen=True)
class Done:
    """What a task made.

    Attributes:
        digest: of the result, which is its name in the place.
        worker: who did it: "process on host".
        told: plain data about it: the identity of the embedder, the figures of a trial.
    """

    digest: str
    worker: str
    told: dict[str, Any]


def embed(place: str, key: str, embedder: Embedder, probe: str, texts: str) -> Done:
    """Embed texts.

    Args:
        place: where everything is.
        key: stands for the embedder: one of that key that is here already, with its model, is taken instead.
        embedder: as joblib sends it; the shipped ones are sent as their arguments, without their models.
        probe: a text whose vector comes with the others', so that whoever asked can tell that they fit.
        texts: digest of the texts, a JSON array.

    Returns:
        The digest of an NPZ: `vectors` (n, d) float32, row i for texts[i], and `probe` (d,).

    Raises:
        EmbedderError: the model is absent or damaged here. CorruptError: an argument cannot be read.
    """
    here = place_at(place)
    model, known = _kept(key, embedder, probe)
    wanted: list[str] = json.loads(bytes(here.fetch(texts)))
    made = here.keep(packed(vectors=model.embed(wanted), probe=known))
    return Done(made, _worker(), model.identity.to_dict())


def assign(place: str, rule: str, rows: str) -> Done:
    """Give vectors to clusters.

    Args:
        place: where everything is.
        rule: digest of an NPZ with the fields of a `Rule`.
        rows: digest of an NPZ, `rows` (n, d) float32.

    Returns:
        The digest of an NPZ: `numbers` (n,) int64 and `strengths` (n,) float64, as `Rule.assign` gives them.
    """
    here = place_at(place)
    known = unpacked(here.fetch(rule))
    learnt = Rule(known["centroids"], known["numbers"], float(known["spread"]), known.get("reach"))
    numbers, strengths = learnt.assign(unpacked(here.fetch(rows))["rows"])
    return Done(here.keep(packed(numbers=numbers, strengths=strengths)), _worker(), {})


def trial(place: str, rows: str, recipe: str, n: int | None, seed: int) -> Done:
    """Cluster vectors with one seed.

    Args:
        place: where everything is.
        rows: digest of an NPZ, `rows` (n, d) float32.
        recipe: a `ClusterRecipe` as JSON.
        n: how many clusters, as in `fit`.
        seed: of all random numbers.

    Returns:
        The digest of an NPZ, `labels` (n,); told are the figures of a `FitTrial`.
    """
    here = place_at(place)
    known = ClusterRecipe.from_dict(json.loads(recipe), "the recipe of a trial")
    labels, figures = tried(unpacked(here.fetch(rows))["rows"], known, n, seed)
    return Done(here.keep(packed(labels=labels)), _worker(), figures)


def packed(**arrays: Any) -> bytes:
    """Arrays as the bytes of an NPZ; the same arrays give the same bytes."""
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def unpacked(data: Buffer) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an NPZ; nothing in it is executed.

    Raises:
        CorruptError: it is none.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as found:
            return dict(found)
    except (ValueError, OSError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise CorruptError(f"what a worker made is no NPZ: {error}") from error


def _kept(key: str, embedder: Embedder, probe: str) -> tuple[Embedder, Matrix]:
    """(the embedder, its vector of the probe text), made once in this process; the last two are kept."""
    with _lock:
        if key not in _embedders:
            while len(_embedders) > 1:
                del _embedders[next(iter(_embedders))]
            _embedders[key] = embedder, embedder.embed([probe])[0]
        return _embedders[key]


def _worker() -> str:
    return f"{os.getpid()} on {socket.gethostname()}"
