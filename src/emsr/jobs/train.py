"""``emsr train``: pairs in, a model file out."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emsr.errors import InputError
from emsr.files import refuse_overlap
from emsr.jobs.listener import SILENT, Listener
from emsr.jobs.model import choose_device, input_slices
from emsr.jobs.provenance import trained_on
from emsr.jobs.run_folder import MODEL, claim, identity_of
from emsr.jobs.trust_header import trusting
from emsr.jobs.verdict import doubts, judged, lines_of, too_few
from emsr.jobs.watch import Field, decibels, divided, enlarged, open_watch, validation_field
from emsr.network.checkpoint import Header, load_model, save_model
from emsr.network.fit import fit, start, stop_reason
from emsr.network.named import build
from emsr.network.run_state import Run, load_state
from emsr.pairs.ahead import ahead
from emsr.pairs.enough import enough, hr_pixels
from emsr.pairs.neighbours import have_neighbours
from emsr.pairs.patches import draw_batch
from emsr.pairs.store import Pairs, in_memory, open_pairs
from emsr.recipe import Recipe


def train(
    pairs: str | Path,
    out: str | Path,
    recipe: Recipe,
    *,
    watch: str | Path | None = None,
    resume: bool = False,
    device: str = "auto",
    overwrite: bool = False,
    listener: Listener = SILENT,
) -> dict[str, Any]:
    """Train ``recipe.network`` on the pairs and write ``out/model.safetensors``,
    ``out/history.jsonl`` and, for ``resume``, ``out/state.safetensors``.

    The kept weights are the running mean that scored best on the watched field: that of the pairs
    at ``watch``, or rows of ``pairs`` that do not train; interpolation itself, step 0, is a
    candidate. Returns steps, seconds, why training ``stopped``, validation_psnr and bicubic_psnr
    (dB, against the noisy reference of that field), gain_db between them with its standard error
    gain_se_db, hr_pixels that trained, whether they are ``enough``, and ``warnings``.
    """
    source = open_pairs(pairs)
    watched, told = open_watch(watch, pairs, source) if watch is not None else (None, [])
    for warning in (*source.warnings, *told):
        listener.say(f"warning: {warning}")
    folder = Path(out)
    refuse_overlap(folder, pairs, *([] if watch is None else [watch]))
    if recipe.scale not in (None, source.scale):
        raise InputError(
            f"{pairs} was made at scale {source.scale}, the recipe says {recipe.scale}: prepare it "
            "again or change the recipe"
        )
    # What can be refused so far is refused before the directory is claimed.
    where, network = choose_device(device), _network(recipe, source.scale)
    slices = input_slices(network)
    _refuse_without_neighbours(pairs, source, slices)
    if watched is not None:
        _refuse_without_neighbours(str(watch), watched, slices)
    material = in_memory(source)
    if claim(folder, identity_of(source, watched, recipe), resume, overwrite):
        listener.say(f"{folder} is finished; nothing to do")
        return _report(load_model(folder / MODEL)[1].summary, folder)
    summary: dict[str, Any] = {
        "network": recipe.network,
        "steps": 0,
        "validation_psnr": None,
        "reason": {"validation_psnr": "this network has nothing to learn"},
    }
    if any(parameter.requires_grad for parameter in network.parameters()):
        run = start(network, recipe.training, where)
        if (folder / "state.safetensors").exists():
            load_state(run, folder)
            listener.say(f"going on at step {run.step} of {recipe.training.steps}")
        elif resume:
            listener.say(f"{folder} holds no checkpoint: starting at step 0")
        summary = _fit(run, material, watched, recipe, folder, listener)
        network.load_state_dict(run.best)
    header = _header(material, watched, recipe, summary, pairs)
    header = trusting(header, network, where, material, watched)
    save_model(folder / MODEL, network, header)
    return _report(summary, folder)


def _refuse_without_neighbours(path: str | Path, pairs: Pairs, slices: int) -> None:
    """A network that never saw a neighbour would be lost where there is one."""
    if slices > 1 and not have_neighbours(pairs):
        raise InputError(
            f"{path} holds no two adjacent slices, the network looks at {slices}: train with "
            "slices = 1, or prepare pairs of a stack"
        )


def _report(summary: dict[str, Any], folder: Path) -> dict[str, Any]:
    model = str(folder / MODEL)
    return {**summary, "model": model, "lines": [f"model: {model}", *lines_of(summary)]}


def _fit(
    run: Run, pairs: Pairs, watch: Pairs | None, recipe: Recipe, folder: Path, listener: Listener
) -> dict[str, Any]:
    training, slices = recipe.training, input_slices(run.network)
    rows, seen = divided(pairs, watch, training, run.network)
    field = Field(*validation_field(watch or pairs, seen, slices))
    if math.isinf(decibels(field.bicubic, field.hr)):
        raise InputError("LR and HR of these pairs are equal: give two scans of the field")
    parameters = sum(p.numel() for p in run.network.parameters())
    warning = too_few(pairs, rows, parameters, recipe)
    if warning is not None:
        listener.say(f"warning: {warning}")

    def draw(step: int) -> tuple[np.ndarray, np.ndarray]:
        size = training.patch_px, training.batch
        return draw_batch(pairs, rows, *size, recipe.seed, step, slices)

    with ahead(draw) as drawn:
        fit(
            run,
            drawn,
            lambda network: decibels(enlarged(network, field.lr), field.hr),
            training,
            recipe.seed,
            folder,
            lambda step, note: listener.progress("train", step, training.steps, note),
        )
    stopped, pixels = stop_reason(run, training), hr_pixels(pairs, rows)
    if run.step < training.steps:
        listener.say(f"stopped at step {run.step} of {training.steps}: {stopped}")
    summary = {
        "network": recipe.network,
        "parameters": parameters,
        "steps": run.step,
        "stopped": stopped,
        "best_step": run.best_step,
        "seconds": round(run.seconds, 1),
        **judged(run, field),
        "validation_rows": [seen.start, seen.stop],
        "hr_pixels": pixels,
        "enough": enough(pixels, parameters),
    }
    warnings = [*([warning] if warning else []), *doubts(summary)]
    return {**summary, "warnings": warnings}


def _network(recipe: Recipe, scale: int) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = build(recipe.network, scale, recipe.network_options)
    if hasattr(network, "load_pretrained"):
        network.load_pretrained()
    return network


def _header(
    pairs: Pairs, watch: Pairs | None, recipe: Recipe, summary: dict[str, Any], path: str | Path
) -> Header:
    return Header(
        network=recipe.network,
        network_options=recipe.network_options,
        scale=pairs.scale,
        lr_window=(pairs.lr_window.low, pairs.lr_window.high),
        hr_window=(pairs.hr_window.low, pairs.hr_window.high),
        dtype=pairs.hr_dtype,
        lr_spacing_nm=pairs.lr_spacing_nm,
        hr_spacing_nm=pairs.hr_spacing_nm,
        recipe=asdict(recipe),
        trained_on={
            "pairs": Path(path).name,
            "strategy": pairs.strategy,
            "assumption": pairs.assumption,
            "noise_correlation": pairs.noise_correlation,
            "scans": list(pairs.provenance),
            "hr_sketch": trained_on(np.asarray(pairs.hr)),
            "watched_scans": None if watch is None else list(watch.provenance),
        },
        summary=summary,
    )
