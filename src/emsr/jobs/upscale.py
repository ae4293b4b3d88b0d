"""``emsr upscale``: an LR volume in, an SR volume out, tile by tile, restartable at any moment."""

from __future__ import annotations

import math
import resource
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emsr import __version__
from emsr.errors import InputError
from emsr.files import refuse_overlap
from emsr.geometry.box import Triple
from emsr.geometry.tiles import Tile, finer_spacing, tile_shape
from emsr.jobs.identity import file_hash, read_once, software
from emsr.jobs.listener import SILENT, Listener
from emsr.jobs.model import Model, load
from emsr.recipe import Upscaling
from emsr.volumes import omezarr
from emsr.volumes.flatten import omezarr_to_tiff
from emsr.volumes.slices import TIFF_SUFFIXES
from emsr.volumes.source import Volume, open_volume
from emsr.volumes.tiff import software_of

SPACING_TOLERANCE = 0.05
COARSEST_PX = 256
CLIPPED_WARNING = 0.02


def upscale(
    lr: str | Path,
    model: str | Path,
    out: str | Path,
    *,
    upscaling: Upscaling,
    device: str = "auto",
    precision: str = "float32",
    spacing_nm: tuple[float, float, float] | None = None,
    level: int = 0,
    overwrite: bool = False,
    listener: Listener = SILENT,
) -> dict[str, Any]:
    """Write the SR of ``lr`` (of a pyramid, of its ``level``) to ``out``: OME-Zarr, or OME-TIFF
    where the name ends in .tif.

    The output has the dtype and grey scale of the model's HR training data, y and x times its
    scale, and the input's spacing divided by it. An unfinished output of the same run is gone on
    with; a finished one is left alone; any other is refused without ``overwrite``. Memory is
    bounded by the tile. Returns voxels, seconds, clipped_fraction (of the tiles done now),
    tiles_done, tiles_resumed, peak_memory_bytes.
    """
    began = time.monotonic()
    out = Path(out)
    _check_name(out)
    refuse_overlap(out, lr, model)
    volume = open_volume(lr, spacing_nm, level)
    for notice in volume.notices:
        listener.say(notice)
    job = _Job(volume, load(model, device, precision), upscaling)
    spacing = _spacing(volume, job.model, listener)
    _refuse_float16(out, job.model.header.dtype)
    _say_seams(job, listener)
    run = {
        "model_sha256": file_hash(Path(model)),
        "input_sha256": read_once(
            volume, job.chunk, job.model.network.multiple, job.model.header.lr_window, listener
        ),
        "emsr": __version__,
        **job.facts(),
    }
    store = _store(out)
    if _claim(out, store, run, overwrite):
        listener.say(f"{out} is finished; nothing to do")
        return _summary(job, out, began, [], 0)
    if omezarr.read_state(store) is None:
        _create(store, job, spacing, run)
    done, clipped = _compute(job, store, listener)
    _pyramid(store, listener)
    omezarr.finish(store)
    if store != out:
        omezarr_to_tiff(store, out, job.chunk[1], software=software(run))
        shutil.rmtree(store)
    _say_clipped(job, done, clipped, listener)
    return _summary(job, out, began, done, clipped)


@dataclass(frozen=True)
class _Job:
    """One upscaling run: what is read, by what it is computed, where it goes."""

    volume: Volume
    model: Model
    upscaling: Upscaling

    @property
    def shape(self) -> Triple:
        z, y, x = self.volume.shape
        s = self.model.header.scale
        return z, y * s, x * s

    @property
    def chunk(self) -> Triple:
        return tile_shape(self.volume.shape, self.upscaling.tile_px, self.model.network.multiple)

    @property
    def shard(self) -> Triple:
        """One tile's output: as many chunks along y and x as the scale."""
        (z, y, x), s = self.chunk, self.model.header.scale
        return z, y * s, x * s

    @property
    def tiles(self) -> list[Tile]:
        return self.model.plan(self.volume, self.upscaling)

    def facts(self) -> dict[str, Any]:
        """What decides the output's bytes, beside the input and the model."""
        return {
            "tile_px": list(self.chunk),
            "halo_px": self.model.halo_px(self.upscaling),
            "precision": self.model.precision,
            "device": self.model.device.type,
        }


def _check_name(out: Path) -> None:
    if out.suffix.lower() not in (".zarr", *TIFF_SUFFIXES):
        raise InputError(f"{out}: expected an output whose name ends in .ome.zarr, .zarr or .tif")


def _refuse_float16(out: Path, dtype: str) -> None:
    if dtype == "float16" and out.suffix.lower() in TIFF_SUFFIXES:
        raise InputError(f"{out}: TIFF cannot hold float16, the model's dtype: write an .ome.zarr")


def _store(out: Path) -> Path:
    """Where the shards go: a TIFF is made from a store beside it, which is then removed."""
    return (
        out.with_name(f".{out.name}.unfinished.ome.zarr")
        if out.suffix.lower() in TIFF_SUFFIXES
        else out
    )


def _claim(out: Path, store: Path, run: dict[str, Any], overwrite: bool) -> bool:
    """Whether ``out`` is this run's finished output. What else is in the way is refused, or with
    ``overwrite`` removed; this run's unfinished output stays."""
    if store != out and out.exists():
        if out.is_file() and software_of(out) == software(run):
            shutil.rmtree(store, ignore_errors=True)  # a run killed just before its last step
            return True
        _clear(out, overwrite)
    try:
        state = omezarr.read_state(store)
    except InputError:
        _clear(store, overwrite)
        return False
    if state is not None and state["run"] != run:
        _clear(store, overwrite, f"{state['state']} output")
        return False
    return store == out and state is not None and state["state"] == omezarr.FINISHED


def _clear(path: Path, overwrite: bool, what: str = "output") -> None:
    if not overwrite:
        raise InputError(
            f"{path} exists and is not this run's {what} (another input, model or setting): "
            "choose another --out, or replace it with --overwrite"
        )
    if path.is_file():
        path.unlink()
    elif (path / "zarr.json").is_file() or not any(path.iterdir()):
        shutil.rmtree(path)
    else:
        raise InputError(
            f"{path} is a directory but no Zarr: remove it yourself, or choose another"
        )


def _create(
    store: Path, job: _Job, spacing: tuple[float, float, float] | None, run: dict[str, Any]
) -> None:
    store.parent.mkdir(parents=True, exist_ok=True)
    omezarr.create(
        store,
        job.shape,
        job.model.header.dtype,
        spacing,
        job.chunk,
        job.shard,
        run,
        coarsest_px=COARSEST_PX,
    )


def _compute(job: _Job, store: Path, listener: Listener) -> tuple[list[Tile], int]:
    """Write every tile that is missing; returns those tiles and how many voxels were clipped."""
    array = omezarr.open_level(store, 0)
    missing = [tile for tile in job.tiles if not omezarr.is_written(array, tile.write)]
    began, voxels, clipped = time.monotonic(), 0, 0
    for done, tile in enumerate(missing, 1):
        values, lost = job.model.compute(job.volume, tile)
        omezarr.write_box(array, tile.write, values)
        voxels, clipped = voxels + values.size, clipped + lost
        rate = voxels / (time.monotonic() - began) / 1e6
        listener.progress("upscale", done, len(missing), f"{rate:.2f} million voxels/s")
    return missing, clipped


def _pyramid(store: Path, listener: Listener) -> None:
    """Build the coarser levels, each from the one below it, where shards are missing."""
    for level in range(1, omezarr.level_count(store)):
        array, boxes = omezarr.open_level(store, level), omezarr.shard_boxes(store, level)
        for done, box in enumerate(boxes, 1):
            if not omezarr.is_written(array, box):
                omezarr.build_shard(store, level, box)
            listener.progress(f"level {level}", done, len(boxes), "")


def _spacing(volume: Volume, model: Model, listener: Listener) -> tuple[float, float, float] | None:
    """Spacing of the SR volume, once the input's is what the model was trained at."""
    found, trained = volume.spacing_nm, model.header.lr_spacing_nm
    if found is None:
        listener.say(f"{volume.name}: spacing unknown, so the output's is too; --spacing gives it")
        return None
    if trained is None:
        listener.say("the model does not know the spacing it was trained at")
    elif _differ(found[1:], trained[1:]):
        raise InputError(
            f"{volume.name} has an in-plane spacing of {found[1]:g} x {found[2]:g} nm, the model "
            f"was trained at {trained[1]:g} x {trained[2]:g} nm: choose a model of that spacing, "
            "or correct the input's with --spacing"
        )
    # Of one slice alone z spacing is a convention, and a network of one slice does not see it.
    elif model.slices > 1 and volume.shape[0] > 1 and _differ(found[:1], trained[:1]):
        raise InputError(
            f"{volume.name} has slices {found[0]:g} nm apart, the model looks at {model.slices} "
            f"adjacent ones and was trained at {trained[0]:g} nm: choose a model of that spacing, "
            "one with slices = 1, or correct the input's with --spacing"
        )
    return finer_spacing(found, model.header.scale)


def _differ(found: tuple[float, ...], trained: tuple[float, ...]) -> bool:
    return any(abs(f / t - 1) > SPACING_TOLERANCE for f, t in zip(found, trained, strict=True))


def _say_seams(job: _Job, listener: Listener) -> None:
    if job.model.network.halo is None and len(job.tiles) > 1:
        listener.say(
            f"warning: network {job.model.header.network!r} pools over all it is shown: its tiles, "
            f"read with a halo of {job.model.halo_px(job.upscaling)} px, may show seams"
        )


def _say_clipped(job: _Job, done: list[Tile], clipped: int, listener: Listener) -> None:
    share = clipped / max(1, _voxels(done))
    if share > CLIPPED_WARNING:
        listener.say(
            f"warning: {share:.1%} of the voxels lie beyond the range of {job.model.header.dtype} "
            "and were clipped: is the input on the grey scale of the scans trained on?"
        )


def _voxels(tiles: list[Tile]) -> int:
    return sum(math.prod(tile.write.shape) for tile in tiles)


def _summary(job: _Job, out: Path, began: float, done: list[Tile], clipped: int) -> dict[str, Any]:
    seconds = time.monotonic() - began
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    z, y, x = job.shape
    computed = _voxels(done)
    reason = {} if done else {"clipped_fraction": "all tiles were there already"}
    return {
        "out": str(out),
        "shape": [z, y, x],
        "voxels": z * y * x,
        "seconds": round(seconds, 2),
        "clipped_fraction": clipped / computed if computed else None,
        "tiles_done": len(done),
        "tiles_resumed": len(job.tiles) - len(done),
        "peak_memory_bytes": kib * (1 if sys.platform == "darwin" else 1024),
        "reason": reason,
        "lines": [
            f"{out}: {z} x {y} x {x} voxels in {seconds:.0f} s"
            + (f", {clipped / computed:.2%} clipped" if computed else "")
        ],
    }
