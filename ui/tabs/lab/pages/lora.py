"""LoRA from the inside: thin matrices that learn what is to change."""

from __future__ import annotations

from ..description import Look, Opens

ABOUT = """
A LoRA leaves the weights W of a layer alone and learns a change B A beside them, two thin matrices whose product is as
large as W ("LoRA: Low-Rank Adaptation of Large Language Models"). B begins at 0, so the first answer is the base's; the
*rank* is how thin they are. Here the attention layers of a small model learn its own pictures, inverted, mirrored or
bold, with several ranks. Merged into W they do the same at no cost, up to rounding. A rank beyond the size of a layer
costs more than the layer and can do no more. Choose a LoRA file to see what it changes, layer by layer.
"""

LOOK = Look(
    "lora", "LoRA", ABOUT, ("lab.lora.LowRank", "lab.lora.merged"), front=("run_name", "lesson", "ranks"),
    choices={"run_name": "runs", "file": "loras"}, plots={"Loss": "update"}, tables=("Ranks", "Change by layer"),
    wide=True,
    opens=Opens("train", "Train", {"learning_rate": "learning_rate", "seed": "seed"}))
