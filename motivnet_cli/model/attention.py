"""Attention as products of matrices, for CPUs on which torch's own kernel does not multiply in bf16.

That kernel multiplies through MKL, or on AMX through oneDNN. Without AMX a CPU with AVX512-BF16 then multiplies in fp32
there, at a fifth of the rate at which the linear layers run (docs/performance.md).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

_ROWS = 256
"""Queries of a block: its scores against 3,072 keys are 1.5 MB in bf16, about a core's own cache. 128 and 512 take at
most 8 % longer."""
_LIBRARY = torch.library.Library("motivnet", "FRAGMENT")  # type: ignore[no-untyped-call]
_LIBRARY.define("attention_in_blocks(Tensor q, Tensor k, Tensor v) -> Tensor")  # type: ignore[no-untyped-call]


def attention_in_blocks(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax(q k' / sqrt(d)) v: q, k and v [B, heads, N, d] -> [B, heads, N, d].

    Each thread takes whole heads, and computes them alone: where threads share each product and wait for each other
    after it, a machine that others use, too, takes five times as long. Scores are rounded to the type of `q` before the
    softmax, which torch's kernel does not do.
    """
    mixed: Tensor = torch.ops.motivnet.attention_in_blocks(q, k, v)
    return mixed


def _attention_in_blocks(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    mixed = _empty_result(q)
    # Each head's rows beside each other: from views, products copy them again and again.
    scaled = (q * q.shape[3] ** -0.5).contiguous()
    images = zip(scaled, k.contiguous(), v.contiguous(), mixed, strict=True)
    heads = [head for image in images for head in zip(*image, strict=True)]
    with ThreadPoolExecutor(torch.get_num_threads(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for _ in pool.map(_attend, heads):
            pass
    return mixed


@torch.inference_mode()
def _attend(head: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    """Of one head: queries, already scaled, keys, values [N, d], and the room for the result."""
    queries, keys, values, mixed = head
    for some, out in zip(torch.split(queries, _ROWS), torch.split(mixed, _ROWS), strict=True):
        weights = torch.mm(some, keys.T).softmax(-1)  # [rows, N]
        torch.mm(weights, values, out=out)


def _empty_result(q: Tensor) -> Tensor:
    """[B, heads, N, d], with the heads of a token beside each other in memory, as the next layer reads them."""
    batch, heads, tokens, depth = q.shape
    return q.new_empty(batch, tokens, heads, depth).transpose(1, 2)


# An operator of its own is one step to torch.compile, which would unroll the loops. (torch.library.custom_op does the
# same, and imports 2,000 modules of the compiler at its first call.)
_LIBRARY.impl("attention_in_blocks", _attention_in_blocks, "CPU")  # type: ignore[no-untyped-call]
torch.library.register_fake("motivnet::attention_in_blocks", lambda q, k, v: _empty_result(q), lib=_LIBRARY)
