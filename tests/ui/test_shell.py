"""The built page on a real studio with a tiny model: its wiring, and the public endpoints over HTTP."""

from __future__ import annotations

import base64
import io
import json
import os
import re

import gradio as gr
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from pipelines import metadata
from pipelines.requests import TASKS
from pipelines.settings import load
from pipelines.studio.studio import Studio
from ui import shell, tooltips
from ui.server.launch import launch

QUICK = {"steps": 2, "width": 64, "height": 64, "seed": 5}


@pytest.fixture(scope="module")
def running(tmp_path_factory, sd_folder):
    folder = tmp_path_factory.mktemp("data")
    settings = load(["--data-dir", str(folder), "--model", str(sd_folder)], {})
    studio = Studio(settings)
    server = launch(shell.build(studio), settings, port=0)
    yield server
    server.close()
    studio.close()


@pytest.fixture(scope="module")
def client(running):
    return Client(running.url, verbose=False)


def noisy(size, seed=0, mode="RGB"):
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], len(mode)), dtype=np.uint8)
    return Image.fromarray(values, mode)


def test_endpoints_are_named_as_the_requests_fields(client):
    described = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    # The page's own events stay private.
    assert set(described) == {"/txt2img", "/img2img", "/inpaint", "/upscale", "/stop_mine"}
    for task, cls in TASKS.items():
        names = [each["parameter_name"] for each in described[f"/{task}"]["parameters"]]
        assert names == [name for name in cls.model_fields if name != "texts"]
        assert all(each["parameter_has_default"] for each in described[f"/{task}"]["parameters"])


def test_the_page_has_only_events_that_stay_private(running):
    for dependency in running.demo.config["dependencies"]:
        is_public = dependency["api_name"] in (*TASKS, "stop_mine")
        assert dependency["api_visibility"] == ("public" if is_public else "private")


def test_no_event_watches_so_many_controls_that_typing_waits_for_it(running):
    """For each key Gradio asks every target and every input of the event for its state, one after the other."""
    for dependency in running.demo.config["dependencies"]:
        if any(event == "change" for _, event in dependency["targets"]):
            assert len(dependency["targets"]) <= 2 * shell.TOGETHER


def test_only_quick_events_skip_the_queue_and_relays_are_not_limited(running):
    assert all(event.concurrency_limit is None for event in running.demo.fns.values()
               if event.queue and event.api_visibility == "private" and event.fn is not None)


def test_the_prompt_alone_is_enough(client):
    (made,) = client.predict(prompt="a red cat", steps=2, api_name="/txt2img")
    assert metadata.read(made["image"]) == made["infotext"]
    assert made["infotext"].startswith("a red cat\n") and f"Seed: {made['seed']}" in made["infotext"]


def test_the_same_request_gives_the_same_picture(client):
    first, second = (client.predict(prompt="a dog", **QUICK, api_name="/txt2img")[0]["image"] for _ in range(2))
    assert Image.open(first).tobytes() == Image.open(second).tobytes()


@pytest.mark.parametrize("seed", [2**64 - 1, "18446744073709551615"])
def test_a_seed_of_64_bits_is_whole_in_the_answer(client, seed):
    (made,) = client.predict(prompt="a dog", **{**QUICK, "seed": seed}, api_name="/txt2img")
    assert made["seed"] == 2**64 - 1 and "Seed: 18446744073709551615," in made["infotext"]


def test_a_batch_answers_every_picture_and_then_the_grid(client):
    made = client.predict(prompt="a dog", batch_count=2, **QUICK, api_name="/txt2img")
    assert [each["seed"] for each in made] == [5, 6, 5] and len(made) == 3


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such limit")
def test_a_picture_that_no_disk_takes_is_in_the_answer_with_the_reason(client):
    """No file of this process may grow, which is what a full disk says as well."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # httpx's client and the test's own output write no files meanwhile
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        (made,) = client.predict(prompt="a red cat", **QUICK, api_name="/txt2img")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    head, _, data = made["image"]["url"].partition(",")
    assert head == "data:image/png;base64"
    assert metadata.read(Image.open(io.BytesIO(base64.b64decode(data)))) == made["infotext"]
    assert any("could not be saved" in notice for notice in made["notices"])


def test_an_answer_tells_what_the_page_would_have_noticed(client):
    (made,) = client.predict(prompt="a red cat <lora:nowhere:1>", **QUICK, api_name="/txt2img")
    assert any("nowhere" in notice for notice in made["notices"])
    (made,) = client.predict(prompt="a red cat", **QUICK, api_name="/txt2img")
    assert made["notices"] == []


def test_a_caller_stops_its_own_jobs_and_nobody_elses(running, client):
    others = Client(running.url, verbose=False)
    long = {**QUICK, "steps": 150, "batch_count": 16}
    theirs = others.submit(prompt="a dog", **{**QUICK, "steps": 150}, api_name="/txt2img")
    begun, waiting = (client.submit(prompt="a cat", **long, api_name="/txt2img") for _ in range(2))
    stopped = 0
    while stopped < 2:  # until both have been submitted
        stopped += client.predict(api_name="/stop_mine")
    assert len(begun.result(300)) + len(waiting.result(60)) < 32
    assert len(theirs.result(300)) == 1
    assert client.predict(api_name="/stop_mine") == 0


def test_image_to_image_takes_a_file(client, tmp_path):
    noisy((96, 64)).save(tmp_path / "in.png")
    (made,) = client.predict(prompt="a cat", image=handle_file(tmp_path / "in.png"), steps=2, strength=0.5,
                             api_name="/img2img")
    assert Image.open(made["image"]).width > Image.open(made["image"]).height  # the picture's own shape


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_inpainting_leaves_everything_else_byte_for_byte(client, tmp_path, mode):
    source, mask = noisy((75, 53), mode=mode), Image.new("L", (75, 53))
    mask.paste(255, (40, 20, 60, 40))
    source.save(tmp_path / "in.png")
    mask.save(tmp_path / "mask.png")
    (made,) = client.predict(prompt="a cat", image=handle_file(tmp_path / "in.png"), steps=2, mask_blur=0,
                             mask=handle_file(tmp_path / "mask.png"), api_name="/inpaint")
    before, after = np.asarray(source), np.asarray(Image.open(made["image"]).convert(mode))
    kept = np.asarray(mask) == 0
    assert np.array_equal(before[kept], after[kept]) and not np.array_equal(before[~kept], after[~kept])


def test_an_answer_says_what_was_changed_in_the_files_that_were_sent(client, tmp_path):
    noisy((75, 53)).save(tmp_path / "in.gif", save_all=True, append_images=[noisy((75, 53), seed=1)])
    Image.new("L", (30, 30), 255).save(tmp_path / "mask.bmp")
    (made,) = client.predict(prompt="a cat", image=handle_file(tmp_path / "in.gif"), steps=2,
                             mask=handle_file(tmp_path / "mask.bmp"), api_name="/inpaint")
    assert Image.open(made["image"]).size == (75, 53)
    assert any("only its first frame" in notice for notice in made["notices"])
    assert any("30 x 30 px and the picture 75 x 53 px" in notice for notice in made["notices"])


@pytest.mark.parametrize(("values", "message"), [
    ({"steps": 0}, "Steps: 0 is not possible"), ({"steps": "12"}, "Steps: '12' is not possible"),
    ({"sampler": "Best"}, "Best"), ({"width": 65}, "Width"), ({"seed": -2}, "Seed"), ({"prompt": "x" * 4001}, "Prompt"),
    ({"model": "../../etc/passwd"}, "odel"), ({"batch_size": True}, "Batch size"),
])
def test_a_bad_value_is_refused_by_name(client, values, message):
    with pytest.raises(AppError, match=message) as caught:
        client.predict(**{"prompt": "a cat", **values}, api_name="/txt2img")
    assert "Traceback" not in str(caught.value) and "site-packages" not in str(caught.value)


@pytest.mark.parametrize("image", [None, "/etc/hostname", {"path": "/etc/hostname"}])
def test_a_picture_must_be_a_file_that_was_sent(client, image):
    with pytest.raises(AppError, match="Picture|Image"):
        client.predict(prompt="a cat", image=image, api_name="/img2img")


def test_a_picture_sent_as_text_is_refused(client, tmp_path):
    (tmp_path / "in.png").write_text("no picture")
    with pytest.raises(AppError, match="Picture"):
        client.predict(prompt="a cat", image=handle_file(tmp_path / "in.png"), api_name="/img2img")


def test_the_page_offers_the_models_own_settings(running, sd_folder):
    by_id = {part["props"].get("elem_id"): part["props"] for part in running.demo.config["components"]}
    card = json.loads((sd_folder / "model_index.json").read_text())
    assert card["_class_name"] == "StableDiffusionPipeline"
    assert by_id["txt2img-width"]["value"] == by_id["txt2img-height"]["value"] == 64
    assert "txt2img-generate" in by_id


def test_everything_that_can_be_changed_or_pressed_says_what_it_does(running):
    own_words = ("card", "sheet-close")  # an example is its prompt
    changed = (gr.Textbox, gr.Dropdown, gr.Slider, gr.Number, gr.Checkbox, gr.Radio, gr.ColorPicker, gr.File,
               gr.Dataframe, gr.Button, gr.UploadButton, gr.DownloadButton)
    silent = [block.elem_id for block in running.demo.blocks.values()
              if isinstance(block, changed) and block.interactive is not False and block.visible is True
              and not getattr(block, "info", None) and not tooltips.tip(block.elem_id)
              and not set(block.elem_classes) & set(own_words)]
    runs = [elem_id for elem_id in silent if elem_id and re.fullmatch(r"lab-\w+-run", elem_id)]  # Run says it
    hidden = [None] * silent.count(None)  # the way in of a source picture, which has a place to drop it
    assert [elem_id for elem_id in silent if elem_id not in (*runs, *hidden)] == []


def test_no_tip_is_left_of_a_control_that_is_gone(running):
    told = {tooltips.tip(block.elem_id) for block in running.demo.blocks.values()}
    assert [end for end, words in tooltips.TIPS.items() if words not in told] == []
