"""Sentence embeddings by a transformer model; the default is all-MiniLM-L6-v2.

Owns the loading (once, verified, on the first text) and the batching. torch and sentence_transformers are
imported only when the first text is embedded, so that a store that only reads never pays for them. The
settings of other libraries are changed for the time of the loading alone, and then restored.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from vectorstore.embedders.protocol import EmbedderIdentity, Matrix, Progress, check_positive, check_texts
from vectorstore.embedders.weights import (
    DEFAULT_DIGEST,
    DEFAULT_DIM,
    DEFAULT_MODEL,
    ModelFiles,
    find_model,
    is_default,
    verify_default,
)
from vectorstore.errors import EmbedderError, ValidationError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Precision = Literal["auto", "float32", "bfloat16"]
PRECISIONS = get_args(Precision)

VERSION = "1"
"""Raised by any change here that gives a text another vector."""

# Short texts (20 tokens) a second, fastest of five rounds with two threads, in batches of 8 / 16 / 32 / 64:
# bfloat16 395 / 398 / 417 / 293; float32 227 / 225 / 158 from 16 on. Long texts (240 tokens) do not care: 40 to 41 and
# 21 to 23. 2-core AMD EPYC (Zen 4), torch 2.13.
BATCH_SIZE = 32

# So many texts are tokenised and sorted at once: enough for even batches, and a query of another thread
# waits at most some 0.1 s for its turn.
WINDOW = 2_048


class SentenceEmbedder:
    """Unit rows from a sentence-transformers model, loaded when the first text comes.

    Safe for several threads: they load the model once and take turns batch by batch.

    Args:
        model: "all-MiniLM-L6-v2" (its packaged weights if installed), a folder, or a name on the hub.
        batch_size: texts in one pass of the model.
        device: as torch names it ("cpu", "cuda:0"); the best there is if not given.
        precision: in which the model multiplies. "auto" is "bfloat16" on a CPU with instructions for it
            (avx512_bf16 or AMX), "float32" elsewhere. Rows of both agree to a cosine above 0.9999 and find the
            same (benchmarks/embedding.py), so the identity is the same; only in float32 are they equal to
            1e-6 whatever batch they came in.

    Raises:
        ValidationError: an argument is of the wrong type or out of range.
    """

    def __init__(
        self,
        model: str = DEFAULT_MODEL,
        *,
        batch_size: int = BATCH_SIZE,
        device: str | None = None,
        precision: Precision = "auto",
    ) -> None:
        if not isinstance(model, str) or not model:
            raise ValidationError(f"SentenceEmbedder.model: expected a name or a folder, got {model!r}")
        if precision not in PRECISIONS:
            raise ValidationError(
                f"SentenceEmbedder.precision: expected one of {', '.join(PRECISIONS)}, got {precision!r}"
            )
        self._name = model
        self._batch_size = check_positive("SentenceEmbedder.batch_size", batch_size)
        self._device = device
        self._precision: Precision = precision
        self._loading = threading.RLock()
        # One at a time: the tokenizer refuses two threads at once, and one pass takes all cores anyway.
        self._turn = threading.Lock()
        self._files: ModelFiles | None = None
        self._model: SentenceTransformer | None = None
        self._narrowed = False
        self._identity: EmbedderIdentity | None = None
        if is_default(model):
            # Known without a file, so that a store opens without its model; loading proves both.
            self._identity = EmbedderIdentity(DEFAULT_MODEL, VERSION, DEFAULT_DIGEST, DEFAULT_DIM, normalised=True)

    def __repr__(self) -> str:
        return f"SentenceEmbedder({self._name!r}, precision={self._precision!r})"

    def __reduce__(self) -> tuple[object, ...]:
        """Pickled as its arguments: another process loads the model for itself."""
        return _restore, (self._name, self._batch_size, self._device, self._precision)

    @property
    def identity(self) -> EmbedderIdentity:
        """Who makes the vectors.

        For the default model this touches no file: its digest and dimension are known, and loading proves
        them. Other models' weights are read once for their digest (and downloaded if they are not here);
        the rare model whose configuration does not tell its dimension is loaded.

        Raises:
            EmbedderError: the model's files cannot be had or read.
        """
        if self._identity is not None:
            return self._identity
        with self._loading:
            if self._identity is None:
                files = self._located()
                dim = files.dim or _dim_of(self._loaded())
                self._identity = EmbedderIdentity(files.name, VERSION, files.digest, dim, normalised=True)
            return self._identity

    def embed(self, texts: Sequence[str], *, progress: Progress | None = None) -> Matrix:
        """One unit vector for each text.

        The first call imports torch (some 6 s) and loads the model (0.3 s). A text beyond the model's
        longest (256 tokens for the default, some 180 words) counts by its beginning only.

        Args:
            texts: any number of texts; an empty one has a vector too.
            progress: told after each batch.

        Returns:
            (n, d) float32, row i for texts[i], rows of length 1.

        Raises:
            ValidationError: texts is not a sequence of encodable strings.
            EmbedderError: the model cannot be had, is damaged, or gave numbers that are not finite.
        """
        checked = check_texts(texts)
        total, dim = len(checked), self.identity.dim
        matrix = np.empty((total, dim), dtype=np.float32)
        if not checked:
            return matrix
        model = self._loaded()
        done = 0
        with self._multiplying(model):
            for start in range(0, total, WINDOW):
                window = checked[start : start + WINDOW]
                for positions in self._batches(model, window):
                    rows = self._encode(model, [window[position] for position in positions])
                    if rows.shape != (len(positions), dim):
                        raise EmbedderError(
                            f"{self!r}: expected shape {(len(positions), dim)}, the model gave {rows.shape};"
                            " its configuration and its weights do not belong together"
                        )
                    matrix[start + positions] = rows
                    done += len(positions)
                    if progress is not None:
                        progress(done, total)
        if not np.isfinite(matrix).all():
            row = int(np.flatnonzero(~np.isfinite(matrix).all(axis=1))[0])
            raise EmbedderError(
                f"{self!r}: the model gave numbers that are not finite for texts[{row}]"
                f" ({checked[row][:80]!r}); its weights are damaged, or bfloat16 is too coarse for it"
            )
        return matrix

    def _located(self) -> ModelFiles:
        with self._loading:
            if self._files is None:
                self._files = find_model(self._name)
            return self._files

    def _loaded(self) -> SentenceTransformer:
        """The model, loaded by the first thread that comes while the others wait."""
        with self._loading:
            if self._model is None:
                files = self._located()
                if is_default(self._name):
                    verify_default(files.folder)
                model = _load(str(files.folder), self._device)
                if self._precision == "bfloat16" or (self._precision == "auto" and _multiplies_bfloat16(model)):
                    _narrow(model)
                    self._narrowed = True
                self._model = model
            return self._model

    def _batches(self, model: SentenceTransformer, window: list[str]) -> Iterator[npt.NDArray[np.intp]]:
        """Positions in the window, batch by batch, the longest texts first: so the least is padded."""
        if len(window) <= self._batch_size:
            yield np.arange(len(window))
            return
        with self._turn:
            lengths = _lengths(model, window)
        order = np.argsort(-lengths, kind="stable")
        for start in range(0, len(order), self._batch_size):
            yield order[start : start + self._batch_size]

    def _encode(self, model: SentenceTransformer, batch: list[str]) -> Matrix:
        with self._turn:
            rows = model.encode(
                batch,
                batch_size=len(batch),
                show_progress_bar=False,
                convert_to_numpy=True,
                normalize_embeddings=True,
            )
        return np.asarray(rows, dtype=np.float32)

    def _multiplying(self, model: SentenceTransformer) -> AbstractContextManager[Any]:
        """The context in which a model with bfloat16 weights gets bfloat16 to multiply them with."""
        if not self._narrowed:
            return nullcontext()
        import torch

        context: AbstractContextManager[Any] = torch.autocast(model.device.type, dtype=torch.bfloat16)
        return context


def _restore(model: str, batch_size: int, device: str | None, precision: Precision) -> SentenceEmbedder:
    return SentenceEmbedder(model, batch_size=batch_size, device=device, precision=precision)


def _load(folder: str, device: str | None) -> SentenceTransformer:
    """The model of a folder, read without the network.

    Raises:
        EmbedderError: sentence-transformers is not installed, or cannot read the folder.
    """
    try:
        from safetensors import SafetensorError
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise EmbedderError(
            f"sentence-transformers cannot be imported ({error}); pip install sentence-transformers, or pass embedder="
        ) from error
    try:
        with _quiet():
            return SentenceTransformer(folder, device=device, local_files_only=True)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise EmbedderError(
            f"sentence-transformers cannot load {folder} on device {device or 'auto'}"
            f" ({type(error).__name__}: {error}); restore the folder or name another device"
        ) from error


def _multiplies_bfloat16(model: SentenceTransformer) -> bool:
    """Whether the model lies on a CPU whose instructions multiply bfloat16; without them it is slower than float32."""
    import torch

    # Older releases of torch do not tell; ARM's instructions were not measured.
    capabilities: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return model.device.type == "cpu" and any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16"))


def _narrow(model: SentenceTransformer) -> None:
    """Convert the weights that autocast would convert anew for each call; the rows are the same to the bit."""
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.to(torch.bfloat16)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' progress bars, which would otherwise be drawn into the caller's terminal."""
    from transformers.utils import logging

    drawn = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if drawn:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _lengths(model: SentenceTransformer, texts: list[str]) -> npt.NDArray[np.int64]:
    """(n,) lengths to sort by: tokens up to the model's longest; characters if it has another tokenizer.

    Sorting by tokens costs 4 % of the time and saves 20 % against sorting by characters.
    """
    from transformers import PreTrainedTokenizerBase

    tokenizer: object = model.tokenizer
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        return np.array([len(text) for text in texts], dtype=np.int64)
    longest = model.max_seq_length
    tokens = tokenizer(texts, truncation=longest is not None, max_length=longest, return_attention_mask=False)
    return np.array([len(ids) for ids in tokens["input_ids"]], dtype=np.int64)


def _dim_of(model: SentenceTransformer) -> int:
    """The dimension that the loaded model tells.

    Raises:
        EmbedderError: it tells none.
    """
    # Renamed in sentence-transformers 5.4; the old name still works there, with a warning.
    named: Any = getattr(model, "get_embedding_dimension", None) or model.get_sentence_embedding_dimension
    dim = named()
    if dim is None:
        raise EmbedderError("the model does not tell its dimension; pass CallableEmbedder(model.encode, model=name)")
    return int(dim)
