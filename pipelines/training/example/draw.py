"""Draw the example dataset anew from the packages: python -m pipelines.training.example.draw PACKAGE.tgz

PACKAGE.tgz is what `npm pack @iconify-json/fluent-emoji-high-contrast@1.2.6` writes. Needs resvg-py. Not used by the
app: the drawings lie in the repository.
"""

from __future__ import annotations

import io
import json
import sys
import tarfile

from PIL import Image

from . import DRAWINGS, HELD_OUT, STYLE

SIDE_PX = 128
MARGIN_PX = 8
# (what the caption says, the drawing's name in the package); every second one is held out
CONCEPTS = (
    ("dog face", "dog-face"), ("cat face", "cat-face"), ("red apple", "red-apple"), ("banana", "banana"),
    ("rocket", "rocket"), ("airplane", "airplane"), ("frog", "frog"), ("rabbit face", "rabbit-face"),
    ("penguin", "penguin"), ("owl", "owl"), ("strawberry", "strawberry"), ("pineapple", "pineapple"),
    ("sunflower", "sunflower"), ("tulip", "tulip"), ("fish", "fish"), ("whale", "whale"),
    ("butterfly", "butterfly"), ("honeybee", "honeybee"), ("lion", "lion"), ("bear", "bear"),
    ("house", "house"), ("snowman", "snowman"), ("guitar", "guitar"), ("bell", "bell"),
    ("birthday cake", "birthday-cake"), ("cupcake", "cupcake"), ("fox", "fox"), ("panda", "panda"),
    ("turtle", "turtle"), ("crab", "crab"), ("cactus", "cactus"), ("palm tree", "palm-tree"),
    ("crown", "crown"), ("top hat", "top-hat"), ("elephant", "elephant"), ("koala", "koala"),
    ("umbrella", "umbrella"), ("balloon", "balloon"), ("mushroom", "mushroom"), ("pear", "pear"),
    ("octopus", "octopus"), ("snail", "snail"), ("bicycle", "bicycle"), ("bus", "bus"),
    ("light bulb", "light-bulb"), ("key", "key"), ("camera", "camera"), ("alarm clock", "alarm-clock"))


def main(argv: list[str]) -> None:
    with tarfile.open(argv[0]) as tar:
        icons = json.load(tar.extractfile("package/icons.json"))
    for number, (concept, name) in enumerate(CONCEPTS):
        folder = HELD_OUT if number % 2 else DRAWINGS
        folder.mkdir(exist_ok=True)
        stem = folder / name
        draw(icons, name).save(stem.with_suffix(".png"), optimize=True)
        article = "an" if concept[0] in "aeiou" else "a"
        stem.with_suffix(".txt").write_text(f"{article} {concept}, {STYLE}, white background\n", encoding="utf-8")


def draw(icons: dict, name: str) -> Image.Image:
    """One drawing: black on white, 8-bit grey."""
    import resvg_py

    side = icons["icons"][name].get("width", icons.get("width", 32))
    svg = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {side} {side}" color="black">'
           f'{icons["icons"][name]["body"]}</svg>')
    inner = SIDE_PX - 2 * MARGIN_PX
    png = resvg_py.svg_to_bytes(svg_string=svg, width=inner, height=inner, skip_system_fonts=True)
    ink = Image.open(io.BytesIO(png)).convert("RGBA")
    page = Image.new("RGBA", (SIDE_PX, SIDE_PX), "white")
    page.alpha_composite(ink, (MARGIN_PX, MARGIN_PX))
    return page.convert("L")


if __name__ == "__main__":
    main(sys.argv[1:])
