"""The strategy ``split``: LR input and HR target with independent noise, from one noisy HR scan.

Like ``synthetic``, but every HR slice is first made into two images whose noises know nothing of
one another (``made_two``): LR is made from the one, the other is the target.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, replace

import numpy as np

from emsr.geometry.tiles import coarser_spacing
from emsr.pairs.calibrate import Calibrated, calibrated
from emsr.pairs.made_from import HrField, crop_remarks, hr_field
from emsr.pairs.made_lr import Drawn, Microscope, draw
from emsr.pairs.made_two import Pair, Splitter, clipped_share, doubts, splitter_of
from emsr.pairs.noise import NOTABLE_NOISE_CORRELATION, flat_correlation, inheritance
from emsr.pairs.scans import Prepared, Request, grey_window
from emsr.pairs.store import Facts, SlicePair
from emsr.volumes.intensity import Intensity

ASSUMPTIONS = {
    "recorrupt": (
        "Input and target are made from one HR scan x + n by recorruption, n + alpha z and "
        "n - z / alpha: their noise is independent if n is Gaussian and white (or as correlated as "
        "z) with the standard deviation that was estimated; for other noise it is uncorrelated."
    ),
    "thin": (
        "Input and target are made from one HR scan by dealing out its electrons: their noise is "
        "independent if the scan counts electrons with the gain and offset stated; read noise is "
        "shared."
    ),
}
CHECK = (
    " Checked by the correlation of the finest detail (second differences) of the two images in "
    "flat patches; stated is what LR inherits of it."
)
CHECKED_SLICES = 8
_SPLITTING = 1  # behind seed, variant and slice: another stream than the microscope's


def split(request: Request) -> Prepared:
    """``degradation.variants`` LR scans of every HR slice that is not constant, each with a target
    of its own: all slices of the first variant, then all of the second.

    The noise of an LR slice is as strong as that of ``synthetic`` where that adds enough: what the
    input carries beyond the noise of HR is left out of the noise added. InputError where
    ``synthetic`` has one, and where the noise of HR cannot be told.
    """
    field = hr_field(request)
    splitter = splitter_of(request, field)
    window = grey_window(request.hr, field.kept)
    fit = calibrated(request, field, window, splitter.excess)
    microscope = _microscope(request, field, window, splitter, fit)
    order = [(v, z) for v in range(request.degradation.variants) for z in field.kept]
    drawn = [microscope.draws(variant, z)[0] for variant, z in order]

    def dealt(variant: int, z: int) -> Pair:
        """Two images of slice z, float32."""
        rng = np.random.default_rng([request.seed, variant, z, _SPLITTING])
        return splitter.deal(field.plane(z), rng)

    spread = np.linspace(0, len(field.kept) - 1, min(CHECKED_SLICES, len(field.kept)))
    shared, error = flat_correlation(dealt(0, field.kept[int(k)]) for k in spread)
    inherited = microscope.inherited_correlation(
        drawn,
        field.mean,
        _noise_of_input(splitter, field),
        splitter.colour,
    )
    facts = Facts(
        strategy="split",
        scale=field.scale,
        lr_spacing_nm=coarser_spacing(request.hr.spacing_nm, field.scale),
        hr_spacing_nm=request.hr.spacing_nm,
        lr_window=microscope.lr_window,
        hr_window=window,
        hr_z=tuple(z for _, z in order),
        hr_dtype=np.dtype(request.hr.dtype).name,
        assumption=ASSUMPTIONS[request.splitting.method] + CHECK,
        noise_correlation=None if shared is None else shared * inherited,
        measured={
            "input_target_correlation": shared,
            "input_target_correlation_error": error,
            "inherited_correlation": inherited,
            **splitter.numbers,
            "clipped_fraction": clipped_share(splitter, field),
            "refused_constant": field.constant,
            **({"calibration": fit.told.measured} if fit else {}),
            "drawn": [asdict(one) for one in drawn],
        },
        warnings=(
            *doubts(splitter, field, request.splitting.method),
            *_still_correlated(shared, error),
            *_noisier(request, window, splitter, fit, [one.noise for one in drawn]),
            *(fit.told.warnings if fit else ()),
        ),
        provenance=(field.provenance, *((fit.provenance,) if fit else ())),
        recipe={
            "degradation": asdict(request.degradation),
            "splitting": asdict(request.splitting),
        },
        seed=request.seed,
    )
    return Prepared(
        facts=facts,
        slices=_slices(dealt, microscope, order),
        lr_shape=(len(order), *field.lr_field),
        lr_dtype=np.dtype(np.float32),
        hr_shape=(len(order), *field.shape),
        hr_array_dtype=np.dtype(np.float32),
        refused=len(field.constant),
        remarks=(
            *crop_remarks(field),
            *(f"{request.hr.name}: {notice}" for notice in splitter.noise.notices),
            *((fit.told.remark,) if fit else ()),
        ),
        pictures={"calibration": fit.told.picture} if fit else {},
    )


def _slices(
    dealt: Callable[[int, int], Pair], microscope: Microscope, order: list[tuple[int, int]]
) -> Iterator[SlicePair]:
    for variant, z in order:
        given, target = dealt(variant, z)
        yield target, [microscope.scan(given, *microscope.draws(variant, z))]


def _microscope(
    request: Request,
    field: HrField,
    window: Intensity,
    splitter: Splitter,
    fit: Calibrated | None,
) -> Microscope:
    if fit is not None:
        return fit.fit.microscope(request.seed)
    ranges = request.degradation
    span = window.high - window.low

    def draws(variant: int, z: int) -> tuple[Drawn, np.random.Generator]:
        drawn, rng = draw(ranges, request.seed, variant, z)
        kept = inheritance(drawn.kernel(), field.scale, ranges.sampling, splitter.colour).kept
        carried = splitter.excess * kept * (splitter.noise.sigma / span) ** 2
        return replace(drawn, noise=float(np.sqrt(max(drawn.noise**2 - carried, 0.0)))), rng

    return Microscope(field.scale, ranges.sampling, 1.0, 0.0, window, draws)


def _noise_of_input(splitter: Splitter, field: HrField) -> float:
    """Standard deviation of the noise of the image that LR is made from: that of HR, the larger of
    two estimates since one too low is what leaves input and target correlated, and what was added.
    """
    own = max(splitter.noise.sigma, field.finest_sigma)
    return float(np.hypot(own, np.sqrt(splitter.excess) * splitter.noise.sigma))


def _noisier(
    request: Request,
    window: Intensity,
    splitter: Splitter,
    fit: Calibrated | None,
    added: list[float],
) -> tuple[str, ...]:
    """Where the noise that the split puts into LR is more than was to be added."""
    bare = added.count(0.0)
    if fit is not None or 2 * bare <= len(added):
        return ()
    most = request.degradation.noise_sigma[1] * (window.high - window.low)
    return (
        f"{bare} of {len(added)} LR slices get more noise from the split (HR has "
        f"{splitter.noise.sigma:.1f} grey levels) than the recipe's noise_sigma allows (at most "
        f"{most:.1f}): raise it, or --calibrate with a real LR scan",
    )


def _still_correlated(shared: float | None, error: float) -> tuple[str, ...]:
    if shared is None or abs(shared) < NOTABLE_NOISE_CORRELATION + 3 * error:
        return ()
    noise = "stronger or less white" if shared > 0 else "weaker"
    return (
        f"input and target still correlate by {shared:.2f} in flat patches: the noise is {noise} "
        f"than estimated, or the specimen has structure of one pixel there; give its level with "
        f"--noise, or a second scan of the field (--strategy synthetic --repeat)",
    )
