"""What a network costs: floating-point operations per LR pixel.

A multiplication and an addition are two operations. Convolutions and matrix products are counted;
interpolation, norms and activations are not.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

SIDE = 96
"""LR pixels along the image counted on; a multiple of every network's ``multiple``."""


def flops_per_lr_pixel(network: Any) -> float:
    """Floating-point operations that ``network`` spends on one LR pixel of a large image, after
    padding. Runs on torch's meta device: takes no time, and leaves ``network`` there. ValueError
    for a ``multiple`` that does not divide the image counted on."""
    if SIDE % network.multiple:
        raise ValueError(f"the side {SIDE} is no multiple of the network's {network.multiple}")
    lr = torch.zeros(1, getattr(network, "slices", 1), SIDE, SIDE, device="meta")
    network = network.to("meta").eval()
    # The fused attention kernels are not all known to the counter; matrix products are.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network(lr)
    return float(counter.get_total_flops() / SIDE**2)
