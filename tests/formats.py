"""The formats of other programs, written for the tests by the libraries that define them."""

import json

import h5py
import hdf5storage
import mrcfile
import numpy as np
import tensorstore

SHAPE = (6, 23, 31)
STACK = np.arange(np.prod(SHAPE), dtype=np.uint16).reshape(SHAPE)
SPACING = (40.0, 6.0, 5.0)


def write_mrc(path, stack=STACK, spacing_nm=SPACING):
    with mrcfile.new(path) as file:
        file.set_data(stack)
        if spacing_nm is not None:
            z, y, x = (10 * nm for nm in spacing_nm)
            file.voxel_size = (x, y, z)
    return path


def write_hdf5(path, stack=STACK, inside="raw", chunks=(2, 8, 8), **attributes):
    with h5py.File(path, "a") as file:
        dataset = file.create_dataset(inside, data=stack, chunks=chunks, compression="gzip")
        dataset.attrs.update(attributes)
    return path


def write_matlab(path, **variables):
    """Variables as MATLAB would show them: A(y, x, z), in a true v7.3 file."""
    options = hdf5storage.Options(matlab_compatible=True)
    hdf5storage.writes(variables, filename=str(path), options=options)
    return path


def as_matlab(stack):
    """(z, y, x) as A(y, x, z)."""
    return np.ascontiguousarray(stack.transpose(1, 2, 0))


def _stored(spec, array):
    tensorstore.open(spec, create=True, open=True).result().write(array).result()


def _kvstore(path):
    return {"driver": "file", "path": f"{path}/"}


def write_n5(path, stack=STACK, chunk=(8, 8, 2), **attributes):
    dtype = stack.dtype.name
    metadata = {
        "dimensions": list(stack.shape[::-1]),
        "blockSize": list(chunk)[: stack.ndim],
        "dataType": dtype,
        "compression": {"type": "gzip"},
    }
    _stored({"driver": "n5", "kvstore": _kvstore(path), "metadata": metadata}, stack.T)
    add_attributes(path, **attributes)
    return path


def add_attributes(folder, **attributes):
    file = folder / "attributes.json"
    found = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(found | attributes))


def write_n5_pyramid(path, stack=STACK):
    """s0 and s1, halved along y and x; the group states the spacing, s1 the factors."""
    write_n5(path / "s0", stack)
    write_n5(path / "s1", stack[:, ::2, ::2], downsamplingFactors=[2, 2, 1])
    z, y, x = SPACING
    add_attributes(path, pixelResolution={"unit": "um", "dimensions": [x / 1e3, y / 1e3, z / 1e3]})
    return path


def write_precomputed(path, stacks=(STACK, STACK[:, ::2, ::2]), spacing_nm=SPACING, channels=1):
    for level, stack in enumerate(stacks):
        factor = 2**level
        z, y, x = spacing_nm
        spec = {
            "driver": "neuroglancer_precomputed",
            "kvstore": _kvstore(path),
            "multiscale_metadata": {
                "type": "image",
                "data_type": stack.dtype.name,
                "num_channels": channels,
            },
            "scale_metadata": {
                "size": list(stack.shape[::-1]),
                "resolution": [x * factor, y * factor, z],
                "voxel_offset": [100, 0, 7],
                "chunk_size": [8, 8, 2],
                "encoding": "raw",
            },
        }
        _stored(spec, np.repeat(stack.T[..., None], channels, axis=3))
    return path
