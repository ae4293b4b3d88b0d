"""The directory of a training run: whose it is, whether it is finished, which run it holds."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from emsr.errors import InputError
from emsr.files import replacing
from emsr.pairs.store import Pairs
from emsr.recipe import Recipe

MODEL = "model.safetensors"
PRODUCTS = (MODEL, "state.safetensors", "history.jsonl")


def identity_of(pairs: Pairs, watch: Pairs | None, recipe: Recipe) -> dict[str, Any]:
    """What decides a run."""
    watched = None if watch is None else _facts_hash(watch)
    return {"pairs": _facts_hash(pairs), "watch": watched, "recipe": asdict(recipe)}


def claim(folder: Path, identity: dict[str, Any], resume: bool, overwrite: bool) -> bool:
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
    if found["watch"] != asked["watch"]:
        raise InputError(
            f"{folder} is a run that watched another field: give the --watch that it began with, "
            "or another --out"
        )
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
    return {"pairs": found["pairs"], "watch": found.get("watch"), "recipe": recipe}


def _facts_hash(pairs: Pairs) -> str:
    """Which pairs these are: what they say of themselves, hashes of the scans included."""
    facts = {k: repr(v) for k, v in vars(pairs).items() if k not in ("lr", "hr", "hr_slice")}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
