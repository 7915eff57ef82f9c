"""From a request as it was asked to one in which everything is said.

The seed -1, the default model and every other "as the model likes" become concrete here and nowhere else, so that
infotext, index and answers agree.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import RequestError
from ..families import FAMILIES
from ..generation import samplers
from ..generation.upscalers import Upscalers
from ..images import geometry
from ..images.store import ImageStore, StoredImage
from ..library.checkpoints import ModelCard
from ..prompts.spell_out import MAX_IMAGES, spelled_out
from ..prompts.styles import Styles
from ..prompts.wildcards import Wildcards
from ..requests import (
    MAX_PIXELS,
    MAX_SIDE,
    MAX_UPSCALED_SIDE,
    Img2Img,
    Inpaint,
    Request,
    Txt2Img,
    Upscale,
    changed,
    open_seeds,
)
from . import limits
from .assets import Collection


@dataclass(frozen=True)
class Resolver:
    """Makes requests concrete, from what lies in the studio's stores at that moment."""

    collection: Collection
    images: ImageStore
    styles: Styles
    upscalers: Upscalers
    wildcard_folder: Path

    @property
    def wildcards(self) -> Wildcards:
        """The wildcard files, as they lie on the disk at this moment."""
        return Wildcards(self.wildcard_folder)

    def defaults(self, model: str | None = None) -> dict[str, Any]:
        """What a model likes: sampler, schedule, steps, guidance_scale, width, height."""
        card = self.collection.card(model)
        return {"sampler": card.sampler, "schedule": card.schedule, "steps": card.steps,
                "guidance_scale": card.guidance_scale, "width": card.native_size, "height": card.native_size}

    def resolve(self, request: Request) -> Request:
        """Make every "as the model likes" concrete, and refuse what cannot run."""
        card = self.collection.card(request.model)
        wanted = {name: value for name, value in self.defaults(card.name).items() if getattr(request, name) is None}
        if isinstance(request, Img2Img):
            fitting = self.fitting_size(request)
            keep = request.resize_mode == "keep"
            wanted |= {name: side for name, side in fitting.items() if keep or getattr(request, name) is None}
        if isinstance(request, Upscale):
            wanted |= {"scale": self.scale_of(request), "width": None, "height": None,
                       "tile": request.tile or card.native_size}
        wanted |= {name: secrets.randbelow(2**32) for name in open_seeds(request)}
        if request.vae:
            wanted["vae"] = self.collection.vae(request.vae).name
        request = spelled_out(changed(request, model=card.name, **wanted), self.styles, self.wildcards)
        self._check(request, card)
        return request

    def _check(self, request: Request, card: ModelCard) -> None:
        samplers.check(request.sampler, request.schedule)
        limits.check(request, card)
        if isinstance(request, Upscale):
            self.upscalers.check(request.upscaler, "upscaler", "Upscaler")
        if isinstance(request, Txt2Img):
            if request.hires_scale > 1:
                self.upscalers.check(request.hires_upscaler, "hires_upscaler", "Hires upscaler")
            samplers.check(request.hires_sampler or request.sampler, request.hires_schedule or request.schedule)
            if max(request.final_size) > MAX_SIDE:
                raise RequestError(f"Hires scale: {request.hires_scale:g} is not possible at {request.width}x"
                                   f"{request.height} px. The larger side may have {MAX_SIDE} px at most.",
                                   "hires_scale")
        if not isinstance(request, Upscale) and request.width * request.height * request.batch_size > MAX_PIXELS:
            most = MAX_PIXELS // (request.width * request.height)
            raise RequestError(f"Batch size: {request.batch_size} is not possible at {request.width}x"
                               f"{request.height} px. At most {most}.", "batch_size")
        if request.image_count > MAX_IMAGES:
            raise RequestError(f"Batch count: {request.image_count} pictures are too many for one job. "
                               f"At most {MAX_IMAGES}.", "batch_count")

    def scale_of(self, request: Upscale) -> float:
        """The scale of an upscaled picture; it keeps its shape, and fits into the width and height asked for."""
        stored = self._source(request)
        asked = [side / own for side, own in ((request.width, stored.width), (request.height, stored.height)) if side]
        scale = round(min(asked, default=request.scale), 6)
        area = (MAX_PIXELS / (stored.width * stored.height)) ** 0.5
        most = int(min(8, MAX_UPSCALED_SIDE / max(stored.width, stored.height), area) * 100) / 100
        if not 1 <= scale <= max(1, most):
            raise RequestError(f"Scale: {scale:.3g} is not possible for a picture of {stored.width}x{stored.height} "
                               f"px. It must be from 1 to {most:g}.", "scale")
        return scale

    def _source(self, request: Img2Img | Inpaint | Upscale) -> StoredImage:
        if not request.image:
            raise RequestError("Picture: none was given. Drop, paste or upload one first.", "image")
        return self.images.get(request.image)

    def fitting_size(self, request: Img2Img) -> dict[str, int]:
        """The picture's own shape at about the model's native area; its own size when the resize mode keeps it.

        Returns width and height, multiples of the family's grain. Raises RequestError without a picture.
        """
        stored = self._source(request)
        width, height = stored.width, stored.height
        if isinstance(request, Inpaint):
            width += request.outpaint_left + request.outpaint_right
            height += request.outpaint_top + request.outpaint_bottom
        card = self.collection.card(request.model)
        grain = FAMILIES[card.family].grain
        if request.resize_mode == "keep":
            width, height = geometry.working_size("keep", (width, height), 0, 0, grain)
        else:
            width, height = geometry.fitting_size(card.native_size, width, height, grain)
        return {"width": width, "height": height}
