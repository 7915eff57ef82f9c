import json

import pytest

from pipelines.metadata import parse_any, read_any
from pipelines.requests import Txt2Img, make

from .pictures import png, with_exif

BASIC = {
    "3": ("KSampler", {"seed": 156680208, "steps": 20, "cfg": 8, "sampler_name": "dpmpp_2m", "scheduler": "karras",
                       "denoise": 1, "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0],
                       "latent_image": ["5", 0]}),
    "4": ("CheckpointLoaderSimple", {"ckpt_name": "sd15/v1-5-pruned.safetensors"}),
    "5": ("EmptyLatentImage", {"width": 512, "height": 768, "batch_size": 1}),
    "6": ("CLIPTextEncode", {"text": "a cat", "clip": ["4", 1]}),
    "7": ("CLIPTextEncode", {"text": "dog", "clip": ["4", 1]}),
    "8": ("VAEDecode", {"samples": ["3", 0], "vae": ["4", 2]}),
    "9": ("SaveImage", {"filename_prefix": "ComfyUI", "images": ["8", 0]})}
FIELDS = {"prompt": "a cat", "negative_prompt": "dog", "clip_skip": 1, "steps": 20, "sampler": "DPM++ 2M",
          "schedule": "Karras", "guidance_scale": 8.0, "seed": 156680208, "width": 512, "height": 768,
          "model": "v1-5-pruned"}


def graph(*changes):
    nodes = {key: (kind, dict(inputs)) for key, (kind, inputs) in BASIC.items()}
    for change in changes:
        for key, value in change.items():
            if isinstance(value, dict):
                nodes[key][1].update(value)
            else:
                nodes[key] = value
    return {key: {"class_type": kind, "inputs": inputs} for key, (kind, inputs) in nodes.items()}


def found(*changes):
    result = parse_any(json.dumps(graph(*changes)))
    assert result.tool == "ComfyUI"
    return result.parsed


def test_the_basic_graph_is_understood(tmp_path):
    result = read_any(png(tmp_path / "x.png", {"prompt": graph(), "workflow": {"nodes": [], "links": []}}))
    assert result.tool == "ComfyUI" and result.parsed.fields == FIELDS and result.parsed.notes == ()
    assert result.parsed.unknown == {"EmptyLatentImage 5": '{"batch_size": 1}',
                                     "SaveImage 9": '{"filename_prefix": "ComfyUI"}'}
    assert make(Txt2Img, **result.parsed.for_task(Txt2Img)).steps == 20


def test_the_graph_in_the_tags_of_a_webp_file_is_found(tmp_path):
    tags = {0x0110: "prompt:" + json.dumps(graph()), 0x010f: "workflow:" + json.dumps({"nodes": [], "links": []})}
    assert read_any(with_exif(tmp_path / "x.webp", tags)).parsed.fields == FIELDS


def test_an_exported_request_is_understood():
    assert parse_any(json.dumps({"client_id": "x", "prompt": graph()})).parsed.fields == FIELDS


def test_a_text_of_a_saving_node_comes_before_the_graph(tmp_path):
    text = "a dog\nSteps: 5, Sampler: euler, Seed: 1, Version: ComfyUI"
    result = read_any(png(tmp_path / "x.png", {"parameters": text, "prompt": graph()}))
    assert result.tool == "ComfyUI" and result.parsed.fields["prompt"] == "a dog"


def test_the_advanced_sampler_says_its_seed_in_other_words():
    inputs = {"add_noise": "enable", "noise_seed": 7, "steps": 25, "cfg": 6.5, "sampler_name": "euler_ancestral",
              "scheduler": "normal", "start_at_step": 0, "end_at_step": 10000, "return_with_leftover_noise": "disable",
              "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0]}
    parsed = found({"3": ("KSamplerAdvanced", inputs)})
    assert parsed.fields == {**FIELDS, "seed": 7, "steps": 25, "guidance_scale": 6.5, "sampler": "Euler a",
                             "schedule": "Normal"}
    assert "end_at_step" in parsed.unknown["KSamplerAdvanced 3"]


def test_a_sampler_made_of_parts_is_put_together():
    parsed = found({
        "3": ("SamplerCustomAdvanced", {"noise": ["20", 0], "guider": ["21", 0], "sampler": ["22", 0],
                                        "sigmas": ["24", 0], "latent_image": ["5", 0]}),
        "20": ("RandomNoise", {"noise_seed": 99}),
        "21": ("CFGGuider", {"model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "cfg": 4}),
        "22": ("KSamplerSelect", {"sampler_name": "heun"}),
        "23": ("BasicScheduler", {"model": ["4", 0], "scheduler": "beta", "steps": 12, "denoise": 1}),
        "24": ("SplitSigmas", {"sigmas": ["23", 0], "step": 0})})
    assert parsed.fields == {**FIELDS, "seed": 99, "guidance_scale": 4.0, "sampler": "Heun", "schedule": "beta",
                             "steps": 12}


def test_samplers_and_schedules_that_are_nodes_are_known_by_their_kind():
    parsed = found({
        "3": ("SamplerCustom", {"add_noise": True, "noise_seed": 5, "cfg": 8, "model": ["4", 0], "positive": ["6", 0],
                                "negative": ["7", 0], "sampler": ["22", 0], "sigmas": ["23", 0],
                                "latent_image": ["5", 0]}),
        "22": ("SamplerDPMPP_2M_SDE", {"solver_type": "midpoint", "eta": 1, "s_noise": 1}),
        "23": ("KarrasScheduler", {"steps": 20, "sigma_max": 14.6, "sigma_min": 0.03, "rho": 7})})
    assert parsed.fields == {**FIELDS, "seed": 5, "sampler": "DPM++ 2M SDE"}
    assert "rho" in parsed.unknown["KarrasScheduler 23"]


def test_a_guider_without_a_negative_prompt_has_none():
    parsed = found({
        "3": ("SamplerCustomAdvanced", {"guider": ["21", 0], "sigmas": ["23", 0], "latent_image": ["5", 0]}),
        "21": ("BasicGuider", {"model": ["4", 0], "conditioning": ["25", 0]}),
        "23": ("BasicScheduler", {"model": ["4", 0], "scheduler": "simple", "steps": 4, "denoise": 1}),
        "25": ("FluxGuidance", {"conditioning": ["6", 0], "guidance": 3.5})})
    assert (parsed.fields["prompt"], parsed.fields["negative_prompt"]) == ("a cat", "")
    assert parsed.fields["schedule"] == "Simple" and parsed.unknown["FluxGuidance 25"] == '{"guidance": 3.5}'


def test_loras_become_tags_in_the_order_they_are_applied():
    parsed = found({
        "3": {"model": ["11", 0]}, "6": {"clip": ["11", 1]}, "7": {"clip": ["12", 0]},
        "10": ("LoraLoader", {"lora_name": "style\\ink.safetensors", "strength_model": 0.8, "strength_clip": 0.6,
                              "model": ["4", 0], "clip": ["4", 1]}),
        "11": ("LoraLoader", {"lora_name": "detail.pt", "strength_model": 1, "strength_clip": 1.0, "model": ["13", 0],
                              "clip": ["12", 0]}),
        "12": ("CLIPSetLastLayer", {"stop_at_clip_layer": -2, "clip": ["10", 1]}),
        "13": ("LoraLoaderModelOnly", {"lora_name": "only.safetensors", "strength_model": 0.5, "model": ["10", 0]})})
    assert parsed.fields == {**FIELDS, "prompt": "a cat <lora:ink:0.6:0.8> <lora:only:0.5> <lora:detail:1>",
                             "clip_skip": 2}


def test_stacks_of_loras_and_rescaled_guidance_are_read():
    parsed = found({
        "3": {"model": ["11", 0]},
        "10": ("Power Lora Loader (rgthree)", {
            "PowerLoraLoaderHeaderWidget": {"type": "x"},
            "lora_1": {"on": True, "lora": "a.safetensors", "strength": 0.7},
            "lora_2": {"on": False, "lora": "b.safetensors", "strength": 1}, "model": ["14", 0]}),
        "11": ("RescaleCFG", {"multiplier": 0.7, "model": ["10", 0]}),
        "14": ("Lora Loader Stack (rgthree)", {"lora_01": "c.safetensors", "strength_01": 0.25, "lora_02": "None",
                                               "strength_02": 1, "model": ["4", 0]})})
    assert parsed.fields["prompt"] == "a cat <lora:c:0.25> <lora:a:0.7>" and parsed.fields["guidance_rescale"] == 0.7


def test_texts_are_fetched_through_nodes_that_hold_join_and_show_them():
    parsed = found({
        "6": {"text": ["30", 0]}, "7": {"text": ["34", 0]},
        "30": ("ShowText|pysssssss", {"text": ["31", 0], "text_0": "shown before"}),
        "31": ("StringConcatenate", {"string_a": ["32", 0], "string_b": ["33", 0], "delimiter": ", "}),
        "32": ("PrimitiveString", {"value": "a cat"}),
        "33": ("ImpactWildcardProcessor", {"wildcard_text": "__hat__", "populated_text": "red hat", "seed": 1}),
        "34": ("Text Concatenate", {"delimiter": " ", "clean": "true", "text_a": "bad", "text_b": ["35", 0]}),
        "35": ("Reroute", {"": ["36", 0]}), "36": ("String Literal", {"string": "hands"})})
    assert (parsed.fields["prompt"], parsed.fields["negative_prompt"]) == ("a cat, red hat", "bad hands")


def test_numbers_are_fetched_from_the_nodes_that_hold_them():
    parsed = found({
        "3": {"seed": ["40", 0], "steps": ["41", 0], "cfg": ["42", 0], "sampler_name": ["43", 0]},
        "5": {"width": ["44", 0]},
        "40": ("Seed (rgthree)", {"seed": 77}), "41": ("PrimitiveInt", {"value": 33}),
        "42": ("Reroute", {"": ["45", 0]}),
        "43": ("Sampler Selector", {"sampler_name": "ddim"}), "44": ("INT", {"Number": "640"}),
        "45": ("FloatConstant", {"value": 3.25})})
    fields = parsed.fields
    assert (fields["seed"], fields["steps"], fields["guidance_scale"], fields["width"]) == (77, 33, 3.25, 640)
    assert (fields["sampler"], fields["schedule"]) == ("DDIM", "Karras")
    assert not parsed.notes


def test_conditioning_is_followed_through_control_and_combinations():
    parsed = found({
        "3": {"positive": ["50", 0], "negative": ["50", 1]},
        "50": ("ControlNetApplyAdvanced", {"strength": 1, "positive": ["51", 0], "negative": ["7", 0],
                                           "control_net": ["53", 0], "image": ["54", 0]}),
        "51": ("ConditioningCombine", {"conditioning_1": ["6", 0], "conditioning_2": ["52", 0]}),
        "52": ("CLIPTextEncodeSDXL", {"width": 1024, "height": 1024, "text_g": "garden", "text_l": "garden",
                                      "clip": ["4", 1]}),
        "53": ("ControlNetLoader", {"control_net_name": "canny"}), "54": ("LoadImage", {"image": "x.png"})})
    assert (parsed.fields["prompt"], parsed.fields["negative_prompt"]) == ("a cat, garden", "dog")
    assert parsed.notes == ("The positive prompt is put together from 2 in the graph; they were joined.",)
    assert (parsed.fields["width"], parsed.fields["height"]) == (512, 768)


def test_a_negative_prompt_of_zeros_is_empty():
    parsed = found({"3": {"negative": ["60", 0]}, "60": ("ConditioningZeroOut", {"conditioning": ["6", 0]})})
    assert parsed.fields["negative_prompt"] == ""


def test_image_to_image_has_a_strength_and_no_size():
    parsed = found({"3": {"latent_image": ["5", 0], "denoise": 0.55},
                    "5": ("VAEEncode", {"pixels": ["70", 0], "vae": ["4", 2]}),
                    "70": ("LoadImage", {"image": "in.png", "upload": "image"})})
    assert parsed.fields["strength"] == 0.55 and "width" not in parsed.fields
    assert parsed.unknown["LoadImage 70"] == '{"image": "in.png", "upload": "image"}'


def second(**inputs):
    return ("KSampler", {"seed": 1, "steps": 14, "cfg": 8, "sampler_name": "dpmpp_2m", "scheduler": "karras",
                         "denoise": 0.5, "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], **inputs})


@pytest.mark.parametrize("enlarger", [
    ("LatentUpscaleBy", {"upscale_method": "nearest-exact", "scale_by": 1.5, "samples": ["3", 0]}),
    ("LatentUpscale", {"upscale_method": "nearest-exact", "width": 768, "height": 1152, "crop": "disabled",
                       "samples": ["3", 0]})])
def test_a_second_pass_behind_an_enlarger_is_hires_fix(enlarger):
    parsed = found({"80": enlarger, "81": second(latent_image=["80", 0]), "8": {"samples": ["81", 0]}})
    assert parsed.fields == {**FIELDS, "hires_scale": 1.5, "hires_upscaler": "Latent (nearest)", "hires_steps": 14,
                             "hires_strength": 0.5, "strength": 0.5}
    assert parsed.notes == ()


def test_a_second_pass_through_pixels_is_hires_fix_with_another_enlarger():
    parsed = found({"8": {"samples": ["81", 0]}, "79": ("VAEDecode", {"samples": ["3", 0], "vae": ["4", 2]}),
                    "80": ("ImageScaleBy", {"upscale_method": "lanczos", "scale_by": 2, "image": ["79", 0]}),
                    "82": ("VAEEncode", {"pixels": ["80", 0], "vae": ["4", 2]}),
                    "81": second(latent_image=["82", 0], sampler_name="euler")})
    assert parsed.fields["hires_scale"] == 2.0 and parsed.fields["hires_upscaler"] == "Lanczos"
    assert parsed.fields["hires_sampler"] == "Euler" and parsed.fields["sampler"] == "DPM++ 2M"


@pytest.mark.parametrize("width", ["1" * 5_000, "0", 10**20, -1, "x"])
def test_a_width_that_cannot_be_is_no_scale(width):
    parsed = found({"5": ("EmptyLatentImage", {"width": width, "height": 768, "batch_size": 1}),
                    "80": ("LatentUpscale", {"width": 768, "height": 1152, "upscale_method": "bilinear",
                                             "samples": ["3", 0]}),
                    "81": second(latent_image=["80", 0]), "8": {"samples": ["81", 0]}})
    assert "hires_scale" not in parsed.fields and "width" not in parsed.fields


def test_a_second_pass_of_another_kind_is_told():
    parsed = found({"81": second(latent_image=["3", 0]), "8": {"samples": ["81", 0]}})
    assert parsed.fields == FIELDS
    assert parsed.notes == ("The picture went through 2 passes; only the first was read.",)
    assert "KSampler 81" in parsed.unknown


def test_the_saved_picture_is_read_and_not_a_preview_of_another():
    parsed = found({"90": second(latent_image=["5", 0]), "91": ("VAEDecode", {"samples": ["90", 0]}),
                    "1": ("PreviewImage", {"images": ["91", 0]})})
    assert parsed.fields["steps"] == 20 and "KSampler 90" in parsed.unknown


def test_a_graph_without_a_sampler_is_listed():
    parsed = parse_any(json.dumps({"1": {"class_type": "Odd", "inputs": {"text": "a cat"}}})).parsed
    assert parsed.unknown == {"Odd 1": '{"text": "a cat"}'} and "no sampler" in parsed.notes[0]


def test_an_editors_workflow_alone_is_listed(tmp_path):
    workflow = {"nodes": [{"id": 3, "type": "KSampler", "widgets_values": [5, "fixed", 20]}], "links": []}
    result = read_any(png(tmp_path / "x.png", {"workflow": workflow}))
    assert result.tool == "ComfyUI" and result.parsed.unknown == {"KSampler 3": '[5, "fixed", 20]'}
    assert "drawing" in result.parsed.notes[0]
