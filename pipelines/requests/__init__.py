"""What can be asked of the studio: frozen values, every parameter declared once.

From the one `param(...)` line come the control and its tooltip, the range check, the public endpoint's
parameter, the infotext key and the AUTOMATIC1111 name. A default of None means "as the model likes";
the studio's resolver makes it concrete. Pictures are ids (SHA-256 of the stored file), never pixels.
"""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, field_validator

from .param import SHOWN_INPUT as SHOWN_INPUT
from .param import changed as changed
from .param import extra_of as extra_of
from .param import make as make
from .param import param

MAX_SEED = 2**64 - 1  # as far as torch counts
MAX_SEED_32 = 2**32 - 1  # where numpy draws as well: training and the lab
MAX_PROMPT = 4_000
MAX_PIXELS = 2048 * 2048 * 4  # of one batch: width x height x batch_size
MAX_SIDE = 4096  # px of a picture made by hires fix
MAX_UPSCALED_SIDE = 8192
LANCZOS = "Lanczos"
HIRES_UPSCALERS = ("Latent", "Latent (bicubic)", "Latent (nearest)", LANCZOS)  # and the learned ones that are here


ResizeMode = Literal["stretch", "crop", "fill", "keep"]
InpaintArea = Literal["Whole picture", "Only masked"]
Dynamic = Literal["off", "random", "all combinations"]
Emphasis = Literal["Original", "No norm", "Ignore", "None"]
PromptSteps = Literal["AUTOMATIC1111", "AUTOMATIC1111 before 1.6", "Whole steps"]
Tiling = Literal["off", "x", "y", "both"]
MaskedContent = Literal["fill", "original", "latent noise", "latent nothing"]


class Request(BaseModel):
    """What every picture request has."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    prompt: str = param("", "Prompt", max_length=MAX_PROMPT, a1111="prompt",
                        help="What the picture should show. Words near the start weigh more.")
    negative_prompt: str = param("", "Negative prompt", max_length=MAX_PROMPT, infotext="Negative prompt",
                                 a1111="negative_prompt", help="What the picture should keep away from.")
    styles: tuple[str, ...] = param((), "Styles", max_length=20, a1111="styles",
                                    help="Saved pieces of prompt that go around or behind what is typed. The "
                                         "picture's settings carry the whole prompt.")
    prompt_lines: bool = param(False, "One prompt a line",
                               help="Makes the pictures once for each line of the prompt, and one labelled grid.")
    dynamic: Dynamic = param("off", "Wildcards and choices",
                             help="Reads `__name__` as a random line of the file name.txt in the wildcards folder, and "
                                  "{a|b|2::c} as one of its parts, in every prompt; several parts and variables as "
                                  "Dynamic Prompts writes them. Random draws by the seed, anew for each batch.")
    emphasis: Emphasis = param("Original", "Emphasis", infotext="Emphasis",
                               help="How (words:1.2) are weighted: as AUTOMATIC1111 does, without restoring the mean, "
                                    "ignored, or read as plain text.")
    prompt_steps: PromptSteps = param("AUTOMATIC1111", "Count prompt steps as",
                                      infotext="Old prompt editing timelines",
                                      help="When [a:b:0.5] and [a|b] change: at the model call that AUTOMATIC1111 "
                                           "changes at, as it did before version 1.6, or after whole steps, which "
                                           "begin anew in the second pass.")
    sampler: str | None = param(None, "Sampler", infotext="Sampler", a1111="sampler_name",
                                help="The solver that walks from noise to picture. Euler a and DPM++ 2M are good "
                                     "first choices; names with an 'a' add fresh noise at every step.")
    schedule: str | None = param(None, "Schedule", infotext="Schedule type", a1111="scheduler",
                                 help="How the steps are spaced between noise and picture. Karras spends more of "
                                      "them on detail.")
    steps: int | None = param(None, "Steps", ge=1, le=150, step=1, infotext="Steps", a1111="steps",
                              help="Denoising steps. More is slower and, past about 30, seldom better.")
    guidance_scale: float | None = param(None, "Guidance scale", ge=0, le=30, step=0.5, infotext="CFG scale",
                                         a1111="cfg_scale",
                                         help="How closely the picture follows the prompt. Low is free, high is "
                                              "literal and, past about 12, harsh.")
    width: int | None = param(None, "Width (px)", ge=64, le=2048, multiple_of=8, step=8, infotext="Size-1",
                              a1111="width", help="Picture width. Far from the model's own size, things repeat.")
    height: int | None = param(None, "Height (px)", ge=64, le=2048, multiple_of=8, step=8, infotext="Size-2",
                               a1111="height", help="Picture height. Far from the model's own size, things repeat.")
    seed: int = param(-1, "Seed", ge=-1, le=MAX_SEED, step=1, infotext="Seed", a1111="seed",
                      help="The number the noise is drawn from: same seed and settings, same picture. "
                           "-1 takes a new one each time.")
    batch_size: int = param(1, "Batch size", ge=1, le=16, step=1, a1111="batch_size",
                            help="Pictures made at once. Faster per picture, needs more memory.")
    batch_count: int = param(1, "Batch count", ge=1, le=16, step=1, a1111="n_iter",
                             help="How many batches to make, one after the other.")
    clip_skip: int = param(1, "Clip skip", ge=1, le=12, step=1, infotext="Clip skip", a1111="clip_skip",
                           help="Which of the text encoder's last layers is read: 1 is the last. Some models "
                                "were trained with 2.")
    variation_seed: int = param(-1, "Variation seed", ge=-1, le=MAX_SEED, step=1, infotext="Variation seed",
                                a1111="subseed", help="A second seed that is mixed into the first.")
    variation_strength: float = param(0.0, "Variation strength", ge=0, le=1, step=0.01, a1111="subseed_strength",
                                      infotext="Variation seed strength",
                                      help="How far the picture moves from its seed towards the variation seed: "
                                           "0.1 keeps the composition, 1 is the other picture.")
    tiling: Tiling = param("off", "Tiling", infotext="Tiling", a1111="tiling",
                           help="Makes opposite edges fit together, for patterns: left to right (x), top to bottom "
                                "(y), or both.")
    guidance_rescale: float = param(0.0, "Guidance rescale", ge=0, le=1, step=0.05, infotext="Guidance rescale",
                                    help="Takes back the harsh contrast of a high guidance scale; 0.7 suits models "
                                         "with v-prediction.")
    guidance_start: float = param(0.0, "Guidance from", ge=0, le=1, step=0.05, infotext="Guidance start",
                                  help="Guidance begins at this share of the steps. Later is more varied.")
    guidance_end: float = param(1.0, "Guidance until", ge=0, le=1, step=0.05, infotext="Guidance end",
                                help="Guidance ends at this share of the steps. Earlier is faster and softer.")
    eta: float | None = param(None, "Eta", ge=0, le=1, step=0.05, infotext="Eta", a1111="eta",
                              help="Fresh noise a step, for the DDIM sampler: 0 none, 1 as much as DDPM.")
    s_churn: float = param(0.0, "Churn", ge=0, le=100, step=1, infotext="Sigma churn", a1111="s_churn",
                           help="Extra noise that the Euler sampler adds and takes away again; livelier detail.")
    s_noise: float = param(1.0, "Noise factor", ge=0.9, le=1.1, step=0.005, infotext="Sigma noise", a1111="s_noise",
                           help="How strong the noise of Churn is. Just over 1 gives more detail, just under 1 less.")
    model: str | None = param(None, "Model", infotext="Model", help="The checkpoint that draws.")
    texts: tuple[tuple[str, ...], ...] = param((), "Texts", help="Made by resolving: the prompts of each batch.")
    vae: str | None = param(None, "VAE", max_length=200, infotext="VAE",
                            help="Another autoencoder in place of the model's own: it turns what was drawn into "
                                 "colours, and changes contrast and fine detail.")

    @field_validator("*", mode="before")
    @classmethod
    def _what_browsers_send(cls, value: Any) -> Any:
        # A browser has one number type, so 20 may arrive as 20.0, and no tuples. Strict mode refuses everything else.
        if isinstance(value, list):
            return tuple(value)
        return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value

    @field_validator("seed", "variation_seed", mode="before")
    @classmethod
    def _seed_as_text(cls, value: Any) -> Any:
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


class Txt2Img(Request):
    """Text to image, with a second pass at a larger size (hires fix) when hires_scale is over 1."""

    hires_scale: float = param(1.0, "Hires scale", ge=1, le=4, step=0.05, infotext="Hires upscale", a1111="hr_scale",
                               help="Draws the picture again, this many times larger, so that large pictures keep "
                                    "one composition. 1 is off.")
    hires_upscaler: str = param("Latent", "Hires upscaler", max_length=200, infotext="Hires upscaler",
                                a1111="hr_upscaler",
                                help="How the first picture is enlarged: in latent space (needs a strength over 0.5) "
                                     "or as pixels (Lanczos and learned ones, which work at low strength).")
    hires_strength: float = param(0.7, "Hires strength", gt=0, le=1, step=0.01, infotext="Denoising strength",
                                  a1111="denoising_strength", help="How much the second pass may change.")
    hires_steps: int = param(0, "Hires steps", ge=0, le=150, step=1, infotext="Hires steps",
                             a1111="hr_second_pass_steps",
                             help="Steps of the second pass. 0 takes as many as the first.")
    hires_sampler: str | None = param(None, "Hires sampler", infotext="Hires sampler", a1111="hr_sampler_name",
                                      help="Sampler of the second pass. Empty takes that of the first.")
    hires_schedule: str | None = param(None, "Hires schedule", infotext="Hires schedule type", a1111="hr_scheduler",
                                       help="Schedule of the second pass. Empty takes that of the first.")
    hires_guidance_scale: float = param(0.0, "Hires guidance scale", ge=0, le=30, step=0.5, infotext="Hires CFG Scale",
                                        a1111="hr_cfg", help="Guidance of the second pass. 0 takes that of the first.")
    hires_prompt: str = param("", "Hires prompt", max_length=MAX_PROMPT, infotext="Hires prompt", a1111="hr_prompt",
                              help="Prompt of the second pass, with LoRAs of its own. Empty takes that of the first.")
    hires_negative_prompt: str = param("", "Hires negative prompt", max_length=MAX_PROMPT,
                                       infotext="Hires negative prompt", a1111="hr_negative_prompt",
                                       help="Negative prompt of the second pass. Empty takes that of the first.")

    @property
    def final_size(self) -> tuple[int, int]:
        """Width and height of the finished picture: whole latents of 8 px, rounded down as AUTOMATIC1111 does.

        Its modules/processing.py: int(side * hr_scale), and from that // 8 latents.
        """
        return tuple(int(side * self.hires_scale) // 8 * 8 for side in (self.width, self.height))


class Img2Img(Request):
    """Image to image: the picture is noised by `strength` and denoised towards the prompt."""

    image: str = param("", "Picture", help="The picture to start from: PNG, JPEG, WebP, AVIF, BMP, TIFF or GIF.")
    strength: float = param(0.6, "Strength", gt=0, le=1, step=0.01, infotext="Denoising strength",
                            a1111="denoising_strength",
                            help="How much of the picture may change: near 0 almost nothing, 1 everything.")
    resize_mode: ResizeMode = param("crop", "Resize mode", infotext="Resize mode", a1111="resize_mode",
                                    help="How the picture is brought to the working size: stretch it, crop to "
                                         "fill, add borders, or keep its own size.")


class Inpaint(Img2Img):
    """Inpainting: only what the mask covers is drawn again. The output has the input's size."""

    strength: float = param(0.75, "Strength", gt=0, le=1, step=0.01, infotext="Denoising strength",
                            a1111="denoising_strength",
                            help="How much may change under the mask: near 0 almost nothing, 1 everything.")
    resize_mode: ResizeMode = param("stretch", "Resize mode", infotext="Resize mode", a1111="resize_mode",
                                    help="How the picture is brought to the working size. The result has the "
                                         "picture's own size in any case.")
    mask: str | None = param(None, "Mask", help="White is drawn again, black stays.")
    mask_blur: int = param(4, "Mask blur (px)", ge=0, le=64, step=1, infotext="Mask blur", a1111="mask_blur",
                           help="Softens the mask's edge so that old and new flow together.")
    mask_grow: int = param(0, "Mask grow (px)", ge=-64, le=64, step=1, infotext="Mask grow",
                           help="Grows the mask on all sides; below 0 shrinks it.")
    mask_invert: bool = param(False, "Invert mask", infotext="Mask mode", a1111="inpainting_mask_invert",
                              help="Draws again what is not painted.")
    soft_mask: bool = param(False, "Soft mask", infotext="Soft inpainting",
                            help="Half-painted places change half: grey in the mask means less change.")
    transparent_mask: bool = param(False, "Transparency is the mask", infotext="Transparency mask",
                                   help="Draws again what is transparent in the picture, beside what is painted.")
    inpaint_area: InpaintArea = param("Whole picture", "Inpaint area", infotext="Inpaint area",
                                      a1111="inpaint_full_res",
                                      help="Only masked works on a close-up of the masked place, so that small "
                                           "things get the full resolution.")
    masked_padding: int = param(32, "Padding (px)", ge=0, le=256, step=4, infotext="Masked area padding",
                                a1111="inpaint_full_res_padding",
                                help="How much of the surroundings Only masked takes along.")
    masked_content: MaskedContent = param("original", "Masked content", infotext="Masked content",
                                          a1111="inpainting_fill",
                                          help="What lies under the mask at the start: the picture itself, the "
                                               "colours around it, noise, or nothing.")
    outpaint_left: int = param(0, "Extend left (px)", ge=0, le=1024, step=8, infotext="Outpaint left",
                               help="Adds room on the left and draws it.")
    outpaint_right: int = param(0, "Extend right (px)", ge=0, le=1024, step=8, infotext="Outpaint right",
                                help="Adds room on the right and draws it.")
    outpaint_top: int = param(0, "Extend top (px)", ge=0, le=1024, step=8, infotext="Outpaint top",
                              help="Adds room above and draws it.")
    outpaint_bottom: int = param(0, "Extend bottom (px)", ge=0, le=1024, step=8, infotext="Outpaint bottom",
                                 help="Adds room below and draws it.")


class Upscale(Request):
    """Upscaling: the picture is enlarged, and its detail drawn again in overlapping tiles that leave no seam.

    width and height, where they are given, say the scale; in a concrete request there is only the scale.
    """

    image: str = param("", "Picture", help="The picture to enlarge: PNG, JPEG, WebP, AVIF, BMP, TIFF or GIF.")
    scale: float = param(2.0, "Scale", ge=1, le=8, step=0.25, infotext="Upscale by", a1111="upscaling_resize",
                         help="How many times larger the picture becomes.")
    width: int | None = param(None, "Width (px)", ge=8, le=MAX_UPSCALED_SIDE, step=1,
                              help="Instead of a scale: the picture is enlarged until it fills this width. Empty "
                                   "takes the scale.")
    height: int | None = param(None, "Height (px)", ge=8, le=MAX_UPSCALED_SIDE, step=1,
                               help="Instead of a scale: the picture is enlarged until it fills this height. Empty "
                                    "takes the scale.")
    upscaler: str = param(LANCZOS, "Upscaler", max_length=200, infotext="Upscaler", a1111="upscaler_1",
                          help="How the pixels are enlarged before detail is drawn. Lanczos is neutral; learned ones "
                               "(files in the data folder's upscalers) are sharper.")
    redraw: bool = param(True, "Draw new detail", infotext="Upscale redraw",
                         help="Lets the model draw detail into the enlarged picture. Off only enlarges: quick, and "
                              "nothing is invented.")
    strength: float = param(0.3, "Strength", gt=0, le=1, step=0.01, infotext="Denoising strength",
                            a1111="denoising_strength",
                            help="How much of the picture may change: 0.2 sharpens, 0.4 invents detail, more draws "
                                 "the prompt into every tile.")
    tile: int | None = param(None, "Tile size (px)", ge=64, le=2048, multiple_of=8, step=8, infotext="Tile size",
                             help="The model sees this much at once. Its own size is best; larger keeps more of the "
                                  "whole in view and needs more memory.")
    overlap: float = param(0.25, "Tile overlap", ge=0, le=0.5, step=0.05, infotext="Tile overlap",
                           help="Share of a tile that its neighbours draw as well. More hides seams better and takes "
                                "longer; below 0.1 they may show.")

    def enlarged(self, size: tuple[int, int]) -> tuple[int, int]:
        """Width and height of the result for a picture of that size."""
        return round(size[0] * self.scale), round(size[1] * self.scale)


TASKS: dict[str, type[Request]] = {"upscale": Upscale, "txt2img": Txt2Img, "img2img": Img2Img, "inpaint": Inpaint}


def task_of(request: Request) -> str:
    """The task's name: txt2img, img2img, inpaint or upscale."""
    return next(name for name, cls in TASKS.items() if type(request) is cls)


def pipeline_of(task: str) -> str:
    """The kind of pipeline that a task runs on: a key of a family's pipelines and of a model's tasks."""
    return "img2img" if task == "upscale" else task
