"""The embedded model: a Stable Diffusion in miniature that draws emoji-like pictures, with the recipe that made it.

`MODEL_DIR` is a diffusers folder; `EXAMPLES` are prompts it draws well. This file imports no torch, so the page can
read it before the engine is up. To retrain: `python -m pipelines.demo.recipe --help`; to measure:
`python -m pipelines.demo.evaluate`. Read config.py (sizes), data.py (pictures and captions), vae.py, clip.py and
unet.py (the three trainings), folder.py (what is shipped), in that order. The rest of the engine never imports more
than this file.
"""

from pathlib import Path

MODEL_DIR: Path = Path(__file__).parent / "model"

EXAMPLES: list[dict] = [
    {"prompt": "a penguin, twemoji style, pink background", "seed": 81},
    {"prompt": "a rainbow, noto style, purple background", "seed": 40},
    {"prompt": "a skull, fluent flat style, green background", "seed": 181},
    {"prompt": "a fire engine, noto style, yellow background", "seed": 151},
    {"prompt": "a sunflower, fluent flat style, blue background", "seed": 30},
    {"prompt": "a red heart, noto style, white background", "seed": 0},
    {"prompt": "a beer mug, noto style, gray background", "seed": 191},
    {"prompt": "a lemon, twemoji style, pink background", "seed": 161},
]
