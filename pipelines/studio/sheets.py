"""Pictures of one job as one: contact sheets of grids, and the small copies that they are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from PIL import Image

from ..events import Record
from ..images.grid import grid
from ..sweeps.grid import Matrix

THUMBNAIL_SIDE = 512  # px; pictures on a sheet are shrunk to this


def labelled_sheets(matrix: Matrix, made: Mapping[tuple[int, int, int], Image.Image],
                    say: Callable[[str], str]) -> Iterator[Image.Image]:
    """A labelled sheet for each z of an X/Y/Z grid; a cell that failed stays blank.

    made: (column, row, sheet) -> picture; at least one. say: puts labels into the language of who asked.
    """
    columns, rows, sheets = matrix.shape
    blank = Image.new("RGB", next(iter(made.values())).size, "white")
    labels = [[axis.label(value, say) for value in axis.values] if axis.field else None for axis in matrix.axes]
    for z in range(sheets):
        cells = [made.get((x, y, z), blank) for y in range(rows) for x in range(columns)]
        sheet = grid(cells, columns=columns, column_labels=labels[0], row_labels=labels[1])
        yield grid([sheet], columns=1, column_labels=[labels[2][z]]) if labels[2] else sheet


def reopen(record: Record) -> Image.Image | None:
    """A picture that was made before, small; None when it was deleted meanwhile, or is damaged."""
    try:
        with Image.open(record.path) as image:
            return shrink(image)
    except OSError:
        return None


def shrink(image: Image.Image) -> Image.Image:
    """A small copy, RGB."""
    small = image.convert("RGB")
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    return small
