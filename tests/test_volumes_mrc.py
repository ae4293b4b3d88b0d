"""MRC: modes, byte order, spacing, old headers, and what is refused."""

import bz2
import gzip

import mrcfile
import numpy as np
import pytest
from formats import SHAPE, STACK, write_mrc

from emsr.errors import InputError
from emsr.geometry.box import whole
from emsr.volumes.source import open_volume

IMOD = 1146047817


def patched(path, offset, *integers, dtype="<i4"):
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(np.array(integers, dtype).tobytes())
    return path


@pytest.mark.parametrize("suffix", [".mrc", ".rec", ".st", ".map", ".mrcs"])
@pytest.mark.parametrize("dtype", ["int8", "int16", "uint16", "float16", "float32"])
def test_modes(tmp_path, suffix, dtype):
    stack = (STACK % 100).astype(dtype)
    volume = open_volume(write_mrc(tmp_path / f"a{suffix}", stack))
    assert (volume.shape, volume.dtype) == (SHAPE, dtype)
    assert volume.spacing_nm == (40.0, 6.0, 5.0)
    np.testing.assert_array_equal(volume.read(whole(SHAPE)), stack)


def test_a_single_image_is_one_slice(tmp_path):
    volume = open_volume(write_mrc(tmp_path / "a.mrc", STACK[0]))
    assert volume.shape == (1, *SHAPE[1:])


def test_big_endian_and_extended_header(tmp_path):
    with mrcfile.new(tmp_path / "a.mrc") as file:
        file.set_extended_header(np.zeros(100, "V1"))
        file.set_data(STACK.astype(">i2"))
    volume = open_volume(tmp_path / "a.mrc")
    np.testing.assert_array_equal(volume.read(whole(SHAPE)), STACK)
    assert volume.dtype.isnative


def test_a_header_without_map_or_machine_stamp_is_read(tmp_path):
    path = patched(write_mrc(tmp_path / "a.mrc"), 208, 0, 0)
    np.testing.assert_array_equal(open_volume(path).read(whole(SHAPE)), STACK)


BYTES = np.array([[[0, 1, 127], [-128, -1, 5]]], np.int8)


@pytest.mark.parametrize(
    ("flags", "limits", "dtype"),
    [
        ((IMOD, 0), (-128, 127), np.uint8),  # IMOD's flag has the last word
        ((IMOD, 1), (0, 255), np.int8),
        ((0, 0), (0, 255), np.uint8),
        ((0, 0), (-128, 127), np.int8),
    ],
)
def test_bytes_are_signed_or_not(tmp_path, flags, limits, dtype):
    path = patched(write_mrc(tmp_path / "a.mrc", BYTES), 152, *flags)
    volume = open_volume(patched(path, 76, *limits, dtype="<f4"))
    assert volume.dtype == dtype
    assert volume.notices == ()
    np.testing.assert_array_equal(volume.read(whole(volume.shape)), BYTES.view(dtype))


def test_bytes_that_do_not_say_are_signed_as_the_standard_has_it_and_that_is_said(tmp_path):
    path = patched(write_mrc(tmp_path / "a.mrc", BYTES), 76, 0, -1, dtype="<f4")
    volume = open_volume(path)
    assert volume.dtype == np.int8
    assert "whether its bytes are signed" in volume.notices[0]


@pytest.mark.parametrize("cell", [(0, 0, 0), (-10, -10, -10), (float("nan"),) * 3])
def test_a_cell_that_is_not_positive_is_unknown_spacing_and_said(tmp_path, cell):
    path = patched(write_mrc(tmp_path / "a.mrc"), 40, *cell, dtype="<f4")
    volume = open_volume(path)
    assert volume.spacing_nm is None
    assert "states no voxel size" in volume.notices[0]
    given = open_volume(path, (40.0, 6.0, 5.0))
    assert (given.spacing_nm, given.notices) == ((40.0, 6.0, 5.0), ())


def test_spacing_is_cell_by_grid_not_by_columns(tmp_path):
    path = patched(write_mrc(tmp_path / "a.mrc"), 28, 62, 46, 12)  # twice as many
    assert open_volume(path).spacing_nm == (20.0, 3.0, 2.5)
    assert open_volume(patched(path, 28, 0, 0, 0)).spacing_nm is None


def test_one_angstrom_is_doubted(tmp_path):
    volume = open_volume(write_mrc(tmp_path / "a.mrc", spacing_nm=(0.1, 0.1, 0.1)))
    assert volume.spacing_nm == (0.1, 0.1, 0.1)
    assert "1 Å" in volume.notices[0]


def test_given_spacing_overrides_and_says_so(tmp_path):
    volume = open_volume(write_mrc(tmp_path / "a.mrc"), (50.0, 6.0, 5.0))
    assert volume.spacing_nm == (50.0, 6.0, 5.0)
    assert "was given" in volume.notices[0]


def _cut(path, size):
    path.write_bytes(path.read_bytes()[:size])
    return path


def _bytes(path, content):
    path.write_bytes(content)
    return path


def _stack_of_volumes(path):
    with mrcfile.new(path) as file:
        file.set_data(np.zeros((2, 3, 4, 5), np.int16))
    return path


HALF = 1024 + 23 * 31 * 2 * 2 + 7  # within the third slice
BAD = {
    "empty": (lambda p: _bytes(p, b""), "cannot be read as MRC"),
    "text": (lambda p: _bytes(p, b"hello " * 500), "cannot be read as"),
    "zeros": (lambda p: _bytes(p, bytes(2000)), "0 x 0 x 0 voxels"),
    "cut header": (lambda p: _cut(write_mrc(p), 500), "cannot be read as MRC"),
    "cut data": (lambda p: _cut(write_mrc(p), HALF), "of 6 slices it holds 2, slice 2 is cut"),
    "complex": (lambda p: write_mrc(p, STACK.astype(np.complex64)), r"mode 4 \(complex\)"),
    "colour mode": (lambda p: patched(write_mrc(p), 12, 16), r"mode 16 \(colour\)"),
    "no such mode": (lambda p: patched(write_mrc(p), 12, 77), "mode 77"),
    "volume stack": (_stack_of_volumes, "a stack of 2 volumes"),
    "other axes": (lambda p: patched(write_mrc(p), 64, 3, 2, 1), r"order \(3, 2, 1\)"),
    "gzip": (lambda p: _bytes(p, gzip.compress(b"x" * 2000)), "packed with gzip"),
    "bzip2": (lambda p: _bytes(p, bz2.compress(b"x" * 2000)), "packed with bzip2"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_said_in_one_line(tmp_path, case):
    make, says = BAD[case]
    path = make(tmp_path / "a.mrc")
    with pytest.raises(InputError, match=says) as caught:
        open_volume(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
