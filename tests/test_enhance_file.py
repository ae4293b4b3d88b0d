"""The file beside a cleaned scan: what it holds, and never of another output than that one."""

import json

import numpy as np
import pytest
from route import HR_NM
from volumes_to_clean import (
    run,
)

from emsr.errors import InputError
from emsr.jobs.enhance import enhance
from emsr.jobs.listener import Listener
from emsr.volumes.tiff import write_tiff


def test_what_cannot_be_measured_is_null_and_the_volume_is_there(place, tmp_path):
    flat = np.full((1, 40, 40), 90, np.uint8)
    write_tiff(tmp_path / "hr.tif", flat, flat.shape, flat.dtype, HR_NM)
    said = run(place, tmp_path / "out.ome.zarr", "one", scan=tmp_path / "hr.tif")
    assert said["finished"]
    changed = json.loads((tmp_path / "out.ome.zarr.enhance.json").read_text())
    for key in ("removed", "frc", "clean_psnr", "noise_removed", "truth_psnr"):
        assert changed[key] is None and changed["reason"][key]


def test_an_infinite_score_is_null(place, tmp_path):
    """The truth given is the scan itself."""
    changed = run(place, tmp_path / "o.ome.zarr", "one", truth="hr.tif")["changed"]
    assert changed["truth_psnr"]["before"] is None and changed["truth_psnr"]["after"] > 0
    assert "equal" in changed["reason"]["truth_psnr.before"]
    stored = (tmp_path / "o.ome.zarr.enhance.json").read_text()
    assert json.loads(stored) == changed and "Infinity" not in stored and "NaN" not in stored


def test_nothing_old_lies_beside_an_unfinished_output(place, tmp_path):
    out, place_of = tmp_path / "o.ome.zarr", tmp_path / "o.ome.zarr.enhance.json"
    old = run(place, out)["changed"]

    def killed(begin):
        def clean():
            begin()
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            enhance(place / "hr.tif", place / "one.safetensors", out, clean)

    killed(lambda: None)  # before anything was touched: it is still that output's
    assert json.loads(place_of.read_text()) == old

    def begin():
        state = json.loads((out / "zarr.json").read_text())
        state["attributes"]["emsr"]["state"] = "unfinished"
        (out / "zarr.json").write_text(json.dumps(state))
        assert not place_of.exists()

    killed(begin)
    assert not list(tmp_path.glob("*enhance.json*")) + list(tmp_path.glob(".*enhance.json*"))


def test_a_refused_run_leaves_what_is_there(place, tmp_path):
    out, place_of = tmp_path / "o.ome.zarr", tmp_path / "o.ome.zarr.enhance.json"
    run(place, out)
    stored = place_of.read_text()
    with pytest.raises(InputError, match="not this run's finished output"):
        run(place, out, "one")
    assert place_of.read_text() == stored


@pytest.mark.parametrize("suffix", ["ome.zarr", "tif"])
def test_measured_scores_survive_a_run_without_the_repeat(place, tmp_path, suffix):
    out, said = tmp_path / f"o.{suffix}", []
    first = run(place, out, repeat="repeat.tif", truth="truth.tif")["changed"]
    again = run(place, out, listener=Listener(say=said.append))["changed"]
    assert again == first
    assert any("kept what an earlier run measured: " in line for line in said)
    assert json.loads((tmp_path / f"o.{suffix}.enhance.json").read_text()) == first
    # Of another output nothing is kept.
    (tmp_path / f"o.{suffix}.enhance.json").rename(tmp_path / f"n.{suffix}.enhance.json")
    assert run(place, tmp_path / f"n.{suffix}")["changed"]["clean_psnr"] is None


def test_a_place_that_cannot_be_written_is_refused_before_the_work(place, tmp_path):
    (tmp_path / "o.ome.zarr.enhance.json").mkdir()
    with pytest.raises(InputError, match="is a directory"):
        run(place, tmp_path / "o.ome.zarr")
    assert not (tmp_path / "o.ome.zarr").exists()
