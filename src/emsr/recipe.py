"""An experiment as frozen values: the only place where defaults are written down.

Functions of the rooms below take explicit arguments; jobs and the command line read them from
here. A recipe can be read from a TOML file in which every table and key is optional.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt, Predicate

from emsr.errors import InputError

Fraction = Annotated[float, Ge(0), Lt(1)]
Positive = Annotated[float, Gt(0)]
Count = Annotated[int, Ge(1)]


def _countable(gain: float) -> bool:
    return gain == 0 or 1e-6 <= abs(gain) < float("inf")


Gain = Annotated[float, Predicate(_countable)]
"""Grey levels per electron: 0, or far enough from it that electrons can be counted."""

COUNTABLE = "expected 0, or at least 1e-6 in size"
RISING = "expected two numbers from 0 up, the lower one first"


def _rising(pair: tuple[float, float]) -> bool:
    return 0 <= pair[0] <= pair[1] < float("inf")


Range = Annotated[tuple[float, float], Predicate(_rising)]
"""(lowest, highest), from 0 up."""
_STRICT = {"extra": "forbid"}  # what pydantic is told: an unknown key is an error


@dataclass(frozen=True)
class Degradation:
    """Ranges from which ``synthetic`` and ``split`` draw one LR scan per slice and variant."""

    __pydantic_config__ = _STRICT

    blur_sigma_px: Range = (0.6, 1.6)
    """Standard deviations of the Gaussian blur along its two axes, in HR pixels."""
    anisotropic: Fraction | Literal[1] = 0.5
    """Share of the kernels with two different widths, at a random angle."""
    noise_sigma: Range = (0.0, 0.08)
    """Standard deviation of the added Gaussian noise (a detector's read noise), as a share of the
    grey window."""
    variants: Count = 2
    """LR scans that are drawn from each HR slice."""
    sampling: Literal["area", "point"] = "area"
    """What an LR pixel sees: the mean of its area, or its centre."""
    noise_gain: Gain = 0.0
    """Grey levels per electron of the Poisson noise that is added before it; 0 adds none, negative
    where heavy stain is dark. For thinning it is the HR scan's gain."""
    noise_offset: float = 0.0
    """Grey level without electrons, for ``noise_gain``."""


@dataclass(frozen=True)
class Denoising:
    """How the strategy ``denoised`` cleans the HR scan."""

    __pydantic_config__ = _STRICT

    method: Literal["nlm", "blind", "slices"] = "nlm"
    """Non-local means; a blind-spot network; or Noise2Noise between adjacent slices."""
    steps: Count = 600
    """Training steps of the learned ones."""


@dataclass(frozen=True)
class Splitting:
    """How the strategy ``split`` makes two independent noisy images from one."""

    __pydantic_config__ = _STRICT

    method: Literal["recorrupt", "thin"] = "recorrupt"
    """Recorruption for noise that is nearly Gaussian; binomial thinning for counted electrons,
    whose gain and offset are then those of ``degradation``."""
    alpha: Positive = 0.7
    """Recorruption: the input gets the noise n + alpha z, the target n - z / alpha."""
    share: Annotated[float, Gt(0), Lt(1)] = 0.5
    """Thinning: the share of the electrons that goes to the input."""


@dataclass(frozen=True)
class Training:
    """How a network is trained (Adam; the learning rate warms up, then falls along a cosine)."""

    __pydantic_config__ = _STRICT

    steps: Count = 20_000
    batch: Count = 8
    patch_px: Count = 48
    """Side of the square LR patches."""
    learning_rate: Positive = 4e-4
    warmup_steps: Annotated[int, Ge(0)] = 100
    loss: Literal["l1", "l2"] = "l1"
    second_view: bool = True
    """Train on a second, noisier view of each LR patch too (the paper), at twice the compute."""
    view_noise: Range = (0.0, 5 / 255)
    """Range of the standard deviation of the noise that makes the second view y' = y + n, as a
    share of the grey window (the paper: 0 to 5 grey levels of 255)."""
    ema: Fraction = 0.995
    """Decay of the running mean of the weights."""
    validation_fraction: Annotated[float, Gt(0), Le(0.5)] = 0.2
    """Share of the LR rows that training never sees."""
    guard_px: Annotated[int, Ge(0)] = 8
    """LR rows between the two fields that neither uses."""
    weight_decay: Annotated[float, Ge(0)] = 0.0
    """Decoupled from the gradient (AdamW); 0 is Adam."""
    checkpoint_every: Count = 250
    """Steps between validations, checkpoints and lines of history."""
    patience: Annotated[int, Ge(0)] = 10
    """Validations without a new best after which training stops; 0 never stops early."""
    precision: Literal["auto", "float32", "bf16"] = "auto"


@dataclass(frozen=True)
class Upscaling:
    """How a volume is cut into tiles."""

    __pydantic_config__ = _STRICT

    tile_px: tuple[Count, Count, Count] | None = None
    """LR voxels (z, y, x) of one tile, which is one shard of the output; None takes
    ``TILE_DEPTH_PX`` slices of the side that suits the network."""
    halo_px: Annotated[int, Ge(0)] | None = None
    """LR pixels read around a tile; None takes the network's measured halo."""


OPTIONS: dict[str, dict[str, Any]] = {"emsr": {"input_skip": True}}
"""Arguments that a network is trained with where the recipe does not say otherwise. EMSR as it was
published begins at a constant image, and takes far longer to pass bicubic (docs/network.md)."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a run, beside its input files."""

    __pydantic_config__ = _STRICT

    network: str = "emsr"
    network_options: dict[str, Any] = field(default_factory=dict)
    seed: Annotated[int, Ge(0)] = 0
    scale: Annotated[int, Ge(1), Le(8)] | None = None
    """HR pixels along one LR pixel; None: what the scans say, and ``SYNTHETIC_SCALE`` where there
    is no LR scan."""
    degradation: Degradation = field(default_factory=Degradation)
    denoising: Denoising = field(default_factory=Denoising)
    splitting: Splitting = field(default_factory=Splitting)
    training: Training = field(default_factory=Training)
    upscaling: Upscaling = field(default_factory=Upscaling)


SYNTHETIC_SCALE = 3
TILE_DEPTH_PX, TILE_SIDE_PX = 4, 512
"""LR voxels of a tile; networks that keep little memory per pixel state a larger side."""
HALO_WITHOUT_REACH_PX = 32
"""LR pixels read around a tile where the network pools over all it sees: no halo is enough."""
TRUST_WINDOW_PX, DOUBT_PX = 1.5, 1.0
"""Gaussian windows of the maps of trust, LR pixels (docs/trust.md)."""

TRAINING = {
    "emsr-tiny": Training(
        steps=2000, batch=4, patch_px=32, learning_rate=5e-3, warmup_steps=50, checkpoint_every=100
    ),
    "emsr-lean": Training(
        steps=6000, batch=4, patch_px=32, learning_rate=2e-3, warmup_steps=50, checkpoint_every=100
    ),
}
"""How networks are trained whose best training is not ``Training()``."""


@dataclass(frozen=True)
class Demo:
    """What ``emsr demo`` does; sized for minutes on two cores."""

    preset: Literal["white-matter", "neuropil"] = "white-matter"
    scale: Count = 3
    shape: tuple[int, int, int] = (16, 384, 384)
    """HR voxels (z, y, x) of the training field."""
    test_shape: tuple[int, int, int] = (4, 384, 384)
    recipe: Recipe = field(
        default_factory=lambda: Recipe(network="emsr-tiny", training=TRAINING["emsr-tiny"])
    )


DEMO = Demo()


def make_recipe(path: Path | None = None, *, denoiser: str | None = None, **changes: Any) -> Recipe:
    """The recipe in the TOML file at ``path`` (or the default) with ``changes``: keys, at the top
    or of the tables ``training`` and ``upscaling``, that are replaced where they are not None.
    ``denoiser`` is the method of the table ``denoising``."""
    table = _read(path) if path else {}
    for key, value in changes.items():
        if value is not None:
            _place(table, key)[key] = value
    if denoiser is not None:
        _inner(table, "denoising")["method"] = denoiser
    try:
        return recipe_from(table)
    except InputError as error:
        raise InputError(f"{path}: {error}" if path else str(error)) from None


def recipe_from(table: dict[str, Any]) -> Recipe:
    """A recipe from nested tables, every key checked by name, type and range; what is absent keeps
    its default, in ``training`` and ``network_options`` that of the network."""
    from pydantic import TypeAdapter, ValidationError

    network = str(table.get("network", Recipe.network))
    defaults = {
        "training": asdict(TRAINING.get(network, Training())),
        "network_options": OPTIONS.get(network, {}),
    }
    filled = {key: _filled(default, table.get(key, {})) for key, default in defaults.items()}
    try:
        # As JSON, because there strict still takes a list for a tuple, but no "3" for a number.
        text = json.dumps({**table, **filled}, default=str)
        return TypeAdapter(Recipe).validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        of_predicate = RISING if isinstance(first["input"], (list, tuple)) else COUNTABLE
        said = of_predicate if first["type"] == "predicate_failed" else first["msg"]
        raise InputError(f"recipe key {where}: found {first['input']!r}; {said}") from None


def _filled(default: dict[str, Any], given: Any) -> Any:
    """``given`` over ``default``; what is not a table is left for the check to refuse."""
    return {**default, **given} if isinstance(given, dict) else given


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path}: no such recipe; give an existing TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid TOML: {error}") from None


def _place(table: dict[str, Any], key: str) -> dict[str, Any]:
    """The table, or the part of it, that ``key`` belongs to."""
    for part, kind in (("training", Training), ("upscaling", Upscaling)):
        if key in (entry.name for entry in fields(kind)):
            return _inner(table, part)
    return table


def _inner(table: dict[str, Any], part: str) -> dict[str, Any]:
    inner = table.setdefault(part, {})
    return inner if isinstance(inner, dict) else {}  # not a table: recipe_from says so
