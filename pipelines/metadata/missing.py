"""What other tools' pictures were made with and nothing here does, in words: beside the list of what is not used."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from .fields import Draft

_SHOWN = 80  # characters of a value that a sentence repeats

_GUIDED = "Pictures that guide another one are not read here."
_FACES = "Faces are not repaired here."
# The beginning of a key -> what it stands for. Only the first key of each is named.
_FEATURES = {key.casefold(): sentence for key, sentence in {
    "Hypernet": "Hypernetworks are not read here.",
    "Refiner": "A second model for the last steps is not used here.",
    "Token merging": "Tokens are not merged here, so details may differ.",
    "Styles": "Styles of other tools are not known here; the prompt is taken as it stands.",
    "Face restoration": _FACES, "Restore faces": _FACES,
    "ADetailer": "Faces and hands are not drawn again by themselves here.",
    "ControlNet": _GUIDED, "IP-Adapter": _GUIDED,
    "Hires checkpoint": "The second pass is drawn by the same model here.",
    "Tiled diffusion": "Pictures are not drawn tile by tile here.",
    "RP active": "Regions with prompts of their own are not known here.",
    "FreeU": "The U-Net's skip connections are not weighted here.",
    "Dynamic thresholding enabled": "Guidance is not limited by dynamic thresholding here.",
    "Distilled CFG scale": "Distilled guidance is not known here.",
    "Conditional mask weight": "Inpainting models see the whole mask here.",
}.items()}
# Numbers of a feature that has a name besides.
_DETAIL = re.compile("switch|hash|percentage|steps|start|cfg|method|vae|upscale")
_OFF = {"", "0", "0.0", "0x0", "none", "false", "off", "[]", "{}"}


def tell(draft: Draft) -> None:
    """Add a note for each feature that a draft's pairs or unknown entries name and that was on."""
    told = set()
    for key, value in {**draft.unknown, **draft.pairs}.items():
        name = key.casefold()
        feature = next((start for start in _FEATURES if name.startswith(start)), None)
        if feature and feature not in told and not _DETAIL.search(name) and value.strip().casefold() not in _OFF:
            told.add(feature)
            draft.notes.append(f"{_head(key, value)}{_FEATURES[feature]}")


def merge(unknown: Mapping[str, str], notes: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return (notes of their own, unknown entries as "key: value", with the sentence that `tell` says of one)."""
    notes, entries = list(notes), []
    for key, value in unknown.items():
        head = _head(key, value)
        told = next((note for note in notes if note.startswith(head)), None)
        if told:
            notes.remove(told)
        entries.append(f"{key}: {value}" + (f" · {told[len(head):]}" if told else ""))
    return notes, entries


def _head(key: str, value: str) -> str:
    return f"{key[:_SHOWN]} ({value[:_SHOWN]}): "
