"""docs/theory.md on toys whose posterior is known: our losses learn the mean and the median, and
every broken assumption biases them by what its closed form says.

Expectations are exact: noise takes equally likely values, and our losses average over all of them.
"""

import importlib
import itertools
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import gamma, norm, poisson

from emsr.microscope import stages
from emsr.network.losses import LOSSES, two_view_loss

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


def normal(count: int) -> np.ndarray:
    """Equally likely values of a standard normal variable, of variance one."""
    values = norm.ppf((np.arange(count) + 0.5) / count)
    return np.asarray(values / np.std(values))


NORMAL = normal(1001)


@pytest.fixture(scope="module")
def forms() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXPERIMENTS))
        return importlib.import_module("closed_forms")


@pytest.fixture(scope="module")
def references() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXPERIMENTS))
        return importlib.import_module("references")


def learned(loss: str, values: np.ndarray) -> float:
    """What a network says to one input whose references are ``values``, equally likely."""
    reference = torch.from_numpy(np.ravel(values).astype(np.float64))

    def risk(output: float) -> float:
        return two_view_loss(torch.full_like(reference, output), None, reference, loss).item()

    span = float(reference.min()), float(reference.max())
    return float(minimize_scalar(risk, bounds=span, method="bounded", options={"xatol": 1e-7}).x)


def plus(clean: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Every clean value with every noise value."""
    return np.add.outer(clean, noise)


def poisson_values(rate: float, count: int = 4001) -> np.ndarray:
    return poisson.ppf((np.arange(count) + 0.5) / count, rate)


# x given y, equally likely values: of three inputs y, one symmetric, one not, one that is sure
POSTERIOR = {
    "symmetric": np.array([60.0, 90, 100, 110, 140]),
    "skewed": np.array([40.0, 45, 50, 70, 150]),
    "sure": np.array([80.0]),
}


class TestSound:
    @pytest.mark.parametrize("y", POSTERIOR)
    def test_clean_references_teach_the_mean_and_the_median(self, y):
        assert learned("l2", POSTERIOR[y]) == pytest.approx(POSTERIOR[y].mean(), abs=1e-4)
        assert learned("l1", POSTERIOR[y]) == pytest.approx(np.median(POSTERIOR[y]), abs=1e-4)

    @pytest.mark.parametrize("y", POSTERIOR)
    def test_l2_asks_for_no_more_than_zero_mean(self, y):
        lopsided = np.array([-3.0, -3, -3, 9])
        counts = [1.5 * (poisson_values(x / 1.5) - x / 1.5) for x in POSTERIOR[y]]
        signal_dependent = np.concatenate(
            [x + n - n.mean() for x, n in zip(POSTERIOR[y], counts, strict=True)]
        )
        for noisy in (plus(POSTERIOR[y], lopsided), signal_dependent):
            assert learned("l2", noisy) == pytest.approx(POSTERIOR[y].mean(), abs=1e-3)

    def test_l1_learns_the_median_under_symmetric_noise_of_one_law(self):
        noisy = plus(POSTERIOR["symmetric"], 40 * NORMAL)
        assert learned("l1", noisy) == pytest.approx(100, abs=1e-3)

    def test_l1_learns_a_sure_pixel_under_any_noise_of_zero_median(self):
        noisy = plus(POSTERIOR["sure"], np.array([-1.0, -1, 0, 30, 200]))
        assert learned("l1", noisy) == pytest.approx(80, abs=1e-4)
        assert learned("l2", noisy) > 120

    @settings(max_examples=30, deadline=None)
    @given(
        clean=st.lists(st.floats(-5, 5), min_size=1, max_size=6),
        below=st.lists(st.floats(-50, 0), min_size=6, max_size=6),
        above=st.lists(st.floats(0, 500), min_size=6, max_size=6),
    )
    def test_l1_errs_by_less_than_x_is_unsure(self, clean, below, above):
        zero_median = np.array([*below, 0.0, *above])
        learned_at_most = np.abs(np.median(plus(np.array(clean), zero_median)))
        assert learned_at_most <= max(map(abs, clean)) + 1e-9

    @settings(max_examples=30, deadline=None)
    @given(output=st.lists(st.floats(-300, 300), min_size=3, max_size=3))
    def test_l2_adds_the_same_to_the_risk_of_every_network(self, output):
        """So also the best of a class that is too small is the same."""
        noise = np.array([-3.0, -3, -3, 9])
        noisy, clean = (
            sum(
                LOSSES["l2"](torch.full((x.size,), said), torch.tensor(x.ravel())).item()
                for said, x in zip(output, values, strict=True)
            )
            for values in (
                [plus(x, noise) for x in POSTERIOR.values()],
                list(POSTERIOR.values()),
            )
        )
        assert noisy - clean == pytest.approx(3 * np.mean(noise**2), rel=1e-6)


class TestBroken:
    def test_bias_of_the_noise_is_learned_as_it_is(self):
        noisy = plus(POSTERIOR["symmetric"], 7 + 20 * NORMAL)
        assert learned("l2", noisy) == pytest.approx(107, abs=1e-3)
        assert learned("l1", noisy) == pytest.approx(107, abs=1e-3)

    def test_l1_needs_one_law_for_all_x(self):
        """Symmetric x, symmetric noise, but the dark value is seen sharply and the bright not."""
        noisy = np.concatenate([0 + 1 * NORMAL, 100 + 50 * NORMAL])
        assert learned("l2", noisy) == pytest.approx(50, abs=1e-3)
        assert learned("l1", noisy) < 3

    def test_noise_moves_the_median_towards_the_mean(self, forms):
        x = POSTERIOR["skewed"]
        found = [learned("l1", plus(x, sigma * NORMAL)) for sigma in (1e-3, 20, 60, 150)]
        assert found[0] == pytest.approx(np.median(x), abs=0.01)
        assert np.all(np.diff(found) > 0)
        first_order = -np.mean((x - x.mean()) ** 3) / (6 * (x.var() + 150**2))
        assert found[3] - x.mean() == pytest.approx(first_order, rel=0.15)

        mild = gamma.ppf((np.arange(301) + 0.5) / 301, 8) * 6
        noisy = learned("l1", plus(mild, 20 * NORMAL))
        said = forms.median_under_noise(np.median(mild), mild.mean(), mild.std(), 20.0)
        assert noisy - mild.mean() == pytest.approx(said - mild.mean(), rel=0.1)
        assert abs(said - np.median(mild)) > 0.5

    def test_median_of_counts(self):
        """Choi's bounds, and a sixth of an electron on average."""
        rates = np.linspace(5, 40, 7001)
        off = poisson.median(rates) - rates
        assert off.min() >= -np.log(2) - 1e-9 and off.max() < 1 / 3
        assert off.mean() == pytest.approx(-1 / 6, abs=2e-3)
        assert learned("l1", poisson_values(10.4)) == pytest.approx(10, abs=1e-4)

    @pytest.mark.parametrize(("gain", "spread"), [(-10.8, 0.0), (-10.8, 14.0), (5.0, 20.0)])
    def test_low_dose_under_l1(self, forms, gain, spread):
        """With read noise enough that whole electrons do not show."""
        signal, read = 15 * gain, 0.6 * abs(gain)
        electrons = (signal + spread * normal(21)) / gain if spread else [signal / gain]
        counted = np.concatenate([gain * poisson_values(rate, 401) for rate in electrons])
        noisy = plus(counted, read * normal(101))
        shift = forms.poisson_median_shift(signal, gain, read, spread)
        assert np.sign(shift) == -np.sign(gain)
        assert learned("l1", noisy) - signal == pytest.approx(shift, rel=0.12)
        assert learned("l2", noisy) - signal == pytest.approx(0, abs=0.05 * abs(shift))

    def test_low_dose_between_a_sixth_and_a_half_of_the_gain(self, forms):
        assert forms.poisson_median_shift(120, 6.0, 0, 0) == pytest.approx(-1)
        assert forms.poisson_median_shift(120, 6.0, 0, 1e6) == pytest.approx(-3)

    @pytest.mark.parametrize("mean", [-30.0, 10, 130, 190, 260])
    def test_saturation(self, forms, mean):
        low, high, noise, spread = 40.0, 200.0, 20.0, 15.0
        sigma = float(np.hypot(noise, spread))
        noisy = np.clip(mean + sigma * NORMAL, low, high)
        assert learned("l2", noisy) == pytest.approx(
            forms.clipped_mean(mean, sigma, low, high), abs=0.05
        )
        assert learned("l1", noisy) == pytest.approx(
            forms.clipped_median(mean, low, high), abs=1e-3
        )

    def test_saturation_at_the_limit_costs_two_fifths_of_sigma(self, forms):
        assert forms.clipped_mean(200, 20, -1e9, 200) == pytest.approx(
            200 - 20 / np.sqrt(2 * np.pi)
        )

    @pytest.mark.parametrize("spread", [0.0, 12.0])
    def test_impulses(self, forms, spread):
        kept, struck = np.tile(90 + spread * NORMAL, 9), np.full(NORMAL.size, 255.0)
        noisy = np.concatenate([kept, struck])
        assert learned("l2", noisy) == pytest.approx(forms.impulse_mean(90, 0.1, 255), abs=1e-3)
        assert learned("l1", noisy) == pytest.approx(
            forms.impulse_median(90, spread, 0.1), abs=0.03
        )

    def test_a_majority_of_impulses_is_what_l1_learns(self):
        assert learned("l1", np.array([90.0, 90, 90, 255, 255])) == pytest.approx(90, abs=1e-3)
        assert learned("l1", np.array([90.0, 90, 255, 255, 255])) == pytest.approx(255, abs=1e-3)

    def test_misregistration_blurs(self, forms):
        """Two possible images, an input that cannot tell them apart, whole shifts along x."""
        kernel = forms.rounded_normal_kernel(0.8, 2)
        assert kernel.shape == (5, 5) and kernel.sum() == pytest.approx(1)
        images = np.random.default_rng(0).random((2, 9, 9))
        shifts = list(itertools.product(range(-2, 3), repeat=2))
        risk = [
            kernel[dy + 2, dx + 2] * np.roll(image, (dy, dx), (0, 1))
            for image in images
            for dy, dx in shifts
        ]
        blurred = stages.blur(images.mean(0).astype(np.float32), kernel.astype(np.float32))
        assert np.allclose((np.sum(risk, 0) / 2)[2:-2, 2:-2], blurred[2:-2, 2:-2], atol=1e-6)
        line = np.repeat(images[:, 4, 2:7], np.rint(1e4 * kernel.sum(0)).astype(int), axis=1)
        assert learned("l2", line) == pytest.approx(
            float(np.mean(images[:, 4, 2:7] @ kernel.sum(0))), abs=1e-3
        )

    def test_a_perfectly_denoised_reference_is_biased(self):
        """Normal x and noise: the best denoiser shrinks, and what it shrank is learned."""
        prior, lr_noise, hr_noise, y = 50.0**2, 15.0**2, 20.0**2, 40.0
        mean, spread = (
            prior / (prior + lr_noise) * y,
            np.sqrt(prior * lr_noise / (prior + lr_noise)),
        )
        weight = prior / (prior + hr_noise)
        noisy = plus(mean + spread * NORMAL, np.sqrt(hr_noise) * NORMAL)
        assert learned("l2", noisy) == pytest.approx(mean, abs=1e-2)
        assert learned("l2", weight * noisy) == pytest.approx(weight * mean, abs=1e-2)


class TestShared:
    def test_any_prior_learns_its_share_of_the_input_noise(self, forms):
        """One pixel, x of two values, y = x + n + m; E[x + n | y] integrated over x and n."""
        sigma, added, y = 20.0, 12.0, 83.0
        x, weight = np.array([40.0, 150.0])[:, None], np.array([0.7, 0.3])[:, None]
        n = np.linspace(-200, 200, 4001)[None]
        joint = weight * norm.pdf(n / sigma) * norm.pdf((y - x - n) / added)
        joint /= joint.sum()
        clean, noisy = np.sum(joint * x), np.sum(joint * (x + n))
        share = sigma**2 / (sigma**2 + added**2)
        found = forms.shared_noise_mean(np.full((1, 1), clean), np.full((1, 1), y), share)
        assert found.item() == pytest.approx(noisy, abs=1e-6)

    def test_an_lr_pixel_over_nine_correlated_hr_pixels(self, forms):
        sigma, added, y = 20.0, 4.0, 31.0
        root = np.random.default_rng(1).normal(size=(9, 9)) * 30
        prior, area = root @ root.T, np.full(9, 1 / 9)
        seen = area @ prior @ area + sigma**2 / 9 + added**2
        clean, noisy = prior @ area / seen * y, (prior @ area + sigma**2 * area) / seen * y
        share = (sigma**2 / 9) / (sigma**2 / 9 + added**2)
        weight, kept = prior @ area / seen, (prior @ area + sigma**2 * area) / seen
        error, shared_error = (
            np.diag(prior) - 2 * w * seen * weight + w**2 * seen for w in (weight, kept)
        )
        left = (1 - area @ weight) ** 2 * seen
        assert np.allclose(shared_error - error, share**2 * left)
        found = forms.shared_noise_mean(clean.reshape(3, 3), np.full((1, 1), y), share)
        assert np.allclose(found.ravel(), noisy)
        alone = forms.shared_noise_mean(clean.reshape(3, 3), np.full((1, 1), y), 1.0)
        assert alone.mean() == pytest.approx(y)

    def test_recorrupted_halves_are_uncorrelated_and_the_input_is_not(self, references):
        clean = np.full((1, 900, 900), 100, np.float32)
        lr, scan, opposite = references.lr_scan(clean, np.random.default_rng(0))
        mean, second = (stages.sample_area(part, 3) for part in (scan, opposite))
        noise = np.var(lr)
        assert np.mean((lr - 100) * (mean - 100)) / noise == pytest.approx(
            references.SHARED, abs=0.02
        )
        assert np.mean((lr - 100) * (second - 100)) / noise == pytest.approx(0, abs=0.02)
        assert np.std(opposite) == pytest.approx(
            references.SIGMA * np.hypot(1, 1 / references.ALPHA), rel=0.01
        )

    def test_recorrupted_counts_are_uncorrelated_but_not_independent(self):
        """3 electrons: the target errs by what the skew of the counts says."""
        rate, alpha = 3.0, 0.5
        n = np.arange(40)[:, None] - rate
        z = np.sqrt(rate) * np.linspace(-7, 7, 2801)[None]
        weight = poisson.pmf(n + rate, rate) * norm.pdf(z / np.sqrt(rate))
        weight /= weight.sum()
        seen, target = n + alpha * z, n - z / alpha
        assert np.sum(weight * seen * target) == pytest.approx(0, abs=1e-6)
        variance = rate * (1 + alpha**2)
        square = seen**2 - variance
        slope = np.sum(weight * target * square) / np.sum(weight * square**2)
        assert slope == pytest.approx(1 / (1 + 2 * rate * (1 + alpha**2) ** 2), rel=1e-3)
        for side, error in ((1, 0.8), (-1, 2.3)):
            near = np.abs(seen - side * 2 * np.sqrt(variance)) < 0.2
            found = np.sum((weight * target)[near]) / np.sum(weight[near])
            assert found == pytest.approx(error, abs=0.1)


class TestThirdTerm:
    PRIOR, NOISE, VIEW = 55.0**2, 20.0**2, 12.0**2

    def response(self, hr_sigma: float, terms: slice) -> float:
        """The gain a of f(y) = a y that minimises the first terms of the loss, x normal."""
        few = normal(11)
        grids = np.meshgrid(few, few, few, few, indexing="ij")
        x, e, v, n = (torch.from_numpy(grid.ravel()) for grid in grids)
        x, e, v = x * self.PRIOR**0.5, e * self.NOISE**0.5, v * self.VIEW**0.5
        y, view, reference = x + e, x + e + v, x + hr_sigma * n

        def risk(a: float) -> float:
            if terms == slice(3):
                return two_view_loss(a * y, a * view, reference, "l2").item()
            parts = [(a * y, reference), (a * view, reference), (a * y, a * view)]
            return sum(LOSSES["l2"](*part).item() for part in parts[terms])

        return float(
            minimize_scalar(risk, bounds=(0, 2), method="bounded", options={"xatol": 1e-9}).x
        )

    @pytest.mark.parametrize(("terms", "share"), [(1, 0.0), (2, 0.5), (3, 1.0)])
    def test_it_shrinks_as_if_all_the_views_noise_were_in_the_input(self, terms, share):
        expected = self.PRIOR / (self.PRIOR + self.NOISE + share * self.VIEW)
        assert self.response(0.0, slice(terms)) == pytest.approx(expected, abs=1e-5)

    def test_noise_of_the_reference_changes_nothing_about_it(self):
        assert self.response(0.0, slice(3)) == pytest.approx(
            self.response(40.0, slice(3)), abs=1e-6
        )


class TestFiniteSample:
    N, P, SIGMA = 60, 4, 3.0

    def features(self) -> torch.Tensor:
        return torch.from_numpy(np.random.default_rng(3).normal(size=(self.N, self.P)))

    def gradient(self, loss: str, noise: np.ndarray) -> np.ndarray:
        """Of the loss at the true weights."""
        weights = torch.zeros(self.P, dtype=torch.float64, requires_grad=True)
        LOSSES[loss](self.features() @ weights, torch.from_numpy(noise)).backward()
        return weights.grad.numpy()

    def test_variance_of_the_gradient_grows_with_the_noise_of_l2_and_not_of_l1(self):
        """The gradient is linear in the noise (l2) or in its sign (l1): one pixel at a time."""
        x = self.features().numpy()
        silent = self.gradient("l1", np.zeros(self.N))
        assert np.allclose(silent, 0)
        for loss, law in (("l2", 4 * self.SIGMA**2), ("l1", 1.0)):
            each = [self.gradient(loss, self.SIGMA * row) for row in np.eye(self.N)]
            covariance = np.sum([np.outer(g, g) for g in each], axis=0)
            assert np.allclose(covariance, law * x.T @ x / self.N**2)

    @pytest.mark.parametrize("block", [1, 5])
    def test_excess_risk_of_a_linear_fit(self, block):
        """The weights that minimise our l2 loss, for noise of one block of pixels at a time: their
        risks add up to sigma^2 p / n, and for noise common to a block to tr(H Sigma) / n."""
        x = self.features()
        excess = 0.0
        for row in np.eye(self.N // block).repeat(block, axis=1):
            # The loss is quadratic: one Newton step from zero is its minimum.
            gradient = torch.from_numpy(self.gradient("l2", self.SIGMA * row))
            weights = -torch.linalg.solve(2 * x.T @ x / self.N, gradient)
            excess += torch.mean((x @ weights) ** 2).item()
        hat = (x @ torch.linalg.solve(x.T @ x, x.T)).numpy()
        common = np.kron(np.eye(self.N // block), np.ones((block, block)))
        assert excess == pytest.approx(self.SIGMA**2 * np.trace(hat @ common) / self.N)
        if block == 1:
            assert excess == pytest.approx(self.SIGMA**2 * self.P / self.N)


class TestExperiment:
    """What ``experiments/theory.py`` draws has the mean and the median that it predicts."""

    def batch(self, references, row: np.ndarray, count: int):
        """Patches of equal rows, as wide as the experiment's."""
        wide = np.tile(row.astype(np.float32), (count, row.size, 1))
        return references.Batch(
            wide, wide, wide, lambda: wide, lambda: wide, np.random.default_rng(5)
        )

    def drawn_and_said(self, references, kind: str, grey: float, loss: str):
        side = references.SIDE_PX + 2 * references.REACH_PX
        drawn = references.KINDS[kind].draw(self.batch(references, np.full(side, grey), 10))
        assert drawn.shape == (10, references.SIDE_PX, references.SIDE_PX)
        flat = np.full((1, 6, 6), grey)
        seen = references.Seen(flat, flat, 1e-6, flat[:, ::3, ::3], loss)
        said = references.KINDS[kind].predict(seen)
        return (np.mean if loss == "l2" else np.median)(drawn), said

    @pytest.mark.parametrize("kind", ["gaussian-20", "clipped", "impulses", "shifted"])
    @pytest.mark.parametrize("grey", [60.0, 190.0])
    @pytest.mark.parametrize("loss", LOSSES)
    def test_flat_references(self, references, kind, grey, loss):
        drawn, said = self.drawn_and_said(references, kind, grey, loss)
        assert said is None or drawn == pytest.approx(said.mean(), abs=0.4)

    @pytest.mark.parametrize("loss", LOSSES)
    def test_low_dose_on_average_over_an_electron(self, references, loss):
        greys = 100 - references.LOW_DOSE.gain * np.arange(8) / 8
        both = [self.drawn_and_said(references, "low-dose", grey, loss) for grey in greys]
        bias, said = np.mean([(drawn, sr.mean()) for drawn, sr in both], axis=0) - greys.mean()
        assert bias == pytest.approx(said, abs=0.3)
        assert said == pytest.approx(0 if loss == "l2" else -references.LOW_DOSE.gain / 6, rel=0.05)

    def test_shifted_references_move_by_one_pixel_rms(self, references):
        batch = self.batch(references, np.arange(references.SIDE_PX + 2 * references.REACH_PX), 100)
        moved = references.KINDS["shifted"].draw(batch) - batch.clean
        assert moved.mean() == pytest.approx(0, abs=0.04)
        assert moved.var() == pytest.approx(1 + 1 / 12, rel=0.04)
        whole = references.KINDS["shifted-patch"].draw(batch) - batch.clean
        assert np.all(whole == whole[:, :1, :1]) and np.unique(whole).size > 3
