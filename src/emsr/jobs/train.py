"""``emsr train``: pairs in, a model file out."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emsr.errors import InputError
from emsr.files import refuse_overlap, replacing
from emsr.jobs.listener import SILENT, Listener
from emsr.jobs.model import choose_device, input_slices
from emsr.network.checkpoint import Header, load_model, save_model
from emsr.network.fit import Run, fit, load_state, start
from emsr.network.frame import interpolate, middle_slice
from emsr.network.named import build
from emsr.pairs.held_out import split_rows
from emsr.pairs.neighbours import have_neighbours, lr_channels
from emsr.pairs.patches import draw_batch
from emsr.pairs.store import Pairs, in_memory, open_pairs
from emsr.quality.fidelity import psnr
from emsr.recipe import Recipe

MODEL = "model.safetensors"
PRODUCTS = (MODEL, "state.safetensors", "history.jsonl")
VALIDATION_BUDGET_PX = 400_000
"""LR pixels that one validation looks at, at most."""


def train(
    pairs: str | Path,
    out: str | Path,
    recipe: Recipe,
    *,
    resume: bool = False,
    device: str = "auto",
    overwrite: bool = False,
    listener: Listener = SILENT,
) -> dict[str, Any]:
    """Train ``recipe.network`` on the pairs and write ``out/model.safetensors``,
    ``out/history.jsonl`` and, for ``resume``, ``out/state.safetensors``.

    The kept weights are the running mean that scored best on the validation field. Returns steps,
    seconds, validation_psnr and bicubic_psnr (dB, against the noisy reference of that field).
    """
    source = open_pairs(pairs)
    for warning in source.warnings:
        listener.say(f"warning: {warning}")
    folder = Path(out)
    refuse_overlap(folder, pairs)
    identity = {"pairs": _facts_hash(source), "recipe": asdict(recipe)}
    if recipe.scale not in (None, source.scale):
        raise InputError(
            f"{pairs} was made at scale {source.scale}, the recipe says {recipe.scale}: prepare it "
            "again or change the recipe"
        )
    # What can be refused so far is refused before the directory is claimed.
    where, network = choose_device(device), _network(recipe, source.scale)
    _refuse_without_neighbours(pairs, source, input_slices(network))
    material = in_memory(source)
    if _claim(folder, identity, resume, overwrite):
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
        summary = _fit(run, material, recipe, folder, listener)
        network.load_state_dict(run.best)
    save_model(folder / MODEL, network, _header(material, recipe, summary, pairs))
    return _report(summary, folder)


def _refuse_without_neighbours(path: str | Path, pairs: Pairs, slices: int) -> None:
    """A network that never saw a neighbour would be lost where there is one."""
    if slices > 1 and not have_neighbours(pairs):
        raise InputError(
            f"{path} holds no two adjacent slices, the network looks at {slices}: train with "
            "slices = 1, or prepare pairs of a stack"
        )


def _claim(folder: Path, identity: dict[str, Any], resume: bool, overwrite: bool) -> bool:
    """Make ``folder`` this run's own; whether the run is finished already."""
    note = folder / "run.json"
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: choose a directory for the run")
    if folder.exists() and any(folder.iterdir()) and not note.is_file():
        raise InputError(f"{folder} holds other files: choose an empty or a new directory")
    begun = any((folder / name).exists() for name in PRODUCTS)
    if begun and resume:
        _refuse_other(folder, _remembered(note), json.loads(json.dumps(identity)))
        return (folder / MODEL).exists()
    if begun and not overwrite:
        raise InputError(f"{folder} holds a run: --resume goes on with it, --overwrite replaces it")
    for name in PRODUCTS:
        (folder / name).unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(note) as partial:
        partial.write_text(json.dumps(identity, sort_keys=True))
    return False


def _refuse_other(folder: Path, found: dict[str, Any], asked: dict[str, Any]) -> None:
    """InputError where the run found in ``folder`` is not the one asked for: what differs."""
    if found["pairs"] != asked["pairs"]:
        raise InputError(f"{folder} is a run on other pairs: give those, or another --out")
    there, here = (_decisive(one["recipe"]) for one in (found, asked))
    for key, value in here.items():
        if there[key] != value:
            raise InputError(
                f"{folder} is a run with {key} {there[key]}, {value} is asked for: --resume "
                "takes the recipe that the run began with, or choose another --out"
            )


def _decisive(recipe: dict[str, Any]) -> dict[str, Any]:
    """What of a recipe decides a training, in one table. A run that began before a key was known
    has that key's default."""
    defaults = json.loads(json.dumps(asdict(Recipe())))
    table = {**defaults, **recipe, **defaults["training"], **recipe["training"]}
    return {key: value for key, value in table.items() if key not in ("training", "upscaling")}


def _remembered(note: Path) -> dict[str, Any]:
    try:
        found = json.loads(note.read_text())
    except (ValueError, RecursionError):
        found = None
    recipe = found.get("recipe") if isinstance(found, dict) and "pairs" in found else None
    if not isinstance(recipe, dict) or not isinstance(recipe.get("training"), dict):
        raise InputError(f"{note} is damaged: start again with --overwrite")
    return {"pairs": found["pairs"], "recipe": recipe}


def _report(summary: dict[str, Any], folder: Path) -> dict[str, Any]:
    model = str(folder / MODEL)
    lines = [f"model: {model}"]
    if summary["validation_psnr"] is not None:
        lines.append(
            f"validation PSNR against the noisy reference: {summary['validation_psnr']:.2f} dB at "
            f"step {summary['best_step']} (bicubic: {summary['bicubic_psnr']:.2f} dB)"
        )
    return {**summary, "model": model, "lines": lines}


def _fit(
    run: Run, pairs: Pairs, recipe: Recipe, folder: Path, listener: Listener
) -> dict[str, Any]:
    training = recipe.training
    multiple = getattr(run.network, "multiple", 1)
    rows, held_out = split_rows(
        pairs.lr.shape[1], training.validation_fraction, training.guard_px, multiple
    )
    slices = input_slices(run.network)
    lr, hr = validation_field(pairs, held_out, slices)
    bicubic = _psnr(interpolate(middle_slice(lr), pairs.scale), hr)
    if math.isinf(bicubic):
        raise InputError("LR and HR of these pairs are equal: give two scans of the field")
    fit(
        run,
        lambda step: draw_batch(
            pairs, rows, training.patch_px, training.batch, recipe.seed, step, slices
        ),
        lambda network: _validate(network, lr, hr),
        training,
        recipe.seed,
        folder,
        lambda step, note: listener.progress("train", step, training.steps, note),
    )
    return {
        "network": recipe.network,
        "parameters": sum(p.numel() for p in run.network.parameters()),
        "steps": run.step,
        "best_step": run.best_step,
        "seconds": round(run.seconds, 1),
        "validation_psnr": run.best_psnr,
        "bicubic_psnr": bicubic,
        "validation_rows": [held_out.start, held_out.stop],
    }


def validation_field(
    pairs: Pairs, rows: slice, slices: int = 1
) -> tuple[torch.Tensor, torch.Tensor]:
    """LR ``(b, slices, y, x)`` and HR ``(b, 1, s*y, s*x)`` of the held-out rows in network units:
    as many fields, evenly spread over z, as the budget allows."""
    s = pairs.scale
    height, width = rows.stop - rows.start, min(pairs.lr.shape[2], 512)
    count = int(np.clip(VALIDATION_BUDGET_PX // (height * width), 1, pairs.lr.shape[0]))
    chosen = np.linspace(0, pairs.lr.shape[0] - 1, count).round().astype(int)
    seen = np.array([lr_channels(pairs, int(i), slices) for i in chosen])
    lr = np.asarray(pairs.lr)[seen, rows, :width]
    hr = np.asarray(pairs.hr)[pairs.hr_slice[chosen], s * rows.start : s * rows.stop, : s * width]
    units = (pairs.lr_window.to_unit(lr), pairs.hr_window.to_unit(hr))
    return torch.from_numpy(units[0]), torch.from_numpy(units[1])[:, None]


def _validate(network: torch.nn.Module, lr: torch.Tensor, hr: torch.Tensor) -> float:
    """PSNR in dB of one unit of range against the noisy HR of the held-out field."""
    device = next(network.parameters()).device
    training = network.training
    network.eval()
    with torch.inference_mode():
        sr = torch.cat([network(plane[None].to(device)).cpu() for plane in lr])
    network.train(training)
    return _psnr(sr, hr)


def _psnr(sr: torch.Tensor, hr: torch.Tensor) -> float:
    return psnr(sr[:, 0].numpy(), hr[:, 0].numpy(), 1.0)


def _network(recipe: Recipe, scale: int) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = build(recipe.network, scale, recipe.network_options)
    if hasattr(network, "load_pretrained"):
        network.load_pretrained()
    return network


def _facts_hash(pairs: Pairs) -> str:
    """Which pairs these are: what they say of themselves, hashes of the scans included."""
    facts = {k: repr(v) for k, v in vars(pairs).items() if k not in ("lr", "hr", "hr_slice")}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _header(pairs: Pairs, recipe: Recipe, summary: dict[str, Any], path: str | Path) -> Header:
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
        },
        summary=summary,
    )
