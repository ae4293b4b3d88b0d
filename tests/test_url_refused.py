"""What is written to this machine only says so of a URL, which it shows as it was given."""

import os
import sys

import numpy as np
import pytest

from emsr.cli import main

URL = "s3://brain/em/sr.ome.zarr"
MODEL = ("--model", "m.safetensors")
REFUSED = {
    "trust": (("upscale", "lr.npy", *MODEL, "--trust", "--out", URL), "--trust is written to this"),
    "a file": (("upscale", "lr.npy", *MODEL, "--out", "s3://brain/sr.tif"), "a .tif output is"),
    "enhance": (("enhance", "lr.npy", *MODEL, "--out", URL), "an output on this machine"),
    "prepare": (("prepare", "--hr", "h", "--strategy", "split", "--out", URL), "on this machine"),
    "pairs": (("train", URL, "--out", "run"), "no such pairs"),
    "convert": (("convert", "c.pt", "--out", URL), "an output on this machine"),
    "simulate": (("simulate", "--out", URL), "an output on this machine"),
    "evaluate": (("evaluate", "--sr", "a", "--reference", "b", "--out", URL), "on this machine"),
    "compare": (("compare", "r.toml", "--out", URL), "an output on this machine"),
    "demo": (("demo", "--out", URL), "an output on this machine"),
    "a model": (("upscale", "lr.npy", "--model", URL, "--out", "o.zarr"), "no such model file"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_the_address_is_shown_as_given_and_nothing_is_written(case, tmp_path, monkeypatch, capsys):
    line, says = REFUSED[case]
    monkeypatch.chdir(tmp_path)
    np.save("lr.npy", np.zeros((1, 64, 64), np.uint8))
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(sys, "argv", ["emsr", *line, "--quiet"])
    with pytest.raises(SystemExit) as ended:
        main()
    (told,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 1, told
    assert "s3://brain/" in told
    assert "s3:/b" not in told
    assert says in told
    assert [path.name for path in tmp_path.iterdir()] == ["lr.npy"]
