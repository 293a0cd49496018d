"""Ways to run one sentence model on a CPU: the offered precisions, and the int8 and ONNX that are not offered.

Each maker returns a function from texts to (n, d) unit rows. All take texts in the same order and batches, so they
differ in the arithmetic alone. What a maker needs beyond the package is named where it is missing; nothing of it is
installed by default: `pip install onnx onnxruntime`.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np

import vectorstore as vs
from benchmarks.dataset import Matrix
from vectorstore.embedders.weights import packaged_folder

Encoder = Callable[[list[str]], Matrix]
BATCH = 32
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def _offered(precision: str) -> Encoder:
    embedder = vs.SentenceEmbedder(precision=cast(Any, precision), batch_size=BATCH)
    return embedder.embed


def _torch_int8(folder: Path) -> Encoder:
    """Dynamic quantisation as torch has it: 8-bit weights by tensor, activations of 7 bits by batch."""
    import torch
    from torch.ao.quantization import quantize_dynamic

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch 2.13 says at length that all of this will be removed
        return _altered(lambda module: quantize_dynamic(module, {torch.nn.Linear}, dtype=torch.qint8))


def _torch_int8_channels(folder: Path) -> Encoder:
    """The best that torch's int8 products give: weights by output channel, activations of 8 bits by batch.

    torch's own modules keep activations to 7 bits, because older instructions overflow at 8.
    """
    import torch

    class Quantised(torch.nn.Module):  # type: ignore[misc]  # torch is not followed
        def __init__(self, linear: Any) -> None:
            super().__init__()
            weights = linear.weight.detach()
            scales = weights.abs().amax(1).double() / 127
            zeros = torch.zeros(len(scales), dtype=torch.long)
            rounded = torch.quantize_per_channel(weights, scales, zeros, 0, torch.qint8)
            self.packed = torch.ops.quantized.linear_prepack(rounded, linear.bias.detach())

        def forward(self, values: Any) -> Any:
            return torch.ops.quantized.linear_dynamic(values, self.packed, False)

    def alter(module: Any) -> Any:
        for parent in list(module.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, torch.nn.Linear):
                    setattr(parent, name, Quantised(child))
        return module

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _altered(alter)


def _altered(alter: Callable[[Any], Any]) -> Encoder:
    """MiniLM in float32 with its transformer changed after loading."""
    embedder = vs.SentenceEmbedder(precision="float32", batch_size=BATCH)
    embedder.embed(["load"])
    model = cast(Any, embedder)._model
    model[0] = alter(model[0])
    return embedder.embed


def _onnx(folder: Path, quantised: bool) -> Encoder:
    """ONNX Runtime over an export with fused attention; int8 by output channel if asked."""
    importlib.import_module("onnxruntime")  # told missing here, before an export that takes a while
    importlib.import_module("onnx")
    for file, make in ((folder / "plain.onnx", _export), (folder / "fused.onnx", _fuse), (folder / "int8.onnx", _int8)):
        if not file.exists() and (quantised or make is not _int8):
            make(folder, file)
    return _session(folder / ("int8.onnx" if quantised else "fused.onnx"))


def _export(folder: Path, file: Path) -> None:
    import torch
    from sentence_transformers import SentenceTransformer

    # sentence-transformers' own backend="onnx" asks for optimum-onnx, which holds transformers below 5.
    model = SentenceTransformer(
        str(packaged_folder()), device="cpu", local_files_only=True, model_kwargs={"attn_implementation": "eager"}
    )

    class States(torch.nn.Module):  # type: ignore[misc]
        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any) -> Any:
            return self.inner(
                input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
            ).last_hidden_state

    names = list(INPUTS)
    axes = {0: "texts", 1: "tokens"}
    example = (torch.randint(1000, 2000, (2, 12)), torch.ones(2, 12, dtype=torch.long), torch.zeros(2, 12).long())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            States(model[0].model).eval(),
            example,
            str(file),
            dynamo=False,  # ONNX Runtime's fusions know the patterns of the older exporter only
            opset_version=17,
            input_names=names,
            output_names=["states"],
            dynamic_axes=dict.fromkeys([*names, "states"], axes),
        )


def _fuse(folder: Path, file: Path) -> None:
    from onnxruntime.transformers.optimizer import optimize_model

    fused = optimize_model(str(folder / "plain.onnx"), model_type="bert", num_heads=12, hidden_size=384, opt_level=0)
    if fused.get_fused_operator_statistics()["Attention"] != 6:
        raise RuntimeError("ONNX Runtime did not recognise the six attention layers; the comparison would be unfair")
    fused.save_model_to_file(str(file))


def _int8(folder: Path, file: Path) -> None:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        folder / "fused.onnx",
        file,
        per_channel=True,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["MatMul", "Gemm", "Attention"],
        extra_options={"MatMulConstBOnly": True, "DefaultTensorType": onnx.TensorProto.FLOAT},
    )


def _session(file: Path) -> Encoder:
    import onnxruntime
    import torch
    from transformers import AutoTokenizer

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    tokenizer: Any = AutoTokenizer.from_pretrained(str(packaged_folder()))

    def encode(texts: list[str]) -> Matrix:
        cut = {"truncation": True, "max_length": 256}
        order = np.argsort([-len(tokens) for tokens in tokenizer(texts, **cut)["input_ids"]], kind="stable")
        rows = np.empty((len(texts), 384), dtype=np.float32)
        for start in range(0, len(order), BATCH):
            places = order[start : start + BATCH]
            given = tokenizer([texts[place] for place in places], padding=True, return_tensors="np", **cut)
            states = session.run(None, {name: given[name] for name in INPUTS})
            mask = given["attention_mask"][..., None].astype(np.float32)
            means = (states[0] * mask).sum(axis=1)
            rows[places] = means / np.linalg.norm(means, axis=1, keepdims=True)
        return rows

    return encode


MAKERS: dict[str, Callable[[Path], Encoder]] = {
    "float32": lambda folder: _offered("float32"),
    "bfloat16": lambda folder: _offered("bfloat16"),
    "torch int8": _torch_int8,
    "torch int8 by channel": _torch_int8_channels,
    "ONNX float32": lambda folder: _onnx(folder, quantised=False),
    "ONNX int8": lambda folder: _onnx(folder, quantised=True),
}
