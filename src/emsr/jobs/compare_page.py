"""What a comparison's page shows of each data set: one place in all images, and FRC curves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from emsr.jobs.compare_cell import Cell
from emsr.jobs.compare_fields import DONE, plane, scan
from emsr.jobs.compare_recipe import UNTRAINED
from emsr.jobs.compare_sets import DataSet, Images, Phantom
from emsr.jobs.compare_table import Row
from emsr.microscope.presets import PRESETS
from emsr.quality.table import SetView


def sets_of(rows: list[Row], folder: Path) -> list[SetView]:
    """The sets whose scans are there, in the order of the recipe."""
    by_set: dict[str, list[Row]] = {}
    for row in rows:
        by_set.setdefault(row.data, []).append(row)
    return [
        _view(some, folder)
        for some in by_set.values()
        if (folder / "fields" / some[0].cells[0].field_key / DONE).exists()
    ]


def warnings_of(row: Row, folder: Path) -> list[str]:
    """What was said of the row's pairs and of its training."""
    if row.network in UNTRAINED:
        return []
    path = folder / "pairs" / f"{row.cells[0].pairs_key}.json"
    pairs = json.loads(path.read_text())["warnings"] if path.exists() else []
    said = [*pairs, *(warning for result in row.results for warning in result["warnings"])]
    return [line.replace(f"{folder}/", "") for line in dict.fromkeys(said)]


def _view(rows: list[Row], folder: Path) -> SetView:
    """Each network by the strategy with which it came closest."""
    cell = rows[0].cells[0]
    shown = json.loads((folder / "fields" / cell.field_key / DONE).read_text())
    best: dict[str, Row] = {}
    for row in rows:
        if row.results and (row.network not in best or row.error < best[row.network].error):
            best[row.network] = row
    spacing = shown["spacing_nm"]
    return SetView(
        name=cell.data.name,
        split=cell.data.split,
        about=_about(cell.data),
        scale=cell.data.scale,
        z=shown["z"],
        corner=(shown["corner"][0], shown["corner"][1]),
        pixel_nm=spacing and spacing[2],
        pictures=_pictures(cell, list(best.values()), folder, shown),
        curves=[(row.name, row.network, _curve(row)) for row in best.values()],
    )


def _pictures(
    cell: Cell, best: list[Row], folder: Path, shown: dict[str, Any]
) -> list[tuple[str, np.ndarray]]:
    test = folder / "fields" / cell.field_key / "test"
    (y, x), (height, width), s = shown["corner"], shown["size"], cell.data.scale
    low = plane(test / "lr.tif", shown["z"])[y // s : (y + height) // s, x // s : (x + width) // s]
    pictures = [("LR", low.repeat(s, axis=0).repeat(s, axis=1))]
    for row in best:
        first = next(one for one in row.cells if _crop(one, folder).exists())
        pictures.append((row.name, np.load(_crop(first, folder))))
    for name, label in (("hr", "reference"), ("truth", "truth")):
        if (path := scan(test, name)) is not None:
            whole = plane(path, shown["z"])
            pictures.append((label, whole[y : y + height, x : x + width]))
    return pictures


def _crop(cell: Cell, folder: Path) -> Path:
    return folder / "cells" / f"{cell.key}.npy"


def _curve(row: Row) -> dict[str, Any]:
    """The FRC of the first seed with what the set is scored against."""
    scores = row.results[0]["scores"]
    found: dict[str, Any] = scores.get("truth") or scores
    return found


def _about(data: DataSet) -> str:
    """What the images are, and where LR comes from."""
    if isinstance(data, Phantom):
        z, y, x = data.spacing_nm or PRESETS[data.preset].spacing_nm
        return (
            f"Phantom ({data.preset}), HR voxels of {z:g} × {y:g} × {x:g} nm, LR dose "
            f"{data.lr_dose:g} and HR dose {data.hr_dose:g} times the preset's; LR is a scan of "
            f"its own with pixels {data.scale} times larger. Scored against the truth."
        )
    return _about_images(data)


def _about_images(data: Images) -> str:
    made = data.made_lr
    if made is None:
        low = f"LR was acquired{', its pixels averaged' if data.lr_on_hr_grid else ''}"
    else:
        low = (
            f"LR was made from HR: blur of {made.blur_px:g} HR px, {data.scale} × {data.scale} "
            f"means, noise of {made.noise_sigma:g} grey levels"
        )
        if made.recorrupt is not None:
            low += ", after recorrupting each slice, so that the reference's noise is not LR's"
        else:
            low += "; so LR holds some of the reference's noise"
    plane_ = ", seen in xz" if data.plane == "xz" else ""
    return f"Real scan{plane_}. {low}. Scored against the noisy reference."
