"""The example cards: which picture belongs to which prompt."""

from __future__ import annotations

import pytest
from PIL import Image

from pipelines.demo import EXAMPLES, MODEL_DIR
from ui.forms import examples

CAT = {"prompt": "a cat, noto style", "seed": 7}


def test_a_card_shows_the_picture_of_its_own_prompt_and_seed_only(tmp_path):
    (tmp_path / examples.FOLDER).mkdir()
    Image.new("RGB", (300, 200)).save(tmp_path / examples.FOLDER / examples.name(CAT))
    with Image.open(examples.picture(tmp_path, CAT)) as shown:
        assert max(shown.size) == examples.SIDE_PX
    assert examples.picture(tmp_path, {**CAT, "seed": 8}) is None
    assert examples.picture(tmp_path, {**CAT, "prompt": "a dog"}) is None


@pytest.mark.parametrize("content", [b"", b"no picture", b"RIFF\x00\x00\x00\x00WEBPbroken"])
def test_a_damaged_picture_leaves_the_prompt_alone(tmp_path, content):
    (tmp_path / examples.FOLDER).mkdir()
    (tmp_path / examples.FOLDER / examples.name(CAT)).write_bytes(content)
    assert examples.picture(tmp_path, CAT) is None


def test_a_prompt_cannot_leave_the_folder():
    assert "/" not in examples.name({"prompt": "../../etc/passwd", "seed": 1})


@pytest.mark.parametrize("example", EXAMPLES, ids=examples.name)
def test_every_example_of_the_embedded_model_has_its_picture(example):
    assert examples.picture(MODEL_DIR, example), "python -m docs.examples draws it"
