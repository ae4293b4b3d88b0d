"""Networks by name, and the few facts that every network states."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from torch import Tensor

from emsr.errors import InputError
from emsr.network import zoo
from emsr.network.baselines import Bicubic
from emsr.network.emsr import EMSR
from emsr.network.lean import Lean
from emsr.network.unet import UNet


class Network(Protocol):
    """What tiling needs to know of a network; all lengths in LR pixels along y and x."""

    scale: int
    multiple: int
    halo: int | None
    """None, as ``receptive_radius`` is, where the network pools over the whole image."""
    receptive_radius: int | None
    slices: int

    def __call__(self, lr: Tensor) -> Tensor: ...


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


def build(name: str, scale: int, options: dict[str, Any]) -> Any:
    """The network called ``name``, with random weights from torch's current seed."""
    if name not in NETWORKS:
        raise InputError(f"no network is called {name!r}: choose one of {', '.join(NETWORKS)}")
    try:
        return NETWORKS[name](scale, **options)
    except TypeError as error:
        raise InputError(f"network {name!r} does not take these options: {error}") from None
