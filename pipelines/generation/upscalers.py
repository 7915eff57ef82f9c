"""Ways to enlarge a picture: Lanczos always, and learned networks where files of them and the package for them are.

A learned upscaler is a safetensors file in the data folder's `upscalers`, or in one of the folders below a model
folder in which other programs keep them. Its name is all that a request or a page ever says. The package (spandrel)
brings torchvision, which breaks some installations of torch, so it is an extra and imported only when it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from ..errors import ModelError, RequestError, quoted
from ..machine import memory
from ..requests import HIRES_UPSCALERS, LANCZOS
from ..settings import Settings

if TYPE_CHECKING:
    import torch

FOLDERS = ("upscalers", "upscale_models", "ESRGAN", "RealESRGAN", "SwinIR", "DAT", "HAT")  # ours, ComfyUI's, others'
PACKAGE = "spandrel"
MAX_BYTES = 2 * 2**30
SHOWN_NAME = 40

# Gives (parts made, parts in all) after each part of a picture, as tiled_upscaling.py does, at last the picture.
Parts = Generator[tuple[int, int], None, Any]
# (picture, upscaler, size, device) -> the picture at that size
Enlarge = Callable[[Image.Image, str, tuple[int, int], Any], Parts]


def lanczos(image: Image.Image, name: str, size: tuple[int, int], device: torch.device) -> Parts:
    """Enlarge without a network, in one go."""
    yield from ()
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)


class Upscalers:
    """The upscalers that lie on this machine."""

    def __init__(self, settings: Settings):
        roots = [settings.data_dir, *settings.model_dir, settings.data_dir / "models"]
        self._folders = [base / name for root in roots for base in (root, root / "models") for name in FOLDERS]

    def names(self) -> tuple[str, ...]:
        """What can be chosen to enlarge pixels, the learned ones after Lanczos, as they lie on the disk now."""
        return LANCZOS, *sorted(self._files(), key=str.casefold)

    def check(self, name: str, field: str, title: str) -> None:
        """Raise RequestError for an upscaler that cannot be used here."""
        if name in HIRES_UPSCALERS:
            return
        files = self._files()
        if name not in files:
            known = [*HIRES_UPSCALERS, *files] if field == "hires_upscaler" else [LANCZOS, *files]
            nearest = get_close_matches(name[:200], known, n=1, cutoff=0)[0]
            raise RequestError(f"{title}: {quoted(name)} is not here. The nearest is {nearest!r}.", field)
        if find_spec(PACKAGE) is None:
            raise RequestError(f"{title}: {name[:SHOWN_NAME]} is a learned one and needs the package {PACKAGE}, which "
                               "is not installed. requirements-upscalers.txt says how; Lanczos works without.", field)

    def enlarge(self, image: Image.Image, name: str, size: tuple[int, int], device: torch.device) -> Parts:
        """Bring a picture to a size.

        Raises ModelError for a file that is no upscaler, OutOfMemory, and RequestError as `check`.
        """
        if name != LANCZOS:
            self.check(name, "upscaler", "Upscaler")
            image = yield from _learned(self._files()[name], image.convert("RGB"), size, device)
        return (yield from lanczos(image, name, size, device))

    def _files(self) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for folder in self._folders:
            for file in _weights(folder):
                found.setdefault(file.stem[:200], file)
        return found


def _weights(folder: Path) -> Iterator[Path]:
    """The safetensors files in a folder; links that lead out of it are left out."""
    try:
        files = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
        root = folder.resolve()
        yield from (file for file in files if file.resolve().is_relative_to(root)
                    and file.is_file() and file.stat().st_size <= MAX_BYTES)
    except OSError:  # a folder that may not be read holds nothing for us
        return


def _learned(file: Path, image: Image.Image, size: tuple[int, int], device: torch.device) -> Parts:
    """Run the network in a file over the picture until it is at least as large as asked."""
    from spandrel import ImageModelDescriptor, ModelLoader

    from .tiled_upscaling import by_network

    try:
        model = ModelLoader(device).load_from_file(file)
    except Exception as error:  # the package raises many kinds for a file it does not know
        raise ModelError(f"Upscaler: {file.stem[:SHOWN_NAME]} is of no kind that can be used.") from error
    in_colour = isinstance(model, ImageModelDescriptor) and (model.input_channels, model.output_channels) == (3, 3)
    if not in_colour or model.scale < 2:
        raise ModelError(f"Upscaler: {file.stem[:SHOWN_NAME]} does not enlarge colour pictures.")
    with memory.refusing(f"Not enough memory for the upscaler {file.stem[:SHOWN_NAME]}. Lanczos needs almost none."):
        return (yield from by_network(image, model.eval(), model.scale, size, device))
