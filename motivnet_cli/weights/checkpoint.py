"""Checkpoint files: read named tensors from `.pth` and `.safetensors`, write tensors as float32 safetensors.

Knows no network, no tensor by name and no device. The first bytes of a file decide how it is read, not its name, and
no code in it is ever run. Where the format allows, tensors are memory-mapped: overwriting the file in place while it
is in use can crash the process.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import pickle
import re
import struct
import threading
import warnings
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from motivnet_cli.errors import WeightsError, first_line
from motivnet_cli.weights.file_hash import changed, unreadable
from motivnet_cli.weights.training_record import TrainingRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from motivnet_cli.weights.file_hash import StrPath

_MAX_RESIDENT_BYTES = 128 << 20
"""Of mapped tensors, before `Checkpoint.stream` opens the file anew. More is no faster; 32 MiB took 25 % longer."""
_FETCHED_BYTES = 128 << 10
"""What is asked for at once: Linux reads no more for one call than a device's read-ahead, which is 128 KiB or more."""

# First bytes -> what such a file is, and what to do with it.
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
_MAX_NAMES_IN_MESSAGE = 5


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Checkpoint:
    """The named tensors of one file."""

    path: Path
    tensors: dict[str, Tensor]
    """On the CPU, in the dtypes of the file."""
    metadata: dict[str, str]
    """The metadata of a safetensors file; empty for other formats."""
    _is_mapped: bool
    _version: tuple[int, ...]
    """Changes when the file does."""

    def stream(self, names: Iterable[str]) -> Iterator[Tensor]:
        """Yield these tensors in order, each name once, and remove them from `tensors`.

        Mapped pages count as memory of the process once they have been read, until the system needs that memory. So
        the file is opened anew every 128 MiB, which drops them. Of a file that is not mapped, each tensor is freed
        when the caller drops it.

        Raises:
            WeightsError: The file changed while it was read.
        """
        num_bytes = 0
        for name in names:
            if num_bytes > _MAX_RESIDENT_BYTES and self._is_mapped:
                num_bytes = 0
                self.tensors.clear()
                again = read_checkpoint(self.path)
                if again._version != self._version:
                    raise changed(self.path)
                self.tensors.update(again.tensors)
            tensor = self.tensors.pop(name)
            num_bytes += tensor.nbytes
            yield tensor


def read_ahead(path: StrPath) -> None:
    """Have the system fetch a mapped file, from its first byte to its last, while the caller goes on.

    Mapped pages are otherwise fetched as they are used, each with a few of its neighbours, and whoever uses them waits.
    """
    if hasattr(os, "posix_fadvise"):
        threading.Thread(target=_fetch, args=(Path(path),), daemon=True).start()


def _fetch(path: Path) -> None:
    with contextlib.suppress(OSError), path.open("rb") as file:
        for start in range(0, os.fstat(file.fileno()).st_size, _FETCHED_BYTES):
            os.posix_fadvise(file.fileno(), start, _FETCHED_BYTES, os.POSIX_FADV_WILLNEED)


def read_checkpoint(path: StrPath) -> Checkpoint:
    """Read the tensors of a `.pth` or `.safetensors` file, memory-mapped where the format allows.

    Of a training checkpoint only the `state_dict` is kept. Metadata of well-known types beside it is skipped without
    being built. A pickle that needs any other type is refused.

    Raises:
        WeightsError: The file is missing or damaged, would run code, or holds something else; the message says which.
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
        # To map a file, torch.load needs its name, and it reads a name that ends in .safetensors as that format.
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


def read_training(path: StrPath) -> TrainingRecord | None:
    """How the model in a weights file was trained, as `Store.add` and exports write it; None where it says nothing.

    Raises:
        WeightsError: It says what this motivnet cannot read.
        OSError: The file cannot be read.
    """
    with Path(path).open("rb") as file:
        if file.read(9)[8:] != b"{":
            return None  # of another format, which has no metadata
    try:
        with safe_open(str(path), framework="pt") as opened:
            text = (opened.metadata() or {}).get("training")
    except (SafetensorError, *_DAMAGE_ERRORS):
        return None  # `read_checkpoint` says what is wrong with it
    try:
        return None if text is None else TrainingRecord.from_json(json.loads(text))
    except ValueError as error:
        raise WeightsError(
            f"the metadata of {path} do not say how it was trained ({error}), and so not how faces are prepared for "
            "it: a newer motivnet may have written them"
        ) from error


def write_safetensors(
    path: Path, tensors: Iterable[Tensor], *, shapes: Mapping[str, tuple[int, ...]], metadata: Mapping[str, str]
) -> str:
    """Write tensors as one float32 safetensors file, sync it to disk, and return its SHA-256 in hexadecimal.

    `tensors` may be a generator: each tensor is written before the next is asked for. safetensors' own `save_file`
    takes all of them at once and keeps every page that it reads: 805 MB of mapped tensors raised the peak memory by
    805 MB (safetensors 0.8).

    Args:
        path: Overwritten if it exists. After an error, a partial file is left.
        tensors: Of any float type, with the shapes of `shapes` and in its order.
        shapes: Name -> shape.
        metadata: Stored in the file's header.

    Raises:
        OSError: The file cannot be written, or the disk is full.
    """
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # aligns the numbers, which are mapped later
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for piece in (len(text).to_bytes(8, "little"), text):
            digest.update(piece)
            file.write(piece)
        for shape, tensor in zip(shapes.values(), tensors, strict=True):
            assert tensor.shape == shape, f"expected a tensor of shape {shape}, got {tuple(tensor.shape)}"
            numbers = tensor.detach().float().cpu().contiguous().numpy().astype("<f4", copy=False).data
            digest.update(numbers)
            file.write(numbers)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _check_zip(path: Path) -> None:
    """Refuse a zip file that torch.load would not read as it was written.

    Raises:
        WeightsError: It is truncated, compressed, a TorchScript program, or not from torch.save.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            is_compressed = any(each.compress_type != zipfile.ZIP_STORED for each in archive.infolist())
    except (zipfile.BadZipFile, *_DAMAGE_ERRORS) as error:
        reason = "it is cut short or damaged (a zip without its directory, which comes last): download it again"
        raise _not_weights(path, reason) from error
    parts = {name.split("/", 1)[-1] for name in names}
    if "constants.pkl" in parts:
        raise _not_weights(path, "it is a TorchScript program, which holds code: save its state_dict instead")
    if "data.pkl" not in parts:
        contents = first_few(names) or "nothing"
        raise _not_weights(path, f"it is a zip archive that torch.save did not make, with {contents} inside")
    if is_compressed:
        # torch.load would map the compressed bytes and take them for numbers.
        raise _not_weights(path, "it was zipped anew, with compression: use the file as torch.save made it")


def _read_pickle(path: Path, *, mmap: bool) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_STAND_INS), path.open("rb") as file:
            warnings.simplefilter("ignore")  # about pickle protocols, which it then refuses
            source = str(path) if mmap else file
            content = torch.load(source, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        # torch's own message explains how to run the code anyway, so it is neither shown nor chained.
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
    return _state_dict_in(content, path)


def _state_dict_in(content: object, path: Path) -> dict[str, Tensor]:
    """The named tensors of an unpickled file: the content itself, or its `state_dict`.

    Raises:
        WeightsError: It holds anything else.
    """
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict):
        raise _not_weights(path, f"it holds a {type(content).__name__} where a dict of tensors was expected")
    tensors = {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}
    others = [f"{name!r} ({type(value).__name__})" for name, value in content.items() if name not in tensors]
    if others:
        reason = f"it holds {len(others)} entries that are not named tensors: {first_few(others)}"
        raise _not_weights(path, reason)
    return tensors


class _StandIn:
    """Takes the place of a type that occurs in metadata. It accepts any arguments and any state, and ignores them."""

    def __new__(cls, *_: object) -> _StandIn:
        return super().__new__(cls)

    def __setstate__(self, _: object) -> None:
        pass


class _StandInDict(_StandIn):
    """The same for a dict type, which a pickle may fill item by item: torch allows that only for OrderedDict."""

    def __new__(cls, *_: object) -> OrderedDict[object, object]:  # type: ignore[misc]
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
# What checkpoints of mmengine (Sapiens) and Lightning hold beside tensors. torch.load calls the stand-in for each of
# these names, so that nothing under the name itself is imported or run.
_STAND_INS: list[Callable[..., object] | tuple[Callable[..., object], str]] = [
    (_StandInDict, "mmengine.config.config.ConfigDict"),
    *((type(name, (_StandIn,), {}), name) for name in _METADATA_TYPES),
]

# What torch.load raises, beside UnpicklingError, when bytes are missing or changed.
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
    MemoryError,  # a length asks for more than there is
    struct.error,
)


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
    except _DAMAGE_ERRORS as error:
        raise _not_weights(path, "its safetensors header is damaged: download it again") from error
    if size < needed:
        reason = f"it is cut short ({size} bytes where its header announces {needed}): download it again"
        raise _not_weights(path, reason)
    try:
        with safe_open(str(path), framework="pt", device="cpu") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata() or {}  # noqa: SIM118
    except (SafetensorError, *_DAMAGE_ERRORS) as error:
        reason = f"it is a damaged safetensors file ({first_line(error)[:200]}): download it again"
        raise _not_weights(path, reason) from error


def _describe(head: bytes) -> str:
    """What kind of file begins with these bytes, for the message that refuses it."""
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


def first_few(names: list[str]) -> str:
    """The first names of a list and how many more there are, for a message."""
    more = len(names) - _MAX_NAMES_IN_MESSAGE
    return ", ".join(names[:_MAX_NAMES_IN_MESSAGE]) + (f" and {more} more" if more > 0 else "")


def _not_weights(path: StrPath, reason: str) -> WeightsError:
    return WeightsError(f"{path} is not a checkpoint (.pth or .safetensors) that can be used: {reason}")
