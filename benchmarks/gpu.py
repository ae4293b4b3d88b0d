"""Every figure that needs a GPU, by one command: tests, ceilings, throughput, idle time, training.

    python benchmarks/gpu.py --out DIR [--part tests ceiling ...] [--published PATH] [--limit 600]

Each part is a command of its own, shown before it runs; what it prints goes to ``DIR/PART.txt``,
and a part that is there already is not run again. ``summary.md`` names the GPU, the versions and
how each part ended. A part that takes longer than ``--limit`` seconds is stopped.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import torch

HERE = Path(__file__).parent
CUDA = ("--device", "cuda")
TESTS = [HERE.parent / "tests" / name for name in ("test_on_gpu.py", "test_window_kernel.py")]
PARTS: dict[str, tuple[str, ...]] = {
    "tests": ("-m", "pytest", "-p", "no:xdist", "-rs", *map(str, TESTS)),
    "ceiling": ("ceiling.py", *CUDA),
    "throughput": ("throughput.py", *CUDA, "--slices", "16", "--side", "2048"),
    "linear": (
        "tiles.py",
        *CUDA,
        "--part",
        "linear",
        "--side",
        "2048",
        "--slices",
        "4",
        "16",
        "64",
    ),
    "tiles": ("tiles.py", *CUDA, "--part", "tiles"),
    "busy": ("busy.py", *CUDA),
    "profile": ("profile_network.py", *CUDA, "--tile", "1024"),
    "training": ("training.py", *CUDA, "--turns", "3", "--steps", "50", "--batch", "16"),
}
"""What is run, most wanted first."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--part", nargs="+", choices=PARTS, default=tuple(PARTS))
    parser.add_argument("--published", type=Path, help="a checkout of the published code")
    parser.add_argument("--limit", type=float, default=600, help="seconds for a part")
    asked = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("this torch sees no GPU")
    asked.out.mkdir(parents=True, exist_ok=True)
    summary = asked.out / "summary.md"
    if not summary.exists():
        name = torch.cuda.get_device_name()
        summary.write_text(f"{date.today()}, {name}, torch {torch.__version__}\n\n")
    for part in asked.part:
        if not (asked.out / f"{part}.txt").exists():
            with summary.open("a") as file:
                file.write(f"- {part}: {ran(part, asked)}\n")


def ran(part: str, asked: argparse.Namespace) -> str:
    """How the part ended."""
    script, *more = PARTS[part]
    line = [sys.executable, script if script == "-m" else str(HERE / script), *more]
    if script == "tiles.py":
        line += ["--out", str(asked.out / "tiles")]
    if script == "throughput.py" and asked.published:
        line += ["--published", str(asked.published)]
    print(" ".join(line), flush=True)
    began = time.monotonic()
    with (asked.out / f"{part}.txt").open("w") as file:
        try:
            code = subprocess.run(line, stdout=file, stderr=subprocess.STDOUT, timeout=asked.limit)
            how = f"exit {code.returncode}"
        except subprocess.TimeoutExpired:
            how = "stopped at the limit"
    return f"{how} after {time.monotonic() - began:.0f} s"


if __name__ == "__main__":
    main()
