"""Electron-microscopy image super-resolution, trained without clean references.

Axes are zyx (volumes), yx (images) and bcyx (tensors); spacings are (z, y, x) in nm. Names are
imported when they are first used, so that ``import emsr`` stays quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "EMSR": "emsr.network.emsr",
    "InputError": "emsr.errors",
    "frc": "emsr.quality.resolution",
    "load": "emsr.jobs.model",
    "open_volume": "emsr.volumes.source",
    "psnr": "emsr.quality.fidelity",
    "published_to_emsr": "emsr.network.published",
    "ssim": "emsr.quality.fidelity",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'emsr' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
