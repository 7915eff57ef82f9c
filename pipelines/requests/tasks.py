"""The four tasks: what each of them is asked for beside what every picture request has."""

from __future__ import annotations

from typing import Literal

from .param import param
from .request import MAX_PROMPT, Request

MAX_PIXELS = 2048 * 2048 * 4  # of one batch: width x height x batch_size
MAX_SIDE = 4096  # px of a picture made by hires fix
MAX_UPSCALED_SIDE = 8192
LANCZOS = "Lanczos"
HIRES_UPSCALERS = ("Latent", "Latent (bicubic)", "Latent (nearest)", LANCZOS)  # and the learned ones that are here

ResizeMode = Literal["stretch", "crop", "fill", "keep"]
InpaintArea = Literal["Whole picture", "Only masked"]
MaskedContent = Literal["fill", "original", "latent noise", "latent nothing"]


class Txt2Img(Request):
    """Text to image, with a second pass at a larger size (hires fix) when hires_scale is over 1."""

    hires_scale: float = param(1.0, "Hires scale", ge=1, le=4, step=0.05, infotext="Hires upscale", a1111="hr_scale",
                               timed=True,
                               help="Draws the picture again, this many times larger, so that large pictures keep one "
                                    "composition. 1 is off.")
    hires_upscaler: str = param("Latent", "Hires upscaler", max_length=200, infotext="Hires upscaler",
                                a1111="hr_upscaler", kind="hires_upscaler", depends_on="hires_scale",
                                help="How the first picture is enlarged: in latent space (needs a strength over 0.5) "
                                     "or as pixels (Lanczos and learned ones, which work at low strength).")
    hires_strength: float = param(0.7, "Hires strength", gt=0, le=1, step=0.01, infotext="Denoising strength",
                                  a1111="denoising_strength", depends_on="hires_scale", timed=True,
                                  help="How much the second pass may change.")
    hires_steps: int = param(0, "Hires steps", ge=0, le=150, step=1, infotext="Hires steps",
                             a1111="hr_second_pass_steps", depends_on="hires_scale", timed=True,
                             help="Steps of the second pass. 0 takes as many as the first.")
    hires_sampler: str | None = param(None, "Hires sampler", infotext="Hires sampler", a1111="hr_sampler_name",
                                      kind="sampler", depends_on="hires_scale", may_be_empty=True,
                                      help="Sampler of the second pass. Empty takes that of the first.")
    hires_schedule: str | None = param(None, "Hires schedule", infotext="Hires schedule type", a1111="hr_scheduler",
                                       kind="schedule", depends_on="hires_scale", may_be_empty=True,
                                       help="Schedule of the second pass. Empty takes that of the first.")
    hires_guidance_scale: float = param(0.0, "Hires guidance scale", ge=0, le=30, step=0.5, infotext="Hires CFG Scale",
                                        a1111="hr_cfg", depends_on="hires_scale",
                                        help="Guidance of the second pass. 0 takes that of the first.")
    hires_prompt: str = param("", "Hires prompt", max_length=MAX_PROMPT, infotext="Hires prompt", a1111="hr_prompt",
                              kind="prompt", depends_on="hires_scale",
                              help="Prompt of the second pass, with LoRAs of its own. Empty takes that of the first.")
    hires_negative_prompt: str = param("", "Hires negative prompt", max_length=MAX_PROMPT,
                                       infotext="Hires negative prompt", a1111="hr_negative_prompt", kind="prompt",
                                       depends_on="hires_scale",
                                       help="Negative prompt of the second pass. Empty takes that of the first.")

    @property
    def final_size(self) -> tuple[int, int]:
        """Width and height of the finished picture: whole latents of 8 px, rounded down as AUTOMATIC1111 does.

        Its modules/processing.py: int(side * hr_scale), and from that // 8 latents.
        """
        assert self.width and self.height  # a concrete request has a size
        return int(self.width * self.hires_scale) // 8 * 8, int(self.height * self.hires_scale) // 8 * 8


class Img2Img(Request):
    """Image to image: the picture is noised by `strength` and denoised towards the prompt."""

    image: str = param("", "Picture", kind="picture", needs=None, axis_cost=None, preset=False,
                       help="The picture to start from: PNG, JPEG, WebP, AVIF, BMP, TIFF or GIF.")
    strength: float = param(0.6, "Strength", gt=0, le=1, step=0.01, infotext="Denoising strength",
                            a1111="denoising_strength", has_neutral=False, needs="strength", timed=True,
                            help="How much of the picture may change: near 0 almost nothing, 1 everything.")
    resize_mode: ResizeMode = param("crop", "Resize mode", infotext="Resize mode", a1111="resize_mode",
                                    needs=None,
                                    help="How the picture is brought to the working size: stretch it, crop to fill, "
                                         "add borders, or keep its own size.")


class Inpaint(Img2Img):
    """Inpainting: only what the mask covers is drawn again. The output has the input's size."""

    strength: float = param(0.75, "Strength", gt=0, le=1, step=0.01, infotext="Denoising strength",
                            a1111="denoising_strength", has_neutral=False, needs="strength", timed=True,
                            help="How much may change under the mask: near 0 almost nothing, 1 everything.")
    resize_mode: ResizeMode = param("stretch", "Resize mode", infotext="Resize mode", a1111="resize_mode",
                                    needs=None,
                                    help="How the picture is brought to the working size. The result has the picture's "
                                         "own size in any case.")
    mask: str | None = param(None, "Mask", kind="mask", needs=None, axis_cost=None, preset=False,
                             help="White is drawn again, black stays.")
    mask_blur: int = param(4, "Mask blur (px)", ge=0, le=64, step=1, infotext="Mask blur", a1111="mask_blur",
                           needs=None, help="Softens the mask's edge so that old and new flow together.")
    mask_grow: int = param(0, "Mask grow (px)", ge=-64, le=64, step=1, infotext="Mask grow", needs=None,
                           help="Grows the mask on all sides; below 0 shrinks it.")
    mask_invert: bool = param(False, "Invert mask", infotext="Mask mode", a1111="inpainting_mask_invert",
                              needs=None, words={False: "Inpaint masked", True: "Inpaint not masked"},
                              help="Draws again what is not painted.")
    soft_mask: bool = param(False, "Soft mask", infotext="Soft inpainting",
                            infotext_aliases=("Soft inpainting enabled",),
                            help="Half-painted places change half: grey in the mask means less change.")
    transparent_mask: bool = param(False, "Transparency is the mask", infotext="Transparency mask",
                                   help="Draws again what is transparent in the picture, beside what is painted.")
    inpaint_area: InpaintArea = param("Whole picture", "Inpaint area", infotext="Inpaint area",
                                      a1111="inpaint_full_res", needs=None,
                                      help="Only masked works on a close-up of the masked place, so that small things "
                                           "get the full resolution.")
    masked_padding: int = param(32, "Padding (px)", ge=0, le=256, step=4, infotext="Masked area padding",
                                a1111="inpaint_full_res_padding", needs=None,
                                help="How much of the surroundings Only masked takes along.")
    masked_content: MaskedContent = param("original", "Masked content", infotext="Masked content",
                                          a1111="inpainting_fill", needs=None,
                                          help="What lies under the mask at the start: the picture itself, the colours "
                                               "around it, noise, or nothing.")
    outpaint_left: int = param(0, "Extend left (px)", ge=0, le=1024, step=8, infotext="Outpaint left", needs=None,
                               help="Adds room on the left and draws it.")
    outpaint_right: int = param(0, "Extend right (px)", ge=0, le=1024, step=8, infotext="Outpaint right",
                                needs=None, help="Adds room on the right and draws it.")
    outpaint_top: int = param(0, "Extend top (px)", ge=0, le=1024, step=8, infotext="Outpaint top", needs=None,
                              help="Adds room above and draws it.")
    outpaint_bottom: int = param(0, "Extend bottom (px)", ge=0, le=1024, step=8, infotext="Outpaint bottom",
                                 needs=None, help="Adds room below and draws it.")


class Upscale(Request):
    """Upscaling: the picture is enlarged, and its detail drawn again in overlapping tiles that leave no seam.

    width and height, where they are given, say the scale; in a concrete request there is only the scale.
    """

    image: str = param("", "Picture", kind="picture", needs=None, axis_cost=None, preset=False,
                       help="The picture to enlarge: PNG, JPEG, WebP, AVIF, BMP, TIFF or GIF.")
    scale: float = param(2.0, "Scale", ge=1, le=8, step=0.25, infotext="Upscale by", a1111="upscaling_resize",
                         help="How many times larger the picture becomes.")
    width: int | None = param(None, "Width (px)", ge=8, le=MAX_UPSCALED_SIDE, step=1, needs=None,
                              by_model=True, timed=True,
                              help="Instead of a scale: the picture is enlarged until it fills this width. Empty takes "
                                   "the scale.")
    height: int | None = param(None, "Height (px)", ge=8, le=MAX_UPSCALED_SIDE, step=1, needs=None,
                              by_model=True, timed=True,
                               help="Instead of a scale: the picture is enlarged until it fills this height. Empty "
                                    "takes the scale.")
    upscaler: str = param(LANCZOS, "Upscaler", max_length=200, infotext="Upscaler", a1111="upscaler_1", kind="upscaler",
                          help="How the pixels are enlarged before detail is drawn. Lanczos is neutral; learned ones "
                               "(files in the data folder's upscalers) are sharper.")
    redraw: bool = param(True, "Draw new detail", infotext="Upscale redraw",
                         help="Lets the model draw detail into the enlarged picture. Off only enlarges: quick, and "
                              "nothing is invented.")
    strength: float = param(0.3, "Strength", gt=0, le=1, step=0.01, infotext="Denoising strength",
                            a1111="denoising_strength", has_neutral=False, needs="strength", timed=True,
                            help="How much of the picture may change: 0.2 sharpens, 0.4 invents detail, more draws the "
                                 "prompt into every tile.")
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
