"""A reader by other people, sd-parsers, finds in our pictures what we wrote."""

import pytest
from PIL import Image
from sd_parsers import ParserManager
from sd_parsers.data import Generators

from pipelines.metadata import infotext, save
from pipelines.requests import Inpaint, Txt2Img, make

CONCRETE = {"prompt": "a red apple,\nwhite background", "negative_prompt": "blurry, (bad hands:1.4)",
            "sampler": "DPM++ 2M", "schedule": "Karras", "steps": 28, "guidance_scale": 7.5, "width": 512,
            "height": 768, "seed": 3172948283, "model": "tiny"}


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.webp"])
@pytest.mark.parametrize("request_", [
    make(Txt2Img, **CONCRETE),
    make(Txt2Img, clip_skip=2, hires_scale=1.5, hires_prompt="b: c, d", tiling="x", **CONCRETE),
    make(Inpaint, mask_invert=True, inpaint_area="Only masked", resize_mode="fill", **CONCRETE)])
def test_sd_parsers_reads_what_we_write(tmp_path, name, request_):
    save(Image.new("RGB", (8, 8)), tmp_path / name, infotext(request_, extra={"Model hash": "0123456789"}))
    info = ParserManager().parse(tmp_path / name)
    assert info is not None and info.generator is Generators.AUTOMATIC1111
    (sampler,) = info.samplers
    assert [str(prompt) for prompt in sampler.prompts] == [request_.prompt]
    assert [str(prompt) for prompt in sampler.negative_prompts] == [request_.negative_prompt]
    assert (sampler.name, sampler.model.name, sampler.model.hash) == ("DPM++ 2M", "tiny", "0123456789")
    assert sampler.parameters == {"steps": "28", "scheduler": "Karras", "cfg_scale": "7.5", "seed": "3172948283"}
    assert info.metadata["Size"] == "512x768"
