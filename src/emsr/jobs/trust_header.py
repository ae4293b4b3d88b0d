"""What a freshly trained model file says of trust: how LR came of HR, and its own domain."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from emsr.jobs.model import Model
from emsr.jobs.trust_degradation import blur_from, degradation_of, degraded, noise_from
from emsr.jobs.trust_domain import MADE, domain_of, noise_of
from emsr.jobs.trust_spread import SAMPLE_PX, calibration_of, samples
from emsr.jobs.trust_summary import USUAL
from emsr.network.checkpoint import Header
from emsr.pairs.store import Pairs
from emsr.quality.consistency import maps, normalised_residual
from emsr.recipe import DOUBT_PX, TRUST_WINDOW_PX

HONEST_PX = 4 * SAMPLE_PX
"""LR pixels of a slice whose SR is judged: one in a thousand of them is to be told."""


def trusting(
    header: Header, network: Any, device: torch.device, pairs: Pairs, watch: Pairs | None
) -> Header:
    """``header`` with the degradation and domain of ``pairs``, and with what was seen where the
    trained network did not learn: the rows that ``header.summary`` says, of ``watch`` or
    ``pairs``. Costs eight times the SR of two small images, and once that of two larger ones."""
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
    """Means of power and structure of the residual that the network's own SR leaves, and the
    quantile ``USUAL`` of its doubt: SR is a mean of what could be and follows the noise, so they
    are not those of noise."""
    if not (degradation["blur"] and degradation["noise"]):
        return None
    blur, made = blur_from(degradation["blur"]), pairs.strategy in MADE
    plain = replace(model, header=replace(model.header, dtype="float32"))
    power, structure, doubt = [], [], []
    for lr, _ in samples(pairs, rows, model.slices, HONEST_PX):
        middle = len(lr) // 2
        sr = plain.upscale(lr)[middle]
        # LR made from HR may have as many noises as slices; else more of the field tells it better.
        noise = (noise_of([lr[middle]]) if made else None) or noise_from(degradation["noise"])
        z = normalised_residual(lr[middle], degraded(sr, blur, pairs.scale), noise.variance)
        found = maps(z, TRUST_WINDOW_PX, DOUBT_PX, noise.neighbours)
        power.append(found.power.mean())
        structure.append(found.structure.mean())
        doubt.append(found.doubt.ravel())
    return {
        "power": float(np.mean(power)),
        "structure": float(np.mean(structure)),
        "doubt": float(np.quantile(np.concatenate(doubt), USUAL)),
    }
