"""``inspect``: every number right on the phantom, or null with a reason; bad input in one line."""

import json
import tracemalloc
from math import sqrt

import numpy as np
import pytest

from emsr.errors import InputError
from emsr.jobs import inspect as module
from emsr.jobs import inspect_look
from emsr.jobs.inspect import inspect
from emsr.jobs.simulate import simulate
from emsr.microscope.presets import PRESETS, hr_scan
from emsr.quality.one_image import expected_frc
from emsr.quality.resolution import frc
from emsr.volumes.tiff import write_tiff
from emsr.volumes.volume import StoredVolume

KEYS = {
    "shape",
    "spacing_nm",
    "dtype",
    "grey_range",
    "grey_mean",
    "noise_sigma",
    "noise_gain",
    "noise_intercept",
    "read_noise",
    "noise_correlation",
    "noise_correlation_yx",
    "noise_method",
    "blur_sigma_px",
    "blur",
    "clipped_fraction",
    "resolution_nm",
    "reason",
    "lines",
}
WHITE_MATTER = hr_scan(PRESETS["white-matter"])


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scans")
    simulate(folder, "white-matter", (3, 384, 384), 3, 4)
    return folder


def stored(path, stack, spacing_nm=(30.0, 6.0, 6.0)):
    write_tiff(path, stack, stack.shape, stack.dtype, spacing_nm)
    return path


def noisy(shape=(3, 128, 128), seed=0, sigma=5.0):
    rng = np.random.default_rng(seed)
    y = np.linspace(0, 6, shape[1])[:, None] + np.linspace(0, 9, shape[2])
    grey = 120 + 50 * np.sin(y) + sigma * rng.standard_normal(shape)
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)


def checked(found):
    """Each null has its reason, and nothing else does; JSON takes it all."""
    json.dumps(found, allow_nan=False)
    empty = {key for key in KEYS if found[key] is None}
    assert set(found) >= KEYS and empty == set(found["reason"]) & KEYS
    assert all(found["reason"].values()) and len(found["lines"]) <= 8
    return found


def test_a_scan_with_its_repeat(scans):
    found = checked(
        inspect(scans / "hr.tif", repeat=scans / "hr_repeat.tif", offset=WHITE_MATTER.offset)
    )
    assert found["shape"] == [3, 384, 384] and found["dtype"] == "uint8"
    assert found["spacing_nm"] == [50, 15, 15]
    assert found["noise_method"] == "repeat"
    assert found["noise_sigma"] == pytest.approx(10.6, rel=0.05)
    assert found["noise_gain"] == pytest.approx(WHITE_MATTER.gain, rel=0.05)
    assert found["noise_correlation"] == max(found["noise_correlation_yx"], key=abs)
    assert abs(found["noise_correlation"]) < 0.02
    assert 30 < found["resolution_nm"] < 50
    assert "one image" in found["reason"]["blur_sigma_px"]


def test_lr_beside_hr(scans):
    found = checked(inspect(scans / "lr.tif", hr=scans / "hr.tif"))
    true = sqrt(1.35**2 - 0.65**2)
    assert found["blur_sigma_px"] == pytest.approx(true, rel=0.1)
    assert found["blur"]["gain"] == pytest.approx(1, abs=0.04)
    assert found["noise_sigma"] == pytest.approx(24, rel=0.06)
    assert "--offset" in found["reason"]["read_noise"]


def test_one_scan_foretells_the_resolution_of_two(scans):
    one, two = (
        inspect(scans / "hr.tif", repeat=repeat)["resolution_nm"]
        for repeat in (None, scans / "hr_repeat.tif")
    )
    assert one == pytest.approx(two, rel=0.08)


def test_expected_frc_is_that_of_two_noisy_images():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:512, :512]
    clean = 40 * np.sin(x / 7 + y / 30) * np.cos(y / 9) + 20 * np.sin(x * y / 400)
    first, second = (clean[None] + 15 * rng.standard_normal((1, 512, 512)) for _ in range(2))
    measured, foretold = frc(first, second), expected_frc(first, 15.0)
    assert np.abs(measured - foretold)[60:].max() < 0.25
    assert abs(np.mean(measured - foretold)) < 0.02


def test_constant_slices_are_skipped_and_counted(tmp_path):
    stack = noisy((6, 128, 128))
    stack[1] = 80
    found = checked(inspect(stored(tmp_path / "a.tif", stack)))
    assert found["constant_slices"] == 1 and found["noise_method"] == "adjacent slices"
    assert found["noise_sigma"] == pytest.approx(5, rel=0.08)
    assert any("1 constant slice" in line for line in found["lines"])
    stack[4] = 80
    found = checked(inspect(stored(tmp_path / "b.tif", stack)))
    assert found["noise_method"] == "one image" and found["constant_slices"] == 2


def test_all_constant_is_refused(tmp_path):
    flat = stored(tmp_path / "flat.tif", np.full((2, 40, 40), 7, np.uint8))
    with pytest.raises(InputError, match="constant"):
        inspect(flat)


def test_nan_is_refused(tmp_path):
    stack = noisy().astype(np.float32)
    stack[0, 3, 3] = np.nan
    with pytest.raises(InputError, match="NaN"):
        inspect(stored(tmp_path / "nan.tif", stack))


def test_noise_that_cannot_be_told_asks_for_a_repeat(tmp_path):
    found = checked(inspect(stored(tmp_path / "small.tif", noisy((1, 20, 20)), None)))
    assert found["noise_sigma"] is None and "--repeat" in found["reason"]["noise_sigma"]
    assert "--spacing" in found["reason"]["spacing_nm"]
    a, b = (stored(tmp_path / f"{s}.tif", noisy((1, 20, 20), s)) for s in (1, 2))
    assert checked(inspect(a, repeat=b))["noise_sigma"] == pytest.approx(5, rel=0.15)


def test_clipped_fraction_and_float_greys(tmp_path):
    stack = noisy()
    stack[:, :32] = 255
    assert checked(inspect(stored(tmp_path / "c.tif", stack)))["clipped_fraction"] == 0.25
    found = checked(inspect(stored(tmp_path / "f.tif", noisy().astype(np.float32) / 255)))
    assert found["clipped_fraction"] is None
    assert found["noise_sigma"] == pytest.approx(5 / 255, rel=0.05)


def test_a_repeat_on_another_grid_or_of_another_field_is_refused(scans, tmp_path):
    with pytest.raises(InputError, match="same grid"):
        inspect(scans / "hr.tif", repeat=scans / "lr.tif")
    other = stored(tmp_path / "other.tif", noisy((3, 384, 384)), (50.0, 15.0, 15.0))
    with pytest.raises(InputError, match=r"\S"):
        inspect(scans / "hr.tif", repeat=other)
    with pytest.raises(InputError, match="nothing in common"):
        inspect(scans / "lr.tif", hr=other)
    with pytest.raises(InputError, match=r"\S"):
        inspect(scans / "lr.tif", hr=stored(tmp_path / "odd.tif", noisy((3, 100, 90))))


def test_spacing_given_overrides(scans):
    found = inspect(scans / "hr.tif", spacing_nm=(50.0, 30.0, 30.0))
    assert found["spacing_nm"] == [50, 30, 30]
    assert found["resolution_nm"] == pytest.approx(
        2 * inspect(scans / "hr.tif")["resolution_nm"], rel=1e-6
    )
    oblong = checked(inspect(scans / "hr.tif", spacing_nm=(50.0, 30.0, 15.0)))
    assert "square" in oblong["reason"]["resolution_nm"]


def test_a_volume_larger_than_memory_is_looked_at_in_part(monkeypatch):
    """A terabyte that exists only where it is read."""
    read = []

    def fetch(box):
        read.append(box)
        shape = tuple(b - a for a, b in zip(box.start, box.stop, strict=True))
        return noisy(shape, seed=box.start[0])

    endless = StoredVolume(
        "endless", (4000, 16000, 16000), np.dtype(np.uint8), (30.0, 6.0, 6.0), fetch
    )
    monkeypatch.setattr(module, "open_volume", lambda *_: endless)
    monkeypatch.setattr(inspect_look, "LARGEST_PX", 256)
    tracemalloc.start()
    found = checked(inspect("endless"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(read) == 15 and {b.stop[1] - b.start[1] for b in read} == {256}
    assert read[0].start == (0, 7872, 7872) and read[-1].stop[0] == 4000
    assert found["noise_sigma"] == pytest.approx(5, rel=0.05)
    assert peak < 60e6


@pytest.mark.real_data
def test_noise_of_a_fast_and_a_slow_scan_adds_up_to_their_difference(real_data):
    paths = [real_data / f"sem-brain-fast-slow/{name}.tif" for name in ("fast", "slow")]
    fast, slow = (inspect(path) for path in paths)
    from emsr.geometry.box import whole
    from emsr.volumes.source import open_volume

    volumes = [open_volume(path) for path in paths]
    a, b = (v.read(whole(v.shape)).astype(float) for v in volumes)
    assert np.hypot(fast["noise_sigma"], slow["noise_sigma"]) == pytest.approx(
        np.std(a - b), rel=0.15
    )
    assert fast["noise_correlation"] > 0.3
