"""SwarmUI's object, and what InvokeAI says of a second pass and of a second text encoder."""

import json

import pytest
from PIL import ExifTags

from pipelines.metadata import parse_any, read_any

from .pictures import png, with_exif
from .test_foreign import INVOKEAI

PARAMS = {"prompt": "a paper boat", "negativeprompt": "blur", "model": "toy/toyModel", "seed": 4711, "steps": 21,
          "cfgscale": 6.5, "aspectratio": "Custom", "width": 192, "height": 128, "sampler": "dpmpp_2m",
          "scheduler": "karras", "loras": ["a/inky"], "loraweights": ["0.7"], "swarm_version": "0.9.6.2"}
FIELDS = {"prompt": "a paper boat <lora:inky:0.7>", "negative_prompt": "blur", "model": "toyModel", "seed": 4711,
          "steps": 21, "guidance_scale": 6.5, "width": 192, "height": 128, "sampler": "DPM++ 2M", "schedule": "Karras",
          "clip_skip": 1}
BESIDE = {"sui_extra_data": {"date": "2026-01-02"}, "sui_models": [
    {"name": "toy/toyModel.safetensors", "param": "model", "hash": "0xabcdef0123"}]}


def parsed(**changes):
    found = parse_any(json.dumps({"sui_image_params": {**PARAMS, **changes}, **BESIDE}))
    assert found.tool == "SwarmUI"
    return found.parsed


def test_swarmuis_object_is_understood_in_a_png_and_in_exif(tmp_path):
    data = {"sui_image_params": PARAMS, **BESIDE}
    raw = b"UNICODE\0" + json.dumps(data).encode("utf-16-be")
    for path in (png(tmp_path / "x.png", {"parameters": data}),
                 with_exif(tmp_path / "x.jpg", {}, {ExifTags.Base.UserComment: raw})):
        found = read_any(path)
        assert found.tool == "SwarmUI" and found.parsed.fields == FIELDS and found.parsed.notes == ()
        assert found.parsed.unknown == {
            "aspectratio": "Custom", "swarm_version": "0.9.6.2", "Model hash": "abcdef0123",
            **{key: json.dumps(value) for key, value in BESIDE.items()}}


@pytest.mark.parametrize(("changes", "fields"), [
    ({"loras": "a/inky,b", "loraweights": "0.7,1", "loratencweights": "0.5,1"}, {
        "prompt": "a paper boat <lora:inky:0.5:0.7> <lora:b:1>"}),
    ({"loras": ["inky"], "loraweights": None}, {"prompt": "a paper boat <lora:inky:1>"}),
    ({"initimagecreativity": 0.5}, {"strength": 0.5, "hires_strength": 0.5}),
    ({"clipstopatlayer": -2, "vae": "x/soft.safetensors", "seamlesstileable": "X-Only"}, {
        "clip_skip": 2, "vae": "soft", "tiling": "x"}),
    ({"variationseed": 5, "variationseedstrength": 0.25}, {"variation_seed": 5, "variation_strength": 0.25}),
    ({"refinerupscale": 1.5, "refinercontrolpercentage": 0.3, "refinerupscalemethod": "latent-bilinear",
      "refinersteps": 9}, {"hires_scale": 1.5, "strength": 0.3, "hires_strength": 0.3, "hires_steps": 9,
                           "hires_upscaler": "Latent"}),
    ({"refinerupscale": 2, "refinerupscalemethod": "model-4x-Big.pth"}, {
        "hires_scale": 2.0, "hires_upscaler": "4x-Big"}),
    ({"prompt": "a [b] <embed:x/ink.pt> <segment:face>"}, {"prompt": "a \\[b\\] ink <segment:face> <lora:inky:0.7>"})])
def test_swarmuis_variants_are_understood(changes, fields):
    assert parsed(**changes).fields == {**FIELDS, **fields}


def test_what_swarmui_says_and_is_not_used_is_listed():
    found = parsed(refinercontrolpercentage=0.3, refinermodel="xl", freeublockone=1.1, loras=["a<b", "inky"],
                   loraweights=["1", "0.7"])
    assert found.fields == FIELDS
    assert found.unknown.keys() >= {"refinercontrolpercentage", "refinermodel", "freeublockone", "loras", "loraweights"}
    assert any(note.startswith("refinermodel (xl): A second model") for note in found.notes)


@pytest.mark.parametrize(("base", "size", "first", "scale"), [
    ("sd-1", (1024, 1024), (512, 512), 2.0), ("sdxl", (1536, 1536), (1024, 1024), 1.5),
    ("sd-1", (768, 1152), (416, 624), 1.8462)])
def test_the_high_resolution_fix_of_invokeai_is_taken_over(base, size, first, scale):
    data = {**INVOKEAI, "width": size[0], "height": size[1], "model": {"name": "toy", "base": base},
            "hrf_enabled": True, "hrf_method": "bilinear", "hrf_strength": 0.45}
    found = parse_any(json.dumps(data)).parsed
    fields = found.fields
    assert (fields["width"], fields["height"], fields["hires_scale"]) == (*first, scale)
    assert (fields["hires_strength"], fields["hires_upscaler"]) == (0.45, "Latent") and not found.notes


def test_a_fix_that_changes_nothing_is_told_and_listed():
    found = parse_any(json.dumps({**INVOKEAI, "width": 256, "height": 256, "hrf_enabled": True, "hrf_strength": 0.45}))
    assert "hires_scale" not in found.parsed.fields and found.parsed.fields["width"] == 256
    assert "high-resolution fix" in found.parsed.notes[0] and found.parsed.unknown["hrf_strength"] == "0.45"


def test_invokeais_style_prompts_are_appended_and_told():
    said = {"positive_style_prompt": "comic", "negative_style_prompt": "", "positive_prompt": "a [b] <ink>"}
    found = parse_any(json.dumps({**INVOKEAI, **said, "loras": [], "vae": {"name": "soft"}, "clip_skip": "x"})).parsed
    assert found.fields["prompt"] == "a \\[b\\] ink, comic" and found.fields["vae"] == "soft"
    assert "'comic' was appended" in found.notes[0] and found.unknown["clip_skip"] == "x"
