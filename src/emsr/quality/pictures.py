"""Arrays as pictures of a page: where to look, at which grey window, how long the scale bar.

Knows pixels and PNG. Refuses to know scores, and to stretch two panels of one row differently.
"""

from __future__ import annotations

import base64

import imagecodecs
import matplotlib
import numpy as np
from scipy import ndimage

Corner = tuple[int, int]
Size = tuple[int, int]


def most_structured(plane: np.ndarray, size: Size, step: int = 1) -> Corner:
    """Corner (y, x), a multiple of ``step``, of the ``size`` window with the most structure.

    Structure is the energy of the gradient after a blur of 2 pixels, so that noise counts little;
    of equal windows the first is taken.
    """
    energy = ndimage.gaussian_gradient_magnitude(plane.astype(np.float64), 2.0) ** 2
    total = np.pad(energy.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    height, width = size
    inside = (
        total[height:, width:]
        - total[:-height, width:]
        - total[height:, :-width]
        + total[:-height, :-width]
    )[::step, ::step]
    y, x = np.unravel_index(int(inside.argmax()), inside.shape)
    return int(y) * step, int(x) * step


def widened(corner: Corner, size: Size, wide: Size, shape: Size, step: int = 1) -> Corner:
    """Corner of a ``wide`` window around the ``size`` window at ``corner``, inside ``shape``."""
    y, x = (
        int(np.clip(start - (outer - inner) // 2, 0, whole - outer)) // step * step
        for start, inner, outer, whole in zip(corner, size, wide, shape, strict=True)
    )
    return y, x


def cut(plane: np.ndarray, corner: Corner, size: Size) -> np.ndarray:
    """The window of ``size`` at ``corner``."""
    (y, x), (height, width) = corner, size
    return plane[y : y + height, x : x + width]


def grey_uri(plane: np.ndarray, low: float, high: float) -> str:
    """``(y, x)`` grey levels as an 8-bit PNG in a data URI: ``low`` black, ``high`` white."""
    unit = np.clip((plane.astype(np.float64) - low) / (high - low), 0, 1)
    return _uri(np.rint(unit * 255).astype(np.uint8))


def heat_uri(plane: np.ndarray, high: float) -> str:
    """``(y, x)`` magnitudes as a colour PNG in a data URI: 0 black, ``high`` and above yellow."""
    colours = matplotlib.colormaps["inferno"](np.clip(plane / high, 0, 1), bytes=True)
    return _uri(np.ascontiguousarray(colours[..., :3]))


def scale_bar(width_px: int, pixel_nm: float | None) -> tuple[float, str]:
    """Length as a share of the picture's width, near a quarter of it, and its label."""
    per_px, unit = (1.0, "px") if pixel_nm is None else (pixel_nm, "nm")
    length = round_length(width_px * per_px / 4)
    share = length / (width_px * per_px)
    if unit == "nm" and length >= 1000:
        return share, f"{length / 1000:g} µm"
    return share, f"{length:g} {unit}"


def round_length(length: float) -> float:
    """The largest of 1, 2, 5 times a power of ten that is not longer than ``length``."""
    power = 10.0 ** np.floor(np.log10(length))
    return float(power * max(step for step in (1, 2, 5) if step * power <= length * (1 + 1e-9)))


def _uri(image: np.ndarray) -> str:
    return "data:image/png;base64," + base64.b64encode(
        imagecodecs.png_encode(image, level=9)
    ).decode("ascii")
