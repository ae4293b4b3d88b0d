"""SR of the phantoms by three networks, lies planted into it, and what each map makes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from fields import read
from numpy.lib.stride_tricks import sliding_window_view
from scipy import ndimage, stats
from trained import trained

from emsr.errors import InputError
from emsr.jobs.model import Model, load
from emsr.jobs.trust_degradation import degradation_of, degraded, noise_from
from emsr.jobs.trust_summary import DOUBTFUL, USUAL
from emsr.microscope import lies
from emsr.microscope.estimate import Blur, Noise
from emsr.microscope.stages import sample_area
from emsr.pairs.store import open_pairs
from emsr.quality import consistency
from emsr.recipe import DOUBT_PX, TRUST_WINDOW_PX

SCALE, FULL = 3, 255.0
SIZES_PX = (1, 2, 3, 5, 8)
"""Diameters of lies in LR pixels."""
CROP_PX = 43
"""LR pixels along each side of the piece that a lie is planted into."""
CHOICES_PX = (0.5, 0.7, 1.0, 1.5, 2.0)
Map = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Case:
    """The SR of one field by one network, and the way back to its LR."""

    field: str
    network: str
    lr: np.ndarray
    truth: np.ndarray
    sr: np.ndarray
    blur: Blur
    noise: Noise
    model: Model
    usual: float = DOUBTFUL
    """Honest doubt of the other field, its quantile ``USUAL``."""

    def residual(self, sr: np.ndarray, lr: np.ndarray) -> np.ndarray:
        back = degraded(sr, self.blur, SCALE)
        return consistency.normalised_residual(lr, back, self.noise.variance)


def cases(work: Path, data: Path, part: str) -> list[Case]:
    found = []
    for (field, network), path in trained(work, data).items():
        told = degradation_of(open_pairs(work / field / "pairs.zarr"))
        lr, truth = (read(work / field / part / f"{name}.tif") for name in ("lr", "truth"))
        model = load(path)
        blur, noise = Blur(**told["blur"]), noise_from(told["noise"])
        found.append(Case(field, network, lr, truth, model.upscale(lr), blur, noise, model))
    return found


def with_usual(found: list[Case], others: list[Case]) -> list[Case]:
    """``found``, each with what is usual of the same network on the other field."""
    doubts = (
        consistency.maps(o.residual(o.sr, o.lr), TRUST_WINDOW_PX, DOUBT_PX).doubt for o in others
    )
    return [
        replace(case, usual=float(np.quantile(doubt, USUAL)))
        for case, doubt in zip(found, doubts, strict=True)
    ]


def maps_of(choose: bool) -> dict[str, Map]:
    """What is looked at, made of a normalised residual."""
    scales = CHOICES_PX if choose else (DOUBT_PX,)
    doubts = {
        f"doubt {px:g}" if choose else "doubt": (
            lambda z, px=px: consistency.maps(z, TRUST_WINDOW_PX, px).doubt
        )
        for px in scales
    }
    return doubts | {
        "power": lambda z: consistency.maps(z, TRUST_WINDOW_PX, DOUBT_PX).power,
        "structure": lambda z: consistency.maps(z, TRUST_WINDOW_PX, DOUBT_PX).structure,
    }


def lie_scores(
    case: Case, kind: str, size_px: float, count: int, maps: dict[str, Map]
) -> dict[str, np.ndarray]:
    """By map, ``(lie, 2)`` values with and without the lie; ``bound`` is (lie,) detectabilities."""
    rng = np.random.default_rng([SIZES_PX.index(int(size_px)), list(lies.KINDS).index(kind)])
    rows: dict[str, list] = {name: [] for name in (*maps, "SR gradient", "bound")}
    power = power_of(case)
    while len(rows["bound"]) < count:
        z = rng.integers(len(case.sr))
        y, x = rng.integers(0, np.array(case.lr.shape[1:]) - CROP_PX)
        coarse = np.s_[z, y : y + CROP_PX, x : x + CROP_PX]
        side = SCALE * CROP_PX
        fine = np.s_[z, SCALE * y : SCALE * y + side, SCALE * x : SCALE * x + side]
        free = np.zeros((side, side), bool)
        free[side // 3 : -side // 3, side // 3 : -side // 3] = True
        honest = case.sr[fine]
        try:
            altered, mask = lies.KINDS[kind](honest, case.truth[fine], rng, SCALE * size_px, free)
        except InputError:
            continue  # this piece shows nothing to lie about
        region = sample_area(mask, SCALE) > 0
        pair = [case.residual(sr, case.lr[coarse]) for sr in (altered, honest)]
        for name, make in maps.items():
            rows[name].append([make(residual)[region].max() for residual in pair])
        slopes = (
            ndimage.gaussian_gradient_magnitude(sr, 1.5) for sr in map(_float, (altered, honest))
        )
        rows["SR gradient"].append([slope[mask].max() for slope in slopes])
        rows["bound"].append(_detectability(case, altered, honest, power))
    return {name: np.array(values) for name, values in rows.items()}


def _float(image: np.ndarray) -> np.ndarray:
    return image.astype(np.float64)


def power_of(case: Case) -> np.ndarray:
    """Mean power spectrum of the honest residual over pieces of the size that lies are planted
    into, half overlapping; white noise: 1."""
    z, step = case.residual(case.sr, case.lr), CROP_PX // 2
    pieces = sliding_window_view(z, (CROP_PX, CROP_PX), (1, 2))[:, ::step, ::step]
    return np.mean(np.abs(np.fft.fft2(pieces)) ** 2, axis=(0, 1, 2)) / CROP_PX**2


def _detectability(case: Case, altered: np.ndarray, honest: np.ndarray, power: np.ndarray) -> float:
    """Distance of the two expected LR images in standard deviations of the honest residual, at
    each spatial frequency its own (the pre-whitened observer: Barrett and Myers, Foundations of
    Image Science, 2004, chapter 13)."""
    with_, without = (degraded(sr, case.blur, SCALE) for sr in (altered, honest))
    delta = (with_ - without) / np.sqrt(case.noise.variance(without))
    return float(np.sqrt(np.sum(np.abs(np.fft.fft2(delta)) ** 2 / delta.size / power)))


def auroc(pairs: np.ndarray) -> float:
    """Chance that a lie's value is above an honest one; ties count half."""
    lie, honest = pairs.T
    ranks = stats.rankdata(np.concatenate([lie, honest]))[: len(lie)]
    return float((ranks.sum() - len(lie) * (len(lie) + 1) / 2) / (len(lie) * len(honest)))
