"""Which tensors of an embedding file stand for which word, told from its header. Imports no torch.

AUTOMATIC1111: emb_params. Of XL: clip_l and clip_g, to which OneTrainer adds vectors for the encoders' outputs
(..._out), which are not used here. diffusers: a tensor under each token, of which a file may have several.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .read.headers import Header

OWN = ""  # the word that is the file's own name
PARAMS = "emb_params"
SIDES = {"clip_l": "text_encoder", "clip_h": "text_encoder", "clip_g": "text_encoder_2",
         "text_encoders_0": "text_encoder", "text_encoders_1": "text_encoder_2"}
# Widths of the text encoders, by the family whose embeddings have them.
WIDTHS = {(768,): "sd15", (1024,): "sd2", (768, 1280): "sdxl"}
MAX_VECTORS, MAX_WIDTH, MAX_TOKENS = 256, 4096, 64
FORMATS = ("F16", "BF16", "F32", "F64", "F8_E4M3", "F8_E5M2")
# What networks call their tensors: such a name is no token.
PARAMETER = re.compile(r"(^|[._])(weight|bias|alpha|scale|gamma|beta|mean|var|running_\w+|embedding)\d*$")
SHORTEST = 3


@dataclass(frozen=True)
class Layout:
    """words: word -> {text encoder: tensor's name}. unused: tensors that have no effect here."""

    words: dict[str, dict[str, str]]
    unused: tuple[str, ...] = ()


def layout_of(header: Header) -> Layout | None:
    """The layout of an embedding; None for a file that is none."""
    shapes = header.shapes
    if PARAMS in shapes:
        known = {OWN: {"text_encoder": PARAMS}}
    elif sides := {SIDES[name]: name for name in shapes if name in SIDES}:
        known = {OWN: sides}
    else:
        known = {name: {"text_encoder": name} for name in shapes} if _are_tokens(header) else {}
    used = {name for sides in known.values() for name in sides.values()}
    unused = tuple(name for name in shapes if name not in used)
    if not used or not all(_is_vectors(header, name) for name in used) or any("." in name for name in unused):
        return None
    return Layout(known, unused)


def tokens(layout: Layout) -> tuple[str, ...]:
    """The words that a file brings itself. One alone that is a plain word of a language is none: it would be taken
    from every prompt."""
    named = [word for word in layout.words if len(word) >= SHORTEST]
    return tuple(word for word in named if len(layout.words) > 1 or not word.isalpha())


def vectors_in(header: Header, name: str) -> int:
    """How many vectors a tensor of an embedding has."""
    shape = header.shapes[name]
    return shape[0] if len(shape) == 2 else 1


def _is_vectors(header: Header, name: str) -> bool:
    shape = header.shapes[name]
    return (len(shape) in (1, 2) and 0 < shape[-1] <= MAX_WIDTH and 0 < vectors_in(header, name) <= MAX_VECTORS
            and header.dtypes[name] in FORMATS)


def _are_tokens(header: Header) -> bool:
    """Whether every tensor may be the vectors of a token: all of one width, under no name of a network's part."""
    shapes = header.shapes
    widths = {shape[-1] for shape in shapes.values() if shape}
    if not 0 < len(shapes) <= MAX_TOKENS or len(widths) != 1 or any(map(PARAMETER.search, shapes)):
        return False
    usual = next(iter(widths)) in {width for known in WIDTHS for width in known}
    return usual or (len(shapes) == 1 and "." not in next(iter(shapes)))
