"""One scan whose noise is shared between neighbouring pixels: no score, or one that holds."""

import numpy as np
import pytest
from scipy import ndimage

from emsr.jobs.reference_noise import reference_noise
from emsr.microscope.presets import PRESETS, SUPERSAMPLING, hr_scan
from emsr.microscope.scan import expected
from emsr.microscope.tissue import tissue
from emsr.quality.clean import Clean
from emsr.quality.fidelity import psnr, ssim
from emsr.quality.known import Known, NoiseLaw
from emsr.quality.regions import Regions
from emsr.volumes.source import array_volume

SIDE = 224
WHITE, BLURRED = [0.0], [0.5, 0.7, 1.0, (0.0, 0.5), (0.0, 1.0)]


@pytest.fixture(scope="module", params=["white-matter", "neuropil"])
def field(request):
    """Truth and an SR of its own errors, ``(y, x)``."""
    preset = PRESETS[request.param]
    z, y, x = preset.spacing_nm
    fine = (1, SIDE * SUPERSAMPLING, SIDE * SUPERSAMPLING)
    stain = tissue(request.param, fine, (z, y / SUPERSAMPLING, x / SUPERSAMPLING), 3).render(0, 1)
    truth = expected(stain[0], hr_scan(preset)).astype(np.float64)
    error = 8 * ndimage.gaussian_filter(np.random.default_rng(5).normal(size=truth.shape), 2) * 6
    return truth, ndimage.gaussian_filter(truth, 1.2) + error


def scanned(truth, sigma, blur):
    noise = np.random.default_rng([7, int(sigma)]).normal(size=truth.shape)
    noise = ndimage.gaussian_filter(noise, blur)
    scan = truth + sigma * np.sqrt(truth / truth.mean()) * noise / noise.std()
    return np.clip(np.rint(scan), 0, 255).astype(np.uint8)


def found(truth, sr, sigma, blur):
    """The scores, those with the truth, and what is known of the noise."""
    hr = scanned(truth, sigma, blur)
    law, why = reference_noise(array_volume(hr[None], None, "hr"))
    clean = Clean(255, Known(law, why), 16)
    clean.add(sr, hr.astype(float), None)
    scores = clean.scores(ssim(sr, hr.astype(float), 255), 0)
    return scores, {"clean_psnr": psnr(sr, truth, 255), "clean_ssim": ssim(sr, truth, 255)}, law


@pytest.mark.parametrize("sigma", [6.0, 12.0])
@pytest.mark.parametrize("blur", BLURRED, ids=str)
def test_blurred_noise_gives_no_wrong_score(field, blur, sigma):
    scores, true, law = found(*field, sigma, blur)
    assert law is None or law.colour != "white"
    for key, value in true.items():
        assert scores[key] is not None or "--repeat" in scores["reason"][key]
        low, high = scores[f"{key}_interval"] or (None, None)
        assert scores[key] is None or low <= value <= high, (key, scores, value)


def test_white_noise_still_gives_one(field):
    scores, true, law = found(*field, 6.0, 0.0)
    low, high = scores["clean_psnr_interval"]
    assert low <= true["clean_psnr"] <= high
    assert scores["clean_psnr"] == pytest.approx(true["clean_psnr"], abs=0.5)
    assert law.sigma == pytest.approx(6, rel=0.1)


def test_regions_know_the_noise_no_better_than_the_whole(field):
    truth, sr = field
    hr = scanned(truth, 6.0, 0.0)
    law, _ = reference_noise(array_volume(hr[None], None, "hr"))
    regions = Regions(255, Known(law), 112)
    regions.add(sr, hr.astype(float), None, np.ones((SIDE - 6, SIDE - 6)))
    assert all(value for row in regions.scores(None)["clean_psnr"] for value in row)
    unsure = regions.scores(None, noise_error=1000.0)
    assert not any(value for row in unsure["clean_psnr"] for value in row)


def test_noise_shared_over_many_pixels_is_not_believed_known():
    """Whatever was read off its flattest blocks: SR - HR has no finest detail."""
    rng = np.random.default_rng(0)
    truth = 120 + 300 * ndimage.gaussian_filter(rng.normal(size=(128, 128)), 3)
    sr = truth + 80 * ndimage.gaussian_filter(rng.normal(size=truth.shape), 2)
    for blur, told in ((0.5, True), (1.2, False)):
        noise = ndimage.gaussian_filter(rng.normal(size=truth.shape), blur)
        hr = truth + 12 * noise / noise.std()
        law = NoiseLaw(lambda grey: np.full(np.shape(grey), 144.0), 10, 2.0, "correlated", "one")
        clean = Clean(255, Known(law), 16)
        clean.add(sr, hr, None)
        scores = clean.scores(0.5, 0)
        assert (scores["clean_psnr_interval"] is not None) == told
        assert told or "more pixels" in scores["reason"]["clean_psnr"]
