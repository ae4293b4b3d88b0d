"""Levels of pyramids, down to the command line; names that are not paths; damage in Zarr."""

import json

import numpy as np
import pytest
import tifffile
import zarr
from formats import write_hdf5, write_precomputed
from route import done, emsr, upscale_of

from emsr.errors import InputError
from emsr.files import is_url, refuse_overlap, split_address
from emsr.geometry.box import Box, whole
from emsr.volumes.source import open_volume
from emsr.volumes.tiff import write_tiff

DEEP = np.arange(3 * 65 * 96, dtype=np.uint16).reshape(3, 65, 96)


def write_pyramid(path, levels, spacing_nm=(40.0, 6.0, 5.0), **options):
    """An OME-TIFF with its coarser levels as SubIFDs of each slice."""
    sizes = dict(zip("ZYX", spacing_nm, strict=True))
    metadata = {"axes": "ZYX"}
    for axis, nm in sizes.items():
        metadata |= {f"PhysicalSize{axis}": nm, f"PhysicalSize{axis}Unit": "nm"}
    with tifffile.TiffWriter(path, ome=True) as tif:
        options |= {"photometric": "minisblack"}
        tif.write(levels[0], subifds=len(levels) - 1, metadata=metadata, **options)
        for level in levels[1:]:
            tif.write(level, subfiletype=1, metadata=None, **options)
    return path


@pytest.mark.parametrize("options", [{}, {"tile": (16, 16), "compression": "zlib"}])
def test_levels_of_a_pyramidal_ome_tiff(tmp_path, options):
    levels = [DEEP, DEEP[:, ::2, ::2], DEEP[:, ::4, ::4]]
    path = write_pyramid(tmp_path / "a.ome.tif", levels, **options)
    for number, level in enumerate(levels):
        volume = open_volume(path, level=number)
        assert volume.shape == level.shape
        assert volume.spacing_nm == (40.0, 6.0 * 2**number, 5.0 * 2**number)
        np.testing.assert_array_equal(volume.read(whole(volume.shape)), level)
    with pytest.raises(InputError, match=r"0 \(3 x 65 x 96\), 1 \(3 x 33 x 48\), 2 \(3 x 17 x 24"):
        open_volume(path, level=3)


@pytest.mark.parametrize("size", [0.0, -5.0])
def test_a_tiff_size_that_is_not_positive_is_unknown_and_said(tmp_path, size):
    path = write_pyramid(tmp_path / "a.ome.tif", [DEEP], spacing_nm=(40.0, 6.0, size))
    tifffile.imwrite(
        tmp_path / "ij.tif", DEEP, imagej=True, metadata={"axes": "ZYX", "spacing": size}
    )
    for volume, axis in ((open_volume(path), "x"), (open_volume(tmp_path / "ij.tif"), "z")):
        assert volume.spacing_nm is None
        assert f"along {axis}, not a positive length" in volume.notices[0]


def write_image(path, levels, nm=(40.0, 6.0, 5.0)):
    """An OME-Zarr 0.5 image with levels halved along y and x."""
    axes = [{"name": axis, "type": "space", "unit": "nanometer"} for axis in "zyx"]
    datasets = []
    for number, level in enumerate(levels):
        zarr.create_array(str(path / str(number)), data=level, chunks=(1, 16, 16))
        scale = [nm[0], nm[1] * 2**number, nm[2] * 2**number]
        steps = [{"type": "scale", "scale": scale}]
        datasets.append({"path": str(number), "coordinateTransformations": steps})
    image = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    group = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": image}}
    (path / "zarr.json").write_text(json.dumps(group))
    return path


@pytest.mark.parametrize("scale", [0, -5])
def test_a_zarr_scale_that_is_not_positive_is_unknown_and_said(tmp_path, scale):
    volume = open_volume(write_image(tmp_path / "a.zarr", [DEEP], nm=(40.0, 6.0, scale)))
    assert volume.spacing_nm is None
    assert "along x, not a positive length" in volume.notices[0]


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"\xff" * len(b)])
def test_a_damaged_chunk_of_a_zarr_is_named(tmp_path, damage):
    path = write_image(tmp_path / "a.zarr", [DEEP])
    chunk = path / "0" / "c" / "1" / "2" / "5"
    chunk.write_bytes(damage(chunk.read_bytes()))
    volume = open_volume(path)
    np.testing.assert_array_equal(volume.read(Box((2, 0, 0), (3, 65, 96))), DEEP[2:])
    with pytest.raises(InputError, match=r"the chunk \(1, 32, 80\) to \(2, 48, 96\)"):
        volume.read(whole(volume.shape))


def test_addresses():
    assert split_address("a.h5::/em/raw") == ("a.h5", "em/raw")
    assert split_address("a.h5") == ("a.h5", "")
    assert split_address("s3://bucket/a.zarr::/0") == ("s3://bucket/a.zarr", "0")
    assert split_address("s3:/bucket/a.zarr")[0] == "s3://bucket/a.zarr"  # what Path makes of it


def test_a_name_may_hold_the_sign_itself(tmp_path):
    odd = tmp_path / "a::b.h5"
    odd.touch()
    assert split_address(f"{odd}::/em/raw") == (str(odd), "em/raw")
    assert split_address(odd) == (str(odd), "")
    assert is_url("https://host/a.zarr")
    assert not is_url("/data/a.zarr")
    assert not is_url("C:/data/a.zarr")


def test_a_file_whose_name_has_colons_is_itself(tmp_path):
    np.save(tmp_path / "a::b.npy", DEEP)
    assert open_volume(tmp_path / "a::b.npy").shape == DEEP.shape


def test_an_output_over_the_file_of_a_data_set_is_refused(tmp_path):
    with pytest.raises(InputError, match="overlap"):
        refuse_overlap(tmp_path / "a.h5", f"{tmp_path}/a.h5::/raw")
    with pytest.raises(InputError, match="overlap"):
        refuse_overlap(tmp_path / "a.zarr" / "sr.zarr", f"{tmp_path}/a.zarr::/0")
    refuse_overlap(tmp_path / "sr.zarr", "s3://bucket/a.zarr", f"{tmp_path}/a.h5::/raw")
    with pytest.raises(InputError, match="on this machine"):
        refuse_overlap("s3:/bucket/a.zarr", tmp_path / "a.h5")


@pytest.fixture(scope="module")
def pyramids(field, tmp_path_factory):
    """The field's scans, each as the level 1 of a pyramid whose level 0 is something else."""
    folder = tmp_path_factory.mktemp("pyramids")
    for name, nm in (("lr", (50.0, 15.0, 15.0)), ("hr", (50.0, 5.0, 5.0))):
        scan = tifffile.imread(field / f"{name}.tif")
        write_image(folder / f"{name}.ome.zarr", [scan.repeat(2, 1).repeat(2, 2), scan], nm)
        write_hdf5(folder / "both.h5", scan, inside=f"em/{name}", chunks=None)
    return folder


@pytest.fixture(scope="module")
def plain(field, pyramids):
    """The SR of the field's LR scan, as it comes from the plain TIFF."""
    done(*upscale_of(field, pyramids / "plain.tif"))
    return tifffile.imread(pyramids / "plain.tif")


def test_upscale_reads_a_level(field, pyramids, plain, tmp_path):
    out = tmp_path / "level.tif"
    lr = pyramids / "lr.ome.zarr"
    summary = done(*upscale_of(field, out, "--level", "1", lr=lr))
    assert summary["notices"] == []
    np.testing.assert_array_equal(tifffile.imread(out), plain)
    assert open_volume(out).spacing_nm == (50.0, 10.0, 10.0)
    beyond = emsr(*upscale_of(field, tmp_path / "no.tif", "--level", "2", lr=lr))
    assert beyond.returncode == 1
    assert "levels 0 (2 x 128 x 128), 1 (2 x 64 x 64)" in beyond.stderr
    assert beyond.stderr.count("\n") == 1
    assert not (tmp_path / "no.tif").exists()


def test_upscale_reads_a_data_set(field, pyramids, plain, tmp_path):
    lr = f"{pyramids}/both.h5::/em/lr"
    summary = done(*upscale_of(field, tmp_path / "a.tif", "--spacing", "50,30,30", lr=lr))
    assert summary["notices"] == []
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), plain)


def test_prepare_and_evaluate_read_levels_and_data_sets(field, pyramids, tmp_path):
    hr, lr = pyramids / "hr.ome.zarr", pyramids / "lr.ome.zarr"
    real = ("prepare", "--strategy", "real", "--out")
    scans = ("--hr", hr, "--lr", lr, "--level", "1")
    assert done(*real, tmp_path / "a.zarr", *scans)["scale"] == 3
    mixed = ("--hr", hr, "--lr", f"{pyramids}/both.h5::/em/lr", "--level", "hr=1")
    assert done(*real, tmp_path / "b.zarr", *mixed, "--spacing", "50,10,10")["scale"] == 3
    scores = done(
        *("evaluate", "--sr", hr, "--reference", field / "hr.tif", "--lr", lr),
        *("--level", "sr=1,lr=1", "--out", tmp_path / "scores"),
    )
    assert scores["shape"] == [2, 192, 192]
    assert scores["scale"] == 3
    assert scores["inputs"]["sr"] == str(hr)


@pytest.mark.parametrize("level", ["two", "sr=1", "hr=-1", "hr=", "-1"])
def test_a_level_that_is_none_is_wrong_usage(tmp_path, level):
    result = emsr(
        *("prepare", "--strategy", "real", "--hr", "a.tif", "--out", tmp_path / "o.zarr"),
        *("--level", level),
    )
    assert result.returncode == 2
    assert "expected a number" in " ".join(result.stderr.split())


def test_levels_of_another_format_reach_the_command_line(field, tmp_path):
    """A pyramid whose shape does not fit is refused for it: so it was read."""
    path = write_precomputed(tmp_path / "a")
    sr = ("evaluate", "--sr", path, "--reference", field / "hr.tif")
    result = emsr(*sr, "--level", "sr=1", "--out", tmp_path / "o")
    assert result.returncode == 1
    assert "(6, 12, 16)" in result.stderr


def test_spacing_is_of_the_level_that_is_read(tmp_path):
    write_tiff(tmp_path / "plain.tif", DEEP, DEEP.shape, DEEP.dtype, (40.0, 6.0, 5.0))
    path = write_pyramid(tmp_path / "a.ome.tif", [DEEP, DEEP[:, ::2, ::2]])
    assert open_volume(path, (40.0, 12.0, 10.0), level=1).notices == ()
    assert "was given" in open_volume(path, (40.0, 6.0, 5.0), level=1).notices[0]
