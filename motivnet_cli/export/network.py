"""A network written to a file that runs without motivnet: checked first, and with an example that runs it.

What is written is read back and compared with the network on random pixels before it gets its name. How a file of each
format is written is known by `network_formats`. Normalisation and softmax are inside the file; finding, cropping and
resizing the face are not, so its metadata say what the pixels must be.
"""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from motivnet_cli import __version__
from motivnet_cli.durable import sync, temporary_name
from motivnet_cli.errors import ConfigError, WeightsError, did_you_mean
from motivnet_cli.export.destination import check_destination
from motivnet_cli.export.network_formats import NETWORK_FORMS, Graph
from motivnet_cli.faces.crop import image_rows
from motivnet_cli.model import EmbeddingClassifier, MotivNet, SapiensEmbedder, parent_of
from motivnet_cli.weights.checkpoint import read_training
from motivnet_cli.weights.load import load_model

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from motivnet_cli.export.formats import NetworkFormat, NetworkPrecision, PixelType
    from motivnet_cli.export.network_formats import NetworkForm, Outputs
    from motivnet_cli.weights.load import LoadedModel

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_PIXEL_DTYPES = {"uint8": torch.uint8, "float": torch.float32}
_BATCHES = (1, 3)
"""Sizes of the batches that a written file is compared in."""
_TOLERANCES = {"fp32": 1e-3, "fp16": 5e-2, "bf16": 2e-1}
"""How far a written file may be from the fp32 network, as a fraction of an output's largest value (at least 1). Ten
times what was measured or more: to catch a file that computes something else, not to judge a precision."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedNetwork:
    """What an export wrote, and how far it is from the network."""

    model: str
    format: NetworkFormat
    precision: NetworkPrecision
    files: tuple[str, ...]
    """All that was written, the network first."""
    size_bytes: int
    """Of all files."""
    outputs: dict[str, int]
    """The size of each output: C or D."""
    batches: tuple[int, ...]
    """Sizes of the batches of random pictures that were compared."""
    differences: dict[str, float]
    """Largest absolute difference of each output to PyTorch in fp32."""
    largest_difference: float
    metadata: dict[str, str]
    """`classes`, `recipe`, `input`, `terms`, `source_sha256` and more, as the file holds them; of a model that was
    trained by motivnet also `parents`, `training_data`, `training_data_sha256`, and all of the record as `training`."""


def export_model(
    name: str | None = None,
    to: NetworkFormat = "onnx",
    out: str | os.PathLike[str] = "model.onnx",
    *,
    weights: str | None = None,
    store: str | None = None,
    recipe: str | None = None,
    precision: NetworkPrecision = "fp32",
    input_type: PixelType = "uint8",
    overwrite: bool = False,
) -> ExportedNetwork:
    """Write a model to a file that runs without motivnet, if the file computes what the network computes.

    Files of `onnx` and `torch-export` take `pixels` [B, 3, H, W], RGB, 0 to 255, and give float32 `probabilities`
    [B, C], `logits` [B, C] and `embedding` [B, D]; those of a model that names no emotions give `embedding` alone.
    They do one pass for each face: `mirror_averaging` in the metadata says whether `annotate` averages it with that of
    the mirror image; `inside`, of a head on embeddings, that the file does so itself. Beside `out` lies
    `<out>.example.py`, and for large ONNX models `<out>.data`, which must stay there under its name. `safetensors`
    holds the weights alone; `weights` takes such files, but for those of heads.

    Args:
        name: A model; this, `weights`, `store` and `recipe` are as for `load_model`.
        precision: Of weights and arithmetic; normalisation and outputs stay float32. ONNX has no bf16.
        input_type: `float` is float32, for runtimes without uint8; the values are 0 to 255 all the same.

    Raises:
        ConfigError: Format, precision, input type and file name do not go together, `out` exists, or a package is
            missing.
        WeightsError: As for `load_model`; or the file does not compute what the network computes, and is removed.
    """
    out = Path(out)
    form = _checked_form(to, out, weights=weights, precision=precision, input_type=input_type, overwrite=overwrite)
    model = load_model(name, weights=weights, recipe=recipe, store=store)
    metadata = _describe(model, precision=precision, input_type=input_type)
    files, outputs, differences = _write(form, model, metadata, out, precision=precision, input_type=input_type)
    return ExportedNetwork(
        model=model.card.name,
        format=to,
        precision=precision,
        files=tuple(map(str, files)),
        size_bytes=sum(file.stat().st_size for file in files),
        outputs=outputs,
        batches=_BATCHES,
        differences=differences,
        largest_difference=max(differences.values()),
        metadata=metadata,
    )


def _write(
    form: NetworkForm,
    model: LoadedModel,
    metadata: dict[str, str],
    out: Path,
    *,
    precision: NetworkPrecision,
    input_type: PixelType,
) -> tuple[list[Path], dict[str, int], dict[str, float]]:
    """The files written, the size of each output, and how far it is from the network's; the model is changed."""
    graph = Graph(model)
    pixels = _random_pixels(model).to(_PIXEL_DTYPES[input_type])  # [B, 3, H, W]
    with torch.inference_mode():
        expected = graph(pixels)
    for part in parent_of(
        model.network
    ).children():  # the pixel statistics are the network's own buffers, and stay float32
        part.to(_DTYPES[precision])
    with _staging_folder(out) as staging:
        written = staging / out.name
        form.write(graph, written, pixels[:2], metadata)
        differences = _compare(form.read(written, model), pixels, expected, precision=precision, what=str(out))
        if form.example:
            example = _example(form.example, graph, model, name=out.name, about=metadata, input_type=input_type)
            written.with_name(f"{out.name}.example.py").write_text(example, encoding="utf-8")
        files = _publish(staging, out)
    return files, {name: rows.shape[1] for name, rows in expected.items()}, differences


@contextlib.contextmanager
def _staging_folder(out: Path) -> Iterator[Path]:
    """A folder, since an ONNX file names its data: all files are written under their final names."""
    staging = temporary_name(out)
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _checked_form(
    to: NetworkFormat,
    out: Path,
    *,
    weights: str | None,
    precision: NetworkPrecision,
    input_type: PixelType,
    overwrite: bool,
) -> NetworkForm:
    """The format, if it can do all that is asked of it; checked before anything large is read."""
    if to not in NETWORK_FORMS:
        near = did_you_mean(to, NETWORK_FORMS)
        raise ConfigError(f"no format of a model is named {to!r}; there are: {', '.join(NETWORK_FORMS)}{near}")
    form = NETWORK_FORMS[to]
    if out.suffix != form.suffix:
        raise ConfigError(f"a {to} file is named *{form.suffix}, got {out}")
    if precision not in form.precisions:
        raise ConfigError(f"{to} can be written in {' or '.join(form.precisions)}, got {precision!r}")
    if input_type not in form.input_types:
        raise ConfigError(f"{to} can be written for {' or '.join(form.input_types)} pixels, got {input_type!r}")
    missing = [package for package in form.packages if importlib.util.find_spec(package) is None]
    if missing:
        raise ConfigError(f"{to} needs {' and '.join(missing)}: pip install 'motivnet-cli[onnx]'")
    for path in _paths(out) if out.parent.is_dir() else ():  # a folder that does not exist is made
        check_destination(path, [weights] if weights else [], overwrite=overwrite)
    return form


def _paths(out: Path) -> tuple[Path, ...]:
    """All files that an export may write, in the order in which they appear."""
    return out.with_name(f"{out.name}.data"), out.with_name(f"{out.name}.example.py"), out


def _random_pixels(model: LoadedModel) -> Tensor:
    """Noise, as many pictures as the largest batch has: uint8 [B, 3, H, W], the same every time."""
    generator = torch.Generator().manual_seed(0)
    size = (max(_BATCHES), 3, model.height, model.width)
    return torch.randint(0, 256, size, dtype=torch.uint8, generator=generator)


def _describe(model: LoadedModel, *, precision: str, input_type: str) -> dict[str, str]:
    """The metadata: what someone who finds the file alone must know, and the sizes that `load_checkpoint` reads."""
    card, network = model.card, parent_of(model.network)
    about = {
        "name": card.name,
        "title": card.title,
        "classes": ",".join(model.classes),
        "recipe": model.recipe,
        "input": _describe_pixels(model, input_type=input_type),
        "mirror_averaging": _mirror_averaging(model),
        "height": str(model.height),
        "width": str(model.width),
        "embedding_size": str(model.embedding_size),
        "precision": precision,
        "terms": card.terms,
        "sources": card.sources,
        "source_sha256": model.weights_sha256,
        "tool": f"motivnet {__version__}",
    }
    if model.position_change:
        about["position_change"] = model.position_change
    training = read_training(model.weights_path)
    if training is not None and training.classes == model.classes:
        about |= training.metadata
    if isinstance(network, SapiensEmbedder):
        about["heads"] = str(network.sizes.heads)
    if isinstance(network, MotivNet):
        about["decoder_heads"] = str(network.sizes.decoder_heads)
    return about


def _mirror_averaging(model: LoadedModel) -> str:
    if not model.card.flip:
        return "no"
    return "inside" if isinstance(model.network, EmbeddingClassifier) else "yes"


def _describe_pixels(model: LoadedModel, *, input_type: str) -> str:
    height, width, card = model.height, model.width, model.card
    top, bottom = image_rows(model.recipe, height, width)
    resized = {
        "stretch": f"resized to {width} x {height} (width x height), bilinear without antialiasing",
        "pad": (
            f"resized to {width} x {bottom - top} (width x height), bilinear without antialiasing, with {top} white "
            "rows above and below"
        ),
        "stretch-224": (
            "resized to 224 x 224, areas averaged to shrink and bilinear to enlarge, and then to "
            f"{width} x {height} (width x height), bilinear without antialiasing"
        ),
        "letterbox": (
            f"resized to fit into {width} x {height}, areas averaged to shrink and bilinear to enlarge, centred on RGB "
            f"{card.fill_rgb}"
        ),
    }[model.recipe]
    dtype = str(_PIXEL_DTYPES[input_type]).removeprefix("torch.")
    turned = "turned until the eyes are level, " if card.align else ""
    return (
        f"pixels, {dtype} [batch, 3, {height}, {width}], RGB, 0 to 255 (the network normalises them itself): a square "
        f"of {1 + card.margin:g} times the height of the face box, centred on it, {turned}RGB {card.fill_rgb} outside "
        f"the picture, {resized}"
    )


def _compare(
    run: Callable[[Tensor], Outputs], pixels: Tensor, expected: Outputs, *, precision: str, what: str
) -> dict[str, float]:
    """The largest absolute difference of each output between a written file and the network, over all batches.

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
    template: str, graph: Graph, model: LoadedModel, *, name: str, about: dict[str, str], input_type: str
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
        dtype=str(_PIXEL_DTYPES[input_type]).removeprefix("torch."),
        outputs=", ".join(graph.names) + ("" if model.classes else ","),
        names=list(graph.names),
        show=show,
    )


def _publish(staging: Path, out: Path) -> list[Path]:
    """Move what was written to its place, `out` last; remove what an earlier export left under these names."""
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
