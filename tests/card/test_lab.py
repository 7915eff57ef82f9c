"""The lab's pages where a checkpoint's weights wait in host memory or are kept in 8 bits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.errors import ModelError
from pipelines.events import Notice, Pictured, Tabled
from pipelines.lab.latentset import Frozen
from pipelines.library.read.card import read_folder
from pipelines.machine.device import Placement
from pipelines.models.cache import build
from pipelines.models.loading import load
from pipelines.models.offload import offloaded
from pipelines.requests import Txt2Img, make
from tests.card import pretend

GUIDE = ("guide", {"goal": "symmetry", "prompt": "a red cat", "steps": 2, "count": 1})
PAGES = [
    ("film", {"prompt": "a red cat", "steps": 2}), ("words", {"prompt": "a red cat", "steps": 2}),
    ("autoencoder", {"side": 64}), GUIDE, ("guide", {**GUIDE[1], "through_network": True}),
    ("memory", {"side": 64, "batch_size": 1})]


def answer(studio, name, values):
    job = studio.lab(name, values)
    job.wait(600)
    return [event for event in job.events if isinstance(event, Pictured | Tabled | Notice)]


def picture(studio):
    request = make(Txt2Img, prompt="a red cat", steps=2, width=64, height=64, seed=5)
    (record,) = studio.submit(request).wait(600).records
    return np.asarray(Image.open(record.path))


@pytest.mark.parametrize("flags", [("--offload", "model"), ("--offload", "group"), ("--quantize", "8-bit")],
                         ids=lambda flags: flags[1])
def test_every_page_answers_and_leaves_the_weights_as_they_were(make_studio, flags):
    studio = make_studio(*flags)
    before = picture(studio)
    image = studio.images.add(Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))).id
    for name, values in PAGES:
        given = {**values, "image": image} if name == "autoencoder" else values
        shown = answer(studio, name, given)
        assert shown, name
        if name == "memory":
            (measured,) = [event for event in shown if isinstance(event, Tabled) and event.title == "Measured"]
            calculated, taken = (float(cell.replace(",", "")) for cell in measured.rows[0][1:3])
            assert calculated == pytest.approx(taken, rel=0.2)
    assert (picture(studio) == before).all()


def test_captions_and_pictures_that_a_run_learns_from_are_encoded_by_parts_that_wait(sd_folder):
    placement = Placement("cuda", "float32", "float32", "model")
    pipe = build("sd15", "txt2img", load(read_folder(sd_folder, "m"), placement))
    parts = Frozen("m", pipe.vae, pipe.text_encoder, pipe.tokenizer)
    with offloaded(pipe, placement):
        assert parts.states(["a cat", ""]).shape[:2] == (2, 77)
        latents = parts.latents(torch.zeros(1, 3, 64, 64))
        assert parts.picture(latents[0]).size == (64, 64)
        assert parts.vae.device.type == "cuda" and parts.text_encoder.device.type == "cpu"


def test_gradients_without_room_for_the_whole_model_are_one_sentence(make_studio):
    studio = make_studio("--offload", "group")
    picture(studio)
    with pretend.limited(4e6), pytest.raises(ModelError, match="Gradients need all of .* on the device"):
        answer(studio, *GUIDE)


def test_a_step_that_does_not_fit_on_the_card_is_calculated_and_not_measured(make_studio):
    studio = make_studio()
    picture(studio)
    torch.cuda.reset_peak_memory_stats()
    taken = torch.cuda.memory_allocated()
    (told,) = [event for event in answer(studio, "memory", {"side": 2048, "batch_size": 64})
               if isinstance(event, Notice)]
    assert "Not measured: the step would take about" in told.text
    assert torch.cuda.max_memory_allocated() == taken
