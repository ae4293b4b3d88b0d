"""Recipes: defaults, files, and what cannot be."""

import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from emsr.errors import InputError
from emsr.recipe import (
    TRAINING,
    Degradation,
    Denoising,
    Recipe,
    Splitting,
    Training,
    make_recipe,
    recipe_from,
)


def test_an_empty_file_is_the_default(tmp_path):
    (tmp_path / "r.toml").write_text("")
    assert make_recipe(tmp_path / "r.toml") == recipe_from({})


def test_a_file_changes_what_it_names(tmp_path):
    (tmp_path / "r.toml").write_text("seed = 4\n[training]\nsteps = 7\nview_noise = [0, 0.1]\n")
    recipe = make_recipe(tmp_path / "r.toml")
    assert (recipe.seed, recipe.training.steps, recipe.training.view_noise) == (4, 7, (0, 0.1))
    assert recipe.degradation == Recipe().degradation


def test_changes_reach_the_tables_and_none_changes_nothing():
    recipe = make_recipe(loss="l2", steps=None, seed=3, halo_px=9)
    assert (recipe.training.loss, recipe.seed, recipe.upscaling.halo_px) == ("l2", 3, 9)
    assert recipe.training.steps == Recipe().training.steps


def test_a_network_brings_its_training_and_the_user_has_the_last_word(tmp_path):
    assert make_recipe(network="emsr-tiny").training == TRAINING["emsr-tiny"] != Training()
    (tmp_path / "r.toml").write_text('network = "emsr-tiny"\n[training]\nsteps = 7\n')
    recipe = make_recipe(tmp_path / "r.toml", batch=3)
    assert (recipe.training.steps, recipe.training.batch) == (7, 3)
    assert recipe.training.patch_px == TRAINING["emsr-tiny"].patch_px
    assert make_recipe(tmp_path / "r.toml", network="emsr").training.patch_px == Training().patch_px


def test_emsr_is_trained_with_an_input_skip_and_the_user_has_the_last_word(tmp_path):
    assert recipe_from({}).network_options == {"input_skip": True}
    assert make_recipe(network="bicubic").network_options == {}
    (tmp_path / "r.toml").write_text("[network_options]\ninput_skip = false\nslices = 3\n")
    options = make_recipe(tmp_path / "r.toml").network_options
    assert options == {"input_skip": False, "slices": 3}


def test_the_documented_recipe_is_the_default():
    text = (Path(__file__).parents[1] / "docs" / "recipe.md").read_text()
    table = tomllib.loads(text.split("```toml")[1].split("```")[0])
    documented = recipe_from(table)
    assert documented == recipe_from({})
    assert {f.name for f in fields(Training)} == set(table["training"])
    for part, kind in (
        ("degradation", Degradation),
        ("denoising", Denoising),
        ("splitting", Splitting),
    ):
        assert {f.name for f in fields(kind)} == set(table[part])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[training]\nstepz = 4", "training.stepz"),
        ("[training]\nsteps = 0", "training.steps: found 0"),
        ("[training]\nloss = 'l3'", "'l3'"),
        ("speed = 3", "speed"),
        ('[training]\nsteps = "3"', "training.steps"),
        ("[training]\nbatch = true", "training.batch"),
        ("[training]\npatch_px = 8.0", "training.patch_px"),
        ("[training]\nsecond_view = 1", "training.second_view"),
        ("network_options = 3", "network_options"),
        ("training = 3", "training"),
        ("[training", "not valid TOML"),
    ],
)
def test_bad_recipes(tmp_path, text, said):
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(InputError, match=said) as raised:
        make_recipe(tmp_path / "r.toml")
    assert "\n" not in str(raised.value)
    with pytest.raises(InputError, match="no such recipe"):
        make_recipe(tmp_path / "absent.toml")
