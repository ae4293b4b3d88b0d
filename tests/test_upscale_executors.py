"""One plan, any executor: the same bytes, whoever computes and however often they are killed."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from route import EMSR, emsr
from volumes_to_upscale import TILE_COUNT, command, run, tree

from emsr.jobs.execute import overlapped
from emsr.jobs.lanes import Lanes
from emsr.jobs.listener import Listener
from emsr.jobs.sitting import Hands
from emsr.recipe import Upscaling


def test_workers_write_the_same_bytes(rig, plain, tmp_path):
    said = run(rig, tmp_path / "other.ome.zarr", hands=Hands(workers=2, threads=1))
    assert tree(tmp_path / "other.ome.zarr") == plain
    assert (said["tiles_done"], said["workers"], said["finished"]) == (TILE_COUNT, 2, True)
    assert said["clipped_fraction"] > 0


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2)])
def test_slabs_in_any_order_write_the_same_bytes(order, rig, plain, tmp_path):
    out = tmp_path / "sr.ome.zarr"
    for number in order[:-1]:
        said = run(rig, out, slab=(number, 3))
        assert (said["tiles_done"], said["finished"]) == (16, False)
        assert not (out / "1" / "c").exists()
    again = run(rig, out, slab=(order[0], 3))
    assert (again["tiles_done"], again["tiles_resumed"], again["finished"]) == (0, 16, False)
    assert run(rig, out, slab=(order[-1], 3))["finished"]
    assert tree(out) == plain


def test_a_run_without_slab_finishes_what_slabs_left(rig, plain, tmp_path):
    out = tmp_path / "sr.ome.zarr"
    run(rig, out, slab=(2, 4))
    said = run(rig, out)
    assert (said["tiles_done"], said["tiles_resumed"], said["finished"]) == (36, 12, True)
    assert said["clipped_fraction"] == run(rig, tmp_path / "whole.ome.zarr")["clipped_fraction"]
    assert tree(out) == plain


def test_more_slabs_than_tiles(rig, tmp_path):
    four = Upscaling(tile_px=(3, 64, 64))
    run(rig, tmp_path / "whole.ome.zarr", upscaling=four)
    out = tmp_path / "slabs.ome.zarr"
    said = [run(rig, out, slab=(n, 6), upscaling=four)["tiles_done"] for n in range(1, 7)]
    assert sorted(said) == [0, 0, 1, 1, 1, 1]
    assert tree(out) == tree(tmp_path / "whole.ome.zarr")


def test_slabs_at_once(rig, plain, tmp_path):
    out = tmp_path / "sr.ome.zarr"
    slabs = [start(command(rig, out, "--quiet", "--slab", f"{n}/2")) for n in (1, 2)]
    assert [ended(slab) for slab in slabs] == [(0, ""), (0, "")]
    assert tree(out) == plain


@pytest.mark.parametrize("name", ["sr.ome.zarr", "sr.tif"])
def test_a_slab_of_a_finished_output_reads_nothing(name, rig, tmp_path):
    out, heard, said = tmp_path / name, [], []
    run(rig, out)
    ears = Listener(say=said.append, progress=lambda what, *_: heard.append(what))
    before = tree(out)
    assert run(rig, out, slab=(2, 3), listener=ears)["finished"]
    assert heard == []
    assert "its input was not read again" in said[-1]
    assert tree(out) == before


def test_slabs_of_a_tiff(rig, tmp_path):
    run(rig, tmp_path / "whole.tif")
    assert not run(rig, tmp_path / "slabs.tif", slab=(1, 2))["finished"]
    assert not (tmp_path / "slabs.tif").exists()
    assert run(rig, tmp_path / "slabs.tif", slab=(2, 2))["finished"]
    assert tree(tmp_path / "slabs.tif") == tree(tmp_path / "whole.tif")


@pytest.mark.parametrize("how", [[], ["--workers", 2], ["--dask", "local"]])
def test_killed_and_run_again_gives_the_same_bytes(how, rig, plain, tmp_path):
    out = tmp_path / "sr.ome.zarr"
    process = start(command(rig, out, *how))
    until(lambda: len(list(out.glob("0/c/*/*/*"))) > 3, process)
    children = children_of(process.pid)
    process.kill()
    ended(process)
    if how[:1] == ["--workers"]:
        assert len(children) >= 2
        until(lambda: not any(alive(child) for child in children))
    said = run(rig, out)
    assert 0 < said["tiles_resumed"] < TILE_COUNT
    assert tree(out) == plain


@pytest.mark.parametrize("how", [["--workers", 2], ["--dask", "local", "--workers", 2]])
def test_the_tiles_of_a_killed_worker_are_done_by_others(how, rig, plain, tmp_path):
    out = tmp_path / "sr.ome.zarr"
    process = start(command(rig, out, *how))
    until(lambda: len(list(out.glob("0/c/*/*/*"))) > 3, process)
    os.kill(children_of(process.pid)[-1], signal.SIGKILL)
    code, said = ended(process)
    assert code == 0, said
    assert ("(killed by signal 9); its tiles go to the 1 left" in said) == ("--dask" not in how)
    assert tree(out) == plain


def test_no_worker_left_is_one_line_and_can_be_gone_on_with(rig, plain, tmp_path):
    out = tmp_path / "sr.ome.zarr"
    process = start(command(rig, out, "--workers", 1, "--quiet"))
    until(lambda: len(list(out.glob("0/c/*/*/*"))) > 3, process)
    os.kill(children_of(process.pid)[-1], signal.SIGKILL)
    code, said = ended(process)
    (line,) = said.splitlines()
    assert code == 1
    assert line.startswith("emsr: no worker is left (the last one ended: killed by signal 9)")
    run(rig, out)
    assert tree(out) == plain


def test_what_an_input_does_wrong_in_a_worker_is_said_by_the_run(rig, tmp_path):
    lr = tmp_path / "lr.tif"
    lr.write_bytes((rig / "lr.tif").read_bytes())
    process = start(command(rig, tmp_path / "sr.ome.zarr", "--workers", 1, "--quiet", lr=lr))
    until(lambda: children_of(process.pid), process)
    lr.unlink()  # this process has it mapped; the worker opens it anew
    code, said = ended(process)
    (line,) = said.splitlines()
    assert code == 1
    assert "lr.tif: no such file" in line
    assert list(tmp_path.iterdir()) == []


def test_reading_computing_and_writing_overlap_and_are_bounded():
    """The three steps run at once, and no more than five tasks are begun and not yet given."""

    class Steps:
        def __init__(self):
            self.begun = self.ended = self.most = 0
            self.together = set()

        def step(self, name):
            self.together.add(name)
            time.sleep(0.01)
            seen = frozenset(self.together)
            self.together.discard(name)
            return seen

        def read(self, task):
            self.begun += 1
            self.most = max(self.most, self.begun - self.ended)
            return self.step("read")

        def work(self, task, values):
            return values | self.step("work")

        def write(self, task, result):
            result |= self.step("write")
            self.ended += 1
            return task, result

    steps = Steps()
    done = list(overlapped(steps, range(20), Lanes(1, 2)))
    assert [task for task, _ in done] == list(range(20))
    assert any(seen == {"read", "work", "write"} for _, seen in done)
    assert 3 <= steps.most <= 5


def test_an_error_in_any_step_ends_the_run():
    class Steps:
        def __init__(self, bad):
            self.bad = bad

        def read(self, task):
            assert self.bad != "read"

        def work(self, task, values):
            assert self.bad != "work"

        def write(self, task, result):
            assert self.bad != "write"

    for bad in ("read", "work", "write"):
        with pytest.raises(AssertionError):
            list(overlapped(Steps(bad), range(3), Lanes(1, 2)))


def test_a_scheduler_that_does_not_answer_is_one_line_soon(rig, tmp_path):
    began = time.monotonic()
    result = emsr(*command(rig, tmp_path / "sr.ome.zarr", "--dask", "127.0.0.1:9", "--quiet"))
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("emsr: no dask scheduler answers at 127.0.0.1:9")
    assert time.monotonic() - began < 30
    assert list(tmp_path.iterdir()) == []


WRONG = [
    ("--workers", 0),
    ("--workers", -1),
    ("--threads", 0),
    ("--slab", "0/3"),
    ("--slab", "4/3"),
    ("--slab", "half"),
    ("--dask", "127.0.0.1:9", "--workers", 2),
    ("--memory", "much"),
    ("--slab", "1/2", "--overwrite"),
]


@pytest.mark.parametrize("more", WRONG, ids=lambda more: " ".join(map(str, more)))
def test_wrong_usage_is_exit_2(more, tmp_path):
    from typer.testing import CliRunner

    from emsr.cli import app

    line = ("upscale", "lr.tif", "--model", "m", "--out", tmp_path / "o.zarr", *more)
    assert CliRunner().invoke(app, [*map(str, line)]).exit_code == 2
    assert list(tmp_path.iterdir()) == []


def start(arguments):
    line = [EMSR, *map(str, arguments)]
    return subprocess.Popen(line, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def ended(process):
    """Exit code, and all it said on stderr."""
    said = process.communicate(timeout=120)[1]
    return process.returncode, said


def until(true, process=None):
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None, process.stderr.read()
        time.sleep(0.002)


def children_of(pid):
    """Worker processes that run Python's spawn, the resource tracker apart."""
    threads = Path(f"/proc/{pid}/task").glob("*/children")
    found = [child for thread in threads for child in thread.read_text().split()]
    return [int(child) for child in found if "spawn_main" in line_of(child)]


def line_of(pid):
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
