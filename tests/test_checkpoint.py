"""Files of weights give their tensors and nothing else: foreign metadata is skipped, code is refused."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import pickle
import sys
import types
import zipfile
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from motivnet_cli.errors import WeightsError
from motivnet_cli.weights.checkpoint import read_checkpoint, write_safetensors

TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(3)}


@contextlib.contextmanager
def foreign_library():
    """mmengine's metadata types as a pickle sees them, importable inside the `with` alone."""
    paths = ("mmengine", "mmengine.config", "mmengine.config.config", "mmengine.logging")
    modules = {name: types.ModuleType(name) for name in (*paths, "mmengine.logging.history_buffer")}

    def filled_by_call(self, protocol):
        return type(self), (dict(self),), None, None, None

    def foreign(name: str, *bases: type, **members: object) -> type:
        module, _, short = name.rpartition(".")
        made = type(short, bases, {"__module__": module, **members})
        setattr(modules[module], short, made)
        return made

    library = types.SimpleNamespace(
        ConfigDict=foreign("mmengine.config.config.ConfigDict", dict),
        HistoryBuffer=foreign("mmengine.logging.history_buffer.HistoryBuffer"),
        filled_by_call=filled_by_call,
    )
    sys.modules.update(modules)
    try:
        yield library
    finally:
        for name in modules:
            del sys.modules[name]


def save_zip(content: object, path: Path) -> None:
    torch.save(content, path)


def save_legacy(content: object, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def assert_is_ours(path: Path) -> None:
    tensors = read_checkpoint(path).tensors
    assert list(tensors) == list(TENSORS)
    assert all(torch.equal(tensors[name], tensor) for name, tensor in TENSORS.items())


@pytest.mark.parametrize("save", [save_zip, save_legacy])
@pytest.mark.parametrize("filled", ["by call", "by item"])
def test_an_mmengine_checkpoint_gives_its_tensors(tmp_path, save, filled):
    """Metadata of mmengine's, numpy's and other well-known types is skipped; none of it is imported or built."""
    path = tmp_path / "sapiens.pth"
    with foreign_library() as library:
        if filled == "by call":  # as mmengine has it; before 0.8 it was filled item by item
            library.ConfigDict.__reduce_ex__ = library.filled_by_call
        history = library.HistoryBuffer()
        history.log = np.arange(4.0)
        meta = {
            "cfg": library.ConfigDict(model=library.ConfigDict(width=3), sigmas=np.ones(17), seed=np.int64(3)),
            "history": [history, np.float32(0.5), np.array(["a", "b"], dtype=object)],
            "arguments": argparse.Namespace(folder=Path("a"), other=PurePosixPath("b")),
        }
        save({"meta": meta, "state_dict": TENSORS, "message_hub": {"log": history}, "optimizer": None}, path)

    assert "mmengine" not in sys.modules
    assert_is_ours(path)
    assert "mmengine" not in sys.modules


def test_arrays_of_numpy_1_are_skipped_too(tmp_path):
    """numpy's old name for its core, which the published files hold, is known."""
    path = tmp_path / "old.pth"
    save_legacy({"meta": [np.ones(3), np.float64(1)], "state_dict": TENSORS}, path)
    old = path.read_bytes().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
    path.write_bytes(old)

    assert b"cnumpy.core.multiarray\n_reconstruct\n" in old
    assert_is_ours(path)


class Call:
    """A pickle that calls something when it is loaded."""

    def __init__(self, function: object, *arguments: object, state: object = None) -> None:
        self.function, self.arguments, self.state = function, arguments, state

    def __reduce__(self):
        return (self.function, self.arguments, self.state) if self.state else (self.function, self.arguments)


CODE = {
    "open": lambda target: Call(open, str(target), "w"),
    "system": lambda target: Call(os.system, f"touch {target}"),
    "eval": lambda target: Call(eval, f"open({str(target)!r}, 'w')"),
    "getattr": lambda target: Call(getattr, Path(target), "touch"),
    "bound": lambda target: Call(Path(target).touch),
    "numpy": lambda target: Call(np.ones(3).tofile, str(target)),
}


@pytest.mark.parametrize("save", [save_zip, save_legacy])
@pytest.mark.parametrize("code", CODE)
def test_code_beside_known_metadata_is_refused(tmp_path, code, save):
    """A payload among mmengine's names, or as an argument of one of them, does not run."""
    target = tmp_path / "written"
    with foreign_library() as library:
        library.ConfigDict.__reduce_ex__ = library.filled_by_call
        payload = CODE[code](target)
        save({"meta": library.ConfigDict(a=payload, b=np.ones(2)), "state_dict": TENSORS}, tmp_path / "in.pth")
        save({"meta": Call(library.HistoryBuffer, payload), "state_dict": TENSORS}, tmp_path / "argument.pth")
        save({"meta": Call(library.ConfigDict, state=[payload]), "state_dict": TENSORS}, tmp_path / "state.pth")

    for name in ("in.pth", "argument.pth", "state.pth"):
        with pytest.raises(WeightsError, match="refused and nothing of it ran"):
            read_checkpoint(tmp_path / name)
    assert not target.exists()


def test_known_metadata_does_nothing_whatever_it_is_called_with(tmp_path):
    """Stand-ins take any arguments and any state, and make nothing of them."""
    with foreign_library() as library:
        calls = [
            Call(library.HistoryBuffer, "touch /x", [1], state={"__class__": 3, "__reduce__": "touch /x"}),
            Call(library.ConfigDict, 1, 2, 3),
            Call(np.ndarray, "not a shape", state=(1, 2)),
            Call(np.dtype, "no such type"),
            Call(np.float64(1).__reduce__()[0], None),
            Call(argparse.Namespace, 1, 2),
            Call(Path, 3, "\0"),
        ]
        torch.save({"meta": calls, "state_dict": TENSORS}, tmp_path / "odd.pth")

    assert_is_ours(tmp_path / "odd.pth")


def test_the_product_of_a_stand_in_cannot_be_called(tmp_path):
    """Calling what a stand-in gave is refused as well."""
    for end, says in ((b")R", r"not named tensors: 'a' \(argparse.Namespace\)"), (b")R)R", "nothing of it ran")):
        pickled = b"\x80\x02}X\x01\x00\x00\x00acargparse\nNamespace\n" + end + b"s."
        with zipfile.ZipFile(tmp_path / "called.zip", "w") as archive:
            archive.writestr("a/data.pkl", pickled)
            archive.writestr("a/version", b"3")
            archive.writestr("a/byteorder", b"little")

        with pytest.raises(WeightsError, match=says):
            read_checkpoint(tmp_path / "called.zip")


def test_no_stand_in_outlives_the_reading(tmp_path):
    """After reading, torch.load knows no more names than before."""
    with foreign_library() as library:
        torch.save({"meta": library.ConfigDict(), "state_dict": TENSORS}, tmp_path / "sapiens.pth")
    before = set(torch.serialization.get_safe_globals())

    read_checkpoint(tmp_path / "sapiens.pth")

    assert set(torch.serialization.get_safe_globals()) == before
    with pytest.raises(pickle.UnpicklingError, match="ConfigDict"):
        torch.load(tmp_path / "sapiens.pth", weights_only=True)


def test_arrays_in_place_of_tensors_are_named(tmp_path):
    """What stands where tensors should be is named by its type, not dropped."""
    torch.save({**TENSORS, "b": np.ones(3)}, tmp_path / "arrays.pth")

    with pytest.raises(WeightsError, match=r"1 entries that are not named tensors: 'b' \(numpy\..*_reconstruct\)"):
        read_checkpoint(tmp_path / "arrays.pth")


def test_a_checkpoint_that_was_compressed_is_refused(tmp_path):
    """A checkpoint zipped anew is refused: its bytes are not numbers where they lie."""
    torch.save({"a": torch.zeros(1000)}, tmp_path / "good.pth")
    with (
        zipfile.ZipFile(tmp_path / "good.pth") as good,
        zipfile.ZipFile(tmp_path / "packed.pth", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in good.namelist():
            packed.writestr(name, good.read(name))

    with pytest.raises(WeightsError, match="zipped anew, with compression"):
        read_checkpoint(tmp_path / "packed.pth")


def test_written_tensors_are_read_back(tmp_path):
    """Every float type comes back as its float32, in order, whatever its layout; the hash is the file's."""
    path = tmp_path / "written.safetensors"
    tensors = {
        "half": torch.randn(3, 5).half(),
        "strided": torch.randn(4, 6).T[1:],
        "empty": torch.zeros(0, 2),
        "scalar": torch.tensor(2.5),
        "bfloat16": torch.randn(7).bfloat16(),
        "double": torch.randn(2, 2).double(),
        "parameter": torch.nn.Parameter(torch.randn(3)),
    }
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}

    sha256 = write_safetensors(path, iter(tensors.values()), shapes=shapes, metadata={"name": "é, 'x'"})

    content = path.read_bytes()
    assert sha256 == hashlib.sha256(content).hexdigest()
    assert int.from_bytes(content[:8], "little") % 8 == 0
    with safe_open(path, framework="pt") as opened:
        assert opened.metadata() == {"name": "é, 'x'"}
        assert set(opened.keys()) == set(tensors)
        for name, tensor in tensors.items():
            assert opened.get_tensor(name).dtype == torch.float32
            assert torch.equal(opened.get_tensor(name), tensor.float())
    assert set(read_checkpoint(path).tensors) == set(tensors)


def test_a_full_disk_is_an_os_error(tmp_path):
    """Errors of writing are the caller's to explain."""
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")

    with pytest.raises(OSError, match="No space left"):
        write_safetensors(Path("/dev/full"), [torch.zeros(9)], shapes={"a": (9,)}, metadata={})


NUM_MEGABYTES = 288
NAMES = [str(number) for number in range(NUM_MEGABYTES // 16)]


def save_large_zip(path: Path) -> None:
    torch.save({name: torch.zeros(4 << 20) for name in NAMES}, path)


def save_large_safetensors(path: Path) -> None:
    save_file({name: torch.zeros(4 << 20) for name in NAMES}, path)


@pytest.mark.thorough
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
@pytest.mark.parametrize("save", [save_large_zip, save_large_safetensors])
def test_streaming_lets_go_of_what_was_read(tmp_path, save):
    """Of 288 MB, no more than 160 MB are ever resident, however far the reading is."""
    path = tmp_path / "large"
    save(path)
    before, most = resident_file_bytes(), 0
    total = 0.0

    for tensor in read_checkpoint(path).stream(NAMES):
        total += float(tensor.sum()) + 1
        most = max(most, resident_file_bytes() - before)

    path.unlink()
    assert total == len(NAMES)
    assert 100 << 20 < most < 160 << 20


def resident_file_bytes() -> int:
    """Pages of mapped files that count as memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[2]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.thorough
def test_a_file_that_changes_under_the_reader_is_an_error(tmp_path):
    """Replaced by another of the same layout, it is not mixed with the first."""
    path = tmp_path / "large"
    save_large_safetensors(path)
    stream = read_checkpoint(path).stream(NAMES)
    next(stream)
    (tmp_path / "old").hardlink_to(path)
    save_large_safetensors(tmp_path / "new")
    (tmp_path / "new").replace(path)

    with pytest.raises(WeightsError, match="was changed while it was read"):
        list(stream)

    for name in ("large", "old"):
        (tmp_path / name).unlink()
