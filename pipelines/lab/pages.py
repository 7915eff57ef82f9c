"""What the pages of the lab ask of a loaded checkpoint: frozen values, every parameter declared once. No torch.

To add a page: a request here, a function in jobs.py that answers it, and a file in ui/tabs/lab/.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from pydantic import field_validator
from pydantic_core import PydanticCustomError

from ..requests import MAX_PROMPT, param
from ..samplers import SAMPLERS
from .requests import LabRequest, ScheduleName

SamplerName = Literal[tuple(SAMPLERS)]
Beside = Literal[("nothing", *SAMPLERS)]
NEVER_PLAIN = re.compile(r"[()\[\]{}<>|\\]|\b(AND|BREAK)\b")
TASK = "lab-"  # a page's jobs are told from those of other tabs by this and the page's name


class Film(LabRequest):
    """Watch a picture come out of noise."""

    prompt: str = param("", "Prompt", max_length=MAX_PROMPT, help="What the picture should show.")
    sampler: SamplerName = param("Euler a", "Sampler", help="The solver that walks from noise to picture.")
    steps: int = param(12, "Steps", ge=1, le=60, step=1, help="How many times the model is asked.")
    beside: Beside = param("nothing", "Compare with", help="A second run from the same noise.")
    beside_steps: int = param(12, "Steps of the second", ge=1, le=60, step=1, help="How many steps the second run has.")
    guidance_scale: float = param(5.0, "Guidance scale", ge=1, le=30, step=0.5,
                                  help="How far each step is pushed along the guidance direction; 1 is not at all.")
    columns: int = param(6, "Columns", ge=2, le=12, step=1, help="About how many steps are shown.")


class Noise(LabRequest):
    """Drown a picture in noise, and compare how schedules spread that over the steps."""

    image: str = param("", "Picture", help="The picture to add noise to.")
    schedule: ScheduleName = param("scaled linear", "Schedule", help="Which of the curves the pictures follow.")
    timesteps: int = param(1000, "Timesteps", ge=10, le=10_000, step=10, help="Noise levels from picture to noise.")
    count: int = param(8, "Pictures", ge=2, le=16, step=1, help="At how many timesteps, evenly spread.")


class Autoencoder(LabRequest):
    """Look at what the autoencoder keeps of a picture."""

    image: str = param("", "Picture", help="The picture to encode and decode.")
    side: int = param(256, "Longer side (px)", ge=32, le=1024, multiple_of=8, step=8,
                      help="Larger pictures are brought to this size first.")


class Words(LabRequest):
    """Look at what a prompt is to the model, and where in the picture each word acts."""

    prompt: str = param("", "Prompt", max_length=MAX_PROMPT,
                        help="Plain words, without weights, wildcards or other prompt syntax.")
    others: str = param("", "Compare with", max_length=MAX_PROMPT, help="Other prompts, one a line.")
    steps: int = param(10, "Steps", ge=1, le=60, step=1, help="Denoising steps of the picture.")
    guidance_scale: float = param(5.0, "Guidance scale", ge=1, le=30, step=0.5,
                                  help="How closely the picture follows the prompt.")

    @field_validator("prompt")
    @classmethod
    def _is_plain(cls, value: str) -> str:
        if NEVER_PLAIN.search(value):  # the tokens shown would not be those that the picture is made from
            raise PydanticCustomError("plain", "Only plain words can be looked at here: no brackets, AND or BREAK")
        return value


PAGES: dict[str, type[LabRequest]] = {"film": Film, "noise": Noise, "autoencoder": Autoencoder, "words": Words}


@dataclass(frozen=True)
class LabJob:
    """Ask for a page's answer. page: a key of PAGES. model: name of the checkpoint that is looked into."""

    page: str
    request: LabRequest
    model: str
