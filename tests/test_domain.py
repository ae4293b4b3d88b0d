"""The domain of a model: silent on fields like those trained on, never on foreign ones."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import tifffile

from emsr.jobs.listener import Listener
from emsr.jobs.trust_domain import fingerprint, sample, say_outside
from emsr.microscope.estimate import noise_from_image
from emsr.microscope.presets import PRESETS, SUPERSAMPLING, lr_scan
from emsr.microscope.scan import acquire
from emsr.microscope.tissue import tissue
from emsr.network.checkpoint import Header
from emsr.quality import domain
from emsr.volumes.source import array_volume, open_volume

SCALE, SIDE, DEPTH = 3, 128, 2
WINDOW = (0.0, 255.0)
NM = (50.0, 45.0, 45.0)


@cache
def scan(preset: str, seed: int) -> np.ndarray:
    """LR slices 500 nm apart."""
    known = PRESETS[preset]
    _, y, x = known.spacing_nm
    fine = SIDE * SCALE * SUPERSAMPLING
    spacing = (500.0, y / SUPERSAMPLING, x / SUPERSAMPLING)
    block = tissue(preset, (DEPTH, fine, fine), spacing, seed)
    rng = np.random.default_rng(seed)
    return np.stack(
        [acquire(block.render(z, z + 1)[0], lr_scan(known, SCALE), rng) for z in range(DEPTH)]
    )


def of(planes, spacing_nm=NM):
    return fingerprint(list(planes), WINDOW, spacing_nm)


def noisier(planes, factor):
    sigma = noise_from_image(planes).sigma * np.sqrt(factor**2 - 1)
    return planes + sigma * np.random.default_rng(0).standard_normal(planes.shape)


@pytest.mark.parametrize("preset", PRESETS)
def test_another_field_of_the_same_kind_is_no_other_domain(preset):
    trained = of(scan(preset, 0))
    found = of(scan(preset, 1))
    assert domain.said(trained, found) is None
    assert max(domain.departures(trained, found).values()) < 0.9


FOREIGN = {
    "tissue": (lambda: of(scan("neuropil", 1)), "structure"),
    "noise": (lambda: of(noisier(scan("white-matter", 1), 1.5)), "noise 1."),
    "greys": (lambda: of(scan("white-matter", 1) * 0.6), "darker"),
    "inverted": (lambda: of(255 - scan("white-matter", 1)), "is the contrast inverted?"),
    "pixels, unsaid": (lambda: of(scan("white-matter", 1)[:, ::2, ::2], None), "structure"),
    "pixels": (lambda: of(scan("white-matter", 1), (50.0, 90.0, 90.0)), "pixels 2 times as wide"),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_what_is_foreign_is_said_and_how_far(what):
    make, words = FOREIGN[what]
    trained, found = of(scan("white-matter", 0)), make()
    assert words in domain.said(trained, found)
    assert max(domain.departures(trained, found).values()) > 1


def test_what_lies_between_images_that_differ_on_purpose_is_no_departure():
    quiet, noisy = (of(noisier(scan("white-matter", 0), factor)) for factor in (1.0, 3.0))
    trained = {**quiet, "tilt": None, "ranges": domain.ranged([quiet, noisy])}
    between, beyond = (of(noisier(scan("white-matter", 1), factor)) for factor in (2.0, 5.0))
    assert "noise" in domain.said(quiet, between)
    assert "noise" not in (domain.said(trained, between) or "")
    assert "noise" in domain.said(trained, beyond)


def test_what_is_not_known_is_left_out():
    planes = scan("white-matter", 0)
    trained = domain.fingerprint(list(planes), WINDOW, None, None, None)
    assert set(domain.departures(trained, of(planes))) == {"greys", "spectrum"}
    tiny = domain.fingerprint([planes[0, :20, :20]], WINDOW, None, None, None)
    assert tiny["spectrum"] is None and set(domain.departures(trained, tiny)) == {"greys"}


def _said(planes, known):
    header = Header("bicubic", {}, 3, WINDOW, WINDOW, "uint8", NM, None, domain=known)
    heard: list[str] = []
    say_outside(array_volume(planes, NM, "scan.tif"), header, Listener(say=heard.append))
    return heard


def test_upscale_says_it_in_one_line():
    known = of(scan("white-matter", 0))
    assert _said(scan("white-matter", 1), known) == []
    assert _said(scan("neuropil", 1), {}) == []
    (line,) = _said(scan("neuropil", 1), known)
    assert line.startswith("warning: scan.tif lies outside what the model was trained on: ")
    assert _said(np.full((3, 64, 64), 7, np.uint8), known) == []


@pytest.mark.real_data
def test_real_scans_know_their_own(real_data):
    parts = sorted((real_data / "sbem-neural-noisy").glob("*.tif"))
    sbem = [of(sample(open_volume(part)), None) for part in parts]
    fly = tifffile.imread(real_data / "fibsem-fly-10nm/medulla_z000-219.tif")
    early, late = (of(sample(array_volume(s, None, "fly")), None) for s in (fly[:70], fly[150:]))
    for one in sbem:
        assert all(domain.said(one, other) is None for other in sbem)
        assert domain.said(one, early) and domain.said(early, one)
    assert domain.said(early, late) is None
