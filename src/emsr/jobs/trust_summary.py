"""What the maps of trust of a volume come to: their names, their means, and the words for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emsr.geometry.box import Box
from emsr.volumes import omezarr

CONSISTENCY = ("doubt", "power", "structure")
SPREAD, ERROR = "spread", "error"
ALL = (*CONSISTENCY, SPREAD, ERROR)
DOUBTFUL = 3.0
"""Standard deviations: what is much where a model file does not say what is usual."""
USUAL = 0.999
"""Quantile of the doubt of honest SR over which a voxel is doubtful."""


def summary_of(
    path: Path, maps: tuple[str, ...], boxes: Sequence[Box], honest: dict[str, float] | None
) -> dict[str, Any]:
    """Means over the volume: residual_power (noise alone: 1), residual_structure (0),
    doubtful_fraction (share of LR voxels whose doubt is over doubtful_over: what one in 1000 voxels
    of honest SR by this model has or, where the model file does not say, ``DOUBTFUL``), spread and
    expected_error (root mean squares, grey levels; null where not asked for), and ``honest``: what
    is usual of the model's own SR of images that did not train it. Reads the maps ``boxes`` by
    ``boxes``."""
    limit = (honest or {}).get("doubt") or DOUBTFUL
    found: dict[str, Any] = {"path": str(path), "maps": list(maps)}
    found["residual_power"] = _mean(path / "power", boxes, np.asarray)
    found["residual_structure"] = _mean(path / "structure", boxes, np.asarray)
    found["doubtful_fraction"] = _mean(path / "doubt", boxes, lambda doubt: doubt > limit)
    found["doubtful_over"] = limit
    for key, name in (("spread", SPREAD), ("expected_error", ERROR)):
        known = name in maps
        found[key] = float(np.sqrt(_mean(path / name, boxes, np.square))) if known else None
        if not known:
            asked = "the model file holds no calibration" if SPREAD in maps else "give --spread"
            found.setdefault("reason", {})[key] = asked
    found["honest"] = honest
    return found


def _mean(path: Path, boxes: Sequence[Box], of: Callable[[NDArray], NDArray]) -> float:
    array, total, count = omezarr.open_level(path, 0), 0.0, 0
    for box in boxes:
        values = of(np.asarray(array[box.slices], np.float64))
        total, count = total + float(values.sum(dtype=np.float64)), count + values.size
    return total / count


def lines_of(found: dict[str, Any]) -> list[str]:
    """What a person reads of a summary."""
    honest = found["honest"]
    usual = f", {honest['power']:.2f} its own usual" if honest else ""
    usual_doubt = honest and "doubt" in honest
    expected = f"{1 - USUAL:.1%} its own usual" if usual_doubt else "noise alone 0.27%"
    text = (
        f"{found['path']}: residual power {found['residual_power']:.2f} (noise alone 1{usual}), "
        f"structure {found['residual_structure']:+.2f} (0), "
        f"{found['doubtful_fraction']:.2%} of the voxels doubted by over "
        f"{found['doubtful_over']:.2g} standard deviations ({expected})"
    )
    if found["spread"] is not None:
        text += f", spread {found['spread']:.3g} grey levels"
    if found["expected_error"] is not None:
        text += f" (error to expect {found['expected_error']:.3g})"
    return [text]
