"""Prompts from a file and pictures that were uploaded, as the requests take them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from PIL import Image

from pipelines.errors import RequestError
from pipelines.images.store import ImageStore
from pipelines.requests import Txt2Img
from pipelines.sweeps.series import MAX_PICTURES
from ui.forms.batch_input import Many


@pytest.fixture
def stores(tmp_path):
    return SimpleNamespace(images=ImageStore(tmp_path / "images"))


def test_each_line_is_a_prompt_and_an_empty_box_none():
    assert Many().prompts({"prompts": "a cat\n# a note\na dog\n"}, Txt2Img) == [{"prompt": "a cat"},
                                                                                {"prompt": "a dog"}]
    assert Many().prompts({"prompts": None}, Txt2Img) == []


def test_pictures_are_stored_in_their_order(stores, tmp_path):
    files = []
    for number, colour in enumerate(("red", "blue")):
        files.append(str(tmp_path / f"{number}.png"))
        Image.new("RGB", (16, 16), colour).save(files[-1])
    ids = Many().pictures(stores, {"pictures": files})
    assert [Image.open(stores.images.get(one).path).getpixel((0, 0)) for one in ids] == [(255, 0, 0), (0, 0, 255)]
    assert Many().pictures(stores, {"pictures": None}) == []


def test_a_file_that_is_no_picture_is_named(stores, tmp_path):
    (tmp_path / "letter.png").write_text("Dear all")
    with pytest.raises(RequestError, match=r"^letter\.png: ") as refused:
        Many().pictures(stores, {"pictures": [str(tmp_path / "letter.png")]})
    assert refused.value.field == "image"


def test_too_many_pictures_are_refused_before_one_is_read(stores):
    with pytest.raises(RequestError, match=f"{MAX_PICTURES + 1} are too many. At most {MAX_PICTURES}"):
        Many().pictures(stores, {"pictures": ["missing.png"] * (MAX_PICTURES + 1)})
