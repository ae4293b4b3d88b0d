"""The verb ``inspect``: what a scan is, and how noisy, blurred and fine, as far as can be told.

Looks at up to five runs of three adjacent slices, spread over z, and the middle of each, so that a
volume of any size is inspected in the same memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emsr.errors import InputError
from emsr.geometry.box import Box
from emsr.jobs.listener import SILENT, Listener
from emsr.microscope.estimate import (
    Blur,
    Noise,
    noise_from_image,
    noise_from_repeat,
    noise_from_slices,
    read_noise,
    relative_blur,
)
from emsr.pairs.register import common_scale, common_spacing
from emsr.quality.reference_free import check_repeat
from emsr.quality.resolution import (
    crossing_note,
    frc_from_sums,
    frc_resolution_nm,
    ring_counts,
    ring_sums,
)
from emsr.volumes.source import open_volume
from emsr.volumes.spacing import Spacing
from emsr.volumes.volume import StoredVolume

RUN, MOST_RUNS = 3, 5
LARGEST_PX = 2048
SMALLEST_BLUR_PX = 32
WHITE = 0.1
"""Correlation of neighbours below which noise counts as white in the resolution of one scan."""
HANN_POWER = (3 / 8) ** 2
"""Mean square of the window of ``ring_sums``."""
ONE_IMAGE = "not identifiable from one image: give the HR scan of the same field with --hr"
NO_SPACING = "the file does not state its spacing: give --spacing Z,Y,X in nm"
NOT_SHOWN = "no image shows the grey level without electrons: give it with --offset"


@dataclass(frozen=True)
class Look:
    """What was read of a volume: slices ``stack`` (z, y, x) that are not constant, the same ones in
    ``runs`` of adjacent slices where they are whole, and where they lie."""

    stack: np.ndarray
    runs: np.ndarray | None
    at: list[int]
    corner: tuple[int, int]
    constant: int

    @property
    def all_runs(self) -> bool:
        """Whether ``stack`` consists of whole runs."""
        return self.runs is not None and len(self.runs) == len(self.stack)


def inspect(
    path: str | Path,
    hr: str | Path | None = None,
    repeat: str | Path | None = None,
    offset: float | None = None,
    spacing_nm: Spacing = None,
    levels: dict[str, int] | None = None,
    listener: Listener = SILENT,
) -> dict[str, Any]:
    """What the volume at ``path`` is, and its noise, blur and resolution.

    ``hr`` is the HR scan of the field of which ``path`` is the LR scan: then their relative blur is
    told. ``repeat`` is a second scan of ``path``, with noise of its own: the best source for noise
    and resolution. ``offset`` is the grey level without electrons, needed for the read noise.
    ``spacing_nm`` (z, y, x) overrides the file's; ``levels`` of the pyramids "path", "hr",
    "repeat", 0 where absent. What cannot be told is None, with its why in ``reason``. Noise in grey
    levels, gain in grey levels per electron, blur in HR pixels. InputError for NaN, scans that do
    not lie on one grid or share no field, and volumes without a slice that is not constant.
    """
    levels = levels or {}
    volume = open_volume(path, spacing_nm, levels.get("path", 0))
    second = open_volume(repeat, spacing_nm, levels.get("repeat", 0)) if repeat else None
    fine = open_volume(hr, None, levels.get("hr", 0)) if hr else None
    scale = _scale(volume, fine)
    _check_grid(volume, second)
    _say(listener, volume, second, fine)
    look = _look(volume, listener)
    twin = _same_look(second, look) if second else None
    reason: dict[str, str] = {}
    noise = _noise(look, twin, reason)
    blur = _blur(look, fine, scale, reason, listener)
    notices = noise.notices if noise else ()
    for line in notices:
        listener.say(line)
    found = {
        "path": str(path),
        **_facts(volume, look, reason),
        **_noise_numbers(noise, offset, reason),
        "blur_sigma_px": blur.sigma_px if blur else None,
        "blur": _blur_numbers(blur),
        "resolution_nm": _resolution(volume, look, twin, noise, reason),
        "notices": list(notices),
        "reason": reason,
    }
    return {**found, "lines": list(_lines(found))}


def _scale(volume: StoredVolume, fine: StoredVolume | None) -> int:
    """HR pixels along an LR pixel; InputError where the two are not of one field."""
    if fine is None:
        return 1
    scale = common_scale(volume, fine, 1 if volume.shape == fine.shape else None)
    common_spacing(volume, fine, scale)
    return scale


def _check_grid(volume: StoredVolume, second: StoredVolume | None) -> None:
    if second is not None and second.shape != volume.shape:
        raise InputError(
            f"{second.name} has shape {second.shape}, {volume.name} {volume.shape}: a repeat is a "
            "second scan of the same field on the same grid"
        )


def _say(listener: Listener, *volumes: StoredVolume | None) -> None:
    for volume in volumes:
        for line in volume.notices if volume else ():
            listener.say(line)


def _look(volume: StoredVolume, listener: Listener) -> Look:
    """The slices that are looked at, read from the middle of the field."""
    wanted = _slices(volume.shape[0])
    corner, size = _middle(volume.shape[1:], LARGEST_PX)
    planes = []
    for done, z in enumerate(wanted, start=1):
        planes.append(_read(volume, z, corner, size))
        listener.progress("inspect", done, len(wanted), "slices")
    lively = [bool(plane.min() < plane.max()) for plane in planes]
    if not any(lively):
        raise InputError(
            f"{volume.name}: all {len(planes)} slices that were looked at are constant: there is "
            "nothing to inspect; give the scan itself"
        )
    stack = np.stack([plane for plane, kept in zip(planes, lively, strict=True) if kept])
    at = [z for z, kept in zip(wanted, lively, strict=True) if kept]
    runs = _whole_runs(planes, lively) if volume.shape[0] >= RUN else None
    return Look(stack, runs, at, corner, lively.count(False))


def _slices(depth: int) -> list[int]:
    """Runs of adjacent slices, spread evenly over z."""
    if depth < RUN:
        return list(range(depth))
    count = min(MOST_RUNS, depth // RUN)
    starts = np.linspace(0, depth - RUN, count).round().astype(int)
    return [int(start) + z for start in starts for z in range(RUN)]


def _middle(shape: tuple[int, ...], largest: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Corner and size of the middle of a slice (y, x), at most ``largest`` pixels a side."""
    y, x = (min(side, largest) for side in shape)
    return ((shape[0] - y) // 2, (shape[1] - x) // 2), (y, x)


def _whole_runs(planes: list[np.ndarray], lively: list[bool]) -> np.ndarray | None:
    """The runs without a constant slice, one behind the other."""
    whole = [
        plane
        for i, plane in enumerate(planes)
        if all(lively[i // RUN * RUN : i // RUN * RUN + RUN])
    ]
    return np.stack(whole) if whole else None


def _read(
    volume: StoredVolume, z: int, corner: tuple[int, int], size: tuple[int, int]
) -> np.ndarray:
    (y, x), (height, width) = corner, size
    plane = volume.read(Box((z, y, x), (z + 1, y + height, x + width)))[0]
    if plane.dtype.kind == "f" and not np.isfinite(plane).all():
        raise InputError(
            f"{volume.name} holds NaN or infinite values in slice {z}: replace them or crop the "
            "volume"
        )
    return plane


def _same_look(second: StoredVolume, look: Look) -> np.ndarray:
    """The slices of the repeat that were looked at."""
    size = (look.stack.shape[1], look.stack.shape[2])
    stack = np.stack([_read(second, z, look.corner, size) for z in look.at])
    middle = len(stack) // 2
    check_repeat(look.stack[middle], stack[middle])
    return stack


def _noise(look: Look, twin: np.ndarray | None, reason: dict[str, str]) -> Noise | None:
    """Noise by the best way there is: a repeat, adjacent slices, single images."""
    try:
        if twin is not None:
            return noise_from_repeat(look.stack, twin)
        if look.runs is not None:
            return noise_from_slices(look.runs, run=RUN)
        return noise_from_image(look.stack)
    except InputError as error:
        why = str(error)
        if twin is None:
            why += "; a second scan of the field (--repeat) tells it"
        reason["noise_sigma"] = reason["noise_method"] = why
        return None


def _blur(
    look: Look, fine: StoredVolume | None, scale: int, reason: dict[str, str], listener: Listener
) -> Blur | None:
    """Blur of the middle slices against those of the HR scan."""
    why = ONE_IMAGE
    if fine is not None:
        side = min(look.stack.shape[1:])
        if side >= SMALLEST_BLUR_PX:
            return _measured_blur(look, fine, scale, listener)
        why = f"{side} LR pixels are too few: blur needs {SMALLEST_BLUR_PX} or more along y and x"
    reason["blur"] = reason["blur_sigma_px"] = why
    return None


def _measured_blur(look: Look, fine: StoredVolume, scale: int, listener: Listener) -> Blur:
    (y, x), (height, width) = _middle(look.stack.shape[1:], LARGEST_PX // scale)
    coarse = look.stack[:, y : y + height, x : x + width]
    corner = ((look.corner[0] + y) * scale, (look.corner[1] + x) * scale)
    planes = []
    for done, z in enumerate(look.at, start=1):
        planes.append(_read(fine, z, corner, (height * scale, width * scale)))
        listener.progress("inspect HR", done, len(look.at), "slices")
    detailed = np.stack(planes)
    noise = noise_from_slices(detailed, run=RUN) if look.all_runs else noise_from_image(detailed)
    # One slice of each run: its neighbours would tell the same again.
    return relative_blur(coarse[::RUN], detailed[::RUN], scale, noise)


def _facts(volume: StoredVolume, look: Look, reason: dict[str, str]) -> dict[str, Any]:
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


def _noise_numbers(
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


def _blur_numbers(blur: Blur | None) -> dict[str, float] | None:
    if blur is None:
        return None
    return {
        "sigma_a_px": blur.sigma_a_px,
        "sigma_b_px": blur.sigma_b_px,
        "angle_rad": blur.angle_rad,
        "gain": blur.gain,
        "offset": blur.offset,
    }


def _resolution(
    volume: StoredVolume,
    look: Look,
    twin: np.ndarray | None,
    noise: Noise | None,
    reason: dict[str, str],
) -> float | None:
    """Where the FRC of two scans falls below 1/7: measured with a repeat, else expected."""
    curve, why = _curve(look, twin, noise)
    pixel, unknown = _pixel(volume)
    if curve is not None and pixel is not None:
        found = frc_resolution_nm(curve, min(look.stack.shape[1:]), pixel)
        if found is not None:
            return found
        why = crossing_note(curve) or "unknown"
    reason["resolution_nm"] = why or unknown
    return None


def _pixel(volume: StoredVolume) -> tuple[float | None, str]:
    """Side of a pixel in nm; None, and why, where unknown or not square."""
    if volume.spacing_nm is None:
        return None, NO_SPACING
    _, y, x = volume.spacing_nm
    if abs(y - x) > 0.01 * x:
        return None, f"pixels are not square (y {y:g} nm, x {x:g} nm): rings have no one size"
    return x, ""


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


def expected_frc(stack: np.ndarray, sigma: float) -> np.ndarray:
    """``(ring,)`` FRC that a scan ``(z, y, x)`` would have with a repeat of itself, if its noise is
    white and of standard deviation ``sigma``: structure's share of the power, 1 - noise / power."""
    power = np.sum([ring_sums(plane, plane)[1] for plane in stack], axis=0)
    white = sigma**2 * HANN_POWER * stack.size * ring_counts(stack.shape[1:])
    return 1 - white / np.maximum(power, white / 2)


def _lines(found: dict[str, Any]) -> Iterator[str]:
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
