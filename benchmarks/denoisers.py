"""What the denoisers of the strategy ``denoised`` are worth, and what they remove.

    python benchmarks/denoisers.py --data DATA          the tables of docs/denoising.md, on one core
    python benchmarks/denoisers.py --choose             what settings were chosen by (seed 1)

Phantoms are scored against their truth. The fast SEM scan is scored against the slow scan of the
same field, which has noise of its own (the row ``slow`` tells what a perfect image would score);
the SBEM stack has nothing to be scored against, so only what was removed is looked at. A Gaussian
blur of 2 pixels shows what being caught looks like. Columns: standard deviation of what was removed
over that of the noise; its correlation with the next pixel; its variance at edges over that on flat
tissue; its correlation with what was removed from the next slice; warnings before and after.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from emsr.geometry.box import whole
from emsr.jobs.simulate import simulate
from emsr.microscope import stages
from emsr.microscope.estimate import Noise
from emsr.pairs.align import grey_moments, grey_relation
from emsr.pairs.denoise import DENOISERS, Noisy, denoise, doubts
from emsr.pairs.denoise_nlm import nlm
from emsr.pairs.denoise_residual import complaints, removed
from emsr.pairs.made_from import noise_of
from emsr.pairs.noise import colour_kernel
from emsr.recipe import Denoising
from emsr.volumes.source import open_volume

PHANTOMS, SHAPE = ("white-matter", "neuropil"), (4, 384, 384)
CHOICE_SEED, TEST_SEED = 1, 2
PEAK, SIGMA = 255.0, 10.0
CORRELATIONS = (0.0, 0.1, 0.15, 0.2, 0.4)
"""Of the noise of neighbouring pixels."""


@dataclass(frozen=True)
class Field:
    """A noisy stack, and what it is scored against."""

    name: str
    scan: np.ndarray
    truth: np.ndarray | None
    """Of its shape; for "fast" the slow scan, in the grey levels of the fast one."""
    noise: Noise | None = None
    """Where it is known; else estimated."""


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="the folder of real images")
    parser.add_argument("--choose", action="store_true", help="strengths, on phantoms of seed 1")
    asked = parser.parse_args()
    began = time.process_time()
    print(
        "| field | denoiser | PSNR dB | ratio | autocorrelation y, x | edges | next slice "
        "| warnings | s / MP |\n|" + " --- |" * 9
    )
    if asked.choose:
        for field in phantoms(CHOICE_SEED):
            report(field, candidates(field))
        for field in coloured(next(phantoms(CHOICE_SEED))):
            report(
                field, {name: partial(denoise, name, _noisy(field)) for name in ("nlm", "blind")}
            )
    else:
        for field in chain(phantoms(TEST_SEED), acquired(asked.data) if asked.data else ()):
            report(field, denoisers(field))
    print(f"\n{time.process_time() - began:.0f} s of one core")


def phantoms(seed: int) -> Iterator[Field]:
    for preset in PHANTOMS:
        with tempfile.TemporaryDirectory() as folder:
            simulate(folder, preset, SHAPE, 3, seed)
            scan, truth = (read(Path(folder) / f"{name}.tif") for name in ("hr", "truth"))
        yield Field(preset, scan, truth)


def coloured(phantom: Field) -> Iterator[Field]:
    """Its truth with noise that neighbouring pixels share more and more of, and that is known."""
    assert phantom.truth is not None
    for shared in CORRELATIONS:
        white = np.random.default_rng(0).standard_normal(phantom.truth.shape).astype(np.float32)
        scan = phantom.truth + stages.blur(SIGMA * white, colour_kernel((shared, shared)))
        noise = Noise(SIGMA, None, None, (shared, shared), "stated")
        yield Field(f"{phantom.name}, correlation {shared:g}", scan, phantom.truth, noise)


def acquired(data: Path) -> Iterator[Field]:
    yield Field("SBEM", read(data / "sbem-neural-noisy/z080-090.tif")[3:7, 320:704, 320:704], None)
    fast, slow = (read(data / f"sem-brain-fast-slow/{name}.tif") for name in ("fast", "slow"))
    gain, offset = grey_relation(grey_moments(fast[0], slow[0]))
    sigma = gain * noise_of(slow, "slow").sigma
    row("fast SEM", f"slow, σ {sigma:.1f}", f"{20 * np.log10(PEAK / sigma):.2f}", *("",) * 6)
    yield Field("fast SEM", fast, gain * slow.astype(np.float32) + offset)


def read(path: Path) -> np.ndarray:
    volume = open_volume(path)
    return volume.read(whole(volume.shape))


Candidates = dict[str, Callable[[], np.ndarray]]


def denoisers(field: Field) -> Candidates:
    """Those of the strategy, as it calls them, and a blur."""
    noisy = _noisy(field)
    names = ("nlm", "blind", "slices") if len(field.scan) > 1 else ("nlm", "blind")
    return {
        **{name: partial(denoise, name, noisy) for name in names},
        "blur 2 px": partial(_blurred, noisy.stack, 2.0),
    }


def candidates(field: Field) -> Candidates:
    """Strengths of non-local means, and blurs, from too weak to too strong."""
    noisy = _noisy(field)
    strengths, widths = (
        (0.3, 0.5, 0.6, 0.7, 0.75, 0.8, 0.9, 1.0, 1.5, 2.5),
        (0.5, 0.7, 1, 1.5, 2, 3),
    )
    return {
        **{f"nlm {h}": partial(nlm, noisy.stack, noisy.noise, h) for h in strengths},
        **{f"blur {w} px": partial(_blurred, noisy.stack, w) for w in widths},
    }


def _noisy(field: Field) -> Noisy:
    noise, depth = field.noise or noise_of(field.scan, field.name), len(field.scan)
    stack = field.scan.astype(np.float32)
    return Noisy(stack, range(depth), field.scan, noise, Denoising().steps, seed=0)


def _blurred(stack: np.ndarray, sigma_px: float) -> np.ndarray:
    return gaussian_filter(stack, (0, sigma_px, sigma_px))


def report(field: Field, ways: Candidates) -> None:
    """One row for the scan, one for each way of denoising it."""
    noisy = _noisy(field)
    noise = noisy.noise
    row(field.name, f"none (σ {noise.sigma:.1f})", psnr(noisy.stack, field.truth), *("",) * 6)
    for name, way in ways.items():
        began = time.process_time()
        clean = way()
        seconds = (time.process_time() - began) / noisy.stack.size * 1e6
        found = removed(noisy.stack, clean, noise)
        doubted = doubts(name, noisy) if name in DENOISERS else ()
        row(
            field.name,
            name,
            psnr(clean, field.truth),
            f"{found.ratio:.2f}",
            ", ".join(f"{r:.2f}" for r in found.autocorrelation),
            f"{found.edge_excess:.2f}",
            with_the_next(noisy.stack - clean),
            f"{len(doubted)}, {len(complaints(found, noise))}",
            f"{seconds:.1f}",
        )


def row(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


def psnr(image: np.ndarray, truth: np.ndarray | None) -> str:
    if truth is None:
        return ""
    return f"{10 * np.log10(PEAK**2 / np.mean((image.astype(np.float64) - truth) ** 2)):.2f}"


def with_the_next(residual: np.ndarray) -> str:
    """Correlation of what was removed from adjacent slices: their noise is independent, their
    structure is not."""
    if len(residual) < 2:
        return ""
    return f"{np.corrcoef(residual[1:].ravel(), residual[:-1].ravel())[0, 1]:.2f}"


if __name__ == "__main__":
    main()
