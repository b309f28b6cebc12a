"""Networks with their weights from checkpoint files, and checkpoints rewritten for the model store.

Knows tensor names, networks and their sizes; no file format, no recipe, no device, and of the catalogue the heads of
Sapiens alone.
Parameters are memory-mapped: overwriting the file in place during a run can crash the run.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import re
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Literal, NamedTuple, NoReturn

import torch

from motivnet_cli.catalogue import SAPIENS_SIZES
from motivnet_cli.errors import WeightsError
from motivnet_cli.model import ExpressionNet, MotivNet, MotivNetSizes, SapiensEmbedder, SapiensSizes
from motivnet_cli.records import EMOTIONS, is_class_name
from motivnet_cli.weights.checkpoint import first_few, read_checkpoint, write_safetensors
from motivnet_cli.weights.position_table import read_position_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from torch import Tensor

    from motivnet_cli.weights.checkpoint import Checkpoint
    from motivnet_cli.weights.file_hash import StrPath
    from motivnet_cli.weights.position_table import PositionTable

log = logging.getLogger(__name__)

STORED_FORMAT = "motivnet-1"
"""The `format` in the metadata of what `convert` writes: float32, under the names of `motivnet_cli.model`."""

# Module or parameter of `motivnet_cli.model` -> its name in the published checkpoint. {n} is the number of a block or
# layer.
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
# Spelling in variants of the published checkpoint -> spelling in the published one.
_OTHER_SPELLINGS = {"patch_embed.projection.": "projection.", ".multihead_attn.": ".self_attn."}
_WRAPPER_PREFIXES = ("model.", "module.")
_ENCODER, _DECODER = "pose_encoder.", "decoder.decoder."
_POSITION, _CLASS_TOKEN = "encoder.position", f"{_ENCODER}cls_token"
# Prefixes of the Sapiens encoder: in MotivNet, in checkpoints of Sapiens itself, and saved alone.
_ENCODER_PREFIXES = (_ENCODER, "backbone.", "")
# What may accompany an encoder that has no prefix.
_OTHER_PARTS = ("head.", "neck.", "decode_head.", "data_preprocessor.")
# Tensors from which the sizes of a network are read -> their number of dimensions.
_ENCODER_SIZE_TENSORS = {
    f"{_ENCODER}projection.weight": 4,
    f"{_ENCODER}pos_embed": 3,
    f"{_ENCODER}layers.0.ffn.layers.0.0.weight": 2,
}
_DECODER_SIZE_TENSORS = {
    f"{_DECODER}embed_standart.weight": 2,
    f"{_DECODER}layers.0.linear1.weight": 2,
    f"{_DECODER}duplicate_pooling": 3,
}

_EXPRESSION_NET_TENSOR = "blocks.0.conv0.weight"
"""Which no other network has."""

_CLASSES_BY_COUNT = {7: EMOTIONS, 8: (*EMOTIONS, "contempt")}
_HEADS_BY_WIDTH = {size.width: size.heads for size in SAPIENS_SIZES}
_HEAD_WIDTH = 64
"""Of an attention head of an encoder of another width, where the metadata does not give the number of heads."""
_PATCH = 16
"""Side of a patch in pixels, in every Sapiens encoder."""


class _Outline(NamedTuple):
    """What a checkpoint holds, before its numbers are read."""

    network: ExpressionNet | SapiensEmbedder
    """On the meta device."""
    names: dict[str, str]
    """The file's name for each parameter."""
    position: PositionTable | None = None
    """None of an ExpressionNet, which has none."""

    def prepare(self, parameter: str, tensor: Tensor) -> Tensor:
        """A tensor of the file as the network takes it, in its shape."""
        return self.position.fit(tensor) if self.position and parameter == _POSITION else tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """What `convert` wrote."""

    kind: Literal["motivnet", "sapiens", "expression-net"]
    sizes: SapiensSizes | None
    """Of a MotivNet, `MotivNetSizes`; None of an ExpressionNet, which has one size."""
    num_tensors: int
    num_parameters: int
    num_ignored: int
    """Tensors of the source that were left out: other parts of a Sapiens checkpoint, such as its pose head."""
    position_change: str
    """As `SapiensEmbedder.position_change`."""
    dtypes: tuple[str, ...]
    """Of the source, such as `float32`, in alphabetical order."""
    size_bytes: int
    """Of the written file."""
    sha256: str
    """Of the written file, in hexadecimal."""


def load_checkpoint(path: StrPath) -> MotivNet:
    """Load a MotivNet from a `.pth` or `.safetensors` file: float32, eval mode, without gradients, on the CPU.

    Sizes are read from the tensors, so variants of another width, depth or number of classes load too. What tensors
    do not show, a safetensors file may give in its metadata: `heads`, `decoder_heads`, `height` and `width` (input
    size in pixels) and `classes` (comma-separated names). By default the encoder has as many heads as the published
    one of its width, else heads of 64 numbers; the decoder has 8 heads, and the token grid has the proportions 4:3.
    Parameters that are float32 in the file are memory-mapped, not copied.

    Returns:
        A module that takes uint8 RGB faces [B, 3, H, W], 0 to 255, and returns (logits [B, C], embeddings [B, D]).

    Raises:
        WeightsError: The file is missing or damaged, would run code, or holds another network; the message says
            which, and names the tensors that differ.
    """
    checkpoint = read_checkpoint(path)
    network = _load_parameters(_build_motivnet(checkpoint), checkpoint)
    assert isinstance(network, MotivNet)
    return network


def load_network(path: StrPath, *, encoder_only: bool = False) -> ExpressionNet | SapiensEmbedder:
    """Load what a file holds, otherwise as `load_checkpoint`: a MotivNet if it has an emotion head, else the encoder.

    A file with the tensors of an ExpressionNet must name its classes in its metadata.

    The file of an encoder may hold it alone, or another network built on it, such as the published pose estimator.
    Tensors of other parts are ignored. Of an encoder as Sapiens was pretrained, for square pictures and with a class
    token, the position table is resized and the class token dropped (`weights.position_table`); the network's
    `position_change` says so.

    Args:
        encoder_only: Of a MotivNet, too, load the Sapiens encoder alone.

    Raises:
        WeightsError: As `load_checkpoint`.
    """
    checkpoint = read_checkpoint(path)
    found = _build(checkpoint, encoder_only=encoder_only)
    if num_ignored := len(checkpoint.tensors) - len(found.names):
        log.info("%s: loaded the %d tensors of the encoder and ignored %d others", path, len(found.names), num_ignored)
    if found.position and found.position.change:
        log.info("%s: its position table was made for other pictures: %s", path, found.position.change)
    return _load_parameters(found, checkpoint)


def outline(path: StrPath, *, encoder_only: bool = False) -> ExpressionNet | SapiensEmbedder:
    """The network that `load_network` loads, without its numbers: on torch's meta device.

    Raises:
        WeightsError: As `load_checkpoint`.
    """
    return _build(read_checkpoint(path), encoder_only=encoder_only).network


def convert(source: StrPath, destination: Path, *, metadata: Mapping[str, str]) -> Converted:
    """Rewrite a checkpoint as float32 safetensors under the names of `motivnet_cli.model`, for the model store.

    The new file's metadata holds its sizes and classes, so that `load_network` needs no defaults. Tensors are copied
    one at a time: of a source that can be mapped, at most 128 MiB and one tensor are in memory. The file is synced to
    disk.

    Args:
        source: A `.pth` or `.safetensors` file.
        destination: A file other than the source. After an error, a partial file may be left.
        metadata: Stored in the new file. Keys that this function sets win.

    Raises:
        WeightsError: As `load_checkpoint`, or the source changed while it was read.
        OSError: The destination cannot be written, or the disk is full.
    """
    checkpoint = read_checkpoint(source)
    found = _build(checkpoint, encoder_only=False)
    network, names = found.network, found.names
    shapes = {parameter: tuple(tensor.shape) for parameter, tensor in network.state_dict().items()}
    dtypes = {str(checkpoint.tensors[name].dtype).removeprefix("torch.") for name in names.values()}
    num_ignored = len(checkpoint.tensors) - len(names)
    streamed = checkpoint.stream(names[parameter] for parameter in shapes)
    tensors = (found.prepare(parameter, tensor) for parameter, tensor in zip(shapes, streamed, strict=True))
    sha256 = write_safetensors(destination, tensors, shapes=shapes, metadata={**metadata, **metadata_of(network)})
    return Converted(
        kind=kind_of(network),
        sizes=None if isinstance(network, ExpressionNet) else network.sizes,
        num_tensors=len(shapes),
        num_parameters=sum(math.prod(shape) for shape in shapes.values()),
        num_ignored=num_ignored,
        position_change="" if isinstance(network, ExpressionNet) else network.position_change,
        dtypes=tuple(sorted(dtypes)),
        size_bytes=destination.stat().st_size,
        sha256=sha256,
    )


def load_expression_net() -> ExpressionNet:
    """Load the small network that ships inside the package: float32, eval mode, without gradients, on the CPU."""
    with embedded_weights() as path:
        checkpoint = read_checkpoint(path)
        network = _load_parameters(_build_expression_net(checkpoint), checkpoint)
        assert isinstance(network, ExpressionNet)
        return network


def kind_of(network: ExpressionNet | SapiensEmbedder) -> Literal["motivnet", "sapiens", "expression-net"]:
    """The architecture of a network, as the catalogue calls it."""
    if isinstance(network, ExpressionNet):
        return "expression-net"
    return "motivnet" if isinstance(network, MotivNet) else "sapiens"


def embedded_weights() -> AbstractContextManager[Path]:
    """The weights file of `load_expression_net`, as a path that exists inside the `with` block."""
    return resources.as_file(resources.files("motivnet_cli") / "assets" / "expression.safetensors")


def _build(checkpoint: Checkpoint, *, encoder_only: bool) -> _Outline:
    """As `_build_motivnet` if there is an emotion head and it is wanted, as `_build_expression_net` if there is that
    network, else as `_build_encoder`."""
    if not encoder_only and _EXPRESSION_NET_TENSOR in checkpoint.tensors:
        return _build_expression_net(checkpoint)
    has_head = any(name.startswith(_DECODER) for name in _published_names(checkpoint.tensors))
    return _build_motivnet(checkpoint) if has_head and not encoder_only else _build_encoder(checkpoint)


def _build_motivnet(checkpoint: Checkpoint) -> _Outline:
    """The MotivNet that a checkpoint holds.

    Raises:
        WeightsError: It holds no MotivNet, or one with tensors missing, unexpected or misshapen.
    """
    published = _published_names(checkpoint.tensors)
    tensors = {name: checkpoint.tensors[file_name] for name, file_name in published.items()}
    try:
        sizes = _motivnet_sizes(tensors, checkpoint.metadata)
        classes = _class_names(sizes.num_classes, checkpoint.metadata)
        with torch.device("meta"):
            network = MotivNet(sizes, classes=classes)
        position = _position_table(tensors, checkpoint.metadata)
        _refuse_change(position)
        return _outlined(network, position, tensors, published, checkpoint.metadata)
    except WeightsError as error:
        raise WeightsError(f"{checkpoint.path} is not a MotivNet checkpoint: {error}") from error


def _refuse_change(position: PositionTable) -> None:
    if position.change:
        raise WeightsError(
            f"its position table has {position.num_rows} rows, where its input has {math.prod(position.grid)} tokens "
            f"({position.change}): only the table of an encoder alone is changed, since the emotion head knows the "
            "tokens that it was trained on"
        )


def _build_expression_net(checkpoint: Checkpoint) -> _Outline:
    """As `_build_motivnet`, for an ExpressionNet, whose tensors have the same names in its file."""
    # No number of classes has known names: those inside the package are in another order than MotivNet's.
    if "classes" not in checkpoint.metadata:
        raise WeightsError(
            f"{checkpoint.path} is an ExpressionNet that does not name its classes in its metadata `classes` (commas "
            "between)"
        )
    try:
        count = _shapes_of(checkpoint.tensors, {"fc.weight": 2})["fc.weight"][0]
        with torch.device("meta"):
            network = ExpressionNet(classes=_class_names(count, checkpoint.metadata))
        _check_tensors(checkpoint.tensors, {name: tuple(each.shape) for name, each in network.state_dict().items()})
        return _Outline(network, {name: name for name in network.state_dict()})
    except WeightsError as error:
        raise WeightsError(f"{checkpoint.path} is not an ExpressionNet checkpoint: {error}") from error


def _build_encoder(checkpoint: Checkpoint) -> _Outline:
    """As `_build_motivnet`, for the encoder alone."""
    try:
        published = _encoder_names(_published_names(checkpoint.tensors))
        tensors = {name: checkpoint.tensors[file_name] for name, file_name in published.items()}
        with torch.device("meta"):
            network = SapiensEmbedder(_encoder_sizes(tensors, checkpoint.metadata))
        position = _position_table(tensors, checkpoint.metadata)
        if position.has_class_token:
            tensors.pop(_CLASS_TOKEN, None)
        return _outlined(network, position, tensors, published, checkpoint.metadata)
    except WeightsError as error:
        raise WeightsError(f"{checkpoint.path} holds no Sapiens encoder that can be used: {error}") from error


def _outlined(
    network: SapiensEmbedder,
    position: PositionTable,
    tensors: dict[str, Tensor],
    published: dict[str, str],
    metadata: dict[str, str],
) -> _Outline:
    """The outline of a network.

    Args:
        tensors: By published name.
        published: Published name -> name in the file.

    Raises:
        WeightsError: The tensors are not exactly those of the network.
    """
    shapes = {checkpoint_name(parameter): tuple(tensor.shape) for parameter, tensor in network.state_dict().items()}
    shapes[checkpoint_name(_POSITION)] = (1, position.num_rows, network.sizes.width)
    _check_tensors(tensors, shapes)
    network.position_change = position.change or metadata.get("position_change", "")
    names = {parameter: published[checkpoint_name(parameter)] for parameter in network.state_dict()}
    return _Outline(network, names, position)


def _load_parameters(found: _Outline, checkpoint: Checkpoint) -> ExpressionNet | SapiensEmbedder:
    """Move the checkpoint's tensors into the network of the outline."""
    # One at a time, so that a file of another dtype is never in memory twice.
    state = {
        parameter: found.prepare(parameter, checkpoint.tensors.pop(name)).float()
        for parameter, name in found.names.items()
    }
    network = found.network
    network.load_state_dict(state, strict=True, assign=True)
    if isinstance(network, ExpressionNet):
        # Depthwise convolutions run several times faster on a CPU with the channels last (benchmarks/README.md).
        network.to(memory_format=torch.channels_last)
    return network.eval().requires_grad_(False)


def metadata_of(network: ExpressionNet | SapiensEmbedder) -> dict[str, str]:
    """What the tensors of a network do not show, as `load_network` reads it from the metadata of a file."""
    if isinstance(network, ExpressionNet):
        return {"format": STORED_FORMAT, "classes": ",".join(network.classes)}
    metadata = {
        "format": STORED_FORMAT,
        "heads": str(network.sizes.heads),
        "height": str(network.input_height),
        "width": str(network.input_width),
    }
    if network.position_change:
        metadata["position_change"] = network.position_change
    if isinstance(network, MotivNet):
        metadata |= {"decoder_heads": str(network.sizes.decoder_heads), "classes": ",".join(network.classes)}
    return metadata


def _published_names(file_names: Iterable[str]) -> dict[str, str]:
    """Name in the published checkpoint -> name in the file. Names that have no counterpart stand for themselves."""
    names = list(file_names)
    prefix = next((each for each in _WRAPPER_PREFIXES if names and all(name.startswith(each) for name in names)), "")
    unwrapped = {name.removeprefix(prefix): name for name in names}
    published: dict[str, str] = {}
    for name, file_name in unwrapped.items():
        candidate = _published_spelling(name)
        is_taken = candidate in unwrapped or candidate in published
        published[name if is_taken else candidate] = file_name
    return published


def _published_spelling(name: str) -> str:
    """The published name for a name of `motivnet_cli.model` or of a variant of the published checkpoint."""
    try:
        return checkpoint_name(name)
    except KeyError:
        for variant, published in _OTHER_SPELLINGS.items():
            name = name.replace(variant, published)
        return name


def checkpoint_name(parameter: str) -> str:
    """The published checkpoint's name for a parameter of `motivnet_cli.model.MotivNet`.

    Raises:
        KeyError: MotivNet has no such parameter.
    """
    number = re.search(r"\.(\d+)\.", parameter)
    pattern = re.sub(r"\.\d+\.", ".{n}.", parameter)
    stem, _, leaf = pattern.rpartition(".")
    name = _CHECKPOINT_NAMES.get(pattern) or f"{_CHECKPOINT_NAMES[stem]}.{leaf}"
    return name.replace("{n}", number[1]) if number else name


def _encoder_names(published: dict[str, str]) -> dict[str, str]:
    """The entries of `_published_names` that belong to the encoder, with MotivNet's prefix.

    Raises:
        WeightsError: There is no encoder.
    """
    for prefix in _ENCODER_PREFIXES:
        if f"{prefix}pos_embed" in published or f"{prefix}projection.weight" in published:
            return {
                _ENCODER + name.removeprefix(prefix): file_name
                for name, file_name in published.items()
                if name.startswith(prefix) and not name.startswith(_OTHER_PARTS)
            }
    looked_for = ", ".join(f"`{prefix}pos_embed`" for prefix in _ENCODER_PREFIXES)
    contents = _describe_names(list(published.values()))
    raise WeightsError(f"none of its tensors is named {looked_for}; it holds {contents}")


def _motivnet_sizes(tensors: dict[str, Tensor], metadata: dict[str, str]) -> MotivNetSizes:
    """The sizes of a MotivNet, from the shapes of its tensors and from the metadata.

    Raises:
        WeightsError: The sizes cannot be read, or tensors and metadata contradict each other.
    """
    if not any(name.startswith(_DECODER) for name in tensors):
        _raise_no_head(tensors)
    shapes = _shapes_of(tensors, _ENCODER_SIZE_TENSORS | _DECODER_SIZE_TENSORS)
    width = shapes[f"{_DECODER}embed_standart.weight"][0]
    return MotivNetSizes(
        **dataclasses.asdict(_encoder_sizes(tensors, metadata)),
        decoder_width=width,
        decoder_depth=_count_layers(tensors, f"{_DECODER}layers."),
        decoder_heads=_heads(width, given=_number(metadata, "decoder_heads"), default=8, key="decoder_heads"),
        decoder_ffn=shapes[f"{_DECODER}layers.0.linear1.weight"][0],
        num_classes=shapes[f"{_DECODER}duplicate_pooling"][0],
    )


def _encoder_sizes(tensors: dict[str, Tensor], metadata: dict[str, str]) -> SapiensSizes:
    """As `_motivnet_sizes`, for the encoder alone."""
    shapes = _shapes_of(tensors, _ENCODER_SIZE_TENSORS)
    width = shapes[f"{_ENCODER}projection.weight"][0]
    heads = _HEADS_BY_WIDTH.get(width, width / _HEAD_WIDTH)
    grid_height, grid_width = _position_table(tensors, metadata).grid
    return SapiensSizes(
        width=width,
        depth=_count_layers(tensors, f"{_ENCODER}layers."),
        heads=_heads(width, given=_number(metadata, "heads"), default=heads, key="heads"),
        mlp=shapes[f"{_ENCODER}layers.0.ffn.layers.0.0.weight"][0],
        grid_height=grid_height,
        grid_width=grid_width,
        patch=_PATCH,
    )


def _shapes_of(tensors: dict[str, Tensor], dimensions: dict[str, int]) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors named in `dimensions`.

    Raises:
        WeightsError: One is missing, or has another number of dimensions.
    """
    wrong = [
        f"{name} {tuple(tensors[name].shape) if name in tensors else '(missing)'}"
        for name, dims in dimensions.items()
        if name not in tensors or tensors[name].dim() != dims
    ]
    if wrong:
        raise WeightsError(
            f"{len(wrong)} of the {len(dimensions)} tensors that tell its sizes are missing or misshapen: "
            f"{first_few(wrong)}; it holds {_describe_names(list(tensors))}"
        )
    return {name: tuple(tensors[name].shape) for name in dimensions}


def _raise_no_head(tensors: dict[str, Tensor]) -> NoReturn:
    if any(re.search(r"(^|\.)layers\.\d+\.attn\.qkv\.weight$", name) for name in tensors):
        raise WeightsError(
            f"it is a Sapiens encoder without MotivNet's emotion head ({len(tensors)} tensors, none of "
            "`decoder.decoder.*`), so it can name no emotion: use MotivNet.pth, which holds both"
        )
    raise WeightsError(f"none of its tensors is named `decoder.decoder.*`; it holds {_describe_names(list(tensors))}")


def _count_layers(tensors: dict[str, Tensor], prefix: str) -> int:
    # The number of different indices, not the highest: a gap is then reported as missing tensors, and a file with one
    # absurd index does not make a huge network.
    return len({name.removeprefix(prefix).split(".")[0] for name in tensors if name.startswith(prefix)})


def _heads(width: int, *, given: int | None, default: float, key: str) -> int:
    """The number of attention heads: the one of the metadata, else the default.

    Raises:
        WeightsError: It does not divide the width.
    """
    heads = default if given is None else given
    if heads < 1 or heads != int(heads) or width % heads:
        raise WeightsError(
            f"{heads:g} attention heads do not divide its width {width}: the file must say `{key}` in its "
            "metadata, which only safetensors has"
        )
    return int(heads)


def _position_table(tensors: dict[str, Tensor], metadata: dict[str, str]) -> PositionTable:
    """What the position table of an encoder is for.

    Raises:
        WeightsError: As `read_position_table`.
    """
    height, width = _number(metadata, "height"), _number(metadata, "width")
    size = None if height is None or width is None else (height, width)
    return read_position_table(tensors[f"{_ENCODER}pos_embed"].shape[1], size=size, patch=_PATCH)


def _number(metadata: dict[str, str], key: str) -> int | None:
    """A positive integer of the metadata; None if it is not given.

    Raises:
        WeightsError: The value is anything else.
    """
    if key not in metadata:
        return None
    if not re.fullmatch(r"[1-9]\d{0,8}", metadata[key]):
        raise WeightsError(f"its metadata `{key}` must be a whole number above 0, got {metadata[key]!r}")
    return int(metadata[key])


def _class_names(count: int, metadata: dict[str, str]) -> tuple[str, ...]:
    """The names of the classes, from the metadata or for the known numbers of classes.

    Raises:
        WeightsError: The metadata gives other than `count` different names, or none for an unknown number.
    """
    given = metadata.get("classes", "")
    # A bare number is a count, as in the golden file, and adds nothing to the tensors.
    if given and not given.strip().isdigit():
        names = tuple(name.strip() for name in given.split(","))
        if len(names) != count or len(set(names)) != count or "" in names:
            raise WeightsError(f"its metadata `classes` must be {count} different names, got {given!r}")
        if bad := [name for name in names if not is_class_name(name)]:
            raise WeightsError(
                f"its metadata `classes` has {bad[0]!r}, which no class can be called: expected printable text that is "
                "no other column of the output"
            )
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
    found = [f"{len(names)} {label}: {first_few(names)}" for label, names in groups.items() if names]
    if found:
        raise WeightsError(f"of the {len(expected)} tensors of its kind, {'; '.join(found)}")


def _describe_names(names: list[str]) -> str:
    return f"{len(names)} tensors ({first_few(names)})" if names else "no tensors"
