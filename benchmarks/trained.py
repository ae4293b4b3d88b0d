"""Three networks trained on each phantom, which several benchmarks judge: one training for all.

    python benchmarks/trained.py --work DIR

Small budgets (minutes of one CPU thread each), since what is judged is the judge: scores, maps of
trust, the enhancer. ``trained`` returns the model files, training what is missing in ``--work``.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from cells import Cell, run_all
from fields import PHANTOMS

COMMON = {"patch_px": 32, "warmup_steps": 50, "patience": 0, "batch": 4}
TRAINING: dict[str, dict[str, Any]] = {
    "emsr-lean": {"learning_rate": 2e-3, "steps": 500},
    "emsr-tiny": {"learning_rate": 5e-3, "steps": 500},
    "unet": {"learning_rate": 1e-3, "steps": 500},
}
Key = tuple[str, str]
"""(field, network)."""


def trained(
    work: Path, data: Path, jobs: int = 1, fields: tuple[str, ...] = PHANTOMS
) -> dict[Key, Path]:
    """Model files of the networks above on each of ``fields`` (of fields.py)."""
    cells = {
        (field, network): Cell(field, network, {}, COMMON | own, 0)
        for field in fields
        for network, own in TRAINING.items()
    }
    run_all(list(cells.values()), work, data, jobs)
    return {key: work / "cells" / f"{cell.key}.safetensors" for key, cell in cells.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    default = os.environ.get("EMSR_DATA", "../shared/data")
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    for (field, network), path in trained(arguments.work, arguments.data, arguments.jobs).items():
        print(f"{field}, {network}: {path}")


if __name__ == "__main__":
    main()
