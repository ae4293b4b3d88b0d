"""What ``evaluate`` knows of its inputs before it scores: greys, noise, repeat, training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from emsr.errors import InputError
from emsr.geometry.box import Box
from emsr.jobs.listener import Listener
from emsr.jobs.one_grid import Inputs
from emsr.jobs.provenance import Witness, told_by
from emsr.jobs.reference_noise import reference_noise
from emsr.quality.greys import Survey, clipped, survey
from emsr.quality.known import Known
from emsr.quality.reference_free import Alike, check_order, check_repeat, compared, unlike
from emsr.volumes.source import Volume

SAMPLED_PIXELS = 1_000_000


@dataclass(frozen=True)
class First:
    """The first pass: greys of the reference, and what its noise has to do with SR."""

    survey: Survey
    of_sr: Known
    said: dict[str, Any]
    """For scores.json."""

    def known(self, source: str) -> Known:
        """What is known when ``source`` is scored: no training matters to interpolation."""
        return self.of_sr if source == "sr" else replace(self.of_sr, distrust=None)


def first_look(
    inputs: Inputs, sr: str | Path, model: str | Path | None, listener: Listener
) -> First:
    """One pass over the reference. InputError where it is constant or mostly clipped, and where
    the repeat is none."""
    reference = inputs.reference
    trained, nothing = told_by(sr, model)
    witness = Witness(trained) if trained else None
    step = max(1, round((np.prod(reference.shape) / SAMPLED_PIXELS) ** 0.5))

    def seen(z: int) -> np.ndarray:
        plane = raw_plane(reference, z)
        if witness:
            witness.look(plane)
        return plane.astype(np.float64)

    found = survey((seen(z) for z in range(reference.shape[0])), reference.name, step)
    distrust = witness.verdict() if witness else None
    untold = witness.untold() if witness and not distrust else None
    repeat = _repeat(inputs, found.liveliest)
    told = [clipped(found, reference.name), distrust and f"warning: {distrust}", untold]
    told += [f"warning: {line}" for line in (unlike(repeat) if repeat else [])]
    for line in told:
        if line:
            listener.say(line)
    known, noise = _known(inputs, distrust, repeat)
    said: dict[str, Any] = {
        "provenance": {
            "trained_on_reference": distrust is not None if witness and not untold else None,
            "reason": untold or nothing,
        }
    }
    if repeat:
        said["repeat"] = _said(repeat)
    if noise:
        said["reference_noise"] = noise
    return First(found, known, said)


def _repeat(inputs: Inputs, z: int) -> Alike | None:
    if inputs.repeat is None:
        return None
    hr, repeat = (raw_plane(volume, z) for volume in (inputs.reference, inputs.repeat))
    check_repeat(hr, repeat)
    last = inputs.reference.shape[0] - 1
    beside = {k: raw_plane(inputs.repeat, k) for k in (z - 1, z + 1) if 0 <= k <= last}
    check_order(hr, {z: repeat, **beside}, z)
    for k in sorted({0, last // 2, last} - {z}):
        _check_slice(inputs.reference, inputs.repeat, k, 0.5 * float(hr.std()))
    return compared(hr, repeat)


def _check_slice(reference: Volume, repeat: Volume, z: int, least: float) -> None:
    """``check_repeat`` of slice z, if its greys scatter by ``least``: others may be empty resin."""
    plane = raw_plane(reference, z)
    if plane.std() >= least:
        check_repeat(plane, raw_plane(repeat, z))


def _known(
    inputs: Inputs, distrust: str | None, repeat: Alike | None
) -> tuple[Known, dict[str, Any] | None]:
    """For the scores, and for scores.json."""
    if repeat is not None:
        return Known(distrust=distrust, shift_px=float(np.hypot(*repeat.shift_px))), None
    law, why = reference_noise(inputs.reference)
    noise = None
    if law:
        noise = {
            "method": law.method,
            "sigma": law.sigma,
            "variance": law.sigma**2,
            "variance_error": law.error,
            "colour": law.colour,
            "white": law.colour == "white",
        }
    return Known(law, why, distrust), noise


def _said(repeat: Alike) -> dict[str, Any]:
    return {
        "shift_px": list(repeat.shift_px),
        "mean_difference": repeat.offset,
        "contrast": repeat.contrast,
    }


def raw_plane(volume: Volume, z: int) -> np.ndarray:
    """Slice z ``(y, x)`` as it is stored; NaN is refused with the volume's name."""
    _, height, width = volume.shape
    plane = volume.read(Box((z, 0, 0), (z + 1, height, width)))[0]
    if not np.isfinite(plane).all():
        raise InputError(
            f"{volume.name} holds NaN or infinite values in slice {z}, scores need finite greys: "
            "replace them or crop the volume"
        )
    return plane
