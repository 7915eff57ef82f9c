"""What a request leaves open becomes what the model likes, before anything is queued; no model is loaded for it."""

from __future__ import annotations

import pytest
from PIL import Image

from pipelines.errors import RequestError
from pipelines.requests import Img2Img, Txt2Img, Upscale, make
from pipelines.settings import load
from pipelines.studio.studio import Studio


@pytest.fixture(scope="module")
def studio(tmp_path_factory, sd_folder):
    studio = Studio(load(["--data-dir", str(tmp_path_factory.mktemp("data")), "--model", str(sd_folder)], {}))
    yield studio
    studio.close()


@pytest.fixture
def resolver(studio):
    return studio.resolver


@pytest.fixture(scope="module")
def wide(studio):
    return studio.images.add(Image.new("RGB", (256, 64), "red")).id


def test_what_is_left_open_becomes_what_the_model_likes(resolver):
    concrete, liked = resolver.resolve(make(Txt2Img, prompt="a cat")), resolver.defaults()
    assert {name: getattr(concrete, name) for name in liked} == liked and None not in liked.values()
    assert concrete.model == resolver.collection.card(None).name and 0 <= concrete.seed < 2**32


def test_what_was_asked_for_stays(resolver):
    asked = dict(prompt="a cat", steps=3, width=128, height=72, seed=0, sampler="Heun", guidance_scale=1.5)
    concrete = resolver.resolve(make(Txt2Img, **asked))
    assert {name: getattr(concrete, name) for name in asked} == asked


def test_a_variation_seed_is_drawn_for_varied_pictures_only(resolver):
    assert resolver.resolve(make(Txt2Img, prompt="a cat")).variation_seed == -1
    assert resolver.resolve(make(Txt2Img, prompt="a cat", variation_strength=0.1)).variation_seed >= 0


def test_a_picture_is_drawn_at_the_models_area_or_its_own_size(studio, resolver, wide):
    square = studio.images.add(Image.new("RGB", (640, 640), "blue")).id
    fitted = resolver.resolve(make(Img2Img, prompt="a cat", image=square))
    assert fitted.width == fitted.height == resolver.defaults()["width"]
    fitted = resolver.resolve(make(Img2Img, prompt="a cat", image=wide))
    assert fitted.width > fitted.height
    kept = resolver.resolve(make(Img2Img, prompt="a cat", image=wide, resize_mode="keep"))
    assert (kept.width, kept.height) == (256, 64)


def test_an_upscaled_picture_fits_into_the_side_that_was_asked_for(resolver, wide):
    assert resolver.scale_of(make(Upscale, image=wide, width=512)) == 2
    assert resolver.scale_of(make(Upscale, image=wide, width=1024, height=128)) == 2
    with pytest.raises(RequestError, match=r"Scale: 0\.5 is not possible") as refused:
        resolver.scale_of(make(Upscale, image=wide, width=128))
    assert refused.value.field == "scale"


@pytest.mark.parametrize(("changes", "field"), [
    ({"width": 2048, "height": 2048, "batch_size": 8}, "batch_size"),
    ({"width": 2048, "height": 512, "hires_scale": 4}, "hires_scale"),
], ids=["batch_size", "hires_scale"])
def test_what_cannot_run_is_refused_with_its_field(resolver, changes, field):
    with pytest.raises(RequestError) as refused:
        resolver.resolve(make(Txt2Img, prompt="a cat", **changes))
    assert refused.value.field == field


def test_a_request_without_its_picture_is_refused(resolver):
    with pytest.raises(RequestError, match="Picture: none was given"):
        resolver.resolve(make(Img2Img, prompt="a cat"))
