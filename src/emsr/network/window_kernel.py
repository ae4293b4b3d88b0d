"""Self-attention inside small windows on a GPU, as one kernel.

Heads of a few features in windows of a few pixels are too small for the kernels that torch has:
those fill blocks of 64 x 64 scores and more, of which 16 x 16 would be looked at. Here a program
takes one window with all its heads, whose scores stay in registers. Triton comes with torch where
that computes on GPUs; without it nothing here can be imported.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

MOST_SCORES = 4096
"""Of one window, all heads together: more would not stay in registers."""


def fits(tokens: int, features: int, heads: int) -> bool:
    """Whether the kernel takes windows of ``tokens`` pixels and heads of ``features`` each."""
    sides = (tokens, features, heads)
    return all(n & (n - 1) == 0 for n in sides) and tokens * tokens * heads <= MOST_SCORES


def attend(qkv: Tensor, heads: int) -> Tensor:
    """Softmax attention of each window: ``(n, tokens, 3 * heads * features)``, which hold queries,
    keys and values in this order, -> ``(n, tokens, heads * features)`` of the same dtype. Sums are
    of float32. No gradients."""
    n, tokens, width = qkv.shape
    features = width // (3 * heads)
    qkv, out = qkv.contiguous(), qkv.new_empty(n, tokens, width // 3)
    with torch.cuda.device_of(qkv):
        _attend[(n,)](qkv, out, features**-0.5, tokens, heads, features, num_warps=1)
    return out


@triton.jit
def _attend(  # type: ignore[no-untyped-def]
    qkv, out, scale, T: tl.constexpr, H: tl.constexpr, D: tl.constexpr
):
    window = tl.program_id(0).to(tl.int64)
    token, head = tl.arange(0, T)[:, None], tl.arange(0, H)[None, :]
    read = qkv + window * (3 * T * H * D) + token * (3 * H * D) + head * D
    scores = tl.zeros((T, T, H), tl.float32)
    for d in tl.static_range(D):
        query = tl.load(read + d).to(tl.float32) * scale
        key = tl.load(read + H * D + d).to(tl.float32)
        scores += query[:, None, :] * key[None, :, :]
    weights = tl.exp(scores - tl.max(scores, axis=1)[:, None, :])
    total = tl.sum(weights, axis=1)
    write = out + window * (T * H * D) + token * (H * D) + head * D
    for d in tl.static_range(D):
        value = tl.load(read + 2 * H * D + d).to(tl.float32)
        mixed = tl.sum(weights * value[None, :, :], axis=1) / total
        tl.store(write + d, mixed.to(out.dtype.element_ty))
