"""The verb ``simulate``: a phantom of brain tissue, its clean truth, and scans of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emsr.errors import InputError
from emsr.files import refuse_overlap
from emsr.geometry.box import Triple
from emsr.geometry.tiles import coarser_spacing
from emsr.jobs.listener import SILENT, Listener
from emsr.microscope.presets import PRESETS, SUPERSAMPLING, hr_scan, lr_scan
from emsr.microscope.scan import Scan, acquire, expected
from emsr.microscope.tissue import Tissue, tissue
from emsr.volumes.tiff import write_tiff

SMALLEST: Triple = (1, 16, 16)
WIDEST_NM = 100.0
SpacingNm = tuple[float, float, float]


@dataclass(frozen=True)
class _Output:
    """One file to be written. ``stream`` (unlike those that drew the tissue) seeds its noise; None
    is the noise-free truth."""

    name: str
    scan: Scan
    shape: Triple
    spacing_nm: SpacingNm
    stream: int | None

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.float32 if self.stream is None else self.scan.dtype)


def simulate(
    out: str | Path,
    preset: str,
    shape: Triple,
    scale: int,
    seed: int,
    overwrite: bool = False,
    listener: Listener = SILENT,
    spacing_nm: SpacingNm | None = None,
) -> dict[str, Any]:
    """Write ``truth.tif``, ``hr.tif``, ``hr_repeat.tif`` and ``lr.tif`` into the directory ``out``.

    ``shape`` (z, y, x) in HR voxels, y and x multiples of ``scale``; ``spacing_nm`` of HR, None
    takes the preset's. Truth (float32) is the expectation of ``hr.tif``: PSF, sampling, gain and
    offset, no noise. The scans (uint8) have independent noise; LR pixel i covers HR pixels
    ``scale * i`` to ``scale * i + scale - 1``. Equal arguments give equal bytes; one
    slice is held in memory at a time. InputError for arguments that cannot be met.
    """
    refuse_overlap(out)
    out = Path(out)
    _check(preset, shape, scale, seed, spacing_nm)
    spacing = spacing_nm or PRESETS[preset].spacing_nm
    outputs = _outputs(preset, shape, scale, spacing)
    _refuse_existing(out, outputs, overwrite)
    fine_spacing = (spacing[0], spacing[1] / SUPERSAMPLING, spacing[2] / SUPERSAMPLING)
    fine_shape = (shape[0], shape[1] * SUPERSAMPLING, shape[2] * SUPERSAMPLING)
    with _scratch(out) as folder:
        block = tissue(preset, fine_shape, fine_spacing, seed)
        _scan_slices(folder, block, outputs, seed, listener)
        for output in outputs:
            planes = np.load(folder / f"{output.name}.npy", mmap_mode="r")
            write_tiff(folder / output.name, planes, output.shape, output.dtype, output.spacing_nm)
        for output in outputs:
            (folder / output.name).replace(out / output.name)
    return {
        "out": str(out),
        "files": [output.name for output in outputs],
        "preset": preset,
        "shape": list(shape),
        "spacing_nm": list(spacing),
        "lr_shape": list(outputs[-1].shape),
        "lr_spacing_nm": list(outputs[-1].spacing_nm),
        "scale": scale,
        "seed": seed,
        "lines": [f"{out}: {', '.join(output.name for output in outputs)}"],
    }


def _outputs(preset: str, shape: Triple, scale: int, spacing_nm: SpacingNm) -> list[_Output]:
    settings = PRESETS[preset]
    hr, lr = hr_scan(settings), lr_scan(settings, scale)
    lr_shape = (shape[0], shape[1] // scale, shape[2] // scale)
    lr_spacing = coarser_spacing(spacing_nm, scale) or spacing_nm
    return [
        _Output("truth.tif", hr, shape, spacing_nm, None),
        _Output("hr.tif", hr, shape, spacing_nm, 101),
        _Output("hr_repeat.tif", hr, shape, spacing_nm, 102),
        _Output("lr.tif", lr, lr_shape, lr_spacing, 103),
    ]


def _scan_slices(
    folder: Path, block: Tissue, outputs: list[_Output], seed: int, listener: Listener
) -> None:
    """Scan every slice once for each output, into scratch arrays on disk."""
    stacks = {
        output.name: np.lib.format.open_memmap(
            folder / f"{output.name}.npy", "w+", output.dtype, output.shape
        )
        for output in outputs
    }
    for z in range(block.shape[0]):
        stain = block.render(z, z + 1)[0]
        for output in outputs:
            stacks[output.name][z] = _scanned(stain, output, seed, z)
        listener.progress("simulate", z + 1, block.shape[0], "slices")


def _scanned(stain: NDArray[np.float32], output: _Output, seed: int, z: int) -> NDArray[Any]:
    if output.stream is None:
        return expected(stain, output.scan)
    rng = np.random.default_rng([seed, output.stream, z])
    return acquire(stain, output.scan, rng)


def _check(preset: str, shape: Triple, scale: int, seed: int, spacing_nm: SpacingNm | None) -> None:
    if preset not in PRESETS:
        raise InputError(f"preset {preset!r} is unknown: choose one of {', '.join(PRESETS)}")
    if not 1 <= scale <= 8:
        raise InputError(f"scale {scale}: expected a whole number from 1 to 8")
    if seed < 0:
        raise InputError(f"seed {seed}: expected a whole number from 0 up")
    size = " x ".join(map(str, shape))
    if len(shape) != 3 or any(n < least for n, least in zip(shape, SMALLEST, strict=True)):
        least = " x ".join(map(str, SMALLEST))
        raise InputError(f"shape {size}: expected (z, y, x) of at least {least} HR voxels")
    if shape[1] % scale or shape[2] % scale:
        y, x = (-(-n // scale) * scale for n in shape[1:])
        raise InputError(
            f"shape {size}: y and x must be multiples of the scale {scale}; try {shape[0]} {y} {x}"
        )
    if spacing_nm is not None:
        _check_spacing(spacing_nm)


def _check_spacing(spacing_nm: SpacingNm) -> None:
    stated = ", ".join(f"{value:g}" for value in spacing_nm)
    if len(spacing_nm) != 3 or not all(np.isfinite(s) and s > 0 for s in spacing_nm):
        raise InputError(f"spacing {stated} nm: expected three lengths (z, y, x) above 0")
    if max(spacing_nm[1:]) > WIDEST_NM:
        raise InputError(
            f"spacing {stated} nm: cells and membranes need HR pixels of {WIDEST_NM:g} nm or less"
        )


def _refuse_existing(out: Path, outputs: list[_Output], overwrite: bool) -> None:
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file: give a directory for the scans")
    for output in outputs:
        if not overwrite and (out / output.name).exists():
            raise InputError(f"{out / output.name} exists: choose another --out, or --overwrite it")


@contextmanager
def _scratch(out: Path) -> Iterator[Path]:
    """A hidden folder inside ``out``, gone afterwards; so is ``out`` where nothing came of it."""
    new = not out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".simulate-", dir=out) as folder:
            yield Path(folder)
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror or error}") from error
    finally:
        if new and out.is_dir() and not any(out.iterdir()):
            out.rmdir()
