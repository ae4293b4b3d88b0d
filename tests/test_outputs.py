"""What comes out: one file of other formats from a store, read back by others; dtype and greys."""

import resource
import shutil
import subprocess
import sys
import time

import h5py
import mrcfile
import numpy as np
import pytest
import tifffile
import yaozarrs
import zarr
from route import done, emsr
from test_volumes_omezarr import create, fill
from volumes_to_upscale import LR_NM, TILE_COUNT, command, run, tree

from emsr.errors import InputError
from emsr.geometry.box import Box, whole
from emsr.jobs.form import Form
from emsr.jobs.listener import Listener
from emsr.network.checkpoint import Header, save_model
from emsr.network.named import build
from emsr.volumes import tiff
from emsr.volumes.flatten import flatten, refuse_dtype, software_of
from emsr.volumes.mrc_write import write_mrc
from emsr.volumes.source import open_volume

SPACING = (20.0, 5.9, 5.0)
SHAPE = (5, 70, 90)
MADE_BY = "emsr run " + "0123456789abcdef" * 4 + " of " + "fedcba9876543210" * 4
FULL = (0.0, 255.0)
FLAT = ["sr.tif", "sr.mrc", "sr.h5", "sr.hdf5"]
DTYPES = ("uint8", "int8", "uint16", "int16", "float16", "float32")


def stack_of(dtype, shape=SHAPE):
    rng = np.random.default_rng(0)
    if np.dtype(dtype).kind == "f":
        return (1000 * rng.standard_normal(shape)).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)


def store_of(path, stack, spacing_nm=SPACING):
    return fill(create(path, stack, spacing_nm), stack)


def read(path):
    volume = open_volume(path)
    return volume.read(whole(volume.shape))


def with_mrcfile(path):
    with mrcfile.open(path) as file:
        # its own check of float16 overflows
        assert file.data.dtype == np.float16 or mrcfile.validate(path)
        z, y, x = (float(file.voxel_size[axis]) / 10 for axis in "zyx")
        return file.data.copy(), (z, y, x)


def with_h5py(path):
    with h5py.File(path) as file:
        dataset = file["volume"]
        assert dataset.compression == "gzip" and dataset.chunks == (1, 16, 16)
        return dataset[()], tuple(1000 * dataset.attrs["element_size_um"])


def with_tifffile(path):
    with tifffile.TiffFile(path) as tif:
        pixels = tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]["Pixels"]
        return tif.asarray(), tuple(pixels[f"PhysicalSize{axis}"] for axis in "ZYX")


OTHERS = {".mrc": with_mrcfile, ".h5": with_h5py, ".hdf5": with_h5py, ".tif": with_tifffile}


@pytest.mark.parametrize("name", FLAT)
@pytest.mark.parametrize("dtype", DTYPES)
def test_values_and_spacing_as_others_and_we_read_them(tmp_path, name, dtype):
    out = tmp_path / name
    if (name, dtype) == ("sr.tif", "float16"):
        with pytest.raises(InputError, match="TIFF cannot hold float16"):
            refuse_dtype(out, dtype)
        return
    stack = stack_of(dtype)
    flatten(store_of(tmp_path / "sr.ome.zarr", stack), out, 32, MADE_BY)
    volume = open_volume(out)
    held = "uint16" if (name, dtype) == ("sr.mrc", "uint8") else dtype
    assert (volume.shape, volume.dtype, volume.notices) == (SHAPE, held, ())
    assert volume.spacing_nm == pytest.approx(SPACING, rel=1e-6)
    np.testing.assert_array_equal(read(out), stack)
    values, spacing_nm = OTHERS[out.suffix](out)
    assert values.dtype == held
    np.testing.assert_array_equal(values, stack)
    assert spacing_nm == pytest.approx(SPACING, rel=1e-6)
    assert software_of(out) == MADE_BY
    said = refuse_dtype(out, dtype)
    assert (said is None) == (held == dtype)


def test_equal_volumes_are_equal_bytes(tmp_path):
    store = store_of(tmp_path / "sr.ome.zarr", stack_of("uint8"))
    written = []
    for _ in "12":
        for name in FLAT:
            flatten(store, tmp_path / name, 32, MADE_BY)
        written.append({name: (tmp_path / name).read_bytes() for name in FLAT})
        time.sleep(1.1)  # time stamps have seconds
    assert written[0] == written[1]


@pytest.mark.parametrize("name", FLAT)
def test_one_slice_of_unknown_spacing(tmp_path, name):
    stack = stack_of("uint16", (1, 33, 40))
    flatten(store_of(tmp_path / "sr.ome.zarr", stack, None), tmp_path / name, 32, MADE_BY)
    assert open_volume(tmp_path / name).spacing_nm is None
    np.testing.assert_array_equal(read(tmp_path / name), stack)


@pytest.mark.parametrize("name", ["sr.mrc", "sr.h5"])
def test_an_unfinished_store_gives_nothing(tmp_path, name):
    store = create(tmp_path / "sr.ome.zarr")
    with pytest.raises(InputError, match="unfinished"):
        flatten(store, tmp_path / name, 32, MADE_BY)
    assert [p.name for p in tmp_path.iterdir()] == ["sr.ome.zarr"]


@pytest.mark.parametrize("name", FLAT)
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, name):
    store = store_of(tmp_path / "sr.ome.zarr", stack_of("uint16"))
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limit[1]))
    try:
        with pytest.raises(InputError, match=r"cannot be written: .*(large|write)"):
            flatten(store, tmp_path / name, 32, MADE_BY)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert [p.name for p in tmp_path.iterdir()] == ["sr.ome.zarr"]


@pytest.mark.parametrize("name", FLAT)
def test_software_of_what_is_damaged_or_not_ours(tmp_path, name):
    path = tmp_path / name
    assert software_of(path) is None
    flatten(store_of(tmp_path / "sr.ome.zarr", stack_of("uint8")), path, 32, MADE_BY)
    written = path.read_bytes()
    for damaged in (b"", b"no image" * 200, written[: len(written) // 3]):
        path.write_bytes(damaged)
        assert software_of(path) is None
    if path.suffix == ".mrc":
        path.unlink()
        mrcfile.write(path, np.zeros((2, 2), np.int8))
    elif path.suffix == ".tif":
        tifffile.imwrite(path, np.zeros((2, 2), np.int8))
    else:
        with h5py.File(path, "w") as file:
            file["volume"] = np.zeros((2, 2), np.int8)
    assert not (software_of(path) or "").startswith("emsr")


@pytest.mark.parametrize("dtype", ["int32", "uint32", "float64"])
def test_mrc_refuses_what_it_cannot_hold(tmp_path, dtype):
    with pytest.raises(InputError, match=rf"MRC cannot hold {dtype}.*--dtype"):
        refuse_dtype(tmp_path / "sr.mrc", dtype)
    assert refuse_dtype(tmp_path / "sr.h5", dtype) is None
    with pytest.raises(InputError, match="MRC cannot hold"):
        write_mrc(tmp_path / "sr.mrc", [], (1, 1, 1), dtype, None)
    assert list(tmp_path.iterdir()) == []


def test_bytes_below_zero_carry_imods_mark(tmp_path):
    """IMOD takes mode 0 without it for unsigned bytes."""
    parts = [(whole((1, 2, 2)), np.full((1, 2, 2), -7, np.int8))]
    write_mrc(tmp_path / "a.mrc", parts, (1, 2, 2), "int8", SPACING)
    assert np.frombuffer((tmp_path / "a.mrc").read_bytes()[152:160], "<i4").tolist() == [
        1146047817,
        1,
    ]
    assert read(tmp_path / "a.mrc").tolist() == [[[-7, -7], [-7, -7]]]


@pytest.mark.parametrize("width", [0x8B1F, 0x5A42])
def test_a_width_that_looks_like_gzip_or_bzip2(tmp_path, width):
    shape = (1, 1, width)
    write_mrc(tmp_path / "a.mrc", [(whole(shape), np.ones(shape, np.int8))], shape, "int8", None)
    assert open_volume(tmp_path / "a.mrc").shape == shape


def test_mrc_beyond_four_gigabytes(tmp_path):
    """Sparse: only the last voxels are given."""
    shape = (5, 40_000, 30_000)
    last = Box((4, 39_999, 29_996), shape)
    write_mrc(
        tmp_path / "a.mrc",
        [(last, np.arange(4, dtype=np.int8)[None, None])],
        shape,
        "int8",
        SPACING,
    )
    assert read_box(tmp_path / "a.mrc", last).tolist() == [[[0, 1, 2, 3]]]
    with mrcfile.mmap(tmp_path / "a.mrc", permissive=True) as file:
        assert file.data[4, -1, -4:].tolist() == [0, 1, 2, 3]
    (tmp_path / "a.mrc").unlink()


def read_box(path, box):
    return open_volume(path).read(box)


def test_tiles_that_are_stored_whole_count_for_bigtiff(tmp_path, monkeypatch):
    """17 x 17 voxels take four tiles of 16 x 16: 3.5 times the bytes of the values."""
    shape, tile = (4, 17, 17), (16, 16)
    monkeypatch.setattr(tiff, "_CLASSIC_LIMIT_BYTES", 4 * 4 * 16 * 16)
    assert 4 * 17 * 17 < 4 * 4 * 16 * 16
    tiles = [
        np.full((min(16, 17 - y), min(16, 17 - x)), 9, np.uint8)
        for _ in range(4)
        for y in (0, 16)
        for x in (0, 16)
    ]
    tiff.write_tiff_tiles(tmp_path / "a.tif", tiles, shape, "uint8", SPACING, tile)
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        assert tif.is_bigtiff
    assert (read(tmp_path / "a.tif") == 9).all()
    monkeypatch.setattr(tiff, "_CLASSIC_LIMIT_BYTES", 10**5)
    tiff.write_tiff_tiles(tmp_path / "b.tif", tiles, shape, "uint8", SPACING, tile)
    with tifffile.TiffFile(tmp_path / "b.tif") as tif:
        assert not tif.is_bigtiff


@pytest.mark.parametrize("name", ["sr.mrc", "sr.h5"])
def test_memory_does_not_grow_with_the_volume(tmp_path, name):
    """A volume of 128 MB in shards of 1 MB, in a process whose memory is watched."""
    program = f"""
import numpy as np
from pathlib import Path
from emsr.geometry.box import blocks, whole
from emsr.volumes import flatten, hdf5_write, mrc_write
from emsr.files import replacing
import h5py, mrcfile.dtypes
shape = (32, 2048, 2048)
parts = ((box, np.full(box.shape, 5, np.uint8)) for box in blocks(shape, (4, 512, 512)))
def peak():  # ru_maxrss would begin at that of the process that runs the tests
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
before = peak()
if {name.endswith("h5")}:
    hdf5_write.write_hdf5({str(tmp_path / name)!r}, parts, shape, "uint8", None, (4, 256, 256))
else:
    mrc_write.write_mrc({str(tmp_path / name)!r}, parts, shape, "uint8", None)
print(peak() - before)
"""
    grown = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert int(grown.stdout) < 48 * 1024  # kB
    assert open_volume(tmp_path / name).read(Box((31, 2047, 2047), (32, 2048, 2048))) == 5


# In a run


def heard_by(**settings):
    """The summary of a run, and what it said; all progress must have come to its end."""
    heard, counts = [], {}

    def progress(what, done, count, note):
        counts[what] = (done, count)

    said = run(**settings, listener=Listener(progress, heard.append))
    assert all(done == count for done, count in counts.values())
    made_a_file = any(what.startswith("write ") for what in counts)
    assert made_a_file == (said["tiles_done"] > 0 and settings["out"].suffix != ".zarr")
    return said, heard


@pytest.mark.parametrize("name", FLAT)
def test_a_run_to_one_file_is_that_to_a_store(rig, plain, tmp_path, name):
    out = tmp_path / name
    said, heard = heard_by(rig=rig, out=out)
    assert (said["tiles_done"], said["finished"]) == (TILE_COUNT, True)
    assert [p.name for p in tmp_path.iterdir()] == [name]
    store = rig / "plain" / "sr.ome.zarr"
    np.testing.assert_array_equal(read(out), read(store))
    assert open_volume(out).spacing_nm == pytest.approx(open_volume(store).spacing_nm, rel=1e-6)
    assert [line for line in heard if "uint16" in line] == ([heard[0]] if name == "sr.mrc" else [])
    again, heard = heard_by(rig=rig, out=out)
    assert again["tiles_done"] == 0
    assert heard[-1] == f"{out} is finished; nothing to do"
    with pytest.raises(InputError, match="--overwrite"):
        run(rig, out, form=Form(dtype="float32"))


@pytest.mark.parametrize("name", ["sr.mrc", "sr.h5"])
def test_a_run_that_was_killed_before_its_file_was_made(rig, tmp_path, name):
    """What lies there then: a finished store, and a file half written under another name."""
    run(rig, tmp_path / name)
    expected = (tmp_path / name).read_bytes()
    (tmp_path / name).unlink()
    shutil.copytree(rig / "plain" / "sr.ome.zarr", tmp_path / f".{name}.unfinished.ome.zarr")
    (tmp_path / f".{name}.partial").write_bytes(expected[:5000])
    assert run(rig, tmp_path / name)["tiles_done"] == 0
    assert tree(tmp_path / name) == {".": expected}


def test_the_store_as_others_read_it(rig):
    import tensorstore

    store = rig / "plain" / "sr.ome.zarr"
    yaozarrs.validate_zarr_store(str(store))
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{store / '0'}/"}}
    theirs = tensorstore.open(spec).result().read().result()
    np.testing.assert_array_equal(theirs, read(store))
    np.testing.assert_array_equal(zarr.open_array(str(store / "0"), mode="r")[:], theirs)


@pytest.fixture(scope="module")
def bicubic(tmp_path_factory):
    """Makes model files of a network whose output has its input's units."""
    folder = tmp_path_factory.mktemp("bicubic")

    def make(lr_window=FULL, hr_window=FULL, dtype="uint8"):
        header = Header("bicubic", {}, 3, lr_window, hr_window, dtype, LR_NM, None)
        save_model(folder / "model.safetensors", build("bicubic", 3, {}), header)
        return folder

    return make


def upscaled(folder, lr, tmp_path, form, name="sr.ome.zarr", **settings):
    """SR grey values of an LR array, how many were clipped, and what was said."""
    np.save(tmp_path / "lr.npy", lr)
    out = tmp_path / name
    said, heard = heard_by(
        rig=folder, out=out, lr=tmp_path / "lr.npy", form=form, overwrite=True, **settings
    )
    return read(out), said["clipped_fraction"], heard


def test_another_dtype_stores_the_same_greys(bicubic, tmp_path):
    folder = bicubic(FULL, (1000.0, 1255.0), "uint16")
    lr = stack_of("uint8", (1, 32, 32))
    plain, _, _ = upscaled(folder, lr, tmp_path, Form())
    wide, _, _ = upscaled(folder, lr, tmp_path, Form(dtype="float32"))
    assert (plain.dtype, wide.dtype) == (np.uint16, np.float32)
    np.testing.assert_allclose(wide, plain, atol=0.501, rtol=0)
    assert wide.min() < 1000 and wide.max() > 1255  # what a window names is no limit


def test_a_narrower_dtype_saturates_and_counts(bicubic, tmp_path):
    folder = bicubic(FULL, (-50.0, 300.0), "int16")
    lr = stack_of("uint8", (1, 32, 32))
    plain, none, _ = upscaled(folder, lr, tmp_path, Form())
    narrow, clipped, heard = upscaled(folder, lr, tmp_path, Form(dtype="uint8"))
    np.testing.assert_array_equal(narrow, np.clip(plain, 0, 255))
    assert none == 0
    assert clipped == np.mean((plain < 0) | (plain > 255)) > 0.02
    assert any("beyond the range of uint8" in line for line in heard)


def test_keep_range_has_the_greys_and_dtype_of_the_input(bicubic, tmp_path):
    folder = bicubic((100.0, 4100.0), FULL, "uint8")
    lr = np.full((2, 32, 32), 2100, np.uint16)
    lr[:, 16:] = 900
    plain, _, _ = upscaled(folder, lr, tmp_path, Form())
    kept, _, _ = upscaled(folder, lr, tmp_path, Form(keep_range=True))
    assert (plain.dtype, kept.dtype) == (np.uint8, np.uint16)
    assert plain[0, [0, -1], 0].tolist() == [128, 51]  # (2100 - 100) / 4000 and 800 / 4000 of 255
    assert kept[0, [0, -1], 0].tolist() == [2100, 900]
    wide, _, _ = upscaled(folder, lr, tmp_path, Form("float32", keep_range=True))
    assert wide.dtype == np.float32
    np.testing.assert_allclose(wide[0, [0, -1], 0], [2100, 900], atol=1e-3)


def test_keep_range_of_a_resampled_input(bicubic, tmp_path):
    """Resampled values are float32 on their way; the output has the dtype of the file."""
    folder = bicubic(FULL, (0.0, 1.0), "float32")
    lr = np.full((1, 32, 32), 77, np.uint8)
    form = Form(keep_range=True, resample=True)
    kept, _, _ = upscaled(folder, lr, tmp_path, form, spacing_nm=(50.0, 40.0, 30.0))
    assert kept.dtype == np.uint8 and kept.shape == (1, 129, 96)
    assert (kept == 77).all()


@pytest.mark.parametrize(
    ("windows", "form", "name", "says"),
    [
        ((FULL, (300.0, 40000.0), "uint16"), Form("uint8"), "sr.ome.zarr", "300 to 40000"),
        ((FULL, (0.0, 1.0), "float32"), Form("uint8"), "sr.ome.zarr", "float32"),
        (((0.0, 1.0), FULL, "uint8"), Form(keep_range=True), "sr.ome.zarr", "float32"),
        ((FULL, FULL, "int32"), Form(), "sr.mrc", "MRC cannot hold int32"),
        ((FULL, FULL, "float16"), Form(), "sr.tif", "TIFF cannot hold float16"),
        ((FULL, FULL, "uint8"), Form(), "sr.hdf", r"\.h5"),
    ],
)
def test_refused_before_anything_is_computed(bicubic, tmp_path, windows, form, name, says):
    with pytest.raises(InputError, match=says):
        upscaled(bicubic(*windows), stack_of("uint8", (1, 32, 32)), tmp_path, form, name)
    assert [p.name for p in tmp_path.iterdir()] == ["lr.npy"]


def test_form_belongs_to_the_identity_of_a_run(bicubic, tmp_path):
    folder = bicubic((0.0, 510.0), FULL, "uint8")
    np.save(tmp_path / "lr.npy", stack_of("uint8", (1, 32, 32)))
    files = {"rig": folder, "out": tmp_path / "sr.h5", "lr": tmp_path / "lr.npy"}
    run(**files)
    assert run(**files, form=Form("uint8"))["tiles_done"] == 0  # as it is without saying
    for form in (Form("uint16"), Form(keep_range=True)):
        with pytest.raises(InputError, match="not this run's"):
            run(**files, form=form)


def test_the_command(rig, tmp_path):
    out = tmp_path / "sr.mrc"
    said = done(*command(rig, out, "--dtype", "uint16", "--keep-range"))
    assert said["tiles_done"] == TILE_COUNT and said["notices"] == []
    assert open_volume(out).dtype == np.uint16
    assert mrcfile.validate(out)
    wrong = emsr(*command(rig, tmp_path / "b.h5", "--dtype", "int7"))
    assert wrong.returncode == 2 and "int7" in wrong.stderr
