"""Make the pictures of docs/lab.md: python -m docs.lab (no browser needed; a few minutes on two cores)

Asks the lab's pages as the tab does, with the values that the pages begin with, prints how long each took (the promise
is less than a minute on two cores), and keeps one picture of each, small.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from app import quieten
from pipelines.events import Finished, Pictured
from pipelines.settings import load
from pipelines.studio.studio import Studio
from pipelines.studio.works import AskLab
from pipelines.training.example import DRAWINGS
from ui.tabs.lab import LOOKS

FOLDER = Path(__file__).parent / "lab"
WIDTH_PX = 960
COLOURS = 64
# Page -> (caption of the picture that is kept, "" for all of them side by side; values beside those of the page).
KEPT: dict[str, tuple[str, dict[str, Any]]] = {
    "film": ("Euler a, 12 steps", {}),
    "noise": ("", {"count": 6}),
    "autoencoder": ("", {}),
    "words": ("", {}),
    "train": ("Samples", {}),
    "sample": ("The way of the first picture", {}),
    "finetune": ("", {}),
    "guide": ("From no pull", {}),
    "lora": ("Base and adapted", {}),
}


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        settings = load(["--data-dir", folder, "--offline"], {})
        quieten(os.environ, settings)
        studio = Studio(settings)
        try:
            fox = studio.images.add(DRAWINGS / "fox.png").id
            for look in LOOKS:
                keep(studio, look, fox)
        finally:
            studio.close()


def keep(studio: Studio, look: Any, fox: str) -> None:
    """Run a page, print its time, and save its picture where it has one."""
    from pipelines.images.grid import grid

    caption, values = KEPT.get(look.name, ("", {}))
    picture = {"image": fox} if look.name in ("noise", "autoencoder") else {}
    job = studio.submit(AskLab(look.name, {**look.values, **picture, **values}))
    job.wait()
    seconds = next(event.seconds for event in job.events if isinstance(event, Finished))
    print(f"{look.label}: {seconds:.1f} s")
    if look.name not in KEPT:
        return
    made = [event for event in job.events if isinstance(event, Pictured) and event.caption.startswith(caption)]
    images = [Image.open(event.path).convert("RGB") for event in made]
    if not caption:
        side = min(160, *(image.height for image in images)) if look.name != "finetune" else 200
        images = [image.resize((round(image.width * side / image.height), side)) for image in images]
        sheet = grid(images, labels=[event.caption for event in made], columns=min(6, len(images)))
    else:
        sheet = images[0]
    if sheet.width > WIDTH_PX:
        sheet = sheet.resize((WIDTH_PX, round(sheet.height * WIDTH_PX / sheet.width)), Image.Resampling.LANCZOS)
    sheet.quantize(COLOURS, dither=Image.Dither.NONE).save(FOLDER / f"{look.name}.png", optimize=True)


if __name__ == "__main__":
    main()
