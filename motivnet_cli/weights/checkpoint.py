"""The checkpoint room: a file of weights in, named tensors out; and the way back, as float32 safetensors.

It knows no network, no tensor by name and no device. A file is judged by its first bytes, never by its name,
and may never run code. Where the format allows, tensors stay mapped to the file: replacing it can kill the process.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import pickle
import re
import warnings
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from motivnet_cli.errors import WeightsError, first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

StrPath: TypeAlias = "str | os.PathLike[str]"

_MAX_MAPPED_BYTES = 128 << 20
"""Of the source, that `Checkpoint.stream` lets gather. More is no faster; 32 MiB took a quarter longer."""

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


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Checkpoint:
    """The named tensors of one file."""

    path: Path
    tensors: dict[str, Tensor]
    """On the CPU, in the dtypes of the file."""
    metadata: dict[str, str]
    """What a safetensors file says beside its tensors; empty for the others."""
    _is_mapped: bool
    _version: tuple[int, ...]
    """Changes when the file does."""

    def stream(self, names: Iterable[str]) -> Iterator[Tensor]:
        """These tensors, one after another, each once; this checkpoint is used up by it.

        Mapped pages count as memory of the process once they were read, and nothing takes them back while there
        is room: so the file is opened anew every 128 MiB, which drops them. Of a file that cannot be mapped, each
        tensor is let go once it was given.

        Raises:
            WeightsError: The file was changed meanwhile.
        """
        num_bytes = 0
        for name in names:
            if num_bytes > _MAX_MAPPED_BYTES and self._is_mapped:
                num_bytes = 0
                self.tensors.clear()
                again = read_checkpoint(self.path)
                if again._version != self._version:
                    raise WeightsError(f"{self.path} was changed while it was read: try again when it is whole")
                self.tensors.update(again.tensors)
            tensor = self.tensors.pop(name)
            num_bytes += tensor.nbytes
            yield tensor


def read_checkpoint(path: StrPath) -> Checkpoint:
    """The tensors of a `.pth` or `.safetensors` file, without a copy where they can be mapped.

    Of a training checkpoint only the `state_dict` is kept. Metadata of well-known types beside it is skipped
    without being built; a pickle that asks for anything else is refused.

    Raises:
        WeightsError: The file is missing or damaged, wants to run code, or holds something else; the message says
            which.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            head = file.read(512)
            status = os.fstat(file.fileno())
    except OSError as error:
        raise unreadable(path, error) from error
    metadata: dict[str, str] = {}
    is_mapped = True
    if not head:
        raise _not_weights(path, "it is empty (0 bytes): download it again")
    if head.startswith(b"PK\x03\x04"):
        _check_zip(path)
        # Mapping needs a name, and by a name in .safetensors torch.load would choose the other format.
        is_mapped = not path.name.endswith(".safetensors")
        tensors = _read_pickle(path, mmap=is_mapped)
    elif head[8:9] == b"{":
        tensors, metadata = _read_safetensors(path, size=status.st_size)
    elif re.match(rb"\x80[\x00-\x05]", head):
        is_mapped = False
        tensors = _read_pickle(path, mmap=False)
    else:
        raise _not_weights(path, f"it is {_describe(head)}")
    version = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    return Checkpoint(path=path, tensors=tensors, metadata=metadata, _is_mapped=is_mapped, _version=version)


def write_safetensors(
    path: Path, tensors: Iterable[Tensor], *, shapes: Mapping[str, tuple[int, ...]], metadata: Mapping[str, str]
) -> str:
    """Write tensors as one float32 safetensors file, synced to the disk; returns its SHA-256 in hexadecimal.

    Tensors may come from a generator and are let go as soon as they are written. safetensors' own `save_file`
    wants all of them at once and keeps every page that it reads: 805 MB of mapped tensors raised the peak by
    805 MB (safetensors 0.8).

    Args:
        path: Overwritten if it is there; after an error, what was written so far is left.
        tensors: As many as `shapes`, in its order and of these shapes, of any float type.
        shapes: By name.

    Raises:
        OSError: The file cannot be written, or the disk is full.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the numbers lie aligned in a mapping
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for piece in (len(text).to_bytes(8, "little"), text):
            digest.update(piece)
            file.write(piece)
        for shape, tensor in zip(shapes.values(), tensors, strict=True):
            assert tensor.shape == shape, f"{tuple(tensor.shape)} was announced as {shape}"
            numbers = tensor.detach().float().contiguous().numpy().astype("<f4", copy=False).data
            digest.update(numbers)
            file.write(numbers)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _check_zip(path: Path) -> None:
    """Refuse a zip that is cut short or is not torch's."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            is_packed = any(each.compress_type != zipfile.ZIP_STORED for each in archive.infolist())
    except zipfile.BadZipFile as error:
        reason = "it is cut short or damaged (a zip without its directory, which comes last): download it again"
        raise _not_weights(path, reason) from error
    parts = {name.split("/", 1)[-1] for name in names}
    if "constants.pkl" in parts:
        raise _not_weights(path, "it is a TorchScript program, which holds code: save its state_dict instead")
    if "data.pkl" not in parts:
        shown = some_of(names) or "nothing"
        raise _not_weights(path, f"it is a zip archive that torch.save did not make, with {shown} inside")
    if is_packed:
        # Mapped, compressed bytes would be taken for numbers, and nothing would notice.
        raise _not_weights(path, "it was zipped anew, with compression: use the file as torch.save made it")


def _read_pickle(path: Path, *, mmap: bool) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_STAND_INS), path.open("rb") as file:
            warnings.simplefilter("ignore")  # of pickle protocols that it then refuses
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
        reason = f"it is cut short or damaged ({first_line(error)}): download it again"
        raise _not_weights(path, reason) from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict):
        raise _not_weights(path, f"it holds a {type(content).__name__} where a dict of tensors was expected")
    others = [f"{name!r} ({type(value).__name__})" for name, value in content.items() if not _is_entry(name, value)]
    if others:
        reason = f"it holds {len(others)} entries that are not named tensors: {some_of(others)}"
        raise _not_weights(path, reason)
    return dict(content)


class _StandIn:
    """Takes the place of a type that metadata is made of: whatever it is called with, nothing happens."""

    def __new__(cls, *_: object) -> _StandIn:
        return super().__new__(cls)

    def __setstate__(self, _: object) -> None:
        pass


class _StandInDict(_StandIn):
    """The same for a type of dict, which a pickle may fill item by item: torch allows that to OrderedDict alone."""

    def __new__(cls, *_: object) -> OrderedDict[Any, Any]:  # type: ignore[misc]
        return OrderedDict()


_PATHS = ("Path", "PosixPath", "PurePath", "PurePosixPath", "PureWindowsPath", "WindowsPath")
_METADATA_TYPES = (
    "mmengine.logging.history_buffer.HistoryBuffer",
    "numpy.ndarray",
    "numpy.dtype",
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    "argparse.Namespace",
    *(f"{module}.{name}" for module in ("pathlib", "pathlib._local") for name in _PATHS),
)
# What the pickles of mmengine (Sapiens) and of Lightning hold beside tensors. torch.load looks names up here and
# calls what it finds, so that neither these libraries nor anything under their names is ever imported or run.
_STAND_INS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (_StandInDict, "mmengine.config.config.ConfigDict"),
    *((type(name, (_StandIn,), {}), name) for name in _METADATA_TYPES),
]


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


def some_of(names: list[str]) -> str:
    """The first few of many names, for a message."""
    more = len(names) - _NAMED_AT_MOST
    return ", ".join(names[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")


def _not_weights(path: StrPath, reason: str) -> WeightsError:
    return WeightsError(f"{path} is not a checkpoint (.pth or .safetensors) that can be used: {reason}")


def unreadable(path: StrPath, error: OSError) -> WeightsError:
    """The error for a file that could not be opened or read."""
    if isinstance(error, FileNotFoundError):
        return WeightsError(f"no weights file is at {path}: check the name")
    if isinstance(error, IsADirectoryError):
        return WeightsError(f"{path} is a folder: name the weights file itself, such as MotivNet.pth")
    return WeightsError(f"the weights file {path} cannot be read: {error.strerror or error}")
