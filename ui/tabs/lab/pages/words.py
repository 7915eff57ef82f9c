"""Text: tokens, how near prompts are, and where each word acts."""

from __future__ import annotations

from pipelines.demo import EXAMPLES

from ..description import Look, Opens

ABOUT = """
A prompt is cut into *tokens*, pieces from a fixed vocabulary, and a text encoder turns each into a vector ("Learning
Transferable Visual Models From Natural Language Supervision"). It reads 77 places at a time, two of them marks; what
does not fit goes into another pass. While it draws, the U-Net looks at these vectors at every place of the
picture: the maps average that attention for each word, as "What the DAAM: Interpreting Stable Diffusion Using Cross
Attention" does. Bright is where a word is looked at most.
"""

LOOK = Look(
    "words", "Text", ABOUT, ("lab.text.vectors", "lab.attention.Recording.__call__", "lab.text.similarities"),
    front=("prompt", "others"), tables=("Tokens", "Passes", "Similarity"), values={
        "prompt": EXAMPLES[1]["prompt"],
        "others": "\n".join([EXAMPLES[1]["prompt"].rpartition(",")[0], EXAMPLES[2]["prompt"]])},
    opens=Opens("txt2img", "Text to image", {name: name for name in ("prompt", "steps", "guidance_scale", "seed")}))
