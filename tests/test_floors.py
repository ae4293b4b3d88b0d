"""Imports go down the floors of docs/architecture.md only; siblings do not see one another."""

import ast
from pathlib import Path

import pytest

import emsr

SOURCE = Path(emsr.__file__).parent
FLOORS = [
    {"cli"},
    {"console", "options"},
    {"jobs"},
    {"pairs"},
    {"volumes", "microscope", "network", "quality"},
    {"geometry", "recipe", "files", "errors"},
]
LEVEL = {room: level for level, floor in enumerate(FLOORS) for room in floor}
CALLS_OTHER_VERBS = {"demo", "compare"}
SHARED_BY_VERBS = {"listener", "model", "identity", "one_grid", "lanes", "on_gpu"} | {
    "before",
    "bench",
    "claim",
    "claim_cloud",
    "cluster",
    "enhance_repeat",
    "enhance_sidecar",
    "execute",
    "form",
    "holder",
    "inspect_look",
    "inspect_numbers",
    "ledger",
    "memory",
    "output",
    "provenance",
    "reference_noise",
    "run_folder",
    "sitting",
    "steps",
    "trust",
    "trust_degradation",
    "trust_domain",
    "trust_header",
    "trust_maps",
    "trust_spread",
    "trust_summary",
    "upscale_where",
    "upscale_words",
    "verdict",
    "watch",
}


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("emsr"):
            found += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.startswith("emsr")]
    return found


MODULES = sorted(p for p in SOURCE.rglob("*.py") if p.name != "__init__.py" or p.parent != SOURCE)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_go_down(path):
    parts = path.relative_to(SOURCE).with_suffix("").parts
    room = parts[0]
    for module in imports(path):
        other = room_of(module)
        if other not in (room, "__version__"):
            allowed = LEVEL[other] > LEVEL[room]
            ground = {"geometry", "recipe", "files", "errors"}
            assert allowed or {room, other} <= ground, f"{path.name} imports {module}"


@pytest.mark.parametrize("path", sorted((SOURCE / "jobs").glob("*.py")), ids=lambda p: p.stem)
def test_verbs_meet_on_disk(path):
    if path.stem.partition("_")[0] in CALLS_OTHER_VERBS:
        return
    for module in imports(path):
        if module.startswith("emsr.jobs."):
            assert module.split(".")[2] in SHARED_BY_VERBS, f"{path.name} imports {module}"
