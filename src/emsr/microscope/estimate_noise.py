"""Noise of a scan, from single images and from adjacent slices.

Where noise is white it shows alone in the corner of the frequency plane, which PSF and pixel area
have emptied of structure; what structure is left there is told from the frequencies beside it.
Where it is not white, its whole spectrum is read off the flattest blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from emsr.errors import InputError
from emsr.microscope.estimate_colour import Colour, colour_of
from emsr.microscope.estimate_line import (
    MOST_CLIPPED,
    Line,
    least_squares,
    little_clipped,
    unclipped,
    variance_line,
)
from emsr.microscope.estimate_model import ROUNDING, Noise
from emsr.microscope.estimate_spectra import (
    CORNER,
    DIAGONAL,
    EDGE_X,
    EDGE_Y,
    INNER,
    LOW,
    QUARTER,
    SIDE_PX,
    Blocks,
    Floats,
    Marks,
    blocks_of,
    joined,
    neighbour_correlation,
    plane_mean,
    stride_for,
)

FEWEST_BLOCKS = 20
ENOUGH_BLOCKS = 150
"""From which chance moves sigma by less (3 %) than clipping may."""
MANY_MORE = 4
"""Times as many blocks, for which it is worth counting those that are clipped a little."""
MOST_LOST = 0.5
"""Share of clipped blocks, of 256 pixels: noise then clips 0.65 % of the pixels."""
MOST_CUT = 0.05
"""Share of clipped pixels up to which a grey level still tells of noise where no level is better:
clipping takes 4.5 % of the sigma of normal noise then, at one limit or at both."""
CORNER_VALUES = 3
"""Independent values that a block's CORNER holds."""
MOST_STRUCTURE = 0.3
"""Largest share of the diagonal neighbours' structure that reaches the corner (0.02 to 0.2 on
phantoms). More means noise that differs from place to place at one grey level."""
LITTLE_STRUCTURE = {"white": 0.25, "unknown": 0.1}
"""Structure over noise up to which QUARTER, which holds six times as much noise as CORNER, is the
better of the two."""
FLAT = 0.3
"""Share of the blocks, the flattest, from which correlated noise is measured."""
Z_CORRELATED = 0.05
"""Correlation between slices above which their differences are no longer trusted."""
MAY_CORRELATE = (
    "structure hides whether the noise is shared between neighbouring pixels: sigma is right if it "
    "is not, and too low if it is"
)
CORRELATED = (
    "the noise is shared between neighbouring pixels: sigma rests on its spectrum in the flattest "
    "blocks (about 10 %), and the slope is not the gain of single electrons"
)
NOT_CLEAR = "even the flattest blocks hold structure: sigma is at most this"
SAYS_NO_SLOPE = "the grey levels span too little to say how the noise depends on them"
CUT = (
    "the noise reaches the ends of the grey scale nearly everywhere: sigma is up to 5 % too low, "
    "and the slope is rough"
)
NOTHING_LEFT = (
    "noise cannot be told: next to no part of the image is neither constant nor clipped "
    f"(over {MOST_CUT:.0%} of its pixels at the ends of the grey scale)"
)
FEW = "the image is too small to see whether its noise is shared between neighbouring pixels"


def noise_from_image(planes: np.ndarray) -> Noise:
    """Noise of single images ``(y, x)`` or ``(z, y, x)``, pooled, in grey levels.

    InputError for images under 32 pixels a side, and where nothing is left of them behind what is
    constant and what is clipped.
    """
    stack = _stack(planes, 1)
    blocks = _combined(stack[:, None], np.ones(1))
    return _measured(blocks.where(_usable(blocks)), stack, "one image")


def noise_from_slices(stack: np.ndarray, run: int | None = None) -> Noise:
    """Noise of a stack ``(z, y, x)`` from differences of adjacent slices (second differences from
    three slices on), in which structure that changes little along z is gone already.

    ``run`` slices at a time are adjacent (all of them by default). Noise shared between slices
    would be lost in their differences; then sigma is that of single slices, and a notice says so.
    InputError as ``noise_from_image``, and for fewer than 2 slices.
    """
    runs = _runs(stack, run)
    found = _measured(_differences(runs), stack, "adjacent slices")
    if found.correlation is None:
        # Single slices are more: enough, perhaps, to see that the noise is not white.
        alone = noise_from_image(stack)
        if CORRELATED in alone.notices:
            return replace(alone, method="adjacent slices")
    shared, error = slice_correlation(stack, run)
    if abs(shared) <= max(Z_CORRELATED, 3 * error):
        return found
    notice = (
        f"the noise of adjacent slices correlates ({shared:.2f}): sigma is that of single slices"
    )
    alone = noise_from_image(stack)
    return replace(alone, method="adjacent slices", notices=(notice, *alone.notices))


def slice_correlation(stack: np.ndarray, run: int | None = None) -> tuple[float, float]:
    """Correlation in [-1, 1] of the noise of adjacent slices of ``(z, y, x)``, at the corner of the
    frequency plane, and its standard error. Structure is told from it as in ``white_line``.
    Arguments and InputError as ``noise_from_slices``."""
    runs = _runs(stack, run)
    together, apart = (_combined(runs, np.array([sign, 1])) for sign in (1, -1))
    usable = _usable(together) & (apart.band(CORNER) > 0)
    together, apart = together.where(usable), apart.where(usable)
    single = replace(together, power=_half(together.power + apart.power))
    shared = replace(together, power=_half(together.power - apart.power))
    error = float(np.sqrt(1 / (CORNER_VALUES * len(single.grey))))
    if colour_of(single).verdict == "correlated":
        weights = _weights(single)
        ratio = weights @ shared.band(CORNER) / (weights @ single.band(CORNER))
        return float(ratio), error
    alone = white_line(single).at(float(single.grey.mean()))
    return (_shared_variance(single, shared, alone) / alone if alone > 0 else 0.0), error


def _half(power: NDArray[np.float32]) -> NDArray[np.float32]:
    return (power / 2).astype(np.float32)


def at_limit(image: np.ndarray) -> Marks:
    """Which pixels lie at the limits of their integer dtype; none of a float image."""
    if image.dtype.kind not in "ui":
        return np.zeros(image.shape, bool)
    limits = np.iinfo(image.dtype)
    return (image == limits.min) | (image == limits.max)


def _same(stack: np.ndarray) -> Marks:
    """Which pixels equal the next one along x."""
    same = np.zeros(stack.shape, bool)
    same[..., :-1] = stack[..., 1:] == stack[..., :-1]
    return same


def _stack(image: np.ndarray, slices: int) -> np.ndarray:
    stack = image[None] if image.ndim == 2 else image
    if len(stack) < slices or min(stack.shape[1:]) < 2 * SIDE_PX:
        raise InputError(
            f"noise cannot be told from an image of (z, y, x) {stack.shape}: at least "
            f"({slices}, {2 * SIDE_PX}, {2 * SIDE_PX}) voxels are needed"
        )
    return stack


def _runs(stack: np.ndarray, run: int | None) -> np.ndarray:
    """``(n, run, y, x)``: the stack cut into what is adjacent."""
    stack = _stack(stack, 2)
    run = run or len(stack)
    if run < 2 or len(stack) % run:
        raise InputError(
            f"{len(stack)} slices are not runs of {run} adjacent ones: give whole runs"
        )
    return stack.reshape(-1, run, *stack.shape[1:])


def _differences(runs: np.ndarray) -> Blocks:
    """Usable blocks of second differences along z; of first ones where slices come in twos."""
    blocks = _combined(runs, np.array([1, -2, 1] if runs.shape[1] > 2 else [-1, 1]))
    return blocks.where(_usable(blocks))


def _combined(runs: np.ndarray, weights: NDArray) -> Blocks:
    """Blocks of the weighted sums of adjacent slices, scaled so that noise keeps its variance."""
    scaled = weights / np.sqrt(np.sum(weights**2))
    depth = runs.shape[1] - len(weights) + 1
    windows = [run[z : z + len(weights)] for run in runs for z in range(depth)]
    stride = stride_for(len(windows) * windows[0][0].size)
    return joined([_window_blocks(window, scaled, stride) for window in windows])


def _window_blocks(slices: np.ndarray, weights: Floats, stride: int) -> Blocks:
    """Blocks of one weighted sum of adjacent slices (z, y, x)."""
    squares = weights**2
    level, lost, same = (
        np.tensordot(squares, marks, 1) for marks in (slices, at_limit(slices), _same(slices))
    )
    return blocks_of(np.tensordot(weights, slices, 1), level, lost, same, stride)


def _usable(blocks: Blocks) -> Marks:
    """Which blocks show scanned, unclipped tissue; where there are next to none, those whose
    noise is clipped a little."""
    scanned = ~blocks.drawn & (blocks.band(CORNER) > 0)
    if not scanned.any():
        raise InputError(NOTHING_LEFT)
    grey, clipped = blocks.grey[scanned], blocks.clipped[scanned]
    usable = scanned.copy()
    usable[scanned] = unclipped(grey, clipped, MOST_LOST)
    if usable.sum() < ENOUGH_BLOCKS:
        cut = little_clipped(grey, clipped, MOST_CUT)
        if cut.sum() > MANY_MORE * usable.sum():
            usable[scanned] = cut
    if usable.sum() < FEWEST_BLOCKS:
        raise InputError(NOTHING_LEFT)
    return usable


def _measured(blocks: Blocks, stack: np.ndarray, method: str) -> Noise:
    colour = colour_of(blocks)
    line = _line(blocks, colour)
    mean = float(stack.mean(dtype=np.float64))
    variance = line.at(mean)
    if not variance > 0:
        raise InputError("noise cannot be told from structure here: give a repeated scan")
    low, high = np.quantile(blocks.grey, [0.05, 0.95])
    told = line.tells_slope(float(low), float(high), variance)
    return Noise(
        sigma=float(np.sqrt(variance)),
        slope=line.slope if told else None,
        intercept=line.intercept if told else None,
        correlation=None if colour.spectrum is None else neighbour_correlation(colour.spectrum),
        method=method,
        notices=tuple(_notices(colour, told, blocks)),
        covariance=covariance_of(line) if told else None,
        rounding=ROUNDING if stack.dtype.kind in "ui" else 0.0,
    )


def _line(blocks: Blocks, colour: Colour) -> Line:
    if colour.verdict == "correlated":
        return _flat_line(blocks, colour)
    scatter = 2 * np.sqrt(2 / (CORNER_VALUES * len(blocks.grey)))
    most = LITTLE_STRUCTURE[colour.verdict] + scatter
    if blocks.band(QUARTER).mean() < (1 + most) * blocks.band(CORNER).mean():
        return white_line(blocks, QUARTER, INNER)
    return white_line(blocks)


def _notices(colour: Colour, told: bool, blocks: Blocks) -> Iterator[str]:
    count = len(blocks.grey)
    if blocks.clipped.max() > MOST_CLIPPED:
        yield CUT
    if colour.verdict == "correlated":
        yield CORRELATED
        if not colour.clear:
            yield NOT_CLEAR
    if colour.verdict == "unknown":
        yield FEW if count < 600 else MAY_CORRELATE
    if not told:
        yield SAYS_NO_SLOPE


def covariance_of(line: Line) -> tuple[float, float, float]:
    """Variance of the slope, covariance, variance of the intercept."""
    (a, ab), (_, b) = line.covariance.tolist()
    return a, ab, b


def white_line(blocks: Blocks, band: Marks = CORNER, beside: Marks = DIAGONAL) -> Line:
    """Variance of white noise against grey level, from the power in ``band``.

    That power is regressed on grey level and on the power ``beside`` it: structure adds to both,
    white noise equally, so noise is where the two would be equal.
    """
    power, next_to = blocks.band(band), blocks.band(beside)
    columns = np.stack([blocks.grey, np.ones_like(power), next_to], axis=1)
    weights = _weights(blocks)
    share = np.clip(least_squares(columns, power, weights)[0][2], 0, MOST_STRUCTURE)
    noise = (power - share * next_to) / (1 - share)
    found, covariance = least_squares(columns[:, :2], noise, weights)
    return Line(float(found[0]), float(found[1]), covariance)


def _shared_variance(single: Blocks, shared: Blocks, variance: float) -> float:
    """What two slices share at the corner, without structure: where their diagonal neighbours hold
    no more than the noise's ``variance``."""
    next_to = single.band(DIAGONAL)
    columns = np.stack([single.grey, np.ones_like(next_to), next_to], axis=1)
    found, _ = least_squares(columns, shared.band(CORNER), _weights(single))
    return float(found @ [single.grey.mean(), 1.0, variance])


def _weights(blocks: Blocks) -> Floats:
    """Inverse squares of the power at frequencies that no regression uses, so that chance in a
    regressor does not decide over its own weight. Edges hardly count; what lies below half the
    median is flat enough."""
    edges = blocks.band(EDGE_Y | EDGE_X)
    return np.maximum(edges / np.median(edges), 0.5) ** -2.0


def _flat_line(blocks: Blocks, colour: Colour) -> Line:
    """Variance of correlated noise against grey level: the shape from the flatter blocks' power
    beyond LOW, the size from the spectrum of the flattest."""
    assert colour.spectrum is not None
    flatness = blocks.band(LOW)
    flat = blocks.where(flatness <= np.quantile(flatness, FLAT))
    line = variance_line(flat.grey, flat.band(DIAGONAL))
    there = line.at(colour.grey)
    size = plane_mean(colour.spectrum) / there if there > 0 else 1.0
    return Line(line.slope * size, line.intercept * size, line.covariance * size**2)
