"""Fine-tuning a DDPMPipeline: before, after, saved as diffusers reads it, and what is refused."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.errors import ModelError, RequestError, StudioError
from pipelines.lab import finetune
from pipelines.lab.events import Trained, Update
from pipelines.lab.requests import FineTune
from pipelines.queue.control import Control
from pipelines.requests import make


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    torch.manual_seed(0)
    unet = UNet2DModel(sample_size=16, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8,
                       down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2)
    folder = tmp_path_factory.mktemp("models") / "ddpm"
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def reds(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("reds")
    for i in range(9):
        Image.new("RGB", (16, 16), (200 + 5 * i, 10, 10)).save(folder / f"{i}.png")
    return folder


def request(model: Path, reds: Path, output: Path, **values) -> FineTune:
    return make(FineTune, **{"model": str(model), "data": str(reds), "output": str(output), "batch_size": 2,
                             "steps": 4, "samples": 2, **values})


def test_the_samples_turn_towards_the_new_pictures_and_diffusers_reads_the_result(model, reds, tmp_path):
    from diffusers import DDPMPipeline

    events = list(finetune.run(request(model, reds, tmp_path / "out", epochs=40, learning_rate=3e-3)))
    before, after = [one for one in events if isinstance(one, finetune.Sampled)]
    assert (before.when, after.when) == ("before", "after")
    assert isinstance(events[-1], Trained)

    def redness(images) -> float:
        values = np.stack([np.asarray(image, float) for image in images])
        return float(values[..., 0].mean() - values[..., 1:].mean())

    assert redness(after.images) > redness(before.images) + 60
    pipe = DDPMPipeline.from_pretrained(tmp_path / "out", local_files_only=True)
    assert type(pipe).__name__ == "DDPMPipeline"
    assert "9 pictures of 16 px" in (tmp_path / "out" / "README.md").read_text()
    assert not list(tmp_path.glob("*.part"))


def test_the_samples_before_equal_those_of_diffusers_own_ddim_pipeline(model):
    from diffusers import DDIMPipeline, DDIMScheduler, DDPMPipeline

    pipe = DDPMPipeline.from_pretrained(model, local_files_only=True)
    scheduler = DDIMScheduler.from_config(pipe.scheduler.config, timestep_spacing="trailing")
    stock = DDIMPipeline(pipe.unet, scheduler)
    stock.set_progress_bar_config(disable=True)
    theirs = stock(generator=torch.Generator().manual_seed(4), num_inference_steps=5, use_clipped_model_output=True,
                   output_type="np").images[0]
    ours = finetune.sample(pipe, [4], 5)[0].permute(1, 2, 0).numpy()
    assert np.abs(ours / 2 + 0.5 - theirs).max() < 1e-3


def test_accumulation_makes_one_update_of_several_batches(model, reds, tmp_path):
    updates = [one for one in finetune.run(request(model, reds, tmp_path / "out", accumulation=3, epochs=2))
               if isinstance(one, Update)]
    assert len(updates) == 4  # nine pictures, six an update, twice
    assert updates[-1].seconds_left == 0


def test_a_stopped_run_keeps_what_it_has_learned(model, reds, tmp_path):
    control = Control()
    for event in finetune.run(request(model, reds, tmp_path / "out", epochs=50), control):
        if isinstance(event, Update):
            control.stop.set()
    assert event.stopped
    assert (tmp_path / "out" / "model_index.json").exists()


def test_what_is_no_pipeline_or_not_safetensors_is_refused(model, reds, tmp_path):
    with pytest.raises(ModelError, match="not a diffusers folder"):
        list(finetune.run(request(tmp_path, reds, tmp_path / "out")))
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "model_index.json").write_text('{"_class_name": "DDPMPipeline"}')
    with pytest.raises(ModelError, match="cannot be read as a DDPMPipeline"):
        list(finetune.run(request(broken, reds, tmp_path / "out")))
    with pytest.raises(RequestError, match="not empty"):
        list(finetune.run(request(model, reds, model)))


def test_a_learning_rate_that_diverges_is_said_and_saves_nothing(model, reds, tmp_path):
    with pytest.raises(StudioError, match="out of bounds at update"):
        list(finetune.run(request(model, reds, tmp_path / "out", learning_rate=1.0, epochs=200)))
    assert not (tmp_path / "out").exists()


def test_advice_tells_rising_flat_and_wavering_curves_apart(model, reds, tmp_path):
    asked = request(model, reds, tmp_path / "out")
    rng = np.random.default_rng(0)
    rising = list(np.linspace(0.1, 0.5, 60) + 0.01 * rng.standard_normal(60))
    flat = list(0.3 + 0.01 * rng.standard_normal(60))
    falling = list(np.linspace(0.5, 0.3, 60) + 0.01 * rng.standard_normal(60))
    wild = list(np.linspace(2.0, 1.0, 60) * rng.choice([0.1, 1.9], 60))
    assert "The loss rose" in finetune.advice(rising, asked)[0]
    assert "neither fell nor rose" in finetune.advice(flat, asked)[0]
    assert finetune.advice(falling, asked) == ()
    assert "wavers by more than half" in finetune.advice(wild, asked)[-1]
    assert finetune.advice([0.1] * 5, asked) == ()


def test_pushing_without_a_token_is_refused_before_anything_is_trained(model, reds, tmp_path):
    with pytest.raises(RequestError, match="access token"):
        next(finetune.run(request(model, reds, tmp_path / "out", push_to="me/model")))


def test_weights_and_biases_is_said_to_be_missing_before_anything_is_trained(model, reds, tmp_path):
    if importlib.util.find_spec("wandb"):
        pytest.skip("it is installed")
    with pytest.raises(RequestError, match="pip install wandb"):
        next(finetune.run(request(model, reds, tmp_path / "out", wandb=True)))


def test_grey_pictures_teach_a_colour_model_and_colour_ones_a_grey_one():
    grey, colour = torch.rand(2, 1, 4, 4), torch.rand(2, 3, 4, 4)
    assert torch.equal(finetune._with_channels(grey, 3), grey.expand(-1, 3, -1, -1))
    assert torch.allclose(finetune._with_channels(colour, 1)[:, 0], colour.mean(1))
