"""The scans of each phantom: at which spacing and how well it is seen at HR and at LR."""

from __future__ import annotations

from dataclasses import dataclass

from emsr.microscope.scan import Scan, scan_for_greys

SUPERSAMPLING = 2
"""Tissue pixels along each side of an HR pixel."""


@dataclass(frozen=True)
class Preset:
    """Spacing and exposure of one phantom; doses in electrons per pixel at full yield.

    PSF widths are in the scan's own pixels: an operator matches the beam to the pixel, so the
    fast scan's wider pixel comes with a wider beam.
    """

    spacing_nm: tuple[float, float, float]
    white: float
    black: float
    hr_dose: float = 650.0
    lr_dose: float = 120.0
    hr_psf_px: float = 0.65
    lr_psf_px: float = 0.45
    read_noise: float = 2.0


PRESETS = {
    # the spacing of the white-matter data of the paper: 50 nm sections, 15 nm pixels, LR 45 nm
    "white-matter": Preset(spacing_nm=(50.0, 15.0, 15.0), white=228, black=18),
    # fine enough for vesicles (40 nm) at HR; at LR (24 nm) they are on the verge
    "neuropil": Preset(spacing_nm=(30.0, 8.0, 8.0), white=232, black=8),
}


def hr_scan(preset: Preset) -> Scan:
    """The slow scan of tissue ``SUPERSAMPLING`` times finer than HR."""
    return _scan(preset, preset.hr_dose, preset.hr_psf_px, SUPERSAMPLING)


def lr_scan(preset: Preset, scale: int) -> Scan:
    """The fast scan of the same tissue: pixels ``scale`` times larger, fewer electrons each."""
    return _scan(preset, preset.lr_dose, preset.lr_psf_px, SUPERSAMPLING * scale)


def _scan(preset: Preset, dose: float, psf_px: float, factor: int) -> Scan:
    return scan_for_greys(
        preset.white,
        preset.black,
        dose,
        psf_sigma_px=psf_px * factor,
        factor=factor,
        read_noise=preset.read_noise,
    )
