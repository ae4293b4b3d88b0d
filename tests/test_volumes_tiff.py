"""TIFF in and out: placement, spacing, determinism, truncation, and what is not a volume."""

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from emsr.errors import InputError
from emsr.geometry.box import Box, whole
from emsr.volumes.source import open_volume
from emsr.volumes.tiff import software_of, write_tiff, write_tiff_tiles

SHAPE = (3, 37, 53)


def coordinates(shape=SHAPE, dtype=np.uint16):
    """Every voxel holds its own index, so a misplaced one is seen by its value."""
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def boxes(shape=SHAPE):
    def interval(n):
        pair = st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True)
        return pair.map(sorted)

    three = st.tuples(*(interval(n) for n in shape))
    return three.map(lambda t: Box(tuple(a for a, _ in t), tuple(b for _, b in t)))


LAYOUTS = {
    "plain": {},
    "zlib strips": {"compression": "zlib", "rowsperstrip": 8},
    "lzw, one strip a page": {"compression": "lzw", "metadata": None},
    "tiles": {"tile": (16, 32), "compression": "zlib"},
    "predictor": {"compression": "zlib", "predictor": True},
    "bigtiff": {"bigtiff": True, "metadata": None},
    "big endian": {"byteorder": ">", "metadata": None},
    "big endian, compressed": {"byteorder": ">", "compression": "zlib"},
    "imagej": {"imagej": True, "metadata": {"axes": "ZYX"}},
    "ome": {"ome": True, "metadata": {"axes": "ZYX"}},
    "ome with t and c of one": {"ome": True, "metadata": {"axes": "ZYX"}, "compression": "zlib"},
}


@pytest.fixture(scope="module")
def layouts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("layouts")
    for number, options in enumerate(LAYOUTS.values()):
        array = coordinates()
        tifffile.imwrite(folder / f"{number}.tif", array, photometric="minisblack", **options)
    return [open_volume(folder / f"{number}.tif") for number in range(len(LAYOUTS))]


@given(box=boxes(), layout=st.integers(0, len(LAYOUTS) - 1))
def test_any_box_of_any_layout(layouts, box, layout):
    values = layouts[layout].read(box)
    np.testing.assert_array_equal(values, coordinates()[box.slices])
    assert values.dtype == np.uint16
    assert values.dtype.isnative
    assert values.flags.owndata


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("compress", [False, True])
def test_written_planes_come_back(tmp_path, dtype, compress):
    array = coordinates(dtype=dtype)
    write_tiff(tmp_path / "a.tif", iter(array), SHAPE, dtype, (40.0, 5.9, 6.1), compress)
    volume = open_volume(tmp_path / "a.tif")
    assert (volume.shape, volume.spacing_nm, volume.dtype) == (SHAPE, (40.0, 5.9, 6.1), dtype)
    np.testing.assert_array_equal(volume.read(whole(SHAPE)), array)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), array)


def test_ome_metadata_as_another_reader_sees_it(tmp_path):
    write_tiff(tmp_path / "a.tif", coordinates(), SHAPE, np.uint16, (30.0, 4.0, 5.0))
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        assert tif.is_ome
        assert tif.series[0].axes == "ZYX"
        pixels = tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]["Pixels"]
    assert [pixels[f"PhysicalSize{a}"] for a in "ZYX"] == [30.0, 4.0, 5.0]
    assert {pixels[f"PhysicalSize{a}Unit"] for a in "ZYX"} == {"nm"}


@given(spacing=st.tuples(*[st.floats(1e-3, 1e6)] * 3))
def test_spacing_survives_exactly(tmp_path_factory, spacing):
    path = tmp_path_factory.getbasetemp() / "spacing.tif"
    write_tiff(path, np.zeros((1, 2, 2), np.uint8), (1, 2, 2), np.uint8, spacing)
    assert open_volume(path).spacing_nm == spacing


def test_unknown_spacing_stays_unknown(tmp_path):
    write_tiff(tmp_path / "a.tif", coordinates(), SHAPE, np.uint16, None)
    assert open_volume(tmp_path / "a.tif").spacing_nm is None


def test_same_planes_same_bytes(tmp_path):
    for name in ("a.tif", "b.tif"):
        write_tiff(tmp_path / name, iter(coordinates()), SHAPE, np.uint16, (1.0, 1.0, 1.0), True)
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()


def test_tiles_with_remainders(tmp_path):
    array = coordinates()
    tiles = (
        array[z, y : y + 16, x : x + 16]
        for z in range(SHAPE[0])
        for y in range(0, SHAPE[1], 16)
        for x in range(0, SHAPE[2], 16)
    )
    write_tiff_tiles(tmp_path / "a.tif", tiles, SHAPE, np.uint16, None, (16, 16))
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), array)


@pytest.mark.parametrize(
    "planes",
    [
        lambda a: a[:-1],
        lambda a: [*a, a[0]],
        lambda a: a.astype(np.float32),
        lambda a: a[:, 1:],
        lambda a: (plane if z else 1 / 0 for z, plane in enumerate(a)),
    ],
)
@pytest.mark.parametrize("compress", [False, True])
def test_a_failed_write_leaves_nothing(tmp_path, planes, compress):
    target = tmp_path / "a.tif"
    with pytest.raises((ValueError, ZeroDivisionError)):
        write_tiff(target, planes(coordinates()), SHAPE, np.uint16, None, compress)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_keeps_the_file_that_was_there(tmp_path):
    target = tmp_path / "a.tif"
    write_tiff(target, coordinates(), SHAPE, np.uint16, None)
    before = target.read_bytes()
    with pytest.raises(ValueError, match="expected 3"):
        write_tiff(target, coordinates()[:2], SHAPE, np.uint16, None)
    assert target.read_bytes() == before


def test_what_made_a_file(tmp_path):
    path = tmp_path / "a.tif"
    write_tiff(path, coordinates(), SHAPE, np.uint16, None, software="emsr run 0123abcd")
    assert software_of(path) == "emsr run 0123abcd"
    tifffile.imwrite(path, coordinates()[0], software=False)
    assert software_of(path) is None
    for content in (b"", b"hello", b"II*\0" + bytes(20)):
        path.write_bytes(content)
        assert software_of(path) is None
    assert software_of(tmp_path / "missing.tif") is None


@pytest.mark.parametrize("shape", [(1, 5, 7), (4, 1, 7), (4, 5, 1), (1, 1, 1)])
@pytest.mark.parametrize("compress", [False, True])
def test_axes_of_length_one(tmp_path, shape, compress):
    write_tiff(tmp_path / "a.tif", coordinates(shape), shape, np.uint16, None, compress)
    volume = open_volume(tmp_path / "a.tif")
    assert volume.shape == shape
    np.testing.assert_array_equal(volume.read(whole(shape)), coordinates(shape))


def test_unwritable_place(tmp_path):
    with pytest.raises(InputError, match="cannot be written"):
        write_tiff(tmp_path / "no" / "a.tif", coordinates(), SHAPE, np.uint16, None)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_truncated_anywhere_is_an_input_error(tmp_path, layout):
    whole_file = tmp_path / "whole.tif"
    tifffile.imwrite(whole_file, coordinates(), photometric="minisblack", **LAYOUTS[layout])
    content = whole_file.read_bytes()
    cut = tmp_path / "cut.tif"
    # the last bytes may be tags of the last page that nobody needs
    for size in [0, 3, 8, 20, *range(100, len(content) - 60, len(content) // 23)]:
        cut.write_bytes(content[:size])
        with pytest.raises(InputError):
            open_volume(cut).read(whole(SHAPE))


@pytest.mark.parametrize("compress", [False, True])
def test_our_own_tiff_truncated_by_a_little(tmp_path, compress):
    write_tiff(tmp_path / "a.tif", coordinates(), SHAPE, np.uint16, (40.0, 5.0, 5.0), compress)
    content = (tmp_path / "a.tif").read_bytes()
    for missing in (1, 2, 10, 100, 500):
        (tmp_path / "a.tif").write_bytes(content[:-missing])
        with pytest.raises(InputError, match="truncated"):
            open_volume(tmp_path / "a.tif")


def test_damaged_strip_is_an_input_error_at_read(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, coordinates(), photometric="minisblack", compression="zlib")
    with tifffile.TiffFile(path) as tif:
        offset = tif.pages[1].dataoffsets[0]
    content = bytearray(path.read_bytes())
    content[offset : offset + 40] = bytes(40)
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        open_volume(path).read(whole(SHAPE))


@pytest.mark.parametrize(
    ("shape", "options", "found"),
    [
        ((20, 30, 3), {"photometric": "rgb"}, "S 3"),
        ((20, 30, 4), {"photometric": "rgb", "extrasamples": ["unassalpha"]}, "S 4"),
        ((2, 3, 20, 30), {"ome": True, "metadata": {"axes": "CZYX"}}, "C 2"),
        ((2, 3, 20, 30), {"ome": True, "metadata": {"axes": "TZYX"}}, "T 2"),
        ((4, 20, 30), {"imagej": True, "metadata": {"axes": "TYX"}}, "T 4"),
        ((2, 3, 20, 30), {}, "Q 2, Q 3"),
    ],
)
def test_not_one_grey_channel(tmp_path, shape, options, found):
    options = {"photometric": "minisblack"} | options
    tifffile.imwrite(tmp_path / "a.tif", np.zeros(shape, np.uint8), **options)
    with pytest.raises(InputError, match=found):
        open_volume(tmp_path / "a.tif")


def test_two_series_are_refused(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(np.zeros((20, 30), np.uint8), metadata=None)
        tif.write(np.zeros((10, 30), np.uint8), metadata=None)
    with pytest.raises(InputError, match="2 images"):
        open_volume(tmp_path / "a.tif")


@pytest.mark.parametrize("dtype", ["bool", "complex64", "uint64"])
def test_types_without_grey_meaning(tmp_path, dtype):
    tifffile.imwrite(tmp_path / "a.tif", np.ones((20, 30), dtype))
    with pytest.raises(InputError, match=dtype):
        open_volume(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("unit", "factor"), [("nm", 1.0), ("µm", 1e3), ("micron", 1e3), ("mm", 1e6), ("Å", 0.1)]
)
def test_ome_and_imagej_units(tmp_path, unit, factor):
    sizes = {"Z": 4.0, "Y": 0.5, "X": 0.25}
    expected = tuple(pytest.approx(v * factor, rel=1e-6) for v in sizes.values())
    if unit != "micron":
        ome = {"axes": "ZYX"} | {f"PhysicalSize{a}": v for a, v in sizes.items()}
        ome |= {f"PhysicalSize{a}Unit": unit for a in sizes}
        tifffile.imwrite(tmp_path / "ome.tif", coordinates(), ome=True, metadata=ome)
        assert open_volume(tmp_path / "ome.tif").spacing_nm == expected
    if unit.isascii():
        tifffile.imwrite(
            tmp_path / "ij.tif",
            coordinates(),
            imagej=True,
            resolution=(4.0, 2.0),
            metadata={"axes": "ZYX", "spacing": 4.0, "unit": unit},
        )
        assert open_volume(tmp_path / "ij.tif").spacing_nm == expected


@pytest.mark.parametrize("metadata", [{"spacing": 4.0}, {"unit": "pixel", "spacing": 4.0}, {}])
def test_spacing_without_unit_is_not_invented(tmp_path, metadata):
    tifffile.imwrite(
        tmp_path / "a.tif",
        coordinates(),
        imagej=True,
        resolution=(4.0, 2.0),
        metadata={"axes": "ZYX"} | metadata,
    )
    assert open_volume(tmp_path / "a.tif").spacing_nm is None


def test_dots_per_inch_are_not_a_spacing(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif", coordinates()[0], resolution=(72, 72), resolutionunit="INCH"
    )
    assert open_volume(tmp_path / "a.tif").spacing_nm is None


def test_missing_z_spacing(tmp_path):
    ome = {f"PhysicalSize{a}": 5.0 for a in "YX"} | {f"PhysicalSize{a}Unit": "nm" for a in "YX"}
    tifffile.imwrite(
        tmp_path / "stack.tif", coordinates(), ome=True, metadata={"axes": "ZYX"} | ome
    )
    tifffile.imwrite(
        tmp_path / "slice.tif", coordinates()[0], ome=True, metadata={"axes": "YX"} | ome
    )
    stack, one = open_volume(tmp_path / "stack.tif"), open_volume(tmp_path / "slice.tif")
    assert stack.spacing_nm is None
    assert "none of z" in stack.notices[0]
    assert one.spacing_nm == (5.0, 5.0, 5.0)
    assert "no z spacing" in one.notices[0]


def test_numbers_of_colours_are_no_grey_values(tmp_path):
    path, ramp = tmp_path / "palette.tif", np.linspace(0, 65535, 256).astype(np.uint16)
    image = np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)
    tifffile.imwrite(
        path, image, photometric="palette", colormap=np.stack([ramp, ramp[::-1], ramp])
    )
    with pytest.raises(InputError, match="palette"):
        open_volume(path)
    tifffile.imwrite(path, image, photometric="palette", colormap=np.stack([ramp] * 3))
    assert (open_volume(path).read(Box((0, 0, 0), (1, 64, 64)))[0] == image).all()


@pytest.mark.parametrize(
    ("stored", "chunk"),
    [
        ({"compression": "zlib", "rowsperstrip": 16}, (1, 16, 80)),
        ({"compression": "zlib", "tile": (32, 48)}, (1, 32, 48)),
        ({}, None),
    ],
)
def test_what_is_stored_in_one_piece(tmp_path, stored, chunk):
    stack = np.random.default_rng(0).integers(0, 256, (3, 64, 80), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack", **stored)
    volume = open_volume(tmp_path / "a.tif")
    assert volume.chunk == chunk
    assert np.array_equal(volume.read(whole(volume.shape)), stack)
