"""Laws that hold for every format: any box, any thread, opened again; never more than a part."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import h5py
import numpy as np
import pytest
import tifffile
import zarr
from formats import (
    SHAPE,
    SPACING,
    STACK,
    add_attributes,
    as_matlab,
    write_hdf5,
    write_matlab,
    write_mrc,
    write_n5,
    write_n5_pyramid,
    write_precomputed,
)
from hypothesis import given
from hypothesis import strategies as st

from emsr.errors import InputError
from emsr.geometry.box import Box, whole
from emsr.volumes.source import open_volume
from emsr.volumes.volume import array_volume


@pytest.fixture(scope="module")
def everywhere(tmp_path_factory):
    """The same stack in every format, of other programs and of ours."""
    folder = tmp_path_factory.mktemp("everywhere")
    write_hdf5(folder / "many.h5", inside="em/raw")
    write_hdf5(folder / "many.h5", inside="other")
    write_n5(folder / "c.n5" / "em" / "raw")
    write_n5(folder / "c.n5" / "other")
    np.save(folder / "a.npy", STACK)
    tifffile.imwrite(folder / "a.tif", STACK, photometric="minisblack", compression="zlib")
    zarr.create_array(str(folder / "a.zarr"), data=STACK, chunks=(2, 8, 8))
    (folder / "slices").mkdir()
    for z, plane in enumerate(STACK):
        tifffile.imwrite(folder / "slices" / f"{z}.tif", plane, compression="zlib")
    addresses = [
        write_mrc(folder / "a.mrc"),
        write_hdf5(folder / "a.h5", element_size_um=[nm / 1e3 for nm in SPACING]),
        write_hdf5(folder / "five.hdf5", STACK[None, ..., None], chunks=(1, 2, 8, 8, 1)),
        f"{folder}/many.h5::/em/raw",
        write_matlab(folder / "a.mat", volume=as_matlab(STACK)),
        write_n5(folder / "a.n5"),
        f"{folder}/c.n5::/em/raw",
        folder / "c.n5" / "other",
        write_n5_pyramid(folder / "p.n5"),
        write_precomputed(folder / "precomputed"),
        *(folder / name for name in ("a.npy", "a.tif", "a.zarr", "slices")),
    ]
    return [open_volume(address) for address in addresses]


@given(data=st.data())
def test_any_box_of_any_format(everywhere, data):
    volume = data.draw(st.sampled_from(everywhere))
    pairs = [
        sorted(data.draw(st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True)))
        for n in SHAPE
    ]
    box = Box(tuple(a for a, _ in pairs), tuple(b for _, b in pairs))
    values = volume.read(box)
    np.testing.assert_array_equal(values, STACK[box.slices])
    assert values.dtype == volume.dtype == np.uint16
    assert values.flags.owndata
    assert values.flags.c_contiguous


def test_opened_again_by_name_spacing_and_level_it_is_the_same(everywhere, tmp_path):
    coarse = [
        open_volume(write_precomputed(tmp_path / "p"), level=1),
        open_volume(write_n5_pyramid(tmp_path / "a.n5"), (1.0, 2.0, 3.0), level=1),
    ]
    for volume in everywhere + coarse:
        again = open_volume(volume.name, volume.spacing_nm, volume.level)
        assert replace(again, notices=()) == replace(volume, notices=())
        box = whole(volume.shape)
        np.testing.assert_array_equal(again.read(box), volume.read(box))


def test_threads_may_read_at_once(everywhere):
    boxes = [Box((z, y, 0), (z + 2, y + 9, 31)) for z in range(4) for y in range(14)]
    with ThreadPoolExecutor(4) as pool:
        for volume in everywhere:
            for box, values in zip(boxes, pool.map(volume.read, boxes), strict=True):
                np.testing.assert_array_equal(values, STACK[box.slices])


COLOUR = np.zeros((20, 30, 3), np.uint8)
COLOURED = {
    "npy": lambda p: np.save(p / "a.npy", COLOUR) or p / "a.npy",
    "hdf5": lambda p: write_hdf5(p / "a.h5", COLOUR, chunks=None),
    "hdf5 with t": lambda p: write_hdf5(p / "a.h5", COLOUR[None], chunks=None),
    "zarr": lambda p: zarr.save_array(str(p / "a.zarr"), COLOUR) or p / "a.zarr",
    "mrc": lambda p: write_mrc(p / "a.mrc", COLOUR.astype(np.int16)),
    "n5": lambda p: write_n5(p / "a.n5", np.zeros((3, 4, 20, 30), np.uint8), (8, 8, 2, 1)),
    "precomputed": lambda p: write_precomputed(p / "a", (STACK,), channels=3),
    "tiff": lambda p: tifffile.imwrite(p / "a.tif", COLOUR, photometric="rgb") or p / "a.tif",
}


@pytest.mark.parametrize("name", COLOURED)
def test_a_colour_image_is_not_a_volume(tmp_path, name):
    with pytest.raises(InputError, match=r"channel|colour") as caught:
        open_volume(COLOURED[name](tmp_path))
    assert "\n" not in str(caught.value)


def test_three_voxels_along_x_are_a_colour_image_only_where_the_rest_is_large():
    assert array_volume(np.zeros((2, 9, 3), np.uint8), None, "small").shape == (2, 9, 3)
    with pytest.raises(InputError, match="3 channels"):
        array_volume(COLOUR, None, "colour")


@pytest.mark.parametrize("level", [1, -1])
def test_formats_without_pyramid_have_level_0_only(tmp_path, level):
    (tmp_path / "slices").mkdir()
    tifffile.imwrite(tmp_path / "slices" / "0.tif", STACK[0])
    tifffile.imwrite(tmp_path / "a.tif", STACK, photometric="minisblack")
    for address in (
        write_mrc(tmp_path / "a.mrc"),
        write_hdf5(tmp_path / "a.h5"),
        write_matlab(tmp_path / "a.mat", volume=as_matlab(STACK)),
        write_n5(tmp_path / "a.n5"),
        tmp_path / "slices",
        tmp_path / "a.tif",
    ):
        with pytest.raises(InputError, match=f"no level {level}"):
            open_volume(address, level=level)


@pytest.mark.parametrize("name", ["a.mrc.gz", "a.tif.bz2", "a.nii.xz"])
def test_packed_files_are_refused_by_name(tmp_path, name):
    (tmp_path / name).write_bytes(b"whatever")
    with pytest.raises(InputError, match="unpack it"):
        open_volume(tmp_path / name)


def test_a_place_inside_a_file_that_has_none(tmp_path):
    np.save(tmp_path / "a.npy", STACK)
    with pytest.raises(InputError, match="nothing inside"):
        open_volume(f"{tmp_path}/a.npy::/raw")
    with pytest.raises(InputError, match="no such folder"):
        open_volume(f"{write_n5(tmp_path / 'a.n5')}::/raw")


def python(*lines, **environment):
    code = "\n".join(lines)
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


HUGE = (512, 1024, 1024)


def _huge_mrc(path):
    write_mrc(path, np.zeros((1, 1, 1), np.float32))
    with path.open("r+b") as file:
        file.write(np.array(HUGE[::-1], "<i4").tobytes())
        file.truncate(1024 + 4 * int(np.prod(HUGE, dtype=np.int64)))


def _huge_hdf5(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("raw", HUGE, "f4", chunks=(16, 128, 128), compression="gzip")


def _huge_n5(path):
    write_n5(path, np.zeros((1, 1, 1), np.float32))
    add_attributes(path, dimensions=list(HUGE[::-1]), blockSize=[128, 128, 16])


@pytest.mark.parametrize("make", [_huge_mrc, _huge_hdf5, _huge_n5])
def test_memory_does_not_grow_with_the_volume(tmp_path, make):
    """Half a slice and a corner of a volume of 2 GB."""
    path = tmp_path / {_huge_mrc: "a.mrc", _huge_hdf5: "a.h5", _huge_n5: "a.n5"}[make]
    make(path)
    result = python(
        "from pathlib import Path",
        "from emsr.geometry.box import Box",
        "from emsr.volumes.source import open_volume",
        f"volume = open_volume({str(path)!r})",
        f"assert volume.shape == {HUGE}",
        "volume.read(Box((0, 0, 0), (1, 9, 9)))",
        # ru_maxrss would begin at that of the process that runs the tests.
        'status = Path("/proc/self/status")',
        'peak = lambda: int(status.read_text().split("VmHWM:")[1].split()[0])',
        "before = peak()",
        "volume.read(Box((300, 0, 0), (301, 512, 1024)))",
        "volume.read(Box((500, 1000, 1000), (512, 1024, 1024)))",
        "print(peak() - before)",
    )
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) < 80_000  # KiB


def test_readers_of_tiff_import_no_other_format(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", STACK, photometric="minisblack")
    others = "{'h5py', 'mrcfile', 'tensorstore', 's3fs', 'botocore', 'aiohttp'}"
    result = python(
        "import sys",
        "from emsr.volumes.source import open_volume",
        f"open_volume({str(tmp_path / 'a.tif')!r})",
        f"print(sorted({others} & set(sys.modules)))",
    )
    assert result.stdout.strip() == "[]", result.stderr


@pytest.mark.parametrize(
    ("module", "extra", "address"),
    [("tensorstore", "tensorstore", "{}/a.n5"), ("s3fs", "cloud", "s3://brain/a.zarr")],
)
def test_a_missing_extra_is_one_line_with_the_command(tmp_path, module, extra, address):
    write_n5(tmp_path / "a.n5")
    result = python(
        "import sys",
        f"sys.modules[{module!r}] = None  # what an absent package does to an import",
        "from emsr.errors import InputError",
        "from emsr.volumes.source import open_volume",
        "try:",
        f"    open_volume({address.format(tmp_path)!r})",
        "except InputError as error:",
        "    print(error)",
    )
    assert f"pip install 'emsr[{extra}]'" in result.stdout, result.stderr
    assert result.stdout.count("\n") == 1
