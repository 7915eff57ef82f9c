"""What the denoising starts from: noise, a picture, or a picture under a mask.

Each source makes the `Start` of a batch and turns a decoded picture into the finished one. Random numbers are
drawn in the stock pipelines' order (picture's posterior, then noise).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageChops

from ..errors import RequestError
from ..images import fill, geometry, mask
from ..images.convert import flatten, lifted
from ..models.offload import device_of
from ..requests import Img2Img, Inpaint, Request, Txt2Img, Upscale
from .encode import encode
from .noise import Draws
from .samplers import late_timesteps
from .upscalers import Enlarge, Parts, lanczos
from .windows import LATENT_PX, Window, cover

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline, SchedulerMixin

OpenImage = Callable[[str], Image.Image]


@dataclass(frozen=True)
class Start:
    """Where a batch starts.

    latents: (b, 4, h, w) at the noise level of timesteps[0]. begin: how many of the scheduler's timesteps are
    left out. original, keep: clean latents (b, 4, h, w) and their weight (1, 1, h, w) for the part that stays, or
    None. extra: (b, 5, h, w) mask and masked picture for a U-Net with 9 channels, or None. windows: the parts that
    the model sees one by one; () the whole at once.
    """

    latents: torch.Tensor
    timesteps: torch.Tensor
    begin: int = 0
    original: torch.Tensor | None = None
    mask: torch.Tensor | None = None
    soft: bool = False
    extra: torch.Tensor | None = None
    windows: tuple[Window, ...] = ()


class _Ready:
    """A source that has nothing to do before its batches."""

    notices: tuple[str, ...] = ()

    def prepare(self, device: torch.device) -> Iterable[tuple[int, int]]:
        """Do what takes long, once before the first `start`, telling (parts done, parts in all) after each part."""
        return ()


class FromNoise(_Ready):
    """Text to image."""

    def __init__(self, request: Request):
        self._size = request.width, request.height

    def start(self, pipe: DiffusionPipeline, scheduler: SchedulerMixin, draws: Draws) -> Start:
        """Draw unit noise and bring it to the scheduler's first noise level."""
        width, height = (side // LATENT_PX for side in self._size)
        shape = (len(draws.generators), pipe.vae.config.latent_channels, height, width)
        noise = draws.noise(shape, device_of(pipe.unet), pipe.unet.dtype)
        extra = None
        if pipe.unet.config.in_channels == 9:  # everything is to be drawn, over grey
            grey = encode(pipe, Image.new("RGB", self._size, (128, 128, 128)), draws)
            extra = torch.cat([torch.ones_like(grey[:, :1]), grey], 1)
        return Start(noise * scheduler.init_noise_sigma, scheduler.timesteps, extra=extra)

    def finish(self, image: Image.Image) -> Image.Image:
        """The decoded picture is the result."""
        return image


class FromImage(_Ready):
    """Image to image."""

    def __init__(self, request: Img2Img, open_image: OpenImage, grain: int = LATENT_PX):
        source = _opened(request.image, open_image)
        size = geometry.working_size(request.resize_mode, source.size, request.width, request.height, grain)
        box = geometry.box_for(request.resize_mode, source.size, size)
        self.picture = geometry.cut(flatten(source), box, size)
        self._steps, self._strength = request.steps, request.strength

    def start(self, pipe: DiffusionPipeline, scheduler: SchedulerMixin, draws: Draws) -> Start:
        """Encode the picture and noise it to the step that `strength` leaves to run."""
        original = encode(pipe, self.picture, draws)
        timesteps, begin = late_timesteps(scheduler, self._steps, self._strength)
        return Start(_noised(scheduler, original, timesteps, draws), timesteps, begin)

    def finish(self, image: Image.Image) -> Image.Image:
        """The decoded picture is the result, in the working size."""
        return image


class FromLatents(_Ready):
    """The second pass of hires fix: the first pass's latents, enlarged."""

    def __init__(self, request: Txt2Img, latents: torch.Tensor, decoded: Callable[[torch.Tensor], Image.Image],
                 enlarge: Enlarge):
        self._request, self._latents, self._decoded, self._enlarge = request, latents, decoded, enlarge
        self._pictures: list[Image.Image] = []

    def prepare(self, device: torch.device) -> Parts:
        """Enlarge the pictures, unless it is done in latent space."""
        name = self._request.hires_upscaler
        for one in () if name in _LATENT_MODES else self._latents.split(1):
            self._pictures.append((yield from self._enlarge(self._decoded(one), name, self._request.final_size,
                                                            device)))

    def start(self, pipe: DiffusionPipeline, scheduler: SchedulerMixin, draws: Draws) -> Start:
        """Enlarge in latent space, or encode what was enlarged, and noise it to the step that the strength leaves."""
        request = self._request
        width, height = request.final_size
        mode = _LATENT_MODES.get(request.hires_upscaler)
        if mode:
            original = torch.nn.functional.interpolate(
                self._latents.float(), (height // LATENT_PX, width // LATENT_PX), mode=mode,
                **({} if mode == "nearest" else {"align_corners": False, "antialias": False}))
        else:
            sources = draws.encoders or draws.generators
            original = torch.cat([encode(pipe, picture, Draws((one,)))
                                  for picture, one in zip(self._pictures, sources, strict=True)])
        original = original.to(self._latents.dtype)
        steps = request.hires_steps or request.steps
        timesteps, begin = late_timesteps(scheduler, steps, request.hires_strength)
        return Start(_noised(scheduler, original, timesteps, draws), timesteps, begin)

    def finish(self, image: Image.Image) -> Image.Image:
        """The decoded picture is the result."""
        return image


class FromEnlarged(_Ready):
    """Upscaling: the picture is enlarged as pixels, and denoised in windows of the size that the model likes."""

    def __init__(self, request: Upscale, open_image: OpenImage, enlarge: Enlarge):
        self._request, self._enlarge = request, enlarge
        self._source = _opened(request.image, open_image)
        self._size = request.enlarged(self._source.size)
        self._opaque: Image.Image | None = None

    def prepare(self, device: torch.device) -> Parts:
        """Enlarge the picture."""
        if self._opaque is None:
            self._opaque = yield from self._enlarge(flatten(self._source), self._request.upscaler, self._size, device)

    @property
    def enlarged(self) -> Image.Image:
        """The prepared picture at its final size, before anything is drawn. RGB, or RGBA where the source is."""
        return self.finish(self._opaque)

    def start(self, pipe: DiffusionPipeline, scheduler: SchedulerMixin, draws: Draws) -> Start:
        """Encode the enlarged picture and noise it to the step that the strength leaves to run."""
        request = self._request
        size = tuple(max(geometry.MIN_SIDE, -(-side // LATENT_PX) * LATENT_PX) for side in self._size)
        room = geometry.Box(0, 0, *size)  # sticks out at the right and the bottom, where the edge is repeated
        original = encode(pipe, geometry.cut(self._opaque, room, size), draws)
        timesteps, begin = late_timesteps(scheduler, request.steps, request.strength)
        tile = request.tile // LATENT_PX
        return Start(_noised(scheduler, original, timesteps, draws), timesteps, begin,
                     windows=cover(*original.shape[-2:], tile, tile, request.overlap))

    def finish(self, image: Image.Image) -> Image.Image:
        """Cut what was added to reach whole latents, and give back the source's transparency."""
        image = image.crop((0, 0, *self._size))
        if self._source.mode != "RGBA":
            return image
        return lifted(image, self._source.getchannel("A").resize(self._size, Image.Resampling.LANCZOS))


class FromMask(_Ready):
    """Inpainting and outpainting, in the semantics of AUTOMATIC1111, except that the output has the input's size.

    Where the blurred mask is 0, the output's pixels are the input's, byte for byte.
    """

    def __init__(self, request: Inpaint, open_image: OpenImage, grain: int = LATENT_PX):
        self._request = request
        source = _opened(request.image, open_image)
        painted, notices = Image.new("L", source.size, 0), []
        if request.mask:
            given = open_image(request.mask)
            painted = mask.from_upload(given, source.size, soft=request.soft_mask)
            notices += mask.size_notice(given.size, source.size)
        if request.transparent_mask:
            clear = mask.from_transparency(source)
            painted = ImageChops.lighter(painted, clear)
            if mask.is_empty(clear):
                notices.append("The picture has no transparent part, so its transparency masks nothing.")
        sides = request.outpaint_left, request.outpaint_right, request.outpaint_top, request.outpaint_bottom
        prepared = mask.prepare(painted, invert=request.mask_invert, grow=request.mask_grow, blur=request.mask_blur)
        if any(sides):
            source, prepared = geometry.expand(source, prepared, *sides)
        empty = mask.is_empty(prepared)
        if empty:  # nothing painted: all of it is to be drawn again
            prepared = Image.new("L", source.size, 255)
            notices.append("The mask is empty, so the whole picture was drawn again.")
        self._source = source
        self._size = geometry.working_size(request.resize_mode, source.size, request.width, request.height, grain)
        box = None
        if request.inpaint_area == "Only masked" and not empty:
            box = geometry.box_around(prepared, request.masked_padding, source.size, self._size)
        if box is not None:
            self._overlay = prepared
        else:
            box = geometry.box_for(request.resize_mode, source.size, self._size)
            # Twice the blurred mask: the ring that is at least half masked is replaced fully.
            self._overlay = prepared.point(lambda value: min(255, 2 * value))
        outside = self._overlay.copy()
        outside.paste(0, box.edges)
        if outside.getbbox() and not empty:
            notices.append("Part of the mask lies outside what this resize mode shows the model; it was left as it "
                           "is. Choose stretch or fill to reach it.")
        self.notices = tuple(notices)
        self._box = box
        self.work_mask = geometry.cut(prepared, box, self._size)
        picture = geometry.cut(flatten(source), box, self._size)
        self._clean = picture
        self.picture = picture if request.masked_content == "original" else fill.fill(picture, self.work_mask)

    def start(self, pipe: DiffusionPipeline, scheduler: SchedulerMixin, draws: Draws) -> Start:
        """Encode picture and mask, set what lies under the mask, and noise it."""
        request = self._request
        original = encode(pipe, self.picture, draws)
        weight = self._latent_mask(original)
        if request.masked_content == "latent noise":
            original = _mix(original, draws.noise(original.shape, original.device, original.dtype), weight)
        elif request.masked_content == "latent nothing":
            original = original * (1 - weight)
        timesteps, begin = late_timesteps(scheduler, request.steps, request.strength)
        extra = None
        if pipe.unet.config.in_channels == 9:
            hole = self.work_mask.point(lambda value: 255 if value >= 128 else 0)
            masked = Image.composite(Image.new("RGB", self._size, (128, 128, 128)), self._clean, hole)
            binary = (weight >= 0.5).to(original.dtype).expand(original.shape[0], -1, -1, -1)
            extra = torch.cat([binary, encode(pipe, masked, draws)], 1)
        return Start(_noised(scheduler, original, timesteps, draws), timesteps, begin, original, weight,
                     request.soft_mask, extra)

    def finish(self, image: Image.Image) -> Image.Image:
        """Paste the decoded picture back into the source."""
        return geometry.paste(self._source, image, self._box, self._overlay)

    def _latent_mask(self, like: torch.Tensor) -> torch.Tensor:
        """(1, 1, h, w): 1 is drawn again; rounded to 0 or 1 unless the mask is soft."""
        size = self._size[0] // LATENT_PX, self._size[1] // LATENT_PX
        small = np.asarray(self.work_mask.resize(size, Image.Resampling.BICUBIC), np.float32) / 255
        if not self._request.soft_mask:
            small = np.round(small)
        return torch.from_numpy(small)[None, None].to(like)


Source = FromNoise | FromImage | FromMask | FromLatents | FromEnlarged

_LATENT_MODES = {"Latent": "bilinear", "Latent (bicubic)": "bicubic", "Latent (nearest)": "nearest"}


def source_of(request: Request, open_image: OpenImage, enlarge: Enlarge = lanczos,
              grain: int = LATENT_PX) -> Source:
    """The source a request asks for. grain: pixels that a side of the working size is a multiple of."""
    if isinstance(request, Upscale):
        return FromEnlarged(request, open_image, enlarge)
    if isinstance(request, Inpaint):
        return FromMask(request, open_image, grain)
    if isinstance(request, Img2Img):
        return FromImage(request, open_image, grain)
    return FromNoise(request)


def _opened(image_id: str | None, open_image: OpenImage) -> Image.Image:
    if not image_id:
        raise RequestError("Picture: none was given. Drop, paste or upload one first.", "image")
    return open_image(image_id)


def _noised(scheduler: SchedulerMixin, latents: torch.Tensor, timesteps: torch.Tensor, draws: Draws) -> torch.Tensor:
    noise = draws.noise(latents.shape, latents.device, latents.dtype)
    return scheduler.add_noise(latents, noise, timesteps[:1].repeat(latents.shape[0]))


def _mix(keep: torch.Tensor, draw: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return keep * (1 - weight) + draw * weight
