"""``advise`` and ``prepare`` agree on what no second scan is."""

import numpy as np
import pytest
import tifffile

from emsr.errors import InputError
from emsr.jobs.advise import advise
from emsr.jobs.prepare import prepare
from emsr.jobs.simulate import simulate
from emsr.volumes.tiff import write_tiff

NM = (50.0, 15.0, 15.0)
COPIES = {
    "the same file": lambda hr: hr,
    "gain and offset": lambda hr: 0.8 * hr + 10,
    "a quarter of the greys": lambda hr: 0.25 * hr + 90,
    "gamma": lambda hr: 255 * (hr / 255) ** 0.8,
    "a grey level of noise": lambda hr: hr + np.random.default_rng(0).normal(0, 1, hr.shape),
}


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scans")
    simulate(folder, "white-matter", (3, 240, 240), 3, 0)
    return folder


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_a_copy_in_other_greys_is_no_repeat(scans, tmp_path, copied):
    grey = copied(tifffile.imread(scans / "hr.tif").astype(float))
    grey = np.clip(np.rint(grey), 0, 255).astype(np.uint8)
    write_tiff(tmp_path / "copy.tif", grey, grey.shape, grey.dtype, NM)
    with pytest.raises(InputError, match=r"copy\.tif is identical to .*hr\.tif") as error:
        advise(scans / "lr.tif", scans / "hr.tif", tmp_path / "copy.tif")
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=r"copy\.tif holds the noise of .*hr\.tif"):
        prepare(
            scans / "hr.tif",
            tmp_path / "pairs.zarr",
            "synthetic",
            scale=3,
            repeat=tmp_path / "copy.tif",
        )
    assert not (tmp_path / "pairs.zarr").exists()


def test_a_second_scan_is_a_repeat(scans, tmp_path):
    repeat = scans / "hr_repeat.tif"
    assert advise(scans / "lr.tif", scans / "hr.tif", repeat)["strategy"] == "real"
    prepare(scans / "hr.tif", tmp_path / "pairs.zarr", "synthetic", scale=3, repeat=repeat)
