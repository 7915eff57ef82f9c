"""The lab's pages on a real studio with a tiny model: what Run shows, what is refused, and what stays apart."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
import pytest
from PIL import Image

from pipelines.lab.pages import PAGES
from pipelines.settings import load
from pipelines.studio import Studio
from tests.test_architecture import ROOT, imports_of
from ui import shell
from ui.tabs import lab

SMALL = {"steps": 2, "beside_steps": 2, "count": 2, "side": 64, "timesteps": 100}


@pytest.fixture(scope="module")
def studio(tmp_path_factory, sd_folder):
    studio = Studio(load(["--data-dir", str(tmp_path_factory.mktemp("data")), "--model", str(sd_folder)], {}))
    yield studio
    studio.close()


@pytest.fixture(scope="module")
def demo(studio):
    return shell.build(studio)


def component(demo, elem_id):
    return next(block for block in demo.blocks.values() if getattr(block, "elem_id", None) == elem_id)


def event_of(demo, button):
    return next(fn for fn in demo.fns.values() if fn.fn is not None and (button._id, "click") in fn.targets)


def run(demo, name, visitor, **changes):
    """Press Run with the page's own values; returns the last update of each component, by its elem_id."""
    fn = event_of(demo, component(demo, f"lab-{name}-run"))
    values = []
    for control in fn.inputs[2:]:
        key = (control.elem_id or "").removeprefix(f"lab-{name}-")
        values.append({**SMALL, **changes}.get(key, control.value))
    last = {}
    for update in fn.fn(visitor, demo_model(demo), *values):
        if isinstance(update, dict) and "__type__" not in update:
            last |= {getattr(one, "elem_id", None): value for one, value in update.items()}
    return last


def demo_model(demo):
    return component(demo, "model").value


def test_every_request_of_the_lab_has_a_page():
    assert [look.name for look in lab.LOOKS] == list(PAGES)


@pytest.mark.parametrize("look", lab.LOOKS, ids=lambda look: look.name)
def test_run_as_the_page_stands_shows_pictures_and_all_tables(demo, look):
    last = run(demo, look.name, f"visitor-{look.name}.1")
    assert last[f"lab-{look.name}-status"].startswith("Done in ")
    pictures = last[f"lab-{look.name}-pictures"]
    assert pictures.visible and pictures.value
    for one in pictures.value:
        assert one["caption"] and min(Image.open(one["image"]["path"]).size) >= 64
    for title in (*look.plots, *look.tables):
        table = last[f"lab-{look.name}-{title.split()[0].lower()}"]
        assert table.visible and table.value is not None


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


def test_stop_without_a_job_says_so(demo):
    assert event_of(demo, component(demo, "lab-film-stop")).fn("nobody.1") == "Nothing is running."


def test_the_pages_never_import_each_other():
    folder = ROOT / "ui" / "tabs" / "lab"
    names = {f"ui.tabs.lab.{path.stem}" for path in folder.glob("*.py")} - {"ui.tabs.lab.__init__"}
    found = [one for path in sorted(Path(folder).glob("*.py")) if path.stem != "__init__" for one in imports_of(path)]
    assert names and not [str(one) for one in found if one.of(*names)]
