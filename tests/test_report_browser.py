"""The pages in a real headless browser: what they say to the console, whether they move."""

import json
import shutil
import subprocess

import numpy as np
import pytest

from emsr.jobs.evaluate import evaluate
from emsr.quality.table import SetView, table_html
from emsr.volumes.tiff import write_tiff

NOTHING_FROM_ELSEWHERE = (
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">"
)
"""Makes an error in the console of every request, to whatever place."""
SAY = "const say = value => console.log('probe ' + JSON.stringify(value));"


@pytest.fixture(scope="module")
def browser():
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("neither chromium nor google-chrome is installed: no page was opened")
    return found


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A page of ``emsr evaluate`` with all that it can show."""
    folder = tmp_path_factory.mktemp("report")
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:192, :192]
    clean = (120 + 60 * np.sin(x / 9) * np.cos(y / 13))[None]
    planes = {
        "truth": clean,
        "hr": clean + 9 * rng.standard_normal(clean.shape),
        "sr": clean + 2 * rng.standard_normal(clean.shape),
        "lr": clean.reshape(1, 64, 3, 64, 3).mean((2, 4)),
    }
    for name, values in planes.items():
        nm = (50.0, 30.0, 30.0) if name == "lr" else (50.0, 10.0, 10.0)
        write_tiff(folder / f"{name}.tif", values, values.shape, values.dtype, nm)
    given = {name: folder / f"{name}.tif" for name in ("lr", "truth")}
    evaluate(folder / "sr.tif", folder / "hr.tif", folder / "out", **given)
    return (folder / "out" / "report.html").read_text()


@pytest.fixture(scope="module")
def page():
    """A page of ``emsr compare``: two sets, a failed line, and an empty figure."""
    plane = np.add.outer(np.arange(60.0), np.arange(60.0))
    frequency = np.arange(20) / 38
    curve = {
        "correlation": np.linspace(1, 0, 20).tolist(),
        "frequency_per_px": frequency.tolist(),
        "frequency_per_nm": (frequency / 8).tolist(),
        "threshold": 1 / 7,
        "half_bit": np.full(20, 0.3).tolist(),
    }
    names = ("LR", "bicubic", "emsr-lean, synthetic-calibrated", "unet, real", "reference")
    scores = {"frc": curve, "frc_resolution_nm": 20.0}
    view = SetView(
        name="one",
        split="rows 0 to 99 train, 120 to 199 test",
        about="Made for a test.",
        scale=3,
        z=0,
        corner=(0, 0),
        pixel_nm=8.0,
        pictures=[(name, plane) for name in names],
        curves=[("bicubic", "bicubic", scores), ("unet, real", "unet", scores)],
    )
    said = {"title": "Two sets", "budget": "small", "seeds": [0, 1], "steps": {"unet": 4000}}
    return table_html(said, [*lines("one"), *lines("two")], [view])


def lines(data):
    psnr = {"bicubic": 20.0, "unet": 23.5, "emsr-lean": 9.75, "rcan": None}
    return [
        {
            "data": data,
            "strategy": "–" if network == "bicubic" else "synthetic-calibrated",
            "network": network,
            "seeds": 0 if value is None else 2,
            "reason": "network 'rcan' needs spandrel: pip install" if value is None else "",
            "warnings": ["the pairs are in register within 3 pixels only " * 4, "and more"],
            "mark": "best" if network == "unet" else "",
            "gain_db": None if network in ("bicubic", "rcan") else value - 20,
            "against": None if value is None else "truth",
            "figures": figures(value),
        }
        for network, value in psnr.items()
    ]


def figures(value):
    keys = ("psnr", "ssim", "frc")
    names = [f"{key}_{to}" for key in keys for to in ("truth", "reference")]
    names = [n + {"psnr": "_db", "ssim": "", "frc": "_nm"}[n.split("_")[0]] for n in names]
    others = ("frc_truth_px", "frc_reference_px", "clean_psnr_db", "training_seconds")
    rest = ("parameters", "mflop_per_lr_pixel", "seconds_per_mpx")
    found = value is not None
    return dict.fromkeys((*names, *others, *rest), (value, 0.5) if found else None)


def opened(browser, folder, text, probe, width=1280):
    """What ``probe`` says of the page as a file in a window ``width`` pixels wide. A narrow one is
    a frame, since the browser's own window does not get that narrow."""
    script = f"<script>addEventListener('load', () => {{ {SAY} {probe} }});</script></body>"
    text = text.replace("<head>", "<head>" + NOTHING_FROM_ELSEWHERE, 1)
    (folder / "page.html").write_text(text.replace("</body>", script))
    frame = f'<body style="margin:0"><iframe src="page.html" width="{width}" height="900">'
    (folder / "frame.html").write_text('<!DOCTYPE html><link rel="icon" href="data:,">' + frame)
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    options += ["--enable-logging=stderr", f"--user-data-dir={folder / 'profile'}"]
    url = (folder / "frame.html").as_uri()
    run = subprocess.run(
        [browser, *options, f"--window-size={width},900", "--dump-dom", url],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0
    said = [line for line in run.stderr.splitlines() if "CONSOLE" in line]
    probed = [
        line.split('"probe ', 1)[1].rsplit('", source', 1)[0] for line in said if "probe" in line
    ]
    assert len(said) == len(probed) > 0, said  # nothing but the probe's own lines
    return [json.loads(line) for line in probed]


def test_a_report_magnifies_one_place_in_all_panels(browser, report, tmp_path):
    probe = """const panel = document.querySelectorAll(".panel")[1], at = panel.getBoundingClientRect();
      panel.dispatchEvent(new PointerEvent("pointermove",
        {clientX: at.left + at.width / 2, clientY: at.top + at.height / 2}));
      const lenses = [...document.querySelectorAll(".lens")];
      say([lenses.length, lenses.filter(lens => lens.style.display === "block").length]);"""
    # One lens in each panel; moving over one panel shows those of crop and error maps.
    assert opened(browser, tmp_path, report, probe) == [[14, 9]]


def test_the_divider_of_a_report_follows_range_drag_and_choice(browser, report, tmp_path):
    probe = """const range = document.getElementById("divider"), stage = document.querySelector(".stage");
      const [left, right] = stage.querySelectorAll("img");
      const panel = name => document.querySelector(`[data-group="crop"] img[alt="${name}"]`).src;
      const at = () => [range.value, right.style.clipPath];
      say(at());
      say([left.src === panel("LR"), right.src === panel("SR"), left.naturalWidth === right.naturalWidth]);
      range.value = 20; range.dispatchEvent(new Event("input")); say(at());
      const box = stage.getBoundingClientRect();
      stage.dispatchEvent(new PointerEvent("pointerdown", {clientX: box.left + box.width * 0.75, clientY: box.top + 5}));
      say(at());
      stage.dispatchEvent(new PointerEvent("pointermove", {clientX: box.left + box.width * 0.9, clientY: box.top + 5}));
      stage.dispatchEvent(new PointerEvent("pointerup", {}));
      stage.dispatchEvent(new PointerEvent("pointermove", {clientX: box.left, clientY: box.top + 5}));
      say(at());
      const pick = document.getElementById("right");
      pick.value = "reference"; pick.dispatchEvent(new Event("change"));
      say([right.src === panel("reference"), right.alt, range.type, range.getAttribute("aria-valuetext")]);"""
    assert opened(browser, tmp_path, report, probe) == [
        ["50", "inset(0px 0px 0px 50%)"],
        [True, True, True],
        ["20", "inset(0px 0px 0px 20%)"],
        ["75", "inset(0px 0px 0px 75%)"],
        ["90", "inset(0px 0px 0px 90%)"],
        [True, "reference", "range", "90 % LR, the rest reference"],
    ]


def test_the_table_sorts_both_ways_with_empty_figures_last(browser, page, tmp_path):
    probe = """const column = [...document.querySelectorAll("#table th")].findIndex(th => th.dataset.key === "psnr");
      const head = document.querySelectorAll("#table th")[column];
      const shown = () => [...document.querySelectorAll("#table tbody tr")].map(row => row.cells[column].dataset.v);
      say(shown());
      head.querySelector("button").click(); say([head.ariaSort, ...shown()]);
      head.querySelector("button").click(); say([head.ariaSort, ...shown()]);
      document.querySelector("#table th button").click();
      say([head.ariaSort, document.querySelector("#table tbody tr").cells[0].textContent]);
      const only = document.getElementById("only");
      only.value = "two"; only.dispatchEvent(new Event("change"));
      say([...document.querySelectorAll("#table tbody tr")].filter(row => row.offsetHeight > 0).length);"""
    first, down, up, words, left = opened(browser, tmp_path, page, probe)
    assert first == ["20.0", "23.5", "9.75", ""] * 2
    assert down == ["descending", *["23.5"] * 2, *["20.0"] * 2, *["9.75"] * 2, "", ""]
    assert up == ["ascending", *["9.75"] * 2, *["20.0"] * 2, *["23.5"] * 2, "", ""]
    assert words == [None, "one"]
    assert left == 4


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_sticks_out_of_the_window(browser, report, page, width, tmp_path):
    probe = """say([innerWidth, document.documentElement.scrollWidth,
      Math.min(...[...document.querySelectorAll(".panel")].map(one => one.offsetWidth)) > 80]);"""
    for text in (report, page):
        assert opened(browser, tmp_path, text, probe, width) == [[width, width, True]]
