"""Checkpoints: safetensors and torch's files, with pickles that would run code if anything let them."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from typing import TYPE_CHECKING

from tests.fuzz.mutate import json_text, json_value, raw, told

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from random import Random

CANARY = "canary"
"""A file by this name in the current folder says that code of a checkpoint was run."""


# ---- sound files ----


def safetensors() -> Iterator[bytes]:
    import torch
    from safetensors.torch import save

    yield save({"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(3)}, metadata={"format": "pt"})
    yield save({"h": torch.ones(4, 4, dtype=torch.bfloat16), "i": torch.arange(5)})


def pths() -> Iterator[bytes]:
    import torch

    tensors = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(3)}
    for content in (tensors, {"state_dict": tensors, "epoch": 3}):
        for is_zip in (True, False):
            file = io.BytesIO()
            torch.save(content, file, _use_new_zipfile_serialization=is_zip)
            yield file.getvalue()


# ---- mutators ----


def safetensors_file(rng: Random, data: bytes) -> bytes:
    (size,) = struct.unpack_from("<Q", data)
    header, rest = data[8 : 8 + size], data[8 + size :]
    choice = rng.random()
    if choice < 0.6:
        mutant = json.dumps(json_value(rng, json_value(rng, json.loads(header)))).encode("utf-8", "surrogatepass")
    elif choice < 0.8:
        mutant = json_text(rng, header)
    else:
        return raw(rng, data)
    length = len(mutant) if rng.random() < 0.9 else rng.choice((0, 1, len(mutant) - 1, 1 << 40, (1 << 64) - 1))
    return struct.pack("<Q", length) + mutant + rest


_COMMAND = f"touch {CANARY}".encode()
_CODE = (
    b"cposix\nsystem\n(S'" + _COMMAND + b"'\ntR.",
    b"cbuiltins\neval\n(S'open(\"" + CANARY.encode() + b'", "w")\'\ntR.',
    b"(S'" + _COMMAND + b"'\niposix\nsystem\n.",
    b"(cposix\nsystem\nS'" + _COMMAND + b"'\no.",
    b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c" + bytes([len(_COMMAND)]) + _COMMAND + b"\x85R.",
    b"ctorch\nload\n(S'" + CANARY.encode() + b"'\ntR.",
    b"ctorch.serialization\nload\n(tR.",
    b"cnumpy.core.multiarray\n_reconstruct\n(cposix\nsystem\n(I0\ntS'b'\ntR.",
    b"ccollections\nOrderedDict\n(tR(S'__class__'\ncposix\nsystem\ndb.",
    b"ctorch._utils\n_rebuild_tensor_v2\n(NI0\n(I1000000\nI1000000\nt(I0\nI0\ntI00\nNtR.",
)
_OPCODES = b"().012FIJKLMNPQRSTUVX]abcdeghijlopqrstu}" + bytes(range(0x80, 0x98))
_LONG = (b"(" * 100_000, b"]" * 10_000, b"\x8e" + b"\xff" * 7 + b"\x7f", b"\x8b\xff\xff\xff\x7f")
"""Nested deeply, and of lengths that are not there."""


def pth(rng: Random, data: bytes) -> bytes:
    if not data.startswith(b"PK") or rng.random() < 0.15:
        return _pickle(rng, data) if rng.random() < 0.7 else raw(rng, data)
    members: dict[str, bytes] = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in archive.namelist():
            members[name] = archive.read(name)
    name = rng.choice([*members, *(name for name in members if name.endswith("data.pkl"))])
    if name.endswith("data.pkl"):
        members[name] = _pickle(rng, members[name])
    else:
        members[name] = rng.choice((raw(rng, members[name]), b"", members[name] * 100))
    if rng.random() < 0.1:
        members.pop(rng.choice(list(members)))
    file = io.BytesIO()
    method = zipfile.ZIP_STORED if rng.random() < 0.95 else zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue() if rng.random() < 0.85 else raw(rng, file.getvalue())


def _pickle(rng: Random, content: bytes) -> bytes:
    choice = rng.random()
    at = rng.randrange(2, max(3, len(content)))
    if choice < 0.3:
        return content[:2] + rng.choice(_CODE)
    if choice < 0.5:
        return content[:at] + rng.choice(_CODE)[:-1] + content[at:]
    if choice < 0.7:
        return content[:at] + bytes([rng.choice(_OPCODES)]) + content[at + rng.choice((0, 1)) :]
    if choice < 0.75:
        return content[:2] + rng.choice(_LONG) + b"."
    if choice < 0.85:
        return content.replace(b"K\x02K\x03\x86", b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86")
    return raw(rng, content)


# ---- judging ----


def _judge(data: bytes, folder: Path, name: str) -> str:
    from pathlib import Path

    from motivnet_cli.errors import WeightsError
    from motivnet_cli.weights.checkpoint import read_checkpoint

    path = folder / name
    path.write_bytes(data)
    try:
        tensors = read_checkpoint(path).tensors
        for tensor in tensors.values():
            if tensor.nbytes <= 1 << 20:
                tensor.sum()
    except WeightsError as error:
        return told(error)
    finally:
        assert not (Path.cwd() / CANARY).exists(), "code of a checkpoint was run"
    return "ok"


def judge_safetensors(data: bytes, folder: Path) -> str:
    return _judge(data, folder, "m.safetensors")


def judge_pth(data: bytes, folder: Path) -> str:
    return _judge(data, folder, "m.pth")
