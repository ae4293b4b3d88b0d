"""Scores of square regions of the field, over all slices."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from emsr.errors import InputError
from emsr.quality.blocks import SMALL_PX, block_sums
from emsr.quality.clean import WIDEST_DB, decibel
from emsr.quality.clean_error import levelled
from emsr.quality.clean_ssim import MARGIN
from emsr.quality.fidelity import psnr_from_error
from emsr.quality.known import Known

Floats = NDArray[np.float64]


def check_side(px: int) -> None:
    """InputError where regions cannot be ``px`` pixels wide."""
    if px < 2 * SMALL_PX or px % SMALL_PX:
        raise InputError(
            f"regions of {px} px were asked for: give a multiple of {SMALL_PX} from "
            f"{2 * SMALL_PX} on"
        )


class Regions:
    """Running scores of the regions of ``px`` x ``px`` pixels (a multiple of 16) of one image."""

    def __init__(self, data_range: float, known: Known, px: int) -> None:
        check_side(px)
        self.data_range, self.known, self.px = data_range, known, px
        self.sums: dict[str, Floats] = {}

    def add(self, sr: Floats, hr: Floats, repeat: Floats | None, ssim_map: Floats) -> None:
        """Count in one slice ``(y, x)``; ``ssim_map`` is ``(y - 6, x - 6)``."""
        padded = np.pad(ssim_map, MARGIN)
        self._sum("windows", np.pad(np.ones_like(ssim_map), MARGIN))
        self._sum("ssim", padded)
        self._sum("pixels", np.ones_like(sr))
        self._sum("error", (sr - hr) ** 2)
        law = self.known.noise
        if repeat is not None:
            repeat = levelled(hr, repeat)
            self._sum("clean", (sr - hr) * (sr - repeat))
            noise = ((sr - repeat) ** 2 - (sr - hr) ** 2) / 2
            squares = block_sums(noise, SMALL_PX) ** 2
            for name, terms in (("variance", squares), ("squares", np.ones_like(squares))):
                self._keep(name, block_sums(terms, self.px // SMALL_PX))
        elif law is not None:
            variance = law.variance(hr)
            self._sum("clean", (sr - hr) ** 2 - variance)
            self._sum("variance", 4 * (sr - hr) ** 2 * variance - 2 * variance**2)

    def _sum(self, name: str, plane: Floats) -> None:
        self._keep(name, block_sums(plane, self.px))

    def _keep(self, name: str, sums: Floats) -> None:
        self.sums[name] = sums + self.sums.get(name, 0.0)

    def scores(self, why_no_clean: str | None, noise_error: float = 0.0) -> dict[str, Any]:
        """Rows of ``psnr``, ``ssim`` and ``clean_psnr`` by region; a null is not positive or wider
        than 2 dB to either side, or all are, for the reason given. ``noise_error`` is the standard
        error of the variance of one scan's noise."""
        error = self.sums["error"] / self.sums["pixels"]
        found: dict[str, Any] = {
            "px": self.px,
            "psnr": [[self._decibel(e) for e in row] for row in error],
            "ssim": [[s / n if n else None for s, n in row] for row in self._windows()],
            "clean_psnr": None,
            "reason": {},
        }
        if why_no_clean or "clean" not in self.sums:
            found["reason"] = {"clean_psnr": why_no_clean or self.known.why_no_noise}
            return found
        clean, size = self.sums["clean"] / self.sums["pixels"], self._size(noise_error)
        found["clean_psnr"] = [
            [self._believed(c, s) for c, s in zip(*rows, strict=True)]
            for rows in zip(clean, size, strict=True)
        ]
        if any(v is None for row in found["clean_psnr"] for v in row):
            found["reason"] = {"clean_psnr": "nulls: not positive, or known to 2 dB only"}
        return found

    def _windows(self) -> list[list[list[float]]]:
        return np.stack([self.sums["ssim"], self.sums["windows"]], axis=-1).tolist()

    def _size(self, noise_error: float) -> Floats:
        """Standard error of each region's squared error; of few blocks, as Student's quantiles ask
        for."""
        chance = np.sqrt(np.maximum(self.sums["variance"], 0)) / self.sums["pixels"]
        if "squares" in self.sums:
            degrees = np.maximum(self.sums["squares"] - 1, 1)
            return np.asarray(chance * stats.t.ppf(0.975, degrees) / stats.norm.ppf(0.975))
        law = self.known.noise
        return np.hypot(chance * (law.wider if law else 1.0), noise_error)

    def _decibel(self, error: float) -> float | None:
        return psnr_from_error(float(error), self.data_range) if error > 0 else None

    def _believed(self, error: float, size: float) -> float | None:
        low, high = error - 1.96 * size, error + 1.96 * size
        if low <= 0 or 10 * np.log10(max(high / error, error / low)) > WIDEST_DB:
            return None
        return decibel(error, self.data_range)
