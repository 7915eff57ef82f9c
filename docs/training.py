"""Make the picture of what training does: python -m docs.training [KEY=VALUE ...]

Trains "style, fast" on the example drawings with the embedded model, then draws things that were not among them, with
the same seeds, without and with the LoRA, and lays them beside the drawings in that style. Values as in
benchmarks/style.py.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from PIL import Image

from benchmarks.style import embedded, train
from pipelines.images.grid import grid
from pipelines.machine.device import prepare_environment
from pipelines.training import example

PICTURE = Path(__file__).parent / "training.png"
THINGS = 8
SIDE_PX = 128


def main(values: list[str]) -> None:
    prepare_environment(os.environ)
    every = list(example.held_out().items())
    things = [(caption, path, seed) for seed, (caption, path) in enumerate(every)][:: len(every) // THINGS][:THINGS]
    with tempfile.TemporaryDirectory() as folder:
        lora, _ = train(Path(folder), values)
        with embedded(lora) as (draw, switch):
            without = [draw(caption, seed) for caption, _, seed in things]
            with switch:
                changed = [draw(caption, seed) for caption, _, seed in things]
    drawings = [Image.open(path).convert("RGB") for _, path, _ in things]
    cells = [image.resize((SIDE_PX, SIDE_PX)) for image in (*without, *changed, *drawings)]
    sheet = grid(cells, columns=THINGS, column_labels=[caption.partition(",")[0] for caption, _, _ in things],
                 row_labels=["without", "with the LoRA", "the style, not shown"])
    sheet.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(PICTURE, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1:])
