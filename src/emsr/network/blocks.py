"""The building blocks of EMSR, as in the paper (arXiv 2401.08115, section III) and its figures.

Tensors are ``(b, c, y, x)``. Every block states how far it looks (``reach``, in its own pixels),
from which the networks derive their receptive radius.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PRE_BLUR = (0.002566, 0.1655, 0.6638, 0.1655, 0.002566)
B3_SPLINE = (1.0, 4.0, 6.0, 4.0, 1.0)
CACHED_WINDOWS = 1024
"""Windows whose attention a CPU computes at once: few enough to stay in its cache."""
LAUNCHED_WINDOWS = 2**15
"""The same elsewhere: CUDA launches no kernel over more than 65,535, a tile of
1024 x 1024 has more (pytorch issue 146704)."""


def conv3(inputs: int, outputs: int) -> nn.Conv2d:
    """A 3x3 convolution without bias, zero padded; reach 1."""
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)


class Residual(nn.Module):
    """conv - ReLU - conv, plus its input; reach 2."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv1 = conv3(features, features)
        self.conv2 = conv3(features, features)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(x), inplace=True))


class EdgePyramid(nn.Module):
    """The a-trous detail images of a one-channel image: ``(b, 1, y, x) -> (b, levels, y, x)``.

    A_0 is the image after a narrow blur; A_i smooths A_(i-1) by the B3 spline (1 4 6 4 1)/16 with
    its taps 2^(i-1) pixels apart; channel i-1 is the detail D_i = A_(i-1) - A_i. Zero padding. The
    kernels are separable, and applied as such.
    """

    pre_blur: Tensor
    spline: Tensor

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels = levels
        self.register_buffer("pre_blur", _normalised(PRE_BLUR), persistent=False)
        self.register_buffer("spline", _normalised(B3_SPLINE), persistent=False)

    @property
    def reach(self) -> int:
        return 2 + sum(2 * 2**i for i in range(self.levels))

    def forward(self, image: Tensor) -> Tensor:
        smooth = _separable(image, self.pre_blur, 1)
        details = []
        for level in range(self.levels):
            smoother = _separable(smooth, self.spline, 2**level)
            details.append(smooth - smoother)
            smooth = smoother
        return torch.cat(details, dim=1)


def _normalised(taps: tuple[float, ...]) -> Tensor:
    kernel = torch.tensor(taps, dtype=torch.float64)
    return (kernel / kernel.sum()).float()


def _separable(image: Tensor, taps: Tensor, spacing: int) -> Tensor:
    taps = taps.to(image.dtype)
    along_y = F.conv2d(image, taps.view(1, 1, -1, 1), padding=(2 * spacing, 0), dilation=spacing)
    return F.conv2d(along_y, taps.view(1, 1, 1, -1), padding=(0, 2 * spacing), dilation=spacing)


class EdgeAttention(nn.Module):
    """``k4(k3(e) * sigmoid(k2(LeakyReLU(k1(e)))))``: edge features weigh themselves; reach 2."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.k1 = conv3(features, features)
        self.k2 = nn.Conv2d(features, features, 1)
        self.k3 = conv3(features, features)
        self.k4 = conv3(features, features)

    def forward(self, edges: Tensor) -> Tensor:
        weight = torch.sigmoid(self.k2(F.leaky_relu(self.k1(edges), 0.2)))
        return self.k4(self.k3(edges) * weight)


class WindowAttention(nn.Module):
    """Self-attention inside ``window x window`` pixels, without shift or position bias, followed
    by an MLP; both pre-normed, both added to their input.

    y and x must be multiples of the window. A pixel sees its own window only.
    """

    def __init__(self, features: int, heads: int, window: int, mlp_ratio: int = 2) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.norm1 = nn.LayerNorm(features)
        self.qkv = nn.Linear(features, 3 * features, bias=False)
        self.proj = nn.Linear(features, features)
        self.norm2 = nn.LayerNorm(features)
        self.mlp = nn.Sequential(
            nn.Linear(features, mlp_ratio * features),
            nn.ReLU(),
            nn.Linear(mlp_ratio * features, features),
        )

    def forward(self, x: Tensor) -> Tensor:
        b, c, height, width = x.shape
        w = self.window
        grid = x.view(b, c, height // w, w, width // w, w)
        tokens = grid.permute(0, 2, 4, 3, 5, 1).reshape(-1, w * w, c)
        cached = tokens.is_cpu and not torch.is_grad_enabled()
        parts = tokens.split(CACHED_WINDOWS if cached else LAUNCHED_WINDOWS)
        mixed = [self._mix(part) for part in parts]
        tokens = torch.cat(mixed) if len(mixed) > 1 else mixed[0]
        grid = tokens.view(b, height // w, width // w, w, w, c).transpose(2, 3)
        # Channels stay last in memory, as the convolutions after it want them.
        return grid.reshape(b, height, width, c).permute(0, 3, 1, 2)

    def _mix(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self._attend(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))

    def _attend(self, tokens: Tensor) -> Tensor:
        n, t, c = tokens.shape
        qkv = self.qkv(tokens)
        if qkv.is_cuda and not torch.is_grad_enabled():
            kernel = kernel_for(qkv.device, qkv.dtype, t, self.heads, c // self.heads)
            if kernel is not None:
                return self.proj(kernel(qkv, self.heads))
        qkv = qkv.view(n, t, 3, self.heads, c // self.heads)
        if qkv.device.type == "cpu" and qkv.dtype == torch.bfloat16:
            qkv = qkv.float()  # twice as quick: heads are only a few features wide
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = _attended(query, key, value).to(tokens.dtype)
        return self.proj(mixed.transpose(1, 2).reshape(n, t, c))


@cache
def kernel_for(
    device: torch.device, dtype: torch.dtype, tokens: int, heads: int, features: int
) -> Callable[[Tensor, int], Tensor] | None:
    """What attends such windows in one kernel (``window_kernel.attend``), if it can be compiled
    here and gives what torch's does; it is compiled when it is first asked for."""
    try:
        from emsr.network.window_kernel import attend, fits
    except ImportError:  # Triton comes with torch for GPUs only
        return None
    if not fits(tokens, features, heads):
        return None
    probe = torch.linspace(-2, 2, 2 * tokens * 3 * heads * features, device=device).to(dtype)
    probe = (probe * 40).sin().view(2, tokens, -1)
    expected = _attended(*probe.view(2, tokens, 3, heads, features).permute(2, 0, 3, 1, 4))
    try:
        found = attend(probe, heads).view(2, tokens, heads, features).transpose(1, 2)
    except Exception:  # of the compiler that it calls: torch's own kernel is there
        return None
    return attend if torch.allclose(found.float(), expected.float(), atol=0.02) else None


def _attended(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Scaled dot-product attention of ``(n, heads, t, d)``."""
    if not query.is_cpu or not torch.is_grad_enabled():
        return F.scaled_dot_product_attention(query, key, value)
    # Windows are too small for torch's kernel: with its backward pass it takes 1.7 times as long.
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    return scores.softmax(-1) @ value
