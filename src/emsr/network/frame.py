"""What the networks share around their bodies: greys, sides, slices, and the input skip."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from emsr.errors import InputError

MIDDLE, SPREAD = 0.5, 0.25
"""Where the greys of an EM image lie in network units, and how far they spread, roughly."""


def start_at_interpolation(network: nn.Module, last: nn.Conv2d) -> None:
    """Draw the weights of a network that adds to the interpolated image: features keep their
    spread through the layers, residual branches start small, and what is added at zero, so that
    training begins at the interpolated image, not at a constant one."""
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if name.endswith((".conv2", ".k4")):
                layer.weight.data *= 0.2
    nn.init.zeros_(last.weight)


def check_scale_and_slices(scale: int, slices: int) -> None:
    """InputError where a network cannot have them."""
    if not 1 <= scale <= 8:
        raise InputError(f"scale {scale}: expected a whole number from 1 to 8")
    if slices < 1 or slices % 2 == 0:
        raise InputError(f"slices {slices}: expected an odd number, the middle one is the output's")


def middle_slice(lr: Tensor) -> Tensor:
    """``(b, 1, y, x)`` of ``(b, slices, y, x)``."""
    middle = lr.shape[1] // 2
    return lr[:, middle : middle + 1]


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """``(b, c, y, x)`` reflected at the far edges until y and x are multiples; an image too small
    to be reflected repeats its last row or column."""
    bottom, right = (-n % multiple for n in image.shape[-2:])
    if not (bottom or right):
        return image
    room = bottom < image.shape[-2] and right < image.shape[-1]
    return F.pad(image, (0, right, 0, bottom), mode="reflect" if room else "replicate")


def interpolate(lr: Tensor, scale: int) -> Tensor:
    """Bicubic interpolation (a = -0.75) that aligns pixel areas, as the tile plan does."""
    # In float32 torch places pixels less exactly the farther they lie from the origin, so that a
    # tile would differ from the whole image.
    sr = F.interpolate(lr.double(), scale_factor=scale, mode="bicubic", align_corners=False)
    return sr.to(lr.dtype)
