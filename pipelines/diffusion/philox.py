"""The normal numbers that a card of NVIDIA draws for a seed, anywhere: Philox 4x32 with 10 rounds, and Box-Muller.

Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3" (sec. 3.3). Imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL = np.array([0x9E3779B9, 0xBB67AE85], np.uint32)
_LOW = np.uint64(0xFFFFFFFF)
_UNIT = np.float32(2.3283064e-10)  # 2^-32


class Philox:
    """The draws of one seed, in order; each counts on by one, whatever its shape. seed: 0 .. 2^64 - 1."""

    def __init__(self, seed: int):
        self._key = np.array([seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF], np.uint32)
        self._draws = 0

    def initial_seed(self) -> int:
        """The seed, as torch's generators tell it."""
        return int(self._key[0]) | int(self._key[1]) << 32

    def normal(self, shape: Sequence[int]) -> np.ndarray:
        """Draw unit noise of a shape, float32."""
        count = math.prod(shape)
        words = [np.zeros(count, np.uint32) for _ in range(4)]
        words[0][:] = self._draws
        words[2][:] = np.arange(count, dtype=np.uint32)
        self._draws += 1
        key = self._key.copy()
        for number in range(10):
            if number:
                key = key + _WEYL
            words = _round(words, key)
        u = words[0].astype(np.float32) * _UNIT + _UNIT / 2
        angle = words[1].astype(np.float32) * (_UNIT * np.float32(2 * math.pi)) + _UNIT * np.float32(math.pi)
        return (np.sqrt(-2 * np.log(u)) * np.sin(angle)).astype(np.float32).reshape(tuple(shape))


def _round(words: list[np.ndarray], key: np.ndarray) -> list[np.ndarray]:
    first, second = (word.astype(np.uint64) * factor for word, factor in zip(words[::2], _MULTIPLIERS, strict=True))
    high_1, high_2 = ((one >> np.uint64(32)).astype(np.uint32) for one in (first, second))
    low_1, low_2 = ((one & _LOW).astype(np.uint32) for one in (first, second))
    return [high_2 ^ words[1] ^ key[0], low_2, high_1 ^ words[3] ^ key[1], low_1]
