"""``emsr upscale``: an LR volume in, an SR volume out, tile by tile, restartable at any moment."""

from __future__ import annotations

import hashlib
import json
import resource
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emsr.errors import InputError
from emsr.geometry.box import Box, Triple
from emsr.geometry.tiles import Tile, tile_shape
from emsr.jobs.listener import SILENT, Listener
from emsr.jobs.model import Model, load
from emsr.network.checkpoint import Header
from emsr.recipe import Upscaling
from emsr.volumes import omezarr
from emsr.volumes.flatten import omezarr_to_tiff
from emsr.volumes.source import Volume, open_volume
from emsr.volumes.tiff import software_of

SPACING_TOLERANCE = 0.05
TIFF = (".tif", ".tiff")
COARSEST_PX = 256


def upscale(
    lr: str | Path,
    model: str | Path,
    out: str | Path,
    *,
    upscaling: Upscaling,
    device: str = "auto",
    precision: str = "float32",
    spacing_nm: tuple[float, float, float] | None = None,
    overwrite: bool = False,
    listener: Listener = SILENT,
) -> dict[str, Any]:
    """Write the SR of ``lr`` to ``out``: OME-Zarr, or OME-TIFF where the name ends in .tif.

    The output has the dtype and grey scale of the model's HR training data, y and x times its
    scale, and the input's spacing divided by it. An unfinished output of the same run is gone on
    with; a finished one is left alone; any other is refused without ``overwrite``. Memory is
    bounded by the tile. Returns voxels, seconds, clipped_fraction (of the tiles done now),
    tiles_done, tiles_resumed, peak_memory_bytes.
    """
    began = time.monotonic()
    out = Path(out)
    volume = open_volume(lr, spacing_nm)
    for notice in volume.notices:
        listener.say(notice)
    job = _Job(volume, load(model, device, precision), upscaling)
    spacing = _spacing(volume, job.model.header, listener)
    run = {"model_sha256": _file_hash(Path(model)), "input": _fingerprint(volume), **job.facts()}
    store = _store(out)
    if _claim(out, store, run, overwrite):
        listener.say(f"{out} is finished; nothing to do")
        return _summary(job, out, began, done=0, clipped=None)
    if omezarr.read_state(store) is None:
        _create(store, job, spacing, run)
    done, clipped = _compute(job, store, listener)
    _pyramid(store, listener)
    omezarr.finish(store)
    if store != out:
        omezarr_to_tiff(store, out, job.chunk[1], software=_software(run))
        shutil.rmtree(store)
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
        halo = self.upscaling.halo_px
        return {
            "tile_px": list(self.chunk),
            "halo_px": self.model.network.halo if halo is None else halo,
            "precision": self.model.precision,
            "device": self.model.device.type,
        }


def _store(out: Path) -> Path:
    """Where the shards go: a TIFF is made from a store beside it, which is then removed."""
    return out.with_name(f".{out.name}.unfinished.ome.zarr") if out.suffix in TIFF else out


def _claim(out: Path, store: Path, run: dict[str, Any], overwrite: bool) -> bool:
    """Whether ``out`` is this run's finished output. What else is in the way is refused, or with
    ``overwrite`` removed; this run's unfinished output stays."""
    if store != out and out.exists():
        if out.is_file() and software_of(out) == _software(run):
            return True
        _clear(out, overwrite)
    try:
        state = omezarr.read_state(store)
    except InputError:
        _clear(store, overwrite)
        return False
    if state is not None and state["run"] != run:
        _clear(store, overwrite)
        return False
    return store == out and state is not None and state["state"] == omezarr.FINISHED


def _clear(path: Path, overwrite: bool) -> None:
    if not overwrite:
        raise InputError(
            f"{path} exists and is not this run's output (another input, model or setting): "
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


def _compute(job: _Job, store: Path, listener: Listener) -> tuple[int, int]:
    """Write every tile that is missing; returns tiles done and voxels clipped."""
    array = omezarr.open_level(store, 0)
    missing = [tile for tile in job.tiles if not omezarr.is_written(array, tile.write)]
    began, voxels, clipped = time.monotonic(), 0, 0
    for done, tile in enumerate(missing, 1):
        values, lost = job.model.compute(job.volume, tile)
        omezarr.write_box(array, tile.write, values)
        voxels, clipped = voxels + values.size, clipped + lost
        rate = voxels / (time.monotonic() - began) / 1e6
        listener.progress("upscale", done, len(missing), f"{rate:.2f} million voxels/s")
    return len(missing), clipped


def _pyramid(store: Path, listener: Listener) -> None:
    """Build the coarser levels, each from the one below it, where shards are missing."""
    for level in range(1, omezarr.level_count(store)):
        array, boxes = omezarr.open_level(store, level), omezarr.shard_boxes(store, level)
        for done, box in enumerate(boxes, 1):
            if not omezarr.is_written(array, box):
                omezarr.build_shard(store, level, box)
            listener.progress(f"level {level}", done, len(boxes), "")


def _spacing(
    volume: Volume, header: Header, listener: Listener
) -> tuple[float, float, float] | None:
    """Spacing of the SR volume, once the input's is what the model was trained at."""
    found, trained = volume.spacing_nm, header.lr_spacing_nm
    if found is None:
        listener.say(f"{volume.name}: spacing unknown, so the output's is too; --spacing gives it")
        return None
    if trained is None:
        listener.say("the model does not know the spacing it was trained at")
    elif any(
        abs(f / t - 1) > SPACING_TOLERANCE for f, t in zip(found[1:], trained[1:], strict=True)
    ):
        raise InputError(
            f"{volume.name} has an in-plane spacing of {found[1]:g} x {found[2]:g} nm, the model "
            f"was trained at {trained[1]:g} x {trained[2]:g} nm: choose a model of that spacing, "
            "or correct the input's with --spacing"
        )
    s = header.scale
    return found[0], found[1] / s, found[2] / s


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fingerprint(volume: Volume) -> str:
    """Which input this is, wherever it lies: shape, dtype, spacing and a sample of its values (up
    to 16 slices' centres), since reading terabytes twice is not to be asked."""
    digest = hashlib.sha256(repr((volume.shape, str(volume.dtype), volume.spacing_nm)).encode())
    depth, height, width = volume.shape
    for z in sorted(set(np.linspace(0, depth - 1, 16).round().astype(int).tolist())):
        y, x = max(0, height // 2 - 32), max(0, width // 2 - 32)
        box = Box((z, y, x), (z + 1, min(y + 64, height), min(x + 64, width)))
        digest.update(np.ascontiguousarray(volume.read(box)).tobytes())
    return digest.hexdigest()


def _software(run: dict[str, Any]) -> str:
    """How a TIFF says which run made it."""
    identity = hashlib.sha256(json.dumps(run, sort_keys=True).encode()).hexdigest()
    return f"emsr run {identity}"


def _summary(job: _Job, out: Path, began: float, done: int, clipped: int | None) -> dict[str, Any]:
    seconds = time.monotonic() - began
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    z, y, x = job.shape
    reason = {"clipped_fraction": "nothing was computed"} if clipped is None else {}
    return {
        "out": str(out),
        "shape": [z, y, x],
        "voxels": z * y * x,
        "seconds": round(seconds, 2),
        "clipped_fraction": None if clipped is None else clipped / (z * y * x),
        "tiles_done": done,
        "tiles_resumed": len(job.tiles) - done,
        "peak_memory_bytes": kib * (1 if sys.platform == "darwin" else 1024),
        "reason": reason,
        "lines": [f"{out}: {z} x {y} x {x} voxels in {seconds:.0f} s"],
    }
