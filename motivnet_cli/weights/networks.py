"""The weights room: checkpoints in, networks with their weights out, and checkpoints rewritten for the store.

It knows tensors by name, networks and their sizes; no file format, no model of the catalogue, no recipe, no device.
Parameters stay mapped to their file: replacing it during a run can kill the run.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn, TypeVar

import torch

from motivnet_cli.durable import sha256_of
from motivnet_cli.errors import WeightsError
from motivnet_cli.model import ExpressionNet, MotivNet, MotivNetSizes, SapiensEmbedder, SapiensSizes
from motivnet_cli.records import EMOTIONS
from motivnet_cli.weights.checkpoint import read_checkpoint, some_of, unreadable, write_safetensors

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from contextlib import AbstractContextManager

    from torch import Tensor

    from motivnet_cli.weights.checkpoint import Checkpoint, StrPath

log = logging.getLogger(__name__)

STORED_FORMAT = "motivnet-1"
"""The `format` in the metadata of what `convert` writes: our names, float32."""

# Our module or parameter -> its name in the published checkpoint; {n} is the number of a block or layer.
_CHECKPOINT_NAMES = {
    "encoder.patch_embed": "pose_encoder.projection",
    "encoder.position": "pose_encoder.pos_embed",
    "encoder.blocks.{n}.norm1": "pose_encoder.layers.{n}.ln1",
    "encoder.blocks.{n}.attention.qkv": "pose_encoder.layers.{n}.attn.qkv",
    "encoder.blocks.{n}.attention.out": "pose_encoder.layers.{n}.attn.proj",
    "encoder.blocks.{n}.norm2": "pose_encoder.layers.{n}.ln2",
    "encoder.blocks.{n}.mlp.up": "pose_encoder.layers.{n}.ffn.layers.0.0",
    "encoder.blocks.{n}.mlp.down": "pose_encoder.layers.{n}.ffn.layers.1",
    "encoder.norm": "pose_encoder.ln1",
    "head.embed": "decoder.decoder.embed_standart",
    "head.queries": "decoder.decoder.query_embed.weight",
    "head.layers.{n}.norm1": "decoder.decoder.layers.{n}.norm1",
    "head.layers.{n}.attention.qkv.weight": "decoder.decoder.layers.{n}.self_attn.in_proj_weight",
    "head.layers.{n}.attention.qkv.bias": "decoder.decoder.layers.{n}.self_attn.in_proj_bias",
    "head.layers.{n}.attention.out": "decoder.decoder.layers.{n}.self_attn.out_proj",
    "head.layers.{n}.norm2": "decoder.decoder.layers.{n}.norm2",
    "head.layers.{n}.up": "decoder.decoder.layers.{n}.linear1",
    "head.layers.{n}.down": "decoder.decoder.layers.{n}.linear2",
    "head.layers.{n}.norm3": "decoder.decoder.layers.{n}.norm3",
    "head.class_weight": "decoder.decoder.duplicate_pooling",
    "head.class_bias": "decoder.decoder.duplicate_pooling_bias",
}
# How relatives of the published checkpoint spell the same names.
_OTHER_SPELLINGS = {"patch_embed.projection.": "projection.", ".multihead_attn.": ".self_attn."}
_WRAPPER_PREFIXES = ("model.", "module.")
_ENCODER, _DECODER = "pose_encoder.", "decoder.decoder."
# Where the Sapiens encoder lies: in MotivNet, in Sapiens' own checkpoints, and saved alone.
_ENCODER_PREFIXES = (_ENCODER, "backbone.", "")
# What may lie beside an encoder without a prefix of its own.
_OTHER_PARTS = ("head.", "neck.", "decode_head.", "data_preprocessor.")
# Tensors that tell the sizes of a network, with their number of dimensions.
_TELLING_ENCODER = {
    f"{_ENCODER}projection.weight": 4,
    f"{_ENCODER}pos_embed": 3,
    f"{_ENCODER}layers.0.ffn.layers.0.0.weight": 2,
}
_TELLING_DECODER = {
    f"{_DECODER}embed_standart.weight": 2,
    f"{_DECODER}layers.0.linear1.weight": 2,
    f"{_DECODER}duplicate_pooling": 3,
}

_CLASSES_BY_COUNT = {7: EMOTIONS, 8: (*EMOTIONS, "contempt")}
_HEAD_WIDTH = 64
_PATCH = 16
_GRID_UNIT = (4, 3)

_NetworkT = TypeVar("_NetworkT", bound=SapiensEmbedder)


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """What `convert` wrote."""

    kind: Literal["motivnet", "sapiens"]
    sizes: SapiensSizes
    """Of a MotivNet, `MotivNetSizes`."""
    num_tensors: int
    num_parameters: int
    num_ignored: int
    """Tensors of the source that were left out: other parts of a Sapiens checkpoint, such as its pose head."""
    dtypes: tuple[str, ...]
    """Of the source, such as `float32`, in alphabetical order."""
    size_bytes: int
    sha256: str


def load_checkpoint(path: StrPath) -> MotivNet:
    """A MotivNet with the weights of a `.pth` or `.safetensors` file: float32, eval mode, no gradients.

    Sizes are read from the tensors, so variants of another width, depth or number of classes load too. A
    safetensors file may say `heads`, `decoder_heads`, `height`, `width` (input pixels) and `classes` (names
    with commas between) in its metadata; else a head is 64 numbers wide, the decoder has 8 heads and the
    token grid is 4:3. Parameters that are float32 in the file stay mapped to it: nothing is copied.

    Raises:
        WeightsError: The file is missing or damaged, wants to run code, or holds another network; the message
            says which, and names the tensors that differ.
    """
    checkpoint = read_checkpoint(path)
    network, names = _fit_motivnet(checkpoint)
    return _filled(network, names, checkpoint)


def load_encoder(path: StrPath) -> SapiensEmbedder:
    """The Sapiens encoder of a `.pth` or `.safetensors` file: float32, eval mode, no gradients.

    The file may hold the encoder alone, a whole MotivNet, or another network on it, such as the published pose
    estimator, as long as it has no class token; what is not the encoder is ignored. Otherwise as
    `load_checkpoint`.

    Raises:
        WeightsError: As `load_checkpoint`.
    """
    checkpoint = read_checkpoint(path)
    network, names = _fit_encoder(checkpoint)
    if num_ignored := len(checkpoint.tensors) - len(names):
        log.info("%s: took the %d tensors of the encoder and ignored %d others", path, len(names), num_ignored)
    return _filled(network, names, checkpoint)


def convert(source: StrPath, destination: Path, *, metadata: Mapping[str, str]) -> Converted:
    """Rewrite a checkpoint as safetensors under our own names, in float32, as the model store keeps it.

    The file says its sizes and classes in its metadata, so it loads without a guess: with `load_checkpoint` if the
    source holds a MotivNet, else with `load_encoder`. One tensor after another is copied: of a source that can be
    mapped, no more than 128 MiB and one tensor are in memory. The file is synced to the disk.

    Args:
        destination: Another file than the source; it is written in place, and left as it is after an error.
        metadata: To be kept beside ours, which wins where the keys are the same.

    Raises:
        WeightsError: As `load_checkpoint`, or the source was changed meanwhile.
        OSError: The destination cannot be written, or the disk is full.
    """
    checkpoint = read_checkpoint(source)
    is_motivnet = any(name.startswith(_DECODER) for name in _published_names(checkpoint.tensors))
    network, names = _fit_motivnet(checkpoint) if is_motivnet else _fit_encoder(checkpoint)
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    dtypes = {str(checkpoint.tensors[theirs].dtype).removeprefix("torch.") for theirs in names.values()}
    num_ignored = len(checkpoint.tensors) - len(names)
    tensors = checkpoint.stream(names[ours] for ours in shapes)
    sha256 = write_safetensors(destination, tensors, shapes=shapes, metadata={**metadata, **_metadata_of(network)})
    return Converted(
        kind="motivnet" if is_motivnet else "sapiens",
        sizes=network.sizes,
        num_tensors=len(shapes),
        num_parameters=sum(math.prod(shape) for shape in shapes.values()),
        num_ignored=num_ignored,
        dtypes=tuple(sorted(dtypes)),
        size_bytes=destination.stat().st_size,
        sha256=sha256,
    )


def load_expression_net() -> ExpressionNet:
    """The small network inside the package: float32, eval mode, no gradients."""
    with embedded_weights() as path:
        checkpoint = read_checkpoint(path)
        with torch.device("meta"):
            network = ExpressionNet(classes=tuple(checkpoint.metadata["classes"].split(",")))
        state = {name: tensor.float() for name, tensor in checkpoint.tensors.items()}
    network.load_state_dict(state, strict=True, assign=True)
    # Depthwise convolutions run several times faster on a CPU with the channels last (benchmarks/README.md).
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def embedded_weights() -> AbstractContextManager[Path]:
    """The weights file of `load_expression_net`, as a path that is good inside the `with`."""
    return resources.as_file(resources.files("motivnet_cli") / "assets" / "expression.safetensors")


def file_sha256(path: StrPath) -> str:
    """The SHA-256 of a weights file in hexadecimal.

    Raises:
        WeightsError: The file cannot be read.
    """
    try:
        return sha256_of(Path(path))
    except OSError as error:
        raise unreadable(path, error) from error


def _fit_motivnet(checkpoint: Checkpoint) -> tuple[MotivNet, dict[str, str]]:
    """The MotivNet that a checkpoint holds, on the meta device, and the file's name for each of its parameters."""
    published = _published_names(checkpoint.tensors)
    tensors = {name: checkpoint.tensors[own] for name, own in published.items()}
    try:
        sizes = _motivnet_sizes(tensors, checkpoint.metadata)
        classes = _class_names(sizes.num_classes, checkpoint.metadata)
        with torch.device("meta"):
            network = MotivNet(sizes, classes=classes)
        return network, _matched(network, tensors, published)
    except WeightsError as error:
        raise WeightsError(f"{checkpoint.path} is not a MotivNet checkpoint: {error}") from error


def _fit_encoder(checkpoint: Checkpoint) -> tuple[SapiensEmbedder, dict[str, str]]:
    """The encoder that a checkpoint holds, on the meta device, and the file's name for each of its parameters."""
    try:
        published = _encoder_names(_published_names(checkpoint.tensors))
        tensors = {name: checkpoint.tensors[own] for name, own in published.items()}
        with torch.device("meta"):
            network = SapiensEmbedder(_encoder_sizes(tensors, checkpoint.metadata))
        return network, _matched(network, tensors, published)
    except WeightsError as error:
        raise WeightsError(f"{checkpoint.path} holds no Sapiens encoder that can be used: {error}") from error


def _matched(network: SapiensEmbedder, tensors: dict[str, Tensor], published: dict[str, str]) -> dict[str, str]:
    """The file's name for each parameter of the network, if the tensors are exactly its own."""
    shapes = {checkpoint_name(ours): tuple(tensor.shape) for ours, tensor in network.state_dict().items()}
    _check_tensors(tensors, shapes)
    return {ours: published[checkpoint_name(ours)] for ours in network.state_dict()}


def _filled(network: _NetworkT, names: dict[str, str], checkpoint: Checkpoint) -> _NetworkT:
    # One at a time, so that a file of another dtype never lies in memory twice.
    state = {ours: checkpoint.tensors.pop(theirs).float() for ours, theirs in names.items()}
    network.load_state_dict(state, strict=True, assign=True)
    return network.eval().requires_grad_(False)


def _metadata_of(network: SapiensEmbedder) -> dict[str, str]:
    """What its tensors do not tell of a network, as `load_checkpoint` and `load_encoder` read it."""
    said = {
        "format": STORED_FORMAT,
        "heads": str(network.sizes.heads),
        "height": str(network.input_height),
        "width": str(network.input_width),
    }
    if isinstance(network, MotivNet):
        said |= {"decoder_heads": str(network.sizes.decoder_heads), "classes": ",".join(network.classes)}
    return said


def _published_names(own_names: Iterable[str]) -> dict[str, str]:
    """The names of a file by those of the published checkpoint, as far as they are relatives of those, or ours."""
    own = list(own_names)
    prefix = next((each for each in _WRAPPER_PREFIXES if own and all(name.startswith(each) for name in own)), "")
    unwrapped = {name.removeprefix(prefix): name for name in own}
    published: dict[str, str] = {}
    for name, full_name in unwrapped.items():
        spelled = _respelled(name)
        taken = spelled in unwrapped or spelled in published
        published[name if taken else spelled] = full_name
    return published


def _respelled(name: str) -> str:
    try:
        return checkpoint_name(name)
    except KeyError:
        for other, published in _OTHER_SPELLINGS.items():
            name = name.replace(other, published)
        return name


def checkpoint_name(ours: str) -> str:
    """The published checkpoint's name for one of our parameters.

    Raises:
        KeyError: None of ours is named so.
    """
    number = re.search(r"\.(\d+)\.", ours)
    name = re.sub(r"\.\d+\.", ".{n}.", ours)
    stem, _, leaf = name.rpartition(".")
    theirs = _CHECKPOINT_NAMES.get(name) or f"{_CHECKPOINT_NAMES[stem]}.{leaf}"
    return theirs.replace("{n}", number[1]) if number else theirs


def _encoder_names(published: dict[str, str]) -> dict[str, str]:
    """Of all names, those of the encoder, as they are in the published checkpoint.

    Raises:
        WeightsError: There is no encoder.
    """
    for prefix in _ENCODER_PREFIXES:
        if f"{prefix}pos_embed" in published or f"{prefix}projection.weight" in published:
            return {
                _ENCODER + name.removeprefix(prefix): own
                for name, own in published.items()
                if name.startswith(prefix) and not name.startswith(_OTHER_PARTS)
            }
    looked_for = ", ".join(f"`{prefix}pos_embed`" for prefix in _ENCODER_PREFIXES)
    raise WeightsError(f"none of its tensors is named {looked_for}; it holds {_holds(list(published.values()))}")


def _motivnet_sizes(tensors: dict[str, Tensor], metadata: dict[str, str]) -> MotivNetSizes:
    """The sizes that the tensors and the metadata tell.

    Raises:
        WeightsError: They do not tell, or contradict each other.
    """
    if not any(name.startswith(_DECODER) for name in tensors):
        _refuse_headless(tensors)
    shapes = _telling_shapes(tensors, _TELLING_ENCODER | _TELLING_DECODER)
    width = shapes[f"{_DECODER}embed_standart.weight"][0]
    return MotivNetSizes(
        **dataclasses.asdict(_encoder_sizes(tensors, metadata)),
        decoder_width=width,
        decoder_depth=_count_layers(tensors, f"{_DECODER}layers."),
        decoder_heads=_heads(width, said=_number(metadata, "decoder_heads"), default=8, key="decoder_heads"),
        decoder_ffn=shapes[f"{_DECODER}layers.0.linear1.weight"][0],
        num_classes=shapes[f"{_DECODER}duplicate_pooling"][0],
    )


def _encoder_sizes(tensors: dict[str, Tensor], metadata: dict[str, str]) -> SapiensSizes:
    """As `_motivnet_sizes`, of the encoder alone."""
    shapes = _telling_shapes(tensors, _TELLING_ENCODER)
    width = shapes[f"{_ENCODER}projection.weight"][0]
    grid_height, grid_width = _token_grid(shapes[f"{_ENCODER}pos_embed"][1], metadata)
    return SapiensSizes(
        width=width,
        depth=_count_layers(tensors, f"{_ENCODER}layers."),
        heads=_heads(width, said=_number(metadata, "heads"), default=width / _HEAD_WIDTH, key="heads"),
        mlp=shapes[f"{_ENCODER}layers.0.ffn.layers.0.0.weight"][0],
        grid_height=grid_height,
        grid_width=grid_width,
        patch=_PATCH,
    )


def _telling_shapes(tensors: dict[str, Tensor], telling: dict[str, int]) -> dict[str, tuple[int, ...]]:
    wrong = [
        f"{name} {tuple(tensors[name].shape) if name in tensors else '(missing)'}"
        for name, dims in telling.items()
        if name not in tensors or tensors[name].dim() != dims
    ]
    if wrong:
        raise WeightsError(
            f"{len(wrong)} of the {len(telling)} tensors that tell its sizes are missing or misshapen: "
            f"{some_of(wrong)}; it holds {_holds(list(tensors))}"
        )
    return {name: tuple(tensors[name].shape) for name in telling}


def _refuse_headless(tensors: dict[str, Tensor]) -> NoReturn:
    if any(re.search(r"(^|\.)layers\.\d+\.attn\.qkv\.weight$", name) for name in tensors):
        raise WeightsError(
            f"it is a Sapiens encoder without MotivNet's emotion head ({len(tensors)} tensors, none of "
            "`decoder.decoder.*`), so it can name no emotion: use MotivNet.pth, which holds both"
        )
    raise WeightsError(f"none of its tensors is named `decoder.decoder.*`; it holds {_holds(list(tensors))}")


def _count_layers(tensors: dict[str, Tensor], prefix: str) -> int:
    # Different numbers, not the highest: a gap then shows as missing, and a mad number builds nothing.
    return len({name.removeprefix(prefix).split(".")[0] for name in tensors if name.startswith(prefix)})


def _heads(width: int, *, said: int | None, default: float, key: str) -> int:
    heads = default if said is None else said
    if heads < 1 or heads != int(heads) or width % heads:
        raise WeightsError(
            f"{heads:g} attention heads do not divide its width {width}: the file must say `{key}` in its "
            "metadata, which only safetensors has"
        )
    return int(heads)


def _token_grid(tokens: int, metadata: dict[str, str]) -> tuple[int, int]:
    """Rows and columns of the token grid."""
    height, width = _number(metadata, "height"), _number(metadata, "width")
    if height is not None and width is not None:
        rows, columns = height // _PATCH, width // _PATCH
        if rows * columns != tokens:
            raise WeightsError(
                f"its metadata says {height} x {width} pixels, which are {rows * columns} patches, but its "
                f"position table has {tokens}"
            )
        return rows, columns
    unit = math.isqrt(tokens // math.prod(_GRID_UNIT))
    if not unit or unit**2 * math.prod(_GRID_UNIT) != tokens:
        raise WeightsError(
            f"its position table has {tokens} tokens, which make no grid of 4:3: the file must say `height` "
            "and `width` in its metadata, which only safetensors has"
        )
    return _GRID_UNIT[0] * unit, _GRID_UNIT[1] * unit


def _number(metadata: dict[str, str], key: str) -> int | None:
    if key not in metadata:
        return None
    if not re.fullmatch(r"[1-9]\d{0,8}", metadata[key]):
        raise WeightsError(f"its metadata `{key}` must be a whole number above 0, got {metadata[key]!r}")
    return int(metadata[key])


def _class_names(count: int, metadata: dict[str, str]) -> tuple[str, ...]:
    said = metadata.get("classes", "")
    # A bare number there is a count, as in the golden file, and says nothing that the tensors do not.
    if said and not said.strip().isdigit():
        names = tuple(name.strip() for name in said.split(","))
        if len(names) != count or len(set(names)) != count or "" in names:
            raise WeightsError(f"its metadata `classes` must be {count} different names, got {said!r}")
        return names
    if count not in _CLASSES_BY_COUNT:
        raise WeightsError(
            f"it has {count} classes, and only 7 and 8 have known names: the file must name them in its "
            "metadata `classes` (commas between), which only safetensors has"
        )
    return _CLASSES_BY_COUNT[count]


def _check_tensors(tensors: dict[str, Tensor], expected: dict[str, tuple[int, ...]]) -> None:
    """Refuse tensors that are not exactly the expected ones.

    Raises:
        WeightsError: Names some that are missing, unexpected, of another shape, or not of a float type.
    """
    missing = [f"{name} {shape}" for name, shape in expected.items() if name not in tensors]
    unexpected = [f"{name} {tuple(tensors[name].shape)}" for name in tensors if name not in expected]
    common = [(name, tensors[name], shape) for name, shape in expected.items() if name in tensors]
    misshapen = [
        f"{name} {tuple(tensor.shape)} where {shape} was expected"
        for name, tensor, shape in common
        if tensor.shape != shape
    ]
    not_float = [f"{name} {tensor.dtype}" for name, tensor, _ in common if not tensor.is_floating_point()]
    groups = {
        "missing": missing,
        "unexpected": unexpected,
        "misshapen": misshapen,
        "not of a float type": not_float,
    }
    found = [f"{len(names)} {label}: {some_of(names)}" for label, names in groups.items() if names]
    if found:
        raise WeightsError(f"of the {len(expected)} tensors of its kind, {'; '.join(found)}")


def _holds(names: list[str]) -> str:
    return f"{len(names)} tensors ({some_of(names)})" if names else "no tensors"
