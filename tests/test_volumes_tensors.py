"""N5 and precomputed volumes: axes, spacing, levels, and what is refused."""

import json

import numpy as np
import pytest
import tensorstore
from formats import (
    SHAPE,
    SPACING,
    STACK,
    add_attributes,
    write_n5,
    write_n5_pyramid,
    write_precomputed,
)

from emsr.errors import InputError
from emsr.geometry.box import Box, whole
from emsr.volumes.source import open_volume

HALVED = STACK[:, ::2, ::2]
COARSE = (40.0, 12.0, 10.0)


def same(volume, stack):
    np.testing.assert_array_equal(volume.read(whole(volume.shape)), stack)
    return True


@pytest.mark.parametrize("write", [write_n5_pyramid, write_precomputed])
def test_levels(tmp_path, write):
    path = write(tmp_path / "a.n5")
    fine, coarse = open_volume(path), open_volume(path, level=1)
    assert (fine.spacing_nm, coarse.spacing_nm, coarse.level) == (SPACING, COARSE, 1)
    assert same(fine, STACK)
    assert same(coarse, HALVED)
    with pytest.raises(InputError, match=r"levels 0 \(6 x 23 x 31\), 1 \(6 x 12 x 16\)"):
        open_volume(path, level=2)


def test_a_precomputed_volume_that_begins_elsewhere_begins_at_zero(tmp_path):
    path = write_precomputed(tmp_path / "a")
    assert json.loads((path / "info").read_text())["scales"][0]["voxel_offset"] == [100, 0, 7]
    assert same(open_volume(path), STACK)


def test_an_n5_container_with_one_image_needs_no_path(tmp_path):
    write_n5(tmp_path / "a.n5" / "em" / "raw")
    assert open_volume(tmp_path / "a.n5").name == f"{tmp_path}/a.n5/em/raw"
    write_n5_pyramid(tmp_path / "a.n5" / "other")
    with pytest.raises(InputError, match=r"in it are: other, em/raw; give one"):
        open_volume(tmp_path / "a.n5")
    assert same(open_volume(f"{tmp_path}/a.n5::/other", level=1), HALVED)


def test_an_n5_image_of_two_axes_is_one_slice(tmp_path):
    assert same(open_volume(write_n5(tmp_path / "a.n5", STACK[0])), STACK[:1])


def test_n5_axes_beyond_x_y_z_of_length_one(tmp_path):
    volume = open_volume(write_n5(tmp_path / "a.n5", STACK[None], (8, 8, 2, 1)))
    assert same(volume, STACK)
    assert volume.chunk == (2, 8, 8)


UM = {"unit": "um", "dimensions": [0.005, 0.006, 0.04]}
RESOLUTIONS = {
    "none": ({}, None, ""),
    "with unit": ({"pixelResolution": UM}, SPACING, ""),
    "list": ({"pixelResolution": [5, 6, 40]}, SPACING, "without a unit: taken as nm"),
    "resolution": ({"resolution": [5.0, 6.0, 40.0]}, SPACING, "without a unit: taken as nm"),
    "zero": ({"resolution": [0, 0, 0]}, None, "not three positive"),
    "negative": ({"resolution": [5, -6, 40]}, None, "not three positive"),
    "no length": (
        {"pixelResolution": {"unit": "s", "dimensions": [5, 6, 40]}},
        None,
        "not three positive",
    ),
    "units": ({"resolution": [0.005, 0.006, 0.04], "units": ["um"] * 3}, SPACING, ""),
    "text": ({"pixelResolution": "5 nm"}, None, "not three positive"),
}


@pytest.mark.parametrize("case", RESOLUTIONS)
def test_n5_spacing_is_x_y_z_on_disk(tmp_path, case):
    attributes, spacing_nm, says = RESOLUTIONS[case]
    path = write_n5(tmp_path / "a.n5", **attributes)
    volume = open_volume(path)
    assert volume.spacing_nm == spacing_nm
    assert says in "".join(volume.notices)
    assert len(volume.notices) == bool(says)
    given = open_volume(path, (50.0, 6.0, 5.0))
    assert any("was given" in line for line in given.notices) == (spacing_nm is not None)


NM = {"unit": "nm", "dimensions": [5, 6, 40]}
SCALES = {
    "the group's, times factors": (NM, {}, {"downsamplingFactors": [2, 2, 1]}, COARSE),
    "each its own": (
        None,
        {"pixelResolution": NM},
        {"pixelResolution": {"unit": "nm", "dimensions": [10, 12, 40]}},
        COARSE,
    ),
    "the finest one's repeated, times factors": (
        None,
        {"pixelResolution": NM},
        {"pixelResolution": NM, "downsamplingFactors": [2, 2, 1]},
        COARSE,
    ),
    "the finest one's, times factors": (
        None,
        {"pixelResolution": NM},
        {"downsamplingFactors": [2, 2, 1]},
        COARSE,
    ),
    "no factors": (NM, {}, {}, None),
    "no spacing": (None, {}, {"downsamplingFactors": [2, 2, 1]}, None),
}


@pytest.mark.parametrize("case", SCALES)
def test_n5_spacing_of_a_coarser_scale(tmp_path, case):
    group, fine, coarse, spacing_nm = SCALES[case]
    path = tmp_path / "a.n5"
    write_n5(path / "s0", STACK, **fine)
    write_n5(path / "s1", HALVED, **coarse)
    add_attributes(path, **({"pixelResolution": group} if group else {}))
    assert open_volume(path, level=1).spacing_nm == spacing_nm
    if case == "no factors":
        assert "no downsamplingFactors" in open_volume(path, level=1).notices[0]
        add_attributes(path, scales=[[1, 1, 1], [2, 2, 1]])
        assert open_volume(path, level=1).spacing_nm == COARSE


def test_precomputed_resolution_that_is_none_is_said(tmp_path):
    path = write_precomputed(tmp_path / "a")
    info = json.loads((path / "info").read_text())
    info["scales"][0]["resolution"] = [5, 0, 40]
    (path / "info").write_text(json.dumps(info))
    volume = open_volume(path)
    assert volume.spacing_nm is None
    assert "not three positive lengths" in volume.notices[0]


def test_notes_called_info_do_not_make_slices_precomputed(tmp_path):
    np.save(tmp_path / "a.npy", STACK)
    (tmp_path / "info").write_text("microscope 3")
    with pytest.raises(InputError, match="holds no images"):
        open_volume(tmp_path)


def _n5(path, **attributes):
    write_n5(path)
    add_attributes(path, **attributes)
    return path


def _text(path, name, content):
    path.mkdir()
    (path / name).write_text(content)
    return path


def _info(path, **changed):
    write_precomputed(path, (STACK,))
    info = json.loads((path / "info").read_text()) | changed
    (path / "info").write_text(json.dumps(info))
    return path


BAD = {
    "no JSON": (lambda p: _text(p, "attributes.json", "{"), "attributes.json cannot be read"),
    "no image": (lambda p: _text(p, "attributes.json", '{"n5": "2.0.0"}'), "in it are: none"),
    "no type": (lambda p: _n5(p, dataType="colour"), "cannot be read as n5"),
    "compression": (lambda p: _n5(p, compression={"type": "lz77"}), "cannot be read as n5"),
    "dimensions": (lambda p: _n5(p, dimensions="large"), "dimensions large"),
    "one axis": (lambda p: _n5(p, dimensions=[9]), r"dimensions \[9\]: expected \(x, y\)"),
    "six axes": (lambda p: _n5(p, dimensions=[9] * 6), "expected"),
    "channels": (lambda p: write_n5(p, np.zeros((2, 3, 4, 5), "u1"), (2,) * 4), "one channel"),
    "labels": (lambda p: write_n5(p, STACK.astype(np.uint64)), "type uint64"),
    "empty": (lambda p: _n5(p, dimensions=[0, 3, 4]), "at least one voxel"),
    "info without JSON": (lambda p: _text(p, "info", "{"), "info cannot be read"),
    "info without scales": (lambda p: _text(p, "info", "{}"), "no scales"),
    "info of a mesh": (lambda p: _text(p, "info", '{"@type": "neuroglancer_mesh"}'), "no scales"),
    "three channels": (lambda p: _info(p, num_channels=3), "3 channels: expected one"),
    "no data type": (lambda p: _info(p, data_type="complex"), "cannot be read as neuroglancer"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_folders_are_said_in_one_line(tmp_path, case):
    make, says = BAD[case]
    path = make(tmp_path / "a.n5")
    with pytest.raises(InputError, match=says) as caught:
        open_volume(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("write", "chunk", "damage"),
    [
        (write_n5, "2/1/1", lambda b: b[: len(b) // 2]),
        (write_n5, "2/1/1", lambda b: b"\xff" * len(b)),
        (write_precomputed, "5_6_40/116-124_8-16_9-11", lambda b: b[:-1]),
    ],
)
def test_a_damaged_chunk_is_named(tmp_path, write, chunk, damage):
    path = write(tmp_path / "a.n5")
    (file,) = path.glob(chunk)
    file.write_bytes(damage(file.read_bytes()))
    volume = open_volume(path)
    np.testing.assert_array_equal(volume.read(Box((4, 0, 0), SHAPE)), STACK[4:])
    with pytest.raises(InputError, match=r"the chunk \(2, 8, 16\) to \(4, 16, 24\)") as caught:
        volume.read(whole(SHAPE))
    assert "\n" not in str(caught.value)
    assert "tensorstore_spec" not in str(caught.value)


def test_tensorstore_agrees_on_the_axes(tmp_path):
    """Read by tensorstore alone, in the order of its dimensions: x, y, z."""
    path = write_n5(tmp_path / "a.n5")
    kvstore = {"driver": "file", "path": f"{path}/"}
    array = tensorstore.open({"driver": "n5", "kvstore": kvstore}).result()
    assert open_volume(path).read(Box((5, 20, 30), (6, 21, 31))) == array[30, 20, 5].read().result()
