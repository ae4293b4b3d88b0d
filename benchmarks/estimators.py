"""How well noise, blur and resolution are read back: estimate over true value, on the phantom.

    OMP_NUM_THREADS=1 python benchmarks/estimators.py [--data DIR] [--seeds 2 3] [--only PART ...]

Prints the tables of docs/noise.md, in about four minutes on one core. Settings were chosen on seed
1, which is therefore not among the seeds. Real images, which have no truth, are read where --data
(or EMSR_DATA) names them.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
from scipy import ndimage

from emsr.errors import InputError
from emsr.geometry.box import Box
from emsr.microscope import stages
from emsr.microscope.estimate import (
    Noise,
    blur_from_spectra,
    noise_from_image,
    noise_from_repeat,
    noise_from_slices,
    read_noise,
    relative_blur,
)
from emsr.microscope.estimate_noise import slice_correlation
from emsr.microscope.presets import PRESETS, SUPERSAMPLING, hr_scan, lr_scan
from emsr.microscope.scan import Scan, acquire, expected, scan_for_greys
from emsr.microscope.tissue import tissue
from emsr.quality.one_image import expected_frc
from emsr.quality.resolution import frc, frc_resolution_nm
from emsr.volumes.source import open_volume

SCALE = 3
SLICES, SIDE_PX = 4, 960
DOSES = {"HR": (0.25, 1, 10, 40), "LR": (1, 4, 16, 40)}
CORRELATED = {
    "pairs along x": lambda n: ndimage.convolve1d(n, [0.5, 0.5], axis=-1),
    "1 2 1 along x": lambda n: ndimage.convolve1d(n, [0.25, 0.5, 0.25], axis=-1),
    "Gaussian 0.6 px": lambda n: ndimage.gaussian_filter(n, (0, 0.6, 0.6)),
}
Planes = np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = os.environ.get("EMSR_DATA", "../shared/data")
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--seeds", type=int, nargs=2, default=[2, 3])
    parser.add_argument("--only", choices=PARTS, nargs="+", default=list(PARTS))
    arguments = parser.parse_args()
    for part in arguments.only:
        PARTS[part](arguments)


@cache
def stain(preset: str, seed: int) -> Planes:
    """Tissue (z, y, x) in [0, 1] on the fine grid."""
    z, y, x = PRESETS[preset].spacing_nm
    side = SIDE_PX * SUPERSAMPLING
    spacing = (z, y / SUPERSAMPLING, x / SUPERSAMPLING)
    return tissue(preset, (SLICES, side, side), spacing, seed).render(0, SLICES)


@dataclass(frozen=True)
class Case:
    """Two acquisitions of one field, what they show on average, and the noise's variance."""

    scan: Scan
    clean: Planes
    first: Planes
    second: Planes

    @property
    def variance(self) -> float:
        """Of the noise, mean over the image: what the scan's settings say."""
        scan = self.scan
        electrons = scan.gain * (self.clean.mean(dtype=np.float64) - scan.offset)
        return float(electrons + scan.read_noise**2 + 1 / 12)


def case(preset: str, seed: int, scan: Scan) -> Case:
    """Both acquisitions have noise of their own."""
    planes = stain(preset, seed)
    rng = np.random.default_rng([seed, 77, int(scan.dose * 8)])
    clean = np.stack([expected(plane, scan) for plane in planes])
    first, second = (np.stack([acquire(p, scan, rng) for p in planes]) for _ in range(2))
    return Case(scan, clean, first, second)


def scan_of(preset: str, kind: str, dose: float, psf_px: float | None = None) -> Scan:
    """The preset's scan at ``dose`` times its dose; read noise falls with the root of the dose."""
    settings = PRESETS[preset]
    settings = replace(
        settings,
        hr_dose=settings.hr_dose * dose,
        lr_dose=settings.lr_dose * dose,
        read_noise=settings.read_noise / np.sqrt(dose),
        lr_psf_px=settings.lr_psf_px if psf_px is None else psf_px,
    )
    return hr_scan(settings) if kind == "HR" else lr_scan(settings, SCALE)


def deep_scan() -> Scan:
    """16 bits, a handful of electrons a pixel: more noise than structure."""
    factor = SUPERSAMPLING
    few = scan_for_greys(42000, 26000, 8, psf_sigma_px=0.65 * factor, factor=factor, read_noise=900)
    return replace(few, dtype="uint16")


def scans() -> Iterator[tuple[str, str, Callable[[str], Scan]]]:
    """Kind, dose and scan (given a preset) of every row of the first table."""
    for kind, doses in DOSES.items():
        for dose in doses:
            yield kind, f"{dose:g}", partial(scan_of, kind=kind, dose=dose)
    yield "HR 16 bit", "0.012", lambda _: deep_scan()


METHODS: dict[str, Callable[[Case], Noise]] = {
    "repeat": lambda c: noise_from_repeat(c.first, c.second),
    "slices": lambda c: noise_from_slices(c.first),
    "images": lambda c: noise_from_image(c.first),
    "one image": lambda c: noise_from_image(c.first[1]),
}


def noise_table(arguments: argparse.Namespace) -> None:
    """Sigma and gain by each method, and what is said of the correlation, which is 0."""
    row("preset", "scan", "dose", "sigma", "std", "seed", *METHODS, *(f"gain {m}" for m in METHODS))
    errors: dict[str, list[float]] = {method: [] for method in METHODS}
    for preset in PRESETS:
        for kind, dose, make in scans():
            for seed in arguments.seeds:
                taken = case(preset, seed, make(preset))
                sigma = np.sqrt(taken.variance)
                found = {name: method(taken) for name, method in METHODS.items()}
                for name, noise in found.items():
                    errors[name].append(noise.sigma / sigma - 1)
                marked = (f"{n.sigma / sigma:.3f}{mark(n)}" for n in found.values())
                gains = (ratio(n.slope, taken.scan.gain) for n in found.values())
                std = f"{taken.clean.std():.4g}"
                row(preset, kind, dose, f"{sigma:.4g}", std, seed, *marked, *gains)
    for name, values in errors.items():
        size = np.abs(values)
        print(
            f"\n{name}: rms error {100 * np.sqrt(np.mean(size**2)):.1f} %, largest "
            f"{100 * size.max():.1f} %, above 5 % in {np.sum(size > 0.05)} of {len(size)}"
        )
    print("\nw: found white; c: found correlated (wrongly); otherwise no word on it")


def mark(noise: Noise) -> str:
    """What the estimate says of the correlation of white noise."""
    if noise.method == "repeat" or noise.correlation is None:
        return ""
    return "w" if max(map(abs, noise.correlation)) < 0.15 else "c"


def detector_table(arguments: argparse.Namespace) -> None:
    """Gain and read noise from a repeat."""
    row("preset", "scan", "dose", "gain", "gain found", "read noise", "read noise found")
    for preset in PRESETS:
        for dose in (0.25, 1, 10):
            taken = case(preset, arguments.seeds[0], scan_of(preset, "HR", dose))
            noise = noise_from_repeat(taken.first, taken.second)
            read = read_noise(noise, taken.scan.offset)
            gains = f"{taken.scan.gain:.4f}", "-" if noise.slope is None else f"{noise.slope:.4f}"
            reads = f"{taken.scan.read_noise:.2f}", "-" if read is None else f"{read:.2f}"
            row(preset, "HR", f"{dose:g}", *gains, *reads)


def correlated_table(arguments: argparse.Namespace) -> None:
    """Noise that neighbours share, added to the noise-free scans."""
    methods = {name: METHODS[name] for name in ("repeat", "slices", "images")}
    heads = [f"{what} {name}" for name in methods for what in ("sigma", "r(y) r(x)")]
    row("preset", "scan", "noise", "true sigma", "true r(y) r(x)", *heads)
    for preset in PRESETS:
        for kind in DOSES:
            for name, spread in CORRELATED.items():
                for sigma in (4, 12):
                    taken, r = correlated_case(preset, kind, sigma, spread, arguments.seeds[0])
                    cells = []
                    for method in methods.values():
                        noise = method(taken)
                        cells += [f"{noise.sigma / sigma:.2f}", pair(noise.correlation)]
                    row(preset, kind, name, sigma, pair(r), *cells)


def correlated_case(
    preset: str, kind: str, sigma: float, spread: Callable[[Planes], Planes], seed: int
) -> tuple[Case, tuple[float, float]]:
    """Two scans with noise made by ``spread``, and its correlation along (y, x)."""
    scan = scan_of(preset, kind, 1)
    clean = np.stack([expected(plane, scan) for plane in stain(preset, seed)])
    rng = np.random.default_rng([seed, 78])
    noise = [spread(rng.standard_normal(clean.shape)) for _ in range(2)]
    noise = [sigma * n / n.std() for n in noise]
    first, second = (stages.quantise(clean + n, "uint8") for n in noise)
    n = noise[0]
    y, x = np.mean(n[:, 1:] * n[:, :-1]), np.mean(n[..., 1:] * n[..., :-1])
    return Case(scan, clean, first, second), (float(y / sigma**2), float(x / sigma**2))


def blur_table(arguments: argparse.Namespace) -> None:
    """Relative blur: round PSFs of the phantom, then kernels made by the stages."""
    row("preset", "true sigma", "pair", "pair, one slice", "other field, same tissue")
    one, other = arguments.seeds
    for preset in PRESETS:
        fine = case(preset, one, scan_of(preset, "HR", 1))
        elsewhere = case(preset, other, scan_of(preset, "HR", 1))
        hr_noise, there = (noise_from_slices(c.first) for c in (fine, elsewhere))
        for psf_px in (0.3, 0.45, 0.7, 1.0):
            lr = case(preset, one, scan_of(preset, "LR", 1, psf_px)).first
            true = np.sqrt((psf_px * SCALE) ** 2 - PRESETS[preset].hr_psf_px ** 2)
            found = (
                relative_blur(lr, fine.first, SCALE, hr_noise),
                relative_blur(lr[0], fine.first[0], SCALE, hr_noise),
                blur_from_spectra(lr, elsewhere.first, SCALE, noise_from_slices(lr), there),
            )
            row(preset, f"{true:.2f} round", *(f"{blur.sigma_px / true:.3f}" for blur in found))
        for a, b, angle in ((1.6, 0.8, 0.6), (2.2, 1.0, 2.2), (0.9, 0.9, 0.0)):
            lr = made_lr(fine.clean, (a, b, angle), np.random.default_rng(1))
            true = np.sqrt((a * a + b * b) / 2)
            cells = []
            for k in (slice(None), slice(1)):
                blur = relative_blur(lr[k], fine.first[k], SCALE, hr_noise)
                widths = f"{blur.sigma_a_px:.2f} x {blur.sigma_b_px:.2f} at {blur.angle_rad:.2f}"
                cells.append(f"{blur.sigma_px / true:.3f} ({widths})")
            row(preset, f"{true:.2f} ({a} x {b} at {angle})", *cells, "-")


def made_lr(clean: Planes, widths: tuple[float, float, float], rng: np.random.Generator) -> Planes:
    """An LR scan of noise-free HR: blur, area sampling, noise of 20 grey levels."""
    seen = stages.sample_area(stages.blur(clean, stages.gaussian_kernel(*widths)), SCALE)
    return stages.gaussian_noise(seen, 20.0, rng)


def resolution_table(arguments: argparse.Namespace) -> None:
    """FRC 1/7 between two scans, and as expected from one scan and its noise."""
    row("preset", "scan", "dose", "two scans", "one scan")
    for preset in PRESETS:
        for kind, doses in DOSES.items():
            for dose in doses[:3]:
                taken = case(preset, arguments.seeds[0], scan_of(preset, kind, dose))
                side = taken.first.shape[1]
                curves = (
                    frc(taken.first, taken.second),
                    expected_frc(taken.first, noise_from_slices(taken.first).sigma),
                )
                found = [frc_resolution_nm(curve, side, 1.0) for curve in curves]
                row(preset, kind, f"{dose:g}", *(f"{f:.2f} px" if f else "Nyquist" for f in found))


def real_table(arguments: argparse.Namespace) -> None:
    """Methods side by side where there is no truth."""
    if not arguments.data.is_dir():
        print(f"no real images: {arguments.data} is not a folder")
        return
    row("image", "std", "slices", "r(y) r(x)", "images", "r(y) r(x)", "r(z)")
    for path, many in real_images(arguments.data):
        volume = open_volume(path)
        depth = min(volume.shape[0], 12)
        planes = volume.read(Box((0, 0, 0), (depth, *volume.shape[1:])))
        cells = []
        for method in (noise_from_slices, noise_from_image):
            try:
                noise = method(planes) if many or method is noise_from_image else None
            except InputError as error:
                noise = None
                print(error)
            cells += [f"{noise.sigma:.4g}", pair(noise.correlation)] if noise else ["-", "-"]
        shared = f"{slice_correlation(planes)[0]:.2f}" if many else "-"
        row(path.stem, f"{planes.std():.4g}", *cells, shared)
    difference_of_two(arguments.data)


def real_images(data: Path) -> Iterator[tuple[Path, bool]]:
    """Each image, and whether it is a stack of adjacent slices."""
    yield data / "fibsem-fly-10nm/medulla_z000-219.tif", True
    for path in sorted((data / "sbem-neural-noisy").glob("*.tif")):
        yield path, True
    for path in sorted((data / "sem-brain-fast-slow").glob("*.tif")):
        yield path, False
    for path in sorted((data / "sem-rat-white-matter").glob("*.png")):
        yield path, False


def difference_of_two(data: Path) -> None:
    """One field scanned fast and slowly: what their noise adds up to."""
    fast, slow = (
        open_volume(data / f"sem-brain-fast-slow/{name}.tif") for name in ("fast", "slow")
    )
    a, b = (v.read(Box((0, 0, 0), v.shape)).astype(np.float64) for v in (fast, slow))
    both = np.hypot(*(noise_from_image(image.astype(np.uint8)).sigma for image in (a, b)))
    d = a - b
    r = (np.mean(d[:, 1:] * d[:, :-1]), np.mean(d[..., 1:] * d[..., :-1])) / d.var()
    print(
        f"\nfast - slow: std {d.std():.2f}, correlation {pair(r)}; the two images' noise, each "
        f"estimated alone, adds up to {both:.2f}"
    )


def pair(values: tuple[float, float] | np.ndarray | None) -> str:
    return "-" if values is None else f"{values[0]:.2f} {values[1]:.2f}"


def ratio(value: float | None, true: float) -> str:
    return "-" if value is None else f"{value / true:.2f}"


def row(*cells: object) -> None:
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


PARTS: dict[str, Callable[[argparse.Namespace], None]] = {
    "noise": noise_table,
    "detector": detector_table,
    "correlated": correlated_table,
    "blur": blur_table,
    "resolution": resolution_table,
    "real": real_table,
}


if __name__ == "__main__":
    main()
