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
from emsr.network.published import published_to_emsr

STATE = "model_state_dict"
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
    Raises InputError for a file that is not one, and for missing, extra or misshapen weights.
    """
    out = Path(out)
    refuse_overlap(out, checkpoint)
    if out.is_dir():
        raise InputError(f"{out} is a directory: give the model file a name")
    if out.exists() and not overwrite:
        raise InputError(f"{out} exists: choose another --out, or replace it with --overwrite")
    tensors = published_to_emsr(_tensors(Path(checkpoint)))
    scale = _scale(tensors, str(checkpoint))
    network = EMSR(scale)
    load_weights(network, tensors, str(checkpoint))
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


def _tensors(path: Path) -> Mapping[str, torch.Tensor]:
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
    return state


def _scale(tensors: Mapping[str, torch.Tensor], name: str) -> int:
    """The scale that the reconstruction's output channels imply."""
    weight = tensors.get("reconstruct.weight")
    if weight is None or weight.ndim != 4:
        raise InputError(f"{name}: upsample_shuffle.0.weight is missing: not the published network")
    scale = math.isqrt(weight.shape[0] // weight.shape[1])
    if weight.shape[0] != weight.shape[1] * scale**2:
        raise InputError(
            f"{name}: upsample_shuffle.0.weight has {weight.shape[0]} output channels, expected "
            f"{weight.shape[1]} times the square of a scale"
        )
    return scale
