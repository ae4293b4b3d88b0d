"""A training run between two steps, in memory and on disk."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from emsr.errors import InputError
from emsr.files import replacing
from emsr.network.checkpoint import load_tensors, save_tensors


@dataclass
class Run:
    """A training run between two steps: all that a resumed run needs."""

    network: torch.nn.Module
    mean: AveragedModel
    """Exponential moving average of the weights: what is validated, and what is kept."""
    optimiser: torch.optim.Optimizer
    best: dict[str, Tensor]
    step: int = 0
    best_step: int = 0
    best_psnr: float = -math.inf
    seconds: float = 0.0
    """Spent so far, over all sittings."""
    history: list[dict[str, Any]] = field(default_factory=list)


def save_state(run: Run, folder: Path) -> None:
    """Write ``history.jsonl`` and, last, ``state.safetensors``: together they resume the run."""
    with replacing(folder / "history.jsonl") as partial:
        partial.write_text("".join(json.dumps(line) + "\n" for line in run.history))
    value = {
        "step": run.step,
        "best_step": run.best_step,
        "best_psnr": run.best_psnr,
        "seconds": run.seconds,
        "history": run.history,
    }
    save_tensors(folder / "state.safetensors", dict(_tensors(run)), "emsr-state", value)


_COUNTED = {"step": int, "best_step": int, "best_psnr": float, "seconds": float, "history": list}
"""What a training state holds beside its tensors."""


def load_state(run: Run, folder: Path) -> None:
    """Put a ``run`` that was just started where ``save_state`` left it. InputError, and the run as
    it was, where that state is damaged or of another network."""
    tensors, value = load_tensors(folder / "state.safetensors", "emsr-state", "training state")
    if {name: type(found) for name, found in value.items()} != _COUNTED:
        raise InputError(f"{folder}: its training state is damaged; start again with --overwrite")
    if {name: tensor.shape for name, tensor in tensors.items()} != _shapes(run, tensors):
        raise InputError(f"{folder}: its training state is of another network; use another --out")
    parts = {
        part: {k.split("/", 1)[1]: v for k, v in tensors.items() if k.startswith(part + "/")}
        for part in ("network", "mean", "best", "optimiser")
    }
    run.network.load_state_dict(parts["network"])
    run.mean.load_state_dict(parts["mean"])
    run.best = parts["best"]
    _load_optimiser(run.optimiser, parts["optimiser"])
    for name, found in value.items():
        setattr(run, name, found)


def _shapes(run: Run, tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    """The shapes of the state of ``run``, whose optimiser has not stepped yet: it has moments of
    the parameters that ``tensors`` counts steps of (those that got a gradient)."""
    shapes = {name: value.shape for name, value in _tensors(run)}
    for index, parameter in enumerate(run.network.parameters()):
        if f"optimiser/{index}/step" in tensors:
            shapes[f"optimiser/{index}/step"] = torch.Size()
            for moment in ("exp_avg", "exp_avg_sq"):
                shapes[f"optimiser/{index}/{moment}"] = parameter.shape
    return shapes


def _tensors(run: Run) -> Iterator[tuple[str, Tensor]]:
    for name, value in run.network.state_dict().items():
        yield f"network/{name}", value
    for name, value in run.mean.state_dict().items():
        yield f"mean/{name}", value
    for name, value in run.best.items():
        yield f"best/{name}", value
    for index, moments in run.optimiser.state_dict()["state"].items():
        for name, value in moments.items():
            yield f"optimiser/{index}/{name}", value


def _load_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split("/")
        state.setdefault(int(index), {})[name] = value
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": state, "param_groups": groups})
