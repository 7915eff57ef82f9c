"""The lab's own models on its pages, through the studio: train, sample, fine-tune, guide, adapt, calculate."""

from __future__ import annotations

import re

import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from PIL import Image
from safetensors.torch import save_file

from pipelines.errors import ModelError, RequestError, StudioError
from pipelines.events import Finished, Notice, Pictured, StepDone, Tabled
from pipelines.lab import checkpoints, guidance, scorer
from pipelines.lab.page_requests import BUNDLED_MODEL, BUNDLED_RUN, CHECKPOINT, NEW
from pipelines.settings import load
from pipelines.studio.studio import Studio
from pipelines.studio.works import AskLab

SMALL = {"data": "digits:3", "width": 16, "network": "attention", "timesteps": 20, "epochs": 2, "batch_size": 60,
         "samples": 2, "validation": 0.1}


@pytest.fixture(scope="module")
def studio(tmp_path_factory, sd_folder):
    data, models = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    unet = UNet2DModel(sample_size=8, in_channels=1, out_channels=1, block_out_channels=(16, 32), layers_per_block=1,
                       norm_num_groups=8, attention_head_dim=8, down_block_types=("DownBlock2D",) * 2,
                       up_block_types=("UpBlock2D",) * 2)
    DDPMPipeline(unet, DDPMScheduler(num_train_timesteps=50)).save_pretrained(models / "tiny-ddpm")
    (data / "loras").mkdir()
    save_file({"unet.a.to_q.lora_A.weight": torch.ones(2, 4), "unet.a.to_q.lora_B.weight": torch.ones(4, 2)},
              data / "loras" / "flat.safetensors")
    studio = Studio(load(["--data-dir", str(data), "--model", str(sd_folder), "--model-dir", str(models)], {}))
    yield studio
    studio.close()


def answer(studio, name, **values):
    job = studio.submit(AskLab(name, values))
    job.wait(600)
    pictures = {event.caption: event.path for event in job.events if isinstance(event, Pictured)}
    return pictures, {event.title: event for event in job.events if isinstance(event, Tabled)}, job


@pytest.fixture(scope="module")
def run(studio):
    """A run with classes, trained on the page."""
    answer(studio, "train", **{**SMALL, "data": "digits", "batch_size": 512, "epochs": 1})
    return studio.lab_shelf.runs()[0]


def test_training_shows_the_loss_samples_and_their_way_and_leaves_a_run(studio):
    pictures, tables, job = answer(studio, "train", **SMALL)
    assert list(pictures) == ["Samples after epoch 2", "From the first epoch to the last"]
    assert {curve for _, _, curve in tables["Loss"].rows} == {"training, smoothed", "held out"}
    steps = [event for event in job.follow() if isinstance(event, StepDone)]
    assert not steps or steps[-1].step == 6  # of a job that has ended nothing is told but what stays
    name = studio.lab_shelf.runs()[0]
    assert name.startswith("digits-3-")
    assert checkpoints.read(studio.lab_shelf.run(name))["epoch"] == 2


def test_a_run_goes_on_where_it_was_and_other_values_do_not_change_it(studio):
    answer(studio, "train", **SMALL)
    name = studio.lab_shelf.runs()[0]
    answer(studio, "train", **{**SMALL, "run_name": name, "epochs": 3, "learning_rate": 0.5})
    state = checkpoints.read(studio.lab_shelf.run(name))
    assert (state["epoch"], state["request"]["learning_rate"]) == (3, 2e-3)
    assert studio.lab_shelf.runs()[0] == name


def test_a_run_that_is_stopped_is_saved_and_says_how_to_go_on(studio):
    job = studio.submit(AskLab("train", {**SMALL, "epochs": 10_000}))
    for event in job.follow():
        if isinstance(event, StepDone):
            job.stop()
    last, told = job.events[-1], [event.text for event in job.events if isinstance(event, Notice)]
    assert isinstance(last, Finished) and last.stopped
    assert "Choose this run above to go on" in told[-1]
    assert checkpoints.read(studio.lab_shelf.run(studio.lab_shelf.runs()[0]))["step"] >= 1


def test_a_token_is_nowhere_in_the_run(studio):
    answer(studio, "train", **{**SMALL, "epochs": 1, "token": "hf_secret"})
    folder = studio.lab_shelf.run(studio.lab_shelf.runs()[0])
    assert not any(b"hf_secret" in path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(("values", "said"), [
    ({"learning_rate": 1e6}, "Learning rate: 1000000"),
    ({"timesteps": 1}, "Timesteps: 1 is not possible"),
    ({"data": "../etc"}, "there is no dataset"),
    ({"run_name": "nowhere"}, "Run: 'nowhere' is not here"),
    ({"prediction": "noise", "schedule": "flow"}, "Predict v or x0"),
    ({"epochs": None, "minutes": None}, "Minutes"),
])
def test_what_cannot_be_trained_is_said_in_one_sentence(studio, values, said):
    with pytest.raises(StudioError, match=re.escape(said)):
        answer(studio, "train", **{**SMALL, **values})


def test_the_bundled_model_draws_a_blend_and_shows_its_way(studio):
    pictures, _, _ = answer(studio, "sample", label="3:0.5,8:0.5", count=2, steps=3)
    assert list(pictures) == ["Seeds 1 to 2", "The way of the first picture", "Predicted x0, step by step"]
    assert Image.open(pictures["Seeds 1 to 2"]).size == (200, 100)
    with Image.open(pictures["Predicted x0, step by step"]) as way:
        assert way.n_frames == 3


def test_the_bundled_model_draws_digits_that_a_classifier_recognises():
    from pipelines.lab import assets, classifier, data, draw
    from pipelines.lab.sampling import ddim, denoiser_of, last

    model = checkpoints.load_model(assets.BUNDLED / "digits")
    judge, wanted = classifier.fitted(data.load("digits")), torch.arange(100) % 10
    noise, generators = model.noise(list(range(100)))
    context = torch.nn.functional.one_hot(wanted, 10).float()
    x = last(ddim(denoiser_of(model.network, model.prediction, context, 2.0), model.schedule, noise, generators, 10)).x
    assert classifier.recognised(judge, x, wanted) >= 0.9
    assert draw.class_weights("7", model.classes) == {7: 1.0}


def test_the_contest_times_and_judges_both_samplers(studio, run):
    pictures, tables, _ = answer(studio, "sample", run_name=run, count=4, contest=True)
    assert list(pictures) == ["DDPM, 20 steps", "DDIM, 20 steps"]
    rows = tables["DDPM against DDIM"].rows
    assert all(re.fullmatch(r"\d\.\d{3} s", time) and re.fullmatch(r"\d+%", share) for _, time, share in rows)


def test_an_unconditional_model_is_fine_tuned_and_can_be_taken_further(studio):
    values = {"start": "tiny-ddpm", "data": "digits:3", "batch_size": 128, "accumulation": 1, "samples": 2,
              "steps": 3, "epochs": 2, "learning_rate": 1e-3}
    pictures, tables, _ = answer(studio, "finetune", **values)
    assert list(pictures) == ["Before", "After"] and len(tables["Loss"].rows) == 4
    made = studio.lab_shelf.unconditional()[0]
    assert made == "tiny-ddpm-1"
    answer(studio, "finetune", **{**values, "start": made, "epochs": 1})


def test_steering_lowers_the_loss_the_more_the_stronger_it_pulls(studio, run):
    pictures, tables, _ = answer(studio, "guide", subject=run, goal="symmetry", scale=1.0, count=2, steps=4)
    losses = [float(row[1]) for row in tables["What came of it"].rows]
    assert losses == sorted(losses, reverse=True) and losses[-1] < 0.5 * losses[0]
    assert {curve for _, _, curve in tables["Weight over time"].rows} == {
        "none", "alpha-bar", "root of alpha-bar", "one minus alpha-bar"}


@pytest.mark.parametrize("subject", [BUNDLED_MODEL, "tiny-ddpm"])
def test_an_unconditional_pipeline_is_steered_by_either_gradient(studio, subject):
    for through_network in (False, True):
        _, tables, _ = answer(studio, "guide", subject=subject, goal="colour", colour="#ffffff", scale=1.0, count=1,
                              steps=3, through_network=through_network)
        losses = [float(row[1]) for row in tables["What came of it"].rows]
        assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0]


@pytest.mark.parametrize("sampler", ["DDIM", "Euler a", "DPM++ 2M"])
def test_a_text_model_is_pulled_towards_a_colour_through_its_decoder(studio, sampler):
    _, tables, _ = answer(studio, "guide", prompt="a cat", colour="#ff0000", scale=1.0, count=1, steps=3,
                          guidance_scale=1.0, sampler=sampler)
    losses = [float(row[1]) for row in tables["What came of it"].rows]
    assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0]


def test_a_classifier_of_the_runs_set_steers(studio, run):
    _, tables, _ = answer(studio, "guide", subject=run, goal="classifier", label="3", scale=4.0, count=4, steps=6)
    losses = [float(row[1]) for row in tables["What came of it"].rows]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("subject", [BUNDLED_MODEL, "tiny-ddpm", CHECKPOINT])
def test_a_model_without_classes_is_steered_by_a_classifier_of_another_run(studio, subject):
    _, tables, _ = answer(studio, "guide", subject=subject, judge=BUNDLED_RUN, goal="classifier", label="3", scale=4.0,
                          count=2, steps=4, prompt="a cat")
    losses = [float(row[1]) for row in tables["What came of it"].rows]
    assert losses[-1] < losses[0] and losses[1] < losses[0]


@pytest.mark.skipif(scorer.TOWER.is_file(), reason="the embedded model's image tower is here")
def test_without_anything_that_compares_pictures_with_text_the_page_says_what_to_add(studio):
    with pytest.raises(RequestError, match="put .* a CLIP checkpoint"):
        answer(studio, "guide", goal="text", prompt="a cat")


@pytest.mark.skipif(not scorer.TOWER.is_file(), reason="the embedded model has no image tower here")
def test_the_embedded_models_own_tower_pulls_its_pictures_towards_a_text(tmp_path):
    studio = Studio(load(["--data-dir", str(tmp_path)], {}))
    try:
        _, tables, _ = answer(studio, "guide", goal="text", prompt="a red apple", scale=2.0, count=1, steps=4)
        losses = [float(row[1]) for row in tables["What came of it"].rows]
        assert losses[-1] < 0.97 * losses[0]  # the page's own scale is seen
    finally:
        studio.close()


def test_a_clip_checkpoint_of_a_model_folder_scores_pictures_and_is_differentiable(studio, tmp_path):
    from transformers import CLIPConfig, CLIPModel

    from tests.tiny import write_tokenizer

    text = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1}
    torch.manual_seed(0)
    CLIPModel(CLIPConfig(text_config=text, vision_config={**text, "image_size": 32, "patch_size": 8},
                         projection_dim=12)).save_pretrained(tmp_path / "clip")
    write_tokenizer(tmp_path / "clip")
    found = scorer.load(tmp_path / "clip", torch.device("cpu"))
    pixels = torch.rand(2, 3, 64, 64).requires_grad_()
    loss = guidance.towards_text(found, "a red cat")(pixels)
    assert tuple(loss.shape) == (2,) and torch.autograd.grad(loss.sum(), pixels)[0].abs().sum() > 0


@pytest.mark.parametrize(("values", "said"), [
    ({"goal": "text", "prompt": " "}, "Prompt: the goal text needs one"),
    ({"goal": "reference"}, "needs a picture to go by"),
    ({"goal": "classifier"}, r"Classifier: this model has no classes .* such as digits \(comes along\)"),
    ({"goal": "classifier", "judge": "gone"}, "Run: 'gone' is not here"),
    ({"goal": "classifier", "subject": BUNDLED_RUN}, "needs one of 0, 1, 2"),
])
def test_a_goal_says_what_it_lacks(studio, values, said):
    with pytest.raises(RequestError, match=said):
        answer(studio, "guide", **values)


def test_ranks_are_compared_and_merged_equals_adapted(studio, run):
    pictures, tables, _ = answer(studio, "lora", run_name=run, ranks="1, 4", updates=3)
    assert list(pictures) == ["Base and adapted, the same noise in each column",
                              "Size of the change by layer, as a share of the weight"]
    rows = tables["Ranks"].rows
    assert [row[0] for row in rows] == ["1", "4"]
    assert all(float(row[4]) < 1e-5 < float(row[5]) + 1 for row in rows)
    numbers = [int(row[1].replace(",", "")) for row in rows]
    assert numbers[1] == 4 * numbers[0]


def test_low_rank_layers_go_into_the_chosen_projections_only(studio, run):
    rows = {}
    for projections in ("all", "query and value", "output"):
        _, tables, _ = answer(studio, "lora", run_name=run, ranks="2", updates=1, projections=projections)
        rows[projections] = [layer.rpartition(".")[2] for layer, _ in tables["Change by layer"].rows]
    assert set(rows["query and value"]) == {"to_q", "to_v"} and set(rows["output"]) == {"to_out"}
    assert len(rows["all"]) == 2 * len(rows["query and value"]) == 4 * len(rows["output"])


def test_of_a_file_with_many_layers_the_heat_map_shows_those_that_change_most(studio):
    many = {f"unet.l{i}.to_q.lora_{end}.weight": torch.ones(2, 4) if end == "A" else torch.full((4, 2), float(i))
            for i in range(60) for end in "AB"}
    save_file(many, studio.settings.data_dir / "loras" / "many.safetensors")
    studio.collection.library.refresh()
    studio.collection.library.wait_for_scan()
    pictures, tables, _ = answer(studio, "lora", file="many")
    assert len(tables["Change by layer"].rows) == 60
    with Image.open(pictures["Size of the change by layer, the 48 largest of 60"]) as map_:
        assert map_.height < 50 * 28


def test_any_lora_file_shows_the_size_of_its_change(studio):
    _, tables, _ = answer(studio, "lora", file="flat")
    (layer, norm), = tables["Change by layer"].rows
    assert layer == "unet.a.to_q" and float(norm) == pytest.approx(8.0)  # a 4 x 4 matrix of twos


def test_a_training_step_is_calculated_and_measured_within_15_percent(studio):
    _, tables, _ = answer(studio, "memory", side=128, batch_size=2)
    ways = {row[0]: row for row in tables["Memory (MB)"].rows}
    assert float(ways["8-bit AdamW"][3]) < 0.3 * float(ways["as asked"][3])
    (_, calculated, measured, _), = tables["Measured"].rows
    assert float(calculated) == pytest.approx(float(measured), rel=0.15)


def test_a_training_step_that_does_not_fit_is_calculated_and_not_measured(studio):
    job = studio.submit(AskLab("memory", {"side": 2048, "batch_size": 64}))
    job.wait(600)
    assert any("Not measured: the step would take about" in event.text for event in job.events
               if isinstance(event, Notice))
    assert not any(event.title == "Measured" for event in job.events if isinstance(event, Tabled))


def test_visitors_neither_train_nor_reach_the_hub(tmp_path, sd_folder):
    public = Studio(load(["--data-dir", str(tmp_path), "--model", str(sd_folder), "--share"], {}))
    try:
        for page in ("train", "finetune", "lora"):
            with pytest.raises(StudioError, match="Training is switched off"):
                public.submit(AskLab(page, {}))
    finally:
        public.close()
    allowed = Studio(load(["--data-dir", str(tmp_path), "--model", str(sd_folder), "--share", "--guests-may-train"],
                          {}))
    try:
        for page, field in (("train", "hub_data"), ("finetune", "hub_model"), ("finetune", "push_to")):
            with pytest.raises(RequestError, match="nothing is fetched or sent"):
                allowed.submit(AskLab(page, {field: "me/it"}))
    finally:
        allowed.close()


def test_names_are_looked_up_and_never_paths(studio, tmp_path):
    assert studio.lab_shelf.resumable()[0] == NEW
    for name in ("../digits", str(tmp_path), "", "digits-3-1/.."):
        with pytest.raises((RequestError, ModelError)):
            studio.lab_shelf.run(name)
        with pytest.raises((RequestError, ModelError)):
            studio.lab_shelf.unconditional_folder(name)


def test_a_run_of_the_second_recipe_is_trained_resumed_and_drawn_from_with_the_checkpoint(studio):
    values = {"recipe": "latents", "data": "ink drawings (example)", "side": 64, "width": 16, "levels": 2,
              "timesteps": 20, "epochs": 1, "samples": 2, "batch_size": 16}
    answer(studio, "train", **values)
    name = studio.lab_shelf.runs()[0]
    answer(studio, "train", run_name=name, epochs=1, samples=0)  # the form's recipe is another one again
    state = checkpoints.read(studio.lab_shelf.run(name))
    assert (state["epoch"], state["model"]["frozen"]) == (2, studio.collection.default_card().name)
    pictures, _, _ = answer(studio, "sample", run_name=name, label="a fox", count=1, steps=2)
    assert Image.open(pictures["Seeds 1 to 1"]).size == (68, 68)  # and a line on each side
