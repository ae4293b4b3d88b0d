"""The demo, small: the whole route on a phantom, where the truth is known."""

import json
from dataclasses import replace

import pytest
import tifffile
import torch

from emsr.errors import InputError
from emsr.geometry.tiles import plan
from emsr.jobs.demo import demo
from emsr.jobs.listener import Listener
from emsr.jobs.model import load
from emsr.recipe import DEMO

pytestmark = pytest.mark.xdist_group("demo")  # one training serves all of them

SMALL = replace(
    DEMO,
    shape=(4, 240, 240),
    test_shape=(2, 240, 240),
    recipe=replace(DEMO.recipe, training=replace(DEMO.recipe.training, steps=300)),
)


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "out"
    said = []
    summary = demo(folder, settings=SMALL, listener=Listener(say=said.append))
    return folder, summary, said


def test_super_resolution_beats_bicubic_against_the_unseen_truth(shown):
    """300 steps on a small noisy field; the full demo trains seven times longer."""
    _, summary, _ = shown
    assert summary["gain_db"] > 1.2
    assert summary["frc_resolution_nm"] < summary["bicubic_frc_resolution_nm"]


def test_the_score_without_a_clean_reference_agrees_with_the_truth(shown):
    folder, summary, _ = shown
    scores = json.loads((folder / "evaluation" / "scores.json").read_text())
    low, high = scores["clean_psnr_interval"]
    assert low - 0.2 < summary["psnr_against_truth"] < high + 0.2
    assert scores["clean_psnr"] == pytest.approx(summary["psnr_against_truth"], abs=0.3)


def test_the_default_halo_costs_less_than_half_a_grey_level(shown):
    """Tiles of 32 LR pixels against the whole image, with the weights just trained."""
    folder, _, _ = shown
    network = load(folder / "run" / "model.safetensors", device="cpu").network
    lr = tifffile.imread(folder / "test-field" / "lr.tif")[:1, None].astype("float32") / 255
    tiles = plan((1, 80, 80), (1, 32, 32), scale=3, halo=network.halo, multiple=4)
    with torch.no_grad():
        whole = network(torch.from_numpy(lr))
        for tile in tiles:
            part = network(torch.from_numpy(lr[..., *tile.read.slices[1:]]))
            difference = part[..., *tile.crop.slices[1:]] - whole[..., *tile.write.slices[1:]]
            assert difference.abs().max() * 255 < 0.5
    assert network.halo < network.receptive_radius


def test_it_ends_with_lines_a_human_understands_and_the_report(shown):
    folder, summary, said = shown
    report = folder / "evaluation" / "report.html"
    assert report.is_file()
    assert len(summary["lines"]) == 4
    assert summary["lines"][-1].endswith(str(report))
    assert "dB" in summary["lines"][0]
    assert [line[:3] for line in said if line[1:2] == "/"] == ["1/5", "2/5", "3/5", "4/5", "5/5"]


def test_an_earlier_demo_is_not_lost_unasked(shown, tmp_path):
    folder, _, _ = shown
    with pytest.raises(InputError, match="--overwrite"):
        demo(folder, settings=SMALL)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="other files"):
        demo(tmp_path, overwrite=True, settings=SMALL)
