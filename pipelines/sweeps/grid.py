"""X/Y/Z grids: one request with up to three of its values replaced, in every combination. Imports no torch.

Axis texts are read as AUTOMATIC1111's: "1, 2, 5", "1-5", "1-10 (+3)", "0-1 [5]", and quoted CSV for text.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, get_args

from ..errors import RequestError
from ..prompts.lora_tags import TAG
from ..requests import TASKS, Request, changed

MAX_VALUES = 100
MAX_CELLS = 400
MAX_TEXT = 8_000
PROMPT = "prompt text"
SIZE = "size"
LORA = "lora weight"
TITLES = {PROMPT: "Prompt text", SIZE: "Size", LORA: "LoRA weight"}  # axes that are no field
TYPED = ("prompt", "negative_prompt", "hires_prompt", "hires_negative_prompt", "model", "vae")  # names and words
# What a change of the field costs, so that the dearest axis changes least often; fields not named cost nothing.
COST = {"model": 4, "vae": 3, LORA: 2, "clip_skip": 1, "prompt": 1, "negative_prompt": 1, PROMPT: 1}
NOT_AN_AXIS = ("styles", "prompt_lines", "batch_size", "batch_count", "image", "mask")

_RANGE = re.compile(r"\s*(-?[\d.]+)\s*-\s*(-?[\d.]+)\s*(?:\(\s*([+-]?[\d.]+)\s*\)|\[\s*(\d+)\s*\])?\s*")


@dataclass(frozen=True)
class Axis:
    """What changes along one side of a grid.

    field: a field of the request, "prompt text" (the first value is searched for and replaced), "size" (as 512x768),
    or "lora weight" (of every LoRA tag in the prompt).
    """

    field: str
    values: tuple[Any, ...]

    @property
    def title(self) -> str:
        """For labels: Steps, Prompt text ..."""
        info = next((cls.model_fields[self.field] for cls in TASKS.values() if self.field in cls.model_fields), None)
        return info.title if info else TITLES.get(self.field, self.field)

    def label(self, value: Any, say: Callable[[str], str] = str) -> str:
        """One value as it stands beside its row or above its column. say: puts words into another language."""
        if self.field == PROMPT:
            return str(value)
        shown = f"{value:g}" if isinstance(value, float) else str(value)
        return f"{say(self.title)}: {shown if self.field in TYPED else say(shown)}"


@dataclass(frozen=True)
class Matrix:
    """A grid to be made. x: columns, y: rows, z: sheets."""

    base: Request
    x: Axis
    y: Axis | None = None
    z: Axis | None = None

    @property
    def axes(self) -> tuple[Axis, ...]:
        return tuple(axis or _NO_AXIS for axis in (self.x, self.y, self.z))

    @property
    def shape(self) -> tuple[int, int, int]:
        """How many columns, rows and sheets."""
        return tuple(len(axis.values) for axis in self.axes)

    def __len__(self) -> int:
        columns, rows, sheets = self.shape
        return columns * rows * sheets

    def cells(self) -> Iterator[tuple[tuple[int, int, int], Request]]:
        """Every place (column, row, sheet) with its request, the dearest axis changing least often.

        Raises RequestError for a value that the request does not take.
        """
        order = sorted(range(3), key=lambda i: -COST.get(self.axes[i].field, 0))
        for places in product(*(range(self.shape[i]) for i in order)):
            place = tuple(places[order.index(i)] for i in range(3))
            request = changed(self.base, batch_size=1, batch_count=1, prompt_lines=False)
            for axis, index in zip(self.axes, place, strict=True):
                request = _with(request, axis, axis.values[index])
            yield place, request


_NO_AXIS = Axis("", (None,))


def axis(field: str, text: str, cls: type[Request]) -> Axis | None:
    """Read one axis of the form; None when no field is chosen. Raises RequestError naming what is wrong with it."""
    if not field:
        return None
    if field not in TITLES and (field not in cls.model_fields or field in NOT_AN_AXIS):
        raise RequestError(f"Axis: {field[:40]!r} cannot be one.", field[:40])
    if len(text) > MAX_TEXT:
        raise RequestError(f"Axis {field}: the text has {len(text):,} characters; the limit is {MAX_TEXT:,}.", field)
    kinds = {LORA: {float}}.get(field, set()) if field in TITLES else _kinds(cls, field)
    values = _numbers(text, field, int in kinds and float not in kinds) if kinds & {int, float} else _texts(text)
    if kinds == {bool}:
        values = [{"true": True, "false": False, "yes": True, "no": False}.get(value.casefold(), value)
                  for value in values]
    if not values:
        raise RequestError(f"Axis {field}: there are no values. Write them with commas between.", field)
    if len(values) > MAX_VALUES:
        raise RequestError(f"Axis {field}: more than {MAX_VALUES} values are too many.", field)
    return Axis(field, tuple(dict.fromkeys(values)))


def check(matrix: Matrix) -> None:
    """Refuse a grid with too many cells, one field on two axes, or a value that cannot be."""
    if len(matrix) > MAX_CELLS:
        raise RequestError(f"Grid: {len(matrix):,} pictures are too many. At most {MAX_CELLS}.", "grid")
    fields = [axis.field for axis in matrix.axes if axis.field]
    if len(set(fields)) < len(fields):
        raise RequestError("Grid: two axes change the same thing.", "grid")
    for _ in matrix.cells():
        pass


def _kinds(cls: type[Request], field: str) -> set[type]:
    annotation = cls.model_fields[field].annotation
    kinds = set(get_args(annotation) or (annotation,)) - {type(None)}
    return {str} if any(isinstance(kind, str) for kind in kinds) else kinds


def _texts(text: str) -> list[str]:
    rows = csv.reader([text.replace("\n", ",")], skipinitialspace=True)
    return [value.strip() for row in rows for value in row if value.strip()]


def _numbers(text: str, field: str, whole: bool) -> list[float | int]:
    values: list[float | int] = []
    for part in _texts(text):
        try:
            values += _range(part) if _RANGE.fullmatch(part) else [float(part)]
            if not all(map(math.isfinite, values)):
                raise ValueError(part)
        except (ValueError, OverflowError):
            raise RequestError(f"Axis {field}: {part[:40]!r} is no number.", field) from None
        if len(values) > MAX_VALUES:
            break
    return [round(value) for value in values] if whole else values


def _range(part: str) -> list[float]:
    first, last, step, count = _RANGE.fullmatch(part).groups()
    low, high = float(first), float(last)
    if count:
        number = min(int(count), MAX_VALUES + 1)
        return [round(low + (high - low) * i / max(1, number - 1), 6) for i in range(number)]
    width = abs(float(step)) if step else 1.0
    if not width:
        raise ValueError(part)
    number = min(int(abs(high - low) / width + 1e-9) + 1, MAX_VALUES + 1)
    return [round(low + i * width * (1 if high >= low else -1), 6) for i in range(number)]


def _with(request: Request, axis: Axis, value: Any) -> Request:
    if not axis.field or (axis.field, value) == ("seed", -1):  # the form's own seed, which is random or stands there
        return request
    if axis.field == SIZE:
        sides = re.fullmatch(r"(\d{1,5})\s*[x×]\s*(\d{1,5})", str(value))
        if not sides:
            raise RequestError(f"Axis size: {str(value)[:40]!r} does not look like 512x768.", "size")
        return changed(request, width=int(sides[1]), height=int(sides[2]))
    if axis.field == LORA:
        if not TAG.search(request.prompt):
            raise RequestError("Axis LoRA weight: the prompt has no LoRA. Write one as <lora:name:1>.", "prompt")
        return changed(request, prompt=TAG.sub(lambda tag: f"<lora:{tag[1].split(':')[0]}:{value:g}>",
                                               request.prompt))
    if axis.field == PROMPT:
        searched = axis.values[0]
        if searched not in request.prompt and searched not in request.negative_prompt:
            raise RequestError(f"Axis prompt text: {searched[:40]!r} does not stand in the prompt.", "prompt")
        return changed(request, prompt=request.prompt.replace(searched, value),
                       negative_prompt=request.negative_prompt.replace(searched, value))
    return changed(request, **{axis.field: value})
