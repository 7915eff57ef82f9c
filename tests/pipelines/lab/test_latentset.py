"""The second recipe: captions instead of classes, latents instead of pixels, everything but the network frozen."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.errors import ModelError
from pipelines.lab import checkpoints, data, draw, latentset, train
from pipelines.lab.__main__ import main
from pipelines.lab.requests import Sample, Train
from pipelines.requests import make


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("captioned")
    for i in range(6):
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(
            folder / f"{i}.png")
        (folder / f"{i}.txt").write_text("a red cat" if i % 2 else "a blue dog")
    return folder


@pytest.fixture(scope="module")
def parts(sd_folder):
    return latentset.frozen(sd_folder)


def test_the_set_holds_what_the_frozen_models_say(pictures, parts):
    tiny = latentset.encoded(data.load(str(pictures), 64), parts)
    assert tiny.captions[:2] == ("a blue dog", "a red cat") and tiny.classes == ()
    pixels = data.load(str(pictures), 64).pixels[:1]
    with torch.no_grad():
        wanted = parts.vae.encode(pixels).latent_dist.mean * parts.vae.config.scaling_factor
        ids = parts.tokenizer(["a red cat", ""], padding="max_length", return_tensors="pt").input_ids
        states = parts.text_encoder(ids)[0]
    assert torch.allclose(tiny.pixels[:1], wanted, atol=1e-5)
    assert torch.allclose(tiny.contexts(torch.tensor([1])), states[:1], atol=2e-3)
    assert torch.allclose(tiny.nothing, states[1], atol=2e-3)


def test_a_run_learns_stops_goes_on_and_draws_from_a_prompt(pictures, parts, sd_folder, tmp_path):
    values = {"recipe": "latents", "data": str(pictures), "side": 64, "width": 16, "levels": 2, "timesteps": 20,
              "batch_size": 3, "samples": 2, "model": str(sd_folder), "output": str(tmp_path / "run")}
    frozen = [p.clone() for p in (*parts.vae.parameters(), *parts.text_encoder.parameters())]
    list(train.run(make(Train, **values, epochs=1), parts=parts))
    list(train.run(make(Train, output=values["output"], resume=True, epochs=2)))
    assert checkpoints.read(tmp_path / "run")["epoch"] == 2
    after = (*parts.vae.parameters(), *parts.text_encoder.parameters())
    assert all(torch.equal(one, two) for one, two in zip(frozen, after, strict=True))
    model = checkpoints.load_model(tmp_path / "run", parts=parts)

    def picture(label):
        return next(draw.draw(make(Sample, label=label, count=1, steps=2, guidance_scale=3.0), model)).image

    assert picture("a red cat").size == (64, 64)
    assert np.any(np.asarray(picture("a red cat")) != np.asarray(picture("a blue dog")))


def test_the_command_line_draws_from_such_a_run(pictures, sd_folder, tmp_path):
    common = ["--recipe", "latents", "--model", str(sd_folder), "--side", "64", "--width", "16", "--levels", "2"]
    assert main(["train", "--data", str(pictures), "--output", str(tmp_path / "run"), "--epochs", "1", "--samples",
                 "0", *common]) == 0
    assert main(["sample", str(tmp_path / "run"), "--class", "a red cat", "--count", "2", "--steps", "2", "--output",
                 str(tmp_path / "out")]) == 0
    assert [Image.open(path).size for path in sorted((tmp_path / "out").glob("*.png"))] == [(64, 64)] * 2


def test_other_frozen_parts_than_those_of_the_run_are_refused(pictures, parts, sd_folder, tmp_path):
    list(train.run(make(Train, recipe="latents", data=str(pictures), side=64, width=16, levels=2, epochs=1, samples=0,
                        model=str(sd_folder), output=str(tmp_path / "run"))))
    other = latentset.Frozen("another", parts.vae, parts.text_encoder, parts.tokenizer)
    for wrong in (other, None):
        with pytest.raises(ModelError, match="latents and texts of another model"):
            checkpoints.load_model(tmp_path / "run", parts=wrong)


def test_a_folder_without_a_vae_is_refused(tmp_path):
    with pytest.raises(ModelError, match="no vae that can be read"):
        latentset.frozen(tmp_path)
