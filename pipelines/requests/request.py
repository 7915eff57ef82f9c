"""What every picture request has."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, field_validator

from .param import param

MAX_SEED = 2**64 - 1  # as far as torch counts
MAX_SEED_32 = 2**32 - 1  # where numpy draws as well: training and the lab
MAX_PROMPT = 4_000

Dynamic = Literal["off", "random", "all combinations"]
Emphasis = Literal["Original", "No norm", "Ignore", "None"]
PromptSteps = Literal["AUTOMATIC1111", "AUTOMATIC1111 before 1.6", "Whole steps"]
NoiseSource = Literal["CPU", "GPU", "NV"]
Tiling = Literal["off", "x", "y", "both"]


class Request(BaseModel):
    """What every picture request has."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    prompt: str = param("", "Prompt", max_length=MAX_PROMPT, a1111="prompt", kind="prompt", needs=None,
                        axis_cost=1, preset=False, timed=True,
                        help="What the picture should show. Words near the start weigh more.")
    negative_prompt: str = param("", "Negative prompt", max_length=MAX_PROMPT, infotext="Negative prompt",
                                 a1111="negative_prompt", kind="prompt", needs="negative_prompt", axis_cost=1,
                                 preset=False, help="What the picture should keep away from.")
    styles: tuple[str, ...] = param((), "Styles", max_length=20, a1111="styles", needs=None, axis_cost=None,
                                    help="Saved pieces of prompt that go around or behind what is typed. The picture's "
                                         "settings carry the whole prompt.")
    prompt_lines: bool = param(False, "One prompt a line", needs=None, axis_cost=None, preset=False,
                               help="Makes the pictures once for each line of the prompt, and one labelled grid.")
    dynamic: Dynamic = param("off", "Wildcards and choices", needs=None,
                             help="Reads `__name__` as a random line of the file name.txt in the wildcards folder, and "
                                  "{a|b|2::c} as one of its parts, in every prompt; several parts and variables as "
                                  "Dynamic Prompts writes them. Random draws by the seed, anew for each batch.")
    emphasis: Emphasis = param("Original", "Emphasis", infotext="Emphasis", needs=None,
                               help="How (words:1.2) are weighted: as AUTOMATIC1111 does, without restoring the mean, "
                                    "ignored, or read as plain text.")
    prompt_steps: PromptSteps = param("AUTOMATIC1111", "Count prompt steps as", needs=None,
                                      infotext="Old prompt editing timelines",
                                      words={"AUTOMATIC1111": "False", "AUTOMATIC1111 before 1.6": "True"},
                                      help="When [a:b:0.5] and [a|b] change: at the model call that AUTOMATIC1111 "
                                           "changes at, as it did before version 1.6, or after whole steps, which "
                                           "begin anew in the second pass.")
    sampler: str | None = param(None, "Sampler", infotext="Sampler", a1111="sampler_name", kind="sampler",
                                by_model=True,
                                help="The solver that walks from noise to picture. Euler a and DPM++ 2M are good first "
                                     "choices; names with an 'a' add fresh noise at every step.")
    schedule: str | None = param(None, "Schedule", infotext="Schedule type", a1111="scheduler", kind="schedule",
                                 by_model=True,
                                 help="How the steps are spaced between noise and picture. Karras spends more of them "
                                      "on detail.")
    steps: int | None = param(None, "Steps", ge=1, le=150, step=1, infotext="Steps", a1111="steps", needs=None,
                              by_model=True, timed=True,
                              help="Denoising steps. More is slower and, past about 30, seldom better.")
    guidance_scale: float | None = param(None, "Guidance scale", ge=0, le=30, step=0.5, infotext="CFG scale",
                                         a1111="cfg_scale", needs=None, by_model=True, timed=True,
                                         help="How closely the picture follows the prompt. Low is free, high is "
                                              "literal and, past about 12, harsh.")
    width: int | None = param(None, "Width (px)", ge=64, le=2048, multiple_of=8, step=8, infotext="Size-1",
                              a1111="width", needs=None, by_model=True, timed=True,
                              help="Picture width. Far from the model's own size, things repeat.")
    height: int | None = param(None, "Height (px)", ge=64, le=2048, multiple_of=8, step=8, infotext="Size-2",
                               a1111="height", needs=None, by_model=True, timed=True,
                               help="Picture height. Far from the model's own size, things repeat.")
    seed: int = param(-1, "Seed", ge=-1, le=MAX_SEED, step=1, infotext="Seed", a1111="seed", kind="seed",
                      needs=None, preset=False,
                      help="The number the noise is drawn from: same seed and settings, same picture. -1 takes a new "
                           "one each time.")
    batch_size: int = param(1, "Batch size", ge=1, le=16, step=1, a1111="batch_size", needs=None, axis_cost=None,
                            help="Pictures made at once. Faster per picture, needs more memory.")
    batch_count: int = param(1, "Batch count", ge=1, le=16, step=1, a1111="n_iter", needs=None, axis_cost=None,
                             help="How many batches to make, one after the other.")
    clip_skip: int = param(1, "Clip skip", ge=1, le=12, step=1, infotext="Clip skip", a1111="clip_skip", axis_cost=1,
                           infotext_aliases=("Clip-skip",),
                           help="Which of the text encoder's last layers is read: 1 is the last. Some models were "
                                "trained with 2.")
    variation_seed: int = param(-1, "Variation seed", ge=-1, le=MAX_SEED, step=1, infotext="Variation seed",
                                a1111="subseed", kind="seed", depends_on="variation_strength", preset=False,
                                help="A second seed that is mixed into the first.")
    variation_strength: float = param(0.0, "Variation strength", ge=0, le=1, step=0.01, a1111="subseed_strength",
                                      infotext="Variation seed strength",
                                      help="How far the picture moves from its seed towards the variation seed: "
                                           "0.1 keeps the composition, 1 is the other picture.")
    noise_source: NoiseSource = param("CPU", "Noise drawn on", infotext="RNG",
                                      help="Where random numbers come from: the processor (CPU), the same on every "
                                           "machine; what computes (GPU); or NV, those of an NVIDIA card, on any "
                                           "machine, for pictures that were made on one.")
    noise_delta: int = param(0, "Seed of later noise", ge=0, le=MAX_SEED_32, step=1, infotext="ENSD",
                             help="Added to the seed for the fresh noise of steps; the first noise stays. 31337 is "
                                  "what some programs use.")
    seed_resize_width: int = param(0, "Seed from width (px)", ge=0, le=2048, multiple_of=8, step=8,
                                   infotext="Seed resize from-1", a1111="seed_resize_from_w",
                                   help="Takes the noise of a picture of this width, so that another size keeps its "
                                        "middle. 0 is off.")
    seed_resize_height: int = param(0, "Seed from height (px)", ge=0, le=2048, multiple_of=8, step=8,
                                    infotext="Seed resize from-2", a1111="seed_resize_from_h",
                                    help="Takes the noise of a picture of this height, so that another size keeps its "
                                         "middle. 0 is off.")
    tiling: Tiling = param("off", "Tiling", infotext="Tiling", a1111="tiling", words={"both": "True"},
                           help="Makes opposite edges fit together, for patterns: left to right (x), top to bottom "
                                "(y), or both.")
    guidance_rescale: float = param(0.0, "Guidance rescale", ge=0, le=1, step=0.05, infotext="Guidance rescale",
                                    help="Takes back the harsh contrast of a high guidance scale; 0.7 suits models "
                                         "with v-prediction.")
    guidance_start: float = param(0.0, "Guidance from", ge=0, le=1, step=0.05, infotext="Guidance start",
                                  infotext_aliases=("Skip Early CFG",),
                                  help="Guidance begins at this share of the steps. Later is more varied.")
    guidance_end: float = param(1.0, "Guidance until", ge=0, le=1, step=0.05, infotext="Guidance end",
                                help="Guidance ends at this share of the steps. Earlier is faster and softer.")
    eta: float | None = param(None, "Eta", ge=0, le=1, step=0.05, infotext="Eta", a1111="eta",
                              help="How much fresh noise a step draws. Empty is as the sampler is meant: all of it for "
                                   "ancestral and SDE samplers, none for DDIM; 0 none, 1 all.")
    s_churn: float = param(0.0, "Churn", ge=0, le=100, step=1, infotext="Sigma churn", a1111="s_churn",
                           help="Extra noise that Euler, Heun, HeunPP2 and DPM2 add and take away again; livelier "
                                "detail.")
    s_noise: float = param(1.0, "Noise factor", ge=0.9, le=1.1, step=0.005, infotext="Sigma noise", a1111="s_noise",
                           help="How strong the noise of Churn is. Just over 1 gives more detail, just under 1 less.")
    model: str | None = param(None, "Model", infotext="Model", kind="model", needs=None, axis_cost=4,
                              help="The checkpoint that draws.")
    texts: tuple[tuple[str, ...], ...] = param((), "Texts", kind="resolved", needs=None, axis_cost=None,
                                               help="Made by resolving: the prompts of each batch.")
    vae: str | None = param(None, "VAE", max_length=200, infotext="VAE", kind="vae", axis_cost=3, may_be_empty=True,
                            help="Another autoencoder in place of the model's own: it turns what was drawn into "
                                 "colours, and changes contrast and fine detail.")

    @field_validator("*", mode="before")
    @classmethod
    def _what_browsers_send(cls, value: object) -> object:
        # A browser has one number type, so 20 may arrive as 20.0, and no tuples. Strict mode refuses everything else.
        if isinstance(value, list):
            return tuple(tuple(each) if isinstance(each, list) else each for each in value)
        return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value

    @field_validator("seed", "variation_seed", mode="before")
    @classmethod
    def _seed_as_text(cls, value: object) -> object:
        # A browser's number loses digits above 2^53, so a seed may come as text.
        found = re.fullmatch(r"\s*([+-]?[0-9]{1,20})(?:\.0*)?\s*", value) if isinstance(value, str) else None
        return int(found[1]) if found else value

    @property
    def image_count(self) -> int:
        return self.batch_size * self.batch_count * len(self.prompts)

    @property
    def prompts(self) -> tuple[str, ...]:
        """The prompts to draw: one, or several that were made of it, or its non-empty lines with `prompt_lines`."""
        lines = self.prompt.splitlines() if self.prompt_lines else []
        several = [text[0] for text in self.texts] or [line.strip() for line in lines if line.strip()]
        return tuple(several) or ("" if self.prompt_lines else self.prompt,)
