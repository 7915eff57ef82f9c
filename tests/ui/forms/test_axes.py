"""What the three rows of the grid part of a form mean."""

from __future__ import annotations

import pytest

from pipelines.errors import RequestError
from pipelines.requests import Txt2Img, make
from pipelines.sweeps.grid import Axis
from ui.forms.axes import NAMES, Axes, _choices

REQUEST = make(Txt2Img, prompt="a red cat", steps=2)


def values(**given):
    empty = {f"{name} field": "" for name in NAMES} | {f"{name} values": "" for name in NAMES}
    return empty | {name.replace("_", " "): value for name, value in given.items()}


def test_without_an_axis_there_is_no_grid():
    assert Axes().matrix(REQUEST, values()) is None


def test_rows_become_axes_and_an_empty_one_is_passed_over():
    matrix = Axes().matrix(REQUEST, values(x_field="steps", x_values="1-3", z_field="seed", z_values="7, 8"))
    assert (matrix.x, matrix.y) == (Axis("steps", (1, 2, 3)), Axis("seed", (7, 8))) and len(matrix) == 6


def test_an_axis_without_values_is_refused_in_words():
    with pytest.raises(RequestError, match="Axis steps: there are no values"):
        Axes().matrix(REQUEST, values(x_field="steps"))


def test_every_field_of_the_request_but_pictures_and_batches_can_be_an_axis():
    names = {name for _, name in _choices(Txt2Img)}
    assert {"steps", "sampler", "model", "clip_skip", "hires_scale", "size", "prompt text"} <= names
    assert not {"batch_size", "prompt_lines", "image"} & names
