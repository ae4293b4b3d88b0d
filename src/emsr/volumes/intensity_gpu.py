"""Grey values and unit values of tensors, wherever they lie: what ``Intensity`` does to arrays.

So a GPU is sent a scan's own integers and gives integers back, a fraction of the bytes of floats.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from emsr.volumes.intensity import Intensity


def tensor_of(grey: np.ndarray) -> Tensor:
    """The same values, in the byte order of this machine; without a copy where that is possible."""
    return torch.from_numpy(np.ascontiguousarray(grey, grey.dtype.newbyteorder("=")))


def unit_of(window: Intensity, grey: Tensor) -> Tensor:
    """float32 ``(grey - low) / (high - low)`` of any shape, to the bit what ``to_unit`` gives."""
    unit = grey.to(torch.float64, copy=True)
    window.into_unit(unit)
    return unit.float()


def grey_of(window: Intensity, unit: Tensor, dtype: np.dtype | str) -> tuple[Tensor, Tensor]:
    """Grey values of ``dtype``, to the bit what ``to_grey`` gives, and two counts: how many had to
    be clipped, and how many are NaN. Nothing waits for the device."""
    grey = unit.to(torch.float64, copy=True)
    window.into_grey(grey)
    lost = torch.isnan(grey).sum()
    dtype = np.dtype(dtype)
    stored = tensor_of(np.empty(0, dtype)).dtype
    if dtype.kind == "f":
        return grey.to(stored), torch.stack([torch.zeros_like(lost), lost])
    grey.round_()
    limits = np.iinfo(dtype)
    clipped = (grey < limits.min).sum() + (grey > limits.max).sum()
    # NaN have no integer; whoever sees their count refuses the tile.
    return grey.nan_to_num_(0).clamp_(limits.min, limits.max).to(stored), torch.stack(
        [clipped, lost]
    )
