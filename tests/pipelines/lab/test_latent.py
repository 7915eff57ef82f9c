"""The lab's loop around a loaded Stable Diffusion draws what the stock pipelines draw, and can be filmed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines import metadata
from pipelines.diffusion import noise_schedules
from pipelines.errors import RequestError
from pipelines.families import FAMILIES
from pipelines.generation import samplers
from pipelines.generation.decode import decode
from pipelines.lab import data, filmstrip, latent
from pipelines.lab.sampling import ddim, last

PROMPT = "a red cat on the moon"


@pytest.fixture(scope="module")
def pipe(sd_folder):
    from diffusers import StableDiffusionPipeline

    return _quiet(StableDiffusionPipeline.from_pretrained(sd_folder, safety_checker=None, local_files_only=True))


def test_the_picture_equals_the_stock_pipelines(pipe):
    from diffusers import DDIMScheduler

    family = FAMILIES["sd15"]
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False)
    stock = pipe(PROMPT, num_inference_steps=5, guidance_scale=4.0, height=64, width=64,
                 generator=torch.Generator().manual_seed(3)).images[0]
    scheduler = samplers.make("DDIM", "Automatic", dict(pipe.scheduler.config), 5, "cpu")
    latents, generators = latent.start(pipe, scheduler, 64, 64, [3])
    denoiser = latent.TextDenoiser(pipe, family, PROMPT, guidance_scale=4.0)
    ours = decode(pipe, last(latent.walk(denoiser, "DDIM", scheduler, latents, generators)).latents)[0]
    assert np.abs(np.asarray(stock, int) - np.asarray(ours, int)).max() <= 1


def test_an_sdxl_is_told_its_sizes_and_equals_the_stock_pipeline(sdxl_folder):
    from diffusers import StableDiffusionXLPipeline

    pipe = _quiet(StableDiffusionXLPipeline.from_pretrained(sdxl_folder, local_files_only=True,
                                                            add_watermarker=False))
    scheduler = samplers.make("Euler", "Automatic", dict(pipe.scheduler.config), 4, "cpu")
    latents, generators = latent.start(pipe, scheduler, 64, 64, [3])
    denoiser = latent.TextDenoiser(pipe, FAMILIES["sdxl"], PROMPT, guidance_scale=4.0)
    ours = last(latent.walk(denoiser, "Euler", scheduler, latents, generators)).latents
    pipe.scheduler = samplers.make("Euler", "Automatic", dict(pipe.scheduler.config), 4, "cpu")
    stock = pipe(PROMPT, num_inference_steps=4, guidance_scale=4.0, height=64, width=64, output_type="latent",
                 generator=torch.Generator().manual_seed(3)).images
    assert torch.allclose(ours, stock, atol=1e-3)


def test_the_guidance_direction_is_the_difference_that_the_scale_multiplies(pipe):
    x, level = torch.randn(1, 4, 8, 8), latent.Level(torch.tensor(500), 0.6, 0.8)
    results = {}
    for scale in (2.0, 3.0):
        denoiser = latent.TextDenoiser(pipe, FAMILIES["sd15"], PROMPT, guidance_scale=scale)
        with torch.no_grad():
            results[scale] = denoiser(x, level)
    assert torch.allclose(results[3.0] - results[2.0], denoiser.direction, atol=1e-4)
    plain = latent.TextDenoiser(pipe, FAMILIES["sd15"], PROMPT, guidance_scale=1.0)
    with torch.no_grad():
        plain(x, level)
    assert plain.direction is None


def test_a_film_strip_has_first_every_kth_and_last_step_of_several_samplers(pipe):
    strips = [filmstrip.Strip("Euler a", 5), filmstrip.Strip("DDIM", 4)]
    shown = list(filmstrip.compare(pipe, FAMILIES["sd15"], strips, PROMPT, seed=1, width=64, height=64, every=2))
    by_strip = {strip: [frame for other, frame in shown if other is strip] for strip in strips}
    assert [frame.step for frame in by_strip[strips[0]]] == [1, 2, 4, 5]
    assert [frame.step for frame in by_strip[strips[1]]] == [1, 2, 4]
    for _, frame in shown:
        assert set(frame.pictures) == {"x_t", "x0", "eps", "direction"}
        assert {picture.size for picture in frame.pictures.values()} == {(64, 64)}
    assert shown[0][1].t > shown[1][1].t
    assert filmstrip.sheet(by_strip[strips[0]]).width > 4 * 64
    assert filmstrip.side_by_side(list(by_strip.items()), columns=3).height > 2 * 64


def test_the_frames_of_a_pixel_run_show_what_the_sampler_saw():
    target = torch.zeros(1, 1, 8, 8)
    target[..., :4] = 1
    x, schedule = torch.randn(1, 1, 8, 8), noise_schedules.make("cosine", 20)
    states = list(ddim(lambda x, level: target, schedule, x, [torch.Generator()], 4))
    shown = list(filmstrip.frames(states, lambda pixels: data.to_image(pixels, 2)))
    assert len(shown) == 4
    assert shown[0].pictures["x0"].size == (16, 16)
    assert np.asarray(shown[0].pictures["x0"])[0, [0, -1]].tolist() == [255, 128]
    assert "direction" not in shown[0].pictures
    first = torch.from_numpy(np.asarray(shown[0].pictures["x_t"].resize((8, 8), Image.Resampling.NEAREST)).copy())
    assert torch.allclose(first.float(), ((x[0, 0].clamp(-1, 1) + 1) * 127.5).round())


@pytest.mark.parametrize("form", ["webp", "gif"])
def test_an_animation_has_every_frame_and_runs_for_ever(tmp_path, form):
    shown = [filmstrip.Frame(i + 1, 4, 100.0, {"x0": Image.new("RGB", (32, 32), (60 * i, 0, 200))}) for i in range(4)]
    way = filmstrip.animated(shown, form=form, frame_ms=100, last_ms=900)
    metadata.save_animation(way.pictures, way.durations_ms, tmp_path / f"way.{way.form}", "Seed: 1")
    image = Image.open(tmp_path / f"way.{form}")
    assert image.format == form.upper()
    assert image.n_frames == 4
    assert image.info["loop"] == 0
    image.seek(3)
    image.load()
    assert image.convert("RGB").getpixel((0, 0)) == pytest.approx((180, 0, 200), abs=3)
    assert image.info["duration"] == 900


def test_an_animation_of_nothing_is_refused():
    with pytest.raises(RequestError, match="no frames yet"):
        filmstrip.animated([])


def _quiet(pipe):
    pipe.set_progress_bar_config(disable=True)
    return pipe
