"""Rank, alpha, learning rate and steps belong together: one table, by what is learned and how long it may take.

The steps follow the number of pictures. A learning rate alone says nothing: the size of a step grows with
learning rate x alpha / rank.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..requests import changed
from .request import TrainLora


@dataclass(frozen=True)
class Preset:
    """views: how often each picture is seen. least, most: limits of the pictures seen in all."""

    rank: int
    alpha: float
    learning_rate: float
    views: int
    least: int
    most: int


PRESETS: dict[str, dict[str, Preset]] = {
    "subject": {
        "fast": Preset(16, 16, 2e-4, 60, 800, 4_000),
        "balanced": Preset(16, 16, 1e-4, 120, 1_600, 10_000),
        "thorough": Preset(32, 32, 1e-4, 200, 3_000, 24_000)},
    "style": {
        "fast": Preset(16, 16, 2e-4, 60, 1_200, 6_000),
        "balanced": Preset(16, 16, 1e-4, 100, 4_000, 16_000),
        "thorough": Preset(32, 32, 1e-4, 160, 8_000, 40_000)},
    "concept": {
        "fast": Preset(8, 8, 2e-4, 60, 800, 4_000),
        "balanced": Preset(16, 16, 1e-4, 100, 2_000, 12_000),
        "thorough": Preset(16, 16, 8e-5, 160, 4_000, 30_000)},
}
SMALL_UNET = 100_000_000  # parameters
# Small networks bear, and need, larger and more steps, and learn few pictures by heart with half the rank. Their finest
# level, where lines and colours are decided, often has no attention: there, a LoRA is felt through convolutions alone.
SMALL_RATE, SMALL_VIEWS, SMALL_RANK, SMALL_TARGETS = 5, 2, 0.5, "attention+ff+conv"
TARGETS = "attention+ff"
FULL_RATE = 0.1  # all weights at once bear a tenth of what a LoRA does
TEXT_RATE = 0.5


def resolve(config: TrainLora, *, pictures: int, native_size: int, unet_parameters: int) -> TrainLora:
    """Make every None of a config concrete. pictures: those that are trained on, before repeats."""
    preset = PRESETS[config.goal][config.length]
    small = unet_parameters < SMALL_UNET
    rate = preset.learning_rate * (SMALL_RATE if small else 1) * (FULL_RATE if config.method == "full" else 1)
    if config.optimizer == "prodigy":  # it finds the rate itself and multiplies it by this
        rate = 1.0
    auto = SMALL_TARGETS if small else TARGETS
    rank = config.rank or round(preset.rank * (SMALL_RANK if small else 1))
    batch = config.batch_size or _batch_size(native_size)
    seen = min(preset.most, max(preset.least, preset.views * pictures)) * (SMALL_VIEWS if small else 1)
    learning_rate = config.learning_rate or rate
    known = dict(
        targets=auto if config.targets == "auto" else config.targets, rank=rank,
        alpha=config.alpha or preset.alpha * rank / preset.rank, learning_rate=learning_rate,
        text_encoder_learning_rate=config.text_encoder_learning_rate or learning_rate * TEXT_RATE,
        batch_size=batch, resolution=config.resolution or native_size,
        steps=config.steps or max(1, round(seen / (batch * config.accumulation))))
    return changed(config, **known)


def _batch_size(native_size: int) -> int:
    return 8 if native_size <= 256 else 4 if native_size <= 512 else 2 if native_size <= 768 else 1
