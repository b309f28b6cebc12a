"""The network in forms that run without motivnet: ONNX, `torch.export`, and plain weights.

This room knows no prediction and no picture. What it writes is read back and compared with the network on random
pixels before it gets its name. Normalisation and softmax are inside the graphs; finding, cutting and resizing the
face are not, so the file says in its metadata what the pixels must be.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import shutil
import textwrap
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from motivnet_cli import __version__
from motivnet_cli.catalogue import DEFAULT_MODEL
from motivnet_cli.durable import sync, temporary_name
from motivnet_cli.errors import ConfigError, WeightsError
from motivnet_cli.export.destination import check_destination
from motivnet_cli.faces.crop import image_rows
from motivnet_cli.model import MotivNet, SapiensEmbedder
from motivnet_cli.weights.load import load_model

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    from motivnet_cli.export.formats import NetworkFormat, NetworkPrecision, PixelType
    from motivnet_cli.weights.load import LoadedModel

OPSET = 18
"""The oldest that torch's exporter writes, so that old runtimes read the file."""
EXTERNAL_DATA_BYTES = 1_800_000_000
"""From so many bytes of weights an ONNX file keeps them beside it: protobuf ends at 2 GiB."""

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_PIXEL_TYPES = {"uint8": torch.uint8, "float": torch.float32}
_BATCHES = (1, 3)
# How far a written file may be from the fp32 network, as a fraction of an output's largest value (at least 1): ten
# times what was measured or more, to catch a file that computes something else, not to judge a precision.
_TOLERANCES = {"fp32": 1e-3, "fp16": 5e-2, "bf16": 2e-1}

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

Outputs = dict[str, Tensor]


def export_model(
    name: str = DEFAULT_MODEL,
    to: NetworkFormat = "onnx",
    out: str | os.PathLike[str] = "model.onnx",
    *,
    weights: str | None = None,
    store: str | None = None,
    recipe: str | None = None,
    precision: NetworkPrecision = "fp32",
    input_type: PixelType = "uint8",
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write a model to a file that runs without motivnet, once it is proved to compute the same.

    `onnx` (`.onnx`, opset 18) and `torch-export` (`.pt2`) take `pixels` [batch, 3, height, width], RGB, 0 to 255, and
    give float32 `probabilities` [batch, C], `logits` [batch, C] and `embedding` [batch, D]; a model that names no
    emotions gives `embedding` alone. There is one pass for each face: `mirror_averaging` in the metadata tells whether
    `motivnet annotate` averages it with that of the mirror image. Beside `out` lies `<out>.example.py`, and from 1.8 GB
    of weights in ONNX `<out>.data`, which must stay with it under this name. `safetensors` holds the weights under our
    names; for MotivNet and Sapiens, `--weights` takes such a file again.

    Metadata (`classes`, `recipe`, `input`, `terms`, `source_sha256` and more, all strings) is in ONNX's
    `metadata_props`, in `metadata.json` of the `.pt2`, and in the header of safetensors.

    Args:
        weights: As `load_model` takes them; `store` and `recipe` too.
        precision: Of weights and arithmetic; normalisation and outputs stay float32. ONNX has no bf16.
        input_type: `float` is float32, for runtimes without uint8; the values are the same, 0 to 255.

    Returns:
        `files` (all that was written, `out` first), `size_bytes` of them, `outputs` (their sizes), `differences` (the
        largest absolute difference of each output to PyTorch in fp32, over a batch of 1 and one of 3 random pictures),
        `largest_difference` among them, and the metadata under `metadata`.

    Raises:
        ConfigError: The format, precision, input type or name of the file does not go with the others, the file is
            there already, or a package is missing.
        WeightsError: As `load_model`; or what was written does not compute what the network computes, and is removed.
    """
    out = Path(out)
    form = _checked_form(to, out, weights=weights, precision=precision, input_type=input_type, overwrite=overwrite)
    model = load_model(name, weights=weights, recipe=recipe, store=store)
    graph = _Graph(model)
    pixels = _random_pixels(model).to(_PIXEL_TYPES[input_type])
    with torch.inference_mode():
        expected = graph(pixels)
    for part in model.network.children():  # the pixel statistics are its own buffers, and stay float32
        part.to(_DTYPES[precision])
    about = _describe(model, precision=precision, input_type=input_type)
    staging = temporary_name(out)  # a folder: an ONNX file names its data, so all are written under their final names
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        written = staging / out.name
        form.write(graph, written, pixels[:2], about)
        differences = _compared(form.read(written, model), pixels, expected, precision=precision, what=f"{out} ({to})")
        if form.example:
            example = _example(form.example, graph, model, name=out.name, about=about, input_type=input_type)
            written.with_name(f"{out.name}.example.py").write_text(example, encoding="utf-8")
        files = _publish(staging, out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return {
        "model": name,
        "format": to,
        "precision": precision,
        "files": [str(file) for file in files],
        "size_bytes": sum(file.stat().st_size for file in files),
        "outputs": {output: rows.shape[1] for output, rows in expected.items()},
        "batches": list(_BATCHES),
        "differences": differences,
        "largest_difference": max(differences.values()),
        "metadata": about,
    }


class _Graph(nn.Module):
    """What the exported graph computes: pixels -> named float32 outputs."""

    def __init__(self, model: LoadedModel) -> None:
        super().__init__()
        self.network = model.network
        self.names = ("probabilities", "logits", "embedding") if model.classes else ("embedding",)

    def forward(self, pixels: Tensor) -> Outputs:
        logits, embedding = self.network(pixels)
        logits = logits.float()
        outputs = {"probabilities": logits.softmax(-1), "logits": logits, "embedding": embedding.float()}
        return {name: outputs[name] for name in self.names}


def _checked_form(
    to: str, out: Path, *, weights: str | None, precision: str, input_type: str, overwrite: bool
) -> _Form:
    """The format, if all that was asked of it can be done; before anything large is read."""
    if to not in _FORMS:
        raise ConfigError(f"no format of a model is named {to!r}; there are: {', '.join(_FORMS)}")
    form = _FORMS[to]
    if out.suffix != form.suffix:
        raise ConfigError(f"a {to} file is named *{form.suffix}, got {out}")
    if precision not in form.precisions:
        raise ConfigError(f"{to} can be written in {' or '.join(form.precisions)}, got {precision!r}")
    if input_type not in form.input_types:
        raise ConfigError(f"{to} can be written for {' or '.join(form.input_types)} pixels, got {input_type!r}")
    missing = [package for package in form.packages if importlib.util.find_spec(package) is None]
    if missing:
        raise ConfigError(f"{to} needs {' and '.join(missing)}: pip install 'motivnet-cli[onnx]'")
    for path in _paths(out) if out.parent.is_dir() else ():  # a folder that is not there is made
        check_destination(path, [weights] if weights else [], overwrite=overwrite)
    return form


def _paths(out: Path) -> tuple[Path, ...]:
    """All that an export may write, in the order in which it appears."""
    return out.with_name(f"{out.name}.data"), out.with_name(f"{out.name}.example.py"), out


def _random_pixels(model: LoadedModel) -> Tensor:
    """As many pictures of noise as the largest batch: uint8 [B, 3, H, W], the same every time."""
    generator = torch.Generator().manual_seed(0)
    size = (max(_BATCHES), 3, model.height, model.width)
    return torch.randint(0, 256, size, dtype=torch.uint8, generator=generator)


def _describe(model: LoadedModel, *, precision: str, input_type: str) -> dict[str, str]:
    """What someone who finds the file alone must know. The sizes are as `weights.load_checkpoint` reads them."""
    card, network = model.card, model.network
    about = {
        "name": card.name,
        "title": card.title,
        "classes": ",".join(model.classes),
        "recipe": model.recipe,
        "input": _describe_pixels(model, input_type=input_type),
        "mirror_averaging": "yes" if card.flip else "no",
        "height": str(model.height),
        "width": str(model.width),
        "embedding_size": str(model.embedding_size),
        "precision": precision,
        "terms": card.terms,
        "sources": card.sources,
        "source_sha256": model.weights_sha256,
        "tool": f"motivnet {__version__}",
    }
    if isinstance(network, SapiensEmbedder):
        about["heads"] = str(network.sizes.heads)
    if isinstance(network, MotivNet):
        about["decoder_heads"] = str(network.sizes.decoder_heads)
    return about


def _describe_pixels(model: LoadedModel, *, input_type: str) -> str:
    height, width, card = model.height, model.width, model.card
    top, bottom = image_rows(model.recipe, height, width)
    resized = {
        "stretch": f"resized to {width} x {height} (width x height), bilinear without antialiasing",
        "pad": (
            f"resized to {width} x {bottom - top} (width x height), bilinear without antialiasing, with {top} white "
            "rows above and below"
        ),
        "letterbox": (
            f"resized to fit into {width} x {height}, areas averaged to shrink and bilinear to enlarge, centred on RGB "
            f"{card.fill_rgb}"
        ),
    }[model.recipe]
    dtype = str(_PIXEL_TYPES[input_type]).removeprefix("torch.")
    return (
        f"pixels, {dtype} [batch, 3, {height}, {width}], RGB, 0 to 255 (the network normalises them itself): a square "
        f"of {1 + card.margin:g} times the height of the face box, centred on it, RGB {card.fill_rgb} outside the "
        f"picture, {resized}"
    )


def _compared(
    run: Callable[[Tensor], Outputs], pixels: Tensor, expected: Outputs, *, precision: str, what: str
) -> dict[str, float]:
    """The largest absolute difference of each output, over all batches.

    Raises:
        WeightsError: An output has another shape, is not finite, or is too far away.
    """
    differences = dict.fromkeys(expected, 0.0)
    for size in _BATCHES:
        with torch.inference_mode():
            found = run(pixels[:size])
        for name, rows in expected.items():
            if found[name].shape != rows[:size].shape:
                shapes = f"{list(found[name].shape)} where {list(rows[:size].shape)} was expected"
                raise WeightsError(f"{what} was not written: its {name} came out as {shapes}")
            difference = float((found[name] - rows[:size]).abs().max())
            allowed = _TOLERANCES[precision] * max(1.0, float(rows.abs().max()))
            if not difference <= allowed:  # also where it is not a number
                raise WeightsError(
                    f"{what} was not written: in {precision} its {name} is {difference:.3g} away from the network's, "
                    f"and {allowed:.3g} is the most that rounding explains; use --precision fp32"
                    + (", and report this" if precision == "fp32" else "")
                )
            differences[name] = max(differences[name], difference)
    return differences


def _example(
    template: str, graph: _Graph, model: LoadedModel, *, name: str, about: dict[str, str], input_type: str
) -> str:
    if model.classes:
        show = f"print(dict(zip({list(model.classes)}, probabilities[0].tolist())), embedding.shape)"
    else:
        show = "print(embedding.shape)"
    return template.format(
        name=name,
        input=textwrap.fill(about["input"], 100, initial_indent="# ", subsequent_indent="# "),
        height=model.height,
        width=model.width,
        dtype=str(_PIXEL_TYPES[input_type]).removeprefix("torch."),
        outputs=", ".join(graph.names) + ("" if model.classes else ","),
        names=list(graph.names),
        show=show,
    )


def _publish(staging: Path, out: Path) -> list[Path]:
    """Move what was written to its place, `out` last; what an earlier export left under these names goes."""
    out.unlink(missing_ok=True)
    files: list[Path] = []
    for final in _paths(out):
        written = staging / final.name
        if written.exists():
            sync(written)
            written.replace(final)
            files.insert(0, final)
        else:
            final.unlink(missing_ok=True)
    sync(out.parent)
    return files


# ---- formats ----------------------------------------------------------------------------------------------


def _write_onnx(graph: _Graph, path: Path, pixels: Tensor, about: dict[str, str]) -> None:
    with _quiet():
        program = torch.onnx.export(
            _exported(graph, pixels),
            input_names=["pixels"],
            output_names=graph.names,
            dynamic_shapes={"pixels": {0: "batch"}},  # of an exported program it takes the name alone
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
    options.log_severity_level = 3  # of fp16 on a CPU it warns for every operator that it has no kernel for
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(pixels: Tensor) -> Outputs:
        rows = session.run(names, {"pixels": pixels.numpy()})
        return {name: torch.from_numpy(np.asarray(row)) for name, row in zip(names, rows, strict=True)}

    return run


def _write_torch_export(graph: _Graph, path: Path, pixels: Tensor, about: dict[str, str]) -> None:
    with _quiet():
        torch.export.save(_exported(graph, pixels), path, extra_files={"metadata.json": json.dumps(about)})


def _read_torch_export(path: Path, _: LoadedModel) -> Callable[[Tensor], Outputs]:
    with _quiet():
        return torch.export.load(path).module()


def _write_safetensors(graph: _Graph, path: Path, _: Tensor, about: dict[str, str]) -> None:
    tensors = {name: tensor.contiguous() for name, tensor in graph.network.state_dict().items()}
    path.touch()
    mode = path.stat().st_mode
    save_file(tensors, path, metadata=about)
    path.chmod(mode)  # safetensors makes files that their owner alone may read


def _read_safetensors(path: Path, model: LoadedModel) -> Callable[[Tensor], Outputs]:
    # The network's parameters become those of the file, in float32 as `weights.load_checkpoint` makes them.
    tensors = {name: tensor.float() for name, tensor in load_file(path).items()}
    model.network.load_state_dict(tensors, strict=True, assign=True)
    return _Graph(model)


def _exported(graph: _Graph, pixels: Tensor) -> torch.export.ExportedProgram:
    # Unless strict, `len(x)` of a tensor would be taken for a constant, and the batch would be of one size for good.
    shapes = {"pixels": {0: torch.export.Dim("batch")}}
    return torch.export.export(graph.eval(), (pixels,), dynamic_shapes=shapes, strict=True)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what the exporters say of their own insides: deprecations, and operators that they do not fold."""
    log = logging.getLogger("onnxscript")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    """One way to write a network, and to read it back."""

    suffix: str
    write: Callable[[_Graph, Path, Tensor, dict[str, str]], None]
    read: Callable[[Path, LoadedModel], Callable[[Tensor], Outputs]]
    precisions: tuple[str, ...] = ("fp32", "fp16", "bf16")
    input_types: tuple[str, ...] = ("uint8", "float")
    example: str | None = None
    packages: tuple[str, ...] = ()


_FORMS = {
    # onnxruntime runs no bf16 convolution on a CPU, so such a file could not be verified.
    "onnx": _Form(
        suffix=".onnx",
        write=_write_onnx,
        read=_read_onnx,
        precisions=("fp32", "fp16"),
        example=_ONNX_EXAMPLE,
        packages=("onnx", "onnxscript"),
    ),
    "torch-export": _Form(suffix=".pt2", write=_write_torch_export, read=_read_torch_export, example=_TORCH_EXAMPLE),
    "safetensors": _Form(
        suffix=".safetensors", write=_write_safetensors, read=_read_safetensors, input_types=("uint8",)
    ),
}
