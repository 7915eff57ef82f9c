"""How long pictures will take, told from how long the last one took."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines import metadata
from pipelines.events import Record
from pipelines.requests import Txt2Img, changed, make
from pipelines.studio import forecast

MADE = make(Txt2Img, prompt="a cat", sampler="Euler", schedule="Automatic", steps=20, guidance_scale=5.0, width=64,
            height=64, seed=1, model="tiny")


def record(request, seconds):
    return Record(Path("00001-1.png"), metadata.infotext(request), 1, 64, 64, "txt2img", seconds)


@pytest.mark.parametrize(("values", "seconds"), [
    ({}, 10), ({"steps": 40}, 20), ({"width": 128}, 20), ({"guidance_scale": 1.0}, 5), ({"batch_count": 3}, 30),
    ({"sampler": "Heun"}, 19.5), ({"sampler": "PLMS"}, 10.5), ({"hires_scale": 2.0, "hires_strength": 0.5}, 30),
    ({"hires_scale": 2.0, "hires_strength": 0.5, "hires_sampler": "DPM2"}, 49)])
def test_time_grows_with_the_calls_of_the_model_and_the_pixels(values, seconds):
    assert forecast.seconds([changed(MADE, **values)], [record(MADE, 10.0)]) == pytest.approx(seconds)


def test_nothing_is_told_where_nothing_was_made():
    assert forecast.seconds([MADE], []) is None
