"""`emsr enhance` on real scans: the fast and the slow scan of one field of mouse brain, and SBEM.

    fast     cleaned by a network of scale 1 that learned fast -> slow; scored against slow
    slow     cleaned by one that learned slow -> fast (Noise2Noise); scored against fast
    SBEM     one scan and nothing else: a network of scale 1 that learned from its split

Rows 0 to 503 of the pair train, 528 to 767 test; slices 80 to 89 of the SBEM stack train but for
the right half, which tests. The two scans of the pair are not equally noisy, so no clean score
holds; the FRC does.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from cells import Cell, run_all
from enhancer_models import BLUR, TRAINING
from fields import read

from emsr.jobs.form import Form, in_form
from emsr.jobs.model import load
from emsr.jobs.prepare import prepare
from emsr.microscope.estimate import Noise
from emsr.pairs.align import grey_moments, grey_relation
from emsr.pairs.denoise_residual import complaints, removed
from emsr.pairs.made_from import noise_of
from emsr.quality.fidelity import psnr
from emsr.quality.resolution import frc
from emsr.recipe import recipe_from
from emsr.volumes.tiff import write_tiff
from emsr.volumes.volume import array_volume

LEARN, TEST = slice(0, 504), slice(528, 768)
PEAK = 255.0


def real_table(work: Path, data: Path) -> None:
    """One row a scan."""
    names = "scan", "PSNR", "mean FRC", "removed", "next", "noise's own", "edges", "complaints"
    _row(*names)
    _row(*("---",) * len(names))
    fast, slow = (read(data / f"sem-brain-fast-slow/{name}.tif") for name in ("fast", "slow"))
    for name, scan, other in (("fast", fast, slow), ("slow", slow, fast)):
        given, target = (image[:, LEARN] for image in (scan, other))
        out, held = _cleaned(work, name, {"lr": given, "hr": target}, "real", scan[:, TEST])
        _report(name, held, out, other[:, TEST], noise_of(scan, name))
    sbem = read(data / "sbem-neural-noisy/z080-090.tif")
    half = sbem.shape[2] // 2
    out, held = _cleaned(work, "sbem", {"hr": sbem[:, :, :half]}, "split", sbem[:, :, half:])
    _report("SBEM", held, out, None, noise_of(sbem, "SBEM"))


def _cleaned(
    work: Path, name: str, learn: dict[str, np.ndarray], strategy: str, test: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The test part cleaned, and the test part; trains where ``work`` lacks the network."""
    folder = work / f"real-{name}"
    (folder / "test").mkdir(parents=True, exist_ok=True)
    paths = {role: folder / f"{role}.tif" for role in learn}
    for path, planes in zip(paths.values(), learn.values(), strict=True):
        write_tiff(path, planes, planes.shape, planes.dtype, None)
    for role in ("lr", "reference"):  # scored by cells.py too, against itself
        write_tiff(folder / f"test/{role}.tif", test, test.shape, test.dtype, None)
    if not (folder / "pairs.zarr").exists():
        recipe = recipe_from({"scale": 1, "degradation": BLUR | {"noise_sigma": [0.0, 0.0]}})
        prepare(out=folder / "pairs.zarr", strategy=strategy, scale=1, recipe=recipe, **paths)
    cell = Cell(folder.name, "emsr-lean", {}, TRAINING, 0)
    run_all([cell], work, work, 1)
    model = load(work / "cells" / f"{cell.key}.safetensors", "cpu")
    volume = array_volume(test, None, name)
    return in_form(volume, model, Form(dtype="float32", clean=True))[1].upscale(test), test


def _report(
    name: str, scan: np.ndarray, out: np.ndarray, other: np.ndarray | None, noise: Noise
) -> None:
    """Scan and output against the other scan of the field, where there is one."""
    own = max(noise.correlation or (0.0, 0.0), key=abs)
    _row(name, *_against(scan, other), "", "", f"{own:.2f}", "", "")
    _row(f"{name}, cleaned", *_against(out, other), *_gone(scan, out, noise))


def _against(image: np.ndarray, other: np.ndarray | None) -> tuple[str, str]:
    if other is None:
        return "", ""
    gain, offset = grey_relation(grey_moments(image[0], other[0]))
    fitted = (image.astype(np.float64) - offset) / gain if abs(gain) > 0 else image
    return f"{psnr(fitted, other, PEAK):.2f}", f"{frc(image, other)[1:].mean():.3f}"


def _gone(scan: np.ndarray, out: np.ndarray, noise: Noise) -> tuple[str, ...]:
    found = removed(scan, out, noise)
    most = max(found.autocorrelation, key=abs)
    said = str(len(complaints(found, noise)))
    return f"{found.ratio:.2f}", f"{most:.2f}", "", f"{found.edge_excess:.2f}", said


def _row(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)
