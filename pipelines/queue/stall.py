"""When a job hangs: nothing has come of it for much longer than one of its steps takes."""

from __future__ import annotations

from ..events import StepDone

STEPS = 30  # as long as this many steps take,
AFTER_S = 60.0  # and no less than this; what follows the last step, decoding, takes several of them
BEFORE_S = 600.0  # before the first step, while a checkpoint is loaded
SAID_EVERY_S = 10.0


def stalled_s(silent_s: float, step: StepDone | None) -> float:
    """Return for how long a job hangs; 0 while that may be work. step: the last one it reported, None before it."""
    usual_s = STEPS / step.steps_per_s if step and step.steps_per_s > 0 else 0.0
    return silent_s if silent_s > max(AFTER_S if step else BEFORE_S, usual_s) else 0.0
