"""Text: tokens, how near prompts are, and where each word acts."""

from __future__ import annotations

from pipelines.demo import EXAMPLES

from ...lab_page import Look

ABOUT = """
A prompt is cut into *tokens*, pieces from a fixed vocabulary, and a text encoder turns each into a vector ("Learning
Transferable Visual Models From Natural Language Supervision"). It reads 77 places at a time, two of them marks; what
does not fit goes into another pass or falls off. While it draws, the U-Net looks at these vectors at every place of the
picture: the maps average that attention for each word, as "What the DAAM: Interpreting Stable Diffusion Using Cross
Attention" does. Bright is where a word is looked at most.
"""

CODE = """
ids = tokenizer(prompt, padding="max_length").input_ids
states = text_encoder(ids).last_hidden_state     # 77 vectors
# in each cross-attention of the U-Net:
weights = softmax(q(picture) @ k(states).T / d**0.5)
heat[word] += weights[:, places_of(word)]        # per pixel
"""

LOOK = Look("words", "Text", ABOUT, CODE, front=("prompt", "others"), tables=("Tokens", "Similarity"), values={
    "prompt": EXAMPLES[1]["prompt"],
    "others": "\n".join([EXAMPLES[1]["prompt"].replace("red", "green"), EXAMPLES[2]["prompt"]])})
