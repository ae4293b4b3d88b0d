"""Two hosts on one output, the other one a real process under another name of the machine."""

import os
import socket
import subprocess
import sys
import time

import pytest
from test_volumes_cloud import bucket, s3  # noqa: F401

from emsr.errors import InputError
from emsr.jobs.claim import TAKEN_FOR_DEAD_S, claimed, notes_of
from emsr.volumes.place import place

OTHER = "node-7"


def unshared(*command):
    """Run with another host name; the rest of the machine is the same."""
    script = f'hostname {OTHER} && exec "$@"'
    return subprocess.run(
        ["unshare", "--uts", "sh", "-c", script, "sh", *command], capture_output=True, text=True
    )


@pytest.fixture(autouse=True)
def other_host():
    try:
        allowed = unshared("hostname").stdout.strip() == OTHER
    except OSError:
        allowed = False
    if not allowed:
        pytest.skip("this machine lets nobody have another host name (unshare --uts)")


def killed_on_the_other(out):
    """A run there that holds the output and is gone from one moment to the next."""
    code = "import os, sys; from emsr.jobs.claim import claimed; from emsr.volumes.place import place\n"
    code += "with claimed(place(sys.argv[1]), None): os._exit(9)"
    assert unshared(sys.executable, "-c", code, str(out)).returncode == 9


def refused(out, says):
    for slab in (None, (1, 2)):
        with pytest.raises(InputError, match=says), claimed(place(out), slab):
            raise AssertionError
    assert socket.gethostname() != OTHER


def test_on_a_shared_file_system(tmp_path):
    out = tmp_path / "sr.ome.zarr"
    killed_on_the_other(out)
    refused(out, rf"by process \d+ on {OTHER} since .* alive \d+ s ago")
    silent = time.time() - TAKEN_FOR_DEAD_S - 5
    os.utime(notes_of(out) / "lock", (silent, silent))
    with claimed(out, None):
        refused(out, rf"by process {os.getpid()} on {socket.gethostname()}")


def test_on_object_storage(bucket):  # noqa: F811
    out = "s3://brain/hosts/sr.ome.zarr"
    killed_on_the_other(out)
    lock = notes_of(place(out)) / "lock"
    refused(out, rf"by process \d+ on {OTHER} since .* deleting {lock}")
    lock.unlink()
    with claimed(place(out), None):
        refused(out, rf"by process {os.getpid()} on {socket.gethostname()}")
    assert not place(out).parents[0].exists()
