"""HDF5: which data set, which axes, which spacing; damaged and unsuitable files."""

import json

import h5py
import numpy as np
import pytest
from formats import SHAPE, STACK, write_hdf5

from emsr.errors import InputError
from emsr.geometry.box import Box, whole
from emsr.volumes.source import open_volume


def test_the_only_image_needs_no_name(tmp_path):
    path = write_hdf5(tmp_path / "a.h5", inside="em/raw")
    with h5py.File(path, "a") as file:
        file["version"] = 3
        file["offsets"] = np.arange(5)
    volume = open_volume(path)
    assert volume.name == f"{path}::/em/raw"
    assert volume.chunk == (2, 8, 8)
    for name in ("::/em/raw", "::em/raw", "::/em/raw/"):
        assert open_volume(f"{path}{name}").name == volume.name


def test_several_images_are_listed(tmp_path):
    path = write_hdf5(tmp_path / "a.h5", inside="em/raw")
    write_hdf5(path, STACK[:2], inside="labels")
    with pytest.raises(InputError, match=r"/em/raw \(6, 23, 31\), /labels \(2, 23, 31\): name the"):
        open_volume(path)
    with pytest.raises(InputError, match=r"no data set nope: it holds /em/raw"):
        open_volume(f"{path}::/nope")
    with pytest.raises(InputError, match=r"no data set em: it holds /em/raw"):
        open_volume(f"{path}::/em")
    assert open_volume(f"{path}::/labels").shape == (2, 23, 31)


@pytest.mark.parametrize("lead", [(1,), (1, 1), ()])
@pytest.mark.parametrize("trail", [(1,), ()])
def test_axes_of_length_one_are_left_out(tmp_path, lead, trail):
    path = write_hdf5(tmp_path / "a.h5", STACK.reshape(lead + SHAPE + trail), chunks=None)
    volume = open_volume(path)
    box = Box((1, 2, 3), (4, 20, 30))
    np.testing.assert_array_equal(volume.read(box), STACK[box.slices])


def test_an_image_is_one_slice(tmp_path):
    path = write_hdf5(tmp_path / "a.h5", STACK[0], chunks=(8, 8), element_size_um=[0.006, 0.005])
    volume = open_volume(path)
    assert (volume.shape, volume.chunk) == ((1, 23, 31), (1, 8, 8))
    assert volume.spacing_nm == (6.0, 6.0, 5.0)
    np.testing.assert_array_equal(volume.read(whole(volume.shape))[0], STACK[0])


def _tags(names):
    return json.dumps({"axes": [{"key": name, "typeFlags": 2} for name in names]})


@pytest.mark.parametrize("names", ["zyx", "xyz", "txyzc", "tzyxc", "cyzx"])
def test_axes_as_ilastik_names_them(tmp_path, names):
    spatial = [axis for axis in names if axis in "zyx"]
    stack = STACK.transpose(["zyx".index(axis) for axis in spatial])
    shape = [SHAPE["zyx".index(a)] if a in "zyx" else 1 for a in names]
    path = write_hdf5(tmp_path / "a.h5", stack.reshape(shape), chunks=None, axistags=_tags(names))
    volume = open_volume(path)
    box = Box((1, 2, 3), (4, 20, 30))
    np.testing.assert_array_equal(volume.read(box), STACK[box.slices])


def test_channels_as_ilastik_names_them_are_refused(tmp_path):
    stack = np.zeros((3, 20, 30), np.uint8)
    path = write_hdf5(tmp_path / "a.h5", stack, chunks=None, axistags=_tags("cyx"))
    with pytest.raises(InputError, match=r"axes c, y, x of shape \(3, 20, 30\)"):
        open_volume(path)


NM = (40.0, 6.0, 5.0)
SPACINGS = {
    "none": ({}, None, ""),
    "element size": ({"element_size_um": [0.04, 0.006, 0.005]}, NM, ""),
    "with unit": ({"resolution": [40, 6, 5], "unit": "nm"}, NM, ""),
    "in µm": ({"spacing": [0.04, 0.006, 0.005], "units": "µm"}, NM, ""),
    "without unit": ({"resolution": [40, 6, 5]}, None, "without a unit"),
    "unit of time": ({"resolution": [40, 6, 5], "unit": "s"}, None, "without a unit"),
    "both": ({"element_size_um": [0.04, 0.006, 0.005], "resolution": [4, 4, 4]}, NM, ""),
    "zero": ({"element_size_um": [0, 0, 0]}, None, "not three positive"),
    "negative": ({"element_size_um": [0.04, -0.006, 0.005]}, None, "not three positive"),
    "one number": ({"element_size_um": 0.005}, None, "not three positive"),
    "text": ({"element_size_um": "5 nm"}, None, "not three positive"),
    "contradictory": (
        {"element_size_um": [0.04, 0.006, 0.005], "spacing": [40, 5, 5], "unit": "nm"},
        None,
        "contradictory",
    ),
}


@pytest.mark.parametrize("case", SPACINGS)
def test_spacing(tmp_path, case):
    attributes, spacing_nm, says = SPACINGS[case]
    path = write_hdf5(tmp_path / "a.h5", **attributes)
    volume = open_volume(path)
    assert volume.spacing_nm == spacing_nm
    assert len(volume.notices) == bool(says)
    assert says in "".join(volume.notices)
    given = open_volume(path, (50.0, 6.0, 5.0))
    assert given.spacing_nm == (50.0, 6.0, 5.0)
    assert any("was given" in line for line in given.notices) == (spacing_nm is not None)


def _text(path):
    path.write_bytes(b"hello" * 500)
    return path


def _truncated(path):
    write_hdf5(path)
    path.write_bytes(path.read_bytes()[:-200])
    return path


def _dataset(path, **options):
    with h5py.File(path, "w") as file:
        file.create_dataset("raw", **options)
    return path


def _no_dataset(path):
    with h5py.File(path, "w") as file:
        file.create_group("em")
    return path


def _dangling(path):
    with h5py.File(path, "w") as file:
        file["raw"] = h5py.ExternalLink("gone.h5", "/raw")
    return f"{path}::/raw"


BAD = {
    "not HDF5": (_text, "no such signature"),
    "empty file": (lambda p: p.write_bytes(b"") or _text(p), "no such signature"),
    "truncated": (_truncated, "truncated"),
    "no data set": (_no_dataset, "no data set"),
    "link to nowhere": (_dangling, "no data set raw"),
    "1-D": (lambda p: _dataset(p, data=np.arange(9)), r"shape \(9,\)"),
    "scalar": (lambda p: _dataset(p, data=3), r"shape \(\)"),
    "4-D": (lambda p: _dataset(p, data=np.zeros((2, 3, 4, 5))), r"shape \(2, 3, 4, 5\)"),
    "empty": (lambda p: _dataset(p, shape=(0, 4, 5), dtype="u1"), "is empty"),
    "null": (lambda p: _dataset(p, data=h5py.Empty("f4")), "is empty"),
    "complex": (lambda p: _dataset(p, data=np.ones((3, 4, 5), "c8")), "type complex64"),
    "bool": (lambda p: _dataset(p, data=np.ones((3, 4, 5), bool)), "type bool"),
    "int64": (lambda p: _dataset(p, data=np.ones((3, 4, 5), "i8")), "type int64"),
    "strings": (lambda p: _dataset(p, data=[["a", "b"], ["c", "d"]]), "type object"),
    "compound": (lambda p: _dataset(p, data=np.ones((3, 4), "u1,f4")), r"compound \(f0, f1\)"),
    "blosc": (
        lambda p: _dataset(
            p, shape=(4, 4), dtype="u1", chunks=True, compression=32001, allow_unknown_filter=True
        ),
        "HDF5 filter 32001, which is not built in: pip install hdf5plugin",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_said_in_one_line(tmp_path, case):
    make, says = BAD[case]
    path = make(tmp_path / "a.h5")
    with pytest.raises(InputError, match=says) as caught:
        open_volume(path)
    assert "\n" not in str(caught.value)
    assert "a.h5" in str(caught.value)


def test_a_corrupt_chunk_is_named(tmp_path):
    path = write_hdf5(tmp_path / "a.h5")
    with h5py.File(path) as file:
        chunk = next(
            info
            for number in range(file["raw"].id.get_num_chunks())
            if (info := file["raw"].id.get_chunk_info(number)).chunk_offset == (2, 8, 16)
        )
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + chunk.size] = b"\xff" * chunk.size
    path.write_bytes(content)
    volume = open_volume(path)
    np.testing.assert_array_equal(volume.read(Box((0, 0, 0), (2, 23, 31))), STACK[:2])
    with pytest.raises(InputError, match=r"the chunk \(2, 8, 16\) to \(4, 16, 24\)"):
        volume.read(whole(SHAPE))
