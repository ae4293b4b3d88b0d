"""Drawing ahead: the same batches, sooner, and no thread left behind."""

import threading
import time

import numpy as np
import pytest

from emsr.errors import InputError
from emsr.pairs.ahead import ahead


def draw(step):
    return np.random.default_rng([4, step]).random(3)


def drawers():
    return [one for one in threading.enumerate() if one.name.startswith("emsr-draw")]


@pytest.mark.parametrize("steps", [range(9), range(5, 12), [3, 3, 4, 0, 1, 8, 7]])
@pytest.mark.parametrize("depth", [1, 2, 5])
def test_each_step_is_given_its_own_batch(steps, depth):
    with ahead(draw, depth) as take:
        for step in steps:
            np.testing.assert_array_equal(take(step), draw(step))
    assert not drawers()


def test_the_next_batch_is_drawn_before_it_is_asked_for():
    drawn = []
    with ahead(lambda step: drawn.append(step), 2) as take:
        take(10)
        until = time.monotonic() + 10
        while len(drawn) < 3 and time.monotonic() < until:
            time.sleep(0.001)
        assert drawn == [10, 11, 12]


def test_what_fails_in_the_thread_is_said_at_its_step_and_not_before():
    def fails(step):
        if step == 2:
            raise InputError("the pairs went away")
        return step

    with ahead(fails) as take:
        assert [take(0), take(1)] == [0, 1]
        with pytest.raises(InputError, match="went away"):
            take(2)
    assert not drawers()


def test_an_interrupt_leaves_no_thread_behind():
    with pytest.raises(KeyboardInterrupt), ahead(draw) as take:
        take(0)
        raise KeyboardInterrupt
    assert not drawers()
