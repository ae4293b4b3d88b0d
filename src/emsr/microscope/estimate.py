"""What one acquisition was like, read back from its images: noise, and blur of LR against HR."""

from __future__ import annotations

from emsr.microscope.estimate_blur import relative_blur
from emsr.microscope.estimate_model import Blur, Noise, read_noise
from emsr.microscope.estimate_noise import noise_from_image, noise_from_slices
from emsr.microscope.estimate_repeat import noise_from_repeat
from emsr.microscope.estimate_unpaired import blur_from_spectra

__all__ = [
    "Blur",
    "Noise",
    "blur_from_spectra",
    "noise_from_image",
    "noise_from_repeat",
    "noise_from_slices",
    "read_noise",
    "relative_blur",
]
