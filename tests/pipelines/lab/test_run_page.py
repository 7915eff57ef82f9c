"""What the lab's pages ask for, answered through the studio on a real tiny model."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from pipelines import metadata
from pipelines.errors import RequestError
from pipelines.events import Pictured, StepDone, Tabled
from pipelines.lab.page_requests import LabJob, LabSample, LabTrain
from pipelines.lab.pages import noise
from pipelines.lab.run_page import text_of
from pipelines.requests import Txt2Img, make
from pipelines.settings import load
from pipelines.studio.studio import Studio
from pipelines.studio.works import AskLab

QUICK = {"prompt": "a red cat", "steps": 3, "guidance_scale": 2.0}


@pytest.fixture(scope="module")
def studio(tmp_path_factory, sd_folder):
    studio = Studio(load(["--data-dir", str(tmp_path_factory.mktemp("data")), "--model", str(sd_folder)], {}))
    yield studio
    studio.close()


@pytest.fixture(scope="module")
def image(studio):
    values = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    return studio.images.add(Image.fromarray(values)).id


def answer(studio, name, **values):
    job = studio.submit(AskLab(name, values))
    job.wait(600)
    pictures = {event.caption: event.path for event in job.events if isinstance(event, Pictured)}
    return pictures, {event.title: event.rows for event in job.events if isinstance(event, Tabled)}


def test_a_film_has_a_sheet_and_an_animation_a_sampler_and_both_side_by_side(studio):
    pictures, _ = answer(studio, "film", **QUICK, beside="DDIM", beside_steps="2", columns=12)
    captions = ["Euler a, 3 steps", "Euler a, 3 steps, predicted x0", "DDIM, 2 steps", "DDIM, 2 steps, predicted x0",
                "Predicted x0 at the same shares of the way"]
    assert list(pictures) == captions
    with Image.open(pictures[captions[1]]) as way:
        assert (way.format, way.n_frames, way.size) == ("WEBP", 3, (64, 64))
    with Image.open(pictures[captions[0]]) as sheet:
        assert sheet.width > 3 * 64 and sheet.height > 4 * 64  # x_t, x0, noise and guidance at each of three steps
    assert all(path.parent.parent == studio.settings.data_dir / "lab" for path in pictures.values())


def test_several_samplers_and_step_counts_stand_side_by_side_and_a_gif_can_be_taken_away(studio):
    pictures, _ = answer(studio, "film", **QUICK, beside="DDIM", another="Euler", beside_steps="1, 2", animation="gif")
    strips = [caption for caption in pictures if caption.endswith("steps")]
    assert strips == ["Euler a, 3 steps", "DDIM, 1 steps", "DDIM, 2 steps", "Euler, 1 steps", "Euler, 2 steps"]
    with Image.open(pictures["Euler a, 3 steps, predicted x0"]) as way:
        assert (way.format, way.n_frames, pictures["Euler a, 3 steps, predicted x0"].suffix) == ("GIF", 3, ".gif")
    with Image.open(pictures["Predicted x0 at the same shares of the way"]) as sheet:
        assert sheet.height > 5 * 64


@pytest.mark.parametrize("form", ["webp", "gif"])
def test_pictures_and_animations_of_the_lab_say_how_they_were_made_as_all_others_do(studio, form):
    pictures, _ = answer(studio, "film", **QUICK, seed=7, animation=form)
    assert len(pictures) == 2
    for caption, path in pictures.items():
        said = metadata.read_any(path, {"model": [studio.collection.default_card().name]}).parsed
        assert said.notes == ()
        assert make(Txt2Img, **said.for_task(Txt2Img)) == make(Txt2Img, **QUICK, seed=7, sampler="Euler a",
                                                               model=studio.collection.default_card().name)
        assert (said.unknown["Lab page"], said.unknown["Lab picture"]) == ("film", caption)
        assert (said.unknown["Lab columns"], said.unknown["Lab animation"]) == ("6", form)


def test_what_means_something_else_on_a_page_is_not_taken_for_a_setting_of_text_to_image(studio):
    request = make(LabSample, steps=1000, sampler="ddpm", run_name="digits", seed=5)
    said = metadata.parse(text_of(LabJob("sample", request, ""), "Seeds 5 to 12"))
    assert said.fields["seed"] == 5 and not {"steps", "sampler", "model"} & set(said.fields)
    assert (said.unknown["Lab steps"], said.unknown["Lab run name"]) == ("1000", "digits")
    assert "s3cret" not in text_of(LabJob("train", make(LabTrain, token="s3cret"), ""), "")


def test_pictures_say_nothing_where_that_is_switched_off(tmp_path, sd_folder):
    silent = Studio(load(["--data-dir", str(tmp_path), "--model", str(sd_folder), "--no-embed-metadata"], {}))
    try:
        pictures, _ = answer(silent, "film", **QUICK)
    finally:
        silent.close()
    assert len(pictures) == 2 and not [path for path in pictures.values() if metadata.read_any(path).raw]
    assert not [path for path in pictures.values() if b"red cat" in path.read_bytes()]


def test_every_step_of_a_film_is_told(studio):
    job = studio.submit(AskLab("film", QUICK))
    told = [event for event in job.follow() if isinstance(event, StepDone)]
    assert told[-1].preview.size == (64, 64) and told[-1].steps == 3


def test_the_noised_pictures_go_from_the_picture_to_noise(studio, image):
    pictures, curves = answer(studio, "noise", image=image, schedule="cosine", timesteps=100, count=3)
    assert [caption.partition(",")[0] for caption in pictures][:3] == ["t = 0", "t = 50", "t = 99"]
    clean = np.asarray(studio.images.open(image), float)
    off = [np.abs(np.asarray(Image.open(path), float) - clean).mean() for path in list(pictures.values())[:3]]
    assert off[0] < 10 < off[1] < off[2]
    abar = {name: [value for _, value, other in curves["alpha-bar"] if other == name]
            for name in ("cosine", "this model's")}
    for values in abar.values():
        assert values == sorted(values, reverse=True) and values[0] > 0.9


def test_one_step_back_is_equations_6_and_7_of_ddpm(studio, image):
    _, tables = answer(studio, "noise", image=image, schedule="scaled linear", timesteps=1000, count=5)
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    abar = np.cumprod(1 - betas)
    for t, of_x_t, of_x0, beta, variance in tables["One step back"]:
        assert float(of_x0) == pytest.approx(abar[t - 1] ** 0.5 * betas[t] / (1 - abar[t]), abs=1e-4)
        assert float(of_x_t) == pytest.approx((1 - betas[t]) ** 0.5 * (1 - abar[t - 1]) / (1 - abar[t]), abs=1e-4)
        assert float(beta) == pytest.approx(betas[t], abs=1e-5)
        assert float(variance) == pytest.approx((1 - abar[t - 1]) / (1 - abar[t]) * betas[t], abs=1e-5)
    assert len(tables["One step back"]) == 4


def test_steps_are_placed_as_karras_says_and_losses_weigh_as_the_bound_says(studio, image):
    _, tables = answer(studio, "noise", image=image, schedule="scaled linear", timesteps=1000, count=2, steps=8)
    placed = {}
    for _, snr, spacing in tables["Where samplers step: SNR (dB)"]:
        placed.setdefault(spacing, []).append(snr)
    assert set(placed) == {"Karras", "Exponential", "Beta", "Uniform (linspace)", "SGM Uniform", "Turbo (trailing)",
                           "DDIM (leading)", "Align Your Steps", "KL Optimal"}
    assert all(len(values) == 8 and values == sorted(values) for values in placed.values())
    sigmas = 10 ** (-np.array(placed["Karras"]) / 20)
    wanted = np.linspace(sigmas[0] ** (1 / 7), sigmas[-1] ** (1 / 7), 8) ** 7  # "Elucidating the Design Space", eq. 5
    assert sigmas == pytest.approx(wanted, rel=0.02)
    weights = {}
    for share, value, loss in tables["Loss weight, log10"]:
        weights.setdefault(loss, {})[share] = value
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    bound = betas / (2 * (1 - betas) * (1 - np.cumprod(1 - betas)))  # DDPM eq. 12 with the variance beta
    for share, value in weights["variational bound"].items():
        assert value == pytest.approx(np.log10(bound[round(share * 1000) - 1] / bound.mean()), abs=1e-3)
    assert set(weights["simple"].values()) == {0.0}


def test_the_steps_lie_as_dots_on_the_models_curve(studio, image):
    few, many = (answer(studio, "noise", image=image, count=2, steps=steps)[0] for steps in (2, 12))
    assert [caption for caption in few if caption.endswith("on the curve")] == [
        f"{name}, on the curve" for name in ("Karras", "Exponential", "Beta", "Uniform (linspace)",
                                             "SGM Uniform", "Turbo (trailing)", "DDIM (leading)",
                                             "Align Your Steps", "KL Optimal")]
    inks = [np.all(np.abs(np.asarray(Image.open(pictures["Karras, on the curve"]), int) - noise.DOT) < 40, 2).sum()
            for pictures in (few, many)]
    assert inks[0] > 0 and inks[1] > 3 * inks[0]


def test_one_prediction_is_shown_in_four_forms(studio, image):
    pictures, _ = answer(studio, "noise", image=image, timesteps=100, count=2)
    assert list(pictures)[2:6] == [f"t = 50 as {form}" for form in ("noise", "x0", "v", "score")]
    clean = np.asarray(studio.images.open(image), float)
    assert np.abs(np.asarray(Image.open(pictures["t = 50 as x0"]), float) - clean).max() <= 1


def test_an_autoencoders_reconstruction_is_measured(studio, image):
    pictures, tables = answer(studio, "autoencoder", image=image, side=64)
    assert [Image.open(path).size for path in pictures.values()][:3] == [(64, 40)] * 3  # cut to multiples of 8
    assert sum(caption.startswith("Latent channel") for caption in pictures) == 4
    rows = dict(tables["What is kept"])
    original, back = (np.asarray(Image.open(path), float) / 255 for path in list(pictures.values())[:2])
    assert float(rows["PSNR"].split()[0]) == pytest.approx(-10 * np.log10(((original - back) ** 2).mean()), abs=0.1)
    assert rows["Numbers in the latents"] == "160 (48 times fewer)"


def test_latents_of_several_pictures_are_mixed_and_summed(studio, image):
    other = studio.images.add(Image.new("RGB", (64, 64), (200, 30, 30))).id
    pictures, _ = answer(studio, "autoencoder", image=image, second=other, third=other, side=64, between=2)
    way, total = pictures["From the first to the second"], pictures["First + second - third"]
    assert Image.open(way).width > 4 * 64
    back = pictures["Encoded and decoded"]  # the second and the third are equal, and cancel out
    assert np.abs(np.asarray(Image.open(total), float) - np.asarray(Image.open(back), float)).max() <= 2


def test_a_second_autoencoder_is_measured_beside_the_models_own(studio, image, sd_folder):
    vaes = studio.settings.data_dir / "models" / "vae"
    vaes.mkdir(parents=True)
    shutil.copyfile(sd_folder / "vae" / "diffusion_pytorch_model.safetensors", vaes / "twin.safetensors")
    shutil.copyfile(sd_folder / "vae" / "config.json", vaes / "config.json")
    studio.collection.library.refresh()
    studio.collection.library.wait_for_scan()
    names = studio.lab_shelf.vaes()
    assert len(names) == 2
    _, tables = answer(studio, "autoencoder", image=image, side=64, other=names[1])
    assert all(own == twin for _, own, twin in tables["What is kept"])


def test_a_prompt_has_tokens_neighbours_and_a_map_for_every_word(studio):
    pictures, tables = answer(studio, "words", **QUICK, others="a blue dog\na red cat")
    assert list(pictures) == ["The picture", '"a"', '"red"', '"cat"']
    assert [row[3] for row in tables["Tokens"]] == ["start", "text", "text", "text", "end", "padding"]
    assert tables["Tokens"][-1][0] == "5 to 76"
    assert [row[0] for row in tables["Similarity"]] == ["1. a red cat", "2. a blue dog"]
    assert tables["Similarity"][0][1] == "1.000" == tables["Similarity"][1][2]
    assert tables["Passes"] == ((1, 3, "a red cat"),)


def test_a_long_prompt_is_cut_into_passes(studio):
    long = ", ".join(["a red cat"] * 30)
    _, tables = answer(studio, "words", **{**QUICK, "prompt": long, "steps": 1})
    passes = tables["Passes"]
    assert len(passes) > 1 and all(0 < count <= 75 for _, count, _ in passes)
    assert sum(count for _, count, _ in passes) == sum(row[3] in ("text", "falls off") for row in tables["Tokens"])
    assert " ".join(words for _, _, words in passes).replace(" ", "") == long.replace(" ", "")


def test_looking_at_attention_leaves_the_shared_model_as_it_was(studio):
    first, _ = answer(studio, "film", **QUICK)
    answer(studio, "words", **QUICK)
    again, _ = answer(studio, "film", **QUICK)
    for one, other in zip(first.values(), again.values(), strict=True):
        assert one != other and one.read_bytes() == other.read_bytes()


def test_stop_ends_a_job_within_a_step(studio):
    job = studio.submit(AskLab("words", {**QUICK, "steps": 60}))
    for event in job.follow():
        if isinstance(event, StepDone):
            job.stop()
            break
    assert job.wait(600).stopped
    assert not [event for event in job.events if isinstance(event, Pictured)]


@pytest.mark.parametrize(("name", "values", "words"), [
    ("film", {"steps": 0}, "Steps: 0 is not possible"),
    ("film", {"beside_steps": "many"}, "Steps of the others"),
    ("film", {"sampler": "Euler z"}, "Sampler: 'Euler z' is not possible"),
    ("words", {"prompt": "a (red:1.3) cat"}, "Only plain words"),
])
def test_what_cannot_be_looked_at_is_refused_at_once(studio, name, values, words):
    with pytest.raises(RequestError, match=words):
        studio.submit(AskLab(name, values))


def test_a_page_that_needs_a_picture_says_so(studio):
    with pytest.raises(RequestError, match="none was given"):
        studio.submit(AskLab("autoencoder", {})).wait(600)


def test_a_checkpoint_that_only_repaints_is_refused_in_words(tmp_path, sd9_folder):
    studio = Studio(load(["--data-dir", str(tmp_path), "--model", str(sd9_folder)], {}))
    try:
        with pytest.raises(RequestError, match="cannot begin with noise alone"):
            studio.submit(AskLab("film", QUICK)).wait(600)
    finally:
        studio.close()
