"""Contact sheets: many pictures as one, with their prompts below or with labels for rows and columns."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from math import ceil, sqrt

from PIL import Image, ImageDraw, ImageFont

from .convert import flatten

MAX_SIDE = 16384  # px; larger grids are scaled down as a whole
MAX_PIXELS = 64_000_000
GAP = 4  # px between pictures when anything is written
PAPER, INK = (255, 255, 255), (24, 24, 27)
MAX_LINES = 3


def grid(images: Sequence[Image.Image], labels: Sequence[str] | None = None, columns: int | None = None, *,
         row_labels: Sequence[str] | None = None, column_labels: Sequence[str] | None = None,
         say: Callable[[str], str] = str) -> Image.Image:
    """Put pictures on one sheet (RGB), row by row, in a near-square shape unless columns is given.

    labels: one text below each picture, wrapped to three lines, the rest cut off with an ellipsis. row_labels stand
    left of the rows, column_labels above the columns; `say` puts them into the language of who asked. Smaller
    pictures are centred in their cell. Sheets beyond MAX_SIDE or MAX_PIXELS are made of smaller pictures. Raises
    ValueError without pictures or with too few labels.
    """
    if not images:
        raise ValueError("a grid needs at least one picture")
    columns = columns or ceil(sqrt(len(images)))
    rows = ceil(len(images) / columns)
    for texts, count in ((labels, len(images)), (row_labels, rows), (column_labels, columns)):
        if texts is not None and len(texts) != count:
            raise ValueError(f"{len(texts)} labels for {count} places")
    cell_width, cell_height = max(image.width for image in images), max(image.height for image in images)
    scale = min(1, MAX_SIDE / (cell_width * columns), MAX_SIDE / (cell_height * rows),
                sqrt(MAX_PIXELS / (cell_width * columns * cell_height * rows)))
    cell_width, cell_height = max(1, int(cell_width * scale)), max(1, int(cell_height * scale))

    font = ImageFont.load_default(min(32, max(12, cell_width // 24)))
    below = [_wrapped(text, font, cell_width - 2 * GAP) for text in labels or ()]
    above = [_wrapped(say(text), font, cell_width - 2 * GAP) for text in column_labels or ()]
    beside = [_wrapped(say(text), font, max(80, cell_width // 2)) for text in row_labels or ()]
    gap = GAP if below or above or beside else 0
    foot, _ = _extent(below, font)
    head, _ = _extent(above, font)
    _, margin = _extent(beside, font)

    sheet = Image.new("RGB", (margin + columns * (cell_width + gap) - gap,
                              head + rows * (cell_height + foot + gap) - gap), PAPER)
    draw = ImageDraw.Draw(sheet)
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        left, top = margin + column * (cell_width + gap), head + row * (cell_height + foot + gap)
        shown = flatten(image)
        if scale < 1:
            shown = shown.resize([max(1, int(side * scale)) for side in image.size], Image.Resampling.LANCZOS)
        sheet.paste(shown, (left + (cell_width - shown.width) // 2, top + (cell_height - shown.height) // 2))
        if below:
            _write(draw, below[index], font, left + cell_width // 2, top + cell_height + foot // 2)
    for column, lines in enumerate(above):
        _write(draw, lines, font, margin + column * (cell_width + gap) + cell_width // 2, head // 2)
    for row, lines in enumerate(beside):
        _write(draw, lines, font, margin // 2, head + row * (cell_height + foot + gap) + cell_height // 2)
    return sheet


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """Break a text into at most MAX_LINES lines of a width in px; what does not fit becomes an ellipsis."""
    words = text[:1000].split()  # more than three lines can ever show
    lines, rest = [], words
    while rest and len(lines) < MAX_LINES:
        count = 1
        while count < len(rest) and font.getlength(" ".join(rest[:count + 1])) <= width:
            count += 1
        line, rest = " ".join(rest[:count]), rest[count:]
        if len(lines) == MAX_LINES - 1 and rest:
            line += " ..."
        lines.append(_shortened(line, font, width))
    return "\n".join(lines)


def _shortened(line: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    if font.getlength(line) <= width:
        return line
    line = line.removesuffix("...").rstrip()
    fits = bisect_right(range(len(line)), width, key=lambda count: font.getlength(line[:count] + "..."))
    return line[:max(0, fits - 1)] + "..."


def _extent(texts: Sequence[str], font: ImageFont.FreeTypeFont) -> tuple[int, int]:
    """Height and width in px that hold each of the texts with some air; 0, 0 when there are none."""
    if not texts:
        return 0, 0
    draw = ImageDraw.Draw(Image.new("L", (1, 1)))
    boxes = [draw.multiline_textbbox((0, 0), text or " ", font=font) for text in texts]
    lines = max(text.count("\n") + 1 for text in texts)
    height = ceil(max(max(box[3] - box[1] for box in boxes), lines * font.size * 1.25)) + 2 * GAP
    return height, ceil(max(box[2] - box[0] for box in boxes)) + 4 * GAP


def _write(draw: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont, x: int, y: int) -> None:
    draw.multiline_text((x, y), text, fill=INK, font=font, anchor="mm", align="center")
