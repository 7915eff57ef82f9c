"""X/Y/Z grids: one request with up to three of its values replaced, in every combination. Imports no torch.

Axis texts are read as AUTOMATIC1111's: "1, 2, 5", "1-5", "1-10 (+3)", "0-1 [5]", and quoted CSV for text.
"""

from __future__ import annotations

import csv
import math
import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import get_args

from pydantic.fields import FieldInfo

from ..errors import RequestError, quoted
from ..prompts.comments import without_comments
from ..prompts.lora_tags import TAG
from ..prompts.texts import prompt_fields
from ..requests import TASKS, Request, changed, extra_of

MAX_VALUES = 100
MAX_CELLS = 400
MAX_TEXT = 8_000
PROMPT = "prompt text"
SIZE = "size"
LORA = "lora weight"
TITLES = {PROMPT: "Prompt text", SIZE: "Size", LORA: "LoRA weight"}  # axes that are no field
COST = {PROMPT: 1, LORA: 2, SIZE: 0}  # of one change, as the fields declare theirs
TYPED = ("prompt", "model", "vae")  # kinds of field whose values are names and words of a person
EMPTY = "(empty)"  # the label of a value without text

_RANGE = re.compile(r"\s*(-?[\d.]+)\s*-\s*(-?[\d.]+)\s*(?:\(\s*([+-]?[\d.]+)\s*\)|\[\s*(\d+)\s*\])?\s*")


@dataclass(frozen=True)
class Axis:
    """What changes along one side of a grid.

    field: a field of the request, "prompt text" (the first value is searched for and replaced), "size" (as 512x768),
    or "lora weight" (of every LoRA tag in the prompt and in that of hires fix). values: some may be equal, or empty.
    """

    field: str
    values: tuple[object, ...]

    @property
    def title(self) -> str:
        """For labels: Steps, Prompt text ..."""
        info = _declared(self.field)
        return info.title or self.field if info else TITLES.get(self.field, self.field)

    @property
    def kind(self) -> str:
        """What its values stand for, as the field declares it; "" for an axis that is no field."""
        info = _declared(self.field)
        return extra_of(info)["kind"] if info else ""

    @property
    def cost(self) -> int:
        """What one change along it costs; the dearest axis changes least often."""
        info = _declared(self.field)
        return extra_of(info)["axis_cost"] or 0 if info else COST.get(self.field, 0)

    def label(self, value: object, say: Callable[[str], str] = str) -> str:
        """One value as it stands beside its row or above its column. say: puts words into another language."""
        if self.field == PROMPT:
            return str(value) or say(EMPTY)
        if value == "":
            return f"{say(self.title)}: {say(EMPTY)}"
        shown = f"{value:g}" if isinstance(value, float) else str(value)
        return f"{say(self.title)}: {shown if self.kind in TYPED else say(shown)}"

    def seeded(self, earlier: Axis | None = None) -> Axis:
        """Draw a seed in the place of each -1. earlier: the same axis of a grid that was stopped, which has them."""
        if self.kind != "seed" or -1 not in self.values:
            return self
        again = earlier.values if earlier and earlier.fits(self) else None
        drawn = again or tuple(secrets.randbelow(2**32) if value == -1 else value for value in self.values)
        return replace(self, values=drawn)

    def fits(self, typed: Axis) -> bool:
        """Whether this is an axis of typed values with its seeds drawn."""
        return (self.field, len(self.values)) == (typed.field, len(typed.values)) and all(
            asked in (-1, value) for asked, value in zip(typed.values, self.values, strict=True))


@dataclass(frozen=True)
class Matrix:
    """A grid to be made. x: columns, y: rows, z: sheets. requests: those of the cells, once they are concrete."""

    base: Request
    x: Axis
    y: Axis | None = None
    z: Axis | None = None
    requests: tuple[Request, ...] = ()

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
        for number, place in enumerate(self._places()):
            yield place, self.requests[number] if self.requests else self._cell(place)

    def _places(self) -> Iterator[tuple[int, int, int]]:
        order = sorted(range(3), key=lambda i: -self.axes[i].cost)
        for places in product(*(range(self.shape[i]) for i in order)):
            yield tuple(places[order.index(i)] for i in range(3))

    def _cell(self, place: tuple[int, int, int]) -> Request:
        request = changed(self.base, batch_size=1, batch_count=1, prompt_lines=False)
        chosen = [(axis, axis.values[index]) for axis, index in zip(self.axes, place, strict=True) if axis.field]
        for axis, value in sorted(chosen, key=lambda pair: pair[0].field in (PROMPT, LORA)):  # of what is set by then
            if axis.field != PROMPT:
                request = _with(request, axis, value)
        return _replaced(request, [(axis.values[0], value) for axis, value in chosen if axis.field == PROMPT])

    def seeded(self, earlier: Matrix | None = None) -> Matrix:
        """Draw the seeds of its axes; those of a grid that was stopped, where that is the same one."""
        before = [earlier.x, earlier.y, earlier.z] if earlier else [None] * 3
        axes = (axis and axis.seeded(old) for axis, old in zip((self.x, self.y, self.z), before, strict=True))
        return replace(self, **dict(zip("xyz", axes, strict=True)))


_NO_AXIS = Axis("", (None,))


def _declared(field: str) -> FieldInfo | None:
    return next((cls.model_fields[field] for cls in TASKS.values() if field in cls.model_fields), None)


def axis(field: str, text: str, cls: type[Request]) -> Axis | None:
    """Read one axis of the form; None when no field is chosen. Raises RequestError naming what is wrong with it."""
    if not field:
        return None
    info = cls.model_fields.get(field)
    if field not in TITLES and (info is None or extra_of(info)["axis_cost"] is None):
        raise RequestError(f"Axis: {quoted(field)} cannot be one.", field[:40])
    if len(text) > MAX_TEXT:
        raise RequestError(f"Axis {field}: the text has {len(text):,} characters; the limit is {MAX_TEXT:,}.", field)
    kinds = {LORA: {float}}.get(field, set()) if field in TITLES else _kinds(cls, field)
    values = (_numbers(text, field, int in kinds and float not in kinds) if kinds & {int, float}
              else _texts(text, may_be_empty=field == PROMPT or _may_be_empty(cls, field)))
    if kinds == {bool}:
        values = [{"true": True, "false": False, "yes": True, "no": False}.get(value.casefold(), value)
                  for value in values]
    if not values:
        raise RequestError(f"Axis {field}: there are no values. Write them with commas between.", field)
    if len(values) > MAX_VALUES:
        raise RequestError(f"Axis {field}: more than {MAX_VALUES} values are too many.", field)
    if field == PROMPT and not values[0]:
        raise RequestError("Axis prompt text: the first value is what is searched for, so it cannot be empty.", field)
    return Axis(field, tuple(values))


def check(matrix: Matrix) -> None:
    """Refuse a grid with too many cells, one thing on two axes, or a value that cannot be."""
    if len(matrix) > MAX_CELLS:
        raise RequestError(f"Grid: {len(matrix):,} pictures are too many. At most {MAX_CELLS}.", "grid")
    fields = [(axis.field, axis.values[0] if axis.field == PROMPT else "") for axis in matrix.axes if axis.field]
    if len(set(fields)) < len(fields):
        raise RequestError("Grid: two axes change the same thing.", "grid")
    for _ in matrix.cells():
        pass


def _kinds(cls: type[Request], field: str) -> set[type]:
    annotation = cls.model_fields[field].annotation
    kinds = set(get_args(annotation) or (annotation,)) - {type(None)}
    return {str} if any(isinstance(kind, str) for kind in kinds) else kinds


def _may_be_empty(cls: type[Request], field: str) -> bool:
    """Whether nothing is a value of a field of text."""
    extra = extra_of(cls.model_fields[field])
    return extra["may_be_empty"] or extra["kind"] == "prompt"


def _texts(text: str, may_be_empty: bool = False) -> list[str]:
    """Read values with commas between, as AUTOMATIC1111 does."""
    lines = [line.strip().removesuffix(",") for line in text.strip().splitlines() if line.strip()]
    ending = "," if text.strip().endswith(",") else ""  # only behind the last value a comma is followed by another one
    rows = csv.reader([",".join(lines) + ending], skipinitialspace=True)
    values = [value.strip() for row in rows for value in row]
    return [value for value in values if value or may_be_empty]


def _numbers(text: str, field: str, whole: bool) -> list[float | int]:
    values: list[float | int] = []
    for part in _texts(text):
        try:
            read = _range(part) if _RANGE.fullmatch(part) else [_number(part)]
            if not all(map(math.isfinite, read)):
                raise ValueError(part)
            if whole and len(read) <= MAX_VALUES:  # steps of a range that round to the same number are one
                read = list(dict.fromkeys(map(round, read)))
            values += read
        except (ValueError, OverflowError):
            raise RequestError(f"Axis {field}: {quoted(part)} is no number.", field) from None
        if len(values) > MAX_VALUES:
            break
    return values


def _number(text: str) -> float | int:
    """Read a number; a whole one keeps all its digits, as a seed of 64 bits needs."""
    return int(text) if re.fullmatch(r"\s*[+-]?[0-9]{1,20}\s*", text) else float(text)


def _range(part: str) -> list[float]:
    first, last, step, count = _RANGE.fullmatch(part).groups()
    low, high = _number(first), _number(last)
    if count:
        number = min(int(count), MAX_VALUES + 1)
        return [round(low + (high - low) * i / max(1, number - 1), 6) for i in range(number)]
    width = abs(_number(step)) if step else 1
    if not width:
        raise ValueError(part)
    number = min(int(abs(high - low) / width + 1e-9) + 1, MAX_VALUES + 1)
    return [round(low + i * width * (1 if high >= low else -1), 6) for i in range(number)]


def _with(request: Request, axis: Axis, value: object) -> Request:
    if axis.field == SIZE:
        sides = re.fullmatch(r"(\d{1,5})\s*[x×]\s*(\d{1,5})", str(value))
        if not sides:
            raise RequestError(f"Axis size: {quoted(str(value))} does not look like 512x768.", "size")
        return changed(request, width=int(sides[1]), height=int(sides[2]))
    if axis.field == LORA:
        return _weighted(request, f"{value:g}")
    is_left_open = value == "" and extra_of(type(request).model_fields[axis.field])["may_be_empty"]
    return changed(request, **{axis.field: None if is_left_open else value})


def _weighted(request: Request, weight: str) -> Request:
    """Give every LoRA tag of a request this weight, those of hires fix's prompt too; negative prompts have none."""
    texts = {name: getattr(request, name) for name in prompt_fields(type(request)) if "negative" not in name}
    if not any(TAG.search(without_comments(text)) for text in texts.values()):
        raise RequestError("Axis LoRA weight: the prompt has no LoRA. Write one as <lora:name:1>.", "prompt")
    return changed(request, **{name: TAG.sub(lambda tag: f"<lora:{tag[1].split(':')[0]}:{weight}>", text)
                               for name, text in texts.items()})


def _replaced(request: Request, pairs: list[tuple[str, str]]) -> Request:
    """Replace (searched, put) in every prompt of a request."""
    if not pairs:
        return request
    texts = {name: getattr(request, name) for name in prompt_fields(type(request))}
    drawn = [without_comments(text) for text in texts.values()]
    for searched, _ in pairs:
        if not any(searched in text for text in drawn):
            raise RequestError(f"Axis prompt text: {quoted(searched)} does not stand in the prompt.", "prompt")
    return changed(request, **{name: _all_replaced(text, pairs) for name, text in texts.items()})


def _all_replaced(text: str, pairs: list[tuple[str, str]]) -> str:
    """Replace at once, so that what one axis puts is not what the next one finds; within a longer text, the shorter."""
    pairs = sorted(pairs, key=lambda pair: -len(pair[0]))
    found = re.compile("|".join(re.escape(searched) for searched, _ in pairs))

    def put(match: re.Match) -> str:
        value = dict(pairs)[match[0]]
        inner = [pair for pair in pairs if len(pair[0]) < len(match[0]) and pair[0] in match[0]]
        return _all_replaced(value, inner) if inner else value

    return found.sub(put, text)
