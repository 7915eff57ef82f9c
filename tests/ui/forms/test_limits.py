"""The page follows what the picked model can do."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pipelines.library.read.card import ModelCard
from pipelines.requests import TASKS
from pipelines.studio.limits import why_not
from ui.forms.limits import _limits, _updates

OWN = {"sampler": "Euler", "schedule": "Automatic", "steps": 28, "guidance_scale": 3.5, "width": 1024, "height": 1024}


def card(family, **changes):
    return ModelCard(**{**dict(
        name=family, title=family, path=None, family=family, kind="folder", size_bytes=1, native_size=1024, steps=28,
        guidance_scale=3.5, sampler="Euler", schedule="Automatic", unet_parameters=1, fingerprint=""), **changes})


def updates(task, of):
    cls = TASKS[task]
    names = [name for name in cls.model_fields if name != "model"]
    form = SimpleNamespace(task=task, request=cls, fields=dict.fromkeys(names))
    button, *rest = _updates(form, of, OWN)
    return button, dict(zip(names, rest, strict=True))


def test_what_a_family_does_not_take_is_switched_off_with_its_only_value():
    button, boxes = updates("txt2img", card("flux"))
    assert button["interactive"] and button["value"] == "Generate"
    assert not boxes["sampler"]["interactive"] and boxes["sampler"]["value"] == "Euler"
    assert not boxes["clip_skip"]["interactive"] and boxes["clip_skip"]["value"] == 1
    assert boxes["prompt"]["interactive"] and boxes["steps"]["interactive"]
    assert not boxes["negative_prompt"]["interactive"]
    assert all(box["interactive"] for box in updates("txt2img", card("sdxl"))[1].values())


def test_a_strength_is_switched_off_where_the_picture_is_only_looked_at():
    assert not updates("img2img", card("flux_kontext"))[1]["strength"]["interactive"]
    assert updates("inpaint", card("flux_kontext"))[1]["strength"]["interactive"]


@pytest.mark.parametrize(("of", "task", "words"), [
    (card("sana", tasks=("txt2img",)), "inpaint", "it is Sana"),
    (card("sd15", tasks=("inpaint",), inpainting=True), "txt2img", "inpainting model")])
def test_a_task_that_a_model_cannot_do_is_said_on_the_button(of, task, words):
    button, _ = updates(task, of)
    assert not button["interactive"] and words in button["value"] and button["value"] == why_not(of, task)


def test_models_that_take_the_same_need_no_update():
    forms = [SimpleNamespace(task=task, request=TASKS[task]) for task in ("txt2img", "inpaint")]
    cards = {name: card(name) for name in ("sd15", "sdxl", "flux")}
    collection = SimpleNamespace(cards=lambda: tuple(cards.values()), default_card=lambda: cards["sd15"])
    studio = SimpleNamespace(collection=collection)
    assert _limits(studio, forms, "sd15") == _limits(studio, forms, "sdxl") != _limits(studio, forms, "flux")
