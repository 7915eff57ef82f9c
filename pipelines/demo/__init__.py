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
    {"prompt": "a cat face, noto style, blue background", "seed": 1},
    {"prompt": "a red apple, twemoji style, white background", "seed": 2},
    {"prompt": "a rocket, fluent style, purple background", "seed": 3},
    {"prompt": "a frog, fluent flat style, pink background", "seed": 4},
    {"prompt": "a sunflower, noto style, green background", "seed": 5},
    {"prompt": "a penguin, fluent style, orange background", "seed": 6},
    {"prompt": "a pizza, twemoji style, yellow background", "seed": 7},
    {"prompt": "a grinning face, noto style, gray background", "seed": 8},
]
