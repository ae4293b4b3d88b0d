"""The strategy ``denoised``: an acquired LR scan, and the acquired HR scan with its noise removed.

The pairs are those of ``real``, which decides what is in register and measures it on the noisy
scans; only the targets differ. Knows what must be said of such targets; knows no denoiser.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import numpy as np

from emsr.errors import InputError
from emsr.microscope.estimate import Noise
from emsr.pairs.denoise import Noisy, denoise, doubts
from emsr.pairs.denoise_residual import Removed, complaints, picture, removed
from emsr.pairs.made_from import noise_of, sample_box
from emsr.pairs.noise import noise_numbers
from emsr.pairs.real import real
from emsr.pairs.scans import Prepared, Request, read_slice
from emsr.pairs.store import SlicePair
from emsr.volumes.volume import Volume

ASSUMPTION = (
    "LR and HR are scans of their own: the noise of the input is taken as independent of the "
    "target. The target is HR with its noise removed by an algorithm: what is left of its error is "
    "no longer noise of mean zero, and structure that the denoiser removed is structure that the "
    "network learns to remove. Checked by the correlation of LR and HR as acquired, and by whether "
    "what was removed looks like the noise: its strength, its correlation from pixel to pixel, its "
    "strength at edges."
)
LEAST_NOISE = 1e-4
"""Share of the range of grey values; less is what arithmetic leaves of a drawing."""


@dataclass(frozen=True)
class Targets:
    """The denoised HR slices that are paired, and what was removed from them."""

    hr: np.ndarray
    """(z, y, x) float32 grey levels."""
    noise: Noise
    removed: Removed
    warnings: tuple[str, ...]
    picture: np.ndarray


def denoised(request: Request) -> Prepared:
    """The pairs of ``real``, their targets denoised by ``request.denoising``; HR as a whole lies in
    memory meanwhile.

    InputError where ``real`` has one, where the noise of HR cannot be told and is not stated, and
    where the denoiser needs adjacent slices that are not there.
    """
    if request.lr is None:
        raise InputError("the strategy denoised pairs two scans: give the LR scan with --lr")
    pairs = real(request)
    targets = _targets(request, pairs)
    noise = noise_numbers(targets.noise)
    measured = {
        **pairs.facts.measured,
        **{f"hr_noise_{key}": value for key, value in noise.items()},
        "removed": targets.removed.numbers(),
    }
    facts = replace(
        pairs.facts,
        strategy="denoised",
        assumption=ASSUMPTION,
        measured=measured,
        warnings=(*pairs.facts.warnings, *targets.warnings),
        recipe={"denoising": asdict(request.denoising)},
    )
    return replace(
        pairs,
        facts=facts,
        slices=_slices(request.lr, targets.hr, pairs.facts.hr_z),
        hr_array_dtype=np.dtype(np.float32),
        remarks=(*pairs.remarks, *_remarks(request.hr, targets.noise)),
        pictures={"removed": targets.picture},
    )


def _targets(request: Request, pairs: Prepared) -> Targets:
    kept, hr = pairs.facts.hr_z, request.hr
    sample = hr.read(sample_box(kept, (hr.shape[1], hr.shape[2])))
    noise = _noise(request, sample)
    stack = np.stack([read_slice(hr, z).astype(np.float32) for z in kept])
    noisy = Noisy(stack, kept, sample, noise, request.denoising.steps, request.seed, request.tick)
    doubted = doubts(request.denoising.method, noisy)
    clean = denoise(request.denoising.method, noisy)
    found = removed(stack, clean, noise)
    middle = len(stack) // 2
    return Targets(
        hr=clean,
        noise=noise,
        removed=found,
        warnings=(*doubted, *complaints(found, noise)),
        picture=picture(stack[middle], clean[middle], pairs.facts.hr_window, noise),
    )


def _noise(request: Request, sample: np.ndarray) -> Noise:
    """That of HR, from a sample of it, or as stated."""
    try:
        noise = noise_of(sample, request.hr.name, request.noise_sigma)
    except InputError as error:
        raise InputError(f"{error}; or give its level with --noise") from None
    if not noise.sigma > LEAST_NOISE * np.ptp(sample.astype(np.float64)):
        raise InputError(
            f"{request.hr.name}: noise of {noise.sigma:g} grey levels leaves nothing to remove: "
            f"use the strategy real, or give the right level with --noise"
        )
    return noise


def _remarks(hr: Volume, noise: Noise) -> tuple[str, ...]:
    return tuple(f"{hr.name}: {notice}" for notice in noise.notices)


def _slices(lr: Volume, targets: np.ndarray, kept: tuple[int, ...]) -> Iterator[SlicePair]:
    for target, z in zip(targets, kept, strict=True):
        yield target, [read_slice(lr, z)]
