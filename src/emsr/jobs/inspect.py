"""The verb ``inspect``: what a scan is, and how noisy, blurred and fine, as far as can be told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from emsr.errors import InputError
from emsr.jobs.inspect_look import (
    LARGEST_PX,
    RUN,
    Look,
    look_at,
    middle_of,
    read_part,
    same_look,
)
from emsr.jobs.inspect_numbers import blur_numbers, facts, in_words, noise_numbers, resolution
from emsr.jobs.listener import SILENT, Listener
from emsr.microscope.estimate import (
    Blur,
    Noise,
    noise_from_image,
    noise_from_repeat,
    noise_from_slices,
    relative_blur,
)
from emsr.pairs.register import common_scale, common_spacing
from emsr.volumes.source import open_volume
from emsr.volumes.spacing import Spacing
from emsr.volumes.volume import StoredVolume

SMALLEST_BLUR_PX = 32
ONE_IMAGE = "not identifiable from one image: give the HR scan of the same field with --hr"


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
    look = look_at(volume, listener)
    twin = same_look(second, look) if second else None
    reason: dict[str, str] = {}
    noise = _noise(look, twin, reason)
    blur = _blur(look, fine, scale, reason, listener)
    notices = noise.notices if noise else ()
    for line in notices:
        listener.say(line)
    found = {
        "path": str(path),
        **facts(volume, look, reason),
        **noise_numbers(noise, offset, reason),
        "blur_sigma_px": blur.sigma_px if blur else None,
        "blur": blur_numbers(blur),
        "resolution_nm": resolution(volume, look, twin, noise, reason),
        "notices": list(notices),
        "reason": reason,
    }
    return {**found, "lines": list(in_words(found))}


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
    (y, x), (height, width) = middle_of(look.stack.shape[1:], LARGEST_PX // scale)
    coarse = look.stack[:, y : y + height, x : x + width]
    corner = ((look.corner[0] + y) * scale, (look.corner[1] + x) * scale)
    planes = []
    for done, z in enumerate(look.at, start=1):
        planes.append(read_part(fine, z, corner, (height * scale, width * scale)))
        listener.progress("inspect HR", done, len(look.at), "slices")
    detailed = np.stack(planes)
    noise = noise_from_slices(detailed, run=RUN) if look.all_runs else noise_from_image(detailed)
    # One slice of each run: its neighbours would tell the same again.
    return relative_blur(coarse[::RUN], detailed[::RUN], scale, noise)
