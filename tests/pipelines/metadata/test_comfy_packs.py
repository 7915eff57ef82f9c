"""ComfyUI's graphs with the loaders, stacks, pipes, switches and encoders of other people's packs of nodes."""

import json

import pytest

from pipelines.metadata import parse_any

from .test_comfyui import FIELDS, found, second

SAMPLER = {"seed": 156680208, "steps": 20, "cfg": 8, "sampler_name": "dpmpp_2m", "scheduler": "karras", "denoise": 1}
LOADER = {"ckpt_name": "sd15/v1-5-pruned.safetensors", "vae_name": "Baked VAE", "clip_skip": -2, "lora_name": "None",
          "lora_model_strength": 1, "lora_clip_strength": 1, "positive": "a cat", "negative": "dog",
          "empty_latent_width": 512, "empty_latent_height": 768, "batch_size": 1}
SAVE = {"class_type": "SaveImage", "inputs": {"images": ["k", 0]}}


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


def read(nodes):
    return parse_any(json.dumps(nodes)).parsed


def efficient(**more):
    return {"1": node("Efficient Loader", **{**LOADER, **more}), "s": SAVE,
            "k": node("KSampler (Efficient)", **SAMPLER, model=["1", 0], positive=["1", 1], negative=["1", 2],
                      latent_image=["1", 3])}


# LoRAs

def test_a_loader_with_everything_is_read_and_what_is_left_is_listed():
    parsed = read(efficient(lora_name="sub/ink.safetensors", lora_model_strength=0.7, lora_clip_strength=0.6))
    assert parsed.fields == {**FIELDS, "clip_skip": 2, "prompt": "a cat <lora:ink:0.6:0.7>"}
    assert parsed.unknown == {"Efficient Loader 1": '{"batch_size": 1}'}


STACKS = [
    ("LoRA Stacker", {"input_mode": "simple", "lora_count": 2, "lora_name_1": "a.pt", "lora_wt_1": 0.7,
                      "model_str_1": 1, "clip_str_1": 1, "lora_name_2": "b.pt", "lora_wt_2": 0.4, "model_str_2": 1,
                      "clip_str_2": 1, "lora_name_3": "c.pt", "lora_wt_3": 1}, "<lora:a:0.7> <lora:b:0.4>"),
    ("LoRA Stacker", {"input_mode": "advanced", "lora_count": 1, "lora_name_1": "a.pt", "lora_wt_1": 1,
                      "model_str_1": 0.7, "clip_str_1": 0.5}, "<lora:a:0.5:0.7>"),
    ("easy loraStack", {"toggle": True, "mode": "simple", "num_loras": 1, "lora_1_name": "a.pt", "lora_1_strength": 0.7,
                        "lora_1_model_strength": 1, "lora_1_clip_strength": 1}, "<lora:a:0.7>"),
    ("easy loraStack", {"toggle": False, "mode": "simple", "num_loras": 1, "lora_1_name": "a.pt",
                        "lora_1_strength": 0.7}, ""),
    ("CR LoRA Stack", {"switch_1": "On", "lora_name_1": "a.pt", "model_weight_1": 0.7, "clip_weight_1": 0.5,
                       "switch_2": "Off", "lora_name_2": "b.pt", "model_weight_2": 1, "clip_weight_2": 1},
     "<lora:a:0.5:0.7>"),
    ("Lora Stacker (LoraManager)", {"text": "<lora:a:0.7>", "loras": {"__value__": [
        {"name": "a", "strength": "0.7", "clipStrength": "0.5", "active": True},
        {"name": "b", "strength": 1, "active": False}]}}, "<lora:a:0.5:0.7>")]


@pytest.mark.parametrize(("kind", "inputs", "tags"), STACKS)
def test_stacks_of_loras_are_applied_by_the_node_that_takes_them(kind, inputs, tags):
    stack = (kind, inputs)
    wanted = f"a cat {tags}".strip()
    assert found({"3": {"model": ["L", 0]}, "S": stack, "L": ("CR Apply LoRA Stack", {
        "model": ["4", 0], "clip": ["4", 1], "lora_stack": ["S", 0]})}).fields["prompt"] == wanted
    parsed = read({**efficient(lora_stack=["S", 0]), "S": node(kind, **inputs)})
    assert parsed.fields["prompt"] == wanted
    if "3" in "".join(inputs):
        assert '"lora_name_3": "c.pt"' in parsed.unknown[f"{kind} S"]
    if not tags:
        assert '"lora_1_name": "a.pt"' in parsed.unknown[f"{kind} S"]


@pytest.mark.parametrize(("kind", "inputs", "tag"), [
    ("LoraLoader|pysssss", {"lora_name": {"content": "a.pt", "image": None}, "strength_model": 1, "strength_clip": 1},
     "<lora:a:1>"),
    ("Power Lora Loader (rgthree)", {"lora_1": {"on": True, "lora": "a.pt", "strength": 0.7, "strengthTwo": 0.5}},
     "<lora:a:0.5:0.7>"),
    ("CR Load LoRA", {"switch": "On", "lora_name": "a.pt", "strength_model": 0.7, "strength_clip": 0.5},
     "<lora:a:0.5:0.7>"),
    ("CR Load LoRA", {"switch": "Off", "lora_name": "a.pt", "strength_model": 0.7, "strength_clip": 0.7}, ""),
    ("NunchakuFluxLoraLoader", {"lora_name": "a.pt", "lora_strength": 0.7}, "<lora:a:0.7>"),
    ("LoraTagLoader", {"text": "<lora:a:0.7:0.5>"}, "<lora:a:0.5:0.7>")])
def test_loaders_of_other_packs_are_read(kind, inputs, tag):
    parsed = found({"3": {"model": ["L", 0]}, "L": (kind, {**inputs, "model": ["4", 0]})})
    assert parsed.fields == {**FIELDS, "prompt": f"a cat {tag}".strip()}


def test_a_lora_on_the_way_of_the_text_encoder_alone_changes_nothing_else():
    parsed = found({"6": {"clip": ["L", 1]}, "L": ("LoraLoader", {
        "lora_name": "a.pt", "strength_model": 1, "strength_clip": 0.5, "model": ["4", 0], "clip": ["4", 1]})})
    assert parsed.fields["prompt"] == "a cat <lora:a:0.5:0>"


# pipes

@pytest.mark.parametrize("nodes", [
    {"1": node("easy fullLoader", **LOADER), "2": node("easy preSampling", **SAMPLER, pipe=["1", 0]),
     "k": node("easy kSampler", image_output="Preview", pipe=["2", 0])},
    {"1": node("easy a1111Loader", **{**LOADER, "positive": ["p", 0], "resolution": "512 x 768",
                                      "empty_latent_width": 64}), "p": node("easy positive", positive="a cat"),
     "k": node("easy fullkSampler", **SAMPLER, pipe=["1", 0])},
    {"1": node("Eff. Loader SDXL", **{**{key: value for key, value in LOADER.items() if key != "ckpt_name"},
                                      "base_ckpt_name": "v1-5-pruned.safetensors"}),
     "k": node("KSampler SDXL (Eff.)", **SAMPLER, sdxl_tuple=["1", 0], latent_image=["1", 1])},
    {"1": node("Efficient Loader", **LOADER), "b": node("ToBasicPipe", model=["1", 0], clip=["1", 5], vae=["1", 4],
                                                        positive=["1", 1], negative=["1", 2]),
     "k": node("ImpactKSamplerBasicPipe", **SAMPLER, basic_pipe=["b", 0], latent_image=["1", 3])}])
def test_pipes_are_followed(nodes):
    parsed = read({**nodes, "s": SAVE})
    assert parsed.fields == {**FIELDS, "clip_skip": 2} and parsed.notes == ()


# switches

@pytest.mark.parametrize(("kind", "inputs"), [
    ("ImpactSwitch", {"select": 2, "input1": "A", "input2": "B"}), ("CR Conditioning Input Switch", {
        "Input": 2, "conditioning1": "A", "conditioning2": "B"}),
    ("Conditioning Input Switch", {"conditioning_a": "B", "conditioning_b": "A", "boolean": True}),
    ("easy anythingIndexSwitch", {"index": 1, "value0": "A", "value1": "B"}),
    ("LazySwitchKJ", {"switch": False, "on_true": "A", "on_false": "B"}),
    ("ImpactConditionalBranch", {"cond": ["t", 0], "tt_value": "B", "ff_value": "A"}),
    ("CR Img2Img Process Switch", {"Input": "img2img", "txt2img": "A", "img2img": "B"}),
    ("Any Switch (rgthree)", {"any_01": ["gone", 0], "any_02": "B", "any_03": "A"})])
def test_a_switch_is_resolved_before_it_is_followed(kind, inputs):
    nodes = {"A": ("CLIPTextEncode", {"text": "a paper boat", "clip": ["4", 1]}),
             "B": ("CLIPTextEncode", {"text": "a cat", "clip": ["4", 1]}), "t": ("PrimitiveBoolean", {"value": True})}
    links = {name: [value, 0] if value in ("A", "B") else value for name, value in inputs.items()}
    parsed = found({"3": {"positive": ["s", 0]}, "s": (kind, links), **nodes})
    assert parsed.fields == FIELDS and parsed.notes == ()
    assert parsed.unknown["CLIPTextEncode A"] == '{"text": "a paper boat"}'
    texts = {name: ("PrimitiveStringMultiline", {"value": each[1].get("text", True)}) for name, each in nodes.items()}
    parsed = found({"6": {"text": ["s", 0]}, "s": (kind, links), **texts})
    assert parsed.fields == FIELDS and '"a paper boat"' in parsed.unknown["PrimitiveStringMultiline A"]


def test_a_model_behind_a_switch_and_a_number_behind_one_are_found():
    parsed = found({"3": {"model": ["s", 0], "steps": ["n", 0]}, "other": ("CheckpointLoaderSimple", {
        "ckpt_name": "other.pt"}), "s": ("CR Model Input Switch", {"Input": 1, "model1": ["4", 0],
                                                                   "model2": ["other", 0]}),
        "n": ("easy ifElse", {"boolean": False, "on_true": 99, "on_false": 20})})
    assert parsed.fields == FIELDS and parsed.unknown["CheckpointLoaderSimple other"] == '{"ckpt_name": "other.pt"}'


def test_a_switch_that_leads_to_itself_and_one_by_a_calculation_are_no_obstacle():
    assert found({"3": {"positive": ["s", 0]}, "s": ("ImpactSwitch", {"select": 1, "input1": ["s", 0]})}).fields[
        "prompt"] == ""
    parsed = found({"3": {"steps": ["m", 0]}, "m": ("easy mathInt", {"a": 10, "b": 2, "operation": "multiply"})})
    assert "steps" not in parsed.fields and parsed.unknown["easy mathInt m"]
    assert any(note.startswith("Steps: the graph computes it") for note in parsed.notes)


# encoders

@pytest.mark.parametrize(("kind", "inputs", "prompt"), [
    ("ImpactWildcardEncode", {"wildcard_text": "a {cat|dog}", "populated_text": "a cat <lora:s/ink.pt:0.7:0.5>, BREAK",
                              "seed": 5}, "a cat <lora:ink:0.5:0.7>, BREAK"),
    ("CLIPTextEncode", {"text": "a [b:c:0.5], 1 AND 2, #3, (embedding:x/ink.pt:1.2), BREAK"},
     r"a \[b:c:0.5\], 1 \AND 2, \#3, (ink:1.2), \BREAK"),
    ("smZ CLIPTextEncode", {"text": "[b:c:0.5] AND d", "parser": "A1111"}, "[b:c:0.5] AND d"),
    ("smZ CLIPTextEncode", {"text": "[b:c:0.5] AND d", "parser": "comfy"}, r"\[b:c:0.5\] \AND d"),
    ("SDXLPromptStyler", {"text_positive": "a cat", "text_negative": "no", "style": "ink"}, "a cat")])
def test_every_encoders_text_means_the_same_here(kind, inputs, prompt):
    encoder = {"6": (kind, {**inputs, "clip": ["4", 1], "model": ["4", 0]})}
    if kind == "SDXLPromptStyler":
        encoder = {"6": {"text": ["p", 0]}, "7": {"text": ["p", 1]}, "p": (kind, inputs)}
    parsed = found(encoder)
    assert parsed.fields["prompt"] == prompt
    assert any(note.startswith("Prompt: square") for note in parsed.notes) == ("\\" in prompt)
    assert set(inputs) & {"wildcard_text", "style"} <= set(json.loads(
        parsed.unknown.get(f"{kind} 6") or parsed.unknown.get(f"{kind} p") or "{}"))


# sizes, autoencoders, second passes

@pytest.mark.parametrize("nodes", [
    {"5": ("EmptyLatentImage", {"width": ["r", 0], "height": ["r", 1]}), "r": ("CR SD1.5 Aspect Ratio", {
        "width": 64, "height": 64, "aspect_ratio": "2:3 portrait 512x768", "swap_dimensions": "Off"})},
    {"5": ("SDXL Empty Latent Image (rgthree)", {"dimensions": " 512 x 768  (portrait)", "clip_scale": 2})},
    {"5": ("EmptyLatentImagePresets", {"dimensions": "768 x 512", "invert": True})}])
def test_sizes_from_lists_are_read(nodes):
    assert found(nodes).fields == FIELDS


def test_another_autoencoder_is_taken_over():
    parsed = found({"8": {"vae": ["V", 0]}, "V": ("VAELoader", {"vae_name": "sub/soft.safetensors"})})
    assert parsed.fields == {**FIELDS, "vae": "soft"}


def test_a_network_that_enlarges_and_a_detailer_do_not_hide_the_second_pass():
    parsed = found({
        "8": {"samples": ["81", 0]}, "79": ("VAEDecode", {"samples": ["3", 0], "vae": ["4", 2]}),
        "u": ("UpscaleModelLoader", {"model_name": "4x-Big.pth"}),
        "U": ("ImageUpscaleWithModel", {"upscale_model": ["u", 0], "image": ["79", 0]}),
        "80": ("ImageScaleBy", {"upscale_method": "lanczos", "scale_by": 0.5, "image": ["U", 0]}),
        "82": ("VAEEncode", {"pixels": ["80", 0], "vae": ["4", 2]}), "81": second(latent_image=["82", 0]),
        "F": ("FaceDetailer", {**SAMPLER, "image": ["8", 0], "model": ["4", 0], "positive": ["6", 0],
                               "negative": ["7", 0]}), "9": {"images": ["F", 0]}})
    assert parsed.fields == {**FIELDS, "hires_scale": 2.0, "hires_upscaler": "4x-Big", "hires_steps": 14,
                             "hires_strength": 0.5, "strength": 0.5}
    assert "FaceDetailer" in parsed.notes[0] and '"steps": 20' in parsed.unknown["FaceDetailer F"]
    assert parsed.unknown["Seed of the second pass"] == "1"


def test_hires_fix_as_a_script_is_read():
    nodes = efficient()
    nodes["k"]["inputs"]["script"] = ["h", 0]
    nodes["h"] = node("HighRes-Fix Script", upscale_type="latent", latent_upscaler="nearest-exact", upscale_by=1.5,
                      hires_steps=14, denoise=0.5, use_same_seed=True)
    parsed = read(nodes)
    assert parsed.fields == {**FIELDS, "clip_skip": 2, "hires_scale": 1.5, "hires_steps": 14, "hires_strength": 0.5,
                             "strength": 0.5, "hires_upscaler": "Latent (nearest)"}
    assert parsed.unknown["HighRes-Fix Script h"] == '{"use_same_seed": true}'


def test_of_a_node_that_was_used_every_other_value_is_listed():
    parsed = found({"3": {"denoise": 1, "add_noise": "enable"}, "8": {"samples": ["81", 0]}, "80": ("LatentUpscaleBy", {
        "upscale_method": "bilinear", "scale_by": 1.5, "samples": ["3", 0], "crop": "center"}),
        "81": second(latent_image=["80", 0], force="x")})
    assert json.loads(parsed.unknown["KSampler 3"]) == {"add_noise": "enable"}
    assert json.loads(parsed.unknown["LatentUpscaleBy 80"]) == {"crop": "center"}
    assert json.loads(parsed.unknown["KSampler 81"]) == {"force": "x"}
