"""Which strategy, loss and network suit the scans of a lab: the rules.

They rest on the measured runs of docs/strategies.md, which is why neither ``denoised`` nor LR made
by a microscope drawn blindly is ever advised. Knows numbers only: measuring them is the business
of ``jobs/advise``.
"""

from __future__ import annotations

from dataclasses import dataclass

from emsr.microscope.estimate import Noise
from emsr.pairs.noise import NOTABLE_LAG_CORRELATION
from emsr.pairs.one_field import (
    LARGEST_NOISE_CORRELATION,
    LARGEST_RESIDUAL_PX,
    SMALLEST_LIKENESS,
)

CLIPPED = 0.01
"""Share of grey values at the ends of their range from which the mean of the noise is not zero."""
FEW_ELECTRONS = 20.0
"""Per HR pixel: below, the median of the noise is so far from its mean that l1 is biased."""
NEIGHBOURS_ALIKE = 0.5
"""Correlation of adjacent LR slices from which a network gains by seeing both."""
ENOUGH_HR_PX = 2**20
"""HR pixels from which more of them add little."""


@dataclass(frozen=True)
class Scan:
    """What was measured on one scan."""

    name: str
    pixels: int
    noise: Noise | None
    contrast: float
    """Standard deviation of the grey values without their noise."""
    clipped: float
    """Share of grey values at the ends of the dtype."""
    neighbours: float | None
    """Correlation of adjacent slices, noise taken out; None for a single slice."""
    electrons: float | None = None
    """Per pixel at most, as if all noise were shot noise; None where it cannot be told."""


@dataclass(frozen=True)
class Found:
    """What a lab has."""

    lr: Scan
    hr: Scan | None
    likeness: float | None
    """Correlation of LR with area-averaged HR; None where their grids do not belong together."""
    residual_px: float | None
    """How far LR and HR are out of register, HR pixels rms."""
    noise_correlation: float | None
    """Of the finest detail of LR and HR: an upper bound for that of their noise."""
    repeat: bool
    """Whether HR was scanned twice."""


@dataclass(frozen=True)
class Advice:
    """What to do, in the words of ``prepare`` and ``train``, and why, a sentence each."""

    strategy: str | None
    needs: tuple[str, ...]
    """What ``prepare`` is to be given beside HR: of "lr", "calibrate", "repeat"."""
    network: str
    loss: str
    slices: int
    why: tuple[str, ...]


def advise(found: Found) -> Advice:
    """The advice for what was found."""
    strategy, needs, because = _strategy(found)
    loss, on_loss = _loss(found)
    slices, on_slices = _slices(found.lr)
    why = (because, f"{on_loss}; {on_slices}", _noise(found), _amount(found))
    return Advice(strategy, needs, "emsr-lean", loss, slices, why)


def in_register(found: Found) -> bool:
    """Whether LR and HR are scans of one field that can be paired as they are."""
    alike = found.likeness is not None and found.likeness >= SMALLEST_LIKENESS
    return alike and found.residual_px is not None and found.residual_px <= LARGEST_RESIDUAL_PX


def _strategy(found: Found) -> tuple[str | None, tuple[str, ...], str]:
    if found.hr is None:
        return None, (), "there is no HR scan: nothing can be learned; scan a small field at HR"
    if in_register(found):
        where = f"LR and HR show one field, in register to {found.residual_px:.2f} HR px"
        return "real", ("lr",), f"{where}; {_independent(found.noise_correlation)}"
    apart = _apart(found)
    if found.repeat:
        return (
            "synthetic",
            ("repeat", "calibrate"),
            f"{apart}, but HR was scanned twice: LR made from one scan, the other as target",
        )
    if found.hr.noise is None:
        return (
            "synthetic",
            ("calibrate",),
            f"{apart}, and HR's noise cannot be told, so it cannot be split: scan HR twice if you "
            "can, or give the noise to prepare --strategy split with --noise",
        )
    if white(found.hr):
        return (
            "split",
            ("calibrate",),
            f"{apart}: LR and target are made from HR, its noise split into two independent ones",
        )
    return (
        "synthetic",
        ("calibrate",),
        f"{apart}, and HR's noise spreads over pixels ({_correlation(found.hr)}), so it cannot be "
        "split: scan HR twice if you can",
    )


def _independent(correlation: float | None) -> str:
    if correlation is not None and correlation > LARGEST_NOISE_CORRELATION:
        return (
            f"but their finest detail correlates by {correlation:.2f}: was LR made from HR? "
            "Then their noise is shared and split is better"
        )
    known = "unknown" if correlation is None else f"{correlation:.2f} at most"
    return f"their noise is taken as independent (correlation {known})"


def white(scan: Scan) -> bool:
    """Whether the noise of neighbouring pixels is independent enough to be split, as far as can be
    told."""
    known = scan.noise.correlation if scan.noise else None
    return known is None or max(map(abs, known)) <= NOTABLE_LAG_CORRELATION


def _apart(found: Found) -> str:
    if found.likeness is None:
        return "LR and HR are not scans of one field"
    if found.likeness <= -SMALLEST_LIKENESS:
        return "LR shows HR with inverted contrast: invert one of them first. As they are"
    if found.likeness < SMALLEST_LIKENESS:
        return f"LR and HR do not show the same field (correlation {found.likeness:.2f})"
    return f"LR and HR are {found.residual_px:.1f} HR px out of register"


def _loss(found: Found) -> tuple[str, str]:
    hr = found.hr
    if hr is not None and hr.electrons is not None and hr.electrons < FEW_ELECTRONS:
        return "l2", f"l2, since {hr.electrons:.0f} electrons per HR pixel skew the noise"
    if hr is not None and hr.clipped > CLIPPED:
        return "l1", f"l1 ({hr.clipped:.1%} of HR is clipped, which no loss repairs)"
    return "l1", "l1"


def _slices(lr: Scan) -> tuple[int, str]:
    if lr.neighbours is not None and lr.neighbours >= NEIGHBOURS_ALIKE:
        return 3, f"slices = 3, since adjacent LR slices correlate by {lr.neighbours:.2f}"
    if lr.neighbours is None:
        return 1, "one slice at a time: LR has no neighbours"
    return 1, f"one slice at a time: adjacent LR slices correlate by {lr.neighbours:.2f} only"


def _noise(found: Found) -> str:
    scans = (("LR", found.lr), ("HR", found.hr))
    return "; ".join(_noise_of(role, scan) for role, scan in scans if scan)


def _noise_of(role: str, scan: Scan) -> str:
    if scan.noise is None:
        return f"{role}: noise unknown, {scan.clipped:.1%} clipped"
    ratio = scan.noise.sigma / scan.contrast if scan.contrast > 0 else float("inf")
    said = f"{role}: noise {scan.noise.sigma:.3g} grey levels, {ratio:.2f} of the contrast"
    return f"{said}, {_correlation(scan)}, {scan.clipped:.1%} clipped"


def _correlation(scan: Scan) -> str:
    known = scan.noise.correlation if scan.noise else None
    if known is None:
        return "correlation unknown"
    return f"correlation {max(known, key=abs):.2f} between pixels"


def _amount(found: Found) -> str:
    if found.hr is None:
        return "no HR pixels"
    enough = "enough" if found.hr.pixels >= ENOUGH_HR_PX else f"{ENOUGH_HR_PX:,} would be better"
    return f"{found.hr.pixels:,} HR pixels to learn from: {enough}"
