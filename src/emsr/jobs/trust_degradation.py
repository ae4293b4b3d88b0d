"""The way back from SR to LR: what a model file says of it, and SR degraded by it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emsr.errors import InputError
from emsr.geometry.box import Box
from emsr.jobs.bench import Bench
from emsr.jobs.listener import Listener
from emsr.jobs.trust_domain import noise_of, sample
from emsr.microscope import stages
from emsr.microscope.estimate import Blur, Noise, noise_from_image, relative_blur
from emsr.network.checkpoint import Header
from emsr.pairs.store import Pairs
from emsr.volumes.intensity import Intensity
from emsr.volumes.source import Volume

SAMPLE_SLICES = 6
SAMPLE_SIDE_PX = 192
"""LR slices and their side from which blur and noise are read."""
LITTLE, NO_NOISE = 0.01, 0.001
"""Shares of the LR grey window up to which noise of an input, and of what was trained on, is too
little to measure a residual in."""


@dataclass(frozen=True)
class Told:
    """The way from the SR of one volume to its LR."""

    blur: Blur
    noise: Noise
    """Of the LR volume."""


def told_of(bench: Bench, trained: Header, sr: Volume, listener: Listener) -> Told:
    """The blur that the model was trained against, and the noise of the volume itself; where the
    model knows no blur, that between ``sr`` and its LR, which is said. InputError where neither can
    be told."""
    noise = noise_told(bench.volume, trained, listener)
    facts = trained.degradation.get("blur")
    if not facts:
        listener.say(
            "trust: the model file states no blur: it is measured between SR and LR, which hides "
            "an error that is the same everywhere; the numbers are lower than, and not to be "
            "compared with, those of models that state it"
        )
    return rounded(blur_from(facts) if facts else _between(bench, trained, sr), noise)


def noise_told(volume: Volume, trained: Header, listener: Listener) -> Noise:
    """The noise of ``volume``; where it has none to speak of (a rendered or filtered image), that
    trained on, which is said. InputError where neither can be told."""
    noise, window = noise_of(sample(volume)), trained.lr_window[1] - trained.lr_window[0]
    if noise is not None and not _is_none(noise, LITTLE * window):
        return noise
    facts = trained.degradation.get("noise")
    known = noise_from(facts) if facts else None
    if known is None or _is_none(known, NO_NOISE * window):
        raise InputError(
            f"{volume.name}: its noise cannot be told, and the model file states none: "
            "leave --trust out"
        )
    listener.say("trust: the noise cannot be told from the input: that trained on is taken")
    return known


def _is_none(noise: Noise, least_sigma: float) -> bool:
    return bool(noise.sigma**2 <= max(noise.rounding, least_sigma**2))


def rounded(blur: Blur, noise: Noise) -> Told:
    """Both to six digits: computers that differ in the last ones are to write the same maps."""
    return Told(
        Blur(**{key: _six(value) for key, value in asdict(blur).items()}),
        replace(
            noise,
            sigma=_six(noise.sigma),
            slope=None if noise.slope is None else _six(noise.slope),
            intercept=None if noise.intercept is None else _six(noise.intercept),
            correlation=(_six(noise.neighbours[0]), _six(noise.neighbours[1])),
        ),
    )


def _six(value: float) -> float:
    return float(f"{value:.6g}")


def _between(bench: Bench, trained: Header, sr: Volume) -> Blur:
    depth, *sides = bench.volume.shape
    (y0, y1), (x0, x1) = (_middle(side, SAMPLE_SIDE_PX) for side in sides)
    z0, z1 = _middle(depth, SAMPLE_SLICES)
    box = Box((z0, y0, x0), (z1, y1, x1))
    fine = in_hr_greys(sr.read(box.scaled(trained.scale)), bench.model.header, trained)
    quiet = Noise(0.0, None, None, None, "none")
    return relative_blur(bench.volume.read(box), fine, trained.scale, quiet)


def in_hr_greys(values: NDArray, used: Header, trained: Header) -> NDArray[np.float32]:
    """SR in the grey values of the HR scans trained on, from those of the output's ``used``
    header."""
    unit = Intensity(*used.hr_window).to_unit(values)
    return Intensity(*trained.hr_window).to_grey(unit, "float32")[0]


def degradation_of(pairs: Pairs) -> dict[str, Any]:
    """What turns HR grey values of ``pairs`` into LR ones, as a model file keeps it: ``blur``
    (``sigma_a_px``, ``sigma_b_px`` in HR pixels, ``angle_rad``, ``gain`` and ``offset`` from HR to
    LR greys) and ``noise`` of LR (``sigma``, ``slope``, ``intercept``, ``correlation``); each
    null, with a ``reason``, where it cannot be told. Read off a few slices: seconds. Where LR was
    made with blurs drawn at random, the blur that fits all of them best."""
    lr, hr = sampled(pairs)
    found: dict[str, Any] = {"blur": None, "noise": None, "reason": {}}
    try:
        found["noise"] = noise_facts(noise_from_image(lr))
    except InputError as error:
        found["reason"]["noise"] = str(error)
    try:
        blur = relative_blur(lr, hr, pairs.scale, _unshared(hr, pairs))
        found["blur"] = {key: float(value) for key, value in asdict(blur).items()}
    except InputError as error:
        found["reason"]["blur"] = str(error)
    return found


def sampled(pairs: Pairs) -> tuple[NDArray, NDArray]:
    """A few slices ``(z, y, x)`` of LR, cut from their middle, and HR of the same field."""
    count = min(SAMPLE_SLICES, pairs.lr.shape[0])
    chosen = np.unique(np.linspace(0, pairs.lr.shape[0] - 1, count).astype(int)).tolist()
    (y0, y1), (x0, x1) = (_middle(side, SAMPLE_SIDE_PX) for side in pairs.lr.shape[1:])
    s = pairs.scale
    lr = np.stack([np.asarray(pairs.lr[i])[y0:y1, x0:x1] for i in chosen])
    fine = np.s_[s * y0 : s * y1, s * x0 : s * x1]
    hr = np.stack([np.asarray(pairs.hr[int(pairs.hr_slice[i])])[fine] for i in chosen])
    return lr, hr


def degraded(sr: NDArray, blur: Blur, scale: int) -> NDArray[np.float32]:
    """LR grey values expected of ``sr`` ``(z, y, x)`` in HR grey values: blurred, each LR pixel
    the mean of its area, on the LR grey scale; float32."""
    kernel = stages.gaussian_kernel(blur.sigma_a_px, blur.sigma_b_px, blur.angle_rad)
    seen = stages.sample_area(stages.blur(sr, kernel), scale)
    return stages.detector(seen, blur.gain, blur.offset)


def blur_reach_px(blur: Blur, scale: int) -> int:
    """LR pixels around one that decide its value in ``degraded``."""
    return -(-int(np.ceil(4 * max(blur.sigma_a_px, blur.sigma_b_px))) // scale)


def noise_facts(noise: Noise) -> dict[str, Any]:
    """What is kept of a noise."""
    return {
        "sigma": noise.sigma,
        "slope": noise.slope,
        "intercept": noise.intercept,
        "correlation": list(noise.neighbours),
        "method": noise.method,
    }


def noise_from(facts: dict[str, Any]) -> Noise:
    """The noise that ``noise_facts`` kept."""
    y, x = facts["correlation"]
    return Noise(facts["sigma"], facts["slope"], facts["intercept"], (y, x), facts["method"])


def blur_from(facts: dict[str, Any]) -> Blur:
    """The blur that a model file keeps."""
    return Blur(**{field.name: float(facts[field.name]) for field in fields(Blur)})


def _unshared(hr: NDArray, pairs: Pairs) -> Noise:
    """The noise of HR that LR does not show too: none, where LR was made from that very scan."""
    made = pairs.strategy == "synthetic" and "repeat" not in {s["role"] for s in pairs.provenance}
    return Noise(0.0, None, None, None, "none") if made else noise_from_image(hr)


def _middle(side: int, largest: int) -> tuple[int, int]:
    start = max(0, (side - largest) // 2)
    return start, min(side, start + largest)
