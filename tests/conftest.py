"""Fixtures that every room's tests share."""

import os
from pathlib import Path

import numpy as np
import pytest
from route import HR_NM, LR_NM, RECIPE, done

from emsr.volumes.tiff import write_tiff


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real EM images, or a skip that says so."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("EMSR_DATA", default))
    if not (folder / "README.md").is_file():
        pytest.skip(f"no real EM images at {folder}: set EMSR_DATA to run this test")
    return folder


@pytest.fixture(scope="session")
def field(tmp_path_factory):
    """The smallest route: two scans of one field, pairs, a trained model."""
    folder = tmp_path_factory.mktemp("field")
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:192, :192]
    clean = 120 + 60 * np.sin(x / 9 + np.arange(2)[:, None, None]) * np.cos(y / 13)
    hr = (clean + 5 * rng.standard_normal(clean.shape)).astype(np.uint8)
    low = clean.reshape(2, 64, 3, 64, 3).mean((2, 4))
    lr = (low + 5 * rng.standard_normal(low.shape)).astype(np.uint8)
    write_tiff(folder / "hr.tif", hr, hr.shape, hr.dtype, HR_NM)
    write_tiff(folder / "lr.tif", lr, lr.shape, lr.dtype, LR_NM)
    (folder / "recipe.toml").write_text(RECIPE)
    pair = ("--hr", folder / "hr.tif", "--lr", folder / "lr.tif")
    done("prepare", *pair, "--strategy", "real", "--out", folder / "pairs.zarr")
    recipe = ("--recipe", folder / "recipe.toml")
    done("train", folder / "pairs.zarr", "--out", folder / "run", *recipe)
    return folder


@pytest.fixture(scope="session")
def rig(tmp_path_factory):
    """What the tests of upscaling share: a volume, a model, and the output of a plain run."""
    from volumes_to_upscale import make, run

    folder = make(tmp_path_factory.mktemp("rig"))
    (folder / "plain").mkdir()
    run(folder, folder / "plain" / "sr.ome.zarr")
    return folder


@pytest.fixture(scope="session")
def plain(rig):
    """Every byte of the plain run's output."""
    from volumes_to_upscale import tree

    return tree(rig / "plain" / "sr.ome.zarr")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """What the tests of cleaning share: two scans and a truth of a field, and two models."""
    from volumes_to_clean import make

    return make(tmp_path_factory.mktemp("enhance"))


@pytest.fixture(scope="session")
def phantom_scans(tmp_path_factory):
    """Two scans of tissue, and interpolation as the model of them."""
    from maps_of_trust import make

    return make(tmp_path_factory.mktemp("phantom"))


@pytest.fixture(scope="session")
def plain_maps(field, tmp_path_factory):
    """The maps of a plain run, with spread."""
    from maps_of_trust import run

    from emsr.jobs.trust import Trust, trust_path

    out = tmp_path_factory.mktemp("plain") / "sr.ome.zarr"
    run(field, out, trust=Trust(spread=True))
    return trust_path(out)
