"""Attention as products of matrices, for CPUs on which torch's own kernel does not multiply in bf16.

That kernel multiplies through MKL, or on AMX through oneDNN. Without AMX a CPU with AVX512-BF16 then multiplies in fp32
there, at a fifth of the rate at which the linear layers run (docs/performance.md).
"""

from __future__ import annotations

import torch
from torch import Tensor

_ROWS = 256
"""Queries of a block: its scores against 3,072 keys are 1.5 MB in bf16, about a core's own cache. 128 and 512 take at
most 8 % longer."""
_LIBRARY = torch.library.Library("motivnet", "FRAGMENT")  # type: ignore[no-untyped-call]
_LIBRARY.define("attention_in_blocks(Tensor q, Tensor k, Tensor v) -> Tensor")  # type: ignore[no-untyped-call]


def attention_in_blocks(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax(q k' / sqrt(d)) v: q, k and v [B, heads, N, d] -> [B, heads, N, d].

    As many heads at once as there are threads. Scores are rounded to the type of `q` before the softmax, which torch's
    kernel does not do.
    """
    mixed: Tensor = torch.ops.motivnet.attention_in_blocks(q, k, v)
    return mixed


def _attention_in_blocks(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    num_heads = torch.get_num_threads()
    mixed = _empty_result(q)
    # Each head's rows beside each other: from views, products copy them again and again.
    scaled = (q * q.shape[3] ** -0.5).contiguous()
    images = zip(scaled, k.contiguous(), v.contiguous(), mixed, strict=True)
    for image in images:
        for queries, keys, values, out in zip(*(each.split(num_heads) for each in image), strict=True):
            for some, some_out in zip(queries.split(_ROWS, 1), out.split(_ROWS, 1), strict=True):
                weights = torch.bmm(some, keys.transpose(1, 2)).softmax(-1)  # [heads, rows, N]
                some_out[:] = torch.bmm(weights, values)
    return mixed


def _empty_result(q: Tensor) -> Tensor:
    """[B, heads, N, d], with the heads of a token beside each other in memory, as the next layer reads them."""
    batch, heads, tokens, depth = q.shape
    return q.new_empty(batch, tokens, heads, depth).transpose(1, 2)


# An operator of its own is one step to torch.compile, which would unroll the loops. (torch.library.custom_op does the
# same, and imports 2,000 modules of the compiler at its first call.)
_LIBRARY.impl("attention_in_blocks", _attention_in_blocks, "CPU")  # type: ignore[no-untyped-call]
torch.library.register_fake("motivnet::attention_in_blocks", lambda q, k, v: _empty_result(q), lib=_LIBRARY)
