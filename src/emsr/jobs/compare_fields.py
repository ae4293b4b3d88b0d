"""The scans of one data set of a comparison: a field to train on, another to score.

``fields/KEY/learn`` and ``fields/KEY/test`` hold ``lr.tif``, ``hr.tif`` and, where there are any,
``hr_repeat.tif`` and ``truth.tif``; ``field.json``, written last, says that they are all there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from emsr.errors import InputError
from emsr.files import replacing
from emsr.geometry.box import Box
from emsr.geometry.tiles import coarser_spacing
from emsr.jobs.compare_sets import Block, DataSet, Images, MadeLr, Part, Phantom
from emsr.microscope.estimate_noise import noise_from_image, noise_from_slices
from emsr.microscope.presets import PRESETS, SUPERSAMPLING, hr_scan, lr_scan
from emsr.microscope.scan import Scan, acquire, expected
from emsr.microscope.stages import blur, gaussian_kernel, gaussian_noise, quantise, sample_area
from emsr.microscope.tissue import tissue
from emsr.pairs.recorrupt import recorrupt
from emsr.quality.pictures import most_structured
from emsr.volumes.source import open_volume
from emsr.volumes.spacing import Spacing
from emsr.volumes.tiff import write_tiff

CROP_PX = 150
DONE = "field.json"
NOISE_SEED = 0
"""Of LR made from HR: one LR scan per set, whatever the seed of the training."""


def make_field(data: DataSet, folder: Path) -> None:
    """Write the scans of ``data`` into ``folder``, unless they are there."""
    if (folder / DONE).exists():
        return
    for role, part in (("learn", data.train), ("test", data.test)):
        (folder / role).mkdir(parents=True, exist_ok=True)
        if isinstance(data, Phantom):
            assert isinstance(part, Block)
            _phantom(data, part, folder / role)
        else:
            assert isinstance(part, Part)
            _images(data, part, folder / role, data.made_lr if role == "test" else None)
    with replacing(folder / DONE) as aside:
        aside.write_text(json.dumps(_shown(folder / "test", data.scale)))


def scan(folder: Path, name: str) -> Path | None:
    """The file of a scan of a field, None where the set has none."""
    path = folder / f"{name}.tif"
    return path if path.exists() else None


def plane(path: Path, z: int) -> np.ndarray:
    """Slice z, ``(y, x)`` float32."""
    volume = open_volume(path)
    return volume.read(Box((z, 0, 0), (z + 1, *volume.shape[1:])))[0].astype(np.float32)


def _shown(test: Path, scale: int) -> dict[str, Any]:
    """Which place of the test field is shown, and its scale: decided once for all networks."""
    volume = open_volume(test / "hr.tif")
    z = volume.shape[0] // 2
    size = [min(CROP_PX, n) // scale * scale for n in volume.shape[1:]]
    target = scan(test, "truth") or test / "hr.tif"
    corner = most_structured(plane(target, z), (size[0], size[1]), scale)
    nm = volume.spacing_nm
    spacing = None if nm is None else [float(n) for n in nm]
    return {"z": z, "corner": list(corner), "size": size, "spacing_nm": spacing}


def _phantom(data: Phantom, block: Block, folder: Path) -> None:
    preset = PRESETS[data.preset]
    spacing = data.spacing_nm or preset.spacing_nm
    preset = replace(
        preset, hr_dose=preset.hr_dose * data.hr_dose, lr_dose=preset.lr_dose * data.lr_dose
    )
    z, y, x = block.shape
    fine = (z, y * SUPERSAMPLING, x * SUPERSAMPLING)
    fine_nm = (spacing[0], spacing[1] / SUPERSAMPLING, spacing[2] / SUPERSAMPLING)
    drawn = tissue(data.preset, fine, fine_nm, block.seed)
    hr, lr = hr_scan(preset), lr_scan(preset, data.scale)
    stacks: dict[str, list[np.ndarray]] = {name: [] for name in ("truth", "hr", "hr_repeat", "lr")}
    for k in range(z):
        stain = drawn.render(k, k + 1)[0]
        stacks["truth"].append(expected(stain, hr))
        for stream, (name, settings) in enumerate((("hr", hr), ("hr_repeat", hr), ("lr", lr))):
            stacks[name].append(_acquired(stain, settings, block.seed, stream, k))
    for name, planes in stacks.items():
        _write(folder / name, np.stack(planes), spacing, data.scale)


def _acquired(stain: np.ndarray, settings: Scan, seed: int, stream: int, z: int) -> np.ndarray:
    # The streams of ``emsr simulate``: a set at the preset's doses is what that verb writes.
    return acquire(stain, settings, np.random.default_rng([seed, 101 + stream, z]))


def _images(data: Images, part: Part, folder: Path, made: MadeLr | None) -> None:
    hr, spacing = _read(part.hr, part, data)
    if part.lr is not None:
        _write(folder / "lr", _lr_of(part.lr, part, data), spacing, data.scale)
    if part.repeat is not None:
        _write(folder / "hr_repeat", _read(part.repeat, part, data)[0], spacing, data.scale)
    if made is not None:
        low, hr = _made(hr, made, data.scale)
        _write(folder / "lr", low, spacing, data.scale)
    _write(folder / "hr", hr, spacing, data.scale)


def _read(path: str, part: Part, data: Images) -> tuple[np.ndarray, Spacing]:
    """The part of a scan, its slices in the plane asked for and whole LR pixels large."""
    volume = open_volume(path, data.spacing_nm)
    ranges = [
        _inside(given, n, f"data set {data.name!r}: {path}", axis)
        for axis, given, n in zip("zyx", (part.z, part.y, part.x), volume.shape, strict=True)
    ]
    starts, stops = zip(*ranges, strict=True)
    values, nm = volume.read(Box(starts, stops)), volume.spacing_nm
    if data.plane == "xz":
        values, nm = values.swapaxes(0, 1), nm and (nm[1], nm[0], nm[2])
    y, x = (n // data.scale * data.scale for n in values.shape[1:])
    return np.ascontiguousarray(values[:, :y, :x]), nm


def _inside(given: tuple[int, int] | None, n: int, where: str, axis: str) -> tuple[int, int]:
    start, stop = given or (0, n)
    if not start < stop <= n:
        raise InputError(f"{where} has {n} voxels along {axis}, found {axis} = [{start}, {stop}]")
    return start, stop


def _lr_of(path: str, part: Part, data: Images) -> np.ndarray:
    if data.lr_on_hr_grid:
        # Float32, so that the mean keeps what rounding would take.
        return sample_area(_read(path, part, data)[0].astype(np.float32), data.scale)
    if data.plane != "xy":
        raise InputError(f"data set {data.name!r}: an LR scan of its own has the plane xy only")
    s = data.scale
    y, x = (None if r is None else (r[0] // s, r[1] // s) for r in (part.y, part.x))
    return _read(path, replace(part, y=y, x=x), replace(data, scale=1, spacing_nm=None))[0]


def _made(hr: np.ndarray, made: MadeLr, scale: int) -> tuple[np.ndarray, np.ndarray]:
    """LR made from ``hr`` ``(z, y, x)``, and the reference that goes with it."""
    rng = np.random.default_rng(NOISE_SEED)
    seen, reference = hr.astype(np.float32), hr
    if made.recorrupt is not None:
        found = noise_from_slices(hr) if len(hr) > 1 else noise_from_image(hr)
        seen, reference = recorrupt(hr, found.sigma, made.recorrupt, rng)
    kernel = gaussian_kernel(made.blur_px, made.blur_px, 0.0)
    low = [
        gaussian_noise(sample_area(blur(one, kernel), scale), made.noise_sigma, rng) for one in seen
    ]
    dtype = hr.dtype if hr.dtype.kind == "u" and made.recorrupt is None else np.dtype(np.float32)
    return np.stack([quantise(one, dtype) if dtype.kind == "u" else one for one in low]), reference


def _write(path: Path, values: np.ndarray, spacing: Spacing, scale: int) -> None:
    nm = coarser_spacing(spacing, scale) if path.name == "lr" else spacing

    def planes() -> Iterator[np.ndarray]:
        yield from values

    write_tiff(path.with_suffix(".tif"), planes(), values.shape, values.dtype, nm)
