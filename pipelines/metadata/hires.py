"""Hires fix as other tools say it, by the size of the first or of the second pass, as a scale."""

from __future__ import annotations

import math
import re

from .fields import Draft

_SIZE = re.compile(r"(\d{1,5})\s*[x×*]\s*(\d{1,5})", re.ASCII)
_DIGITS = 10_000  # a scale has four digits behind its point, and is rounded up, so that no size loses its last pixels
_OLD_AREA = 512 * 512  # of a first pass whose size AUTOMATIC1111 chose by itself


def by_size(draft: Draft) -> None:
    """Turn "First pass size", "Hires resize" and "Hires size" into a scale; one that says 0x0 is left as it is.

    Source: AUTOMATIC1111/stable-diffusion-webui, modules/infotext_utils.py, restore_old_hires_fix_params.
    """
    size = _size(draft.pairs.get("Size-1", ""), draft.pairs.get("Size-2", ""))
    if size is None:
        return
    if (first := _pair(draft, "First pass size")) is not None:
        del draft.pairs["First pass size"]
        first = first if all(first) else _old_first_pass(*size)
        draft.pairs |= {"Size-1": str(first[0]), "Size-2": str(first[1])}
        if first != size:
            _scale(draft, first, size)
        return
    names = ["Hires resize", *(["Hires size"] if "Hires upscale" not in draft.pairs else [])]
    name = next((name for name in names if any(_pair(draft, name) or ())), None)
    if name:
        final = _pair(draft, name)
        del draft.pairs[name]
        _scale(draft, size, final)


def _pair(draft: Draft, key: str) -> tuple[int, int] | None:
    found = _SIZE.fullmatch(draft.pairs.get(key, "").strip())
    return (int(found[1]), int(found[2])) if found else None


def _size(width: str, height: str) -> tuple[int, int] | None:
    found = _SIZE.fullmatch(f"{width}x{height}")
    return (int(found[1]), int(found[2])) if found and int(found[1]) and int(found[2]) else None


def _scale(draft: Draft, first: tuple[int, int], final: tuple[int, int]) -> None:
    """Say a size as a scale; a side of 0 follows from the other."""
    scale = scale_between(first, final)
    before = draft.pairs.get("Hires upscale")
    if before not in (None, scale):
        draft.unknown["Hires upscale"] = before
    draft.pairs["Hires upscale"] = scale
    sides = [abs(a * float(scale) - b) < 8 for a, b in zip(first, final, strict=True) if b]
    if not all(sides):
        draft.notes.append(f"Hires scale: {final[0]}x{final[1]} px has another shape than {first[0]}x{first[1]} px; "
                           f"the picture becomes {scale} times as large and is not cropped.")


def scale_between(first: tuple[int, int], final: tuple[int, int]) -> str:
    """How many times larger the final size is, by the side that grows most, as infotext writes it."""
    scale = max(-(-b * _DIGITS // a) for a, b in zip(first, final, strict=True))
    return f"{scale / _DIGITS:.4f}".rstrip("0").rstrip(".")


def _old_first_pass(width: int, height: int) -> tuple[int, int]:
    scale = math.sqrt(_OLD_AREA / (width * height))
    return math.ceil(scale * width / 64) * 64, math.ceil(scale * height / 64) * 64
