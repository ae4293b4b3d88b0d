"""Fixtures that every room's tests share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real EM images, or a skip that says so."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("EMSR_DATA", default))
    if not (folder / "README.md").is_file():
        pytest.skip(f"no real EM images at {folder}: set EMSR_DATA to run this test")
    return folder
