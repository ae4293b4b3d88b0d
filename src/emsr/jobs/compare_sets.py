"""The data sets that a comparison is made on: phantoms, and parts of real scans."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Predicate
from pydantic import Discriminator

from emsr.recipe import SYNTHETIC_SCALE

_STRICT = {"extra": "forbid"}


def _plain(name: str) -> bool:
    return name.replace("-", "").replace("_", "").isalnum() and name.isascii()


Name = Annotated[str, Predicate(_plain)]
Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]
Count = Annotated[int, Ge(1)]
Index = Annotated[int, Ge(0)]
Scale = Annotated[int, Ge(1), Le(8)]
Range = tuple[Index, Count]
"""First index and one past the last."""


@dataclass(frozen=True)
class Block:
    """A phantom's field: HR voxels (z, y, x), and the seed of its tissue and noise."""

    __pydantic_config__ = _STRICT

    shape: tuple[Count, Count, Count]
    seed: Index


@dataclass(frozen=True)
class Phantom:
    """Tissue whose truth is known. Doses are times the preset's; ``spacing_nm`` None is its too."""

    __pydantic_config__ = _STRICT

    kind: Literal["phantom"]
    name: Name
    split: str
    preset: Literal["white-matter", "neuropil"]
    train: Block
    test: Block
    scale: Scale = SYNTHETIC_SCALE
    spacing_nm: tuple[Positive, Positive, Positive] | None = None
    lr_dose: Positive = 1.0
    hr_dose: Positive = 1.0


@dataclass(frozen=True)
class Part:
    """Part of real scans: files, and ranges of HR voxels along the axes of the file."""

    __pydantic_config__ = _STRICT

    hr: str
    lr: str | None = None
    repeat: str | None = None
    z: Range | None = None
    y: Range | None = None
    x: Range | None = None


@dataclass(frozen=True)
class MadeLr:
    """How LR is made from the test field's HR scan: Gaussian blur in HR pixels, area sampling,
    Gaussian noise in grey levels. ``recorrupt`` (alpha) first makes two images of each slice whose
    noise is independent: one for LR, one as reference."""

    __pydantic_config__ = _STRICT

    blur_px: NotNegative
    noise_sigma: NotNegative
    recorrupt: Positive | None = None


@dataclass(frozen=True)
class Images:
    """Real scans. ``spacing_nm`` (z, y, x of the file) where it does not say; ``plane`` xz shows
    the volume from the side; ``lr_on_hr_grid``: LR is the mean of scale x scale pixels of ``lr``.
    """

    __pydantic_config__ = _STRICT

    kind: Literal["images"]
    name: Name
    split: str
    train: Part
    test: Part
    scale: Scale = SYNTHETIC_SCALE
    spacing_nm: tuple[Positive, Positive, Positive] | None = None
    plane: Literal["xy", "xz"] = "xy"
    lr_on_hr_grid: bool = False
    made_lr: MadeLr | None = None


DataSet = Annotated[Phantom | Images, Discriminator("kind")]
