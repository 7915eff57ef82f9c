"""Autoencoder: what comes back of a picture, with a second autoencoder beside, and sums of latents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from PIL import Image

from ...events import Event, Tabled
from ...images.grid import grid
from .. import autoencoder
from ..autoencoder import Reconstruction
from ..context import Made, Scene
from ..page_requests import NO_OTHER, Autoencoder

if TYPE_CHECKING:
    from diffusers import AutoencoderKL


def answer(request: Autoencoder, scene: Scene) -> Iterator[Event | Made]:
    vae, image = scene.pipe.vae, scene.opened(request.image, request.side)
    found = autoencoder.examine(vae, image)
    yield Made("The picture", found.original)
    yield Made("Encoded and decoded", found.image)
    yield Made("Difference, 4 times", found.difference)
    for number, channel in enumerate(found.channels, 1):
        yield Made(f"Latent channel {number}", channel)
    measured = [("this model's", found)]
    if request.other != NO_OTHER:
        scene.go_on()
        other = autoencoder.examine(_other(request.other, scene), image)
        yield Made(f"{request.other}: encoded and decoded", other.image)
        yield Made(f"{request.other}: difference, 4 times", other.difference)
        measured.append((request.other, other))
    yield _table(measured)
    yield from _sums(request, scene, vae, found)


def _other(name: str, scene: Scene) -> AutoencoderKL:
    from ...models import loading

    return loading.load_vae(scene.shelf.vae(name), scene.placement, dict(scene.pipe.vae.config))


def _table(measured: list[tuple[str, Reconstruction]]) -> Tabled:
    columns = []
    for _, one in measured:
        values, kept = 3 * one.original.width * one.original.height, one.latents.numel()
        columns.append((f"{one.psnr:.2f} dB", f"{one.ssim:.4f}", f"{values:,}",
                        f"{kept:,} ({values / kept:.0f} times fewer)"))
    names = ("PSNR", "SSIM", "Numbers in the picture", "Numbers in the latents")
    return Tabled("What is kept", ("What", *(name for name, _ in measured)),
                  tuple((name, *cells) for name, *cells in zip(names, *columns, strict=True)))


def _sums(request: Autoencoder, scene: Scene, vae: AutoencoderKL, first: Reconstruction) -> Iterator[Made]:
    """The straight way from the first picture to the second, in latents and in pixels, and first + second - third."""
    if not request.second:
        return
    second = _like(scene.opened(request.second, request.side), first.original)
    ends = first.latents, autoencoder.encode(vae, second)
    if request.between:
        count = request.between + 2
        decoded = [autoencoder.decode(vae, one) for one in autoencoder.interpolated(*ends, count)]
        mixed = [Image.blend(first.original, second, i / (count - 1)) for i in range(count)]
        yield Made("From the first to the second", grid(
            [*decoded, *mixed], columns=count, row_labels=["latents", "pixels"],
            column_labels=[f"{100 * i / (count - 1):.0f} %" for i in range(count)], say=scene.say))
    scene.go_on()
    if request.third:
        third = autoencoder.encode(vae, _like(scene.opened(request.third, request.side), first.original))
        total = autoencoder.combined([(1, ends[0]), (1, ends[1]), (-1, third)])
        yield Made("First + second - third", autoencoder.decode(vae, total))


def _like(image: Image.Image, other: Image.Image) -> Image.Image:
    return image.convert("RGB").resize(other.size, Image.Resampling.LANCZOS)
