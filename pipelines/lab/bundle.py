"""Make the two small models that come along: python -m pipelines.lab.bundle (about half an hour on two cores).

digits: a run of the page Train with the network attention. digits-ddpm: an unconditional DDPMPipeline of diffusers.
Both learn scikit-learn's digits, 8 x 8 pixels, and keep their averaged weights in half precision.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from ..machine import device
from ..requests import make
from .assets import BUNDLED
from .events import EpochDone
from .requests import Train

MINUTES = 12.0


def main(target: Path = BUNDLED, minutes: float = MINUTES) -> int:
    """Train both, for so many minutes each, and write them into folders of target."""
    device.prepare_environment(os.environ)
    from . import train

    with TemporaryDirectory() as folder:
        for name, values, write in (("digits", {"data": "digits", "network": "attention"}, as_run),
                                    ("digits-ddpm", {"data": "digits:any", "network": "unet2d"}, as_pipeline)):
            run = Path(folder) / name
            for event in train.run(make(Train, output=str(run), minutes=minutes, samples=0, **values)):
                if isinstance(event, EpochDone):
                    print(f"{name}: epoch {event.epoch}, loss {event.loss:.4f}, {event.seconds_left:.0f} s left",
                          flush=True)
            write(run, target / name)
    return 0


def as_run(run: Path, target: Path) -> None:
    """What drawing from a run needs, without the state that only going on needs."""
    import torch

    from . import checkpoints

    state = checkpoints.read(run)
    halves = {name: weight.half() if weight.is_floating_point() else weight
              for name, weight in state["averaged"].items()}
    target.mkdir(parents=True, exist_ok=True)
    torch.save({"format": state["format"], "model": state["model"], "averaged": halves,
                "request": {**state["request"], "output": ""}}, target / checkpoints.FILE)


def as_pipeline(run: Path, target: Path) -> None:
    """The run's U-Net with the scheduler that says the same of noise and prediction."""
    import torch
    from diffusers import DDPMPipeline, DDPMScheduler

    from . import checkpoints

    model = checkpoints.load_model(run)
    model.network.unet.register_to_config(sample_size=model.side)
    scheduler = DDPMScheduler(len(model.schedule), beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction")
    DDPMPipeline(model.network.unet, scheduler).to(torch.float16).save_pretrained(target)


if __name__ == "__main__":
    sys.exit(main())
