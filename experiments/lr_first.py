"""Why LR is scanned first: what drift and charging leave of an HR scan, against SR from LR.

    python experiments/lr_first.py --model MODEL --cleaner CLEANER   the table of docs/enhancer.md

Drift grows with the time of a frame, charging with its dose (``distortions.Unrest``), and an HR
frame of the white-matter phantom takes 49 times the time and the dose of its LR frame: nine times
the pixels, and 5.4 times the electrons in each. Both scans are made of a field that no network was
trained on; ``MODEL`` is an LR to HR network, ``CLEANER`` one of scale 1 (benchmarks/enhancer.py
trains both). The undisturbed truth is moved onto what is scored as a whole: a shift is no
distortion. Strengths are those that the HR frame gets; the LR frame gets its share.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from skimage.registration import phase_cross_correlation

from emsr.geometry.tiles import coarser_spacing
from emsr.jobs.form import Form, in_form
from emsr.jobs.model import Model, load
from emsr.microscope.distortions import Frame, Unrest, frame
from emsr.microscope.presets import PRESETS, SUPERSAMPLING, hr_scan, lr_scan
from emsr.microscope.scan import Scan, acquire, expected
from emsr.microscope.tissue import tissue
from emsr.quality.fidelity import psnr
from emsr.quality.resolution import frc, frc_resolution_nm
from emsr.volumes.volume import array_volume

PRESET, SCALE, SHAPE, SEED = "white-matter", 3, (4, 384, 384), 2
PER_SECOND = 2e8
"""Electrons of full yield: 32 pA. An HR pixel takes 3.3 microseconds."""
DRIFTS_PX = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0)
"""HR pixels that the specimen moves during the HR frame."""
CHARGING = (0.0, 0.1, 0.2, 0.4, 0.8)
"""Height of the highest streak of the HR frame, as a share of the mean signal."""
BOTH = ((2.0, 0.1), (4.0, 0.2), (8.0, 0.4))
EDGE_PX, PEAK = 24, 255.0
"""Of the field, left out of the scores: drift brings in what lies beside the truth."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--cleaner", type=Path, required=True)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    model, cleaner = load(asked.model, "cpu"), load(asked.cleaner, "cpu")
    stain, truth = phantom()
    print("| drift px | charging | HR as acquired | HR, cleaned | SR from LR |")
    print("| --- | --- | --- | --- | --- |")
    for drift, height in strengths():
        hr, lr = scans(stain, unrest(drift, height))
        made = (hr, cleaned(hr, cleaner), model.upscale(lr))
        cells = (score(image, truth) for image in made)
        print(f"| {drift:g} | {height:g} | {' | '.join(cells)} |", flush=True)


def strengths() -> Iterator[tuple[float, float]]:
    """(drift, charging) of each row."""
    yield from ((drift, 0.0) for drift in DRIFTS_PX)
    yield from ((0.0, height) for height in CHARGING[1:])
    yield from BOTH


def phantom() -> tuple[np.ndarray, np.ndarray]:
    """Stain (z, y, x) on the fine grid, and the truth in HR pixels."""
    preset = PRESETS[PRESET]
    z, y, x = preset.spacing_nm
    fine = (SHAPE[0], SHAPE[1] * SUPERSAMPLING, SHAPE[2] * SUPERSAMPLING)
    block = tissue(PRESET, fine, (z, y / SUPERSAMPLING, x / SUPERSAMPLING), SEED)
    stain = block.render(0, SHAPE[0])
    return stain, np.stack([expected(plane, hr_scan(preset)) for plane in stain])


def frames() -> tuple[Frame, Frame]:
    """The HR and the LR frame of the field."""
    preset = PRESETS[PRESET]
    _, pixel, _ = preset.spacing_nm
    coarse = coarser_spacing(preset.spacing_nm, SCALE)
    assert coarse is not None
    high = frame(SHAPE[1:], pixel, preset.hr_dose, PER_SECOND)
    low = (SHAPE[1] // SCALE, SHAPE[2] // SCALE)
    return high, frame(low, coarse[1], preset.lr_dose, PER_SECOND)


def unrest(drift_px: float, charging: float) -> Unrest:
    """The specimen that shows these strengths in the HR frame."""
    high, _ = frames()
    pixel = PRESETS[PRESET].spacing_nm[1]
    return Unrest(drift_px * pixel / high.seconds, charging / high.electrons_per_nm2)


def scans(stain: np.ndarray, specimen: Unrest) -> tuple[np.ndarray, np.ndarray]:
    """HR and LR of every slice, each drifting its own way."""
    preset, (high, low) = PRESETS[PRESET], frames()
    pairs = []
    for z, plane in enumerate(stain):
        rng = np.random.default_rng([SEED, z])
        angle = rng.uniform(0, 2 * np.pi)
        pairs.append(
            (
                acquire(plane, disturbed(hr_scan(preset), specimen, high, angle), rng),
                acquire(plane, disturbed(lr_scan(preset, SCALE), specimen, low, angle), rng),
            )
        )
    hr, lr = zip(*pairs, strict=True)
    return np.stack(hr), np.stack(lr)


def disturbed(scan: Scan, specimen: Unrest, taken: Frame, angle_rad: float) -> Scan:
    fine_nm = PRESETS[PRESET].spacing_nm[1] / SUPERSAMPLING
    return replace(
        scan,
        drift_px=specimen.drift_px(taken, angle_rad, fine_nm),
        charging=specimen.charging(taken),
    )


def cleaned(hr: np.ndarray, cleaner: Model) -> np.ndarray:
    """As ``emsr enhance`` cleans it."""
    volume = array_volume(hr, PRESETS[PRESET].spacing_nm, "HR")
    return in_form(volume, cleaner, Form(clean=True))[1].upscale(hr)


def score(image: np.ndarray, truth: np.ndarray) -> str:
    """PSNR in dB and resolution in nm against the truth, moved onto each slice as a whole."""
    moved = np.stack([onto(*planes) for planes in zip(truth, image, strict=True)])
    inner = (slice(None), *(slice(EDGE_PX, -EDGE_PX),) * 2)
    one, other = image[inner], moved[inner]
    pixel = PRESETS[PRESET].spacing_nm[1]
    found = frc_resolution_nm(frc(one, other), min(one.shape[1:]), pixel)
    return f"{psnr(one, other, PEAK):.1f} dB, {f'{found:.0f}' if found else f'< {2 * pixel:g}'} nm"


def onto(truth: np.ndarray, plane: np.ndarray) -> np.ndarray:
    """The truth moved, since to move a noisy slice by parts of a pixel would smooth it."""
    shift = phase_cross_correlation(plane, truth, upsample_factor=10, normalization=None)[0]
    return ndimage.shift(truth.astype(np.float32), shift, order=3, mode="reflect")


if __name__ == "__main__":
    main()
