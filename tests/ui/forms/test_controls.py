"""From a request's fields to controls: nothing that a field declares is said twice."""

from __future__ import annotations

import gradio as gr
import pytest

from pipelines.images.geometry import fitting_size
from pipelines.requests import TASKS, Inpaint, Txt2Img
from ui.forms.controls import aspect_of, preset_size
from ui.forms.fields import bounds, choices_of, make_control


def control(cls, name, value=None):
    return make_control(cls.model_fields[name], name, name, value)


def test_label_bounds_step_and_help_come_from_the_field():
    slider = control(Txt2Img, "steps", 20)
    info = Txt2Img.model_fields["steps"]
    assert isinstance(slider, gr.Slider)
    assert (slider.label, slider.info) == (info.title, info.description)
    assert (slider.minimum, slider.maximum, slider.step, slider.value) == (1, 150, 1, 20)


def test_a_bound_that_is_itself_excluded_moves_up_by_one_step():
    assert bounds(Inpaint.model_fields["strength"]) == (0.01, 1)


def test_named_choices_become_a_list():
    assert choices_of(Inpaint.model_fields["inpaint_area"]) == ["Whole picture", "Only masked"]
    assert "Euler a" in choices_of(Txt2Img.model_fields["sampler"])


def test_a_seed_is_text_because_a_number_of_the_browser_loses_digits_above_2_to_the_53():
    seed = control(Txt2Img, "seed", -1)
    assert isinstance(seed, gr.Textbox) and seed.value == "-1"
    assert seed.preprocess(str(2**64 - 1)) == seed.postprocess(2**64 - 1) == "18446744073709551615"


def test_yes_and_no_become_a_checkbox():
    assert isinstance(control(Inpaint, "mask_invert", False), gr.Checkbox)


def test_a_choice_that_may_stay_open_offers_that_first():
    later = control(Txt2Img, "hires_sampler")
    assert later.value == "" and later.choices[0][1] == ""


@pytest.mark.parametrize("task", TASKS)
def test_every_field_of_every_request_has_help(task):
    missing = [name for name, info in TASKS[task].model_fields.items() if not info.description or not info.title]
    assert missing == []


@pytest.mark.parametrize(("native", "portrait"), [(128, (112, 144)), (512, (448, 576)), (1024, (896, 1152))])
def test_presets_keep_the_models_area_in_sizes_that_can_be_asked_for(native, portrait):
    assert preset_size(native, 1) == (native, native)
    assert preset_size(native, 3 / 4) == portrait
    assert preset_size(native, 4 / 3) == portrait[::-1]


@pytest.mark.parametrize(("size", "fitted"), [((128, 128), (128, 128)), ((4000, 3000), (144, 112)),
                                              ((3000, 10), (2048, 64)), ((1, 1), (128, 128))])
def test_a_pictures_shape_is_brought_to_the_models_area(size, fitted):
    assert fitting_size(128, *size) == fitted


@pytest.mark.parametrize(("size", "words"), [((512, 512), "1:1 · 0.26 MP"), ((768, 512), "3:2 · 0.39 MP"),
                                             ((1016, 8), "127.00:1 · 0.01 MP")])
def test_a_size_is_said_in_words(size, words):
    assert aspect_of(*size) == words


def test_every_number_of_a_training_run_has_a_control_for_numbers():
    from pipelines.training.request import TrainLora

    for name, info in TrainLora.model_fields.items():
        if info.annotation in (int, float):
            control = make_control(info, name, f"x-{name}", info.default)
            assert control.get_block_name() in ("slider", "number"), name
