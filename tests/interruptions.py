"""How the tests of upscaling stop a run in the middle of it."""

import pytest
from volumes_to_upscale import run

from emsr.jobs.listener import Listener


def at(what, done, act):
    """A listener that acts when ``done`` pieces of ``what`` are done."""

    def progress(doing, count, total, note):
        if (doing, count) == (what, done):
            act()

    return Listener(progress=progress)


class Killed(Exception):
    pass


def interrupted(rig, out, after, what="upscale", **settings):
    """A run that ends in the middle of it, without a chance to tidy up its output."""

    def end():
        raise Killed

    with pytest.raises(Killed):
        run(rig, out, listener=at(what, after, end), **settings)
