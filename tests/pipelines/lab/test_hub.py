"""Data sets and models of the hub, as far as they can be tried without it."""

from __future__ import annotations

import pytest
from PIL import Image

from pipelines.errors import RequestError
from pipelines.lab import hub, sets


class Table:
    """The shape of a table of `datasets`: named columns, rows by number."""

    def __init__(self, rows, features):
        self._rows, self.features, self.column_names = rows, features, list(rows[0])

    def __len__(self):
        return len(self._rows)

    def __getitem__(self, number):
        return self._rows[number]


class Names:
    names = ("cat", "dog")


def test_pictures_classes_and_captions_come_from_the_usual_columns():
    rows = [{"img": Image.new("L", (20, 30), 255 * i), "label": i, "text": f"number {i}"} for i in (0, 1)]
    tiny = hub.from_table(Table(rows, {"label": Names}), "me/set", 16)
    assert tuple(tiny.pixels.shape) == (2, 3, 16, 16) and tiny.classes == ("cat", "dog")
    assert tiny.captions == ("number 0", "number 1")
    assert (tiny.pixels[0].max(), tiny.pixels[1].min()) == (-1, 1)


def test_a_set_without_pictures_is_refused():
    with pytest.raises(RequestError, match="no column of pictures"):
        hub.from_table(Table([{"text": "a"}], {}), "me/set", 16)


@pytest.mark.parametrize("name", ["", "digits", "../../etc/passwd", "a/b/c", "http://x/y"])
def test_what_is_no_name_on_the_hub_is_refused_before_anything_is_asked(name):
    with pytest.raises(RequestError, match="no name on the hub"):
        sets.load(f"hub:{name}", 16)
    with pytest.raises(RequestError, match="no name on the hub"):
        hub.model_folder(name)
