"""The verb ``prepare``: scans in, pairs in register out, or a refusal that says why."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from emsr.errors import InputError
from emsr.files import refuse_overlap
from emsr.geometry.tiles import coarser_spacing
from emsr.jobs.listener import SILENT, Listener
from emsr.pairs.publish import check_target
from emsr.pairs.register import common_scale
from emsr.pairs.scans import Prepared, Request
from emsr.pairs.store import SlicePair, is_pairs, write_pairs
from emsr.pairs.strategies import NEEDS_LR, strategy_named
from emsr.recipe import SYNTHETIC_SCALE, Denoising, Recipe
from emsr.volumes.png import write_png
from emsr.volumes.source import open_volume
from emsr.volumes.spacing import Spacing
from emsr.volumes.volume import StoredVolume, with_spacing


def prepare(
    hr: str | Path,
    out: str | Path,
    strategy: str,
    lr: str | Path | None = None,
    scale: int | None = None,
    recipe: Recipe = Recipe(),
    overwrite: bool = False,
    spacing_nm: Spacing = None,
    levels: dict[str, int] | None = None,
    listener: Listener = SILENT,
    *,
    repeat: str | Path | None = None,
    calibrate: str | Path | None = None,
    noise_sigma: float | None = None,
) -> dict[str, Any]:
    """Make pairs by ``strategy`` (``real``, ``synthetic``, ``denoised`` or ``split``) and store
    them at ``out``, with pictures of what a strategy did.

    ``repeat`` is a second scan of the HR field: ``synthetic`` takes it as target, so that input and
    target have noise of their own. ``calibrate`` is an LR scan, of this field or another of the
    same tissue, whose blur and noise LR scans made from HR are given. ``noise_sigma`` is HR's in
    grey levels where it is known; None estimates it. ``scale`` None is read off
    the shapes (``real``, ``denoised``) or taken from the recipe; ``spacing_nm`` is the HR scan's
    (z, y, x) and overrides the files'; ``levels`` are those of the pyramids "hr", "lr", "repeat"
    and "calibrate", 0 where absent. Returns ``pairs`` (LR slices), ``refused``
    (slices left out), ``residual_px_rms`` and ``shift_px`` (HR pixels; None, with a ``reason``,
    where nothing was measured), ``scale``, what was assumed and the warnings.
    InputError for scans that do not make pairs, with nothing left at ``out``.
    """
    chosen = strategy_named(strategy)
    if strategy in NEEDS_LR and lr is None:
        raise InputError(f"the strategy {strategy} pairs two scans: give the LR scan with --lr")
    refuse_overlap(out, *(scan for scan in (hr, lr, repeat, calibrate) if scan))
    check_target(Path(out), overwrite, is_pairs)
    lr = _used(lr, strategy in NEEDS_LR, f"the strategy {strategy} makes LR from HR", listener)
    repeat = _used(
        repeat, strategy == "synthetic", "only the strategy synthetic takes --repeat", listener
    )
    calibrate = _used(
        calibrate, strategy not in NEEDS_LR, f"the strategy {strategy} has a real LR scan", listener
    )
    if noise_sigma is not None and not 0 < noise_sigma < float("inf"):
        raise InputError(f"noise of {noise_sigma:g} grey levels: expected a number above 0")
    if strategy != "denoised" and recipe.denoising.method != Denoising.method:
        listener.say(f"the strategy {strategy} does not denoise: the denoiser is not used")
    levels = levels or {}
    hr_volume, lr_volume, scale = _scans(
        hr, lr, scale or recipe.scale, spacing_nm, levels, listener
    )
    coarse = coarser_spacing(spacing_nm, scale)
    others = {
        role: open_volume(path, nm, levels.get(role, 0))
        for role, path, nm in (("repeat", repeat, spacing_nm), ("calibrate", calibrate, coarse))
        if path
    }
    _say_notices(listener, *others.values())
    prepared = chosen(
        Request(
            hr=hr_volume,
            lr=lr_volume,
            scale=scale,
            degradation=recipe.degradation,
            seed=recipe.seed,
            repeat=others.get("repeat"),
            calibrate=others.get("calibrate"),
            noise_sigma=noise_sigma,
            denoising=recipe.denoising,
            splitting=recipe.splitting,
            tick=lambda done, total: listener.progress("measuring slices", done, total, ""),
        )
    )
    for line in (*prepared.remarks, *prepared.facts.warnings):
        listener.say(line)
    write_pairs(
        out,
        prepared.facts,
        _counted(prepared, listener),
        lr_shape=prepared.lr_shape,
        lr_dtype=prepared.lr_dtype,
        hr_shape=prepared.hr_shape,
        hr_dtype=prepared.hr_array_dtype,
        overwrite=overwrite,
    )
    pictures = [_drawn(out, name, image) for name, image in prepared.pictures.items()]
    lines = [*_lines(prepared, out), *(f"look at {picture}" for picture in pictures)]
    return {**_summary(prepared), "pictures": pictures, "lines": lines}


def _used(path: str | Path | None, wanted: bool, why: str, listener: Listener) -> str | Path | None:
    """``path``, or None and a word to the user where the strategy has no use for it."""
    if path is not None and not wanted:
        listener.say(f"{why}: {path} is not used")
        return None
    return path


def _drawn(out: str | Path, name: str, image: np.ndarray) -> str:
    """The picture ``name``, in the folder of the pairs at ``out``."""
    path = Path(out) / f"{name}.png"
    write_png(path, image)
    return str(path)


def _lines(prepared: Prepared, out: str | Path) -> list[str]:
    facts = prepared.facts
    register = facts.measured.get("residual_px_rms")
    lines = [f"{out}: {prepared.lr_shape[0]} LR slices paired, {prepared.refused} refused"]
    if register is not None:
        scans = "HR and its repeat" if facts.strategy == "synthetic" else "LR and HR"
        lines.append(f"{scans} are in register within {register:.2f} HR pixels rms")
    return lines


def _scans(
    hr: str | Path,
    lr: str | Path | None,
    scale: int | None,
    spacing_nm: Spacing,
    levels: dict[str, int],
    listener: Listener,
) -> tuple[StoredVolume, StoredVolume | None, int]:
    """The HR scan, the LR scan where there is one, and the scale between them."""
    hr_volume = open_volume(hr, spacing_nm, levels.get("hr", 0))
    if lr is None:
        _say_notices(listener, hr_volume)
        return hr_volume, None, scale or SYNTHETIC_SCALE
    lr_volume = open_volume(lr, None, levels.get("lr", 0))
    scale = common_scale(lr_volume, hr_volume, scale)
    if spacing_nm is not None:
        lr_volume = with_spacing(lr_volume, coarser_spacing(spacing_nm, scale))
    _say_notices(listener, hr_volume, lr_volume)
    return hr_volume, lr_volume, scale


def _say_notices(listener: Listener, *volumes: StoredVolume) -> None:
    for volume in volumes:
        for line in volume.notices:
            listener.say(line)
        if volume.spacing_nm is None:
            listener.say(f"{volume.name}: spacing unknown; --spacing gives it")


def _counted(prepared: Prepared, listener: Listener) -> Iterator[SlicePair]:
    """The slices of ``prepared``, with their progress told."""
    for done, pair in enumerate(prepared.slices, start=1):
        yield pair
        listener.progress("writing pairs", done, prepared.hr_shape[0], "")


def _summary(prepared: Prepared) -> dict[str, Any]:
    facts = prepared.facts
    residual = facts.measured.get("residual_px_rms")
    in_register = "LR is made from HR and in register by construction: nothing to measure"
    return {
        "strategy": facts.strategy,
        "scale": facts.scale,
        "pairs": prepared.lr_shape[0],
        "refused": prepared.refused,
        "residual_px_rms": residual,
        "shift_px": facts.measured.get("shift_px"),
        "noise_correlation": facts.noise_correlation,
        "assumption": facts.assumption,
        "warnings": list(facts.warnings),
        "reason": in_register if residual is None else None,
    }
