"""Networks by name.

Every one is a module, called with ``(b, slices, y, x)`` LR, that states what tiling needs to know
of it, in LR pixels along y and x: ``scale``; ``multiple``, where a tile may start; ``halo`` and
``receptive_radius``, both None where the network pools over the whole image; ``slices``; and, where
it is to be larger than others', ``tile``, the side of the default tile.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from inspect import signature
from typing import Any

from emsr.errors import InputError
from emsr.network import zoo
from emsr.network.baselines import Bicubic
from emsr.network.emsr import EMSR
from emsr.network.lean import Lean
from emsr.network.unet import UNet

NETWORKS: dict[str, Callable[..., Any]] = {
    "emsr": EMSR,
    "emsr-tiny": partial(
        EMSR, features=16, blocks=1, residuals=3, refinements=1, heads=4, input_skip=True
    ),
    "emsr-lean": Lean,
    "bicubic": Bicubic,
    "unet": UNet,
    "rcan": zoo.rcan,
    "plksr-tiny": zoo.plksr,
    "swinir-light": partial(zoo.swinir, light=True, features=60, groups=4),
    "swinir": zoo.swinir,
    "natural": zoo.Natural,
}


LARGEST_OPTION = 1024
"""No network needs more features, blocks or halo; a damaged model file may ask for them."""


def build(name: str, scale: int, options: dict[str, Any]) -> Any:
    """The network called ``name``, with random weights from torch's current seed. InputError for a
    name, a scale or options that it cannot have."""
    if name not in NETWORKS:
        raise InputError(f"no network is called {name!r}: choose one of {', '.join(NETWORKS)}")
    maker = NETWORKS[name]
    _check_options(name, options, maker)
    return maker(scale, **options)


def _check_options(name: str, options: dict[str, Any], maker: Callable[..., Any]) -> None:
    """Options come from recipes and from model files: every name and type is checked."""
    taken = {
        key: parameter.default
        for key, parameter in signature(maker).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    for key, found in options.items():
        if key not in taken:
            known = ", ".join(taken) or "none"
            raise InputError(f"network {name!r} has no option {key!r}: it has {known}")
        # A bool is an int to Python, and True is no number of features.
        if type(found) is not type(taken[key]):
            wanted = "true or false" if isinstance(taken[key], bool) else "a whole number"
            raise InputError(f"network {name!r}: {key} is {found!r}, expected {wanted}")
        if isinstance(found, int) and not isinstance(found, bool) and found > LARGEST_OPTION:
            raise InputError(
                f"network {name!r}: {key} is {found}, expected at most {LARGEST_OPTION}"
            )
