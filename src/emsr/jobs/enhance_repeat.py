"""What a second scan of the field can say of a cleaned one: how the two lie beside each other, and
whether the model was trained on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emsr.jobs.listener import Listener
from emsr.jobs.provenance import Witness, told_by
from emsr.quality.cleaned import as_numbers, beside, on_greys_of, out_of_register, unlike_scan
from emsr.volumes.source import Volume
from emsr.volumes.volume import iterate_slices


@dataclass(frozen=True)
class Judge:
    """A repeat beside the scan."""

    fitted: np.ndarray | None
    """Its sample (z, y, x) on the scan's greys; None out of register."""
    why_not: str | None
    """Why it gives no score, where it gives none."""
    numbers: dict[str, Any]
    """For JSON: its place and greys, and ``trained_on``: whether the model saw it, None where that
    cannot be told."""
    unknown: str | None
    """Why that is None."""


def judge(
    hr: np.ndarray, repeat: np.ndarray, first: int, scan: Volume, model: Path, listener: Listener
) -> Judge:
    """What a second ``scan`` can say of a cleaned ``hr`` (z, y, x), which begins with slice
    ``first``; ``repeat`` is its sample at the same place. ``listener`` hears what is amiss."""
    found = beside(hr, repeat, first)
    place = out_of_register(found)
    seen, untold, nothing = (None, None, place) if place else _witnessed(scan, model)
    why = place or seen
    warned = [f"warning: {line}" for line in (why, *unlike_scan(found)) if line]
    for line in (*warned, *([untold] if untold else [])):
        listener.say(line)
    unknown = untold or nothing
    return Judge(
        fitted=None if place else on_greys_of(hr, repeat, found.contrast),
        why_not=why,
        numbers={**as_numbers(found), "trained_on": None if unknown else seen is not None},
        unknown=unknown,
    )


def _witnessed(repeat: Volume, model: Path) -> tuple[str | None, str | None, str | None]:
    """Why the model's training saw the repeat, which is read in full; else why it cannot be told
    whether it did; or why the model file says nothing of it."""
    trained, nothing = told_by(model, model)
    if trained is None:
        return None, None, nothing
    witness = Witness(trained)
    for plane in iterate_slices(repeat):
        witness.look(plane)
    if verdict := witness.verdict():
        elsewhere = "give scans of a field that it was not trained on"
        return _of_repeat(verdict).replace("evaluate on another field", elsewhere), None, None
    untold = witness.untold()
    return None, untold and _of_repeat(untold), None


def _of_repeat(said: str) -> str:
    return said.replace("the reference", "the repeat")
