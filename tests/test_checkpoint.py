"""What a model file, and the note of a training run, may say; each refusal is one line."""

import json
from dataclasses import asdict

import pytest
from route import emsr
from safetensors.torch import save

from emsr.errors import InputError
from emsr.jobs.train import train
from emsr.network.checkpoint import DTYPES, FORMAT, Header, load_model, save_tensors
from emsr.network.named import build
from emsr.recipe import make_recipe
from emsr.volumes.volume import READABLE

GOOD = {"format": FORMAT} | asdict(
    Header("bicubic", {}, 3, (0.0, 255.0), (0.0, 255.0), "uint8", (50.0, 30.0, 30.0), None)
)
NAN, INF = float("nan"), float("inf")
BAD = {
    "dtype": ["complex64", "bool", "int64", "uint64", "object", ">u2", "", 3, None],
    "lr_window": [[0, 0], [1, 0], [0, NAN], [-INF, 0], [0], [0, 1, 2], ["0", "1"], 3, None],
    "hr_window": [[5.0, 5.0], [0, INF], {}, [None, 1]],
    "lr_spacing_nm": [[0, 1, 1], [50, -1, 1], [50, NAN, 1], [INF, 1, 1], [1, 1], "50", [1, 1, "1"]],
    "hr_spacing_nm": [[50, 10, 0], [50]],
    "scale": [0, 9, -3, 2.5, "3", True, None, 10**30],
    "network": [None, 3, "nope", ""],
    "network_options": [None, [], {"featurez": 3}],
    "summary": [None, 3],
}


def refusal(path):
    with pytest.raises(InputError) as caught:
        load_model(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value)


@pytest.fixture
def write(tmp_path):
    def write(value):
        save_tensors(
            tmp_path / "m.safetensors", build("bicubic", 3, {}).state_dict(), "emsr", value
        )
        return tmp_path / "m.safetensors"

    return write


def test_the_dtypes_of_models_are_those_of_volumes():
    assert DTYPES == READABLE


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_that_is_written_is_read(write, dtype):
    assert load_model(write(GOOD | {"dtype": dtype}))[1].dtype == dtype


@pytest.mark.parametrize("field", BAD)
def test_headers_that_cannot_be(write, field):
    for value in BAD[field]:
        said = refusal(write(GOOD | {field: value}))
        assert f"{field}: found" in said or "no network is" in said or "featurez" in said


@pytest.mark.parametrize("field", ["network", "scale", "lr_window", "hr_spacing_nm"])
def test_headers_that_say_too_little(write, field):
    said = refusal(write({key: value for key, value in GOOD.items() if key != field}))
    assert f"{field} is missing" in said


@pytest.mark.parametrize("value", [[], None, 3, "text"])
def test_headers_that_are_no_objects(write, value):
    assert "expected a JSON object" in refusal(write(value))


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"format": 1'])
def test_headers_that_are_no_json(tmp_path, text):
    (tmp_path / "m.safetensors").write_bytes(save({}, {"emsr": text}))
    assert "expected a JSON object" in refusal(tmp_path / "m.safetensors")


def test_the_command_says_it_in_one_line(write, field, tmp_path):
    path = write(GOOD | {"scale": 9})
    result = emsr("upscale", field / "lr.tif", "--model", path, "--out", tmp_path / "o.ome.zarr")
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1 and "a whole number from 1 to 8" in result.stderr


@pytest.fixture
def run(field, tmp_path):
    """A finished run that another program began: ``change`` acts on what its run.json holds."""

    def run(change, **changes):
        folder = tmp_path / "run"
        recipe = make_recipe(field / "recipe.toml", **changes)
        if not folder.exists():
            train(field / "pairs.zarr", folder, make_recipe(field / "recipe.toml"), device="cpu")
        note = folder / "run.json"
        note.write_text(json.dumps(change(json.loads(note.read_text()))))
        return train(field / "pairs.zarr", folder, recipe, device="cpu", resume=True)

    return run


def without(*path):
    def change(note):
        place = note
        for key in path[:-1]:
            place = place[key]
        del place[path[-1]]
        return note

    return change


OLDER = [without("recipe", "training", "second_view"), without("recipe", "upscaling"), without("recipe", "seed")]  # fmt: skip


@pytest.mark.parametrize("change", OLDER)
def test_a_run_older_than_a_key_has_its_default(run, change):
    assert run(change)["steps"] == 4


def test_a_run_older_than_a_key_is_not_one_with_another_value(run):
    with pytest.raises(InputError, match="second_view True, False is asked for"):
        run(OLDER[0], second_view=False)


def test_how_volumes_are_cut_does_not_keep_a_run_from_going_on(run):
    assert run(lambda note: note, tile_px=[1, 64, 64])["steps"] == 4


def test_notes_that_are_damaged(run):
    notes = [
        *([], None, 3, {}, {"pairs": "x"}, {"pairs": "x", "recipe": None}),
        *({"pairs": "x", "recipe": {}}, {"pairs": "x", "recipe": {"training": []}}),
        {"recipe": {"training": {}}},
    ]
    for note in notes:
        with pytest.raises(InputError, match="is damaged: start again with --overwrite"):
            run(lambda _, note=note: note)
