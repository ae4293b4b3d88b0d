"""open_volume: every format gives the same grey values by box; bad input is said in one line."""

import json
import shutil

import imagecodecs
import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given
from hypothesis import strategies as st

from emsr.errors import InputError
from emsr.geometry.box import Box, whole
from emsr.volumes.slices import natural_key
from emsr.volumes.source import array_volume, iterate_slices, open_volume
from emsr.volumes.spacing import to_nm

SHAPE = (4, 23, 31)
STACK = np.arange(np.prod(SHAPE), dtype=np.uint16).reshape(SHAPE)


def write_png(path, image):
    path.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(image)))


def write_slices(folder, stack, suffix, pattern="z{:d}"):
    folder.mkdir()
    for z, plane in enumerate(stack, start=8):  # z8 ... z11: text order is not the order of z
        path = folder / (pattern.format(z) + suffix)
        if suffix == ".png":
            write_png(path, plane)
        else:
            tifffile.imwrite(path, plane, compression="zlib")


def write_ome_zarr(path, version, stack, axes="zyx", unit="micrometer", scale=(0.04, 0.005, 0.005)):
    zarr_format = 2 if version == "0.4" else 3
    lead = len(axes) - 3
    group = zarr.create_group(str(path), zarr_format=zarr_format)
    datasets = []
    for level, array in enumerate((stack, stack[:, ::2, ::2])):
        full = array.reshape((1,) * lead + array.shape)
        chunks = (1,) * lead + (2, 8, 8)
        group.create_array(str(level), data=full, chunks=chunks)
        factor = np.array([1] * (lead + 1) + [2**level] * 2)
        steps = (np.array((1,) * lead + scale) * factor).tolist()
        datasets.append(
            {"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": steps}]}
        )
    units = {"unit": unit} if unit else {}
    image = {
        "version": version,
        "axes": [{"name": a, "type": "space"} | (units if a in "zyx" else {}) for a in axes],
        "datasets": datasets,
    }
    if version == "0.4":
        group.attrs["multiscales"] = [image]
    else:
        del image["version"]
        group.attrs["ome"] = {"version": version, "multiscales": [image]}


@pytest.fixture(scope="module")
def everywhere(tmp_path_factory):
    """The same stack in every format that is read."""
    folder = tmp_path_factory.mktemp("formats")
    tifffile.imwrite(folder / "stack.tif", STACK, compression="zlib", photometric="minisblack")
    np.save(folder / "c.npy", STACK)
    np.save(folder / "fortran.npy", np.asfortranarray(STACK))
    np.save(folder / "swapped.npy", STACK.astype(">u2"))
    write_slices(folder / "png", STACK, ".png")
    write_slices(folder / "tif", STACK, ".tif")
    for zarr_format in (2, 3):
        zarr.save_array(str(folder / f"bare{zarr_format}.zarr"), STACK, zarr_format=zarr_format)
    for version in ("0.4", "0.5"):
        write_ome_zarr(folder / f"{version}.ome.zarr", version, STACK)
        write_ome_zarr(folder / f"{version}.five.zarr", version, STACK, axes="tczyx")
    volumes = [open_volume(path) for path in sorted(folder.iterdir())]
    assert len(volumes) == 12
    return [*volumes, array_volume(STACK, None, "memory")]


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
    assert values.dtype.isnative
    assert values.flags.owndata
    assert values.flags.writeable


def test_slices_in_order(everywhere):
    for volume in everywhere:
        assert volume.shape == SHAPE
        np.testing.assert_array_equal(np.stack(list(iterate_slices(volume))), STACK)


@pytest.mark.parametrize("start", [(-1, 0, 0), (0, 0, 0)])
def test_a_box_outside_is_our_mistake(start):
    with pytest.raises(ValueError, match="not inside"):
        array_volume(STACK, None, "memory").read(Box(start, (5, 2, 2)))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".npy"])
def test_single_images_are_one_slice(tmp_path, suffix):
    path = tmp_path / f"image{suffix}"
    {".png": write_png, ".tif": tifffile.imwrite, ".npy": np.save}[suffix](path, STACK[1])
    volume = open_volume(path)
    assert (volume.shape, volume.spacing_nm) == ((1, *SHAPE[1:]), None)
    np.testing.assert_array_equal(volume.read(whole(volume.shape))[0], STACK[1])


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr_levels_and_spacing(tmp_path, version):
    write_ome_zarr(tmp_path / "a.zarr", version, STACK, axes="tczyx")
    assert open_volume(tmp_path / "a.zarr").spacing_nm == (40.0, 5.0, 5.0)
    coarse = open_volume(tmp_path / "a.zarr", level=1)
    assert (coarse.spacing_nm, coarse.shape) == ((40.0, 10.0, 10.0), (4, 12, 16))
    np.testing.assert_array_equal(coarse.read(whole(coarse.shape)), STACK[:, ::2, ::2])
    with pytest.raises(InputError, match=r"levels 0 \(4 x 23 x 31\), 1 \(4 x 12 x 16\)"):
        open_volume(tmp_path / "a.zarr", level=2)


def test_scale_of_the_whole_image_multiplies(tmp_path):
    write_ome_zarr(tmp_path / "a.zarr", "0.5", STACK, unit="nanometer", scale=(4.0, 1.0, 1.0))
    group = zarr.open_group(str(tmp_path / "a.zarr"))
    ome = group.attrs["ome"]
    ome["multiscales"][0]["coordinateTransformations"] = [
        {"type": "scale", "scale": [10.0, 5.0, 5.0]}
    ]
    group.attrs["ome"] = ome
    assert open_volume(tmp_path / "a.zarr").spacing_nm == (40.0, 5.0, 5.0)


def test_ome_zarr_without_unit_has_no_spacing(tmp_path):
    write_ome_zarr(tmp_path / "a.zarr", "0.5", STACK, unit=None)
    assert open_volume(tmp_path / "a.zarr").spacing_nm is None


def edited(path, change):
    """An OME-Zarr whose image metadata was changed by hand."""
    write_ome_zarr(path, "0.5", STACK)
    group = zarr.open_group(str(path))
    ome = group.attrs["ome"]
    change(ome["multiscales"][0])
    group.attrs["ome"] = ome
    return path


def test_ome_zarr_without_scale_has_no_spacing_and_says_so(tmp_path):
    def without(image):
        for dataset in image["datasets"]:
            dataset.pop("coordinateTransformations", None)

    volume = open_volume(edited(tmp_path / "a.zarr", without))
    assert volume.spacing_nm is None
    assert "states no scale" in volume.notices[0]


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image["datasets"][0].update(coordinateTransformations="scale"),
        lambda image: image["datasets"][0].update(coordinateTransformations=[{"type": "scale", "scale": 3}]),
        lambda image: image["datasets"][0].update(coordinateTransformations=[{"type": "scale", "scale": ["a", "b", "c"]}]),
        lambda image: image["datasets"][0].update(path=7),
        lambda image: image["datasets"][0].update(path="../a"),
        lambda image: image["axes"][0].update(unit=4),
        lambda image: image["axes"][0].update(name=["z"]),
        lambda image: image.update(axes="zyx"),
    ],
)  # fmt: skip
def test_damaged_ome_zarr_metadata_is_one_line(tmp_path, change):
    with pytest.raises(InputError) as raised:
        open_volume(edited(tmp_path / "a.zarr", change))
    assert "\n" not in str(raised.value)


def test_given_spacing_overrides_and_a_contradiction_is_said(tmp_path):
    write_ome_zarr(tmp_path / "a.zarr", "0.5", STACK)
    same = open_volume(tmp_path / "a.zarr", spacing_nm=(40.0, 5.0, 5.0))
    other = open_volume(tmp_path / "a.zarr", spacing_nm=(30.0, 6.0, 6.0))
    assert same.notices == ()
    assert other.spacing_nm == (30.0, 6.0, 6.0)
    assert "40.0" in other.notices[0]


@pytest.mark.parametrize("spacing", [(0, 1, 1), (1, -1, 1), (1, 1, float("nan"))])
def test_impossible_spacing(tmp_path, spacing):
    np.save(tmp_path / "a.npy", STACK)
    with pytest.raises(InputError, match="three positive numbers"):
        open_volume(tmp_path / "a.npy", spacing_nm=spacing)


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (0.0059, "µm", 5.9),
        (0.0059, "μm", 5.9),
        (4, "nanometer", 4.0),
        (12, "Å", 1.2),
        (3, "pixel", None),
        (3, None, None),
        (0, "nm", None),
        (-1, "nm", None),
        (float("inf"), "nm", None),
        (None, "nm", None),
    ],
)
def test_units(value, unit, expected):
    assert to_nm(value, unit) == expected


def test_numbers_missing_from_a_folder_are_said(tmp_path):
    write_slices(tmp_path / "s", np.repeat(STACK[:1], 12, axis=0), ".png", "r2_z{:03d}_a")
    for number in (9, 12, 13, 14):
        (tmp_path / "s" / f"r2_z{number:03d}_a.png").unlink()
    volume = open_volume(tmp_path / "s")
    assert volume.shape[0] == 8
    assert volume.notices[0].endswith("9, 12-14")


def test_every_second_slice_is_no_loss(tmp_path):
    write_slices(tmp_path / "s", np.repeat(STACK[:1], 9, axis=0), ".png")
    for number in range(9, 17, 2):
        (tmp_path / "s" / f"z{number}.png").unlink()
    assert open_volume(tmp_path / "s").notices == ()


def test_natural_order():
    names = ["z10.png", "Z9.png", "z1.png", "a2b10.png", "a2b9.png"]
    assert sorted(names, key=natural_key) == [
        "a2b9.png",
        "a2b10.png",
        "z1.png",
        "Z9.png",
        "z10.png",
    ]


def test_other_files_in_a_folder_of_slices_are_ignored(tmp_path):
    write_slices(tmp_path / "s", STACK, ".png")
    (tmp_path / "s" / "notes.json").write_text("{}")
    (tmp_path / "s" / "._z8.png").write_bytes(b"resource fork")
    assert open_volume(tmp_path / "s").shape == SHAPE


def test_folder_spacing_comes_from_tiff_slices_that_state_all_axes(tmp_path):
    (tmp_path / "s").mkdir()
    for z, plane in enumerate(STACK):
        sizes = {f"PhysicalSize{a}": v for a, v in zip("ZYX", (40.0, 5.0, 5.0), strict=True)}
        units = {f"PhysicalSize{a}Unit": "nm" for a in "ZYX"}
        metadata = {"axes": "YX"} | sizes | units
        tifffile.imwrite(tmp_path / "s" / f"{z}.tif", plane, ome=True, metadata=metadata)
    assert open_volume(tmp_path / "s").spacing_nm == (40.0, 5.0, 5.0)


def test_opaque_alpha_is_left_out_and_said(tmp_path):
    image = np.stack([STACK[0].astype(np.uint8), np.full(SHAPE[1:], 255, np.uint8)], axis=-1)
    write_png(tmp_path / "a.png", image)
    volume = open_volume(tmp_path / "a.png")
    np.testing.assert_array_equal(volume.read(whole(volume.shape))[0], image[..., 0])
    assert "alpha" in volume.notices[0]
    image[3, 4, 1] = 254
    write_png(tmp_path / "a.png", image)
    with pytest.raises(InputError, match="transparency"):
        open_volume(tmp_path / "a.png")


def _folder(path, *images):
    path.mkdir()
    for number, image in enumerate(images):
        write_png(path / f"{number}.png", image)
    return path


def _empty(path):
    path.mkdir()
    return path


def _file(path, content=b""):
    path.write_bytes(content)
    return path


def _npy(path, array):
    np.save(path, array, allow_pickle=array.dtype == object)
    return path


def _png(path, image):
    write_png(path, image)
    return path


def _truncated_png(path):
    write_png(path, STACK[0])
    path.write_bytes(path.read_bytes()[:-30])
    return path


def _truncated_npy(path):
    np.save(path, STACK)
    path.write_bytes(path.read_bytes()[:-30])
    return path


def _stack_in_folder(path):
    path.mkdir()
    tifffile.imwrite(path / "a.tif", STACK, photometric="minisblack")
    return path


def _zarr(path, array):
    zarr.save_array(str(path), array)
    return path


def _group(path, attributes):
    group = zarr.create_group(str(path), attributes=attributes)
    group.create_array("raw", data=STACK)
    return path


def _wrong_axes(path, axes):
    write_ome_zarr(path, "0.5", STACK)
    metadata = json.loads((path / "zarr.json").read_text())
    named = [{"name": a, "type": "space"} for a in axes]
    metadata["attributes"]["ome"]["multiscales"][0]["axes"] = named
    (path / "zarr.json").write_text(json.dumps(metadata))
    return path


def _no_level(path):
    write_ome_zarr(path, "0.5", STACK)
    shutil.rmtree(path / "0")
    return path


ONE = np.zeros((8, 9), np.uint8)
BAD = {
    "missing": (lambda p: p / "no.tif", "no such file"),
    "empty folder": (lambda p: _empty(p / "d"), "holds no images"),
    "empty .zarr folder": (lambda p: _empty(p / "d.zarr"), "not a Zarr folder"),
    "unknown suffix": (lambda p: _file(p / "a.jpg"), "suffix .jpg: expected TIFF, PNG"),
    "no suffix": (lambda p: _file(p / "a"), "none"),
    "empty tiff": (lambda p: _file(p / "a.tif"), "cannot be read as TIFF"),
    "not a tiff": (lambda p: _file(p / "a.tif", b"hello" * 50), "cannot be read as TIFF"),
    "not a png": (lambda p: _file(p / "a.png", b"hello" * 50), "not a PNG"),
    "rgb png": (lambda p: _png(p / "a.png", np.zeros((8, 9, 3), np.uint8)), "RGB, 8 x 9"),
    "rgba png": (lambda p: _png(p / "a.png", np.zeros((8, 9, 4), np.uint8)), "RGBA"),
    "truncated png": (lambda p: _truncated_png(p / "a.png"), "damaged"),
    "unequal slices": (
        lambda p: _folder(p / "d", ONE, ONE, ONE[1:]),
        r"0.png is \(8, 9\).*2.png is \(7, 9\)",
    ),
    "unequal types": (lambda p: _folder(p / "d", ONE, ONE.astype(np.uint16)), "uint16"),
    "stack in a folder": (lambda p: _stack_in_folder(p / "d"), "holds 4 planes"),
    "1-D": (lambda p: _npy(p / "a.npy", STACK[0, 0]), "shape .31,."),
    "4-D": (lambda p: _npy(p / "a.npy", STACK[None]), "expected axes"),
    "empty array": (lambda p: _npy(p / "a.npy", STACK[:0]), "at least one voxel"),
    "bool": (lambda p: _npy(p / "a.npy", STACK > 3), "type bool"),
    "complex": (lambda p: _npy(p / "a.npy", STACK * 1j), "type complex128"),
    "pickled": (lambda p: _npy(p / "a.npy", np.array([[{}]], dtype=object)), "cannot be read"),
    "truncated npy": (lambda p: _truncated_npy(p / "a.npy"), "cannot be read as NPY"),
    "4-D zarr": (lambda p: _zarr(p / "a.zarr", STACK[None, None][:, [0, 0]]), "shape"),
    "bool zarr": (lambda p: _zarr(p / "a.zarr", STACK > 3), "type bool"),
    "group without image": (lambda p: _group(p / "a.zarr", {}), "holds .'raw'.: give one"),
    "broken group": (lambda p: _group(p / "a.zarr", {"ome": {"multiscales": []}}), "without the"),
    "0.3 axes": (
        lambda p: _group(
            p / "a.zarr",
            {"multiscales": [{"axes": ["z", "y", "x"], "datasets": [{"path": "raw"}]}]},
        ),
        "0.4 or 0.5",
    ),
    "axes out of order": (lambda p: _wrong_axes(p / "a.zarr", "xyz"), "axes x, y, z"),
    "too few axes": (lambda p: _wrong_axes(p / "a.zarr", "yx"), "axes y, x of shape"),
    "level that is gone": (lambda p: _no_level(p / "a.zarr"), "names an array 0"),
    "broken json": (
        lambda p: _file(_empty(p / "a.zarr") / "zarr.json", b"{").parent,
        "cannot be read as Zarr",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_said_in_one_line(tmp_path, case):
    make, says = BAD[case]
    path = make(tmp_path)
    with pytest.raises(InputError, match=says) as caught:
        volume = open_volume(path)
        volume.read(whole(volume.shape))
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message


def test_levels_are_for_pyramids(tmp_path):
    np.save(tmp_path / "a.npy", STACK)
    zarr.save_array(str(tmp_path / "a.zarr"), STACK)
    for name in ("a.npy", "a.zarr"):
        with pytest.raises(InputError, match="no level 1"):
            open_volume(tmp_path / name, level=1)


@pytest.mark.real_data
def test_real_images_open(real_data):
    fly = open_volume(real_data / "fibsem-fly-10nm" / "medulla_z000-219.tif")
    assert (fly.shape, fly.spacing_nm) == ((220, 520, 520), (10.0, 10.0, 10.0))
    sbem = open_volume(real_data / "sbem-neural-noisy" / "z020-039.tif")
    assert sbem.spacing_nm == (40.0, 5.9, 5.9)
    box = Box((3, 500, 700), (5, 620, 900))
    stack = tifffile.imread(real_data / "sbem-neural-noisy" / "z020-039.tif")
    np.testing.assert_array_equal(sbem.read(box), stack[box.slices])
    noisy = open_volume(real_data / "sem-brain-fast-slow" / "very_noisy_patches_7x7.tif")
    assert (noisy.shape, noisy.dtype, noisy.spacing_nm) == ((49, 256, 256), np.uint16, None)
    with_alpha = open_volume(real_data / "sem-rat-white-matter" / "sub-rat6_sample-data15_SEM.png")
    assert with_alpha.shape == (1, 744, 1154)
    assert "alpha" in with_alpha.notices[0]
    with pytest.raises(InputError, match="slices differ"):
        open_volume(real_data / "sem-rat-white-matter")
    for image in (real_data / "sem-rat-white-matter").glob("*.png"):
        volume = open_volume(image)
        assert volume.read(whole(volume.shape)).std() > 5


@pytest.mark.parametrize(
    "content", [b"\x93NUMPY\x01\x00\x10\x00{'descr': (((((((\n", b"PK\x05\x06" + 18 * b"\0"]
)
def test_what_is_no_npy_is_one_line(tmp_path, content):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(InputError, match="cannot be read as NPY"):
        open_volume(tmp_path / "a.npy")
