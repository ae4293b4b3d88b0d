"""Zarr by URL, from servers that really run: S3 (moto) and a web server, both on loopback."""

import http.server
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import boto3
import numpy as np
import pytest
import tifffile
import zarr
from route import emsr, upscale_of

from emsr.errors import InputError
from emsr.geometry.box import Box, whole
from emsr.volumes.source import open_volume

STACK = np.arange(4 * 40 * 50, dtype=np.uint16).reshape(4, 40, 50)
NOWHERE = "http://127.0.0.1:9"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    """The endpoint of an S3 server in a process of its own, and a client of it."""
    endpoint = f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", endpoint[17:]]
    log = tmp_path_factory.mktemp("s3") / "log"
    with log.open("w") as out, subprocess.Popen(command, stdout=out, stderr=out) as server:
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    urllib.request.urlopen(f"{endpoint}/moto-api/", timeout=5).close()
                    break
                except OSError:
                    assert server.poll() is None, log.read_text()
                    assert time.monotonic() < deadline, log.read_text()
                    time.sleep(0.05)
            client = boto3.client(
                "s3",
                endpoint_url=endpoint,
                region_name="us-east-1",
                aws_access_key_id="reader",
                aws_secret_access_key="secret",
            )
            client.create_bucket(Bucket="brain")
            yield endpoint, client
            client.close()
        finally:
            server.terminate()


@pytest.fixture
def bucket(s3, monkeypatch, tmp_path):
    """Uploads a folder to s3://brain/NAME; the environment holds credentials and endpoint."""
    endpoint, client = s3
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "reader")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))

    def upload(folder, name, **options):
        for path in Path(folder).rglob("*"):
            if path.is_file():
                key = f"{name}/{path.relative_to(folder)}"
                client.put_object(Bucket="brain", Key=key, Body=path.read_bytes(), **options)
        return f"s3://brain/{name}"

    return upload


def image(path, zarr_format=3, stack=STACK, spacing=(0.04, 0.006, 0.005)):
    """An OME-Zarr image (0.4 or 0.5) of two levels, in chunks."""
    group = zarr.create_group(str(path), zarr_format=zarr_format)
    datasets = []
    for level in range(2):
        part = stack[:, :: 2**level, :: 2**level]
        group.create_array(str(level), data=part, chunks=(1, 16, 16))
        scale = [spacing[0], spacing[1] * 2**level, spacing[2] * 2**level]
        steps = [{"type": "scale", "scale": scale}]
        datasets.append({"path": str(level), "coordinateTransformations": steps})
    axes = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "zyx"]
    scales = [{"version": "0.4", "axes": axes, "datasets": datasets}]
    if zarr_format == 2:
        group.attrs["multiscales"] = scales
    else:
        group.attrs["ome"] = {"version": "0.5", "multiscales": scales}
    return path


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_an_image_on_s3(bucket, tmp_path, zarr_format):
    url = bucket(image(tmp_path / "a", zarr_format), f"em/{zarr_format}.ome.zarr")
    volume = open_volume(url)
    assert (volume.name, volume.shape) == (url, STACK.shape)
    assert volume.spacing_nm == (40.0, 6.0, 5.0)
    assert volume.chunk == (1, 16, 16)
    box = Box((1, 3, 10), (3, 30, 45))
    np.testing.assert_array_equal(volume.read(box), STACK[box.slices])
    coarse = open_volume(url, level=1)
    assert (coarse.shape, coarse.spacing_nm) == ((4, 20, 25), (40.0, 12.0, 10.0))
    with pytest.raises(InputError, match=r"levels 0 \(4 x 40 x 50\), 1 \(4 x 20 x 25\)"):
        open_volume(url, level=2)
    array = open_volume(f"{url}::/1")
    np.testing.assert_array_equal(array.read(whole(array.shape)), STACK[:, ::2, ::2])
    assert open_volume(Path(url)).name == url  # a Path loses a slash


def test_only_the_chunks_of_the_box_are_fetched(bucket, s3, tmp_path):
    url = bucket(image(tmp_path / "a"), "sparse.ome.zarr")
    _, client = s3
    box = Box((2, 16, 16), (3, 32, 48))
    kept = {"sparse.ome.zarr/0/c/2/1/1", "sparse.ome.zarr/0/c/2/1/2"}
    listed = client.list_objects_v2(Bucket="brain", Prefix="sparse.ome.zarr/0/c/")["Contents"]
    for key in {one["Key"] for one in listed} - kept:
        client.put_object(Bucket="brain", Key=key, Body=b"not a chunk")
    volume = open_volume(url)
    np.testing.assert_array_equal(volume.read(box), STACK[box.slices])
    with pytest.raises(InputError, match=r"the chunk \(2, 0, 16\) to \(3, 16, 32\)"):
        volume.read(Box((2, 15, 16), (3, 32, 48)))


def test_without_credentials_only_public_data(bucket, tmp_path, monkeypatch):
    folder = image(tmp_path / "a")
    private, public = (
        bucket(folder, "private.zarr"),
        bucket(folder, "public.zarr", ACL="public-read"),
    )
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    np.testing.assert_array_equal(open_volume(public).read(whole(STACK.shape)), STACK)
    with pytest.raises(InputError, match=r"without credentials \(none are set\).*AWS_ACCESS_KEY"):
        open_volume(private)


BAD = {
    "wrong bucket": ("s3://nobody/a.zarr", "check the bucket"),
    "wrong key": ("s3://brain/none.zarr", "there is no Zarr"),
    "not a Zarr": ("s3://brain/a.tif", "only Zarr is read by URL"),
    "another scheme": ("gs://brain/a.zarr", "expected a Zarr at s3://"),
    "no such host": ("http://no.such.host.invalid/a.zarr", "the network"),
    "nobody listens": (f"{NOWHERE}/a.zarr", "the network"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_urls_are_said_in_one_line(bucket, case):
    url, says = BAD[case]
    with pytest.raises(InputError, match=says) as caught:
        open_volume(url)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(url)


def test_broken_metadata_on_s3(bucket, tmp_path):
    folder = image(tmp_path / "a")
    (folder / "zarr.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read") as caught:
        open_volume(bucket(folder, "broken.zarr"))
    assert "\n" not in str(caught.value)


def upscale_url(field, out, url):
    verb, _, *options = upscale_of(field, out)
    return verb, url, *options


def test_upscale_from_s3(field, bucket, tmp_path):
    lr = tifffile.imread(field / "lr.tif")
    url = bucket(image(tmp_path / "a", stack=lr, spacing=(0.05, 0.03, 0.03)), "lr.ome.zarr")
    here = emsr(*upscale_of(field, tmp_path / "here.tif"), "--quiet")
    there = emsr(*upscale_url(field, tmp_path / "there.tif", url), "--quiet")
    assert (here.returncode, there.returncode, there.stderr) == (0, 0, "")
    same = [tifffile.imread(tmp_path / name) for name in ("here.tif", "there.tif")]
    np.testing.assert_array_equal(*same)


def test_no_network_on_the_command_line_is_one_line(field, bucket, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", NOWHERE)
    result = emsr(*upscale_url(field, tmp_path / "o.tif", "s3://brain/a.zarr"))
    assert result.returncode == 1
    assert result.stderr.startswith("emsr: s3://brain/a.zarr: cannot be read")
    assert result.stderr.count("\n") == 1


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


class _Denying(_Quiet):
    """As buckets that may not be listed: what is not there is forbidden, not absent."""

    def send_error(self, code, *arguments):
        super().send_error(403 if code == 404 else code)


@pytest.fixture(params=[_Quiet, _Denying])
def web(request, tmp_path):
    """A web server over ``tmp_path``."""

    def handler(*arguments):
        return request.param(*arguments, directory=str(tmp_path))

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", request.param is _Denying
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_an_image_on_a_web_server(web, tmp_path, zarr_format):
    url, _ = web
    image(tmp_path / "a.ome.zarr", zarr_format)
    volume = open_volume(f"{url}/a.ome.zarr")
    assert volume.spacing_nm == (40.0, 6.0, 5.0)
    np.testing.assert_array_equal(volume.read(whole(STACK.shape)), STACK)


def test_what_is_not_on_a_web_server(web, tmp_path):
    url, denying = web
    with pytest.raises(InputError, match="access denied" if denying else "there is no Zarr"):
        open_volume(f"{url}/none.zarr")


def test_a_chunk_that_is_denied_is_not_taken_for_an_empty_one(web, tmp_path):
    url, denying = web
    image(tmp_path / "a.zarr", 2)
    (tmp_path / "a.zarr" / "0" / "1.0.0").unlink()
    volume = open_volume(f"{url}/a.zarr")
    if denying:
        with pytest.raises(InputError, match=r"\(1, 0, 0\) to \(2, 16, 16\).*out of reach"):
            volume.read(whole(STACK.shape))
    else:  # as Zarr has it, a chunk that was never written holds the fill value
        assert not volume.read(Box((1, 0, 0), (2, 16, 16))).any()
