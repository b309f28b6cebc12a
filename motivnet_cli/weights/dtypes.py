"""The parameters of a network in another float type, one after the other, so that it is never in memory twice."""

from __future__ import annotations

import ctypes
import mmap
import re
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

_MADV_DONTNEED = 4
"""Of Linux' madvise(2): the pages are dropped, and read from their file again if anybody asks for them."""

_WRITTEN = ("Anonymous", "Swap")
"""What smaps calls pages of a mapping that are no longer those of its file."""
_WRITTEN_PAGES = rf"\n({'|'.join(_WRITTEN)}): +[1-9]"


def to_dtype(network: nn.Module, dtype: torch.dtype, *, num_threads: int) -> None:
    """Convert the floating parameters and buffers of a network in place, as `network.to(dtype)`.

    On the CPU, whole tensors are converted side by side, each by one thread: that took 0.6 of the time of dividing each
    among threads (benchmarks/cold_start.py). What is mapped from a file leaves the memory of the process as soon as it
    is converted.
    """
    tensors = [
        each
        for each in (*network.parameters(), *network.buffers())
        if each.is_floating_point() and each.dtype != dtype and each.device.type == "cpu"
    ]
    if tensors:
        mappings = _clean_file_mappings()
        with ThreadPoolExecutor(num_threads, initializer=partial(torch.set_num_threads, 1)) as threads:
            for _ in threads.map(lambda tensor: _convert(tensor, dtype, mappings), tensors):
                pass
    network.to(dtype)


def _convert(tensor: Tensor, dtype: torch.dtype, mappings: list[tuple[int, int]]) -> None:
    before = tensor.data
    tensor.data = before.to(dtype)
    start, end = before.data_ptr(), before.data_ptr() + before.nbytes
    if any(first <= start and end <= last for first, last in mappings):
        _drop(start, end)


def _drop(start: int, end: int) -> None:
    """Drop the pages that lie wholly between two addresses. Advice that is not taken changes nothing."""
    first, last = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE, end // mmap.PAGESIZE * mmap.PAGESIZE
    if first < last:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), _MADV_DONTNEED)


def _clean_file_mappings() -> list[tuple[int, int]]:
    """The addresses at which files are mapped and nothing was written since; none where Linux does not say.

    Such a page can be had again from its file. One that was written to exists nowhere else.
    """
    try:
        text = Path("/proc/self/smaps").read_text(errors="replace")
    except OSError:
        return []
    found = []
    for mapping in re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", text, flags=re.MULTILINE):
        head = re.match(r"([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ [1-9]", mapping)  # an inode: that of a file
        if head and all(f"\n{kind}:" in mapping for kind in _WRITTEN) and not re.search(_WRITTEN_PAGES, mapping):
            found.append((int(head[1], 16), int(head[2], 16)))
    return found
