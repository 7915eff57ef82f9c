"""The lab's pages on a real studio with a tiny model: what Run shows, what is refused, and what stays apart."""

from __future__ import annotations

import html
import importlib
import inspect
import io
import json
import re
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import httpx
import pytest
from gradio.context import LocalContext
from gradio_client.utils import apply_diff
from PIL import Image

from pipelines.lab.page_requests import PAGES
from pipelines.settings import load
from pipelines.studio.studio import Studio
from pipelines.studio.works import AskLab
from tests.test_architecture import ROOT, imports_of
from ui import language, shell
from ui.server.launch import launch
from ui.tabs import lab
from ui.tabs.lab.description import code_of, linked

SMALL = {"steps": 2, "beside_steps": "2", "count": 2, "side": 64, "timesteps": 100}
SMALLER = {  # by page, where a minute of the page's own values would be too long for a test
    "train": {"data": "digits:3", "side": None, "width": 16, "minutes": None, "epochs": 2, "samples": 2},
    "finetune": {"epochs": 1, "samples": 2, "batch_size": 128},
    "lora": {"ranks": "1, 2", "updates": 2},
    "memory": {"batch_size": 1, "measure": False},
}


DRAWN: list[str] = []  # words that were put into pictures


@pytest.fixture(scope="module")
def studio(tmp_path_factory, sd_folder):
    settings = load(["--data-dir", str(tmp_path_factory.mktemp("data")), "--model", str(sd_folder)], {})
    studio = Studio(settings, lambda language: lambda text: DRAWN.append(text) or text)
    yield studio
    studio.close()


@pytest.fixture(scope="module")
def demo(studio):
    return shell.build(studio)


@pytest.fixture(scope="module")
def running(studio, demo):
    server = launch(demo, studio.settings, port=0)
    yield server
    server.close()


def component(demo, elem_id):
    return next(block for block in demo.blocks.values() if getattr(block, "elem_id", None) == elem_id)


def event_of(demo, button):
    return next(fn for fn in demo.fns.values() if fn.fn is not None and (button._id, "click") in fn.targets)


def values_of(fn, name, changes):
    """The page's own values, smaller ones and changes, as its Run hands them over."""
    given = {**SMALL, **SMALLER.get(name, {}), **changes}
    return [given.get((control.elem_id or "").removeprefix(f"lab-{name}-"), control.value)
            for control in fn.inputs[2:]]


def run(demo, name, visitor, **changes):
    """Press Run with the page's own values; returns the last update of each component, by its elem_id."""
    fn = event_of(demo, component(demo, f"lab-{name}-run"))
    last = {}
    for update in fn.fn(visitor, demo_model(demo), *values_of(fn, name, changes)):
        if isinstance(update, dict) and "__type__" not in update:
            last |= {getattr(one, "elem_id", None): value for one, value in update.items()}
    return last


def pressed(running, demo, name, visitor):
    """Press Run in the running app as a browser does; returns what each component was told at last, by its elem_id."""
    fn = event_of(demo, component(demo, f"lab-{name}-run"))
    here = {"session_hash": visitor}
    asked = {**here, "fn_index": fn._id, "data": [visitor, demo_model(demo), *values_of(fn, name, {})]}
    httpx.post(f"{running.url}gradio_api/queue/join", json=asked, timeout=60).raise_for_status()
    told, now = {}, []
    with httpx.stream("GET", f"{running.url}gradio_api/queue/data", params=here, timeout=120) as lines:
        for line in lines.iter_lines():
            message = json.loads(line.removeprefix("data:")) if line.startswith("data:") else {"msg": ""}
            if message["msg"] not in ("process_generating", "process_completed"):
                continue
            assert message["success"], message["output"]
            data = message["output"]["data"]
            # Each but the first says only what has changed since the one before.
            now = data if message["msg"] == "process_completed" or not now else [
                apply_diff(old, changes) for old, changes in zip(now, data, strict=True)]
            told |= {one.elem_id: update for one, update in zip(fn.outputs, now, strict=True) if update != NOTHING_NEW}
            if message["msg"] == "process_completed":
                return told


def demo_model(demo):
    return component(demo, "model").value


NOTHING_NEW = {"__type__": "update"}
# What a page shows only when it is asked otherwise.
OTHERWISE = {"sample": {"DDPM against DDIM"}, "memory": {"Measured"}}


def test_every_request_of_the_lab_has_a_page():
    assert [look.name for look in lab.LOOKS] == list(PAGES)


@pytest.mark.parametrize("look", lab.LOOKS, ids=lambda look: look.name)
def test_run_as_the_page_stands_shows_pictures_and_all_tables_in_the_running_app(running, demo, look):
    last = pressed(running, demo, look.name, f"visitor-{look.name}.1")
    assert last[f"lab-{look.name}-status"].startswith("Done in ")
    if look.name != "memory":  # which is about numbers
        pictures = last[f"lab-{look.name}-pictures"]
        assert pictures["visible"] and pictures["value"]
        for one in pictures["value"]:
            sent = httpx.get(one["image"]["url"], timeout=120).content
            assert one["caption"] and min(Image.open(io.BytesIO(sent)).size) >= 64
    for title in set((*look.plots, *look.tables)) - OTHERWISE.get(look.name, set()):
        table = last[f"lab-{look.name}-result-{title.split()[0].lower()}"]
        assert table["visible"] and table["value"]["data"]
        if title in look.plots:
            curves = {row[-1] for row in table["value"]["data"]}
            legend = last[f"lab-{look.name}-result-{title.split()[0].lower()}-legend"]["value"]
            assert len(curves) == legend.count("<span>") and all(html.escape(str(one)) in legend for one in curves)


def test_captions_headers_and_our_words_are_german_on_a_german_page_and_a_prompt_stays_as_it_is(demo):
    page = LocalContext.request.set(SimpleNamespace(cookies={"atelier-language": "de"}, headers={}))
    try:
        memory = run(demo, "memory", "german.1")["lab-memory-result-memory"].value
        words = run(demo, "words", "german.2", prompt="a style", others="")
    finally:
        LocalContext.request.reset(page)
    assert memory["headers"][0] == "Weg" and memory["data"][0][0] == "wie verlangt"
    assert [one["caption"] for one in words["lab-words-pictures"].value] == ["Das Bild", '"a"', '"style"']


def test_every_word_drawn_into_a_sheet_has_a_translation(studio):
    DRAWN.clear()
    for name, values in (("film", {"beside": "Euler", "beside_steps": "2"}), ("guide", {"count": 2})):
        studio.submit(AskLab(name, {**values, "steps": 2})).wait(120)
    words = {text for text in DRAWN if re.search("[a-z]{3}", text)}
    assert {"predicted x0", "Euler, 2 steps", "scale 0"} <= words
    assert not {text for text in words if language.said(text, "de") == text}


def test_the_film_can_be_taken_away_as_an_animation(demo):
    _, way = run(demo, "film", "animated.1")["lab-film-pictures"].value
    with Image.open(way["image"]["path"]) as image:
        assert image.format == "WEBP" and image.n_frames == 2


def test_what_a_page_refuses_is_said_beside_the_button(demo):
    fn = event_of(demo, component(demo, "lab-words-run"))
    values = [control.value for control in fn.inputs[2:]]
    values[0] = "a (cat:1.2)"
    updates = fn.fn("refused.1", demo_model(demo), *values)
    first = {getattr(one, "elem_id", None): value for one, value in next(updates).items()}
    assert "Only plain words" in first["lab-words-status"]
    with pytest.raises(gr.Error, match="Only plain words"):
        next(updates)


def test_a_run_takes_away_the_curves_and_tables_of_the_one_before(demo):
    fn = event_of(demo, component(demo, "lab-lora-run"))
    updates = fn.fn("again.1", demo_model(demo), *values_of(fn, "lora", {}))
    first = {str(one.elem_id): value for one, value in next(updates).items()}
    shown = [value for name, value in first.items() if name.startswith("lab-lora-result-")]
    assert len(shown) == 4 and not any(one.visible for one in shown)
    assert list(updates)


def test_stop_without_a_job_says_so(demo):
    assert event_of(demo, component(demo, "lab-film-stop")).fn("nobody.1") == "Nothing is running."


@pytest.mark.parametrize("look", lab.LOOKS, ids=lambda look: look.name)
def test_the_lines_shown_are_those_that_run(look):
    shown = code_of(look.code)
    for name in look.code:
        package, module, inside = name.split(".", 2)
        found = importlib.import_module(f"pipelines.{package}.{module}")
        for part in inside.split("."):
            found = getattr(found, part)
        lines = inspect.getsource(found).strip().splitlines()
        assert lines[0].strip() in shown and lines[-1].strip() in shown or len(lines) > 40
        assert not found.__doc__ or found.__doc__.strip().splitlines()[-1] not in shown


@pytest.mark.parametrize("look", lab.LOOKS, ids=lambda look: look.name)
def test_papers_are_linked_by_title_and_settings_go_to_the_real_tab(demo, look):
    assert "](https://arxiv.org/abs/" in linked(look.about) and '"' not in linked(look.about)
    fn = event_of(demo, component(demo, f"lab-{look.name}-open"))
    values = [control.value for control in fn.inputs]
    update = fn.fn(*values)
    tabs = next(value for key, value in update.items() if isinstance(key, gr.Tabs))
    assert tabs.selected == look.opens.tab
    taken = [value for key, value in update.items() if not isinstance(key, gr.Tabs)]
    assert len(taken) >= len(look.opens.fields) - 1


def test_a_token_is_hidden_and_never_remembered(demo):
    remembered = {box for fn in demo.fns.values() if "atelier.save" in str(fn.js) for box in fn.inputs}
    secret = [component(demo, f"lab-{name}-token") for name in ("train", "finetune")]
    assert all(one.type == "password" for one in secret)
    assert remembered and not set(secret) & remembered


def test_a_page_refuses_in_one_sentence_what_cannot_be(demo):
    for name, changes, said in (
            ("train", {"learning_rate": 1e6}, "Learning rate: 1000000"), ("train", {"timesteps": 1}, "Timesteps: 1"),
            ("sample", {"label": "cow"}, "is unknown. Known are 0, 1"), ("lora", {"ranks": "0"}, "between 1 and 64"),
            ("guide", {"goal": "reference"}, "needs a picture to go by")):
        with pytest.raises(gr.Error, match=said):
            run(demo, name, f"refused-{name}-{said[:3]}.1", **changes)


@pytest.mark.parametrize(("sizes", "said"), [([], "no pictures"), ([(32, 32)], "only one picture"),
                                             ([(3, 3), (3, 3)], "3 x 3 px. A picture needs at least 8 px")])
def test_a_data_set_that_is_too_little_is_refused(demo, studio, sizes, said):
    folder = studio.settings.data_dir / "datasets" / f"few-{len(sizes)}"
    folder.mkdir(parents=True)
    for i, size in enumerate(sizes):
        Image.new("RGB", size).save(folder / f"{i}.png")
    for page in ("train", "finetune"):
        with pytest.raises(gr.Error, match=said):
            run(demo, page, f"few-{page}-{len(sizes)}.1", data=folder.name)


def test_the_pages_never_import_each_other():
    folder = ROOT / "ui" / "tabs" / "lab" / "pages"
    names = {f"ui.tabs.lab.pages.{path.stem}" for path in folder.glob("*.py") if path.stem != "__init__"}
    found = [one for path in sorted(Path(folder).glob("*.py")) for one in imports_of(path)]
    assert names and not [str(one) for one in found if one.of(*names)]
