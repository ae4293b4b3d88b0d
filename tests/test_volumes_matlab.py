"""MATLAB v7.3: A(y, x, z) as MATLAB shows it; and what is no grey volume."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
from formats import SHAPE, STACK, as_matlab, write_hdf5, write_matlab

from emsr.errors import InputError
from emsr.geometry.box import Box, whole
from emsr.volumes.source import open_volume

BY_MATLAB = Path(scipy.io.__file__).parent / "matlab" / "tests" / "data"
needs_files = pytest.mark.skipif(
    not BY_MATLAB.is_dir(), reason="scipy came without the files that MATLAB wrote for its tests"
)


def test_rows_are_y_columns_x_pages_z(tmp_path):
    path = write_matlab(tmp_path / "a.mat", A=as_matlab(STACK))
    with h5py.File(path) as file:
        assert file["A"].shape == (6, 31, 23)  # the file has z, x, y: MATLAB's y, x, z reversed
        assert file["A"].attrs["MATLAB_class"] == b"uint16"
    assert path.read_bytes().startswith(b"MATLAB 7.3 MAT-file")
    volume = open_volume(path)
    assert (volume.shape, volume.spacing_nm, volume.name) == (SHAPE, None, f"{path}::/A")
    assert volume.read(Box((4, 20, 7), (5, 21, 8))) == as_matlab(STACK)[20, 7, 4]
    np.testing.assert_array_equal(volume.read(whole(SHAPE)), STACK)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32", "float64"])
def test_classes(tmp_path, dtype):
    stack = (STACK % 100).astype(dtype)
    volume = open_volume(write_matlab(tmp_path / "a.mat", A=as_matlab(stack)))
    assert volume.dtype == dtype
    np.testing.assert_array_equal(volume.read(whole(SHAPE)), stack)


def test_an_image_and_a_stack_with_one_channel(tmp_path):
    image = open_volume(write_matlab(tmp_path / "a.mat", A=STACK[0]))
    np.testing.assert_array_equal(image.read(whole(image.shape)), STACK[:1])
    channel = as_matlab(STACK)[:, :, None, :]
    volume = open_volume(write_matlab(tmp_path / "b.mat", A=channel))
    np.testing.assert_array_equal(volume.read(whole(SHAPE)), STACK)


def test_chunked_and_compressed_as_matlab_does(tmp_path):
    """By h5py, with MATLAB's user block and its attribute."""
    path = tmp_path / "a.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        dataset = file.create_dataset(
            "A", data=STACK.transpose(0, 2, 1), chunks=(1, 16, 8), compression="gzip"
        )
        dataset.attrs["MATLAB_class"] = np.bytes_("uint16")
        file.create_group("#refs#")["a"] = STACK
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(116) + bytes(8) + b"\x00\x02IM")
    volume = open_volume(path)
    assert volume.chunk == (1, 8, 16)
    np.testing.assert_array_equal(volume.read(whole(SHAPE)), STACK)


@needs_files
def test_a_file_that_matlab_wrote():
    """MATLAB shows testdouble as 1 x 9."""
    volume = open_volume(BY_MATLAB / "testhdf5_7.4_GLNX86.mat")
    assert volume.shape == (1, 1, 9)
    np.testing.assert_allclose(volume.read(whole(volume.shape))[0, 0], np.arange(9) * np.pi / 4)


@needs_files
@pytest.mark.parametrize("name", ["test3dmatrix_7.4_GLNX86.mat", "test3dmatrix_6.1_SOL2.mat"])
def test_older_files_that_matlab_wrote_are_refused(name):
    with pytest.raises(InputError, match=r"save\(..., '-v7.3'\)"):
        open_volume(BY_MATLAB / name)


def test_several_variables_are_listed(tmp_path):
    path = write_matlab(tmp_path / "a.mat", em=as_matlab(STACK), mask=as_matlab(STACK), n=3.0)
    with pytest.raises(InputError, match=r"holds /em .*, /mask .*: name the one to read"):
        open_volume(path)
    assert open_volume(f"{path}::em").shape == SHAPE


def test_three_pages_are_slices_and_that_is_said(tmp_path):
    volume = open_volume(write_matlab(tmp_path / "a.mat", A=as_matlab(STACK[:3])))
    assert volume.shape == (3, 23, 31)
    assert "a colour image is not a volume" in volume.notices[0]


def _five(path):
    scipy.io.savemat(path, {"A": as_matlab(STACK)})
    return path


def _text(path):
    path.write_bytes(b"hello" * 500)
    return path


def _truncated(path):
    write_matlab(path, A=as_matlab(STACK))
    path.write_bytes(path.read_bytes()[:-900])
    return path


BAD = {
    "older": (_five, "older than v7.3"),
    "text": (_text, "no such signature"),
    "truncated": (_truncated, "cannot be read"),
    "logical": (lambda p: write_matlab(p, A=STACK > 3), "class logical"),
    "char": (lambda p: write_matlab(p, A="some words"), "class char"),
    "complex": (lambda p: write_matlab(p, A=STACK * 1j), "compound|complex"),
    "empty": (lambda p: write_matlab(p, A=np.zeros((0, 4, 5))), "is empty"),
    "4-D": (lambda p: write_matlab(p, A=np.zeros((5, 4, 3, 2))), "size 5 x 4 x 3 x 2"),
    "1-D": (lambda p: write_hdf5(p, STACK[0, 0], chunks=None), "size 31: expected"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_said_in_one_line(tmp_path, case):
    make, says = BAD[case]
    path = make(tmp_path / "a.mat")
    with pytest.raises(InputError, match=says) as caught:
        volume = open_volume(path)
        volume.read(whole(volume.shape))
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
