"""The arithmetic behind the figures that the benchmarks print."""

import argparse
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import zarr
from torch.autograd import DeviceType

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import accuracy
import busy
import costs
import profile_network
import seams
import tiles
import training

from emsr.errors import InputError
from emsr.network.named import build

PERIOD, STEP = 96, 12


def difference(seed: int, shape: tuple[int, int] = (300, 400)) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, shape)


def stepped(error: np.ndarray, height: float) -> np.ndarray:
    """Every second tile of 96 x 96 brighter by ``height``."""
    y, x = np.indices(error.shape) // PERIOD
    return error + height * ((y + x) % 2)


def framed(error: np.ndarray, factor: float) -> np.ndarray:
    """Larger differences in the two pixels beside the borders of tiles."""
    y, x = (np.minimum(i % PERIOD, -i % PERIOD) for i in np.indices(error.shape))
    return error * np.where((y < 2) | (x < 2), factor, 1.0)


def test_a_seamless_difference_shows_no_seam():
    found = [one.found for seed in range(40) for one in seams.seams(difference(seed), PERIOD, STEP)]
    assert np.mean(found) < 0.05


def test_a_difference_with_the_networks_own_grid_shows_no_seam():
    error = difference(0)
    error[::STEP] *= 3
    error[:, ::STEP] *= 3
    assert not any(one.found for one in seams.seams(error, PERIOD, STEP))


@pytest.mark.parametrize("axis", [0, 1])
def test_planted_steps_between_tiles_are_found(axis):
    error = difference(1)
    error += 0.2 * (np.indices(error.shape)[axis] // PERIOD % 2)
    _, steps = seams.seams(error, PERIOD, STEP)
    assert steps.found and steps.ratio > 1.2


def test_steps_in_both_directions_are_found():
    assert seams.seams(stepped(difference(2), 0.2), PERIOD, STEP)[1].found


def test_larger_differences_beside_borders_are_found_with_their_ratio():
    size, steps = seams.seams(framed(difference(3), 2.0), PERIOD, STEP)
    assert size.found and steps.found
    assert size.ratio == pytest.approx(2.0, rel=0.1)
    # The mean size of Gaussian differences of 0.1 is 0.1 sqrt(2 / pi).
    assert size.at_borders == pytest.approx(2 * 0.0798, rel=0.1)


def test_a_seam_in_an_otherwise_perfect_image_is_found():
    assert seams.seams(stepped(np.zeros((300, 400)), 1.0), PERIOD, STEP)[1].found
    assert not any(one.found for one in seams.seams(np.zeros((300, 400)), PERIOD, STEP))


def test_tiles_larger_than_the_image_are_refused():
    with pytest.raises(ValueError, match="smaller tiles"):
        seams.seams(difference(0), 960, STEP)


def test_a_difference_is_told_in_grey_levels():
    error = np.full((300, 400), -0.5)
    error[0, 0] = 7
    found = accuracy.compared(error, PERIOD, STEP)
    assert found["mean"] == pytest.approx(0.5, abs=1e-3)
    assert found["p999"] == pytest.approx(0.5)
    assert found["largest"] == 7
    assert found["bias"] == pytest.approx(-0.5, abs=1e-3)


def test_the_cost_of_a_terabyte_by_hand():
    # 10^12 LR voxels are 9 x 10^12 SR voxels; 10^6 a second take 9 x 10^6 s = 2500 h, 14.88 weeks.
    found = costs.cost(1e12, 3, 1e6, 4, 0.5, 1e8)
    assert found.hours == pytest.approx(2500)
    assert (found.for_a_week, found.workers) == (15, 4)
    assert found.stored_bytes == pytest.approx(4.5e12)
    # 9 x 10^12 bytes at 10^8 a second are 25 h, shared by 4 workers, of a week of 168 h.
    assert found.writing == pytest.approx(25 / 4 / 168)


def test_a_petabyte_takes_a_thousand_times_the_hours_and_bytes():
    small, large = (costs.cost(size, 3, 3e5, 16, 0.6, 3e8) for size in (1e12, 1e15))
    assert large.hours == pytest.approx(1000 * small.hours)
    assert large.stored_bytes == pytest.approx(1000 * small.stored_bytes)


@pytest.mark.parametrize(
    "value, text", [(123456, "120,000"), (2500, "2,500"), (7.77, "7.8"), (0.0123, "0.012")]
)
def test_figures_keep_two_digits(value, text):
    assert costs.rounded(value) == text


def test_gpus_that_were_not_measured_get_no_figures(monkeypatch, capsys):
    line = ["costs.py", "--rate", "emsr=1000000", "--bytes-per-voxel", "0.5", "--write-mb-s", "100"]
    monkeypatch.setattr(sys, "argv", line)
    costs.main()
    printed = capsys.readouterr().out
    assert "| 1 TB | emsr | 1,000,000 | 2,500 | 15 | 1 | 4.5 TB | 14.9% |" in printed
    assert costs.NO_GPU in printed
    monkeypatch.setattr(sys, "argv", [*line, "--gpu", "emsr=1e9"])
    costs.main()
    assert "| 1 TB | emsr | 1,000,000,000 | 2.5 | 1 | 4.5 TB |" in capsys.readouterr().out


BAD = [
    (["--rate", "emsr=0"], "found 0"),
    (["--rate", "emsr=nan"], "found nan"),
    (["--rate", "emsr"], "expected NAME=RATE"),
    (["--rate", "emsr=1", "--output", "no.zarr"], "no output of emsr upscale"),
    (["--rate", "emsr=1"], "expected --output or --bytes-per-voxel"),
    (["--rates", "no.json"], "rates.json that tiles.py writes"),
]


@pytest.mark.parametrize("given, words", BAD)
def test_bad_figures_are_refused_in_one_line(given, words, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["costs.py", "--write-mb-s", "100", *given])
    with pytest.raises(SystemExit):
        costs.main()
    assert words in capsys.readouterr().err.splitlines()[-1]


def test_bytes_per_voxel_counts_every_level(tmp_path):
    for level, side in enumerate((4, 2)):
        zarr.create_array(str(tmp_path / str(level)), shape=(side, side), dtype="uint8")
    (tmp_path / "0" / "c").write_bytes(bytes(100))
    size = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert costs.bytes_per_voxel([tmp_path]) == pytest.approx(size / 16)


def test_a_line_is_found_in_times_that_follow_one():
    x = [2.0, 5.0, 19.0]
    assert tiles.line(x, [3 + 0.5 * value for value in x]) == pytest.approx((3, 0.5))


def test_times_are_kept_apart_by_their_setting(tmp_path):
    given = {"out": tmp_path, "device": "cpu", "precision": "bf16", "threads": 2, "side": 64}
    row = {"part": "linear", "device": "cpu", "precision": "bf16", "threads": 2, "side": 64}
    others = [row | {"threads": 1}, row | {"side": 32}, row | {"part": "tiles"}]
    text = "\n".join(json.dumps(one) for one in [row, *others])
    (tmp_path / "times.jsonl").write_text(text)
    assert tiles.rows(argparse.Namespace(**given), "linear") == [row]


def test_shares_of_operations_add_up_and_copies_are_told_from_convolutions():
    times = {"aten::mkldnn_convolution": 6.0, "aten::copy_": 1.0, "aten::cat": 1.0, "odd": 2.0}
    found = profile_network.shares(times)
    assert found["convolutions"] == 0.6
    assert sum(found[name] for name in profile_network.MOVING) == pytest.approx(0.2)
    assert sum(found.values()) == pytest.approx(1)


def test_the_kernels_of_a_gpu_count_once():
    copied = {"self_cpu_time_total": 9.0, "self_device_time_total": 4.0}
    events = [
        SimpleNamespace(key="aten::copy_", device_type=DeviceType.CPU, **copied),
        SimpleNamespace(key="Memcpy HtoD", device_type=DeviceType.CUDA, **copied),
    ]
    assert profile_network.times(events, on_gpu=True) == {"aten::copy_": 4.0}
    assert profile_network.times(events[:1], on_gpu=False) == {"aten::copy_": 9.0}


def test_the_plain_loop_has_the_optimiser_that_torch_would_choose(monkeypatch):
    chosen = []
    monkeypatch.setattr(torch.optim, "Adam", lambda *_, **given: chosen.append(given["fused"]))
    for tricks in (set(), {"fused"}):
        training.plain(torch.nn.Conv2d(1, 1, 3), None, tricks, torch.device("cpu"))
    assert chosen == [None, True]


def test_a_network_that_kept_its_start_shows_nothing_of_bf16_and_is_refused():
    network = build("emsr-lean", 3, {"features": 4, "blocks": 1})
    with pytest.raises(InputError, match="give a model that learned"):
        accuracy.refuse_start(network, Path("model.safetensors"))
    network.last.weight.data[0, 0, 0, 0] = 1e-3
    accuracy.refuse_start(network, Path("model.safetensors"))


@pytest.mark.parametrize(
    ("spans", "busy_s", "whole_s"),
    [
        ([(3, 5)], 2, 2),
        ([(0, 1), (4, 5)], 2, 5),
        ([(4, 6), (0, 3), (1, 2), (5, 7)], 6, 7),
        ([(0, 10), (2, 3), (11, 12)], 11, 12),
    ],
)
def test_a_device_is_busy_where_anything_runs_on_it(spans, busy_s, whole_s):
    assert busy.covered(spans) == (busy_s, whole_s)
