"""What a freshly trained model file says of trust: how LR came of HR, and its own domain."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from emsr.jobs.model import Model
from emsr.jobs.trust_degradation import degradation_of, degraded, noise_from
from emsr.jobs.trust_domain import domain_of, noise_of
from emsr.jobs.trust_spread import calibration_of, samples
from emsr.microscope.estimate import Blur
from emsr.network.checkpoint import Header
from emsr.pairs.store import Pairs
from emsr.quality.consistency import maps, normalised_residual
from emsr.recipe import DOUBT_PX, TRUST_WINDOW_PX


def trusting(
    header: Header, network: Any, device: torch.device, pairs: Pairs, watch: Pairs | None
) -> Header:
    """``header`` with the degradation and domain of ``pairs``, and with what was seen where the
    trained network did not learn: the rows that ``header.summary`` says, of ``watch`` or
    ``pairs``. Costs the SR of nine small images."""
    field = watch or pairs
    start, stop = header.summary.get("validation_rows", (0, field.lr.shape[1]))
    model = Model(network.eval(), header, device)
    rows = slice(start, stop)
    degradation = degradation_of(pairs)
    degradation["honest"] = _honest(model, field, rows, degradation)
    return replace(
        header,
        degradation=degradation,
        domain=domain_of(pairs),
        spread=calibration_of(model, field, rows),
    )


def _honest(
    model: Model, pairs: Pairs, rows: slice, degradation: dict[str, Any]
) -> dict[str, float] | None:
    """Power and structure of the residual that the network's own SR leaves: SR is a mean of what
    could be, not the truth, so they are not quite those of noise."""
    if not (degradation["blur"] and degradation["noise"]):
        return None
    blur = Blur(**degradation["blur"])
    plain = replace(model, header=replace(model.header, dtype="float32"))
    power, structure = [], []
    for lr, _ in samples(pairs, rows, model.slices):
        middle = len(lr) // 2
        sr = plain.upscale(lr)[middle]
        # Of this image alone: LR made from HR may have as many noises as slices.
        noise = noise_of([lr[middle]]) or noise_from(degradation["noise"])
        z = normalised_residual(lr[middle], degraded(sr, blur, pairs.scale), noise.variance)
        found = maps(z, TRUST_WINDOW_PX, DOUBT_PX, noise.neighbours)
        power.append(found.power.mean())
        structure.append(found.structure.mean())
    return {"power": float(np.mean(power)), "structure": float(np.mean(structure))}
