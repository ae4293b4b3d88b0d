"""Which rows of the LR field train, and which only validate."""

from __future__ import annotations

from math import ceil

from emsr.errors import InputError

SMALLEST_FIELD_ROWS = 16
SMALLEST_GUARD_ROWS = 2


def split_rows(
    lr_height: int, fraction: float, guard_px: int, multiple: int = 1
) -> tuple[slice, slice]:
    """LR rows for training and for validation: the validation field is never seen in training.

    Validation is the last rows (of every slice: a neighbouring slice shows nearly the same
    specimen), about ``fraction`` of the height in a multiple of ``multiple`` rows and at least 16;
    between the two lies a guard band that neither uses, ``guard_px`` rows where there is room::

        0            train.stop   validation.start       lr_height
        |--- training ---|-- guard --|----- validation -----|

    In small fields both shrink: training keeps a quarter of the height and at least 16 rows, the
    guard at least 2. A field too small for that is an InputError.
    """
    training = max(SMALLEST_FIELD_ROWS, lr_height // 4)
    smallest = ceil(SMALLEST_FIELD_ROWS / multiple) * multiple
    room = lr_height - training - SMALLEST_GUARD_ROWS
    if room < smallest:
        raise InputError(
            f"the LR field is {lr_height} rows high, a training and a validation field need "
            f"{training + SMALLEST_GUARD_ROWS + smallest}: prepare pairs of a higher field"
        )
    wanted = round(fraction * lr_height) // multiple * multiple
    validation = min(max(wanted, smallest), room // multiple * multiple)
    guard = max(SMALLEST_GUARD_ROWS, min(guard_px, lr_height - validation - training))
    start = lr_height - validation
    return slice(0, start - guard), slice(start, lr_height)
