"""Cross-encoders: models that read a query and a text together and say how well they fit.

Slower and better than comparing vectors, so they re-rank the best of a search. torch and sentence_transformers are
imported, and the model loaded, when the first pair is scored.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vectorstore.embedders.protocol import check_positive, check_texts
from vectorstore.embedders.sentence import BATCH_SIZE, _quiet
from vectorstore.embedders.weights import hub_folder
from vectorstore.errors import EmbedderError, ValidationError
from vectorstore.records import Record, schema_of

if TYPE_CHECKING:
    import sentence_transformers

_OWNER = "cross-encoder"


class CrossEncoder:
    """Scores of records against a query; hand it to `search(..., rerank=...)`. Safe for several threads.

    Args:
        model: a folder, or a name on the hub ("ms-marco-MiniLM-L6-v2" is looked for under cross-encoder/).
        batch_size: pairs in one pass of the model.
        device: as torch names it ("cpu", "cuda:0"); the best there is if not given.

    Raises:
        ValidationError: an argument is of the wrong type or out of range.
    """

    def __init__(self, model: str | Path, *, batch_size: int = BATCH_SIZE, device: str | None = None) -> None:
        if not isinstance(model, str | Path) or not str(model):
            raise ValidationError(f"CrossEncoder.model: expected a name or a folder, got {model!r}")
        self._name = str(model)
        self._batch_size = check_positive("CrossEncoder.batch_size", batch_size)
        self._device = device
        self._turn = threading.Lock()  # one load, and one pass at a time: it takes all cores anyway
        self._model: sentence_transformers.CrossEncoder | None = None

    def __repr__(self) -> str:
        return f"CrossEncoder({self._name!r})"

    def __call__(self, query: object, records: Sequence[Record]) -> list[float]:
        """One score a record, bigger is better: how well its embedding text fits the query.

        Args:
            query: a text, or a record, which stands for its text.
            records: of any kinds.

        Raises:
            ValidationError: the query is neither. EmbedderError: as `scores`.
        """
        if isinstance(query, Record):
            query = schema_of(type(query)).text(query)
        if not isinstance(query, str):
            raise ValidationError(f"{self!r}: expected a text or a record as the query, got {type(query).__name__}")
        return self.scores(query, [schema_of(type(record)).text(record) for record in records])

    def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        """One score a text, bigger is better, all finite. A pair beyond the model's longest counts by its beginning.

        Raises:
            EmbedderError: the model cannot be had, is damaged, or gives something else than one number a pair.
        """
        (checked, *pairs) = check_texts([query, *texts])
        if not pairs:
            return []
        with self._turn:
            if self._model is None:
                self._model = _load(self._name, self._device)
            numbers = self._model.predict(
                [(checked, text) for text in pairs], batch_size=self._batch_size, show_progress_bar=False
            )
        found = np.asarray(numbers, dtype=np.float64)
        if found.shape != (len(pairs),):
            per_pair = int(np.prod(found.shape[1:]))
            raise EmbedderError(f"{self!r}: expected one number a pair, the model gives {per_pair}; it ranks nothing")
        if not np.isfinite(found).all():
            place = int(np.flatnonzero(~np.isfinite(found))[0])
            raise EmbedderError(f"{self!r}: gave {found[place]} for texts[{place}]; its weights are damaged")
        scores: list[float] = found.tolist()
        return scores


def _load(name: str, device: str | None) -> Any:
    local = Path(name).expanduser()
    folder = local if local.is_dir() else hub_folder(name if "/" in name else f"{_OWNER}/{name}")
    try:
        from safetensors import SafetensorError
        from sentence_transformers import CrossEncoder as Model
    except ImportError as error:
        raise EmbedderError(
            f"sentence-transformers cannot be imported ({error}); pip install sentence-transformers"
        ) from error
    try:
        with _quiet():
            return Model(str(folder), device=device, local_files_only=True)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise EmbedderError(
            f"sentence-transformers cannot load the cross-encoder {folder} on device {device or 'auto'}"
            f" ({type(error).__name__}: {error}); restore the folder or name another device"
        ) from error
