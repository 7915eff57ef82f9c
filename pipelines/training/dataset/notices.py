"""What a run says of its pictures before it begins: captions that are missing, and whatever is not used or changed.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..request import TrainLora
from .picture import Picture

MOST = 40  # pictures of a verdict that are named one by one


def of_captions(pictures: Sequence[Picture], config: TrainLora) -> Iterator[str]:
    """Say how many pictures have no caption. What they are learned under then is easily forgotten."""
    own = [picture for picture in pictures if picture.used and not picture.is_prior]
    blank = sum(not picture.captions for picture in own)
    words = config.trigger or config.prefix or config.suffix
    under = "the trigger word and what is put around captions alone" if words else "an empty caption"
    if blank and blank == len(own):
        yield f"No picture has a caption: all of them are learned under {under}."
    elif blank:
        yield f"{blank} of {len(own)} pictures have no caption: they are learned under {under}."


def of_pictures(pictures: Sequence[Picture]) -> Iterator[str]:
    """Name the pictures that are left out or mended, with the reasons."""
    for verdict, begin in (("left out", "Left out"), ("mended", "Mended")):
        chosen = [picture for picture in pictures if picture.verdict == verdict]
        for picture in chosen[:MOST]:
            yield f"{begin}: {picture.name[:100]} ({'; '.join(picture.reasons)})."
        if len(chosen) > MOST:
            yield f"{begin}: {len(chosen) - MOST} more pictures. The run's manifest.json names them all."
