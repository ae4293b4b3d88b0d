"""``emsr convert``: a checkpoint of the published code as one of our model files."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from emsr.errors import InputError
from emsr.files import refuse_overlap
from emsr.geometry.tiles import finer_spacing
from emsr.jobs.listener import SILENT, Listener
from emsr.network.checkpoint import Header, load_weights, save_model
from emsr.network.emsr import EMSR
from emsr.network.published import published_name, published_to_emsr

STATE = "model_state_dict"
PARALLEL = "module."
"""What torch's DataParallel puts before every name."""
GREY_WINDOW = (0.0, 255.0)


def convert(
    checkpoint: str | Path,
    out: str | Path,
    spacing_nm: tuple[float, float, float] | None = None,
    *,
    overwrite: bool = False,
    listener: Listener = SILENT,
) -> dict[str, Any]:
    """Write the published network in ``checkpoint`` (a torch file holding ``model_state_dict``) to
    the model file ``out``.

    Only tensors are loaded: nothing in the file is executed. The scale is read off the weights; the
    grey window is 0 to 255; ``spacing_nm`` (z, y, x) is that of the LR scans it was trained on.
    Raises InputError for a file that is not one, and for weights that are missing, extra,
    misshapen, or no real finite numbers; they are called by their published names.
    """
    out = Path(out)
    refuse_overlap(out, checkpoint)
    if out.is_dir():
        raise InputError(f"{out} is a directory: give the model file a name")
    if out.exists() and not overwrite:
        raise InputError(f"{out} exists: choose another --out, or replace it with --overwrite")
    tensors = _renamed(_tensors(Path(checkpoint)), str(checkpoint))
    scale = _scale(tensors, str(checkpoint))
    network = EMSR(scale)
    load_weights(network, tensors, str(checkpoint), published_name)
    if spacing_nm is None:
        listener.say("the LR spacing it was trained at is unknown; --spacing would state it")
    header = Header(
        network="emsr",
        network_options={},
        scale=scale,
        lr_window=GREY_WINDOW,
        hr_window=GREY_WINDOW,
        dtype="uint8",
        lr_spacing_nm=spacing_nm,
        hr_spacing_nm=finer_spacing(spacing_nm, scale),
        trained_on={"checkpoint": Path(checkpoint).name, "code": "published EMSR"},
    )
    save_model(out, network, header)
    parameters = sum(p.numel() for p in network.parameters())
    return {
        "model": str(out),
        "scale": scale,
        "parameters": parameters,
        "lines": [f"{out}: the published network, scale {scale}, {parameters:,} parameters"],
    }


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    """The checkpoint's tensors under the published names."""
    if path.is_dir():
        raise InputError(f"{path} is a directory: give the checkpoint file in it")
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint; give the path of an existing one")
    try:
        with warnings.catch_warnings(action="ignore"):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # whatever a file that is not a checkpoint makes the parser raise
        raise InputError(
            f"{path} cannot be loaded as tensors alone: expected a torch file that holds {STATE}"
        ) from None
    state = found.get(STATE) if isinstance(found, Mapping) else None
    if not isinstance(state, Mapping) or not all(map(torch.is_tensor, state.values())):
        raise InputError(f"{path} holds no {STATE} of tensors: expected the published checkpoint")
    for name in state:
        if not isinstance(name, str):
            raise InputError(f"{path}: {STATE} has the key {name!r:.40}, expected names of weights")
    if all(name.startswith(PARALLEL) for name in state):
        return {name.removeprefix(PARALLEL): tensor for name, tensor in state.items()}
    return dict(state)


def _renamed(state: Mapping[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    """The weights that the network uses under our names; each of real, finite numbers."""
    try:
        tensors = published_to_emsr(state)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    for key, tensor in tensors.items():
        if tensor.layout is not torch.strided or tensor.is_meta or not tensor.is_floating_point():
            kind = f"{tensor.layout} {tensor.dtype}".replace("torch.", "")
            raise InputError(
                f"{name}: {published_name(key)} is a {kind} tensor, expected a dense one of real "
                "floating-point numbers: save the weights as such"
            )
        if not torch.isfinite(tensor.float()).all():
            raise InputError(
                f"{name}: {published_name(key)} holds values that are no finite float32 numbers: "
                "take a checkpoint from before the training diverged"
            )
    return tensors


def _scale(tensors: Mapping[str, torch.Tensor], name: str) -> int:
    """The scale that the reconstruction's output channels imply."""
    weight = tensors.get("reconstruct.weight")
    if weight is None:
        raise InputError(f"{name}: upsample_shuffle.0.weight is missing: not the published network")
    outputs, features = weight.shape[:2] if weight.ndim == 4 else (0, 0)
    scale = math.isqrt(outputs // features) if features else 0
    if outputs != features * scale**2 or not 1 <= scale <= 8:
        raise InputError(
            f"{name}: upsample_shuffle.0.weight has shape {tuple(weight.shape)}, expected "
            "(64 s², 64, 3, 3) of a scale s from 1 to 8: not the published network"
        )
    return scale
