"""One acquisition: its settings, what it would show on average, and what it shows once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emsr.microscope import stages
from emsr.microscope.distortions import charging, drift, line_jitter

Image = NDArray[np.float32]


@dataclass(frozen=True)
class Scan:
    """The numbers of one acquisition. "Fine" pixels are those of the stain handed in."""

    psf_sigma_px: tuple[float, float]
    """Widths of the Gaussian beam along and across ``psf_angle_rad``, in fine pixels."""
    factor: int
    """Fine pixels along each side of one scanned pixel."""
    dose: float
    """Beam electrons per scanned pixel (those a detector of full yield would count)."""
    gain: float
    """Grey levels per electron; negative shows heavy stain dark."""
    offset: float
    """Grey level without electrons."""
    read_noise: float
    """Standard deviation of the detector's own noise, in grey levels."""
    resin_yield: float = 0.35
    heavy_yield: float = 1.0
    psf_angle_rad: float = 0.0
    area: bool = True
    """Each pixel integrates its area; False: the beam stands still at its centre."""
    dtype: str = "uint8"
    jitter_px: float = 0.0
    """Standard deviation of each scan line's shift along x, in fine pixels."""
    drift_px: tuple[float, float] = (0.0, 0.0)
    """Movement (y, x) of the specimen during one frame, in fine pixels."""
    charging: float = 0.0
    """Height of the highest charging streak as a share of the mean signal."""


def scan_for_greys(
    white: float, black: float, dose: float, *, psf_sigma_px: float, factor: int, read_noise: float
) -> Scan:
    """A round-beam scan that shows bare resin at grey ``white`` and the heaviest stain at
    ``black``; gain and offset follow from the dose. ``white < black`` inverts the contrast."""
    resin, heavy = Scan.resin_yield, Scan.heavy_yield
    gain = (black - white) / (dose * (heavy - resin))
    return Scan(
        psf_sigma_px=(psf_sigma_px, psf_sigma_px),
        factor=factor,
        dose=dose,
        gain=gain,
        offset=white - gain * dose * resin,
        read_noise=read_noise,
    )


def expected(stain: Image, scan: Scan) -> Image:
    """The mean of endless acquisitions of ``stain`` (y, x) in [0, 1]: everything but noise,
    distortions and quantisation, in grey levels, float32 ``(y / factor, x / factor)``."""
    return stages.detector(_electrons(_seen(stain, scan), scan), scan.gain, scan.offset)


def acquire(stain: Image, scan: Scan, rng: np.random.Generator) -> NDArray[np.generic]:
    """One acquisition of ``stain`` (y, x) in [0, 1], quantised to ``scan.dtype``.

    Without distortions its mean is ``expected`` and its variance
    ``gain * (expected - offset) + read_noise**2 + 1/12``, where nothing saturates.
    """
    seen = drift(_seen(stain, scan), scan.drift_px)
    seen = line_jitter(seen, scan.jitter_px, scan.factor, rng)
    electrons = charging(_electrons(seen, scan), scan.charging, rng)
    counted = stages.shot_noise(electrons, rng)
    grey = stages.detector(counted, scan.gain, scan.offset)
    return stages.quantise(stages.gaussian_noise(grey, scan.read_noise, rng), scan.dtype)


def _seen(stain: Image, scan: Scan) -> Image:
    """Electron yield blurred by the beam, on the fine grid."""
    contrast = stages.electron_yield(stain, scan.resin_yield, scan.heavy_yield)
    return stages.blur(contrast, stages.gaussian_kernel(*scan.psf_sigma_px, scan.psf_angle_rad))


def _electrons(seen: Image, scan: Scan) -> Image:
    """Electrons expected in each scanned pixel."""
    sample = stages.sample_area if scan.area else stages.sample_point
    return np.float32(scan.dose) * sample(seen, scan.factor)
