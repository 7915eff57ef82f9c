"""The lab's pages where a checkpoint's weights wait in host memory or are kept in 8 bits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.errors import ModelError
from pipelines.events import Pictured, Tabled
from pipelines.lab.latentset import Frozen
from pipelines.lab.memory import Plan, cost, rehearsed, unet_step
from pipelines.library.read.card import read_folder
from pipelines.machine.device import Placement
from pipelines.models.cache import build
from pipelines.models.loading import load
from pipelines.models.offload import offloaded
from pipelines.requests import Txt2Img, make
from pipelines.studio.works import AskLab
from tests.card import pretend

GUIDE = ("guide", {"goal": "symmetry", "prompt": "a red cat", "steps": 1, "count": 1})
THROUGH = ("guide", {**GUIDE[1], "through_network": True})
FLAGS = ("--offload", "--quantize")
PAGES = [
    (("--offload", "model"), (("film", {"prompt": "a red cat", "steps": 1}), ("words", {"prompt": "cat", "steps": 1}),
                              ("autoencoder", {"side": 64}), GUIDE, THROUGH)),
    (("--offload", "group"), (GUIDE, THROUGH)), (("--quantize", "8-bit"), (THROUGH,))]


def answer(studio, name, values):
    job = studio.submit(AskLab(name, values))
    job.wait(600)
    return [event for event in job.events if isinstance(event, Pictured | Tabled)]


def picture(studio):
    request = make(Txt2Img, prompt="a red cat", steps=2, width=64, height=64, seed=5)
    (record,) = studio.submit(request).wait(600).records
    return np.asarray(Image.open(record.path))


@pytest.mark.parametrize(("flags", "pages"), PAGES, ids=lambda value: value[-1] if value[0] in FLAGS else "")
def test_every_page_answers_and_leaves_the_weights_as_they_were(make_studio, flags, pages):
    studio = make_studio(*flags)
    before = picture(studio)
    image = studio.images.add(Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))).id
    for name, values in pages:
        assert answer(studio, name, {**values, "image": image} if name == "autoencoder" else values), name
    assert (picture(studio) == before).all()


def test_a_training_step_is_calculated_and_measured_on_copies_without_hooks(sd_folder):
    placement, plan = Placement("cuda", "float32", "float32", "model", "8-bit"), Plan(1, 64)
    pipe = build("sd15", "txt2img", load(read_folder(sd_folder, "m"), placement))
    with offloaded(pipe, placement):
        calculated = cost(pipe.unet, plan, unet_step, whole=True, where="cuda")
        assert calculated.passing == pytest.approx(rehearsed(pipe.unet, plan, "cuda"), rel=0.2)
        assert calculated.weights == sum(4 * one.numel() for one in (*pipe.unet.parameters(), *pipe.unet.buffers()))
        assert hasattr(pipe.unet, "_hf_hook") and pipe.unet.device.type == "cpu"


def test_captions_and_pictures_that_a_run_learns_from_are_encoded_by_parts_that_wait(sd_folder):
    placement = Placement("cuda", "float32", "float32", "model")
    pipe = build("sd15", "txt2img", load(read_folder(sd_folder, "m"), placement))
    parts = Frozen("m", pipe.vae, pipe.text_encoder, pipe.tokenizer)
    with offloaded(pipe, placement):
        assert parts.states(["a cat", ""]).shape[:2] == (2, 77)
        latents = parts.latents(torch.zeros(1, 3, 64, 64))
        assert parts.picture(latents[0]).size == (64, 64)
        assert parts.vae.device.type == "cuda" and pipe.unet.device.type == "cpu"


def test_gradients_without_room_for_the_whole_model_are_one_sentence(make_studio):
    studio = make_studio("--offload", "group")
    picture(studio)
    with pretend.limited(4e6), pytest.raises(ModelError, match="Gradients need all of .* on the device"):
        answer(studio, *GUIDE)
