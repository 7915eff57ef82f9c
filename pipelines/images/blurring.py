"""A Gaussian whose kernel ends: far from every lit pixel the result is 0 up to rounding noise of about 1e-6."""

from __future__ import annotations

import numpy as np

ROWS_AT_ONCE = 256  # keeps the spectra of a 16-megapixel mask to a few tens of megabytes


def kernel(sigma: float) -> np.ndarray:
    """Make the weights of a Gaussian: (2 * int(2.5 * sigma + 0.5) + 1,), sum 1, float32.

    The size is AUTOMATIC1111's for its mask blur (modules/processing.py).
    """
    reach = int(2.5 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1e-6)) ** 2)
    return (weights / weights.sum()).astype(np.float32)


def gaussian(values: np.ndarray, sigma: float) -> np.ndarray:
    """Blur along both sides; beyond its edges the picture goes on as its edge pixels.

    values: (h, w) float32. Returns the same shape. The noise is relative to the largest value, so 8-bit values
    that are rounded afterwards are exact zeros outside the kernel's reach.
    """
    weights = kernel(sigma)
    if len(weights) == 1:
        return values.copy()
    return _along_rows(_along_rows(values, weights).T, weights).T


def _along_rows(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    reach = len(weights) // 2
    width = values.shape[1]
    length = -(-(width + 2 * reach) // 64) * 64  # a multiple of 64: transforms of prime length are slow
    spectrum = np.fft.rfft(weights, length)
    blurred = np.empty(values.shape, np.float32)
    for top in range(0, len(values), ROWS_AT_ONCE):
        rows = np.pad(values[top:top + ROWS_AT_ONCE].astype(np.float32), ((0, 0), (reach, reach)), mode="edge")
        convolved = np.fft.irfft(np.fft.rfft(rows, length) * spectrum, length)
        blurred[top:top + ROWS_AT_ONCE] = convolved[:, 2 * reach:2 * reach + width]
    return blurred
