"""A trained model in use: grey values in, grey values out, tile by tile."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emsr.errors import InputError
from emsr.geometry.box import OnDemand, Triple
from emsr.geometry.neighbours import seen_with, z_halo
from emsr.geometry.tiles import Tile, plan, tile_shape
from emsr.jobs import on_gpu
from emsr.network.checkpoint import Header, load_model
from emsr.network.quick import casts, quick
from emsr.recipe import HALO_WITHOUT_REACH_PX, TILE_DEPTH_PX, TILE_SIDE_PX, Upscaling
from emsr.volumes.intensity import Intensity
from emsr.volumes.source import Volume, array_volume


@dataclass(frozen=True)
class Model:
    """A network with what its model file says of it."""

    network: Any
    header: Header
    device: torch.device
    precision: str = "float32"

    def upscale(self, array: np.ndarray) -> np.ndarray:
        """SR of one LR image ``(y, x)`` or a stack ``(z, y, x)`` in grey values.

        A network that looks at neighbouring slices finds a single image repeated in their place.
        Returns the same axes with y and x times the scale, in the dtype and grey scale of the HR
        data the model was trained on; saturates where that dtype ends.
        """
        array = np.asarray(array)
        volume = array_volume(array, self.header.lr_spacing_nm, "array")
        tiles = self.plan(volume, Upscaling())
        z, y, x = volume.shape
        sr = np.empty((z, y * self.header.scale, x * self.header.scale), self.header.dtype)
        for tile in tiles:
            sr[tile.write.slices], _ = self.compute(volume, tile)
        return sr[0] if array.ndim == 2 else sr

    def plan(self, volume: Volume, upscaling: Upscaling) -> OnDemand[Tile]:
        """How this network is run over ``volume``."""
        multiple = self.network.multiple
        tile = tile_shape(volume.shape, self.tile_px(upscaling), multiple)
        return plan(
            volume.shape,
            tile,
            scale=self.header.scale,
            halo=self.halo_px(upscaling),
            multiple=multiple,
            z_halo=z_halo(self.slices),
        )

    def tile_px(self, upscaling: Upscaling) -> Triple:
        """LR voxels of a tile, where the volume is as large as that."""
        if upscaling.tile_px is not None:
            return upscaling.tile_px
        side = getattr(self.network, "tile", TILE_SIDE_PX)
        return TILE_DEPTH_PX, side, side

    def halo_px(self, upscaling: Upscaling) -> int:
        """LR pixels along y and x that are read around a tile."""
        if upscaling.halo_px is not None:
            return upscaling.halo_px
        return HALO_WITHOUT_REACH_PX if self.network.halo is None else self.network.halo

    @property
    def slices(self) -> int:
        """How many adjacent slices the network looks at."""
        return input_slices(self.network)

    def compute(self, volume: Volume, tile: Tile) -> tuple[np.ndarray, int]:
        """The SR grey values of one tile, and how many of them were clipped."""
        return self.enlarge(self.read(volume, tile), tile)

    def read(self, volume: Volume, tile: Tile) -> np.ndarray:
        """The LR grey values that a tile needs; InputError where some are not numbers."""
        lr = volume.read(tile.read)
        refuse_not_numbers(volume.name, lr, tile.read.start[0])
        return lr

    def enlarge(self, lr: np.ndarray, tile: Tile) -> tuple[np.ndarray, int]:
        """As ``compute``, of what ``read`` gave."""
        return self.end(self.begin(self.upload(lr), tile))

    def upload(self, lr: np.ndarray) -> Any:
        """What ``read`` gave, where the network is."""
        return lr if self.device.type == "cpu" else on_gpu.load(lr, self.device)

    def begin(self, lr: Any, tile: Tile, at_once: int = 1) -> Any:
        """Of what ``upload`` gave: for ``end``. On a GPU work is queued, ``at_once`` slices in one
        batch; on a CPU it is done, one slice after the other."""
        if self.device.type == "cpu":
            return self._enlarged(lr, tile)
        greys = on_gpu.Greys(
            Intensity(*self.header.lr_window), Intensity(*self.header.hr_window), self.header.dtype
        )
        return on_gpu.begin(self.forward, lr, tile.crop, greys, self.slices, at_once)

    def end(self, begun: Any) -> tuple[np.ndarray, int]:
        """Of what ``begin`` gave: the SR grey values, and how many of them were clipped."""
        return begun if self.device.type == "cpu" else on_gpu.end(begun)

    def _enlarged(self, lr: np.ndarray, tile: Tile) -> tuple[np.ndarray, int]:
        """One slice at a time is in memory as floats."""
        crop, window = tile.crop, Intensity(*self.header.hr_window)
        grey, clipped = np.empty(tile.write.shape, self.header.dtype), 0
        for k, z in enumerate(range(crop.start[0], crop.stop[0])):
            # The read box ends short of the neighbours only where the volume ends.
            planes = lr[seen_with(z, len(lr), self.slices)]
            sr = self._slice(planes)[crop.slices[1:]]
            grey[k], lost = window.to_grey(sr, self.header.dtype)
            clipped += lost
        return grey, clipped

    def _slice(self, planes: np.ndarray) -> np.ndarray:
        """SR ``(s*y, s*x)`` in network units of the middle one of ``(slices, y, x)`` planes."""
        unit = Intensity(*self.header.lr_window).to_unit(planes)
        return self.forward(torch.from_numpy(unit)[None])[0, 0].numpy()

    def forward(self, lr: Tensor) -> Tensor:
        """float32 SR ``(b, 1, s*y, s*x)`` of ``(b, slices, y, x)``, both in network units."""
        autocast = casts(self.network, self.precision)
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, torch.bfloat16, enabled=autocast),
        ):
            sr: Tensor = self.network(lr)
            return sr.float()


def input_slices(network: Any) -> int:
    """How many adjacent slices a network takes as channels; 1 where it does not say."""
    return getattr(network, "slices", 1)


def load(path: str | Path, device: str = "auto", precision: str = "float32") -> Model:
    """The model in a model file, ready to use on ``device`` (``cpu``, ``cuda``, ``auto``)."""
    network, header = load_model(Path(path))
    where = choose_device(device)
    if where.type == "cuda" and precision == "float32":
        # Convolutions in TF32 keep three digits: neither float32 nor seamless to 1e-5.
        torch.backends.cudnn.allow_tf32 = False
    network = quick(network, precision).to(where).to(memory_format=torch.channels_last)
    return Model(network, header, where, precision)


def refuse_not_numbers(name: str, values: np.ndarray, first_slice: int) -> None:
    """InputError where ``(z, y, x)`` values, whose first slice is ``first_slice``, hold NaN or an
    infinity."""
    bad = ~np.isfinite(values)
    if bad.any():
        z = first_slice + int(np.argwhere(bad)[0][0])
        raise InputError(
            f"{name}: slice {z} holds values that are not numbers ({int(bad.sum())} there and in "
            "the slices read with it); replace them before upscaling"
        )


def choose_device(name: str) -> torch.device:
    """The torch device called ``name``; ``auto`` is the GPU where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise InputError(f"device {name!r}: expected cpu, cuda, cuda:N or auto")
    device, count = torch.device(name), torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise InputError(f"device {name!r}: this torch sees {count} GPUs; use --device cpu")
    return device
