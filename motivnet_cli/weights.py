"""The weights room: checkpoint files in, networks with their weights out.

It knows no model by name, no recipe and no device. A file is judged by its first bytes, never by its name,
and may never run code. Parameters stay mapped to the file: replacing it during a run can kill the run.
"""

from __future__ import annotations

import hashlib
import json
import math
import pickle
import re
import warnings
import zipfile
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from motivnet_cli.errors import WeightsError
from motivnet_cli.model import ExpressionNet, MotivNet, MotivNetSizes
from motivnet_cli.records import EMOTIONS

if TYPE_CHECKING:
    import os
    from contextlib import AbstractContextManager

StrPath: TypeAlias = "str | os.PathLike[str]"

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
_OTHER_SPELLINGS = {".patch_embed.projection.": ".projection.", ".multihead_attn.": ".self_attn."}
_WRAPPER_PREFIXES = ("model.", "module.")

_CLASSES_BY_COUNT = {7: EMOTIONS, 8: (*EMOTIONS, "contempt")}
_HEAD_WIDTH = 64
_PATCH = 16
_GRID_UNIT = (4, 3)

# First bytes -> what such a file is, and where it leads.
_FOREIGN_FILES = (
    (
        b"version https://git-lfs.github.com/spec/",
        "a Git LFS pointer, not the file it points to: run `git lfs pull` where it came from",
    ),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras?)"),
    (b"GGUF", "a GGUF file"),
    (b"\x1f\x8b", "a gzip archive: unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it first"),
    (b"Rar!", "a RAR archive: unpack it first"),
    (b"%PDF", "a PDF document"),
    (b"{", "JSON text (the answer of a server, or an index of other files)"),
)
_NAMED_AT_MOST = 5


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
    tensors, metadata = _read(Path(path))
    tensors = _with_published_names(tensors)
    try:
        sizes = _infer_sizes(tensors, metadata)
        classes = _class_names(sizes.num_classes, metadata)
        with torch.device("meta"):
            network = MotivNet(sizes, classes=classes)
        names = {ours: checkpoint_name(ours) for ours in network.state_dict()}
        expected = {names[ours]: tuple(tensor.shape) for ours, tensor in network.state_dict().items()}
        _check_tensors(tensors, expected)
    except WeightsError as error:
        raise WeightsError(f"{path} is not a MotivNet checkpoint: {error}") from error
    # One at a time, so that a file of another dtype never lies in memory twice.
    state = {ours: tensors.pop(theirs).float() for ours, theirs in names.items()}
    network.load_state_dict(state, strict=True, assign=True)
    return network.eval().requires_grad_(False)


def load_expression_net() -> ExpressionNet:
    """The small network inside the package: float32, eval mode, no gradients."""
    with embedded_weights() as path:
        tensors, metadata = _read(path)
        with torch.device("meta"):
            network = ExpressionNet(classes=tuple(metadata["classes"].split(",")))
        state = {name: tensor.float() for name, tensor in tensors.items()}
    network.load_state_dict(state, strict=True, assign=True)
    # Depthwise convolutions run several times faster on a CPU with the channels last (benchmarks/README.md).
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def embedded_weights() -> AbstractContextManager[Path]:
    """The weights file of `load_expression_net`, as a path that is good inside the `with`."""
    return resources.as_file(resources.files("motivnet_cli") / "assets" / "expression.safetensors")


def file_sha256(path: StrPath) -> str:
    """The SHA-256 of a file's bytes in hexadecimal, read in pieces of 1 MiB.

    Raises:
        WeightsError: The file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with Path(path).open("rb", buffering=0) as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
    except OSError as error:
        raise _unreadable(path, error) from error
    return digest.hexdigest()


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file by name, mapped where the format allows, and its metadata."""
    try:
        with path.open("rb") as file:
            head = file.read(512)
        size = path.stat().st_size
    except OSError as error:
        raise _unreadable(path, error) from error
    if not head:
        raise _not_weights(path, "it is empty (0 bytes): download it again")
    if head.startswith(b"PK\x03\x04"):
        _check_zip(path)
        return _read_pickle(path, mmap=True), {}
    if head[8:9] == b"{":
        return _read_safetensors(path, size=size)
    if re.match(rb"\x80[\x00-\x05]", head):
        return _read_pickle(path, mmap=False), {}
    raise _not_weights(path, f"it is {_describe(head)}")


def _check_zip(path: Path) -> None:
    """Refuse a zip that is cut short or is not torch's."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        reason = "it is cut short or damaged (a zip without its directory, which comes last): download it again"
        raise _not_weights(path, reason) from error
    parts = {name.split("/", 1)[-1] for name in names}
    if "constants.pkl" in parts:
        raise _not_weights(path, "it is a TorchScript program, which holds code: save its state_dict instead")
    if "data.pkl" not in parts:
        shown = _some(names) or "nothing"
        raise _not_weights(path, f"it is a zip archive that torch.save did not make, with {shown} inside")


def _read_pickle(path: Path, *, mmap: bool) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")  # of pickle protocols that it then refuses
            # Mapping needs a name, and by a name in .safetensors torch.load would choose the other format.
            mmap = mmap and not path.name.endswith(".safetensors")
            source = str(path) if mmap else file
            content = torch.load(source, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        # torch's own message advises how to run the code after all, so it is neither shown nor chained.
        if found := re.search(r"GLOBAL ([\w.]+)", str(error)):
            reason = (
                f"its pickle asks for `{found[1]}`, which is code and not weights, so it was refused and "
                "nothing of it ran: ask whoever made it for a bare state_dict or a .safetensors file"
            )
        else:
            reason = (
                "its pickle is damaged, or holds more than torch.save writes for tensors, so it was refused "
                "and nothing of it ran: download it again, or ask for a bare state_dict or a .safetensors file"
            )
        raise _not_weights(path, reason) from None
    except _DAMAGE_ERRORS as error:
        reason = f"it is cut short or damaged ({_first_line(error)}): download it again"
        raise _not_weights(path, reason) from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict):
        raise _not_weights(path, f"it holds a {type(content).__name__} where a dict of tensors was expected")
    others = [f"{name!r} ({type(value).__name__})" for name, value in content.items() if not _is_entry(name, value)]
    if others:
        reason = f"it holds {len(others)} entries that are not named tensors: {_some(others)}"
        raise _not_weights(path, reason)
    return dict(content)


# What torch.load raises, beside UnpicklingError, on files with bytes missing or changed.
_DAMAGE_ERRORS = (
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    OverflowError,
)


def _is_entry(name: object, value: object) -> bool:
    return isinstance(name, str) and isinstance(value, Tensor)


def _read_safetensors(path: Path, *, size: int) -> tuple[dict[str, Tensor], dict[str, str]]:
    with path.open("rb") as file:
        header_size = int.from_bytes(file.read(8), "little")
        if 8 + header_size > size:
            reason = f"it is cut short inside its header ({size} bytes, the header alone needs {8 + header_size})"
            raise _not_weights(path, f"{reason}: download it again")
        header = file.read(header_size)
    try:
        offsets = [each["data_offsets"][1] for name, each in json.loads(header).items() if name != "__metadata__"]
        needed = 8 + header_size + max(offsets, default=0)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise _not_weights(path, "its safetensors header is damaged: download it again") from error
    if size < needed:
        reason = f"it is cut short ({size} bytes where its header announces {needed}): download it again"
        raise _not_weights(path, reason)
    try:
        with safe_open(str(path), framework="pt", device="cpu") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise _not_weights(path, f"it is a damaged safetensors file ({error}): download it again") from error


def _describe(head: bytes) -> str:
    """What a file that is no checkpoint looks like, by its first bytes."""
    for magic, description in _FOREIGN_FILES:
        if head.startswith(magic):
            return description
    if head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"<":
        return (
            "an HTML or XML page, as share links give in place of the file: open the link in a browser, "
            "download the file itself, and name that"
        )
    # ModelProto of ONNX: field 1 (the IR version) as a varint, then producer, graph or opset.
    if head[0] == 0x08 and head[2:3] in (b"\x12", b"\x3a", b"\x42"):
        return "an ONNX model"
    if head[257:262] == b"ustar":
        return "a tar archive: unpack it first"
    return f"of an unknown kind (it begins with {head[:16]!r})"


def _with_published_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under the names of the published checkpoint, as far as they are relatives of those."""
    for prefix in _WRAPPER_PREFIXES:
        if tensors and all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
            break
    renamed = {}
    for name, tensor in tensors.items():
        spelled = name
        for other, published in _OTHER_SPELLINGS.items():
            spelled = spelled.replace(other, published)
        renamed[name if spelled in tensors else spelled] = tensor
    return renamed


def checkpoint_name(ours: str) -> str:
    """The published checkpoint's name for one of our parameters."""
    number = re.search(r"\.(\d+)\.", ours)
    name = re.sub(r"\.\d+\.", ".{n}.", ours)
    stem, _, leaf = name.rpartition(".")
    theirs = _CHECKPOINT_NAMES.get(name) or f"{_CHECKPOINT_NAMES[stem]}.{leaf}"
    return theirs.replace("{n}", number[1]) if number else theirs


def _infer_sizes(tensors: dict[str, Tensor], metadata: dict[str, str]) -> MotivNetSizes:
    """The sizes that the tensors and the metadata tell.

    Raises:
        WeightsError: They do not tell, or contradict each other.
    """
    encoder, decoder = "pose_encoder.", "decoder.decoder."
    if not any(name.startswith(decoder) for name in tensors):
        _refuse_headless(tensors)
    telling = {
        f"{encoder}projection.weight": 4,
        f"{encoder}pos_embed": 3,
        f"{encoder}layers.0.ffn.layers.0.0.weight": 2,
        f"{decoder}embed_standart.weight": 2,
        f"{decoder}layers.0.linear1.weight": 2,
        f"{decoder}duplicate_pooling": 3,
    }
    wrong = [
        f"{name} {tuple(tensors[name].shape) if name in tensors else '(missing)'}"
        for name, dims in telling.items()
        if name not in tensors or tensors[name].dim() != dims
    ]
    if wrong:
        raise WeightsError(
            f"{len(wrong)} of the {len(telling)} tensors that tell its sizes are missing or misshapen: "
            f"{_some(wrong)}; it holds {_holds(tensors)}"
        )
    shapes = {name: tuple(tensors[name].shape) for name in telling}
    width = shapes[f"{encoder}projection.weight"][0]
    tokens = shapes[f"{encoder}pos_embed"][1]
    decoder_width = shapes[f"{decoder}embed_standart.weight"][0]
    grid_height, grid_width = _token_grid(tokens, metadata)
    return MotivNetSizes(
        width=width,
        depth=_count_layers(tensors, f"{encoder}layers."),
        heads=_heads(width, said=_number(metadata, "heads"), default=width / _HEAD_WIDTH, key="heads"),
        mlp=shapes[f"{encoder}layers.0.ffn.layers.0.0.weight"][0],
        decoder_width=decoder_width,
        decoder_depth=_count_layers(tensors, f"{decoder}layers."),
        decoder_heads=_heads(decoder_width, said=_number(metadata, "decoder_heads"), default=8, key="decoder_heads"),
        decoder_ffn=shapes[f"{decoder}layers.0.linear1.weight"][0],
        num_classes=shapes[f"{decoder}duplicate_pooling"][0],
        grid_height=grid_height,
        grid_width=grid_width,
        patch=_PATCH,
    )


def _refuse_headless(tensors: dict[str, Tensor]) -> NoReturn:
    if any(re.search(r"(^|\.)layers\.\d+\.attn\.qkv\.weight$", name) for name in tensors):
        raise WeightsError(
            f"it is a Sapiens encoder without MotivNet's emotion head ({len(tensors)} tensors, none of "
            "`decoder.decoder.*`), so it can name no emotion: use MotivNet.pth, which holds both"
        )
    raise WeightsError(f"none of its tensors is named `decoder.decoder.*`; it holds {_holds(tensors)}")


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
    found = [f"{len(names)} {label}: {_some(names)}" for label, names in groups.items() if names]
    if found:
        raise WeightsError(f"of the {len(expected)} tensors of its kind, {'; '.join(found)}")


def _some(names: list[str]) -> str:
    more = len(names) - _NAMED_AT_MOST
    return ", ".join(names[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")


def _holds(tensors: dict[str, Tensor]) -> str:
    return f"{len(tensors)} tensors ({_some(list(tensors))})" if tensors else "no tensors"


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _not_weights(path: StrPath, reason: str) -> WeightsError:
    return WeightsError(f"{path} is not a checkpoint (.pth or .safetensors) that can be used: {reason}")


def _unreadable(path: StrPath, error: OSError) -> WeightsError:
    if isinstance(error, FileNotFoundError):
        return WeightsError(f"no weights file is at {path}: check the name")
    if isinstance(error, IsADirectoryError):
        return WeightsError(f"{path} is a folder: name the weights file itself, such as MotivNet.pth")
    return WeightsError(f"the weights file {path} cannot be read: {error.strerror or error}")
