"""What ``emsr compare`` reads: data sets, strategies, networks and budgets as frozen values.

Every key of the TOML file is checked by name, type and range; every file must be there.
"""

from __future__ import annotations

import json
import os
import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from annotated_types import MinLen
from pydantic import TypeAdapter, ValidationError

from emsr.errors import InputError
from emsr.jobs.compare_sets import Count, DataSet, Images, Index, Part, Phantom
from emsr.network.named import NETWORKS
from emsr.recipe import Recipe, recipe_from

_STRICT = {"extra": "forbid"}
_NAME = "letters, digits, '-' and '_'"
BICUBIC = "bicubic"
UNTRAINED = (BICUBIC, "natural")
"""Networks that learn nothing here: one cell per data set."""
NO_STRATEGY = "none"
STRATEGIES: dict[str, tuple[str, str | None]] = {
    "real": ("real", None),
    "synthetic": ("synthetic", None),
    "synthetic-calibrated": ("synthetic", "calibrate"),
    "synthetic-repeat": ("synthetic", "repeat"),
    "denoised": ("denoised", None),
    "split": ("split", None),
    "split-calibrated": ("split", "calibrate"),
}
"""Strategies of ``emsr prepare`` by the name that a comparison gives them, with the further scan
that each takes."""


@dataclass(frozen=True)
class Budget:
    """How much is spent: seeds, steps of each network, and which networks train."""

    __pydantic_config__ = _STRICT

    seeds: Annotated[tuple[Index, ...], MinLen(1)]
    steps: dict[str, Count]
    networks: tuple[str, ...] | None = None
    """None: all of the recipe's."""
    every_strategy: tuple[str, ...] | None = None
    """Networks that train by every strategy, the others by the first that a set allows; None: all
    of them do."""
    training: dict[str, Any] = field(default_factory=dict)
    """Keys of a training recipe's table ``training``, for all networks."""


@dataclass(frozen=True)
class Comparison:
    """The whole file. ``training`` and ``options`` are by network, as in a training recipe."""

    __pydantic_config__ = _STRICT

    title: str
    networks: Annotated[tuple[str, ...], MinLen(1)]
    strategies: Annotated[tuple[str, ...], MinLen(1)]
    budgets: Annotated[dict[str, Budget], MinLen(1)]
    data: Annotated[tuple[DataSet, ...], MinLen(1)]
    training: dict[str, dict[str, Any]] = field(default_factory=dict)
    options: dict[str, dict[str, Any]] = field(default_factory=dict)


def read_comparison(path: Path) -> Comparison:
    """The comparison in the TOML file at ``path``, its files found; InputError of one line."""
    try:
        table = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path}: no such recipe; give an existing TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid TOML: {error}") from None
    try:
        comparison = TypeAdapter(Comparison).validate_json(
            json.dumps(table, default=str), strict=True
        )
        _check(comparison)
        return replace(comparison, data=tuple(_found(one, path) for one in comparison.data))
    except ValidationError as error:
        raise InputError(f"{path}: {_said(error)}") from None
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def budget_named(comparison: Comparison, name: str | None, steps: int | None) -> Budget:
    """The budget called ``name`` (None: the file's first), with ``steps`` for every network."""
    name = name or next(iter(comparison.budgets))
    if name not in comparison.budgets:
        known = ", ".join(comparison.budgets)
        raise InputError(f"no budget is called {name!r}: the recipe has {known}")
    budget = comparison.budgets[name]
    if steps is not None:
        budget = replace(budget, steps=dict.fromkeys(comparison.networks, steps))
    return budget


def networks_of(comparison: Comparison, budget: Budget) -> tuple[str, ...]:
    """The networks that a budget trains, bicubic first, which is always among them."""
    return tuple(dict.fromkeys((BICUBIC, *(budget.networks or comparison.networks))))


def strategies_of(comparison: Comparison, data: DataSet) -> list[str]:
    """The strategies that a set's scans allow."""
    train = data.train
    has_lr = not isinstance(train, Part) or train.lr is not None
    has_repeat = not isinstance(train, Part) or train.repeat is not None
    return [
        name
        for name in comparison.strategies
        if (has_lr or STRATEGIES[name][0] not in ("real", "denoised"))
        and (has_repeat or STRATEGIES[name][1] != "repeat")
    ]


def training_recipe(
    comparison: Comparison, budget: Budget, data: DataSet, network: str, seed: int
) -> Recipe:
    """What a cell trains with."""
    table: dict[str, Any] = {"network": network, "seed": seed, "scale": data.scale}
    if network in UNTRAINED:
        return recipe_from(table)  # the same in every budget
    if network in comparison.options:
        table["network_options"] = comparison.options[network]
    training = {**comparison.training.get(network, {}), **budget.training}
    recipe = recipe_from({**table, "training": {**training, "steps": budget.steps[network]}})
    # At least one validation, or nothing but the start could be kept.
    every = min(recipe.training.checkpoint_every, recipe.training.steps)
    return replace(recipe, training=replace(recipe.training, checkpoint_every=every))


def _check(comparison: Comparison) -> None:
    _refuse_unknown("network", comparison.networks, NETWORKS)
    _refuse_unknown("strategy", comparison.strategies, STRATEGIES)
    _refuse_unknown("network of a training", comparison.training, comparison.networks)
    _refuse_unknown("network with options", comparison.options, comparison.networks)
    names = [one.name for one in comparison.data]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two data sets are called {name!r}: give each a name of its own")
    for name, budget in comparison.budgets.items():
        _check_budget(comparison, name, budget)
    for one in comparison.data:
        _check_set(comparison, one)


def _check_budget(comparison: Comparison, name: str, budget: Budget) -> None:
    for given in (budget.networks, budget.every_strategy, budget.steps):
        _refuse_unknown(f"network of the budget {name!r}", given or (), comparison.networks)
    for network in networks_of(comparison, budget):
        if network not in UNTRAINED and network not in budget.steps:
            raise InputError(
                f"budget {name!r} has no steps for {network!r}: say them in budgets.{name}.steps"
            )
        training_recipe(comparison, budget, comparison.data[0], network, 0)


def _check_set(comparison: Comparison, data: DataSet) -> None:
    if isinstance(data, Images) and (data.test.lr is None) == (data.made_lr is None):
        raise InputError(
            f"data set {data.name!r}: the test field needs either lr or made_lr, found "
            f"{'neither' if data.made_lr is None else 'both'}"
        )
    if isinstance(data, Phantom):
        for part in (data.train, data.test):
            if part.shape[1] % data.scale or part.shape[2] % data.scale:
                raise InputError(
                    f"data set {data.name!r}: y and x of {list(part.shape)} must be multiples of "
                    f"the scale {data.scale}"
                )
    if not strategies_of(comparison, data):
        raise InputError(
            f"data set {data.name!r} has no LR scan to train on: add the strategy synthetic or "
            "split, or give train.lr"
        )


def _refuse_unknown(what: str, given: Any, known: Any) -> None:
    for name in given:
        if name not in known:
            raise InputError(f"unknown {what} {name!r}: choose among {', '.join(known)}")


def _found(data: DataSet, recipe: Path) -> DataSet:
    """The set with its files' whole paths; InputError where one is missing."""
    if isinstance(data, Phantom):
        return data
    train, test = (_located(part, recipe, data.name) for part in (data.train, data.test))
    return replace(data, train=train, test=test)


def _located(part: Part, recipe: Path, name: str) -> Part:
    def whole(given: str | None) -> str | None:
        return None if given is None else _path(given, recipe, name)

    return replace(
        part, hr=_path(part.hr, recipe, name), lr=whole(part.lr), repeat=whole(part.repeat)
    )


def _path(given: str, recipe: Path, name: str) -> str:
    places = [recipe.parent / given]
    if "EMSR_DATA" in os.environ:
        places.append(Path(os.environ["EMSR_DATA"]) / given)
    for place in places:
        if place.exists():
            return str(place.resolve())
    tried = " and ".join(map(str, places))
    raise InputError(
        f"data set {name!r}: no file at {tried}; correct the path, or set EMSR_DATA to the folder "
        "of the images"
    )


def _said(error: ValidationError) -> str:
    """The first of pydantic's complaints as one line."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"] if part not in ("phantom", "images"))
    said = f"expected {_NAME}" if first["type"] == "predicate_failed" else first["msg"]
    if first["type"] == "missing":
        return f"key {where} is missing"
    return f"key {where}: found {first['input']!r}; {said}"
