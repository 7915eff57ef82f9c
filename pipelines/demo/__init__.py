"""The embedded model: a Stable Diffusion in miniature that draws emoji-like pictures, with the recipe that made it.

`MODEL_DIR` is a diffusers folder; `EXAMPLES` are prompts it draws well, as its atelier.json lists them. This file
imports no torch, so the page can read it before the engine is up; neither does words.py, which says what of a prompt
it was not taught (near.txt: which of its things are near to other words). To retrain: `python -m pipelines.demo.recipe
--help`; to measure: `python -m pipelines.demo.evaluate`. Read config.py (sizes), data.py (pictures and captions),
vae.py, clip.py and unet.py (the three trainings), folder.py (what is shipped), in that order. The rest of the engine
never imports more than these two.
"""

import json
from pathlib import Path

MODEL_DIR: Path = Path(__file__).parent / "model"

EXAMPLES: list[dict] = json.loads((MODEL_DIR / "atelier.json").read_text("utf-8"))["examples"]
