"""What other tools' pictures were made with and nothing here does, in words: beside the list of what is not used."""

from __future__ import annotations

import re

from .fields import Draft

_SHOWN = 80  # characters of a value that a sentence repeats

# The beginning of a key, in small letters -> what it stands for. Only the first key of each is named.
_FEATURES = {
    "hypernet": "hypernetworks are not read here",
    "refiner": "a second model for the last steps is not used here",
    "seed resize from": "noise that is resized from another size is not made here",
    "token merging": "merging of tokens is not done here, so details may differ",
    "styles": "styles of other tools are not known here; the prompt is taken as it stands",
    "face restoration": "faces are not repaired here",
    "restore faces": "faces are not repaired here",
    "adetailer": "faces and hands are not drawn again by themselves here",
    "controlnet": "pictures that guide another one are not read here",
    "hires checkpoint": "the second pass is drawn by the same model here",
    "tiled diffusion": "pictures are not drawn tile by tile here",
    "rp active": "regions with prompts of their own are not known here",
    "freeu": "the U-Net's skip connections are not weighted here",
    "dynamic thresholding enabled": "guidance is not limited by dynamic thresholding here",
    "ip-adapter": "pictures that guide another one are not read here",
    "distilled cfg scale": "distilled guidance is not known here",
    "conditional mask weight": "inpainting models see the whole mask here",
}
_DETAIL = re.compile("switch|hash|percentage|steps|start|cfg|method|vae|upscale")  # numbers of a feature that has a name besides
_OFF = {"", "0", "0.0", "0x0", "none", "false", "off", "[]", "{}"}


def tell(draft: Draft) -> None:
    """Add a note for each feature that a draft's pairs or unknown entries name and that was on."""
    told = set()
    for key, value in {**draft.unknown, **draft.pairs}.items():
        name = key.casefold()
        feature = next((start for start in _FEATURES if name.startswith(start)), None)
        if feature and feature not in told and not _DETAIL.search(name) and value.strip().casefold() not in _OFF:
            told.add(feature)
            draft.notes.append(f"{key[:_SHOWN]}: {_FEATURES[feature]} ({value[:_SHOWN]}).")
