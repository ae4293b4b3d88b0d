"""What ``inspect`` found, as numbers with the reason for each that is None, and in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from emsr.jobs.inspect_look import Look
from emsr.microscope.estimate import Blur, Noise, read_noise
from emsr.quality.one_image import expected_frc
from emsr.quality.resolution import (
    crossing_note,
    frc_from_sums,
    frc_resolution_nm,
    ring_sums,
    square_pixel_nm,
)
from emsr.volumes.volume import StoredVolume

WHITE = 0.1
"""Correlation of neighbours below which noise counts as white in the resolution of one scan."""
NO_SPACING = "the file does not state its spacing: give --spacing Z,Y,X in nm"
NOT_SHOWN = "no image shows the grey level without electrons: give it with --offset"


def facts(volume: StoredVolume, look: Look, reason: dict[str, str]) -> dict[str, Any]:
    if volume.spacing_nm is None:
        reason["spacing_nm"] = NO_SPACING
    clipped = None
    if volume.dtype.kind in "ui":
        limits = np.iinfo(volume.dtype)
        clipped = float(np.mean((look.stack == limits.min) | (look.stack == limits.max)))
    else:
        reason["clipped_fraction"] = f"greys of type {volume.dtype} have no limits"
    return {
        "shape": list(volume.shape),
        "spacing_nm": volume.spacing_nm and list(volume.spacing_nm),
        "dtype": str(volume.dtype),
        "slices_seen": look.at,
        "constant_slices": look.constant,
        "grey_range": [float(look.stack.min()), float(look.stack.max())],
        "grey_mean": float(look.stack.mean(dtype=np.float64)),
        "clipped_fraction": clipped,
    }


def noise_numbers(
    noise: Noise | None, offset: float | None, reason: dict[str, str]
) -> dict[str, Any]:
    keys = ("noise_sigma", "noise_gain", "noise_intercept", "noise_correlation", "read_noise")
    if noise is None:
        why = reason["noise_sigma"]
        reason.update(dict.fromkeys((*keys, "noise_correlation_yx"), why))
        return {**dict.fromkeys((*keys, "noise_correlation_yx", "noise_method"))}
    read = None if offset is None else read_noise(noise, offset)
    if noise.slope is None:
        reason["noise_gain"] = reason["noise_intercept"] = noise.notices[-1]
    if noise.correlation is None:
        why = next((n for n in noise.notices if "neighbour" in n), "not measured")
        reason["noise_correlation"] = reason["noise_correlation_yx"] = why
    if read is None:
        reason["read_noise"] = _no_read_noise(noise, offset)
    return {
        "noise_sigma": noise.sigma,
        "noise_gain": noise.slope,
        "noise_intercept": noise.intercept,
        "read_noise": read,
        "noise_correlation": noise.correlation and max(noise.correlation, key=abs),
        "noise_correlation_yx": noise.correlation and list(noise.correlation),
        "noise_method": noise.method,
    }


def _no_read_noise(noise: Noise, offset: float | None) -> str:
    if offset is None:
        return NOT_SHOWN
    if noise.slope is None:
        return "how the noise depends on the grey level is not known"
    return f"the noise at grey level {offset:g}, far from the tissue's, is not certain enough"


def blur_numbers(blur: Blur | None) -> dict[str, float] | None:
    if blur is None:
        return None
    return {
        "sigma_a_px": blur.sigma_a_px,
        "sigma_b_px": blur.sigma_b_px,
        "angle_rad": blur.angle_rad,
        "gain": blur.gain,
        "offset": blur.offset,
    }


def resolution(
    volume: StoredVolume,
    look: Look,
    twin: np.ndarray | None,
    noise: Noise | None,
    reason: dict[str, str],
) -> float | None:
    """Where the FRC of two scans falls below 1/7: measured with a repeat, else expected."""
    curve, why = _curve(look, twin, noise)
    pixel, unknown = square_pixel_nm(volume.spacing_nm, NO_SPACING)
    if curve is not None and pixel is not None:
        found = frc_resolution_nm(curve, min(look.stack.shape[1:]), pixel)
        if found is not None:
            return found
        why = crossing_note(curve) or "unknown"
    reason["resolution_nm"] = why or unknown
    return None


def _curve(
    look: Look, twin: np.ndarray | None, noise: Noise | None
) -> tuple[np.ndarray | None, str]:
    """The FRC of this scan with a repeat; of one scan what it would be, 1 - noise / power, where
    the noise is known to be white. None, and why."""
    stack = look.stack
    if twin is not None:
        sums = [ring_sums(a, b) for a, b in zip(stack, twin, strict=True)]
        return frc_from_sums(np.sum(sums, axis=0)), ""
    if noise is None or noise.correlation is None or max(map(abs, noise.correlation)) > WHITE:
        return None, "needs a repeated scan (--repeat): the noise is not known to be white"
    return expected_frc(stack, noise.sigma), ""


def in_words(found: dict[str, Any]) -> Iterator[str]:
    """What a person reads."""
    reason = found["reason"]
    size = " x ".join(map(str, found["shape"]))
    spacing = found["spacing_nm"]
    pixel = " x ".join(f"{s:g}" for s in spacing) + " nm" if spacing else "spacing unknown"
    yield f"{found['path']}: {size} {found['dtype']}, {pixel}"
    low, high = found["grey_range"]
    greys = f"grey levels {low:g} to {high:g}, mean {found['grey_mean']:.4g}"
    if found["clipped_fraction"] is not None:
        greys += f", {100 * found['clipped_fraction']:.2g} % clipped"
    if found["constant_slices"]:
        greys += f"; {found['constant_slices']} constant slices left out"
    yield greys
    if found["noise_sigma"] is None:
        yield f"noise unknown: {reason['noise_sigma']}"
    else:
        yield from _noise_lines(found)
    if found["blur"]:
        a, b = found["blur"]["sigma_a_px"], found["blur"]["sigma_b_px"]
        yield f"blur against HR: sigma {found['blur_sigma_px']:.2f} HR px ({a:.2f} and {b:.2f})"
    else:
        yield f"blur: {reason['blur_sigma_px']}"
    if found["resolution_nm"] is not None:
        yield f"resolution {found['resolution_nm']:.3g} nm (FRC 1/7)"
    else:
        yield f"resolution: {reason['resolution_nm']}"


def _noise_lines(found: dict[str, Any]) -> Iterator[str]:
    text = f"noise sigma {found['noise_sigma']:.3g} grey levels ({found['noise_method']})"
    if found["noise_correlation"] is not None:
        y, x = found["noise_correlation_yx"]
        text += f", correlation of neighbours {y:.2f} along y, {x:.2f} along x"
    yield text
    gain = found["noise_gain"]
    text = "gain unknown" if gain is None else f"gain {gain:.3g} grey levels per electron"
    read = found["read_noise"]
    yield text + (f", read noise {read:.3g}" if read is not None else "")
