"""How the phantom compares with real EM images: grey histogram, power spectrum, and side by side.

    python benchmarks/phantom_look.py [--data DIR] [--seed N] [--png PATH]
    python benchmarks/phantom_look.py --figure docs/img/phantom.png

Prints one row per image set: percentiles of the grey values, the share of the variance in bands of
wavelength, and the slope of the radial power spectrum. Real images are read where ``--data`` (or
EMSR_DATA) names them; they are not part of the project, and the picture belongs outside it too.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from skimage.io import imread, imsave

from emsr.geometry.box import Box
from emsr.jobs.simulate import simulate
from emsr.volumes.source import open_volume

PERCENTILES = (1, 10, 25, 50, 75, 90, 99)
BANDS_PX = ((2, 3), (3, 5), (5, 10), (10, 20), (20, 40), (40, 80), (80, 160))
DEFAULT_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@dataclass(frozen=True)
class Look:
    """Slices (z, y, x) of one image set and its pixel in nm."""

    name: str
    slices: NDArray[np.float32]
    pixel_nm: float


def phantom_looks(folder: Path, seed: int) -> list[Look]:
    """Truth, HR and LR of both presets, and white matter at the pixel of the rat SEM images."""
    looks = []
    for preset, shape in (("neuropil", (4, 768, 768)), ("white-matter", (4, 768, 768))):
        summary = simulate(folder / preset, preset, shape, 3, seed)
        pixel = summary["spacing_nm"][2]
        for scan, nm in (("truth", pixel), ("hr", pixel), ("lr", 3 * pixel)):
            looks.append(Look(f"{preset} {scan}", _read(folder / preset / f"{scan}.tif"), nm))
    simulate(folder / "wide", "white-matter", (1, 480, 480), 3, seed, spacing_nm=(70.0, 70.0, 70.0))
    looks.append(Look("white-matter inverted", 255 - _read(folder / "wide" / "hr.tif"), 70.0))
    return looks


def real_looks(data: Path) -> list[Look]:
    """The real sets that are there."""
    sets = (
        ("fibsem-fly-10nm/medulla_z000-219.tif", slice(40, 200, 40), 10.0),
        ("sbem-neural-noisy/z020-039.tif", slice(0, 20, 5), 5.9),
        ("sbem-neural-noisy/z080-090.tif", slice(0, 10, 3), 5.9),
    )
    looks = [
        Look(name, _read(data / name, chosen), pixel)
        for name, chosen, pixel in sets
        if (data / name).is_file()
    ]
    for number in ("7_sample-Maxo03img60", "8_sample-V915"):
        path = data / "sem-rat-white-matter" / f"sub-rat{number}_SEM.png"
        if path.is_file():
            looks.append(Look(path.name, imread(path)[None].astype(np.float32), 70.0))
    return looks


def radial_power(image: NDArray[np.float32]) -> tuple[NDArray, NDArray]:
    """Power by wavelength: (frequency in cycles per pixel, power of a square Hann-windowed cut)."""
    side = min(image.shape)
    cut = image[:side, :side] - image[:side, :side].mean()
    window = np.hanning(side)
    power = np.abs(np.fft.fft2(cut * window[:, None] * window)) ** 2
    f = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)[None])
    ring = np.rint(f * side).astype(int)
    mean = np.bincount(ring.ravel(), power.ravel()) / np.bincount(ring.ravel())
    return np.arange(1, side // 2) / side, mean[1 : side // 2]


def band_shares(slices: NDArray[np.float32]) -> list[float]:
    """Share of the variance in each band of wavelength, mean over slices."""
    shares = []
    for image in slices:
        frequency, power = radial_power(image)
        energy = power * frequency
        shares.append(
            [energy[(frequency <= 1 / a) & (frequency > 1 / b)].sum() for a, b in BANDS_PX]
        )
        shares[-1] = np.array(shares[-1]) / energy.sum()
    return list(np.mean(shares, axis=0))


def slope(slices: NDArray[np.float32], wavelengths_px: tuple[float, float] = (8, 60)) -> float:
    """Exponent of the radial power spectrum between two wavelengths."""
    found = []
    for image in slices:
        frequency, power = radial_power(image)
        inside = (frequency > 1 / wavelengths_px[1]) & (frequency < 1 / wavelengths_px[0])
        found.append(np.polyfit(np.log(frequency[inside]), np.log(power[inside]), 1)[0])
    return float(np.mean(found))


def row(look: Look) -> str:
    """One line of the table."""
    greys = np.percentile(look.slices, PERCENTILES)
    return (
        f"{look.name[-36:]:36} {look.pixel_nm:5.1f} {look.slices.mean():5.0f} "
        f"{look.slices.std():4.0f} | "
        + " ".join(f"{g:4.0f}" for g in greys)
        + " | "
        + " ".join(f"{100 * s:5.1f}" for s in band_shares(look.slices))
        + f" | {slope(look.slices):5.2f}"
    )


def header() -> str:
    """Titles of the table."""
    return (
        f"{'set':36} {'nm':>5} {'mean':>5} {'std':>4} | "
        + " ".join(f"{f'p{p}':>4}" for p in PERCENTILES)
        + " | "
        + " ".join(f"{f'{a}-{b}':>5}" for a, b in BANDS_PX)
        + " | slope    (bands: % of variance by wavelength in px)"
    )


def side_by_side(looks: list[Look], side: int = 384) -> NDArray[np.uint8]:
    """The middle of each set's first slice, at equal zoom, four to a row."""
    tiles = []
    for look in looks:
        image = look.slices[0]
        y, x = ((n - min(side, n)) // 2 for n in image.shape)
        cut = np.clip(image[y : y + side, x : x + side], 0, 255).astype(np.uint8)
        tiles.append(np.pad(cut, [(0, side - n) for n in cut.shape], constant_values=255))
    tiles += [np.full((side, side), 255, np.uint8)] * (-len(tiles) % 4)
    return np.vstack([np.hstack(tiles[i : i + 4]) for i in range(0, len(tiles), 4)])


def presets_figure(seed: int, side: int = 321) -> NDArray[np.uint8]:
    """The same field of both presets at HR and, beside it, at LR drawn as large."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for preset in ("white-matter", "neuropil"):
            simulate(Path(folder) / preset, preset, (1, side, side), 3, seed)
            hr, lr = (_read(Path(folder) / preset / f"{scan}.tif")[0] for scan in ("hr", "lr"))
            gap = np.full((side, 4), 255)
            rows.append(np.hstack([hr, gap, np.kron(lr, np.ones((3, 3)))]))
    return np.vstack([rows[0], np.full((4, rows[0].shape[1]), 255), rows[1]]).astype(np.uint8)


def _read(path: Path, chosen: slice = slice(None)) -> NDArray[np.float32]:
    volume = open_volume(path)
    depth, height, width = volume.shape
    picked = range(depth)[chosen]
    slices = [volume.read(Box((z, 0, 0), (z + 1, height, width)))[0] for z in picked]
    return np.stack(slices).astype(np.float32)


def main() -> None:
    """Print the table; write the picture where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("EMSR_DATA", DEFAULT_DATA))
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--png", type=Path, help="write a side-by-side picture there")
    parser.add_argument("--figure", type=Path, help="write only the picture of the presets there")
    arguments = parser.parse_args()
    if arguments.figure:
        imsave(arguments.figure, presets_figure(arguments.seed), check_contrast=False)
        return
    with tempfile.TemporaryDirectory() as folder:
        looks = phantom_looks(Path(folder), arguments.seed) + real_looks(arguments.data)
    print(header())
    for look in looks:
        print(row(look))
    if arguments.png:
        imsave(arguments.png, side_by_side(looks), check_contrast=False)


if __name__ == "__main__":
    main()
