"""The Train tab's words and rules, without a browser."""

from __future__ import annotations

import os
from types import SimpleNamespace

import gradio as gr
import pytest

from pipelines.errors import RequestError
from pipelines.requests import make
from pipelines.settings import load
from pipelines.studio.studio import Studio
from pipelines.training.dataset.survey import split, survey
from pipelines.training.request import TrainLora, from_table
from pipelines.training.run.folder import RunFolder, owned
from tests.pipelines.training.conftest import write_pictures
from ui import language, shell
from ui.tabs.train import captions, knobs, pictures, watch, weights

SMALL = SimpleNamespace(native_size=128, unet_parameters=20_000_000)
HASHES = [f"{number:064x}" for number in range(24)]
CHOSEN = dict(goal="style", length="fast", steps="", rank="", batch_size="", method="lora", optimizer="adamw",
              accumulation=1, validation=0.0, seed=0)


def test_the_knobs_are_said_in_numbers():
    line = knobs.meaning(SMALL, HASHES, CHOSEN)
    assert line.startswith("24 pictures, 360 steps of 8: each is seen about 120 times. Learns rank 8, alpha 8")
    assert "100 steps" in knobs.meaning(SMALL, HASHES, {**CHOSEN, "steps": "100"})
    assert "all weights" in knobs.meaning(SMALL, HASHES, {**CHOSEN, "method": "full"})
    assert knobs.meaning(SMALL, [], CHOSEN) == ""


def test_the_knobs_count_the_pictures_that_a_run_keeps_aside_as_the_run_does(tmp_path):
    found = survey(write_pictures(tmp_path / "set", [(64, 64)] * 12), resolution=64)
    trained, held = split(found, 0.3, 7)
    assert trained and held
    line = knobs.meaning(SMALL, [one.digest for one in found], {**CHOSEN, "validation": 0.3, "seed": 7})
    steps = knobs.concrete(SMALL, [one.digest for one in trained], dict(goal="style", length="fast", validation=0.0,
                                                                        seed=0)).steps
    assert line.startswith(f"12 pictures ({len(held)} kept aside to measure on), {steps} steps of 8: each is seen ")


@pytest.mark.parametrize(("typed", "said"), [("many", "Steps: 'many' is no number"), ("-3", "out of its range")])
def test_what_is_no_number_is_said_beside_the_knobs(typed, said):
    assert said in knobs.meaning(SMALL, HASHES, {**CHOSEN, "steps": typed})


def test_what_is_typed_becomes_a_config_and_comes_back_as_it_was(tmp_path):
    fields = ("name", "rank", "learning_rate", "flip", "sample_prompts", "prior_data")
    typed = ("mine", "8", "0.0002", True, "a cat\n\n a dog ", "")
    given = knobs.given(fields, typed)
    assert given["sample_prompts"] == ("a cat", "a dog") and given["rank"] == 8
    config = from_table({"model": "demo", "data": "d", "output": "o", **given}, tmp_path)
    form = dict(zip(fields, fields, strict=True))  # names stand in for the controls
    assert knobs.filled(None, form, config) == dict(zip(fields, ("mine", "8", "0.0002", True, "a cat\na dog", ""),
                                                        strict=True))
    assert "rank" not in knobs.given(("name", "rank"), ("mine", ""))
    with pytest.raises(RequestError, match="Rank"):
        knobs.given(("rank",), ("high",))


def test_comments_among_the_sample_prompts_make_no_sample():
    chosen = knobs.given(("sample_prompts",), ("a cat # mine\n# a dog\n\n a house",))
    assert chosen["sample_prompts"] == ("a cat", "a house")


def test_whatever_a_run_can_be_told_is_in_the_form():
    elsewhere = {"model", "data", "trigger", "sample_prompts", "output", "device",
                 "prediction_type"}  # the last three are the app's
    named = [name for names in (*knobs.GROUPS.values(), *knobs.FRONT) for name in names]
    assert sorted([*named, *elsewhere]) == sorted(TrainLora.model_fields)
    assert set(knobs.FORECAST_OF) <= set(named)


def test_pictures_that_are_left_out_have_no_tags():
    rows = [["a.png", "ok", "64 × 64 px", "4", "a cat, ink"], ["b.png", "left out: too small", "", "4", "a dog, ink"]]
    assert captions.count_tags(rows) == [["a cat", 1], ["ink", 1]]


def test_captions_are_typed_over_replaced_in_all_and_taken_back(tmp_path, sd_folder):
    studio = Studio(load(["--data-dir", str(tmp_path / "data"), "--model", str(sd_folder)], {}))
    try:
        place = write_pictures(tmp_path / "mine", [(64, 64)] * 2)
        (place / "notes.md").write_text("x")
        studio.datasets.add(sorted(place.iterdir()), "mine")
        page = SimpleNamespace(remembered={}, returning=[])
        with gr.Blocks() as blocks:
            page.model = gr.Dropdown([card.name for card in studio.collection.cards()])
            data, form = pictures.build(studio, page), knobs.build(studio, page)
            pictures.wire(studio, page, data, form)

        parts = {**vars(data), **vars(data.captions)}
        names = {component._id: name for name, component in parts.items() if name != "captions"}

        def act(name, event, *values):
            """Do what the handler of a component's event does; returns its outputs by their names."""
            found = next(one for one in blocks.fns.values() if (parts[name]._id, event) in one.targets)
            return {names[output._id]: value for output, value in zip(found.outputs, found.fn(*values), strict=True)}

        def written():
            return [(studio.datasets.folder("mine") / f"{i}.txt").read_text("utf-8") for i in range(2)]

        model = studio.collection.cards()[0].name
        shown = act("dataset", "change", "mine", model, "", True, "center", False, "auto")
        assert shown["notes"].visible
        assert shown["notes"].value == "Not used, as neither pictures nor captions: notes.md."
        first = shown["rows"]
        typed = act("table", "input", [first[0], [*first[1][:-1], "a dog"]], first, "mine", model)
        assert written() == ["a cat, red, picture 0", "a dog"]
        assert int(typed["rows"][1][captions.TOKENS]) < int(first[1][captions.TOKENS])
        swapped = act("swap", "click", typed["rows"], "mine", model, "red", "dark blue")
        assert written() == ["a cat, dark blue, picture 0", "a dog"] and ["dark blue", 1] in swapped["tags"]
        assert [row[captions.CAPTION] for row in swapped["table"]] == written()
        assert int(swapped["table"][0][captions.TOKENS]) > int(first[0][captions.TOKENS])
        assert act("undo", "click", swapped["rows"], swapped["undone"], "mine", model)["table"] == typed["rows"]
        assert written() == ["a cat, red, picture 0", "a dog"]
        both = [[*first[0][:-1], "a cat, red\na red cat"], first[1]]  # two captions of one picture
        both = act("table", "input", both, first, "mine", model)["rows"]
        act("swap", "click", both, "mine", model, "red", "blue")
        assert written()[0] == "a cat, blue\na blue cat"
        with pytest.raises(gr.Error, match="no caption has .*a bicycle"):
            act("swap", "click", typed["rows"], "mine", model, "a bicycle", "")
    finally:
        studio.close()


def test_a_page_that_comes_back_shows_the_run_that_works_or_else_the_newest(tmp_path, sd_folder):
    studio = Studio(load(["--data-dir", str(tmp_path / "data"), "--model", str(sd_folder)], {}))

    def begun(name: str, at: int) -> RunFolder:
        studio.runs.prepare(make(TrainLora, model="m", data="d", output="o", name=name))
        folder = RunFolder(studio.runs.card(name).folder)
        os.utime(folder.config_file, (at, at))
        return folder

    try:
        old = begun("old", 1)
        page = SimpleNamespace(remembered={}, returning=[])
        with gr.Blocks():
            page.model = gr.Dropdown([card.name for card in studio.collection.cards()])
            form = knobs.build(studio, page)
            run, made = watch.build(studio), weights.build()
            watch.wire(studio, page, run, made, form.message)
        back = page.returning[-1][0]
        assert run.run.value == "old"
        begun("new", 2)  # after the page was built, as by somebody else
        assert back()[run.run].value == "new"
        with owned(old):
            shown = back()
            assert shown[run.run].value == "old" and shown[run.status].startswith("Starting")
    finally:
        studio.close()


def test_visitors_can_call_nothing_of_training_unless_the_owner_lets_them(tmp_path, sd_folder):
    def ids(*flags: str) -> set[str]:
        studio = Studio(load(["--data-dir", str(tmp_path / str(len(flags))), "--model", str(sd_folder), *flags], {}))
        try:
            demo = shell.build(studio)
        finally:
            studio.close()
        return {block.elem_id for block in demo.blocks.values() if str(block.elem_id).startswith("train-")}

    public = ("--host", "0.0.0.0", "--auth", "ann:a good password 1")
    assert ids(*public) == {"train-refused"}
    assert {"train-start", "train-shared"} <= ids(*public, "--guests-may-train")
    assert "train-shared" not in ids()


def test_why_a_picture_is_left_out_is_told_in_the_language_of_the_page(monkeypatch):
    monkeypatch.setattr(language, "current", lambda: "de")
    for reason, told in [("animated: its first frame is used", "animiert: das erste Einzelbild zählt"),
                         ("the header of this PNG file is damaged or incomplete",
                          "der Kopf dieser PNG-Datei ist beschädigt oder unvollständig"), ("nobody's words",) * 2]:
        assert language.said_reason(reason) == told
