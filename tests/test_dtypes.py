"""A network in another float type: torch's own numbers, and no page of the file stays in memory."""

from __future__ import annotations

import os
import time
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from motivnet_cli.weights.checkpoint import read_ahead, read_checkpoint
from motivnet_cli.weights.dtypes import to_dtype
from tests.test_checkpoint import resident_file_bytes

NUM_TENSORS, ROWS, COLUMNS = 6, 1024, 2049
"""Tensors of 8.4 MB that end within a page."""


class Network(nn.Module):
    """Parameters as they were loaded, one of them twice, and buffers."""

    def __init__(self, tensors):
        super().__init__()
        self.parts = nn.ParameterList(nn.Parameter(tensor, requires_grad=False) for tensor in tensors)
        self.again = self.parts[0]
        self.register_buffer("mean", torch.tensor([123.5, 1e-9]))
        self.register_buffer("number", torch.tensor(3))


def save_pth(tensors, path):
    torch.save(tensors, path)


@pytest.fixture(params=[save_pth, save_file])
def mapped(request, tmp_path):
    """A network whose parameters are mapped from a file."""
    generator = torch.Generator().manual_seed(1)
    tensors = {str(number): torch.randn(ROWS, COLUMNS, generator=generator) for number in range(NUM_TENSORS)}
    request.param(tensors, tmp_path / "w")
    return Network(read_checkpoint(tmp_path / "w").tensors.values())


@pytest.mark.parametrize("num_threads", [1, 3])
def test_the_numbers_are_those_of_torch(mapped, num_threads):
    """Parameters and buffers; whole numbers stay whole, and what was one parameter stays one."""
    expected = deepcopy(mapped).to(torch.bfloat16)
    to_dtype(mapped, torch.bfloat16, num_threads=num_threads)

    found = mapped.state_dict()
    assert {name: tensor.dtype for name, tensor in found.items()} == {
        name: tensor.dtype for name, tensor in expected.state_dict().items()
    }
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.state_dict().items())
    assert mapped.again is mapped.parts[0]
    to_dtype(mapped, torch.bfloat16, num_threads=num_threads)
    assert torch.equal(mapped.parts[1], expected.parts[1])


def test_parameters_elsewhere_are_converted_too(mapped):
    """On a device that is not the CPU."""
    to_dtype(mapped.to("meta"), torch.bfloat16, num_threads=2)

    assert {parameter.dtype for parameter in mapped.parameters()} == {torch.bfloat16}


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs /proc")
def test_converted_pages_leave_the_memory(mapped):
    """Though the file is still mapped, for whoever reads it again."""
    originals = [part.data for part in mapped.parts]
    sums = [float(original.sum()) for original in originals]
    before = resident_file_bytes()

    to_dtype(mapped, torch.bfloat16, num_threads=2)

    total = sum(original.nbytes for original in originals)
    assert before - resident_file_bytes() > 0.9 * total
    assert [float(original.sum()) for original in originals] == sums


@pytest.mark.parametrize("where", ["mapped", "in memory"])
def test_numbers_that_are_nowhere_else_are_kept(mapped, where):
    """What was written since it was mapped is in no file; nor are numbers that were never mapped."""
    if where == "in memory":
        mapped = deepcopy(mapped)
    original = mapped.parts[2].data
    original[:, 7] = 42.0

    to_dtype(mapped, torch.bfloat16, num_threads=2)

    assert torch.all(original[:, 7] == 42)
    assert torch.all(mapped.parts[2][:, 7] == 42)


def test_a_file_is_read_ahead(tmp_path):
    """Pages that nobody has asked for are in the file cache."""
    if not hasattr(os, "RWF_NOWAIT"):
        pytest.skip("needs Linux")
    path = tmp_path / "w"
    path.write_bytes(bytes(8 << 20))
    with path.open("rb", buffering=0) as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

        def is_cached():
            try:
                return os.preadv(file.fileno(), [bytearray(1)], (8 << 20) - 1, os.RWF_NOWAIT) == 1
            except BlockingIOError:
                return False

        try:
            if is_cached():
                pytest.skip("this file system does not let go of its pages")
        except OSError:
            pytest.skip("this file system does not say what is cached")
        read_ahead(path)
        deadline = time.monotonic() + 60
        while not is_cached() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert is_cached()
