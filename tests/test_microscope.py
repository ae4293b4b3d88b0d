"""The microscope's stages obey their laws; the tissue is one volume however it is cut."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from emsr.microscope import canvas as canvas_module
from emsr.microscope.beads import Beads
from emsr.microscope.canvas import Canvas, coarse_grid
from emsr.microscope.distortions import charging, drift, line_jitter
from emsr.microscope.partition import divide
from emsr.microscope.scan import acquire, expected, scan_for_greys
from emsr.microscope.smooth_field import Grid, SmoothField
from emsr.microscope.stages import (
    SAMPLINGS,
    blur,
    detector,
    electron_yield,
    gaussian_kernel,
    gaussian_noise,
    poisson_gaussian,
    quantise,
    sample_area,
    sample_point,
    shot_noise,
)
from emsr.microscope.tissue import ANATOMIES, tissue

PRESETS = sorted(ANATOMIES)


def image(shape, seed=0):
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def second_moments(kernel):
    """Covariance (xx, xy, yy) of a kernel about its centre."""
    r = kernel.shape[0] // 2
    y, x = np.mgrid[-r : r + 1, -r : r + 1]
    return [float((kernel * m).sum()) for m in (x * x, x * y, y * y)]


class TestStages:
    @given(
        a=st.floats(0.6, 4), b=st.floats(0.6, 4), angle=st.floats(-np.pi, np.pi, allow_nan=False)
    )
    @settings(max_examples=40, deadline=None)
    def test_kernel_has_the_stated_moments(self, a, b, angle):
        kernel = gaussian_kernel(a, b, angle)
        assert kernel.dtype == np.float32 and kernel.shape[0] % 2 == 1
        assert kernel.sum() == pytest.approx(1, abs=1e-5)
        c, s = np.cos(angle), np.sin(angle)
        stated = [
            a * a * c * c + b * b * s * s,
            (a * a - b * b) * c * s,
            a * a * s * s + b * b * c * c,
        ]
        assert second_moments(kernel) == pytest.approx(stated, abs=0.03 * max(a, b) ** 2)

    def test_zero_width_is_the_unit_impulse(self):
        assert np.array_equal(gaussian_kernel(0, 0, 0.3), [[1]])
        with pytest.raises(ValueError, match="negative"):
            gaussian_kernel(-1, 1, 0)

    @pytest.mark.parametrize("angle", [0.0, 0.7])
    def test_blur_is_convolution_with_reflection(self, angle):
        kernel = gaussian_kernel(1.5, 0.8, angle)
        picture = image((20, 31))
        golden = ndimage.convolve(picture.astype(float), kernel.astype(float), mode="reflect")
        assert np.abs(blur(picture, kernel) - golden).max() < 1e-5
        assert np.abs(blur(np.ones((9, 9), np.float32), kernel) - 1).max() < 1e-5

    def test_blur_convolves_and_does_not_correlate(self):
        kernel = np.zeros((3, 3), np.float32)
        kernel[0, 1], kernel[2, 2] = 0.25, 0.75
        impulse = np.zeros((7, 7), np.float32)
        impulse[3, 3] = 1
        assert np.array_equal(blur(impulse, kernel)[2:5, 2:5], kernel)

    def test_blur_treats_each_slice_alone(self):
        stack, kernel = image((3, 12, 13)), gaussian_kernel(1.2, 0.6, 0.4)
        alone = np.stack([blur(slice_, kernel) for slice_ in stack])
        assert np.array_equal(blur(stack, kernel), alone)

    def test_large_pixel_i_covers_small_pixels_from_s_i(self):
        fine = np.arange(36, dtype=np.float32).reshape(6, 6)
        coarse = sample_area(fine, 3)
        assert coarse[1, 0] == fine[3:6, 0:3].mean()
        assert sample_point(fine, 3)[1, 0] == fine[4, 1]
        assert sample_point(fine, 2)[0, 0] == fine[:2, :2].mean()
        assert np.array_equal(sample_area(fine, 1), fine)
        assert sample_area(image((2, 6, 9)), 3).shape == (2, 2, 3)
        with pytest.raises(ValueError, match="multiple"):
            sample_area(fine, 4)

    def test_yield_and_detector_are_linear(self):
        stain = np.array([[0, 0.5, 1]], np.float32)
        assert np.allclose(electron_yield(stain, 0.2, 0.8), [[0.2, 0.5, 0.8]])
        assert np.allclose(detector(np.array([[0.0, 100.0]]), -0.5, 200), [[200, 150]])

    def test_quantise_saturates_and_never_wraps(self):
        grey = np.array([-3.0, 0.5, 1.5, 254.6, 255.4, 256, 1e9], np.float32)
        assert quantise(grey, "uint8").tolist() == [0, 0, 2, 255, 255, 255, 255]
        assert quantise(np.array([-1.0, 7e4]), "uint16").tolist() == [0, 65535]

    def test_noise_has_the_stated_moments(self):
        rng = np.random.default_rng(3)
        flat = np.full((200, 200), 40, np.float32)
        counted, noisy = shot_noise(flat, rng), gaussian_noise(flat, 3.0, rng)
        assert counted.mean() == pytest.approx(40, abs=0.15)
        assert counted.var() == pytest.approx(40, rel=0.03)
        assert noisy.mean() == pytest.approx(40, abs=0.08)
        assert noisy.std() == pytest.approx(3, rel=0.02)
        assert noisy.dtype == np.float32


class TestDistortions:
    def test_nothing_at_zero(self):
        picture, rng = image((8, 9)), np.random.default_rng(0)
        assert drift(picture, (0, 0)) is picture
        assert line_jitter(picture, 0, 2, rng) is picture
        assert charging(picture, 0, rng) is picture

    def test_drift_moves_the_last_line_by_all_of_it(self):
        ramp = np.tile(np.arange(30, dtype=np.float32), (12, 1))
        moved = drift(ramp, (0.0, 4.0))
        assert np.allclose(moved[0, 8:20], ramp[0, 8:20])
        assert np.allclose(moved[-1, 8:20], ramp[-1, 8:20] - 4)

    def test_jitter_moves_whole_scan_lines(self):
        ramp = np.tile(np.arange(60, dtype=np.float32), (8, 1))
        shift = ramp - line_jitter(ramp, 1.5, 2, np.random.default_rng(1))
        inner = shift[:, 10:50]
        assert np.allclose(inner, inner[:, :1], atol=1e-4)
        assert np.allclose(inner[0::2], inner[1::2])
        assert np.unique(inner[:, 0].round(3)).size == 4

    def test_charging_brightens_along_x(self):
        flat = np.full((64, 64), 100, np.float32)
        extra = charging(flat, 0.3, np.random.default_rng(2)) - flat
        assert extra.min() >= 0 and extra.max() == pytest.approx(30, rel=0.01)
        assert np.abs(np.diff(extra, axis=1)).mean() < 0.5 * np.abs(np.diff(extra, axis=0)).mean()


class TestScan:
    scan = scan_for_greys(220, 20, 500, psf_sigma_px=1.0, factor=2, read_noise=2)

    def test_greys_are_those_asked_for(self):
        flat = np.zeros((8, 8), np.float32)
        assert np.allclose(expected(flat, self.scan), 220, atol=1e-3)
        assert np.allclose(expected(flat + 1, self.scan), 20, atol=1e-3)
        bright = scan_for_greys(20, 220, 500, psf_sigma_px=0, factor=1, read_noise=0)
        assert bright.gain > 0
        assert np.allclose(expected(flat + 1, bright), 220, atol=1e-3)

    def test_expectation_at_zero_psf_is_the_area_mean(self):
        stain = image((12, 18))
        fine = scan_for_greys(220, 20, 500, psf_sigma_px=0, factor=1, read_noise=2)
        large = replace(fine, factor=3)
        assert np.allclose(expected(stain, large), sample_area(expected(stain, fine), 3), atol=1e-3)
        spot = replace(large, area=False)
        assert np.allclose(expected(stain, spot), expected(stain, fine)[1::3, 1::3], atol=1e-3)

    def test_acquisitions_average_to_the_expectation(self):
        stain = 0.2 + 0.6 * image((16, 16))
        mean = expected(stain, self.scan)
        law = self.scan.gain * (mean - self.scan.offset) + self.scan.read_noise**2 + 1 / 12
        rng = np.random.default_rng(5)
        many = np.stack([acquire(stain, self.scan, rng) for _ in range(3000)]).astype(float)
        assert many.min() > 0 and many.max() < 255
        error = (many.mean(0) - mean) / np.sqrt(law / len(many))
        assert np.abs(error).max() < 5 and error.std() == pytest.approx(1, abs=0.35)
        assert np.abs(many.var(0) / law - 1).max() < 0.2
        assert (many.var(0) / law).mean() == pytest.approx(1, abs=0.02)

    def test_saturation_and_depth(self):
        scan = replace(self.scan, offset=self.scan.offset + 60)
        white = acquire(np.zeros((32, 32), np.float32), scan, np.random.default_rng(0))
        assert white.dtype == np.uint8 and white.min() > 200 and white.max() == 255
        deep = replace(self.scan, dtype="uint16", gain=self.scan.gain * 100, offset=4e4)
        assert acquire(np.zeros((4, 4), np.float32), deep, np.random.default_rng(0)).max() > 255

    def test_distortions_come_through(self):
        stain, rng = image((16, 16)), np.random.default_rng
        straight = acquire(stain, self.scan, rng(1))
        for change in ({"jitter_px": 2.0}, {"drift_px": (3.0, 1.0)}, {"charging": 0.5}):
            assert not np.array_equal(
                acquire(stain, replace(self.scan, **change), rng(1)), straight
            )


class TestSmoothField:
    def test_unit_variance_and_correlation_length(self):
        axis = np.arange(256, dtype=np.float32) * 10
        field = SmoothField(1, 2, (100, 50, 50)).at(300.0, Grid(axis, axis))
        assert field.dtype == np.float32
        assert abs(field.mean()) < 0.1 and field.std() == pytest.approx(1, abs=0.15)
        near = np.corrcoef(field[:, 1:].ravel(), field[:, :-1].ravel())[0, 1]
        far = np.corrcoef(field[:, 25:].ravel(), field[:, :-25].ravel())[0, 1]
        assert near > 0.9 and abs(far) < 0.1

    def test_continuous_in_z_and_streams_independent(self):
        axis = np.arange(128, dtype=np.float32) * 10
        grid, field = Grid(axis, axis), SmoothField(1, 2, (100, 50, 50))
        # across the lattice plane at z = 200
        assert np.abs(field.at(199.99, grid) - field.at(200.01, grid)).max() < 0.01
        other = SmoothField(1, 3, (100, 50, 50)).at(200.0, grid)
        assert abs(np.corrcoef(field.at(200.0, grid).ravel(), other.ravel())[0, 1]) < 0.15


class TestPartition:
    def beads(self):
        rng = np.random.default_rng(4)
        centre = rng.uniform(0, 800, (40, 3)) * [0.3, 1, 1]
        label = np.arange(40, dtype=np.int32) // 2
        return Beads(centre.astype(np.float32), np.full(40, 60, np.float32), label)

    def canvas(self):
        axis = np.arange(200, dtype=np.float32) * 4
        fine = Grid(axis, axis)
        coarse = coarse_grid(fine, 5)
        y, x = np.meshgrid(coarse.y_nm, coarse.x_nm, indexing="ij")
        return Canvas(100.0, fine, 5, y, x)

    def test_owner_is_the_nearest_tube(self):
        beads, canvas = self.beads(), self.canvas()
        part = divide(canvas, beads, 150.0)
        y, x = np.meshgrid(canvas.fine.y_nm, canvas.fine.x_nm, indexing="ij")
        point = np.stack([np.full_like(y, 100), y, x])
        away = point[None] - beads.centre_nm[:, :, None, None]
        field = np.linalg.norm(away, axis=1) - 60
        tubes = field.reshape(20, 2, *y.shape).min(axis=1)
        ranked = np.sort(tubes, axis=0)
        clear = (ranked[1] - ranked[0] > 15) & (ranked[0] < 100)
        assert clear.mean() > 0.3
        assert np.array_equal(part.owner[clear], tubes.argmin(axis=0)[clear])
        # the coarse grid (20 nm) and the splines round creases, by less than its step
        assert np.abs(part.nearest - np.minimum(ranked[0], 150))[clear].max() < 20

    def test_blocks_leave_no_trace(self, monkeypatch):
        beads, canvas = self.beads(), self.canvas()
        whole = divide(canvas, beads, 150.0)
        monkeypatch.setattr(canvas_module, "BLOCK_PX", 45)
        for name, array in vars(divide(canvas, beads, 150.0)).items():
            assert np.allclose(array, getattr(whole, name), atol=1e-3), name

    def test_a_place_is_seen_where_the_warp_puts_it(self):
        canvas = self.canvas()
        bent = replace(canvas, warped_y=canvas.warped_y + 20 * np.sin(canvas.warped_x / 90))
        place = np.array([[300.0, 250.0], [412.0, 600.0]], np.float32)
        seen = bent.seen_at(place)
        assert np.allclose(seen[:, 0] + 20 * np.sin(seen[:, 1] / 90), place[:, 0], atol=1)


@pytest.mark.parametrize("preset", PRESETS)
class TestTissue:
    shape, spacing = (4, 96, 120), (30.0, 9.0, 9.0)

    def test_slabs_make_the_whole(self, preset):
        whole = tissue(preset, self.shape, self.spacing, 7).render(0, 4)
        assert whole.shape == self.shape and whole.dtype == np.float32
        assert whole.min() >= 0 and whole.max() <= 1 and whole.std() > 0.08
        again = tissue(preset, self.shape, self.spacing, 7)
        slabs = [again.render(2, 4), again.render(0, 1), again.render(1, 2)]
        assert np.array_equal(np.concatenate([slabs[1], slabs[2], slabs[0]]), whole)

    def test_seeds_differ(self, preset):
        one, other = (tissue(preset, self.shape, self.spacing, s).render(0, 1) for s in (1, 2))
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.5
        assert not np.array_equal(one, other)

    def test_continuous_in_z(self, preset):
        """1 nm deeper is nearly the same slice: nothing jumps."""
        stack = tissue(preset, (12, 96, 96), (1.0, 9.0, 9.0), 3).render(0, 12)
        steps = np.abs(np.diff(stack, axis=0)).mean(axis=(1, 2))
        assert steps.max() < 0.02
        assert np.abs(stack[-1] - stack[0]).mean() > 2 * steps.mean()

    @pytest.mark.parametrize("size", [(1, 16, 16), (1, 33, 40)])
    def test_small_blocks(self, preset, size):
        for seed in range(3):
            block = tissue(preset, size, (40.0, 7.5, 6.0), seed).render(0, 1)
            assert block.shape == size and np.isfinite(block).all()


def test_white_matter_has_dark_rings_around_pale_axons():
    """Myelin: a fair share of the heaviest stain, and more pale than dark inside it."""
    stain = tissue("white-matter", (1, 384, 384), (50.0, 15.0, 15.0), 0).render(0, 1)[0]
    dark = stain > 0.7
    assert 0.15 < dark.mean() < 0.6
    enclosed = ndimage.binary_fill_holes(dark) & ~dark
    _, axons = ndimage.label(ndimage.binary_opening(enclosed, iterations=4))
    assert axons >= 5
    assert stain[enclosed].mean() < 0.4


def test_neuropil_membranes_are_thin():
    """Most dark pixels are gone after removing what is thinner than 40 nm, except organelles."""
    stain = tissue("neuropil", (1, 256, 256), (30.0, 8.0, 8.0), 0).render(0, 1)[0]
    dark = stain > 0.5
    thick = ndimage.binary_opening(dark, iterations=2)
    assert 0.1 < dark.mean() < 0.45
    assert thick.sum() < 0.65 * dark.sum()


class TestPoissonGaussian:
    def grey(self, electrons, gain, offset, read, side=400):
        clean = np.full((side, side), offset + gain * electrons, np.float32)
        return poisson_gaussian(clean, gain, offset, read, np.random.default_rng(4))

    @pytest.mark.parametrize(
        ("electrons", "gain", "offset", "read"),
        [(3.0, 20.0, -10.0, 0.0), (80.0, -0.5, 341.0, 2.0), (400.0, 0.01, 3.0, 0.4)],
    )
    def test_mean_and_variance_are_those_stated(self, electrons, gain, offset, read):
        made = self.grey(electrons, gain, offset, read)
        variance = gain**2 * electrons + read**2
        error = np.sqrt(variance) / 400
        assert made.mean() == pytest.approx(offset + gain * electrons, abs=5 * error)
        assert made.var() == pytest.approx(variance, rel=0.03)
        assert made.dtype == np.float32

    def test_it_is_its_stages(self):
        clean = 50 + 100 * image((40, 40))
        made = poisson_gaussian(clean, 2.0, 10.0, 3.0, np.random.default_rng(1))
        rng = np.random.default_rng(1)
        counted = shot_noise((clean - 10) / 2, rng)
        assert np.array_equal(made, gaussian_noise(detector(counted, 2.0, 10.0), 3.0, rng))

    def test_no_fewer_than_no_electrons(self):
        made = poisson_gaussian(image((9, 9)) - 5, 2.0, 0.0, 0.0, np.random.default_rng(0))
        assert np.array_equal(made, np.zeros((9, 9)))
        above = poisson_gaussian(image((9, 9)) + 7, -2.0, 7.0, 0.0, np.random.default_rng(0))
        assert np.array_equal(above, np.full((9, 9), 7))


def test_samplings_by_name():
    fine = image((6, 6))
    assert np.array_equal(SAMPLINGS["area"](fine, 3), sample_area(fine, 3))
    assert np.array_equal(SAMPLINGS["point"](fine, 3), sample_point(fine, 3))
