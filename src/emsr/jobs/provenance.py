"""On which scans a network was trained, told by the greys themselves.

A sketch holds the smallest hashes of all runs of 16 pixels along x: noise makes every run one of
its kind, so two scans that share runs are one scan, wherever they were cut. It travels in the model
file and in the SR volumes made with it. Broder, On the resemblance and containment of documents,
Compression and Complexity of Sequences (1997) 21.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emsr.errors import InputError
from emsr.files import is_url
from emsr.network.checkpoint import Header, load_model
from emsr.volumes import omezarr

Hashes = NDArray[np.uint64]

RUN_PX = 16
LEAST_GREYS = 4
"""Different neighbours that a run must hold: what is flat is alike in many scans."""
KEPT = 4096
SAME_SCAN = 0.2
"""Share of a reference's runs that a training scan must hold; by chance it holds none."""
FEWEST = 3
TELLING = 8
"""Runs of a reference that must lie under a sketch's last hash, so that none of them in it tells
that the scan is another."""
_MIX = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


@dataclass(frozen=True)
class Trained:
    """What a model file, or an SR volume made with it, says of its training."""

    strategy: str
    sketch: Hashes
    digests: frozenset[str]
    """sha256 of the scans' grey values, whole."""


def sketch(planes: Iterable[np.ndarray]) -> Hashes:
    """The ``KEPT`` smallest hashes of the runs of raw ``(y, x)`` planes, in rising order."""
    kept = np.empty(0, np.uint64)
    for plane in planes:
        kept = _smallest(np.concatenate([kept, run_hashes(plane)]))
    return kept


def run_hashes(plane: np.ndarray) -> Hashes:
    """Hashes of all runs of ``RUN_PX`` pixels along x of a ``(y, x)`` plane, each once; none of
    those that are nearly flat or touch the limits of the greys."""
    if plane.shape[1] < RUN_PX:
        return np.empty(0, np.uint64)
    greys = _as_integers(plane)
    width = plane.shape[1] - RUN_PX + 1
    hashed = np.zeros((plane.shape[0], width), np.uint64)
    for k in range(RUN_PX):
        hashed = _mixed(hashed + greys[:, k : k + width])
    low, high = _limits(plane)
    spoilt = _sums((plane == low) | (plane == high), width)
    changes = np.zeros(plane.shape, bool)
    changes[:, 1:] = plane[:, 1:] != plane[:, :-1]
    return np.unique(hashed[(spoilt == 0) & (_sums(changes, width) >= LEAST_GREYS)])


def trained_on(planes: Iterable[np.ndarray]) -> str:
    """A sketch as text, for the header of a model file."""
    return base64.b64encode(sketch(planes).astype("<u8").tobytes()).decode()


def said(header: Header) -> dict[str, Any] | None:
    """What an SR volume keeps of the training of the model that made it; None where it had none."""
    if header.summary.get("steps") == 0:
        return None  # interpolation
    kept = {key: header.trained_on.get(key) for key in ("strategy", "scans", "hr_sketch")}
    return kept if any(value is not None for value in kept.values()) else None


def told_by(sr: str | Path, model: str | Path | None) -> tuple[Trained | None, str]:
    """What is known of the training behind an SR volume, from ``model`` if it is given; None, and
    why nothing is."""
    if model is not None:
        kept = said(load_model(Path(model))[1])
        nothing = f"{model} does not say what it was trained on"
    else:
        kept, nothing = _kept_in(sr), f"{sr} does not say which model made it (give --model)"
    found = _trained(kept) if isinstance(kept, dict) else None
    return found, "" if found else nothing


class Witness:
    """Looks at a reference, plane by plane, for scans that a network was trained on."""

    def __init__(self, trained: Trained) -> None:
        self.trained = trained
        self.digest = hashlib.sha256()
        self.seen = np.empty(0, np.uint64)

    def look(self, plane: np.ndarray) -> None:
        """At one raw ``(y, x)`` plane."""
        self.digest.update(plane.astype(plane.dtype.newbyteorder("<"), copy=False).tobytes())
        if len(self.trained.sketch):
            hashes = run_hashes(plane)
            small = hashes[hashes <= self.trained.sketch[-1]]
            self.seen = _smallest(np.concatenate([self.seen, small]), 4 * KEPT)

    def verdict(self) -> str | None:
        """Why the reference's noise may be in SR; None where the training did not see it."""
        share = 1.0 if self.digest.hexdigest() in self.trained.digests else self._share()
        if share < SAME_SCAN:
            return None
        return (
            f"the reference is a scan that the model was trained on (strategy "
            f"{self.trained.strategy}; {share:.0%} of it recognised): the network may have learned "
            "its noise by heart; evaluate on another field"
        )

    def untold(self) -> str | None:
        """Why it cannot be told that the training did not see the reference, where it cannot."""
        if not len(self.trained.sketch) or len(self.seen) >= TELLING:
            return None
        return (
            "whether the model was trained on the reference cannot be told: it holds "
            f"{len(self.seen)} of the runs of pixels that the model's sketch would keep, "
            f"{TELLING} are needed; if it was, its scores against the clean image are worth nothing"
        )

    def _share(self) -> float:
        """Share of the reference's runs that the training scans hold."""
        if not len(self.seen):
            return 0.0
        common = np.isin(self.seen, self.trained.sketch)
        # Beyond the last one seen or sketched nothing was kept of one of the two.
        fair = self.seen <= min(self.seen[-1], self.trained.sketch[-1])
        shared = int((common & fair).sum())
        return shared / int(fair.sum()) if shared >= FEWEST else 0.0


def _kept_in(sr: str | Path) -> Any:
    if is_url(sr) or not (Path(sr) / "zarr.json").is_file():
        return None
    try:
        state = omezarr.read_state(sr)
    except InputError:
        return None
    return state["run"].get("trained_on") if state and isinstance(state["run"], dict) else None


def _trained(kept: dict[str, Any]) -> Trained | None:
    """None where the record is not one of ours, or is damaged."""
    try:
        raw = base64.b64decode(kept.get("hr_sketch") or "", validate=True)
        hashes = np.sort(np.frombuffer(raw, "<u8").astype(np.uint64))
        scans = kept.get("scans") or []
        digests = frozenset(str(scan["sha256"]) for scan in scans if "sha256" in scan)
    except (ValueError, TypeError, AttributeError):
        return None
    if not len(hashes) and not digests:
        return None
    return Trained(str(kept.get("strategy")), hashes, digests)


def _smallest(hashes: Hashes, count: int = KEPT) -> Hashes:
    unique = np.unique(hashes)
    return unique[:count]


def _as_integers(plane: np.ndarray) -> Hashes:
    """Grey values as 64 bits that do not depend on the dtype which whole numbers are stored in."""
    if plane.dtype.kind not in "ui":
        values = plane.astype(np.float64)
        if not np.array_equal(values, np.rint(values)):
            return values.view(np.uint64)
        plane = values
    return plane.astype(np.int64).view(np.uint64)


def _limits(plane: np.ndarray) -> tuple[float, float]:
    if plane.dtype.kind in "ui":
        limits = np.iinfo(plane.dtype)
        return float(limits.min), float(limits.max)
    return float(plane.min()), float(plane.max())


def _mixed(values: Hashes) -> Hashes:
    """splitmix64 (Steele, Lea and Flood 2014): every bit of the input changes half the output."""
    mixed = values + _MIX[0]
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _MIX[1]
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _MIX[2]
    return np.asarray(mixed ^ (mixed >> np.uint64(31)), np.uint64)


def _sums(marks: np.ndarray, width: int) -> NDArray[np.int64]:
    """``(y, width)`` how many of the marks each run holds."""
    total = np.zeros((marks.shape[0], marks.shape[1] + 1), np.int64)
    np.cumsum(marks, axis=1, out=total[:, 1:])
    return total[:, RUN_PX : RUN_PX + width] - total[:, :width]
