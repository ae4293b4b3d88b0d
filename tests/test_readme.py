"""The README's commands and its Python run as they stand."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_every_emsr_command_and_the_python_example_run(tmp_path):
    commands = [
        line.split("#")[0].split()
        for block in blocks("")
        for line in block.splitlines()
        if line.startswith("emsr ")
    ]
    verbs = [command[1] for command in commands]
    assert verbs == ["simulate", "prepare", "train", "upscale", "evaluate"]
    for command in commands:
        program = Path(sys.executable).with_name("emsr")
        result = subprocess.run(
            [program, *command[1:]], cwd=tmp_path, capture_output=True, text=True
        )
        assert result.returncode == 0, result.stderr
    assert (tmp_path / "scores" / "report.html").is_file()
    (example,) = blocks("python")
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", example],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr


def test_make_targets_in_the_readme_exist():
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert README.split("```")[1].split()[:2] == ["make", "demo"]
    named = re.findall(r"make (\w+)", README)
    assert {"demo", "test"} <= set(named) <= set(targets)


def test_every_file_the_readme_links_to_exists():
    links = re.findall(r"\]\(([^)]+)\)", README)
    assert links
    missing = [link for link in links if not (ROOT / link).exists()]
    assert missing == []
