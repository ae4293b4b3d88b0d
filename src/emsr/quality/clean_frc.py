"""FRC against the unseen clean image, from two noisy scans of it.

FRC(SR, HR) is FRC(SR, x) times FRC(HR, x), which noise lowers; and FRC(HR, HR2) is the product of
the two scans' FRC with x. So FRC(SR, x)² = FRC(SR, HR) FRC(SR, HR2) / FRC(HR, HR2), whatever the
two noise levels; for equal ones that is FRC(SR, HR) / sqrt(FRC(HR, HR2)).
"""

from __future__ import annotations

import numpy as np

from emsr.quality.resolution import PERSISTENCE_RINGS

CLEAN_THRESHOLD = 0.5
"""FRC of an image with a clean one where two equally noisy ones have 1/7: sqrt(2 F / (1 + F))
(Rosenthal and Henderson, Journal of Molecular Biology 333 (2003) 721)."""


def clean_frc(
    to_hr: np.ndarray, to_repeat: np.ndarray, scans: np.ndarray, least: np.ndarray
) -> np.ndarray:
    """``(ring,)`` FRC with the clean image, from the curves of SR with either scan and of the two
    scans; NaN from the ring on where the scans agree no more than by chance, ``least`` ``(ring,)``.
    """
    product = np.clip(to_hr, 0, None) * np.clip(to_repeat, 0, None)
    curve = np.sqrt(np.minimum(product / np.maximum(scans, 1e-3), 1.0))
    curve[0], curve[ends(scans, least) :] = 1.0, np.nan
    return curve


def ends(scans: np.ndarray, least: np.ndarray) -> int:
    """First ring from which on the two scans have nothing in common, for some rings on average."""
    above = scans - least
    for k in range(PERSISTENCE_RINGS, len(above)):
        if above[k] < 0 and above[k : k + PERSISTENCE_RINGS].mean() < 0:
            return k
    return len(above)
