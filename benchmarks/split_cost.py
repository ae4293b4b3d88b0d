"""What splitting one noisy scan costs where its noise is not Gaussian.

    python benchmarks/split_cost.py [--side 1800] [--alpha 0.7]

A flat field of which a detector counts 3 to 650 electrons per pixel, at the same contrast: the mean
lies 221 grey levels above the offset, so 445 electrons have the noise of the phantom's HR scan
(10.5 grey levels). Perfect splitting leaves E[target error | input] = 0. Its rms over the inputs is
printed in grey levels and as a share of the scan's noise sigma:

    pixel   given the input's pixel. Recorruption with the true sigma, by integration over the
            counts; thinning by simulation.
    LR      given the LR pixel (blur of 1.1 HR pixels, area sampling x3, no noise added), of the
            mean target over its area, as a share of that mean's noise in the scan; by simulation.

"estimated": sigma from the smoothed scan, as ``split`` takes it. "read": thinning of a scan with
read noise of one electron, which thinning takes for counts.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.stats import norm, poisson

from emsr.microscope.stages import blur, gaussian_kernel, poisson_gaussian, sample_area
from emsr.pairs.made_two import SMOOTHING_PX
from emsr.pairs.recorrupt import recorrupt, thin

ELECTRONS = (3, 10, 30, 100, 650)
SIGNAL_GREY = 10.5 * np.sqrt(445)
SCALE, BLUR_PX, BINS = 3, 1.1, 60
Pair = tuple[np.ndarray, np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=1800, help="of the simulated field, pixels")
    parser.add_argument("--alpha", type=float, default=0.7)
    arguments = parser.parse_args()
    print(
        "| electrons | sigma | recorrupt, pixel: grey levels | of sigma | LR | estimated: LR | "
        "thin, pixel | LR | read: LR |"
    )
    print("| --- " * 9 + "|")
    for electrons in ELECTRONS:
        print(row(electrons, arguments.side, arguments.alpha))


def row(electrons: int, side: int, alpha: float) -> str:
    gain = SIGNAL_GREY / electrons
    sigma = gain * np.sqrt(electrons)
    exact = gain * recorruption_bias(electrons, alpha)
    clean = np.full((side, side), SIGNAL_GREY, np.float32)
    made = splits(clean, gain, alpha)
    pixel = bias(*made["thin"], SIGNAL_GREY)
    lr = {name: lr_bias(*pair) / (sigma / SCALE) for name, pair in made.items()}
    return (
        f"| {electrons} | {sigma:.1f} | {exact:.2f} | {exact / sigma:.1%} | "
        f"{lr['recorrupt']:.1%} | {lr['estimated']:.1%} | {pixel / sigma:.1%} | {lr['thin']:.1%} | "
        f"{lr['read']:.1%} |"
    )


def recorruption_bias(electrons: float, alpha: float) -> float:
    """Rms over the input u = k + alpha z of E[target error | u], in electrons; k is the Poisson
    count, z Gaussian of its variance, the target k - z / alpha = k - (u - k) / alpha^2."""
    width = np.sqrt(electrons)
    counts = np.arange(poisson.ppf(1e-9, electrons), poisson.isf(1e-9, electrons) + 1)
    spread = 8 * width * np.sqrt(1 + alpha**2)
    u = np.linspace(electrons - spread, electrons + spread, 4001)
    joint = poisson.pmf(counts, electrons) * norm.pdf(u[:, None], counts, alpha * width)
    density = joint.sum(axis=1)
    mean = joint @ counts / np.maximum(density, 1e-300)
    error = mean - (u - mean) / alpha**2 - electrons
    return float(np.sqrt(np.sum(density * error**2) / density.sum()))


def splits(clean: np.ndarray, gain: float, alpha: float) -> dict[str, Pair]:
    """(input, target) of one scan, made in each way."""
    rng = np.random.default_rng(0)
    scan = poisson_gaussian(clean, gain, 0.0, 0.0, rng)
    smooth = np.maximum(gaussian_filter(scan, SMOOTHING_PX), gain)
    return {
        "recorrupt": recorrupt(scan, np.sqrt(gain * clean), alpha, rng),
        "estimated": recorrupt(scan, np.sqrt(gain * smooth), alpha, rng),
        "thin": thin(scan, gain, 0.0, 0.5, rng),
        "read": thin(poisson_gaussian(clean, gain, 0.0, gain, rng), gain, 0.0, 0.5, rng),
    }


def lr_bias(given: np.ndarray, target: np.ndarray) -> float:
    kernel = gaussian_kernel(BLUR_PX, BLUR_PX, 0.0)
    lr, mean = sample_area(blur(given, kernel), SCALE), sample_area(target, SCALE)
    return bias(lr, mean, SIGNAL_GREY)


def bias(given: np.ndarray, target: np.ndarray, truth: float) -> float:
    """Rms over ``BINS`` equally full bins of the input of the target's mean error, less what the
    scatter of the means themselves adds."""
    order = np.argsort(given, axis=None, kind="stable")
    per_bin = order.size // BINS
    errors = (target.ravel()[order[: per_bin * BINS]].astype(np.float64) - truth).reshape(BINS, -1)
    scatter = float(np.mean(errors.var(axis=1) / per_bin))
    return float(np.sqrt(max(float(np.mean(errors.mean(axis=1) ** 2)) - scatter, 0.0)))


if __name__ == "__main__":
    main()
