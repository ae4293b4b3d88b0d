"""Laws of the training and validation fields."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emsr.errors import InputError
from emsr.pairs.held_out import split_rows


@given(
    height=st.integers(64, 5000),
    fraction=st.floats(0.01, 0.5),
    guard_px=st.integers(0, 200),
    multiple=st.sampled_from([1, 4, 8, 16]),
)
def test_fields_are_apart_and_large_enough(
    height: int, fraction: float, guard_px: int, multiple: int
) -> None:
    training, validation = split_rows(height, fraction, guard_px, multiple)
    assert training.start == 0 and validation.stop == height
    assert training.stop + 2 <= validation.start
    assert training.stop >= max(16, height // 4)
    rows = validation.stop - validation.start
    assert rows >= 16 and rows % multiple == 0
    assert rows <= max(16, fraction * height + 1)


@given(height=st.integers(64, 5000), fraction=st.floats(0.01, 0.5), guard_px=st.integers(2, 16))
def test_the_guard_is_as_asked_where_there_is_room(
    height: int, fraction: float, guard_px: int
) -> None:
    training, validation = split_rows(height, fraction, guard_px, 4)
    assert validation.start - training.stop == min(guard_px, validation.start - height // 4)


def test_the_usual_field() -> None:
    assert split_rows(1000, 0.2, 8, 4) == (slice(0, 792), slice(800, 1000))


def test_the_smallest_field() -> None:
    assert split_rows(64, 0.2, 8, 4) == (slice(0, 40), slice(48, 64))


@pytest.mark.parametrize(("height", "multiple"), [(33, 1), (20, 4), (64, 64)])
def test_a_field_without_room_says_its_numbers(height: int, multiple: int) -> None:
    with pytest.raises(InputError, match=f"{height} rows"):
        split_rows(height, 0.2, 8, multiple)
