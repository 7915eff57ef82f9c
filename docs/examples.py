"""Draw the pictures on the example cards: python -m docs.examples [--model FOLDER]

Makes each example that the model's atelier.json lists and writes it, small, into the folder `examples` inside the
model's; the first four together become its preview among the models. Run it again after the model was trained anew;
cards without a picture show their prompt alone.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile

from PIL import Image

from app import quieten
from pipelines.errors import StudioError
from pipelines.events import Failed, Saved
from pipelines.requests import Txt2Img, make
from pipelines.settings import load
from pipelines.studio.studio import Studio
from ui.forms.examples import FOLDER, SIDE_PX, name

QUALITY = 82  # of WebP: 2 to 4 kB a picture
PREVIEW = "preview.webp"


def main(arguments: list[str]) -> None:
    with tempfile.TemporaryDirectory() as data:
        settings = load(["--data-dir", data, *arguments], {})
        quieten(os.environ, settings)
        studio = Studio(settings)
        try:
            card = studio.collection.default_card()
            if card.path is None or not card.path.is_dir():
                raise StudioError("Model: only a folder can carry examples.")
            folder = card.path / FOLDER
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            pictures = [draw(studio, example) for example in card.examples]
            four(pictures).save(card.path / PREVIEW, quality=QUALITY, method=6)
            for example, image in zip(card.examples, pictures, strict=True):
                image.thumbnail((SIDE_PX, SIDE_PX))
                image.save(folder / name(example), quality=QUALITY, method=6)
                print(folder.name, name(example), (folder / name(example)).stat().st_size, "bytes")
        finally:
            studio.close()


def four(pictures: list[Image.Image]) -> Image.Image:
    """Lay the first four pictures out as a square; fewer leave it white."""
    width, height = pictures[0].size
    sheet = Image.new("RGB", (2 * width, 2 * height), "white")
    for at, picture in enumerate(pictures[:4]):
        sheet.paste(picture, (at % 2 * width, at // 2 * height))
    return sheet


def draw(studio: Studio, example: dict) -> Image.Image:
    """Make an example's picture, exactly as a click on its card does."""
    for event in studio.submit(make(Txt2Img, **example)).follow():
        match event:
            case Saved(record):
                with Image.open(record.path) as image:
                    return image.convert("RGB")
            case Failed(error):
                raise error
    raise StudioError("The run ended without a picture.")


if __name__ == "__main__":
    main(sys.argv[1:])
