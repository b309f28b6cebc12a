"""How a network is written as ONNX, as a `torch.export` program, or as plain weights, and read back.

This module knows the exporters and their traps; it knows no model by name and no place of a file.
"""

from __future__ import annotations

import contextlib
import json
import logging
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from motivnet_cli.export.formats import NetworkFormat, NetworkPrecision, PixelType
    from motivnet_cli.weights.load import LoadedModel

OPSET = 18
"""The oldest that torch's exporter writes, so that old runtimes read the file."""
EXTERNAL_DATA_BYTES = 1_800_000_000
"""From so many bytes of weights an ONNX file keeps them in a file beside it: protobuf ends at 2 GiB."""

Outputs = dict[str, Tensor]
"""By name: `probabilities` and `logits` [B, C], `embedding` [B, D], float32."""

_ONNX_EXAMPLE = """\
# Runs {name} with onnxruntime alone, on noise. In its place put
{input}
from pathlib import Path
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession(str(Path(__file__).with_name({name!r})), providers=["CPUExecutionProvider"])
pixels = np.random.default_rng(0).integers(0, 256, (1, 3, {height}, {width})).astype(np.{dtype})
{outputs} = session.run({names}, {{"pixels": pixels}})
{show}
"""
_TORCH_EXAMPLE = """\
# Runs {name} with torch alone, on noise. In its place put
{input}
from pathlib import Path
import torch

network = torch.export.load(Path(__file__).with_name({name!r})).module()
pixels = torch.randint(0, 256, (1, 3, {height}, {width})).to(torch.{dtype})
{outputs} = (network(pixels)[name] for name in {names})
{show}
"""


class Graph(nn.Module):
    """What an exported file computes: pixels [B, 3, H, W], 0 to 255 -> named float32 outputs."""

    def __init__(self, model: LoadedModel) -> None:
        super().__init__()
        self.network = model.network
        self.names = ("probabilities", "logits", "embedding") if model.classes else ("embedding",)

    def forward(self, pixels: Tensor) -> Outputs:
        logits, embedding = self.network(pixels)
        logits = logits.float()
        outputs = {"probabilities": logits.softmax(-1), "logits": logits, "embedding": embedding.float()}
        return {name: outputs[name] for name in self.names}


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkForm:
    """One way to write a network, and to read it back to be compared."""

    suffix: str
    write: Callable[[Graph, Path, Tensor, dict[str, str]], None]
    """Writes a graph at a path; given two example inputs [2, 3, H, W], and the metadata."""
    read: Callable[[Path, LoadedModel], Callable[[Tensor], Outputs]]
    """Reads a file; what it gives runs it, as the graph that was written."""
    precisions: tuple[NetworkPrecision, ...] = ("fp32", "fp16", "bf16")
    input_types: tuple[PixelType, ...] = ("uint8", "float")
    example: str | None = None
    packages: tuple[str, ...] = ()


def _write_onnx(graph: Graph, path: Path, pixels: Tensor, about: dict[str, str]) -> None:
    with _quiet():
        program = torch.onnx.export(
            _exported(graph, pixels),
            input_names=["pixels"],
            output_names=graph.names,
            dynamic_shapes={"pixels": {0: "batch"}},  # for an exported program, it takes the name alone
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    program.model.metadata_props.update(about)
    num_bytes = sum(parameter.nbytes for parameter in graph.parameters())
    program.save(path, external_data=num_bytes >= EXTERNAL_DATA_BYTES)


def _read_onnx(path: Path, _: LoadedModel) -> Callable[[Tensor], Outputs]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # in fp16 on a CPU it warns of every operator without a kernel
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(pixels: Tensor) -> Outputs:
        rows = session.run(names, {"pixels": pixels.numpy()})
        return {name: torch.from_numpy(np.asarray(row)) for name, row in zip(names, rows, strict=True)}

    return run


def _write_torch_export(graph: Graph, path: Path, pixels: Tensor, about: dict[str, str]) -> None:
    with _quiet():
        torch.export.save(_exported(graph, pixels), path, extra_files={"metadata.json": json.dumps(about)})


def _read_torch_export(path: Path, _: LoadedModel) -> Callable[[Tensor], Outputs]:
    with _quiet():
        return torch.export.load(path).module()


def _write_safetensors(graph: Graph, path: Path, _: Tensor, about: dict[str, str]) -> None:
    tensors = {name: tensor.contiguous() for name, tensor in graph.network.state_dict().items()}
    path.touch()
    mode = path.stat().st_mode
    save_file(tensors, path, metadata=about)
    path.chmod(mode)  # safetensors makes files that only their owner may read


def _read_safetensors(path: Path, model: LoadedModel) -> Callable[[Tensor], Outputs]:
    # The network's parameters become those of the file, in float32 as `weights.load_checkpoint` makes them.
    tensors = {name: tensor.float() for name, tensor in load_file(path).items()}
    model.network.load_state_dict(tensors, strict=True, assign=True)
    return Graph(model)


def _exported(graph: Graph, pixels: Tensor) -> torch.export.ExportedProgram:
    # Unless strict, `len(x)` of a tensor is taken for a constant, and the file would take batches of one size only.
    shapes = {"pixels": {0: torch.export.Dim("batch", max=2**31 - 1)}}
    return torch.export.export(graph.eval(), (pixels,), dynamic_shapes=shapes, strict=True)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence what the exporters say about themselves: deprecations, and operators that they do not fold."""
    log = logging.getLogger("onnxscript")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


NETWORK_FORMS: dict[NetworkFormat, NetworkForm] = {
    # onnxruntime runs no bf16 convolution on a CPU, so such a file could not be verified.
    "onnx": NetworkForm(
        suffix=".onnx",
        write=_write_onnx,
        read=_read_onnx,
        precisions=("fp32", "fp16"),
        example=_ONNX_EXAMPLE,
        packages=("onnx", "onnxscript"),
    ),
    "torch-export": NetworkForm(
        suffix=".pt2", write=_write_torch_export, read=_read_torch_export, example=_TORCH_EXAMPLE
    ),
    "safetensors": NetworkForm(
        suffix=".safetensors", write=_write_safetensors, read=_read_safetensors, input_types=("uint8",)
    ),
}
