"""Fields to train and to score on: phantoms with a truth, and real images.

``made(work, name, data)`` prepares, once, ``work/name`` with ``pairs.zarr`` to learn from and
``test/lr.tif`` and ``test/reference.tif``, a field that no training touches.

    white-matter, neuropil   32 x 480 x 480 HR voxels, seed 0, train; 4 x 384 x 384, seed 2, test.
                             ``test1`` (seed 1) is for choosing settings, never for what is
                             reported. The reference is the truth.
    white-matter-few         The same, but only two slices train.
    white-matter-quiet       The same, but the LR scans carry hardly any noise (2 grey levels).
    fibsem                   FIB-SEM of a fly: slices 0 to 149 train (strategy synthetic), 200 to
                             209 test; LR made from the HR scan (see real_data.py), which is the
                             reference.
    fast-slow                SEM of mouse brain scanned twice: LR is the 3 x 3 mean of the fast
                             scan, HR the slow one; rows 0 to 503 train, 528 to 767 test. The
                             reference is the slow scan. Spacing unknown: lengths are in HR pixels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from real_data import SPLITS, scans

from emsr.geometry.box import whole
from emsr.jobs.prepare import prepare
from emsr.jobs.simulate import simulate
from emsr.microscope.presets import PRESETS, SUPERSAMPLING, lr_scan
from emsr.microscope.scan import expected
from emsr.microscope.stages import gaussian_noise, sample_area
from emsr.microscope.tissue import tissue
from emsr.recipe import make_recipe
from emsr.volumes.source import open_volume
from emsr.volumes.tiff import write_tiff

PHANTOMS = ("white-matter", "neuropil")
NAMES = (*PHANTOMS, "white-matter-few", "white-matter-quiet", "fibsem", "fast-slow")
FEW_SLICES, QUIET_GREY = 2, 2.0
SCALE = 3
TRAIN_SHAPE, TEST_SHAPE = (32, 480, 480), (4, 384, 384)
TEST_SEED, CHOICE_SEED = 2, 1


def made(work: Path, name: str, data: Path) -> Path:
    """The folder of the field called ``name``."""
    folder = work / name
    if not (folder / "pairs.zarr").exists():
        folder.mkdir(parents=True, exist_ok=True)
        if name in PHANTOMS:
            _phantom(folder, name)
        elif name == "white-matter-few":
            _few(folder, made(work, "white-matter", data))
        elif name == "white-matter-quiet":
            _quiet(folder, made(work, "white-matter", data))
        elif name == "fibsem":
            _fibsem(folder, data)
        else:
            _fast_slow(folder, data)
    return folder


def read(path: Path) -> np.ndarray:
    """The whole volume in a file."""
    volume = open_volume(path)
    return volume.read(whole(volume.shape))


def _phantom(folder: Path, preset: str) -> None:
    learn = folder / "learn"
    simulate(learn, preset, TRAIN_SHAPE, SCALE, 0, overwrite=True)
    for name, seed in (("test", TEST_SEED), ("test1", CHOICE_SEED)):
        simulate(folder / name, preset, TEST_SHAPE, SCALE, seed, overwrite=True)
        (folder / name / "reference.tif").unlink(missing_ok=True)
        (folder / name / "reference.tif").symlink_to("truth.tif")
    _pairs(folder, "real", hr=learn / "hr.tif", lr=learn / "lr.tif")


def _few(folder: Path, whole_: Path) -> None:
    scans_ = {part: folder / f"{part}.tif" for part in ("lr", "hr")}
    for part, path in scans_.items():
        _copy(path, whole_ / f"learn/{part}.tif", read(whole_ / f"learn/{part}.tif")[:FEW_SLICES])
    (folder / "test").unlink(missing_ok=True)
    (folder / "test").symlink_to((whole_ / "test").absolute())
    _pairs(folder, "real", **scans_)


def _quiet(folder: Path, whole_: Path) -> None:
    rng = np.random.default_rng(0)
    for part, shape, seed in (("learn", TRAIN_SHAPE, 0), ("test", TEST_SHAPE, TEST_SEED)):
        (folder / part).mkdir(exist_ok=True)
        clean = gaussian_noise(noise_free("white-matter", shape, seed), QUIET_GREY, rng)
        _copy(folder / part / "lr.tif", whole_ / part / "lr.tif", clean)
    (folder / "test/reference.tif").unlink(missing_ok=True)
    (folder / "test/reference.tif").symlink_to((whole_ / "test/truth.tif").absolute())
    _pairs(folder, "real", hr=whole_ / "learn/hr.tif", lr=folder / "learn/lr.tif")


def _copy(path: Path, original: Path, planes: np.ndarray) -> None:
    """``planes`` in a file of the original's spacing."""
    write_tiff(path, planes, planes.shape, planes.dtype, open_volume(original).spacing_nm)


def noise_free(name: str, shape: tuple[int, int, int], seed: int) -> np.ndarray:
    """What endless LR scans of a phantom would show on average."""
    preset = PRESETS[name]
    z, y, x = preset.spacing_nm
    fine = (shape[0], shape[1] * SUPERSAMPLING, shape[2] * SUPERSAMPLING)
    block = tissue(name, fine, (z, y / SUPERSAMPLING, x / SUPERSAMPLING), seed)
    scan = lr_scan(preset, SCALE)
    return np.stack([expected(block.render(k, k + 1)[0], scan) for k in range(shape[0])])


def _fibsem(folder: Path, data: Path) -> None:
    test = folder / "test"
    test.mkdir(exist_ok=True)
    scans(SPLITS["fibsem"], data, test)
    (test / "hr.tif").rename(test / "reference.tif")
    _pairs(folder, "synthetic", hr=test / "train.tif")


def _fast_slow(folder: Path, data: Path) -> None:
    fast, slow = (read(data / f"sem-brain-fast-slow/{name}.tif")[0] for name in ("fast", "slow"))
    for part, rows in (("learn", slice(0, 504)), ("test", slice(528, 768))):
        (folder / part).mkdir(exist_ok=True)
        # Float32, so that the mean keeps what rounding would take.
        low = sample_area(fast[rows].astype(np.float32), SCALE)[None]
        high = slow[rows][None]
        write_tiff(folder / part / "lr.tif", low, low.shape, low.dtype, None)
        path = folder / part / "reference.tif"
        write_tiff(path, high, high.shape, high.dtype, None)
    scans_ = {"hr": folder / "learn/reference.tif", "lr": folder / "learn/lr.tif"}
    _pairs(folder, "real", **scans_)


def _pairs(folder: Path, strategy: str, **scans_: Path) -> None:
    recipe = make_recipe(scale=SCALE)
    prepare(out=folder / "pairs.zarr", strategy=strategy, recipe=recipe, overwrite=True, **scans_)
